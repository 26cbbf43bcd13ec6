#!/usr/bin/env python3
"""Writes a small random model of the Llama architecture with a real byte-level BPE vocabulary, as a GGUF file.

The output depends on the options only: weights come from NumPy's legacy generator, whose stream never changes, and
merges from counts over the text below. Needs numpy and gguf.

    python3 tools/make_tiny_gguf.py models/tiny.gguf
    python3 tools/make_tiny_gguf.py --check models/tiny.gguf    # also loads it with transformers and compares
"""

import argparse
import collections
import os
import re

import gguf
import numpy as np

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = 253  # 3 special tokens, 256 bytes, 253 merges: 512 tokens

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Where the merges come from: some English, some code, a little of other scripts.
TEXT = """
The agent looks at the state, chooses an action, and receives a reward from the environment. A policy gives the
probability of each action, and the gradient of its logarithm says how to make an action more likely. When the reward
is better than expected, the action becomes more likely; when it is worse, less likely. That is the whole idea of the
policy gradient, and the rest is about making it work with less noise: a baseline, an advantage, a value function.

The weather is nice today, and the cat sat on the mat. I think that this is a good movie, and you should see it. What
is the capital of France? The capital of France is Paris. How do you say hello in Spanish? You say hola. Once upon a
time there was a little girl who lived in a small house near the forest with her mother and her grandmother. She was
happy there, because she had many friends among the animals: the rabbit, the deer, the fox, and the old brown bear.

Please write a short story about a friendly robot. Write a function that returns the sum of two numbers. Explain why
the sky is blue. The user asks a question and the assistant answers it. Yes, of course. No, I don't think so. It's a
great day, isn't it? We'll see what they've done, and I'm sure you're right. She'd like that.

def add(a, b):
    return a + b

for i in range(10):
    if i % 2 == 0:
        print("even", i)
    else:
        print("odd", i)

int main(void) {
    for (int i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
    return 0;
}

Das Wetter ist heute schön, und die Katze sitzt auf der Matte. Où est la bibliothèque? Где находится библиотека?
今天天气很好。 私は元気です。 안녕하세요.
"""


def byte_alphabet():
    """GPT-2's printable character for each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelling, other = {}, 0
    for byte in range(256):
        if byte in plain:
            spelling[byte] = chr(byte)
        else:
            spelling[byte] = chr(0x100 + other)
            other += 1
    return spelling


def train_merges(text, count):
    """The most frequent pair first; of equal counts the one that sorts first."""
    spelling = byte_alphabet()
    words = re.findall(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+|\d| ?[^\s\w]+|\s+(?!\S)|\s+", text)
    words = collections.Counter(tuple(spelling[b] for b in word.encode()) for word in words)
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = collections.Counter()
        for word, times in words.items():
            symbols, i = [], 0
            while i < len(word):
                if word[i : i + 2] == best:
                    symbols.append(word[i] + word[i + 1])
                    i += 2
                else:
                    symbols.append(word[i])
                    i += 1
            merged[tuple(symbols)] += times
        words = merged
    return merges


def make_weights(o):
    """Names and layouts of transformers; standard deviations that give logits of about unit size."""
    random = np.random.RandomState(o.seed)
    width, head_dim = o.hidden, o.hidden // o.heads
    weights = {}

    def matrix(name, rows, cols, scale=None):
        scale = cols**-0.5 if scale is None else scale
        weights[name] = (random.standard_normal((rows, cols)) * scale).astype(np.float32)

    def norm(name):
        weights[name] = (1 + 0.1 * random.standard_normal(width)).astype(np.float32)

    matrix("model.embed_tokens.weight", o.vocab, width, width**-0.5)
    for layer in range(o.layers):
        at = f"model.layers.{layer}."
        norm(at + "input_layernorm.weight")
        matrix(at + "self_attn.q_proj.weight", o.heads * head_dim, width)
        matrix(at + "self_attn.k_proj.weight", o.kv_heads * head_dim, width)
        matrix(at + "self_attn.v_proj.weight", o.kv_heads * head_dim, width)
        matrix(at + "self_attn.o_proj.weight", width, o.heads * head_dim)
        norm(at + "post_attention_layernorm.weight")
        matrix(at + "mlp.gate_proj.weight", o.ff, width)
        matrix(at + "mlp.up_proj.weight", o.ff, width)
        matrix(at + "mlp.down_proj.weight", width, o.ff)
    norm("model.norm.weight")
    return weights


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    name = name.removesuffix(".weight")
    if name == "model.embed_tokens":
        return "token_embd.weight"
    if name == "model.norm":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.weight"


def interleave(weight, heads):
    """GGUF's Llama rotates neighbouring rows, transformers rotates halves: rows (half, i) become (i, half)."""
    rows, cols = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def write(o, weights, merges):
    writer = gguf.GGUFWriter(o.path, "llama")
    writer.add_name(f"logpi tiny, seed {o.seed}")
    writer.add_block_count(o.layers)
    writer.add_context_length(o.context)
    writer.add_embedding_length(o.hidden)
    writer.add_feed_forward_length(o.ff)
    writer.add_head_count(o.heads)
    writer.add_head_count_kv(o.kv_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(o.vocab)
    writer.add_rope_dimension_count(o.hidden // o.heads)
    writer.add_file_type({"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32, "Q4_1": 3}[o.type])

    tokens = SPECIAL + list(byte_alphabet().values()) + [a + b for a, b in merges]
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL))
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(False)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{a} {b}" for a, b in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    if o.type not in ("F32", "F16", "BF16"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    kind = gguf.GGMLQuantizationType[o.type]
    for name, weight in weights.items():
        if "q_proj" in name:
            weight = interleave(weight, o.heads)
        if "k_proj" in name:
            weight = interleave(weight, o.kv_heads)
        if weight.ndim == 1:
            writer.add_tensor(gguf_name(name), weight)
        else:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check(o, weights):
    """The file as transformers reads it: every F32 weight the same, finite logits."""
    import torch
    import transformers

    folder, name = os.path.split(os.path.abspath(o.path))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    state = model.state_dict()
    for key, weight in weights.items():
        worst = float(np.abs(state[key].numpy() - weight).max())
        allowed = {"F32": 0, "F16": 2e-3, "BF16": 1e-2, "Q8_0": 1e-2, "Q4_1": 0.1}[o.type]
        assert worst <= allowed, f"{key}: transformers has another weight, off by {worst}"
    logits = model(torch.arange(20)[None]).logits
    assert torch.isfinite(logits).all()
    print(f"transformers {transformers.__version__}: {len(weights)} weights agree, logits std {logits.std():.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--type", default="F32", choices=["F32", "F16", "BF16", "Q8_0", "Q4_1"])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv_heads", type=int, default=2)
    parser.add_argument("--ff", type=int, default=128)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--check", action="store_true", help="load the file with transformers and compare")
    o = parser.parse_args()
    merges = train_merges(TEXT, MERGES)
    o.vocab = len(SPECIAL) + 256 + len(merges)
    weights = make_weights(o)
    write(o, weights, merges)
    print(f"{o.path}: {sum(w.size for w in weights.values())} parameters, {os.path.getsize(o.path)} bytes")
    if o.check:
        check(o, weights)


if __name__ == "__main__":
    main()
