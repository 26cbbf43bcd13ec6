"""Oracle: TRL 0.11.4's PPOTrainer. Writes tests/fixtures/trl_ppo.json: its rewards, advantages, losses, gradients and
statistics on fixed inputs.

Everything computed here is computed by TRL's own functions, bound to a trainer that has a configuration and nothing
else: no model, no accelerator. Inputs are float32 numbers; the functions run in float64, so that a result is exact to
1e-15, and once more in float32, as TRL does, whose largest deviation is recorded beside each case.

usage: trl_ppo_fixtures.py (no options)"""
import os
import sys
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np
import torch
from trl import PPOConfig, PPOTrainer
from trl.core import (convert_to_scalar, entropy_from_logits, logprobs_from_logits, masked_mean, masked_var, masked_whiten, stack_dicts,
                      stats_to_np)
from trl.trainer import AdaptiveKLController, FixedKLController, RunningMoments

import fixture

VOCAB = 7

CONVENTION = (
    "Ragged: every list holds the response tokens of a sequence only, in order; a response of n tokens has n entries. "
    "In TRL's padded arrays [B, L-1] entry t of logprobs belongs to token t+1 (logits[:, :-1] against "
    "input_ids[:, 1:]), and values[t] and logits[t] stand at the position that predicts token t+1; the mask is 1 for "
    "t in [prompt_len - 1, prompt_len - 1 + n). The value after the last token counts as 0. rewards = "
    "-kl_coef * kl + (score at the last token). advantages are whitened over all tokens of the batch (mean of masked, "
    "unbiased variance, rsqrt(var + 1e-8)); returns = unwhitened advantage + value. A mini-batch's loss is "
    "pg_loss + vf_coef * vf_loss, each a mean over the tokens of that mini-batch; loss_value is vf_coef * vf_loss. "
    "Gradients are of that sum with respect to new_logprobs and new_values, and to new_logits through "
    "log softmax (the entropy is a metric only). Sequences were padded on the left, so that a response ends at the last "
    "column. Only whiten_rewards depends on that: TRL whitens masked-out entries too, (0 - mean) * scale + mean, and "
    "those after a response, had it been padded on the right, would enter its advantages. If the mean ratio exceeds ratio_threshold the loss is multiplied by "
    "0, the gradients are 0, and TRL still calls optimizer.step(). stats are the means over mini-batches of the train "
    "statistics, under 'ppo/', with the step's own; var_explained = 1 - mean error / mean var. null is NaN: with one "
    "token alone the unbiased variance is 0/0, std_scores of one score likewise."
)

BASE = dict(kl_penalty="kl", init_kl_coef=0.2, gamma=1.0, lam=0.95, cliprange=0.2, cliprange_value=0.2, vf_coef=0.1,
            ratio_threshold=10.0, whiten_rewards=False)

# name, response lengths, prompt lengths, mini-batches, spread of the new log-probabilities about the old ones, settings
CASES = [
    ("ragged", [1, 3, 7], [2, 5, 1], [[0, 1, 2]], 0.1, {}),
    ("minibatches", [4, 1, 3, 2], [1, 4, 2, 3], [[2, 0], [1, 3]], 0.3, {}),
    ("minibatches of one", [4, 2, 3], [1, 4, 2], [[1], [2], [0]], 0.3, {}),
    ("far outside the clip range", [5, 2, 3], [3, 1, 2], [[0, 1, 2]], 1.5, {}),
    ("ratio above the threshold", [3, 4], [2, 3], [[0], [1]], 1.5, dict(ratio_threshold=1.5)),
    ("whitened rewards", [1, 3, 7], [2, 5, 1], [[2, 1, 0]], 0.2, dict(whiten_rewards=True)),
    ("gamma and lambda", [6, 2], [1, 1], [[0, 1]], 0.2, dict(gamma=0.97, lam=0.8, cliprange=0.1, cliprange_value=0.05,
                                                         vf_coef=0.5, init_kl_coef=0.05)),
    ("kl abs", [2, 5], [4, 1], [[0, 1]], 0.2, dict(kl_penalty="abs")),
    ("kl mse", [2, 5], [4, 1], [[0, 1]], 0.2, dict(kl_penalty="mse")),
    ("kl full", [2, 5], [4, 1], [[0, 1]], 0.2, dict(kl_penalty="full")),
    ("unchanged policy", [3, 2], [2, 2], [[0, 1]], 0.0, {}),
    ("batch of one", [4], [3], [[0]], 0.2, {}),
    ("one token each", [1, 1, 1], [1, 3, 2], [[0, 1, 2]], 0.2, {}),
    ("one token alone", [1], [2], [[0]], 0.2, {}),
]


