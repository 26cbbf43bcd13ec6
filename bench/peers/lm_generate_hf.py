"""transformers' generate: B sequences of P prompt tokens, N new ones, sampled.

usage: lm_generate_hf.py HF_DIR [dtype] [B=8] [P=32] [N=64]"""
import json
import resource
import sys
import time
from statistics import median

import torch
from lm_common import arguments, load

path, dtype = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "float32")
B, P, N = arguments(sys.argv[3:], 8, 32, 64)
model, tokenizer = load(path, dtype)
model.eval()
torch.manual_seed(0)
x = torch.randint(100, 40000, (B, P))


def generate(n):
    start = time.perf_counter()
    with torch.no_grad():
        model.generate(x, attention_mask=torch.ones_like(x), do_sample=True, top_k=0, temperature=1.0, min_new_tokens=n,
                       max_new_tokens=n, pad_token_id=tokenizer.pad_token_id)
    return time.perf_counter() - start


generate(4)
seconds = median(generate(N) for _ in range(3))
print(json.dumps({"what": "generate", "dtype": dtype, "B": B, "P": P, "N": N, "new_tokens_per_s": B * N / seconds,
                  "wall_s": seconds, "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
