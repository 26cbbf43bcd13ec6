"""Texts for tokenizers: lines of mixed text, one place for each code point, and long runs. All deterministic."""

import random
import unicodedata

# Blocks of scripts: first and last code point.
SCRIPTS = [
    (0x21, 0x7E), (0xA1, 0xFF), (0x100, 0x24F), (0x250, 0x2AF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
    (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7BF), (0x900, 0x97F), (0x980, 0x9FF),
    (0xA00, 0xA7F), (0xB80, 0xBFF), (0xC00, 0xC7F), (0xD00, 0xD7F), (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF), (0x1680, 0x169F),
    (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F),
    (0x20A0, 0x20CF), (0x2100, 0x214F), (0x2150, 0x218F), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2460, 0x24FF),
    (0x2500, 0x257F), (0x2600, 0x26FF), (0x2700, 0x27BF), (0x2800, 0x28FF), (0x2E80, 0x2FDF), (0x3000, 0x303F),
    (0x3040, 0x30FF), (0x3100, 0x312F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xAC00, 0xD7A3),
    (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF),
    (0x10000, 0x100FF), (0x10330, 0x1034F), (0x10400, 0x1044F), (0x12000, 0x123FF), (0x13000, 0x1342F),
    (0x1D400, 0x1D7FF), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF),
    (0x20000, 0x2A6DF), (0xE0020, 0xE007F), (0x10FF00, 0x10FFFF),
]
WORDS = """the of and a to in is you that it he was for on are as with his they I at be this have from or one had by
word but not what all were we when your can said there use an each which she do how their if will up other about out
many then them these so some her would make like him into time has look two more write go see number no way could
people my than first water been call who oil its now find long down day did get come made may part policy gradient
reward advantage don't I'm we'll they've she'd it's you're 'tis CAN'T It'S Übermaß naïve façade 你好世界 こんにちは
привет мир שלום مرحبا नमस्ते สวัสดี 안녕하세요""".split()
CODE = """def f(x): return x ** 2|for (int i = 0; i < n; ++i) { a[i] += b[i] * 3.14e-7f; }|#include <stdio.h>|
if __name__ == "__main__":|    print(f"{x!r:>10}")|SELECT * FROM t WHERE id = 42 AND name LIKE '%x%';|
<div class="a b" id='c'>&nbsp;</div>|{"key": [1, 2.50, -3e8, null, true]}|fn main() -> Result<(), Box<dyn Error>> {|
\\begin{equation} \\frac{a}{b} \\end{equation}|0xDEADBEEF 0b1010 1_000_000|x = y if z else (w := 5)|git commit -m 'x'|
std::vector<std::pair<int, int>>|$HOME/.config/*~|http://example.com/?q=a&b=%20#frag|user@example.org|C:\\dir\\file.txt""".replace("\n", "").split("|")
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷", "❤️", "1️⃣", "🤖", "☺", "⚡️", "👩🏿‍🚀", "🫠", "🐻‍❄️"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\u180e", "\u0085", "\x1c",
          "\u2028", "\u202f", "\x0b", "\x0c", "\ufeff", " \n ", "\t\t\t", "\u1680"]
NUMBERS = ["0", "42", "1234567890", "3.14159", "1,000,000", "½", "²³", "Ⅷ", "٣٤٥", "१२३", "１２３", "①", "零〇一", "𝟙𝟚𝟛",
           "1e10", "0x1F", "12:34:56", "2024-01-31", "𐄇", "㊿", "๓", "-7", "50%"]


def word(r, special):
    kind = r.random()
    if kind < 0.40:
        return r.choice(WORDS)
    if kind < 0.50:
        return r.choice(CODE)
    if kind < 0.58:
        return r.choice(EMOJI) * r.choice([1, 1, 1, 2, 5])
    if kind < 0.68:
        return r.choice(NUMBERS)
    if kind < 0.84:
        low, high = r.choice(SCRIPTS)
        return "".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 8)))
    if kind < 0.88:
        return "".join(chr(r.randint(0, 0x20)) if r.random() < 0.5 else chr(r.randint(0x7F, 0xA0)) for _ in range(3))
    if kind < 0.92:
        return r.choice("abcXYZ09 !?.-_=\n'") * r.randint(1, 40)
    if kind < 0.95:
        return "".join(c + chr(r.randint(0x300, 0x36F)) * r.randint(0, 3) for c in r.choice(WORDS))
    if kind < 0.97:
        return unicodedata.normalize(r.choice(["NFD", "NFKD"]), r.choice(WORDS)) + r.choice(["'s", "’s", "'LL", "'re"])
    if kind < 0.98:
        return r.choice(special)
    code = r.randint(0, 0x10FFFF - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


def lines(count, special, seed=1):
    """Deterministic lines of mixed text."""
    r = random.Random(seed)
    special = special + ["<|im_end", "<|endoftext|>x", "<|", "|>", "<|im_start|><|im_end|>"]
    result = []
    for _ in range(count):
        text = ""
        for _ in range(r.randint(1, 14)):
            text += word(r, special)
            if r.random() < 0.75:
                text += " " if r.random() < 0.7 else r.choice(SPACES) * r.choice([1, 1, 2, 7])
        result.append(text)
    return result


def token_lines(count, special, seed=3):
    """Lines of added tokens, parts of them, and white space, as dense as it gets."""
    r = random.Random(seed)
    rest = SPACES + ["   ", "x", "ab", "'s", "7", "\u0301", "e\u0301", "."]
    return [
        "".join(
            r.choice(special) if r.random() < 0.5 else r.choice(rest) if r.random() < 0.8 else r.choice(special)[r.randint(0, 3) :]
            for _ in range(r.randint(1, 12))
        )
        for _ in range(count)
    ]


POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def alone():
    """Each code point but the surrogates, alone."""
    return [chr(c) for c in POINTS]


def embedded():
    """Each between letters, twice, beside signs, digits, blanks, line feeds, behind an apostrophe."""
    return [f"a{chr(c)}b {chr(c)}{chr(c)} !{chr(c)}1{chr(c)} {chr(c)} \t{chr(c)}  x'{chr(c)}e\n{chr(c)} \n" for c in POINTS]


LONG = 1 << 20
UNITS = ["Z", " ", "\u0301", "7", "\n", "\u0323\u0301", "a ", "'S"]


def runs():
    """A mebibyte of one unit, and one with something else at its end."""
    return [unit * (LONG // len(unit.encode())) + end for unit in UNITS for end in ("", "x")]
