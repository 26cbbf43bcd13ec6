"""Writes fixtures: compact JSON whose numbers survive the round trip, with the versions that made them.

float32 numbers are written with 9 significant digits, float64 with 17: both give back the same bits. NaN and the
infinities become null, which JSON has no numbers for."""
import importlib.metadata
import json
import math
import os
import platform

import numpy as np

FIXTURES = os.environ.get("LOGPI_FIXTURES") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")


def versions(*packages):
    """Versions of Python and of the packages."""
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages}


def _number(x, digits):
    """Real numbers keep a point or an exponent, so that a reader sees no integer where a real stands."""
    if not math.isfinite(x):
        return "null"
    text = f"{x:.{digits}g}"
    return text if "." in text or "e" in text else text + ".0"


def encode(value):
    """JSON text of nested dicts, lists, strings, numbers, NumPy arrays and torch tensors. A Python float counts as
    float64; arrays and tensors keep the precision of their type."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        if value.ndim:
            return "[" + ",".join(encode(v) for v in value) + "]"
        if value.dtype == np.float32:
            return _number(float(value), 9)
        value = value.item()
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(str(k)) + ":" + encode(v) for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(encode(v) for v in value) + "]"
    if isinstance(value, float):
        return _number(value, 17)
    return json.dumps(value)


def write(name, script, packages, fields):
    """Writes tests/fixtures/<name>: what wrote it, then one line for each field, for readable diffs."""
    head = {"script": "tests/oracles/" + os.path.basename(script), "versions": versions(*packages)}
    path = os.path.normpath(os.path.join(FIXTURES, name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    lines = [json.dumps(k) + ":" + _lines(v) for k, v in (head | fields).items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    json.loads(text)
    with open(path, "w") as f:
        f.write(text)
    print(f"{os.path.relpath(path)}: {len(text)} bytes")


def _lines(value):
    """A list of cases gets one line a case."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(encode(v) for v in value) + "\n]"
    return encode(value)


def sample_of(name, values, count=64):
    """A fixed pseudo-random subset of a tensor with its sums, enough to tell any other tensor from it:
    index: flat indices, row-major, ascending; value: the entries there; sum, sum_squares: of all, in float64."""
    import zlib

    flat = np.asarray(values).reshape(-1)
    n = min(count, flat.size)
    index = np.sort(np.random.RandomState(zlib.crc32(name.encode())).choice(flat.size, n, replace=False))
    wide = flat.astype(np.float64)
    return {"shape": list(np.asarray(values).shape), "index": index, "value": flat[index],
            "sum": float(wide.sum()), "sum_squares": float((wide * wide).sum())}
