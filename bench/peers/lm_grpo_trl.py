"""TRL 1.16's GRPOTrainer on SmolLM2-135M: whole optimizer steps, from one call of the reward function to the next.
GC=1 recomputes activations.

usage: lm_grpo_trl.py HF_DIR [dtype] [group=8] [prompts=1] [new_tokens=64] [steps=3]"""
import json
import os
import resource
import sys
import tempfile
import time
from statistics import median

from lm_common import arguments, load
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

path, dtype = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "bfloat16")
G, Q, N, S = arguments(sys.argv[3:], 8, 1, 64, 3)
model, tokenizer = load(path)
prompt = "This is a test. Generate a sentence that includes the word:"
times = []


def reward(completions, **_):
    times.append(time.perf_counter())
    return [float("reward" in text.lower()) + 0.01 * (i % 3) for i, text in enumerate(completions)]


with tempfile.TemporaryDirectory() as folder:
    config = GRPOConfig(output_dir=folder, per_device_train_batch_size=G * Q, num_generations=G, max_completion_length=N,
                        max_steps=S + 1, learning_rate=1e-5, beta=0.01, temperature=1.0, bf16=dtype == "bfloat16",
                        use_cpu=True, report_to=[], logging_steps=1, save_strategy="no",
                        gradient_checkpointing=os.environ.get("GC", "0") == "1", generation_kwargs={"min_new_tokens": N},
                        disable_tqdm=True)
    GRPOTrainer(model=model, reward_funcs=reward, args=config, train_dataset=Dataset.from_dict({"prompt": [prompt] * 64}),
                processing_class=tokenizer).train()
steps = [b - a for a, b in zip(times, times[1:])]
print(json.dumps({"what": "TRL GRPO step", "dtype": dtype, "group": G, "prompts": Q, "new_tokens": N, "step_s": median(steps),
                  "all": steps, "completion_tokens_per_s": G * Q * N / median(steps),
                  "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
