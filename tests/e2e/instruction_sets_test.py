#!/usr/bin/env python3
"""The demo model on every instruction set of the machine, which may be an emulated one.

usage: instruction_sets_test.py SOURCE_DIR EXPECTED_SET COMMAND...   COMMAND: the program, behind its emulator if it needs one
SPDX-License-Identifier: Apache-2.0
"""
import json
import subprocess
import sys
import unittest
from pathlib import Path

SOURCE, EXPECTED, *COMMAND = sys.argv[1:]
DEMO = Path(SOURCE) / "models" / "demo"
CASES = json.loads((DEMO / "golden.json").read_text())["cases"]


def run(case, isa, **options):
    return subprocess.run([*COMMAND, "run", DEMO, "--prompt", case["prompt"], "--max-tokens", "48", "--isa", isa, "--json"],
                          capture_output=True, text=True, timeout=500, **options)


class InstructionSets(unittest.TestCase):
    def test_every_set_gives_the_golden_tokens(self):
        refused = run(CASES[0], "mmx")
        self.assertEqual((refused.returncode, refused.stdout, refused.stderr.count("\n")), (2, "", 1), refused)
        self.assertIn("--isa: instruction set 'mmx' is not available here; available are ", refused.stderr)
        available = refused.stderr.strip().rpartition("available are ")[2].split(", ")
        self.assertIn(EXPECTED, available)
        self.assertIn("scalar", available)
        for isa in available:
            for case in CASES[:2]:
                answer = run(case, isa, check=True)
                self.assertIn(f" {isa} kernels", answer.stderr)
                self.assertEqual(json.loads(answer.stdout)["token_ids"], case["greedy_ids"], (isa, case["prompt"]))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
