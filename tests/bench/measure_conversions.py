#!/usr/bin/env python3
"""Size, error of the weights and perplexity of a model in every type that `thermocline convert` writes.

usage: measure_conversions.py THERMOCLINE MODEL TEXT > tests/bench/results/conversion-NAME.json
The first row is the model as it is. Perplexities are computed with activations in F32 (--no-pack), so that they tell of the weights alone.
SPDX-License-Identifier: Apache-2.0
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM, MODEL, TEXT = sys.argv[1:4]
TYPES = ["f16", "bf16", "q8_0", "q6_k", "q4_k", "q4_0"]


def run(*arguments):
    result = subprocess.run([PROGRAM, *map(str, arguments), "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout)


def perplexity(model):
    return run("eval", model, "--text", TEXT, "--no-pack", "--mode", "dense")["perplexity"]


def main():
    source = run("inspect", MODEL)
    doctor = run("doctor")
    rows = [{"type": "as it is", "types": source["types"], "bytes": source["bytes"], "perplexity": perplexity(MODEL)}]
    with tempfile.TemporaryDirectory() as folder:
        for kind in TYPES:
            out = Path(folder) / f"{kind}.gguf"
            made = run("convert", MODEL, out, "--type", kind)
            rows.append({"type": made["type"], "types": made["types"], "bytes": made["bytes"], "bits_per_weight": made["bits_per_weight"],
                         "perplexity": perplexity(out)})
            out.unlink()
    json.dump({"made_by": "tests/bench/measure_conversions.py", "hardware": {"cpu": doctor["cpu"], "isa": doctor["isa"]},
               "model": {"file": Path(MODEL).name, "sha256": source["sha256"]},
               "text": {"file": Path(TEXT).name, "bytes": Path(TEXT).stat().st_size}, "conversions": rows}, sys.stdout, indent=1)
    print()


main()
