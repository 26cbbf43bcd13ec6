#!/usr/bin/env python3
"""Writes tests/fixtures/gguf_dequant.json: blocks of every tensor type that is read, and the fp32 numbers that the
gguf package's dequantize makes of them. Both as hexadecimal bytes, little-endian; compared bit for bit.

The blocks are random bytes, so that scales take every kind of half: subnormal, infinite, NaN."""

import gguf
import numpy as np

import fixture

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
SCALES = {"Q4_K": (0, 4), "Q5_K": (0, 4), "Q6_K": (208, 210)}  # bytes of the halves that the package cannot quantise to


def main():
    random = np.random.RandomState(5)
    cases = []
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = max(24 * 32 // elements, 6)
        raw = random.randint(0, 256, (blocks, size)).astype(np.uint8)
        # Half of them with scales of usual size, as a quantiser writes them.
        if name in SCALES:
            low, high = SCALES[name]
            halves = random.uniform(1e-4, 1e-1, (blocks, (high - low) // 2)).astype(np.float16)
            raw[::2, low:high] = halves.view(np.uint8)[::2]
        else:
            usual = gguf.quants.quantize(random.standard_normal((blocks, elements)).astype(np.float32), kind)
            raw[::2] = usual.view(np.uint8).reshape(blocks, size)[::2]
        data = raw.view(np.float32) if name == "F32" else raw.view(np.float16) if name == "F16" else raw
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(data, kind).astype(np.float32)
        cases.append({"type": name, "blocks": raw.tobytes().hex(), "values": values.tobytes().hex()})
    fixture.write("gguf_dequant.json", __file__, ["gguf", "numpy"], {"cases": cases})


if __name__ == "__main__":
    main()
