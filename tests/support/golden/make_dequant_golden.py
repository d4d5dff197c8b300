#!/usr/bin/env python3
"""Writes dequant.json: blocks of every element type and what the Python package gguf expands them to.

usage: make_dequant_golden.py > dequant.json
Needs the PyPI packages gguf and numpy; their versions are recorded in the fixture. Blocks are random with sane
scales, plus special ones: zero and negative scales, a subnormal scale, all quant bits clear, all set.
SPDX-License-Identifier: Apache-2.0
"""
import importlib.metadata
import json
import sys

import numpy as np
from gguf import GGMLQuantizationType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

# Byte offsets of a block's binary16 scale and, where it has one, minimum.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
SPECIAL = [("random", None, None), ("random again", None, None), ("zero scale", 0.0, None), ("negative scale", -0.25, None),
           ("subnormal scale", 3e-6, None), ("bits clear", 0.5, 0x00), ("bits set", 0.5, 0xFF)]


def quantized_blocks(name, rng):
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    blocks = []
    for _, scale, fill in SPECIAL:
        block = rng.integers(0, 256, size, dtype=np.uint8) if fill is None else np.full(size, fill, np.uint8)
        for offset in HALVES[name]:
            value = np.float16(rng.uniform(-1, 1) / 32 if scale is None else scale)
            block[offset:offset + 2] = np.frombuffer(value.tobytes(), np.uint8)
        blocks.append(block)
    return np.concatenate(blocks)


def float_elements(name, rng):
    values = np.concatenate([rng.standard_normal(37).astype(np.float32),
                             np.array([0, -0.0, 1, -2, 65504, 6e-8, -3e-5, np.inf, -np.inf], np.float32)])
    if name == "F32":
        return values.view(np.uint8)
    if name == "F16":
        return values.astype(np.float16).view(np.uint8)
    return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)  # BF16, truncated


def main():
    rng = np.random.default_rng(20240229)
    types = {}
    for name in ["F32", "F16", "BF16", *HALVES]:
        data = quantized_blocks(name, rng) if name in HALVES else float_elements(name, rng)
        expanded = np.asarray(dequantize(data, GGMLQuantizationType[name]), np.float32).ravel()
        types[name] = {"blocks": data.tobytes().hex(), "expected": expanded.astype("<f4").tobytes().hex()}
    made_by = {package: importlib.metadata.version(package) for package in ("gguf", "numpy")}
    json.dump({"made_by": "tests/support/golden/make_dequant_golden.py", "packages": made_by, "types": types},
              sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
