"""Random numbers of NumPy's legacy RandomState and PyTorch's CPU generator: tests/fixtures/rng_numpy.json and
rng_torch.json, read by tests/base/rng_parity.c. Each case is one generator and the calls made of it in order, so that what
one call leaves behind (a waiting normal variate, a position) shows in the next.

Tolerance on the C side: NumPy and PyTorch in float64 2e-15, PyTorch in float32 1e-6 (its vectorised log, sin and cos
are not correctly rounded), integers and choices equal."""
import numpy as np
import torch

import fixture

SEEDS = list(range(16)) + [42, 1234, 2**31 - 1, 2**31, 2**32 - 1, 123456789, 3141592653, 987654321]


def probabilities(source, k, dtype):
    p = source.dirichlet(np.full(k, 0.7)).astype(dtype)
    if k > 3:
        p[source.randint(k)] = 0
    p = (p / p.sum()).astype(dtype)
    return p if dtype == np.float64 or abs(p.astype(np.float64).sum() - 1) < 1e-8 else None


def numpy_case(seed):
    g, source, calls = np.random.RandomState(seed), np.random.RandomState(seed ^ 0x5EED), []
    for n in source.permutation([1, 2, 3, 5, 8]).tolist():
        calls.append({"call": "normal_f64", "n": n, "out": g.randn(n)})
        p = probabilities(source, n, np.float64)
        calls.append({"call": "choice_f64", "n": n, "p": p, "out": [int(g.choice(n, p=p))]})
        p = probabilities(source, n, np.float32)
        if p is not None:
            calls.append({"call": "choice_f32", "n": n, "p": p, "out": [int(g.choice(n, p=p))]})
        calls.append({"call": "uniform", "n": 2, "out": g.random_sample(2)})
        calls.append({"call": "below", "n": 100 * n + 1, "out": [int(g.randint(100 * n + 1))]})
        calls.append({"call": "permutation", "n": n, "out": [int(i) for i in g.permutation(n)]})
    return {"seed": seed, "calls": calls}


def torch_case(seed):
    g, source, calls = torch.Generator().manual_seed(seed), np.random.RandomState(seed % 2**32 ^ 0x5EED), []
    for n in source.permutation([1, 2, 3, 7, 15, 16, 17, 35]).tolist():
        for kind, dtype in (("f32", torch.float32), ("f64", torch.float64)):
            if source.rand() < 0.6:
                out = torch.randn(n, dtype=dtype, generator=g)
                calls.append({"call": "normal_" + kind, "n": n, "out": out})
            p = torch.from_numpy(source.dirichlet(np.full(min(n, 7), 0.7))).to(dtype)
            chosen = torch.multinomial(p, 1, generator=g).item()
            calls.append({"call": "choice_" + kind, "n": len(p), "p": p, "out": [chosen]})
        calls.append({"call": "uniform", "n": 1, "out": torch.rand(1, dtype=torch.float64, generator=g)})
    return {"seed": seed, "calls": calls}


fixture.write("rng_numpy.json", __file__, ["numpy"], {"cases": [numpy_case(s) for s in SEEDS]})
fixture.write("rng_torch.json", __file__, ["numpy", "torch"], {
    "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    "cases": [torch_case(s) for s in SEEDS + [2**32, 2**40 + 7, 2**63 - 1]]})
