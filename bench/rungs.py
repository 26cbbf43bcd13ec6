"""Rungs 1 and 2 beside what they replace: updates per second of logpi and of NumPy or PyTorch, in turn, in one window.

    bench/rungs.py LOGPI [ROUNDS]      in a Python with numpy and torch (.venv-oracles)

Prints one CSV row a measurement, and the ratio of the medians. The loops do what `logpi bench` does: probabilities, one
sample, one update (closed form), or the same through autograd and SGD. One thread each."""
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch


def rate(update, seconds=1.0):
    for _ in range(200):
        update()
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(100):
            update()
        n += 100
    return n / (time.perf_counter() - start)


def numpy_update(d=4, k=2):
    random = np.random.default_rng(0)
    theta, x = random.standard_normal((d, k)), random.standard_normal(d)

    def update():
        z = x @ theta
        p = np.exp(z - z.max())
        p /= p.sum()
        target = np.zeros(k)
        target[random.choice(k, p=p)] = 1.0
        np.add(theta, 0.01 * np.outer(x, target - p), out=theta)

    return update


def torch_update(d=4, k=3):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, theta = torch.randn(d), torch.nn.Parameter(torch.randn(d, k))
    sgd = torch.optim.SGD([theta], lr=0.01)

    def update():
        policy = torch.distributions.Categorical(torch.softmax(x @ theta, dim=0))
        loss = -policy.log_prob(policy.sample())
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    return update


def logpi(program, name):
    out = subprocess.run([program, "bench", name, "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(out)["rate"]


def main():
    program, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    print("rung,program,updates_per_s")
    for rung, peer_name, update in (("linear", "numpy " + np.__version__, numpy_update()),
                                    ("tape", "torch " + torch.__version__, torch_update())):
        ours, peers = [], []
        for _ in range(rounds):
            peers.append(rate(update))
            ours.append(logpi(program, rung))
            print(f"{rung},{peer_name},{peers[-1]:.0f}\n{rung},logpi,{ours[-1]:.0f}", flush=True)
        ratio = statistics.median(ours) / statistics.median(peers)
        print(f"# {rung}: logpi {statistics.median(ours):.0f}, {peer_name} {statistics.median(peers):.0f} updates/s: "
              f"{ratio:.0f} times")


if __name__ == "__main__":
    main()
