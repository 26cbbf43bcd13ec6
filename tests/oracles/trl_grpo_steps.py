"""Oracle: TRL 1.16's GRPOTrainer, whole, on models/tiny.gguf in float32. Writes tests/fixtures/trl_grpo_steps.json: for several
settings three generations of ragged completions and the updates from them, with the numbers that TRL logs, and samples of the
weights at the end.

usage: trl_grpo_steps.py (no options)"""
import os
import sys
import tempfile
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "TRL_EXPERIMENTAL_SILENCE": "1"}
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np
import tokenizers
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

import fixture

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models")
GENERATIONS, PROMPTS, GROUP, VOCAB, EOS, LONGEST = 3, 2, 3, 512, 2, 9

CONVENTION = (
    "Completions of a prompt stand one behind the other; each ends with the end of text (id 2) or is cut off. They are given "
    "to the trainer (rollout_func) with their rewards; each generation is learned from num_iterations times, in one "
    "batch. The reference is the model at the start. AdamW: beta 0.9, 0.999, eps 1e-8, no weight decay; the learning rate "
    "falls linearly to 0 at max_steps updates. updates: what TRL logs at each, and loss, the exact one, which its log rounds."
)

# name, settings beside TRL's defaults
RUNS = [
    ("dapo", dict(beta=0.04)),
    ("grpo, two iterations", dict(loss_type="grpo", beta=0.1, num_iterations=2, epsilon=0.1, epsilon_high=0.28)),
    ("dr_grpo, no scale", dict(loss_type="dr_grpo", scale_rewards="none", max_grad_norm=0.1)),
    ("bnpo, batch scale", dict(loss_type="bnpo", scale_rewards="batch", num_iterations=3, beta=0.04,
                               use_bias_correction_kl=False)),
    ("temperature", dict(temperature=0.7, beta=0.04, num_iterations=2)),
]
KEPT = ("loss_type", "scale_rewards", "beta", "epsilon", "epsilon_high", "num_iterations", "num_generations", "learning_rate",
        "max_steps", "max_grad_norm", "temperature", "max_completion_length", "use_bias_correction_kl")


def words():
    """A tokenizer whose words are numbers: prompts and completions are lists of them."""
    vocab = {str(i): i for i in range(VOCAB)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="0"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token=str(EOS))


def generations():
    """Prompts, completions and rewards, the same for every run."""
    random, out = np.random.RandomState(5), []
    lengths = [[4, 9, 1, 7, 2, 5], [9, 3, 3, 6, 1, 9], [2, 8, 5, 5, 9, 4]]
    for row in lengths:
        completions = [random.randint(3, VOCAB, n).tolist() for n in row]
        for c in completions:
            if len(c) < LONGEST:
                c[-1] = EOS
        out.append(dict(prompts=[random.randint(3, VOCAB, n).tolist() for n in (3, 6)], completions=completions,
                        rewards=np.round(random.randn(PROMPTS * GROUP), 2).tolist()))
    out[2]["rewards"][:GROUP] = [0.5] * GROUP  # a group that teaches nothing
    return out


class Trainer(GRPOTrainer):
    """Keeps the loss of each update, which the log rounds."""

    def compute_loss(self, *arguments, **more):
        loss = super().compute_loss(*arguments, **more)
        self.losses.append(float(loss))
        return loss


def save_hf(folder):
    """The GGUF in float32 as an HF folder: from there the trainer loads its reference, too."""
    model = AutoModelForCausalLM.from_pretrained(MODELS, gguf_file="tiny.gguf", dtype=torch.float32)
    model.hf_quantizer = None  # it is plain float32 now; without this transformers refuses to save
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)


def run(name, settings, hf):
    model = AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32)
    batches, turn = generations(), [0]

    def rollout(prompts, trainer):
        batch = batches[turn[0]]
        turn[0] += 1
        assert len(prompts) == PROMPTS * GROUP
        return dict(prompt_ids=[batch["prompts"][i // GROUP] for i in range(len(prompts))],
                    completion_ids=batch["completions"], logprobs=None)

    iterations = settings.get("num_iterations", 1)
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(**(dict(output_dir=folder, per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP,
                                    max_completion_length=LONGEST, max_steps=GENERATIONS * iterations, learning_rate=1e-3,
                                    use_cpu=True, bf16=False, report_to=[], logging_steps=1, save_strategy="no",
                                    disable_tqdm=True, gradient_checkpointing=False) | settings))
        trainer = Trainer(model=model, reward_funcs=lambda completions, **_: batches[turn[0] - 1]["rewards"], args=config,
                          train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(64)]}),
                          processing_class=words(), rollout_func=rollout)
        trainer.losses = []
        trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    assert len(log) == GENERATIONS * iterations == len(trainer.losses) and turn[0] == GENERATIONS
    kept = ("grad_norm", "learning_rate", "kl", "entropy", "reward", "reward_std", "frac_reward_zero_std", "num_tokens")
    updates = [dict(loss=loss, **{k: v for k, v in row.items() if k in kept or k.startswith(("completions/", "clip_ratio/"))})
               for loss, row in zip(trainer.losses, log)]
    print(f"  {name}: {len(updates)} updates, last loss {trainer.losses[-1]:.5f}, keys {sorted(updates[-1])}")
    return dict(name=name, config={k: getattr(config, k) for k in KEPT}, updates=updates,
                final={k: fixture.sample_of(k, v.detach().numpy(), 32) for k, v in model.named_parameters()})


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as hf:
        save_hf(hf)
        fixture.write("trl_grpo_steps.json", __file__, ["trl", "transformers", "torch", "accelerate", "numpy"], dict(
            convention=CONVENTION, model="models/tiny.gguf", generations=generations(),
            runs=[run(name, settings, hf) for name, settings in RUNS]))


if __name__ == "__main__":
    main()
