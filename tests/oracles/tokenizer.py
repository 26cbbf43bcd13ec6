#!/usr/bin/env python3
"""Compares token ids with Hugging Face's tokenizers, live.

    tokenizer.py build/tests/text/encode_lines MODEL.gguf [--lines 20000] [--no_characters] [--only WORD]

Needs tokenizers, transformers and gguf. MODEL.gguf is SmolLM2's (or any with pre-tokenizer "smollm" or "gpt-2"); GPT-2's
vocab.json and merges.txt are in models/gpt2-tokenizer. Its vocabulary serves Llama 3's and Qwen2's pre-tokenizers, too,
and added tokens of every kind. For each tokenizer: lines of mixed text, every code point alone and among others, a
mebibyte of one character. What logpi saved is read by transformers, and must give the same ids, texts and special tokens.

The reference for a GGUF file is put together from its vocabulary as SmolLM2's own tokenizer.json says: BPE without an
unknown token, pre-tokenizer Sequence[Digits(individual_digits), ByteLevel]; transformers' GGUF converter leaves the
Digits out.
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile

import gguf
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizer_texts import alone, embedded, lines, runs, token_lines

GPT2 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models", "gpt2-tokenizer")
PARSE_SPECIAL, ADD_SPECIAL = 1, 2
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")


class Reference:
    """The tokenizer of a GGUF file, or any other, in Hugging Face's code."""

    def __init__(self, path=None, tokenizer=None):
        self.template = None
        if path:
            fields = gguf.GGUFReader(path).fields
            get = lambda key: fields[f"tokenizer.{key}"].contents()
            tokens, kinds = get("ggml.tokens"), get("ggml.token_type")
            merges = [tuple(merge.split(" ")) for merge in get("ggml.merges")]
            vocabulary = {token: i for i, token in enumerate(tokens)}
            self.template = get("chat_template")
            tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
            digits = [pre_tokenizers.Digits(individual_digits=True)] if get("ggml.pre") == "smollm" else []
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                digits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
            )
            tokenizer.decoder = decoders.ByteLevel()
            special = [t for t, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL]
            tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
            self.named = {
                name: tokens[get(f"ggml.{key}_token_id")]
                for name, key in [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")]
            }
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special = [token.content for _, token in sorted(added.items())]

    def encode(self, text, parse_special):
        self.tokenizer.encode_special_tokens = not parse_special
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_all(self, texts, flags):
        self.tokenizer.encode_special_tokens = not flags & PARSE_SPECIAL
        found = self.tokenizer.encode_batch_fast(texts, add_special_tokens=bool(flags & ADD_SPECIAL))
        return [encoding.ids for encoding in found]

    def decode(self, ids, skip_special):
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special)

    def fast(self):
        from transformers import PreTrainedTokenizerFast

        self.tokenizer.encode_special_tokens = False
        return PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, chat_template=self.template)

    def chat(self, messages, generation_prompt):
        fast = self.fast()
        text = fast.apply_chat_template(messages, add_generation_prompt=generation_prompt, tokenize=False)
        return fast(text, add_special_tokens=False).input_ids

    def save(self, folder):
        self.tokenizer.encode_special_tokens = False
        os.makedirs(folder)
        self.tokenizer.save(os.path.join(folder, "tokenizer.json"))
        return folder


# ---- references over GPT-2's vocabulary ---------------------------------------------------------


def gpt2(split=None, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE.from_file(GPT2 + "/vocab.json", GPT2 + "/merges.txt", ignore_merges=ignore_merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split)
    if split:
        byte_level = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated", invert=False), byte_level])
    tokenizer.pre_tokenizer, tokenizer.decoder, tokenizer.normalizer = byte_level, decoders.ByteLevel(), normalizer
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    return tokenizer


def with_tokens(tokenizer):
    """Added tokens that overlap, take white space with them, are normalised or not, hold characters of patterns. None is
    white space and takes white space before it: where another token has taken that already, tokenizers panics."""
    tokenizer.add_tokens([
        AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=False, special=True), AddedToken("<norm>", normalized=True),
        AddedToken("<no", normalized=True), AddedToken("norm>x", normalized=False), AddedToken("(a+)+$", normalized=False),
        AddedToken(".*", normalized=True), AddedToken("   ", normalized=False), AddedToken(" \n", normalized=True, rstrip=True),
        AddedToken("\t", normalized=False), AddedToken("caf\u00e9", normalized=True), AddedToken("[x]", special=True),
        AddedToken("<left><right>", normalized=False, special=True),
    ])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<both> $A <|endoftext|>", special_tokens=[("<both>", tokenizer.token_to_id("<both>")), ("<|endoftext|>", 50256)]
    )
    return tokenizer


# ---- comparison ---------------------------------------------------------------------------------


