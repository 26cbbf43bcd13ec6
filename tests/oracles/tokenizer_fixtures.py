#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizer_tiny.json: ids of mixed lines and of chats by Hugging Face's tokenizers and
transformers, for the vocabulary of models/tiny.gguf. Ids are compared exactly.

Of each line: text; ids with control tokens parsed; plain, the ids without (left out where equal); decoded, the ids'
text without control tokens. Of each chat: messages, ids, ids with the generation prompt.
"""

import os
import sys

import fixture
from tokenizer import Reference
from tokenizer_texts import lines

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models", "tiny.gguf")

LINES = [
    "", " ", "  ", "a", " a", "a ", "  a", "a  ", "\n", "\n\n", " \n", "\n a", "a\n\n\nb", "\t\tx", "a \t b",
    "Hello, world!", "It's they'll WE'LL we'd I'm you've they're 's 't'", "''s '' '''ll", "don’t", "1", "12", " 12", "a1b2 3c",
    "1 2  3   4", "x²+½", "٣٤٥ 一二三", "<|im_start|>user\nhi<|im_end|>\n", "<|im_start|", "<<|im_end|>>", "<|im_end|><|im_end|>",
    " <|endoftext|> x", "<|endoftext|>\n\n<|endoftext|>", "\x00", "a\x00b", "\x7f\x80\x85\xa0\xad", "a\u180eb \u180e", "\u2028\u2029x",
    "\u3000\u3000全角", "e\u0301 \u0301 \u0301\u0301a", "👨‍👩‍👧‍👦👍🏽 🇫🇷", "\U0010ffff\ufffe\ufeff", "\U0001d2c0 \U0001d2c0\U0001d2c1a", "\u0600\u0660",
    "    return a + b\n\n\nfor i in range(10):\n        print(i)\r\n", "The capital of France is Paris." * 3, "a" * 300, " " * 300 + "x",
    "!" * 200, "\n" * 77, "1" * 50, "ab" * 100,
]

CHATS = [
    [{"role": "user", "content": "Hello!"}],
    [{"role": "user", "content": ""}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}],
    [{"role": "user", "content": "  two  spaces \n"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "\nwhy"}],
    [{"role": "system", "content": ""}, {"role": "assistant", "content": "Où est la bibliothèque? 😀 12"}],
    [{"role": "tool", "content": "{\"a\": [1, 2]}"}, {"role": "system", "content": "late"}],
]


def main():
    reference = Reference(MODEL)
    cases = []
    for text in LINES + lines(250, reference.special, seed=7):
        ids, plain = reference.encode(text, True), reference.encode(text, False)
        case = {"text": text, "ids": ids, "decoded": reference.decode(ids, True)}
        if plain != ids:
            case["plain"] = plain
        if case["decoded"] == text:
            del case["decoded"]
        cases.append(case)
    chats = [
        {"messages": chat, "ids": reference.chat(chat, False), "prompt": reference.chat(chat, True)} for chat in CHATS
    ]
    fixture.write(
        "tokenizer_tiny.json", __file__, ["tokenizers", "transformers", "gguf"], {"lines": cases, "chats": chats}
    )


if __name__ == "__main__":
    sys.exit(main())
