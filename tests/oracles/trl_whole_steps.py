"""Oracle: TRL 0.11.4's PPOTrainer.step, whole, on models/tiny.gguf with a value head. Writes
tests/fixtures/trl_steps.json: for several settings three steps on ragged batches, with every number that a step
makes, and samples of the weights at the end.

usage: trl_whole_steps.py [--model GGUF] [--out NAME]"""
import argparse
import os
import sys
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gguf
import numpy as np
import tokenizers
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer

import fixture

TINY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models", "tiny.gguf")
STEPS, BATCH = 3, 4

CONVENTION = (
    "Lists by sequence hold response tokens only, in the batch's order. Model: the weights of the GGUF file, float32, "
    "and a value head Linear(hidden, 1) with bias on the state after the final norm (v_head.weight, v_head.bias: its "
    "start). The reference is the model at the start. Every forward pass runs in eval mode: train() is only set "
    "between forward and backward, so the head's dropout never acts. TRL gives no position ids: they count from 0 at "
    "the first column of the padded array. Padding is masked, and on the right, so that each sequence is as if alone; "
    "with whiten_rewards it is on the left: TRL whitens padding too, and what stands after a response would enter its "
    "advantages. Each step: log-probabilities, values "
    "and reference log-probabilities of the batch; rewards and advantages once; then ppo_epochs passes over "
    "permutations[epoch] cut into mini-batches of mini_batch_size, one Adam step after every "
    "gradient_accumulation_steps mini-batches, whose losses are each divided by that number. Adam: "
    "beta 0.9, 0.999, eps 1e-8, no weight decay, constant learning rate; moments persist between steps. No gradient "
    "clipping unless max_grad_norm is set, and then TRL clips in the first Adam step only (its list of parameters is a "
    "generator, empty after one use; norm of all parameters, g *= min(1, max / (norm + 1e-6))). After a step the "
    "KL coefficient is updated with objective/kl and n = batch_size (fixed if adap_kl_ctrl is false). "
    "train: the statistics of each mini-batch, in order. adam_grad_norms: the norm of the whole gradient that each Adam "
    "step was given. stats: what step() returned, without times, arrays "
    "of padded shape and NaN scalars kept as null. Tied embeddings appear once, as model.embed_tokens.weight."
)

# name, settings beside TRL's defaults
RUNS = [
    ("defaults", dict()),
    ("fast", dict(learning_rate=1e-3)),
    ("accumulation", dict(learning_rate=1e-3, ppo_epochs=2, mini_batch_size=1, gradient_accumulation_steps=2,
                          whiten_rewards=True, adap_kl_ctrl=False, gamma=0.98, lam=0.9, vf_coef=0.5)),
    ("full kl", dict(learning_rate=5e-4, ppo_epochs=2, kl_penalty="full", target=0.05, horizon=50.0, init_kl_coef=0.5)),
    ("clipped norm", dict(learning_rate=1e-3, ppo_epochs=3, max_grad_norm=0.5)),
]
KEPT = ("learning_rate", "ppo_epochs", "batch_size", "mini_batch_size", "gradient_accumulation_steps", "init_kl_coef",
        "adap_kl_ctrl", "target", "horizon", "kl_penalty", "gamma", "lam", "cliprange", "cliprange_value", "vf_coef",
        "ratio_threshold", "whiten_rewards", "max_grad_norm", "early_stopping", "target_kl")


def load(path, attention="sdpa"):
    """The GGUF's Llama in float32; transformers 4.45 does not notice tied embeddings there."""
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, torch_dtype=torch.float32,
                                                 attn_implementation=attention)
    if "output.weight" not in {t.name for t in gguf.GGUFReader(path).tensors}:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    return model


def with_value_head(base):
    """Weights of the head from a fixed generator, of the size of PyTorch's own initialisation."""
    model = AutoModelForCausalLMWithValueHead.from_pretrained(base)
    head, random = model.v_head.summary, np.random.RandomState(7)
    bound = head.in_features**-0.5
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(random.uniform(-bound, bound, (1, head.in_features)).astype(np.float32)))
        head.bias.copy_(torch.from_numpy(random.uniform(-bound, bound, 1).astype(np.float32)))
    assert model.v_head.dropout.p == 0.1  # TRL's default: harmless, as the convention says and noise() shows
    return model