def trainer_with(config):
    """A PPOTrainer that was never constructed: its methods need its configuration and its KL controller."""
    trainer = PPOTrainer.__new__(PPOTrainer)
    trainer.config = PPOConfig(batch_size=1, mini_batch_size=1, **config)
    trainer.kl_ctl = AdaptiveKLController(trainer.config.init_kl_coef, trainer.config.target, trainer.config.horizon)
    return trainer


def inputs(seed, lengths, prompts, spread):
    """Arrays padded on the left as TRL has them, all float32: also the masked-out entries are random, for nothing may
    depend on them. The old and the new policy differ by `spread` in the logits."""
    torch.set_default_dtype(torch.float32)
    g = torch.Generator().manual_seed(seed)
    rows, cols = len(lengths), max(p + n for p, n in zip(prompts, lengths)) - 1
    randn = lambda *shape: torch.randn(*shape, generator=g)
    tokens = torch.randint(VOCAB, (rows, cols), generator=g)  # token that position t predicts
    old_logits, drift, ref_drift = (randn(rows, cols, VOCAB) for _ in range(3))
    new_logits = (old_logits + spread * drift).float()
    ref_logits = (old_logits + 0.3 * ref_drift).float()
    mask = torch.zeros(rows, cols, dtype=torch.long)
    for i, (p, n) in enumerate(zip(prompts, lengths)):
        mask[i, cols - n :] = 1
    values = randn(rows, cols)
    return dict(tokens=tokens, old_logits=old_logits, ref_logits=ref_logits, new_logits=new_logits, mask=mask,
                values=values, new_values=values + 0.3 * randn(rows, cols), scores=2 * randn(rows),
                logprobs=logprobs_from_logits(old_logits, tokens), ref_logprobs=logprobs_from_logits(ref_logits, tokens))


