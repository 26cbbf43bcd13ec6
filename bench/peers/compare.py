"""Runs logpi and a peer in turn and says what came out; bench/peers.sh sets the environment. Standard library only.

usage: compare.py [--rounds N] [--list] [--table] [CASE...]"""
import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.path.abspath(os.environ.get("PEERS_WORK", "build/peers"))
HF, GGUF, GPT2 = (os.path.join(WORK, name) for name in ("smollm2-hf", "smollm2-bf16.gguf", "gpt2-hf"))
NEW, OLD = "PEERS", "PEERS_OLD"
SHARED_CORE = 60  # ns of the barrier: below it the two threads share a core, and every figure is half of what it could be


class Case:
    """One work: what logpi is asked, which script of which environment does the same, and which keys are the rates."""

    def __init__(self, ours, peer, venv, script, arguments, key, our_key="rate"):
        self.ours, self.peer, self.venv, self.script = ours.split(), peer, venv, script
        self.arguments, self.key, self.our_key = arguments, key, our_key


def cases():
    out = {}
    for batch, sequence in ((4, 128), (8, 256)):
        for dtype in ("bfloat16", "float32"):
            out[f"train_{batch}x{sequence}_{dtype}"] = Case(
                f"train --batch {batch} --sequence {sequence} --dtype {dtype}", f"PyTorch {dtype}", NEW, "lm_train_hf.py",
                [HF, dtype, batch, sequence], "tokens_per_s")
    for batch in (1, 8, 32):
        ours = f"generate --batch {batch} --prompt_tokens 32 --new_tokens 64 --dtype bfloat16"
        out[f"decode_{batch}"] = Case(ours, "llama.cpp bf16", NEW, "lm_llama_cpp_batch.py", [GGUF, batch, 32, 64],
                                      "new_tokens_per_s")
        out[f"generate_{batch}"] = Case(ours, "transformers bf16", NEW, "lm_generate_hf.py", [HF, "bfloat16", batch, 32, 64],
                                        "new_tokens_per_s", "rate_total")
    out["prefill_512"] = Case("prefill --batch 1 --prompt_tokens 512 --dtype bfloat16", "llama.cpp bf16", NEW,
                              "lm_llama_cpp_batch.py", [GGUF, 1, 512, 4], "prefill_tokens_per_s")
    for prompts in (1, 4):
        out[f"grpo_{prompts}"] = Case(
            f"grpo --num_prompts {prompts} --num_generations 8 --new_tokens 64 --dtype bfloat16", "TRL 1.16 bf16", NEW,
            "lm_grpo_trl.py", [HF, "bfloat16", 8, prompts, 64, 3], "completion_tokens_per_s")
    for batch in (1, 8):
        out[f"ppo_{batch}"] = Case(
            f"lmppo --model {GPT2} --batch {batch} --new_tokens 32 --dtype float32", "TRL 0.11.4 fp32", OLD,
            "lm_ppo_trl_old.py", [os.environ.get("GPT2_TOKENIZER", ""), batch, 32, 3, GPT2], "tokens_per_s")
    return out


