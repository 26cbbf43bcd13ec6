#!/usr/bin/env python3
"""Damaged tokenizer.json files, beside Hugging Face's tokenizers.

    tokenizer_damage.py build/tests/text/encode_lines [--count 2000]

A small tokenizer.json is changed in a few places at random: a byte, a number, a key, a piece that is left out or comes twice.
What logpi accepts, tokenizers must accept with the same ids; what only one of the two refuses is counted, and shown by
reason. logpi refuses more (dropout, ids that contradict each other), never less, but for what is listed in LENIENT.
"""

import argparse
import collections
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

BASE = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [
        {"id": 7, "content": "<|x|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True},
        {"id": 8, "content": "<y>", "single_word": False, "lstrip": False, "rstrip": True, "normalized": True, "special": False},
    ],
    "normalizer": None,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]},
    "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
              "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
              "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "1": 5, "11": 6},
              "merges": [["a", "b"], ["ab", "c"], ["1", "1"]]},
}
TEXTS = ["abcab", "ab<|x|>c", "a<y>  b", "11a1", "", "z<|x", "abc abc"]
# tokenizers' reader wants every field of a part to be there, under its name and of its type; logpi wants those that it uses.
LENIENT = ["missing field", "expected `", "untagged enum", "invalid type", "invalid length"]


def is_json(text):
    try:
        return json.loads(text) is not None
    except ValueError:
        return False


def change(r, text):
    kind = r.random()
    at = r.randrange(len(text))
    if kind < 0.3:
        return text[:at] + r.choice('"\\{}[],:0129-eE.tfnu \u00e9') + text[at + 1 :]
    if kind < 0.5:
        spots = [m for m in re.finditer(r"-?\d+", text)]
        m = r.choice(spots)
        return text[: m.start()] + r.choice(["0", "1", "3", "7", "9", "12", "-1", "1.0", "1e2", "99999999999", "2000000"]) + text[m.end() :]
    if kind < 0.65:
        m = r.choice(list(re.finditer(r"true|false|null", text)))
        return text[: m.start()] + r.choice(["true", "false", "null", "1", '"x"', "[]", "{}"]) + text[m.end() :]
    if kind < 0.8:
        m = r.choice(list(re.finditer(r'"[^"]*"', text)))
        return text[: m.start()] + json.dumps(r.choice(["a", "ab", "b", "", "c", "1", "zz", "BPE", "ByteLevel", "NFC", "<y>"])) + text[m.end() :]
    end = min(len(text), at + r.randint(1, 12))
    return text[:at] + (text[at:end] * 2 if kind < 0.9 else "") + text[end:]


def ours(program, folder):
    raw = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in TEXTS))
    done = subprocess.run([program, folder, "1"], input=raw, capture_output=True)
    if done.returncode == 1:
        return None, re.sub(r"byte \d+|\"[^\"]*\"|-?\d+", "_", done.stderr.decode("utf-8", "replace").split("tokenizer.json: ")[-1].strip())
    assert done.returncode == 0, f"encode_lines ended with {done.returncode}"
    return [[int(i) for i in re.split("[=|]", line)[0].split()] for line in done.stdout.decode().split("\n")[:-1]], ""


def theirs(path):
    try:
        tokenizer = Tokenizer.from_file(path)
        return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS], ""
    except BaseException as error:  # a panic of Rust is no Exception
        return None, str(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=2000)
    o = parser.parse_args()
    r, counts, reasons, bad = random.Random(4), collections.Counter(), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        for i in range(o.count):
            text = json.dumps(BASE)
            for _ in range(0 if i == 0 else r.choice([1, 1, 1, 2, 3])):
                text = change(r, text)
            with open(path, "w") as file:
                file.write(text)
            (got, why), (want, why_not) = ours(o.program, folder), theirs(path)
            if got is not None and want is not None:
                counts["accepted by both, ids equal" if got == want else "IDS DIFFER"] += 1
                wrong = got != want
            else:
                who = "both" if got is None and want is None else "logpi alone" if got is None else "tokenizers alone"
                counts["refused by " + who] += 1
                reasons[why] += who == "logpi alone"
                wrong = got is not None and not (is_json(text) and any(word in why_not for word in LENIENT))
            bad += wrong
            if wrong and bad <= 10:
                print(f"  {text}\n  logpi {got}\n  tokenizers {want} {why_not}")
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")
    for reason, count in reasons.most_common():
        if count:
            print(f"       {count:5} alone: {reason}")
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