def padding_tokenizer(vocab, side):
    """Enough of a tokenizer for the trainer to pad with: the pad id is 0, and masked."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", padding_side=side)


def batches(vocab):
    """Queries, responses and scores of every step."""
    random, out = np.random.RandomState(11), []
    for lengths in [[(3, 5), (6, 1), (2, 8), (4, 3)], [(1, 6), (7, 2), (3, 3), (5, 9)], [(2, 4), (2, 4), (9, 1), (1, 12)]]:
        out.append(dict(queries=[random.randint(0, vocab, q).tolist() for q, _ in lengths],
                        responses=[random.randint(0, vocab, r).tolist() for _, r in lengths],
                        scores=np.round(random.randn(BATCH), 3).astype(np.float32)))
    return out


class Recorder:
    """Stands between a trainer and its methods, and keeps what passes."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.rewards, self.advantages, self.minibatch = (
            trainer.compute_rewards, trainer.compute_advantages, trainer.train_minibatch)
        trainer.compute_rewards, trainer.compute_advantages, trainer.train_minibatch = (
            self.on_rewards, self.on_advantages, self.on_minibatch)
        self.permutations, self.train, self.grad_norms, self.arrays = [], [], [], {}
        self.hook = trainer.optimizer.optimizer.register_step_pre_hook(self.on_adam)

    def on_rewards(self, scores, logprobs, ref_logprobs, masks):
        rewards, non_score, kls = self.rewards(scores, logprobs, ref_logprobs, masks)
        self.arrays |= dict(kls=kls, non_score_reward=non_score, rewards=rewards)
        return rewards, non_score, kls

    def on_advantages(self, values, rewards, masks):
        values, advantages, returns = self.advantages(values, rewards, masks)
        self.arrays |= dict(values=values, advantages=advantages, returns=returns)
        self.masks = masks
        return values, advantages, returns

    def on_minibatch(self, *arguments):
        stats = self.minibatch(*arguments)
        self.train.append({k: v for k, v in stats.items() if v.ndim == 0})
        return stats

    def on_adam(self, optimizer, *_):
        grads = [p.grad.double() for p in optimizer.param_groups[0]["params"] if p.grad is not None]
        self.grad_norms.append(float(torch.sqrt(sum((g * g).sum() for g in grads))))

    def permutation(self, original):
        def wrapped(n):
            order = original(n)
            self.permutations.append(order.tolist())
            return order

        return wrapped


def ragged(values, masks):
    values = torch.as_tensor(values)
    return [values[i][masks[i].bool()].detach() for i in range(len(masks))]


def single(key, value):
    """A statistic as the float32 that it was; what is float64 in TRL stays."""
    return np.float32(value) if isinstance(value, float) and key not in ("objective/kl_coef", "ppo/learning_rate") else value


def steps_of(path, settings, side, attention="sdpa", seed=0):
    """STEPS steps; returns the configuration, what each step made, and the trained model."""
    model = with_value_head(load(path, attention))
    start = {k: v.clone() for k, v in named_weights(model).items()}
    config = PPOConfig(**(dict(batch_size=BATCH, mini_batch_size=2) | settings), seed=seed)
    vocab = model.pretrained_model.config.vocab_size
    trainer = PPOTrainer(config, model, None, padding_tokenizer(vocab, side))
    check_optimizer(trainer, config)
    np.random.seed(100)
    out = []
    for batch in batches(vocab):
        record, original = Recorder(trainer), np.random.permutation
        tensors = lambda rows: [torch.tensor(row) for row in rows]
        np.random.permutation = record.permutation(original)
        try:
            stats = trainer.step(tensors(batch["queries"]), tensors(batch["responses"]), list(torch.from_numpy(batch["scores"])))
        finally:
            np.random.permutation = original
            trainer.compute_rewards, trainer.compute_advantages, trainer.train_minibatch = (
                record.rewards, record.advantages, record.minibatch)
            record.hook.remove()
        arrays = {k: ragged(v, record.masks) for k, v in record.arrays.items()}
        arrays["logprobs"] = ragged(stats["objective/logprobs"], record.masks)
        arrays["ref_logprobs"] = ragged(stats["objective/ref_logprobs"], record.masks)
        out.append(batch | dict(permutations=record.permutations, per_token=arrays, train=record.train,
                                adam_grad_norms=record.grad_norms, kl_coef_after=float(trainer.kl_ctl.value),
                                stats={k: single(k, v) for k, v in stats.items() if not k.startswith("time/") and k not in (
                                    "objective/logprobs", "objective/ref_logprobs", "ppo/policy/advantages",
                                    "ppo/policy/ratio")}))
    return config, start, out, model


