"""The third program of "Policy Gradient 101" as its API really was: TRL 0.11.4, the last release whose PPOTrainer has generate
and step; one prompt, 4 PPO epochs, GPT-2 124M (the true architecture, random weights). Needs trl==0.11.4,
transformers==4.45.2, numpy below 2.3.

usage: lm_ppo_trl_old.py TOKENIZER_DIR [batch=1] [new_tokens=32] [steps=5] [MODEL_DIR]
MODEL_DIR: where the model is written as an HF folder; with 0 steps that is all"""
import json
import os
import resource
import sys
import tempfile
import time
import warnings
from statistics import median

warnings.filterwarnings("ignore")
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer

torch.set_num_threads(int(os.environ.get("THREADS", "2")))
folder = sys.argv[1]
B, N, S = (int(sys.argv[i]) if len(sys.argv) > i else v for i, v in ((2, 1), (3, 32), (4, 5)))
out = sys.argv[5] if len(sys.argv) > 5 else tempfile.mkdtemp()
tokenizer = GPT2Tokenizer(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"))
tokenizer.pad_token = tokenizer.eos_token
torch.manual_seed(0)
base = GPT2LMHeadModel(GPT2Config())
base.generation_config.pad_token_id = tokenizer.eos_token_id
base.save_pretrained(out)
tokenizer.save_pretrained(out)
if S == 0:
    sys.exit(0)
model, reference = (AutoModelForCausalLMWithValueHead.from_pretrained(out) for _ in range(2))
config = PPOConfig(learning_rate=1e-5, batch_size=B, mini_batch_size=B, ppo_epochs=4, init_kl_coef=0.01)
trainer = PPOTrainer(config, model, reference, tokenizer)
query = tokenizer("This is a test. Generate a sentence that includes the word:", return_tensors="pt").input_ids[0]
times, generation = [], []
for _ in range(S):
    start = time.perf_counter()
    queries = [query] * B
    responses = trainer.generate(queries, return_prompt=False, do_sample=True, top_k=0, top_p=1.0, min_new_tokens=N,
                                 max_new_tokens=N, pad_token_id=tokenizer.eos_token_id)
    generation.append(time.perf_counter() - start)
    rewards = [torch.tensor(float("reward" in tokenizer.decode(response).lower())) for response in responses]
    trainer.step(queries, list(responses), rewards)
    times.append(time.perf_counter() - start)
print(json.dumps({"what": "TRL 0.11.4 PPO step, GPT-2 124M fp32", "batch": B, "new_tokens": N, "step_s": median(times),
                  "generate_s": median(generation), "all": times, "tokens_per_s": B * N / median(times),
                  "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