def run(config, data, lengths, prompts, minibatches, dtype):
    """One PPOTrainer.step without the model: rewards, advantages, the loss of each mini-batch, the statistics."""
    torch.set_default_dtype(dtype)  # the type of a quotient of two counts of tokens
    trainer, mask, tokens = trainer_with(config), data["mask"], data["tokens"]
    cast = lambda name: data[name].to(dtype)
    if config["kl_penalty"] == "full":
        active = logprobs_from_logits(cast("old_logits"), None, gather=False)
        reference = logprobs_from_logits(cast("ref_logits"), None, gather=False)
    else:
        active, reference = cast("logprobs"), cast("ref_logprobs")
    rewards, non_score, kls = trainer.compute_rewards(cast("scores"), active, reference, mask)
    values, advantages, returns = trainer.compute_advantages(cast("values"), rewards, mask)
    batches, all_stats = [], []
    for rows in minibatches:
        logits = data["new_logits"][rows].to(dtype).requires_grad_()
        logprobs = logprobs_from_logits(logits, tokens[rows])
        logprobs.retain_grad()
        vpreds = cast("new_values")[rows].requires_grad_()
        loss_p, loss_v, stats = trainer.loss(cast("logprobs")[rows], values[rows], logits, vpreds, logprobs,
                                             mask[rows], advantages[rows], returns[rows])
        (loss_p + loss_v).backward()
        all_stats.append(stats)
        batches.append(dict(rows=rows, loss_policy=loss_p, loss_value=loss_v,
                            stats={k: v for k, v in stats.items() if v.ndim == 0},
                            grad_new_logprobs=ragged(logprobs.grad, mask[rows]),
                            grad_new_values=ragged(vpreds.grad, mask[rows]),
                            grad_new_logits=ragged(logits.grad, mask[rows])))
    # PPOTrainer.step's own treatment of the statistics of its mini-batches.
    stats = trainer.record_step_stats(
        scores=cast("scores"), logprobs=cast("logprobs"), ref_logprobs=cast("ref_logprobs"), non_score_reward=non_score,
        train_stats=stack_dicts(all_stats), kl_coef=trainer.kl_ctl.value, masks=mask,
        queries=[torch.zeros(p) for p in prompts], responses=[torch.zeros(n) for n in lengths], kls=kls)
    stats = {k: v if k.endswith("_dist") else convert_to_scalar({k: v})[k] for k, v in stats_to_np(stats).items()
             if k not in ("objective/logprobs", "objective/ref_logprobs", "ppo/policy/advantages", "ppo/policy/ratio")}
    per_token = {k: ragged(v, mask) for k, v in dict(kls=kls, non_score_reward=non_score, rewards=rewards,
                                                     advantages=advantages, returns=returns).items()}
    return per_token, batches, stats


def padded_right(data, lengths, prompts):
    """The same inputs with each row rotated so that its padding comes last."""
    cols, out = data["mask"].shape[1], dict(data)
    for name, value in data.items():
        if value.ndim > 1:
            out[name] = torch.stack([torch.roll(row, p + n - 1 - cols, 0) for row, p, n in zip(value, prompts, lengths)])
    return out


def ragged(values, mask):
    return [values[i][mask[i].bool()].detach() for i in range(len(mask))]


def deviation(a, b):
    """Largest |a - b| / (1 + |b|) over two nested results of the same form."""
    if isinstance(a, dict):
        return max((deviation(a[k], b[k]) for k in a), default=0.0)
    if isinstance(a, (list, tuple)):
        return max((deviation(x, y) for x, y in zip(a, b)), default=0.0)
    x, y = (np.asarray(v.detach() if hasattr(v, "detach") else v, dtype=np.float64) for v in (a, b))
    d = np.abs(x - y) / (1 + np.abs(y))
    return float(np.nanmax(d)) if d.size and not np.isnan(d).all() else 0.0


def case(seed, name, lengths, prompts, minibatches, spread, settings):
    config = BASE | settings
    data = inputs(seed, lengths, prompts, spread)
    mask = data["mask"]
    wide = run(config, data, lengths, prompts, minibatches, torch.float64)
    deviation32 = deviation(run(config, data, lengths, prompts, minibatches, torch.float32), wide)
    right = run(config, padded_right(data, lengths, prompts), lengths, prompts, minibatches, torch.float64)
    assert (deviation(right, wide) < 1e-6) != config["whiten_rewards"], (name, deviation(right, wide))
    per_token, batches, stats = wide
    names = ["tokens", "logprobs", "ref_logprobs", "values", "new_values", "new_logits"]
    if config["kl_penalty"] == "full":
        names += ["old_logits", "ref_logits"]
    return dict(name=name, config=config, prompt_lens=prompts, response_lens=lengths, scores=data["scores"],
                inputs={k: ragged(data[k], mask) for k in names}, per_token=per_token, minibatches=batches, stats=stats,
                float32_deviation=deviation32)


