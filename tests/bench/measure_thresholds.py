#!/usr/bin/env python3
"""What thresholds cost a model: perplexity, KL divergence and agreement beside the dense model, by method and target.

usage: measure_thresholds.py THERMOCLINE MODEL TEXT [--context 1024] [--json FILE]
The first 204800 bytes of TEXT give the thresholds, 24000 bytes from 60000 before its end judge them. Takes some minutes; the
figures do not depend on the machine's speed.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

CASES = [("teal", 0.25), ("teal", 0.4), ("teal", 0.5), ("uniform", 0.4), ("cats", 0.5)]


def run(*command):
    result = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"measure_thresholds.py: {command[1]}: {result.stderr.strip()}")
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder, text = Path(folder), asked.text.read_bytes()
        (folder / "first.txt").write_bytes(text[:204800])
        (folder / "second.txt").write_bytes(text[-60000:-36000])
        judge = [asked.program, "eval", asked.model, "--text", folder / "second.txt", "--context", asked.context, "--device", "none", "--json"]
        dense = run(*judge, "--mode", "dense")
        rows = []
        for method, target in CASES:
            profile = folder / f"{method}-{target}"
            run(asked.program, "profile", asked.model, "--corpus", folder / "first.txt", "--max-tokens", 512, "--thresholds", method,
                "--threshold-sparsity", target, "--out", profile, "--device", "none", "--json")
            found = json.loads((profile / "thresholds.json").read_text())
            judged = run(*judge, "--mode", "threshold", "--profile", profile)
            rows.append({"method": method, "target": target, "skipped": statistics.fmean(layer["skipped"] for layer in found["layers"]),
                         "perplexity": judged["perplexity"],
                         "over_dense": judged["perplexity"] / dense["perplexity"] - 1, "kl_mean": judged["kl_mean"], "kl_p99": judged["kl_p99"],
                         "top1_agreement": judged["top1_agreement"]})
            print("{method} {target:.0%}: perplexity {perplexity:.2f}, {over_dense:+.1%}".format(**rows[-1]), flush=True)
    result = {"what": f"tests/bench/measure_thresholds.py THERMOCLINE {asked.model.name} {asked.text.name} --context {asked.context}",
              "hardware": "any: the figures do not depend on the number of threads nor on speed", "tokens": dense["tokens"],
              "dense_perplexity": dense["perplexity"], "thresholds": rows}
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
