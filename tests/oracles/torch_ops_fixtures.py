"""Oracles: PyTorch's optimizers and distributions, and the NumPy and PyTorch programs of "Policy Gradient 101".

Writes tests/fixtures/torch_ops.json (optimizers in float32, distributions in float64 with their gradients),
step_numpy.json and step_torch.json (the two programs for seeds 0..49).

usage: torch_ops_fixtures.py (no options)"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

import fixture
from programs import numpy_program, torch_program

STEPS = 10


def optimizers():
    """Ten steps of each optimizer from one parameter [3, 4] with the same ten gradients, float32."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=g)
    grads = torch.randn(STEPS, 3, 4, generator=g) * torch.logspace(-4, 1, 12).reshape(3, 4)  # many sizes
    grads[3, 0] = 0.0  # a row without gradient at one step
    opt, runs = torch.optim, []
    for kind, options in [
        ("sgd", dict(lr=0.1)),
        ("sgd", dict(lr=0.1, momentum=0.9)),
        ("sgd", dict(lr=0.1, momentum=0.9, weight_decay=0.01)),
        ("adam", dict(lr=0.01)),
        ("adam", dict(lr=0.01, betas=(0.5, 0.9), eps=1e-5)),
        ("adamw", dict(lr=0.01, weight_decay=0.0)),
        ("adamw", dict(lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)),
        ("rmsprop", dict(lr=0.01)),
        ("rmsprop", dict(lr=7e-4, alpha=0.99, eps=1e-5)),
        ("rmsprop", dict(lr=0.01, alpha=0.9, eps=1e-6, momentum=0.9)),
    ]:
        p = torch.nn.Parameter(start.clone())
        maker = {"sgd": opt.SGD, "adam": opt.Adam, "adamw": opt.AdamW, "rmsprop": opt.RMSprop}[kind]
        optimizer = maker([p], **options, foreach=False)
        after = []
        for step in range(STEPS):
            p.grad = grads[step].clone()
            optimizer.step()
            after.append(p.detach().clone())
        group = optimizer.param_groups[0]
        known = ("lr", "momentum", "weight_decay", "betas", "eps", "alpha")
        settings = {k: list(group[k]) if k == "betas" else group[k] for k in known if k in group}
        runs.append(dict(kind=kind, settings={k: [float(x) for x in v] if k == "betas" else float(v)
                                              for k, v in settings.items()}, first=after[0], final=after[-1]))
    clips = []
    for max_norm in [0.5, 1.0, 1000.0]:
        p = torch.nn.Parameter(start.clone())
        p.grad = grads[0].clone()
        norm = torch.nn.utils.clip_grad_norm_([p], max_norm)
        clips.append(dict(max_norm=max_norm, norm=norm, grad=p.grad))
    return dict(start=start, grads=grads, runs=runs, clip_grad_norm=clips)


def gradients(scalar, *inputs):
    return [g for g in torch.autograd.grad(scalar, inputs, retain_graph=True)]


def categorical():
    """log softmax policy over k actions, row by row; gradients with respect to the logits."""
    g = torch.Generator().manual_seed(1)
    out = []
    for rows, k, scale in [(1, 2, 1.0), (3, 5, 3.0), (2, 9, 30.0)]:
        z = (scale * torch.randn(rows, k, generator=g, dtype=torch.float64)).requires_grad_()
        z2 = (scale * torch.randn(rows, k, generator=g, dtype=torch.float64)).requires_grad_()
        a = torch.randint(k, (rows,), generator=g)
        p, q = Categorical(logits=z), Categorical(logits=z2)
        log_prob, entropy, kl = p.log_prob(a), p.entropy(), kl_divergence(p, q)
        kl_grads = gradients(kl.sum(), z, z2)
        out.append(dict(logits=z, other_logits=z2, action=a, probs=p.probs, log_prob=log_prob, entropy=entropy, kl=kl,
                        grad_log_prob=gradients(log_prob.sum(), z)[0], grad_entropy=gradients(entropy.sum(), z)[0],
                        grad_kl=kl_grads[0], grad_kl_other=kl_grads[1]))
    return out


def normal():
    """Diagonal Gaussian over d actions, log-probability summed; gradients with respect to mean and log std."""
    g = torch.Generator().manual_seed(2)
    randn = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    out = []
    for rows, d in [(1, 1), (4, 3)]:
        mean, mean2 = randn(rows, d).requires_grad_(), randn(rows, d).requires_grad_()
        log_std, log_std2 = (0.5 * randn(rows, d)).requires_grad_(), (0.5 * randn(rows, d)).requires_grad_()
        x = randn(rows, d)
        p = Independent(Normal(mean, log_std.exp()), 1)
        q = Independent(Normal(mean2, log_std2.exp()), 1)
        log_prob, entropy, kl = p.log_prob(x), p.entropy(), kl_divergence(p, q)
        lp, kg = gradients(log_prob.sum(), mean, log_std), gradients(kl.sum(), mean, log_std, mean2, log_std2)
        out.append(dict(mean=mean, log_std=log_std, other_mean=mean2, other_log_std=log_std2, action=x,
                        log_prob=log_prob, entropy=entropy, kl=kl, grad_log_prob_mean=lp[0], grad_log_prob_log_std=lp[1],
                        grad_entropy_log_std=gradients(entropy.sum(), log_std)[0], grad_kl_mean=kg[0],
                        grad_kl_log_std=kg[1], grad_kl_other_mean=kg[2], grad_kl_other_log_std=kg[3]))
    return out


def main():
    torch.set_num_threads(1)
    packages = ["torch", "numpy"]
    fixture.write("torch_ops.json", __file__, packages, dict(
        convention="optimizers: float32, the parameter after the first and the last step of the same gradients; eps, "
                   "alpha, betas as torch.optim has them (RMSprop: eps outside the root; SGD: the first momentum is "
                   "the first gradient, weight decay is added to the gradient). clip_grad_norm: g *= min(1, max_norm / "
                   "(norm + 1e-6)). Distributions: float64, one distribution a row; kl is KL(this || other); grad_X "
                   "is the gradient of the sum of X over the rows.",
        optimizers=optimizers(), categorical=categorical(), normal=normal()))
    shapes = [(4, 2), (3, 5), (10, 4)]
    fixture.write("step_numpy.json", __file__, packages, dict(
        convention="np.random.seed(seed); theta before x; theta_before [d][k], updated theta = theta_before + 0.01 * 1 * grad",
        cases=[dict(seed=s, d=d, k=k) | numpy_program(s, d, k, keys=("x", "theta_before", "action", "theta"))
               for d, k in shapes for s in range(50)]))
    shapes = [(4, 3), (5, 7)]
    fixture.write("step_torch.json", __file__, packages, dict(
        convention="torch.manual_seed(seed); x before theta; grad is theta.grad, the gradient of -log p(action) * 1",
        cases=[dict(seed=s, d=d, k=k) | torch_program(s, d, k, keys=("x", "theta_before", "action", "grad"))
               for d, k in shapes for s in range(50)]))


if __name__ == "__main__":
    main()