def controllers():
    """The KL coefficient after each update, for sequences of measured KL."""
    out = []
    for init, target, horizon, n, kls in [
        (0.2, 6.0, 10000.0, 128, [0.0, 1.0, 5.0, 6.0, 7.1, 6.9, 30.0, -2.0, 4.85, 7.3]),
        (0.2, 6.0, 10000.0, 1, [0.0, 12.0, 6.5]),
        (0.01, 0.5, 100.0, 8, [0.2, 0.49, 0.55, 0.7, 3.0, 0.0, 0.5]),
    ]:
        adaptive, fixed, values = AdaptiveKLController(init, target, horizon), FixedKLController(init), []
        for kl in kls:
            adaptive.update(kl, n)
            fixed.update(kl, n)
            values.append(float(adaptive.value))
        assert fixed.value == init
        out.append(dict(init_kl_coef=init, target=target, horizon=horizon, n_steps=n, kl=kls, kl_coef=values))
    return out


def functions():
    """The masked moments, whitening and entropy of trl.core."""
    torch.set_default_dtype(torch.float64)
    g = torch.Generator().manual_seed(1000)
    out = []
    for n, width in [(2, 3), (5, 4), (40, 16)]:
        x = (3 * torch.randn(n, generator=g) + 10).float()
        logits = (4 * torch.randn(n, width, generator=g)).float()
        x64, mask, z64 = x.double(), torch.ones(n, dtype=torch.long), logits.double()
        out.append(dict(x=x, mean=masked_mean(x64, mask), var=masked_var(x64, mask), whiten=masked_whiten(x64, mask),
                        whiten_keep_mean=masked_whiten(x64, mask, shift_mean=False), logits=logits,
                        entropy=entropy_from_logits(z64)))
    return out


def running_moments():
    """RunningMoments, which use_score_scaling divides by: after each batch its mean and std (unbiased) and the batch's
    own mean and std."""

    class OneProcess:  # the accelerator of a single process
        use_distributed = False

    torch.set_default_dtype(torch.float32)
    moments, g, out = RunningMoments(OneProcess()), torch.Generator().manual_seed(2000), []
    for n in [4, 1, 7, 2]:
        xs = 1.5 * torch.randn(n, generator=g) + 2
        mean, std = moments.update(xs)
        out.append(dict(scores=xs, mean=float(moments.mean), std=float(moments.std), batch_mean=float(mean),
                        batch_std=float(std), count=float(moments.count)))
    return out


def early_stopping():
    """Whether _early_stop says stop (policykl > 1.5 target_kl), around its limit."""
    trainer, out = trainer_with(dict(early_stopping=True, target_kl=0.1)), []
    trainer.is_distributed = False
    trainer.optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    for kl in [0.0, 0.1, 0.149, 0.15, 0.1501, 1.0, -1.0]:
        out.append(dict(policykl=kl, stop=bool(trainer._early_stop(kl))))
    return dict(target_kl=0.1, decisions=out)


def check(cases):
    """Each case must contain what its name promises."""
    found = {c["name"]: c for c in cases}
    skipped = [float(b["loss_policy"]) == 0 for b in found["ratio above the threshold"]["minibatches"]]
    assert sorted(skipped) == [False, True], skipped
    assert found["far outside the clip range"]["minibatches"][0]["stats"]["policy/clipfrac"] > 0.25
    assert 0 < found["far outside the clip range"]["stats"]["ppo/val/clipfrac"] < 1
    assert np.isnan(found["one token alone"]["per_token"]["advantages"][0][0])


def main():
    torch.set_num_threads(1)
    cases = [case(seed, *row) for seed, row in enumerate(CASES, start=1)]
    check(cases)
    fixture.write("trl_ppo.json", __file__, ["trl", "torch", "numpy"],
                  dict(convention=CONVENTION, vocab=VOCAB, cases=cases, controllers=controllers(),
                       functions=functions(), running_moments=running_moments(), early_stopping=early_stopping()))
    for c in cases:
        print(f"  {c['name']}: TRL in float32 deviates from float64 by {c['float32_deviation']:.1e}")


if __name__ == "__main__":
    main()