def last_json(command, **more):
    """The object on the last line of what a command prints."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no result"])[-1])
    return json.loads(lines[-1])


def python(venv):
    return os.path.join(os.environ[venv], "bin", "python")


def run_peer(case):
    got = last_json([python(case.venv), os.path.join(HERE, case.script), *case.arguments])
    return dict(rate=got[case.key], peak_rss_gb=got.get("peak_rss_gb", ""), barrier_before="", barrier_after="")


def run_ours(case):
    model = [] if "--model" in case.ours else ["--model", "smollm2"]
    got = last_json([os.environ["LOGPI"], "bench", *case.ours, *model, "--threads", os.environ["THREADS"], "--seconds", 5,
                     "--json"])
    return dict(rate=got[case.our_key], peak_rss_gb=got["peak_rss_bytes"] / 1e9, barrier_before=got["barrier_ns"][0],
                barrier_after=got["barrier_ns"][1])


def make_models(case):
    """What a case needs and is not there yet; the HF folder of SmolLM2 is made by the scripts themselves."""
    if GGUF in case.arguments and not os.path.exists(GGUF):
        subprocess.run([python(NEW), os.path.join(HERE, "make_gguf.py"), GGUF, "bf16"], check=True)
    if case.venv == OLD and not os.environ.get("GPT2_TOKENIZER"):
        raise RuntimeError("GPT2_TOKENIZER is not set: a folder with GPT-2's vocab.json and merges.txt")
    if case.venv == OLD and not os.path.exists(os.path.join(GPT2, "model.safetensors")):
        subprocess.run([python(OLD), os.path.join(HERE, case.script), os.environ["GPT2_TOKENIZER"], "1", "2", "0", GPT2],
                       check=True)


def results_folder():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        name = re.search(r"^model name\s*: (.*)$", file.read(), re.M)
    cpu = re.sub(r"[^A-Za-z0-9]+", "-", name.group(1) if name else "unknown").strip("-")
    folder = os.path.join(HERE, "..", "results", cpu)
    os.makedirs(folder, exist_ok=True)
    return folder


COLUMNS = ["case", "round", "program", "rate", "peak_rss_gb", "barrier_before", "barrier_after"]


def run_case(name, case, rounds, folder):
    """logpi, peer, logpi, peer, ...: a row each."""
    make_models(case)
    rows = []
    for i in range(rounds):
        for program, run in (("logpi", run_ours), (case.peer, run_peer)):
            rows.append(dict(case=name, round=i, program=program) | run(case))
            print(f"{name} {i} {program}: {rows[-1]['rate']:.1f} tokens/s", flush=True)
    with open(os.path.join(folder, name + ".csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def median(values):
    return statistics.median(values) if values else float("nan")


def summary(rows):
    """Medians of the rounds in which the threads had a core each, of all rounds if there is none."""
    rounds = {}
    for row in rows:
        rounds.setdefault(row["round"], []).append(row)
    pairs = [pair for pair in rounds.values() if len(pair) == 2]
    good = [pair for pair in pairs if min(float(pair[0]["barrier_before"]), float(pair[0]["barrier_after"])) >= SHARED_CORE]
    used = good or pairs
    number = lambda row, key: float(row[key] or "nan")
    column = lambda i, key: median([number(pair[i], key) for pair in used])
    return dict(peer=used[0][1]["program"], ours=column(0, "rate"), theirs=column(1, "rate"),
                ratio=median([number(a, "rate") / number(b, "rate") for a, b in used]), our_memory=column(0, "peak_rss_gb"),
                their_memory=column(1, "peak_rss_gb"), rounds=f"{len(used)} of {len(pairs)}{'' if good else ', shared core'}")


def table(folder):
    lines = ["| work | logpi, tokens/s | peer | tokens/s | ratio | peak memory, GB | rounds |", "|---|---|---|---|---|---|---|"]
    for name in sorted(cases(), key=list(cases()).index):
        path = os.path.join(folder, name + ".csv")
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8", newline="") as file:
            s = summary(list(csv.DictReader(file)))
        peer_memory = "-" if s["their_memory"] != s["their_memory"] else f"{s['their_memory']:.1f}"
        lines.append(f"| {name} | {s['ours']:.0f} | {s['peer']} | {s['theirs']:.0f} | {s['ratio']:.2f} | "
                     f"{s['our_memory']:.1f}, {peer_memory} | {s['rounds']} |")
    text = "\n".join(lines) + "\n"
    with open(os.path.join(folder, "table.md"), "w", encoding="utf-8") as file:
        file.write(text)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--list", action="store_true", help="the names of the cases")
    parser.add_argument("--table", action="store_true", help="only make the table of what was measured before")
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    known, folder = cases(), results_folder()
    unknown = [name for name in args.cases if name not in known]
    if unknown or args.rounds < 1:
        parser.error(f"no such case: {', '.join(unknown)}; --list names them" if unknown else "one round at least")
    if args.list:
        print("\n".join(known))
        return 0
    failed = 0
    for name in [] if args.table else args.cases or known:
        try:
            run_case(name, known[name], args.rounds, folder)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            failed += 1
    print(table(folder), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
