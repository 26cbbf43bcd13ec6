"""Oracle: llama.cpp (llama-cpp-python), on a GGUF file that logpi wrote.

    llama_cpp_logits.py FILE.gguf hf_reference.safetensors [TOLERANCE]

Compares the logits of every position of token_ids with those of the reference (hf_models.py), relative to the largest;
default 2e-4. Exit code 1 if they differ, 77 if llama-cpp-python is not there: it takes minutes to compile, so that it is
not among the requirements."""
import sys

import numpy as np
from safetensors.numpy import load_file

try:
    import llama_cpp
except ImportError:
    print("llama_cpp_logits: llama-cpp-python is not installed")
    sys.exit(77)

path, reference, allowed = sys.argv[1], load_file(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 2e-4
ids = reference["token_ids"].tolist()
model = llama_cpp.Llama(path, n_ctx=max(64, len(ids)), n_threads=2, logits_all=True, verbose=False, flash_attn=False,
                        type_k=0, type_v=0)
model.eval(ids)
got = np.array(model.scores[:len(ids)], dtype=np.float64)
want = reference["logits"].astype(np.float64)
worst = np.abs(got - want).max() / np.abs(want).max()
print(f"{path}: llama.cpp's logits differ by {worst:.2e} of the largest (allowed {allowed:.0e})")
sys.exit(int(not worst <= allowed))
