#!/usr/bin/env python3
"""thermocline convert: files that answer as their source does, after a kill too, and its refusals.

usage: convert_test.py THERMOCLINE SOURCE_DIR
SPDX-License-Identifier: Apache-2.0
"""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM, SOURCE = sys.argv[1], Path(sys.argv[2])
DEMO = SOURCE / "models" / "demo"
GOLDEN = json.loads((DEMO / "golden.json").read_text())


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, stdin=subprocess.DEVNULL, timeout=120)


def run_json(*arguments):
    """The one JSON object on standard output; nothing else may be there."""
    result = run(*arguments, "--json")
    assert result.returncode == 0, result
    assert result.stdout.count(b"\n") == 1 and result.stdout.endswith(b"\n"), result.stdout
    return json.loads(result.stdout)


class Convert(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def test_half_precision_gives_the_golden_tokens(self):
        out = self.folder / "demo.gguf"
        made = run_json("convert", DEMO, out, "--type", "f16")
        self.assertEqual((made["architecture"], made["type"], made["tensors"], made["resumed_tensors"]), ("llama", "F16", 56, 0))
        self.assertEqual(made["bytes"], out.stat().st_size)
        self.assertEqual({name: kind["relative_error"] for name, kind in made["types"].items()}, {"F16": 0, "F32": 0})
        self.assertTrue(any("llama.cpp would compute silu where this model has relu" in note for note in made["notes"]))
        seen = run_json("inspect", out)
        self.assertEqual((seen["activation"], seen["tokenizer"], seen["tied_head"]), ("relu", "sentencepiece-bpe", True))
        for case in GOLDEN["cases"][:3]:
            answer = run_json("run", out, "--prompt", case["prompt"], "--max-tokens", 24)
            self.assertEqual(answer["token_ids"], case["greedy_ids"][:24], case["prompt"])
            self.assertEqual(answer["prompt_tokens"], len(case["prompt_ids"]))

    def test_four_bits_cost_little_perplexity(self):
        out, text = self.folder / "demo.gguf", self.folder / "text"
        text.write_bytes((DEMO / "valid.txt").read_bytes()[:3000])
        made = run_json("convert", DEMO, out, "--type", "q4_k")
        self.assertEqual(set(made["types"]), {"F32", "Q4_K", "Q6_K"})
        self.assertLess(made["bits_per_weight"], 4.9)
        self.assertLess(made["types"]["Q4_K"]["relative_error"], 0.08)
        source, quantised = (run_json("eval", model, "--text", text)["perplexity"] for model in (DEMO, out))
        self.assertLess(abs(quantised / source - 1), 0.05)
        # People get the same in a few lines.
        again = run("convert", out, self.folder / "again.gguf", "--type", "q8_0")
        self.assertEqual(again.returncode, 0, again)
        self.assertIn(b"verified", again.stdout)
        self.assertIn(b"[the source holds Q4_K: what that lost stays lost]", again.stderr)

    def test_a_killed_conversion_is_gone_on_with(self):
        whole, part = self.folder / "whole.gguf", self.folder / "part.gguf"
        run_json("convert", DEMO, whole, "--type", "q4_0")
        process = subprocess.Popen([PROGRAM, "convert", str(DEMO), str(part), "--type", "q4_0"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        state = Path(str(part) + ".partial.json")
        while process.poll() is None and not state.exists():
            pass
        process.kill()
        process.wait()
        if not part.exists():  # it may have been quicker
            run_json("convert", DEMO, part, "--type", "q4_0")
        self.assertEqual(part.read_bytes(), whole.read_bytes())
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["part.gguf", "whole.gguf"])

    def test_refusals(self):
        out = self.folder / "out.gguf"

        def refused(code, words, *arguments):
            result = run("convert", *arguments)
            self.assertEqual(result.returncode, code, result)
            lines = result.stderr.decode().splitlines()
            self.assertEqual(len(lines), 1, lines)
            for word in words:
                self.assertIn(word, lines[0])
            self.assertEqual(result.stdout, b"")

        refused(2, ["OUT"], DEMO)
        refused(2, ["--type", "'q5_k'", "q4_k"], DEMO, out, "--type", "q5_k")
        refused(2, ["--activation", "tanh"], DEMO, out, "--activation", "tanh")
        refused(2, ["--threads", "-1"], DEMO, out, "--threads", "-1")
        refused(1, ["absent", "no such file"], self.folder / "absent", out)
        refused(1, ["config.json is missing"], self.folder, out)
        refused(1, ["No such file"], DEMO, self.folder / "absent" / "out.gguf")
        refused(1, ["neither tokenizer.json nor tokenizer.model"], SOURCE / "tests/support/golden/architectures/llama", out)
        out.write_bytes(b"mine")
        refused(1, ["is there already", "--force"], DEMO, out)
        self.assertEqual(out.read_bytes(), b"mine")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
