"""Oracle: transformers' models of every family that logpi reads, with random weights, as Hugging Face folders.

    hf_models.py small           Writes tests/fixtures/models/: one small folder for each family, with hf_reference.safetensors.
    hf_models.py live FOLDER     Writes FOLDER/NAME/ for every variant below, and gpt2-124m, of the true size.
    hf_models.py check FOLDER WRITTEN
        Loads what logpi converted from FOLDER/NAME, the folders WRITTEN/NAME and those files WRITTEN/NAME.gguf that
        transformers reads as they are meant, and compares token ids, and logits with those of FOLDER/NAME, within 1e-5 of
        the largest; exit code 1 if one differs.

hf_reference.safetensors has what hf_logits.py describes: token_ids, logits, loss, prompt_ids, greedy_ids, and grad.NAME,
all computed in float64 from the weights as the folder has them. NAME is logpi's name of the parameter, and the matrix is
[out, in]: the parts of GPT-2's c_attn are apart, and its Conv1D matrices are transposed."""
import argparse
import json
import os
import shutil
import sys
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast, LlamaConfig,
                          LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM)

import fixture

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models")
VOCAB = 512  # of the tokenizer of models/tiny.gguf
LLAMA = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, max_position_embeddings=256, bos_token_id=1, eos_token_id=2)
GPT2 = dict(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32, rope_theta=100.0)  # waves of 6, 20, 63 and 199 tokens
# name: class, configuration, type of the numbers in the file, whether it is cut into shards
SMALL = {
    "llama": (LlamaForCausalLM, LlamaConfig(**LLAMA, tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                                            rope_parameters=LLAMA3), torch.float16, True),
    "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT2), torch.float32, False),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**{k: v for k, v in LLAMA.items() if k != "head_dim"},
                                            tie_word_embeddings=True), torch.bfloat16, False),
}
MORE = {
    "llama-linear": (LlamaForCausalLM, LlamaConfig(**LLAMA, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="linear", factor=4.0, rope_theta=10000.0)), torch.float16, False),
    "llama-wide": (LlamaForCausalLM, LlamaConfig(**LLAMA | dict(
        hidden_size=96, intermediate_size=200, num_attention_heads=6, num_key_value_heads=3, head_dim=16,
        num_hidden_layers=3), tie_word_embeddings=True), torch.bfloat16, True),
    "mistral": (MistralForCausalLM, MistralConfig(**LLAMA, sliding_window=None), torch.float32, False),
    "gpt2-inner": (GPT2LMHeadModel, GPT2Config(**GPT2 | dict(n_embd=48, n_head=4), n_inner=80), torch.bfloat16, False),
}


def randomise(model, spread):
    """Every parameter takes part in the result: norms and biases too."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = "norm" in name or "ln_" in name
            scale = 0.1 if norm or name.endswith("bias") else 0.3 if "wpe" in name else spread
            p.copy_(torch.randn_like(p) * scale + (1.0 if norm and name.endswith("weight") else 0.0))


def own_parameters(model, values):
    """values: by transformers' names -> by logpi's, [out, in]."""
    out = {}
    for name, value in values.items():
        if "c_attn." in name:
            where, kind = name.rsplit(".", 1)
            for part, piece in zip("qkv", value.chunk(3, dim=-1)):
                out[f"{where}.{part}.{kind}"] = piece.T if kind == "weight" else piece
        elif model.config.model_type == "gpt2" and name.endswith(".weight") and ("c_proj" in name or "c_fc" in name):
            out[name] = value.T
        else:
            out[name] = value
    return {k: v.float().contiguous() for k, v in out.items()}


def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0]


@torch.no_grad()
def greedy(model, ids, count):
    """The most probable token, count times; never one that ends a text."""
    ids, margins = list(ids), []
    ends = model.generation_config.eos_token_id
    for _ in range(count):
        z = logits_of(model, ids)[-1]
        z[ends] = -torch.inf
        best = z.topk(2)
        ids.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
    return ids[-count:], min(margins)


def reference(folder, tokens, new_tokens):
    """What the weights in the folder compute, in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(0, model.config.vocab_size, (tokens,), generator=random).tolist()
    z = logits_of(model, ids)
    logprobs = torch.log_softmax(z[:-1], -1).gather(1, torch.tensor(ids)[1:, None])[:, 0]
    loss = -logprobs.mean()
    loss.backward()
    continuation, margin = greedy(model, ids[:8], new_tokens)
    tensors = dict(token_ids=torch.tensor(ids), logits=z.detach().float().contiguous(), loss=loss.detach().float()[None],
                   prompt_ids=torch.tensor(ids[:8]), greedy_ids=torch.tensor(continuation))
    gradients = own_parameters(model, {name: p.grad for name, p in model.named_parameters()})
    save_file(tensors | {"grad." + k: v for k, v in gradients.items()}, os.path.join(folder, "hf_reference.safetensors"))
    print(f"{os.path.basename(folder)}: loss {float(loss.detach()):.4f}, largest logit {float(z.abs().max()):.2f}, "
          f"smallest margin {margin:.2g}")