def check_optimizer(trainer, config):
    """The constants that CONVENTION states."""
    optimizer = trainer.optimizer.optimizer
    group = optimizer.param_groups[0]
    assert type(optimizer) is torch.optim.Adam and len(optimizer.param_groups) == 1
    assert (group["betas"], group["eps"], group["weight_decay"], group["amsgrad"]) == ((0.9, 0.999), 1e-8, 0, False)
    assert group["lr"] == config.learning_rate and trainer.lr_scheduler is None


def named_weights(model):
    """Parameters by their Hugging Face names, and v_head.weight, v_head.bias."""
    out = {k: p.detach() for k, p in model.pretrained_model.named_parameters()}
    return out | {"v_head." + k: p.detach() for k, p in model.v_head.summary.named_parameters()}


def largest_difference(a, b):
    return max(float((a[k] - b[k]).abs().max()) for k in a)


def stats_difference(a, b):
    """Largest |x - y| / (1 + |y|) over the scalar statistics of all steps."""
    pairs = [(float(x["stats"][k]), float(y["stats"][k])) for x, y in zip(a, b) for k in y["stats"]
             if np.ndim(y["stats"][k]) == 0]
    return max(abs(x - y) / (1 + abs(y)) for x, y in pairs if np.isfinite(y))


def run(path, name, settings):
    side, other_side = ("left", "left") if settings.get("whiten_rewards") else ("right", "left")
    config, start, steps, model = steps_of(path, settings, side)
    # Mathematically the same, other roundings and another torch seed: how far float32 alone can move the result.
    _, _, other_steps, other = steps_of(path, settings, other_side, attention="eager", seed=1)
    if config.max_grad_norm is not None:  # CONVENTION's claim about clipping
        norms = [n for step in steps for n in step["adam_grad_norms"]]
        assert norms[0] <= config.max_grad_norm * 1.000001 and max(norms[1:]) > config.max_grad_norm, norms
    final, moved = named_weights(model), named_weights(other)
    noise = dict(weights=largest_difference(moved, final), stats=stats_difference(other_steps, steps),
                 weights_moved=largest_difference(final, start))
    print(f"  {name}: weights moved by up to {noise['weights_moved']:.3g}; with other roundings they end "
          f"{noise['weights']:.2g} apart, statistics {noise['stats']:.2g}")
    return dict(name=name, config={k: getattr(config, k) for k in KEPT}, noise=noise, steps=steps,
                final={k: fixture.sample_of(k, v.numpy(), 32) for k, v in final.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=TINY)
    parser.add_argument("--out", default="trl_steps.json", help="name in tests/fixtures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = named_weights(with_value_head(load(args.model)))
    fixture.write(args.out, __file__, ["trl", "transformers", "torch", "accelerate", "numpy"], dict(
        convention=CONVENTION, model="models/tiny.gguf",
        initial={k: fixture.sample_of(k, v.numpy(), 4) for k, v in start.items() if not k.startswith("v_head")},
        v_head={k[len("v_head."):]: v.reshape(-1) for k, v in start.items() if k.startswith("v_head")},
        runs=[run(args.model, name, settings) for name, settings in RUNS]))


if __name__ == "__main__":
    main()