def run(program, path, texts, flags, save=None):
    """Ids, and the text that they decode to, by encode_lines; an error is a text instead of ids."""
    raw = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))
    command = [program, path, str(int(flags))] + ([save] if save else [])
    out = subprocess.run(command, input=raw, stdout=subprocess.PIPE, check=True).stdout.decode()
    out = out.split("\n")[:-1]
    assert len(out) == len(texts), "encode_lines stopped early"
    for line, text in zip(out, texts):
        if line.startswith("error"):
            yield line, ""
            continue
        ids, same, decoded = line.partition("=") if line.endswith("=") else line.partition("|")
        yield [int(i) for i in ids.split()], text if same == "=" else bytes.fromhex(decoded).decode("utf-8", "replace")


def compare(o, name, path, reference, texts, what, flags=(PARSE_SPECIAL, 0), decode=True):
    bad = tokens = same = 0
    for flag in flags:
        for first in range(0, len(texts), 100000):
            part = texts[first : first + 100000]
            for text, (got, back), want in zip(part, run(o.program, path, part, flag), reference.encode_all(part, flag)):
                tokens += len(want)
                same += back == text
                if got == want and (not decode or back == reference.decode(want, False)):
                    continue
                bad += 1
                if bad <= 5:
                    print(f"  {text[:200]!r} (flags {flag})\n  want {want[:60]}\n  got  {got[:60]}, {back[:200]!r}")
    count = len(texts) * len(flags)
    print(f"{name}: {what}: {count} texts, {tokens} tokens: {bad} differ; {same} decode to the text itself", flush=True)
    return bad


def compare_all(o, name, path, reference):
    bad = compare(o, name, path, reference, lines(o.lines, reference.special), "mixed lines")
    if not o.no_characters:
        bad += compare(o, name, path, reference, alone(), "code points alone", (0,), False)
        bad += compare(o, name, path, reference, embedded(), "code points among others", (0,), False)
        bad += compare(o, name, path, reference, runs(), "long runs", (0,))
    return bad


def round_trip(o, name, path, reference, folder, named=None):
    """What logpi saves, read by transformers and by logpi again."""
    from transformers import AutoTokenizer

    texts = lines(2000, reference.special, seed=5)
    list(run(o.program, path, [], 0, folder))
    again = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    want = [ids.ids for ids in reference.fast()._tokenizer.encode_batch_fast(texts, add_special_tokens=True)]
    bad = sum(again(text).input_ids != ids for text, ids in zip(texts, want))
    bad += sum(again.decode(ids) != reference.decode(ids, False) for ids in want)
    bad += again.chat_template != reference.template
    for key, token in (named or {}).items():
        bad += getattr(again, key + "_token") != token
    print(f"{name}: saved, then transformers' {type(again).__name__}: {len(texts)} texts, ids and texts: {bad} differ", flush=True)
    return bad + compare(o, name, folder, reference, texts, "saved, then logpi", (3, 2, 1, 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--no_characters", action="store_true", help="without every code point and long runs")
    parser.add_argument("--only", default="", help="tokenizers whose name has this word")
    o = parser.parse_args()
    print(f"tokenizers {tokenizers.__version__}, {o.model}")
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = lambda name: os.path.join(temporary, name)
        if o.only in "SmolLM2":
            smollm = Reference(o.model)
            bad += compare_all(o, "SmolLM2 (GGUF)", o.model, smollm)
            bad += compare(o, "SmolLM2 (folder)", smollm.save(folder("s")), smollm, lines(2000, smollm.special), "mixed lines")
            bad += round_trip(o, "SmolLM2 (GGUF)", o.model, smollm, folder("s2"), smollm.named)
        if o.only in "GPT-2":
            reference = Reference(tokenizer=gpt2())
            names = {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>", "pad": None}
            bad += compare_all(o, "GPT-2 (vocab.json)", GPT2, reference)
            bad += compare(o, "GPT-2 (folder)", reference.save(folder("g")), reference, lines(2000, reference.special), "mixed lines")
            bad += round_trip(o, "GPT-2 (vocab.json)", GPT2, reference, folder("g2"), names)
        others = {
            "Llama 3's pattern": gpt2(LLAMA3, ignore_merges=True),
            "Qwen2's pattern": gpt2(QWEN2, normalizers.NFC()),
            "added tokens": with_tokens(gpt2()),
            "added tokens, NFC": with_tokens(gpt2(QWEN2, normalizers.NFC())),
        }
        for i, (name, tokenizer) in enumerate(others.items()):
            if o.only not in name:
                continue
            reference = Reference(tokenizer=tokenizer)
            path = reference.save(folder(f"o{i}"))
            if name.startswith("added"):
                bad += compare(o, name, path, reference, lines(o.lines, reference.special), "mixed lines", (3, 2, 1, 0))
                dense = token_lines(o.lines, reference.special)
                bad += compare(o, name, path, reference, dense, "lines of added tokens", (3, 2, 1, 0))
            else:
                bad += compare_all(o, name, path, reference)
            bad += round_trip(o, name, path, reference, folder(f"r{i}"))
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