def make(folder, name, kind, config, dtype, shards, spread=0.15):
    path = os.path.join(folder, name)
    shutil.rmtree(path, ignore_errors=True)
    torch.manual_seed(7)
    model = kind(config)
    randomise(model, spread)
    model.generation_config.eos_token_id = [2, 0]
    model.to(dtype).save_pretrained(path, max_shard_size="30KB" if shards else "5GB")
    AutoTokenizer.from_pretrained(MODELS, gguf_file="tiny.gguf").save_pretrained(path)
    reference(path, 20, 12)


def old_names(folder):
    """gpt2-old: the names and the masks that files of GPT-2 had at first, in the folder of gpt2."""
    path = os.path.join(folder, "gpt2-old")
    shutil.copytree(os.path.join(folder, "gpt2"), path, dirs_exist_ok=True)
    tensors = load_file(os.path.join(path, "model.safetensors"))
    tensors = {k.removeprefix("transformer."): v for k, v in tensors.items()}
    for layer in range(GPT2["n_layer"]):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 128, 128).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})


def whole_gpt2(folder):
    path = os.path.join(folder, "gpt2-124m")
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(path)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(os.path.join(MODELS, "gpt2-tokenizer", name), path)
    reference(path, 64, 16)


# Of GGUF files transformers 5 leaves out biases and scaled positions of Llama, context and inner width of GPT-2.
GGUF_READ = ("qwen2", "llama-wide", "gpt2-124m")


def differs(path, where):
    want = load_file(os.path.join(where, "hf_reference.safetensors"))
    folder, name = os.path.split(path) if path.endswith(".gguf") else (path, None)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    text = "A test of what was written, in 3 words.<|im_end|>\n"
    if tokenizer(text).input_ids != AutoTokenizer.from_pretrained(where)(text).input_ids:
        print(f"{path}: other token ids")
        return True
    with torch.no_grad():
        got = logits_of(model, want["token_ids"].tolist())
    worst = float((got - want["logits"].double()).abs().max() / want["logits"].abs().max())
    print(f"{path}: logits differ by {worst:.2e} of the largest (allowed 1e-5)")
    return not worst <= 1e-5


def check(folder, written):
    paths = [(os.path.join(written, name), os.path.join(folder, name)) for name in SMALL | MORE]
    paths += [(os.path.join(written, name + ".gguf"), os.path.join(folder, name)) for name in GGUF_READ]
    return int(any([differs(*pair) for pair in paths]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("small")
    mode = modes.add_parser("live")
    mode.add_argument("folder")
    mode = modes.add_parser("check")
    mode.add_argument("folder")
    mode.add_argument("written")
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.mode == "check":
        sys.exit(check(args.folder, args.written))
    folder = os.path.join(fixture.FIXTURES, "models") if args.mode == "small" else args.folder
    os.makedirs(folder, exist_ok=True)
    for name, row in (SMALL if args.mode == "small" else SMALL | MORE).items():
        make(folder, name, *row)
    if args.mode == "live":
        old_names(folder)
        whole_gpt2(folder)
    else:
        with open(os.path.join(folder, "versions.json"), "w") as f:
            json.dump(dict(script="tests/oracles/hf_models.py small",
                           versions=fixture.versions("torch", "transformers", "safetensors", "tokenizers")), f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
