"""Oracle: TRL 1.16's GRPOTrainer. Writes tests/fixtures/trl_grpo.json: its advantages, and its losses, gradients and statistics
on fixed log-probabilities.

Everything is computed by TRL's own code: the loss by GRPOTrainer._compute_loss, bound to a trainer that has settings and a
model that only hands out log-probabilities; the advantages by those lines of _generate_and_score_completions that make them,
cut out of its source. In float64 on float32 inputs.

usage: trl_grpo_fixtures.py (no options)"""
import collections
import inspect
import os
import sys
import textwrap
import types
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import torch
import trl.trainer.grpo_trainer as source
from trl import GRPOTrainer

import fixture

CONVENTION = (
    "Ragged: lists by sequence hold completion tokens only. advantages: rewards [groups * size], the completions of a prompt "
    "one behind the other; frac_reward_zero_std is the mean of TRL's is_std_zero. losses: old_logprobs, ref_logprobs, "
    "logprobs, entropies of each token, an advantage a sequence. local: sequences of a local batch (TRL's "
    "per_device_train_batch_size); the loss is the sum over local batches of what _compute_loss gives, with as many "
    "accumulation steps; grad: of that sum with respect to logprobs. statistics: of a case that is one local batch. "
    "epsilon_high null: as epsilon. In TRL's padded arrays completions are on the right of the prompts, padded behind."
)

LENGTHS = [5, 1, 3, 8, 2, 4]
# name, loss type, local batch, spread of the log-probabilities about the old ones, settings
LOSSES = [(f"{kind} {name}", kind, local, spread, settings)
          for kind in ("dapo", "grpo", "bnpo", "dr_grpo")
          for name, local, spread, settings in [
              ("first update", 6, 0.0, {}),
              ("clipped", 6, 0.4, {}),
              ("kl", 6, 0.4, dict(beta=0.04)),
              ("kl at the first update", 6, 0.0, dict(beta=0.04)),
              ("kl without correction", 6, 0.4, dict(beta=0.04, use_bias_correction_kl=False)),
              ("epsilon_high", 6, 0.4, dict(beta=0.04, epsilon_high=0.28)),
              ("local batches of two", 2, 0.3, dict(beta=0.1, epsilon=0.1)),
          ]]


def trainer_with(kind, settings, parts):
    """A GRPOTrainer that was never constructed, with what _compute_loss reads."""
    t = GRPOTrainer.__new__(GRPOTrainer)
    t.loss_type, t.beta = kind, settings.get("beta", 0.0)
    t.epsilon_low = settings.get("epsilon", 0.2)
    t.epsilon_high = settings.get("epsilon_high", t.epsilon_low)
    t.args = types.SimpleNamespace(delta=None, use_bias_correction_kl=settings.get("use_bias_correction_kl", True),
                                   steps_per_generation=parts)
    t.current_gradient_accumulation_steps, t.max_completion_length = parts, 10
    t.importance_sampling_level, t.top_entropy_quantile, t.off_policy_mask_threshold = "token", 1.0, None
    t.aux_loss_enabled = t.use_vllm = t.vllm_importance_sampling_correction = t._entropy_bonus_enabled = False
    t.model = types.SimpleNamespace(training=True)
    t.accelerator = types.SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    t._metrics = {"train": collections.defaultdict(list)}
    return t


def padded(rows, width):
    return torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])


def loss_case(index, name, kind, local, spread, settings):
    g = torch.Generator().manual_seed(index)
    randn = lambda n: torch.randn(n, generator=g)
    old = [-randn(n).abs() - 0.1 for n in LENGTHS]
    new = [(row + spread * randn(len(row))).float() for row in old]
    ref = [(row + 0.3 * randn(len(row))).float() for row in old]
    entropies = [randn(n).abs() for n in LENGTHS]
    advantages = randn(len(LENGTHS))
    logprobs = [row.double().requires_grad_() for row in new]
    parts = len(LENGTHS) // local
    trainer = trainer_with(kind, settings, parts)
    total = torch.zeros((), dtype=torch.float64)
    for from_ in range(0, len(LENGTHS), local):
        rows = range(from_, from_ + local)
        width = max(LENGTHS[i] for i in rows)
        pick = lambda lists: padded([lists[i].double() for i in rows], width)
        mask = padded([torch.ones(LENGTHS[i], dtype=torch.long) for i in rows], width)
        said = (padded([logprobs[i] for i in rows], width), pick(entropies), None)
        trainer._get_per_token_logps_and_entropies = lambda *_, **__: said
        one = torch.ones(local, 1, dtype=torch.long)
        inputs = dict(prompt_ids=one, prompt_mask=one, completion_ids=mask, completion_mask=mask,
                      advantages=advantages[list(rows)].double(), old_per_token_logps=pick(old), ref_per_token_logps=pick(ref),
                      num_items_in_batch=torch.tensor(float(sum(LENGTHS)), dtype=torch.float64))
        total = total + trainer._compute_loss(None, inputs)
    total.backward()
    statistics = {k: v[0] for k, v in trainer._metrics["train"].items()} if parts == 1 else {}
    config = dict(loss_type=kind, local=local, beta=trainer.beta, epsilon=trainer.epsilon_low,
                  epsilon_high=settings.get("epsilon_high"), use_bias_correction_kl=trainer.args.use_bias_correction_kl,
                  max_completion_length=trainer.max_completion_length)
    return dict(name=name, config=config, lengths=LENGTHS, old_logprobs=old, logprobs=new, ref_logprobs=ref,
                entropies=entropies, advantages=advantages, loss=float(total), grad=[row.grad for row in logprobs],
                statistics=statistics)


def advantage_lines():
    """TRL's own lines, from where rewards become advantages to where they are sliced, as a function."""
    text = inspect.getsource(source.GRPOTrainer._generate_and_score_completions)
    start = text.index("        unscorable_mask = torch.isnan(rewards_per_func)")
    end = text.index("        # Slice to keep only the local part of the data")
    return compile(textwrap.dedent(text[start:end]), "grpo_trainer.py", "exec")


def advantage_case(code, name, rewards, size, scale):
    trainer = types.SimpleNamespace(multi_objective_aggregation="sum_then_normalize", scale_rewards=scale,
                                    reward_weights=torch.ones(1, dtype=torch.float64))
    space = dict(vars(source), self=trainer, rewards_per_func=torch.tensor(rewards, dtype=torch.float64)[:, None],
                 num_generations=size, device="cpu")
    exec(code, space)
    return dict(name=name, size=size, scale_rewards=scale, rewards=rewards, advantages=space["advantages"],
                frac_reward_zero_std=float(space["is_std_zero"].float().mean()))


def main():
    torch.set_num_threads(1)
    code = advantage_lines()
    batches = [("two groups", [0.0, 1.0, 0.5, -2.0, 3.0, 3.5, 2.5, 1.0], 4), ("one flat", [1.0, 1.0, 1.0, 0.0, 0.25, 1.0], 3),
               ("all flat", [0.5, 0.5, 0.25, 0.25], 2), ("pairs", [1.0, 0.0, 0.0, 1.0, 2.0, 2.0], 2)]
    fixture.write("trl_grpo.json", __file__, ["trl", "torch"], dict(
        convention=CONVENTION,
        advantages=[advantage_case(code, f"{name}, {scale}", rewards, size, scale)
                    for name, rewards, size in batches for scale in ("group", "batch", "none")],
        losses=[loss_case(i, *case) for i, case in enumerate(LOSSES)]))


if __name__ == "__main__":
    main()
