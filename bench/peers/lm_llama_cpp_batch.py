"""llama.cpp, decoding B sequences together through its C API (the bindings of llama-cpp-python).

usage: lm_llama_cpp_batch.py GGUF [B=8] [P=32] [N=64]"""
import ctypes
import json
import os
import resource
import sys
import time

import llama_cpp as L

path = sys.argv[1]
B, P, N = (int(sys.argv[i]) if len(sys.argv) > i else v for i, v in ((2, 8), (3, 32), (4, 64)))
silent = L.llama_log_callback(lambda *a: None)
L.llama_log_set(silent, ctypes.c_void_p(0))
L.llama_backend_init()
model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
settings = L.llama_context_default_params()
settings.n_ctx, settings.n_seq_max = B * (P + N + 8) * 2, B
settings.n_batch = settings.n_ubatch = 512
settings.n_threads = settings.n_threads_batch = int(os.environ.get("THREADS", "2"))
context = L.llama_init_from_model(model, settings)
batch = L.llama_batch_init(2048, 0, B)


def run(items):
    """items: (token, position, sequence, whether its logits are wanted)"""
    batch.n_tokens = len(items)
    for i, (token, position, sequence, wanted) in enumerate(items):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
        batch.seq_id[i][0] = sequence
    assert L.llama_decode(context, batch) == 0
    L.llama_synchronize(context)


def token(i):
    return 100 + (i * 7919) % 40000


prefill = 0.0
for s in range(B):
    start = time.perf_counter()
    run([(token(i), i, s, i == P - 1) for i in range(P)])
    prefill += time.perf_counter() - start
start = time.perf_counter()
for n in range(N):
    run([(token(n + s), P + n, s, 1) for s in range(B)])
decode = time.perf_counter() - start
print(json.dumps({"what": "llama.cpp decode", "gguf": os.path.basename(path), "B": B, "prefill_tokens_per_s": B * P / prefill,
                  "new_tokens_per_s": B * N / decode,
                  "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
