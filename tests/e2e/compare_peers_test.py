#!/usr/bin/env python3
"""scripts/compare-peers.sh beside a puppet llama-bench: what it asks of it, medians and ratios, refusals.

usage: compare_peers_test.py SOURCE_FOLDER
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(sys.argv[1])
# Notes its arguments; prefill at 100, 110, 120 tokens a second and decoding at 10, 11, 12.
PEER = """#!/usr/bin/env python3
import json, sys
arguments = sys.argv[1:]
if arguments == ["--help"]:
    print("DEPTH")
    sys.exit()
open("LOG", "a").write("peer " + " ".join(arguments) + "\\n")
base = 10 if arguments[arguments.index("-p") + 1] == "0" else 100
print(json.dumps([{"build_commit": "abc", "build_number": 7, "samples_ts": [base, base + base // 10, base + base // 5]}]))
"""
OURS = """#!/usr/bin/env python3
import json, sys
open("LOG", "a").write("ours " + " ".join(sys.argv[1:]) + "\\n")
print(json.dumps({"hardware": {"cpu": "Puppet", "read_gb_per_second": 40}, "build": {}, "model": {"file": "m.gguf", "type": "Q4_0"},
                  "modes": {"dense": {"prefill_tokens_per_second": {"samples": [220]}, "decode_tokens_per_second": {"samples": [5.5]}}}}))
"""


class ComparePeers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = Path(self.folder.name)
        (self.path / "m.gguf").write_bytes(b"GGUF")

    def program(self, name, text, depth="--n-depth"):
        path = self.path / name
        path.write_text(text.replace("LOG", str(self.path / "log")).replace("DEPTH", depth))
        path.chmod(0o755)
        return str(path)

    def compare(self, *arguments, **environment):
        return subprocess.run([SOURCE / "scripts/compare-peers.sh", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "LLAMA_BENCH": "", "THERMOCLINE": "", **environment})

    def puppets(self, **options):
        return {"LLAMA_BENCH": self.program("peer", PEER, **options), "THERMOCLINE": self.program("ours", OURS)}

    def test_medians_and_ratio(self):
        out = self.path / "result.json"
        result = self.compare(self.path / "m.gguf", "--threads", 2, "--prompt-tokens", 32, "--decode-tokens", 8, "--rounds", 2,
                              "--json", out, **self.puppets())
        self.assertEqual(result.returncode, 0, result.stderr)
        answer = json.loads(out.read_text())
        self.assertEqual(answer["tokens_per_second"]["llama_bench"]["prefill"]["median"], 110)
        self.assertEqual(len(answer["tokens_per_second"]["llama_bench"]["decode"]["samples"]), 6)
        self.assertEqual(answer["tokens_per_second"]["thermocline"]["decode"]["samples"], [5.5, 5.5])
        self.assertAlmostEqual(answer["ratio"]["prefill"], 2)
        self.assertAlmostEqual(answer["ratio"]["decode"], 0.5)
        self.assertRegex(result.stdout, r"prefill of 32 +220\.0 .* 2\.000")
        self.assertRegex(result.stdout, r"decode of 8 +5\.5 .* 0\.500")
        calls = (self.path / "log").read_text().splitlines()
        self.assertEqual([call[:4] for call in calls], ["peer", "peer", "ours", "ours", "peer", "peer"])  # the order turns
        self.assertIn("-t 2 ", calls[0])
        self.assertTrue(calls[0].endswith("-p 32 -n 0"), calls[0])
        self.assertTrue(calls[1].endswith("-p 0 -n 8 -d 32"), calls[1])
        for words in ("--modes dense", "--device none", "--threads 2", "--context 40", "--prompt-tokens 32", "--decode-tokens 8"):
            self.assertIn(words, calls[2])

    def test_a_peer_without_depth_is_told(self):
        result = self.compare(self.path / "m.gguf", "--rounds", 1, **self.puppets(depth=""))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("decodes from an empty context", result.stdout)
        self.assertNotIn(" -d ", (self.path / "log").read_text())

    def check_refusal(self, result, code, *words):
        self.assertEqual(result.returncode, code, result)
        for word in words:
            self.assertIn(word, result.stderr.splitlines()[-1])

    def test_refusals(self):
        self.check_refusal(self.compare(self.path / "m.gguf", LLAMA_BENCH="/nonexistent/llama-bench"), 2, "/nonexistent/llama-bench", "build llama.cpp")
        puppets = self.puppets()
        self.check_refusal(self.compare(self.path / "m.gguf", **{**puppets, "THERMOCLINE": "/nonexistent/ours"}), 2, "/nonexistent/ours")
        self.check_refusal(self.compare(self.path / "none.gguf", **puppets), 2, "none.gguf", "no such file")
        self.check_refusal(self.compare(self.path / "m.gguf", "--rounds", 0, **puppets), 2, "--rounds", "1")
        broken = self.program("broken", "#!/bin/sh\n[ $# -gt 1 ] || exit 0\necho out of memory >&2\nexit 3\n")
        self.check_refusal(self.compare(self.path / "m.gguf", **{**puppets, "LLAMA_BENCH": broken}), 1, "exit code 3", "out of memory")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
