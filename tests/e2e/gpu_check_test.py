#!/usr/bin/env python3
"""scripts/gpu-check.sh from end to end where there is no GPU, and the shape of its JSON.

usage: gpu_check_test.py SOURCE_DIR BUILD_DIR
SPDX-License-Identifier: Apache-2.0
"""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE, BUILD = Path(sys.argv.pop(1)), sys.argv.pop(1)
SCRIPT = SOURCE / "scripts" / "gpu-check.sh"


def check(*arguments):
    return subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=500)


class GpuCheck(unittest.TestCase):
    def test_dry_run(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result.json"
            ran = check("--dry-run", "--build", BUILD, "--work", Path(folder) / "work", "--json", path)
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            result = json.loads(path.read_text())
        self.assertEqual((result["check"], result["mode"], result["emulated"]), ("gpu", "dry-run", True))
        self.assertLessEqual({"gpu", "nvcc", "cpu", "cores", "memory_kib", "kernel", "libc", "portable"}, set(result["machine"]))
        stages = {stage["name"]: stage["result"] for stage in result["stages"]}
        self.assertEqual(stages, {"kernels-tests": "passed", "device-tests": "passed", "memcheck": "not run", "racecheck": "not run",
                                  "kernels-bench": "passed", "hardware": "passed", "synth-tiny": "passed", "model-tiny": "passed"})
        for stage in result["stages"]:
            self.assertEqual(bool(stage["why"]), stage["result"] != "passed", stage)
        kernels = result["kernels"]
        self.assertTrue(kernels["emulated"] and kernels["complete"])
        self.assertNotIn("goals", kernels)  # nobody is to read them off an emulation
        self.assertGreater(kernels["copy_gb_per_second"]["median"], 0)
        blocks = kernels["sparse_ffn"]
        self.assertEqual({block["type"] for block in blocks}, {"F16", "BF16", "Q8_0", "Q4_0"})
        self.assertEqual({block["gated"] for block in blocks}, {True, False})
        self.assertEqual({block["tokens"] for block in blocks}, {1, 4, 16})
        row_bytes = {"F16": 128, "BF16": 128, "Q8_0": 68, "Q4_0": 36}  # of 64 columns
        for block in blocks:
            neuron = row_bytes[block["type"]] * (2 if block["gated"] else 1) + row_bytes[block["down_type"]]
            self.assertEqual([row["bytes"] for row in block["rows"]], [32 * neuron, 3 * neuron])  # silent: none, 90 %
        for row in [row for block in blocks for row in block["rows"]] + kernels["mat_mul"] + kernels["attention"]:
            self.assertTrue(0 <= row["largest_error"] <= 1e-4, row)
            self.assertAlmostEqual(row["gb_per_second"], row["bytes"] * 1e-3 / row["micros"]["median"])
        self.assertEqual({row["kind"] for row in kernels["predictors"]}, {"mlp", "sign"})
        [model] = result["models"]
        self.assertEqual((model["name"], model["driver_mib_most"]), ("tiny", None))
        self.assertEqual(list(model["bench"]["plans"]), ["layers:4MiB", "latency:4MiB"])
        self.assertTrue(all(plan["emulated"] for plan in model["bench"]["plans"].values()))
        self.assertEqual(len(result["goals"]), 3)
        self.assertEqual([goal["met"] for goal in result["goals"]], [goal["measured"] >= goal["least"] for goal in result["goals"]])

    def test_a_stage_that_fails_is_recorded_and_the_others_run(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result.json"
            ran = check("--dry-run", "--build", folder, "--json", path)
            self.assertEqual(ran.returncode, 1, ran.stdout + ran.stderr)
            stages = {stage["name"]: stage for stage in json.loads(path.read_text())["stages"]}
        for name in ["kernels-tests", "device-tests", "kernels-bench", "hardware"]:
            self.assertEqual(stages[name]["result"], "failed")
            self.assertIn("No such file", stages[name]["why"])

    def test_refusals(self):
        for arguments, word in [(["--fast"], "--fast"), (["--json"], "--json"), (["--seconds", "soon"], "soon")]:
            refused = check(*arguments)
            self.assertEqual(refused.returncode, 2)
            self.assertIn(word, refused.stderr)


unittest.main()
