#!/usr/bin/env python3
"""Writes quantize.json: rows of floats and what the Python package gguf makes of them.

usage: make_quantize_golden.py > quantize.json
Needs the PyPI packages gguf and numpy; their versions are recorded in the fixture. Blocks of 32 are normal, of
one sign, skewed, all zero, and so small that a scale is subnormal.
SPDX-License-Identifier: Apache-2.0
"""
import importlib.metadata
import json
import sys

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize


def main():
    rng = np.random.default_rng(20240301)
    blocks = [rng.standard_normal(32), np.abs(rng.standard_normal(32)), -np.abs(rng.standard_normal(32)),
              rng.standard_normal(32) ** 3, np.zeros(32), rng.standard_normal(32) * 1e-5, rng.uniform(-1, 1, 32)]
    row = np.concatenate(blocks).astype(np.float32)
    types = {name: np.asarray(quantize(row, GGMLQuantizationType[name])).tobytes().hex()
             for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0")}
    made_by = {package: importlib.metadata.version(package) for package in ("gguf", "numpy")}
    json.dump({"made_by": "tests/support/golden/make_quantize_golden.py", "packages": made_by,
               "row": row.astype("<f4").tobytes().hex(), "types": types}, sys.stdout, indent=1)
    print()


main()
