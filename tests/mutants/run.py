"""Mutants: each row of the table is a mistake that a programmer could make. It is put into a copy of the sources, the
tests that should notice are built and run, and at least one of them must fail. A mutant that survives, or whose text is
not found exactly once, is a failure of this program.

    run.py [NAME ...]     only these"""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
PPO, PASS, TRAIN = "src/pg/ppo.c", "src/train/ppo_pass.c", "src/train/ppo_step.c"

# name, file, the text that is right, the mistake, tests that should notice
MUTANTS = [
    ("sign of the policy loss", PPO,
     "lp_neg(t, lp_const_f32(t, n, 1, def->advantage))", "lp_const_f32(t, n, 1, def->advantage)",
     ["pg/trl", "pg/enumeration"]),
    ("sign of the KL penalty", PPO, "(float)(-kl_coef * (double)kl[i])", "(float)(kl_coef * (double)kl[i])",
     ["pg/trl", "pg/enumeration"]),
    ("score at the first token", PPO, "rewards[offsets[s + 1] - 1] += ", "rewards[offsets[s]] += ",
     ["pg/trl"]),
    ("log-probabilities shifted by one token", PASS, "(int32_t)(at + q - 1 + j)",
     "(int32_t)(at + q - 1 + (j > 0 ? j - 1 : 0))", ["train/trl_steps"]),
    ("values shifted by one token", PPO, "gamma * next_value - (double)values[i]",
     "gamma * (double)values[i] - next_value", ["pg/trl", "pg/enumeration"]),
    ("missing mask: a prompt token counts in the mean", TRAIN,
     "normaliser += (double)(b->response_offsets[list[i] + 1] - b->response_offsets[list[i]]);",
     "normaliser += 1.0 + (double)(b->response_offsets[list[i] + 1] - b->response_offsets[list[i]]);",
     ["train/trl_steps"]),
    ("missing mask: advantages run on into the next response", PPO,
     "double advantage = 0, next_value = 0;",
     "static double advantage = 0, next_value = 0;", ["pg/trl"]),
    ("missing detach: the advantage follows the value", PPO,
     "lp_tensor minus_advantage = lp_neg(t, lp_const_f32(t, n, 1, def->advantage));",
     "lp_tensor minus_advantage = lp_add(t, lp_neg(t, lp_const_f32(t, n, 1, def->advantage)),"
     " lp_sub(t, value, lp_detach(t, value)));", ["pg/trl"]),
    ("missing detach: the clip range follows the value", PPO,
     "lp_tensor old_value = lp_const_f32(t, n, 1, def->old_value);", "lp_tensor old_value = value;", ["pg/trl"]),
    ("ddof 0 in whitening", PPO, "sqrt(square / (double)(n - 1) + 1e-8)", "sqrt(square / (double)n + 1e-8)",
     ["pg/trl"]),
    ("ddof 0 in the variances", TRAIN, "(square - sum * sum / n) / (n - 1)", "(square - sum * sum / n) / n",
     ["train/trl_steps"]),
    ("the value loss without its half", PPO, "lp_scale(t, value_loss, 0.5 * def->vf_coef)",
     "lp_scale(t, value_loss, def->vf_coef)", ["pg/trl"]),
    ("the smaller of the two policy losses", PPO,
     "lp_maximum(t, lp_mul(t, minus_advantage, ratio)", "lp_minimum(t, lp_mul(t, minus_advantage, ratio)",
     ["pg/trl"]),
    ("a mean over the micro-batch", TRAIN, ".normaliser = normaliser,", ".normaliser = 0 * normaliser + (double)part->rows,",
     ["train/ppo"]),
    ("the reference follows the policy", TRAIN, "status = lp__ppo_score_pass(ppo, batch);",
     "ppo->reference = ppo->policy;\n    status = lp__ppo_score_pass(ppo, batch);", ["train/trl_steps"]),
    ("a tied gradient is lost", "src/tensor/params.c", "to[j] += from[j];\n        } else {",
     "to[j] += from[j];\n            return;\n        } else {\n            return;",
     ["train/trl_steps", "lm/model"]),
    ("Adam without bias correction", "src/tensor/optim.c", "def->learning_rate / (1.0 - pow(def->beta1, t))",
     "def->learning_rate", ["tensor/optim"]),
    ("softmax backward without its mean", "src/tensor/reduce.inc", "p[j] * (real)((double)dy[j] - sum)",
     "p[j] * (real)((double)dy[j])", ["tensor/gradcheck"]),
    ("RMSNorm backward without its projection", "src/tensor/transformer.inc",
     "dx[i * n + j] += a * w[j] * dy[j] - b * x[j];", "dx[i * n + j] += a * w[j] * dy[j] - 0 * b;", ["tensor/gradcheck"]),
    ("attention backward blind to its own token", "src/tensor/attention.inc",
     "FN(attend_backward)(kernels, i + 1, hd, ld,", "FN(attend_backward)(kernels, i, hd, ld,", ["tensor/gradcheck"]),
    ("the closed-form gradient 1 % too large", "src/pg/softmax_policy.c",
     "theta[i * k + j] += step * (x[i]", "theta[i * k + j] += 1.01 * step * (x[i]", ["pg/rungs"]),
    ("top_p is not applied", "src/lm/sampler.c", "n = nucleus(s, n, kept);", "nucleus(s, n, kept);", ["lm/model"]),
    ("the adaptive KL turned round", PPO, "coef * (1.0 + error * n / horizon)", "coef * (1.0 - error * n / horizon)",
     ["pg/trl"]),
]


