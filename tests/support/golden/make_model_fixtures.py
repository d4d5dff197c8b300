#!/usr/bin/env python3
"""Writes model files with the formats' own Python packages, and what a reader must find in them.

usage: make_model_fixtures.py FOLDER      needs numpy, gguf and safetensors; their versions go into the JSON
SPDX-License-Identifier: Apache-2.0
"""
import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import quants
from safetensors.numpy import save_file

QUANTISED = ["BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def describe(name, kind, shape, data):
    return {"name": name, "type": kind, "shape": list(shape), "sha256": hashlib.sha256(data).hexdigest()}


def write_gguf(path, values):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("fixture.uint8", 250)
    writer.add_int8("fixture.int8", -5)
    writer.add_uint16("fixture.uint16", 65000)
    writer.add_int16("fixture.int16", -30000)
    writer.add_uint32("fixture.uint32", 4000000000)
    writer.add_int32("fixture.int32", -2000000000)
    writer.add_uint64("fixture.uint64", 2**63 + 1)
    writer.add_int64("fixture.int64", -(2**62))
    writer.add_float32("fixture.float32", 0.15625)
    writer.add_float64("fixture.float64", 1e-300)
    writer.add_bool("fixture.bool", True)
    writer.add_string("fixture.string", "naïve ☃")
    writer.add_array("fixture.strings", ["", "a", "▁b"])
    writer.add_array("fixture.ints", [1, -2, 3])
    writer.add_array("fixture.floats", [0.5, -1.25])
    tensors = []
    for name, array in (("f32", values), ("f16", values.astype(np.float16)), ("vector", values[0]), ("cube", values.reshape(2, 2, 64))):
        writer.add_tensor(name, array)
        tensors.append(describe(name, "F16" if array.dtype == np.float16 else "F32", array.shape, array.tobytes()))
    for kind in QUANTISED:
        data = quants.quantize(values, gguf.GGMLQuantizationType[kind])
        writer.add_tensor(kind.lower(), data, raw_dtype=gguf.GGMLQuantizationType[kind])
        tensors.append(describe(kind.lower(), kind, values.shape, data.tobytes()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def write_safetensors(path, values):
    arrays = {"f32": values, "f16": values.astype(np.float16), "vector": values[0], "positions": np.arange(5, dtype=np.int64)}
    save_file(arrays, path, metadata={"format": "np", "note": "quoted \" and ☃"})
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64"}
    return [describe(name, kinds[array.dtype.name], array.shape, array.tobytes()) for name, array in arrays.items()]


def main():
    folder = Path(sys.argv[1])
    values = np.random.default_rng(7).standard_normal((4, 64)).astype(np.float32)
    expected = {
        "made_with": {name: importlib.metadata.version(name) for name in ("numpy", "gguf", "safetensors")},
        "gguf": write_gguf(folder / "python.gguf", values),
        "safetensors": write_safetensors(folder / "python.safetensors", values),
        "vector": [float(value) for value in values[0]],
        "uint64": 2**63 + 1,
    }
    (folder / "model_fixtures.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
