"""Oracles: the NumPy and the PyTorch program of "Policy Gradient 101", run beside `logpi step`.

For each seed, one process of logpi and one run of the program in this process: the actions must be equal every time;
the NumPy program's numbers within 1e-12, the PyTorch program's (float32) within 1e-6. Exit code 1 on any difference
beyond that, after naming it; the worst difference of each quantity is printed in either case.

usage: step.py PATH_TO_LOGPI [SEEDS, default 1000]"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np

from programs import numpy_program, torch_program

# label, program, d, k, logpi's options, tolerance: |a - b| <= tolerance * max(1, |b|)
COMPARISONS = [
    ("numpy", numpy_program, 4, 2, ["--rng", "numpy"], 1e-12),
    ("torch", torch_program, 4, 3, ["--rng", "torch", "--autograd"], 1e-6),
]
NUMBERS = ("x", "theta_before", "probs", "grad", "theta")


def logpi_step(logpi, seed, d, k, options):
    command = [logpi, "step", "--seed", str(seed), "--d", str(d), "--k", str(k), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nexit code {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def compare(logpi, label, program, d, k, options, tolerance, seeds):
    worst, faults = dict.fromkeys(NUMBERS, 0.0), []
    for seed in range(seeds):
        want, got = program(seed, d, k), logpi_step(logpi, seed, d, k, options)
        if got["action"] != want["action"]:
            faults.append(f"seed {seed}: action {got['action']}, the program's is {want['action']}")
        for name in NUMBERS:
            a, b = np.asarray(got[name], dtype=np.float64), np.asarray(want[name], dtype=np.float64)
            if a.shape != b.shape:
                faults.append(f"seed {seed}: {name} has shape {a.shape}, the program's has {b.shape}")
                continue
            difference = float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b))))
            worst[name] = max(worst[name], difference)
            if not difference <= tolerance:
                faults.append(f"seed {seed}: {name} differs by {difference:.3g}")
    figures = ", ".join(f"{name} {value:.2g}" for name, value in worst.items())
    print(f"{label}: {seeds} seeds, {len(faults)} faults; worst difference (limit {tolerance:g}): {figures}")
    for fault in faults[:10]:
        print(f"  {fault}")
    return not faults


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    seeds = int(sys.argv[2]) if len(sys.argv) == 3 else 1000
    good = [compare(sys.argv[1], *comparison, seeds) for comparison in COMPARISONS]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