def sh(*command, cwd):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


def target(test):
    return "test_" + test.replace("/", "_")


def run_one(folder, name, path, right, wrong, tests):
    """The test that noticed, or a complaint beginning with '!'."""
    full = os.path.join(folder, path)
    with open(full) as f:
        text = f.read()
    if text.count(right) != 1:
        return f"! its text stands {text.count(right)} times in {path}"
    with open(full, "w") as f:
        f.write(text.replace(right, wrong))
    try:
        built = sh("cmake", "--build", "b", "-j", str(os.cpu_count()), "--target", *map(target, tests), cwd=folder)
        if built.returncode:
            return "! it does not compile: " + built.stdout[-400:]
        for test in tests:
            layer = test.split("/")[0]
            ran = sh(os.path.join("b", "tests", layer, target(test)), cwd=folder)
            if ran.returncode:
                return test
        return "! SURVIVES " + ", ".join(tests)
    finally:
        with open(full, "w") as f:
            f.write(text)


def main():
    chosen = [m for m in MUTANTS if not sys.argv[1:] or m[0] in sys.argv[1:]]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="logpi-mutants-") as folder:
        for part in ("src", "include", "cli", "examples", "tests", "models", "bench"):
            shutil.copytree(os.path.join(ROOT, part), os.path.join(folder, part))
        shutil.copy(os.path.join(ROOT, "CMakeLists.txt"), folder)
        made = sh("cmake", "-S", ".", "-B", "b", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_FLAGS_RELEASE=-O1", cwd=folder)
        tests = sorted({t for m in chosen for t in m[4]})
        built = sh("cmake", "--build", "b", "-j", str(os.cpu_count()), "--target", *map(target, tests), cwd=folder)
        if made.returncode or built.returncode:
            sys.exit("mutants: the unchanged sources do not build:\n" + made.stderr + built.stdout[-2000:])
        for test in tests:
            if sh(os.path.join("b", "tests", test.split("/")[0], target(test)), cwd=folder).returncode:
                sys.exit(f"mutants: {test} fails without any mutant")
        for name, path, right, wrong, noticing in chosen:
            found = run_one(folder, name, path, right, wrong, noticing)
            survivors += found.startswith("!")
            print(f"  {name:<56} {found}", flush=True)
    print(f"mutants: {len(chosen) - survivors} of {len(chosen)} found")
    sys.exit(1 if survivors or not chosen else 0)


if __name__ == "__main__":
    main()
