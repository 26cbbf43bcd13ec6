"""transformers and PyTorch: forward, backward and AdamW on B sequences of T tokens.

usage: lm_train_hf.py HF_DIR [dtype] [B=4] [T=128] [steps=4]"""
import json
import resource
import sys
import time
from statistics import median

import torch
from lm_common import arguments, load

path, dtype = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "float32")
B, T, S = arguments(sys.argv[3:], 4, 128, 4)
model, _ = load(path)
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
x = torch.randint(100, 40000, (B, T))


def step():
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        loss = model(input_ids=x, labels=x).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


step()
times = []
for _ in range(S):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
print(json.dumps({"what": "train", "dtype": dtype, "B": B, "T": T, "tokens_per_s": B * T / median(times),
                  "step_s": median(times), "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
