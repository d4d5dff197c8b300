#!/usr/bin/env python3
"""thermocline profile and plan on the demo model: contract, determinism, resuming, merging, predictors, refusals that overwrite nothing; and from
profile to run on tiny models of other architectures.

usage: profile_test.py THERMOCLINE SOURCE_DIR
SPDX-License-Identifier: Apache-2.0
"""
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM, SOURCE = sys.argv[1], Path(sys.argv[2])
DEMO = str(SOURCE / "models" / "demo")
VALID = SOURCE / "models" / "demo" / "valid.txt"
# A made-up machine whose accelerator reads twice as fast as its CPU, so that plans are the same on every machine.
HARDWARE = SOURCE / "tests" / "e2e" / "split_hardware.json"
GOLDEN = json.loads((SOURCE / "models" / "demo" / "golden.json").read_text())


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, stdin=subprocess.DEVNULL, timeout=300)


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.returncode == 0, result
    assert result.stdout.count(b"\n") == 1, result.stdout
    return json.loads(result.stdout)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


class ProfileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = Path(tempfile.mkdtemp())
        cls.corpus = cls.root / "corpus.txt"
        cls.corpus.write_bytes(VALID.read_bytes()[:60000])
        cls.first = cls.root / "first"
        cls.answer = run_json("profile", DEMO, "--corpus", cls.corpus, "--gpu-memory", "10MiB", "--device", "host",
                              "--hardware", HARDWARE, "--predictor", "none", "--out", cls.first)
        cls.hardware = cls.first / "hardware.json"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    def profile(self, out, *more, corpus=None):
        return run("profile", DEMO, "--corpus", corpus or self.corpus, "--gpu-memory", "10MiB", "--device", "host", "--hardware",
                   self.hardware, "--predictor", "none", "--out", self.root / out, *more)

    def test_contract(self):
        answer, plan = self.answer, self.answer["plan"]
        self.assertEqual({p.name for p in self.first.iterdir()}, {"profile.pb", "hardware.json", "plan.pb", "report.html"})
        self.assertEqual(len(answer["layers"]), 6)
        for layer, golden in zip(answer["layers"], GOLDEN["sparsity"]):
            self.assertLessEqual({"sparsity", "share_for_80", "gini", "skewness", "predictor"}, set(layer))
            self.assertLess(abs(layer["sparsity"] - golden), 0.02)  # another stretch of the same text
        self.assertLessEqual({"budget_bytes", "gpu_bytes", "hot_neurons", "held_out_coverage", "predicted_tokens_per_second",
                              "binding", "gap"}, set(plan))
        self.assertEqual(plan["budget_bytes"], 10 << 20)
        self.assertLessEqual(plan["gpu_bytes"], plan["budget_bytes"])
        self.assertGreater(plan["hot_neurons"], 0)
        for other in plan["alternatives"]:
            self.assertGreaterEqual(plan["predicted_tokens_per_second"], other["predicted_tokens_per_second"] * (1 - 1e-9))
        self.assertGreater(answer["held_out_tokens"], 0)

    def test_measures_this_machine(self):
        answer = run_json("profile", DEMO, "--corpus", self.corpus, "--max-tokens", 600, "--gpu-memory", "10MiB", "--device", "host", "--predictor", "none",
                          "--out", self.root / "measured")
        measured = json.loads((self.root / "measured" / "hardware.json").read_text())
        self.assertNotEqual(measured["cpu"], json.loads(HARDWARE.read_text())["cpu"])
        self.assertGreater(min(measured["cpu_read"][-1]["read_gb_per_second_samples"]), 0)
        self.assertTrue(measured["accelerators"][0]["emulated"])
        self.assertLessEqual(answer["plan"]["gpu_bytes"], 10 << 20)

    def test_twice_the_same_files(self):
        for out in ("a", "b"):
            self.assertEqual(self.profile(out).returncode, 0)
        self.assertEqual(digests(self.root / "a"), digests(self.root / "b"))
        self.assertEqual(digests(self.root / "a")["profile.pb"], digests(self.first)["profile.pb"])

    def test_resuming_counts_what_one_run_counts(self):
        self.assertEqual(self.profile("stopped", "--max-tokens", 3000).returncode, 0)
        self.assertNotEqual(digests(self.root / "stopped")["profile.pb"], digests(self.first)["profile.pb"])
        result = self.profile("stopped", "--resume")
        self.assertEqual(result.returncode, 0, result)
        self.assertEqual(digests(self.root / "stopped")["profile.pb"], digests(self.first)["profile.pb"])

    def test_merging_adds_up(self):
        merged = run_json("profile", DEMO, "--merge", self.first, "--merge", self.first, "--gpu-memory", "10MiB", "--device", "host",
                          "--hardware", self.hardware, "--out", self.root / "merged")
        self.assertEqual(merged["tokens"], 2 * self.answer["tokens"])
        for ours, theirs in zip(merged["layers"], self.answer["layers"]):
            self.assertAlmostEqual(ours["sparsity"], theirs["sparsity"], places=12)

    def test_jsonl(self):
        lines = self.root / "corpus.jsonl"
        lines.write_text("".join(json.dumps({"text": part}) + "\n" for part in VALID.read_text()[:20000].split("\n\n") if part))
        self.assertEqual(self.profile("jsonl", corpus=lines).returncode, 0)

    def test_plan_again(self):
        plan = run_json("plan", self.first, "--gpu-memory", "9MiB", "--device", "host")
        self.assertEqual(plan["budget_bytes"], 9 << 20)
        self.assertLessEqual(plan["gpu_bytes"], 9 << 20)
        self.assertLessEqual(plan["hot_neurons"], self.answer["plan"]["hot_neurons"])
        impact = run_json("plan", self.first, "--gpu-memory", "9MiB", "--device", "host", "--objective", "impact")
        self.assertEqual(impact["objective"], "impact")
        sweep = run_json("plan", self.first, "--device", "host", "--sweep", "8MiB:16MiB:2MiB")["sweep"]
        self.assertEqual([point["budget_bytes"] >> 20 for point in sweep], [8, 10, 12, 14, 16])
        speeds = [point["predicted_tokens_per_second"] for point in sweep]
        self.assertTrue(all(a <= b * 1.01 for a, b in zip(speeds, speeds[1:])), speeds)

    def test_a_gpu_that_is_not_here_is_named_as_assumed(self):
        result = run("plan", self.first, "--gpu-memory", "64MiB", "--json")
        self.assertEqual(result.returncode, 0, result)
        self.assertIn(b"not for a measured GPU", result.stderr)
        self.assertEqual(json.loads(result.stdout)["devices"][1]["name"], "assumed RTX 4090")

    def refused(self, words, *arguments, code=1):
        result = run(*arguments)
        lines = [l for l in result.stderr.decode().splitlines() if not l.startswith("thermocline: mode ")]
        self.assertEqual((result.returncode, len(lines)), (code, 1), result)
        for word in words:
            self.assertIn(word, lines[0])

    def test_refusals_overwrite_nothing(self):
        out = self.root / "kept"
        shutil.copytree(self.first, out)
        before = digests(out)
        base = ["profile", DEMO, "--out", out, "--device", "host", "--hardware", self.hardware]
        for flag, value in (("--predictor", "oracle"), ("--predictor-recall", "1"), ("--predictor-budget", "0"),
                            ("--predictor-tokens", "3"), ("--predictor-memory", "much")):
            self.refused([flag], *base, "--corpus", self.corpus, "--gpu-memory", "10MiB", flag, value, code=2)
        empty, utf16, broken = self.root / "empty.txt", self.root / "utf16.txt", self.root / "broken.jsonl"
        empty.touch()
        utf16.write_bytes("in another encoding".encode("utf-16"))
        broken.write_text('{"text": "fine"}\n{"text": \n')
        self.refused(["empty.txt", "empty"], *base, "--corpus", empty, "--gpu-memory", "10MiB")
        self.refused(["utf16.txt"], *base, "--corpus", utf16, "--gpu-memory", "10MiB")
        self.refused(["broken.jsonl", "2"], *base, "--corpus", broken, "--gpu-memory", "10MiB")
        for size in ("0", "-1GiB", "much", "1e30GiB"):
            self.refused(["--gpu-memory"], *base, "--corpus", self.corpus, f"--gpu-memory={size}", code=2)
        self.refused(["--threshold"], *base, "--corpus", self.corpus, "--gpu-memory", "10MiB", "--threshold", "-1", code=2)
        self.assertEqual(digests(out), before)

        (out / "profile.pb").write_bytes((out / "profile.pb").read_bytes()[:-40])
        self.refused(["profile.pb"], "plan", out, "--gpu-memory", "10MiB", "--device", "host")
        other = self.root / "other"
        shutil.copytree(DEMO, other)
        weights = bytearray((other / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (other / "model.safetensors").write_bytes(weights)
        self.refused(["profile.pb", self.answer["model_sha256"]], "profile", other, "--corpus", self.corpus, "--resume", "--out",
                     self.first, "--gpu-memory", "10MiB", "--device", "host", "--hardware", self.hardware)

    def test_a_budget_that_fits_nothing_says_what_would(self):
        self.refused(["bytes"], "plan", self.first, "--gpu-memory", "1kB", "--device", "host")


class PredictorTest(unittest.TestCase):
    """Few samples and a short corpus, so that training takes seconds."""

    @classmethod
    def setUpClass(cls):
        cls.root = Path(tempfile.mkdtemp())
        cls.corpus = cls.root / "corpus.txt"
        cls.corpus.write_bytes(VALID.read_bytes()[:16000])
        cls.first = cls.root / "first"
        cls.answer = run_json("profile", DEMO, "--corpus", cls.corpus, "--gpu-memory", "10MiB", "--device", "host", "--hardware", HARDWARE,
                              "--out", cls.first, "--context", 64, "--predictor", "mlp", "--predictor-tokens", 128)
        cls.base = ("--gpu-memory", "10MiB", "--device", "host", "--hardware", cls.first / "hardware.json", "--context", 64,
                    "--predictor-tokens", 128)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    def profile(self, out, *more, model=DEMO):
        return run("profile", model, *self.base, "--out", self.root / out, "--corpus", self.corpus, *more)

    def test_contract(self):
        summary = self.answer["predictors"]
        self.assertEqual({p.name for p in self.first.iterdir()},
                         {"profile.pb", "hardware.json", "plan.pb", "report.html", "predictor.safetensors"})
        weights = (Path(DEMO) / "model.safetensors").stat().st_size
        for layer in self.answer["layers"]:
            predictor = layer["predictor"]
            self.assertEqual(predictor["kind"], "mlp")
            self.assertEqual(predictor["hidden"] % 32, 0)
            self.assertGreaterEqual(predictor["recall"], 0.95)
            self.assertGreater(predictor["precision"], 0)
            self.assertLess(predictor["fast"]["marked"], predictor["marked"] + 1e-9)
            self.assertLessEqual(predictor["balanced"]["threshold"], predictor["fast"]["threshold"])
        self.assertEqual(summary["bytes"], sum(layer["predictor"]["bytes"] for layer in self.answer["layers"]))
        self.assertLessEqual(summary["bytes"], weights * 0.1)
        self.assertEqual(summary["bytes"], sum(device["predictor_bytes"] for device in self.answer["plan"]["devices"]))
        self.assertEqual((summary["target_recall"], summary["fast_recall"]), (0.95, 0.9))
        self.assertIn('id="predictor-recall-chart"', (self.first / "report.html").read_text())

    def test_inspect(self):
        told = run_json("inspect", self.first)
        self.assertEqual(told["model_sha256"], self.answer["model_sha256"])
        self.assertEqual([layer for layer in told["predictors"]["layers"]], [layer["predictor"] for layer in self.answer["layers"]])
        self.assertTrue(told["plan"]["of_this_profile"])
        self.assertTrue(told["report"])
        self.assertEqual(told["profile"]["tokens"], self.answer["tokens"])
        self.assertEqual(run("inspect", self.first).returncode, 0)

    def test_plans_count_predictors(self):
        plan = run_json("plan", self.first, "--gpu-memory", "9MiB", "--device", "host")
        self.assertEqual(sum(device["predictor_bytes"] for device in plan["devices"]), self.answer["predictors"]["bytes"])

    def test_sign_predictors_need_no_training_and_are_the_same_twice(self):
        for out in ("sign", "again"):
            # The memory limit sends the samples to a file, which must be gone in the end.
            result = self.profile(out, "--predictor", "sign", "--predictor-budget", "1", "--predictor-memory", "4kB")
            self.assertEqual(result.returncode, 0, result)
        self.assertEqual(digests(self.root / "sign"), digests(self.root / "again"))
        told = run_json("inspect", self.root / "sign")
        self.assertEqual({layer["kind"] for layer in told["predictors"]["layers"]}, {"sign"})
        merged = self.root / "merged"
        result = run("profile", DEMO, "--merge", self.root / "sign", "--merge", self.root / "sign", *self.base, "--out", merged)
        self.assertEqual(result.returncode, 0, result)
        self.assertEqual(digests(merged)["predictor.safetensors"], digests(self.root / "sign")["predictor.safetensors"])

    def test_resuming_trains_too(self):
        stop = ("--predictor", "sign", "--predictor-budget", "1")
        self.assertEqual(self.profile("stopped", "--max-tokens", 300, *stop).returncode, 0)
        (self.root / "stopped" / "predictor.safetensors").unlink()
        result = self.profile("stopped", "--resume", *stop)
        self.assertEqual(result.returncode, 0, result)
        self.assertIn(b"trained from the beginning", result.stderr)
        self.assertEqual(run_json("inspect", self.root / "stopped")["profile"]["tokens"], self.answer["tokens"])
        self.assertIsNotNone(run_json("inspect", self.root / "stopped")["predictors"])

    def test_none_removes_what_was_there(self):
        out = self.root / "none"
        shutil.copytree(self.first, out)
        result = self.profile("none", "--predictor", "none")
        self.assertEqual(result.returncode, 0, result)
        self.assertIn(b"predictor.safetensors is removed", result.stderr)
        self.assertNotIn("predictor.safetensors", digests(out))
        self.assertNotIn('id="predictors"', (out / "report.html").read_text())

    def test_another_models_are_refused_and_do_not_survive(self):
        other = self.root / "other"
        shutil.copytree(DEMO, other)
        weights = bytearray((other / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (other / "model.safetensors").write_bytes(weights)
        result = self.profile("of_other", "--predictor", "none", model=other)
        self.assertEqual(result.returncode, 0, result)
        shutil.copy(self.first / "predictor.safetensors", self.root / "of_other")
        for command in ("inspect", "plan"):
            result = run(command, self.root / "of_other")
            self.assertEqual(result.returncode, 1, result)
            self.assertIn(b"predictor.safetensors: made for the model with SHA-256 " + self.answer["model_sha256"].encode(), result.stderr)
        result = self.profile("of_other", "--predictor", "sign", "--predictor-budget", "0.0001", model=other)
        self.assertEqual(result.returncode, 1, result)
        self.assertIn(b"is removed", result.stderr)
        self.assertNotIn("predictor.safetensors", digests(self.root / "of_other"))


# Tiny models of make_architectures.py, and whether every token reads every neuron of theirs.
TINY = {"opt": False, "nemotron": False, "bamboo": False, "minicpm": False, "falconrelu": False, "falcon7b": True, "bitnet": True, "llama": True}
LETTERS = "abcdefghijklmnopqrstuvwxyz ,.'\n"


def write_tokenizer(folder):
    """A token a letter; the other ids of 48 stand for nothing that is in the text."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for letter in LETTERS:
        vocab[{" ": "\u0120", "\n": "\u010a"}.get(letter, letter)] = len(vocab)
    while len(vocab) < 48:
        vocab[f"~{len(vocab)}"] = len(vocab)
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for t, i in list(vocab.items())[:3]]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": special, "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "unk_token": None, "vocab": vocab, "merges": []}}))


class ArchitectureTest(unittest.TestCase):
    """profile, plan and run; the emulated accelerator holds whole layers where every neuron is read."""

    @classmethod
    def setUpClass(cls):
        cls.root = Path(tempfile.mkdtemp())
        cls.corpus = cls.root / "corpus.txt"
        text = VALID.read_text()[:3000].lower()
        cls.corpus.write_text("".join(letter for letter in text if letter in LETTERS))
        hardware = json.loads(HARDWARE.read_text())
        hardware["accelerators"][0]["sync_micros_samples"] = [1e-4]  # layers of microseconds: joins must cost next to nothing
        cls.hardware = cls.root / "hardware.json"
        cls.hardware.write_text(json.dumps(hardware))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    def model(self, name):
        folder = self.root / name
        shutil.copytree(SOURCE / "tests" / "support" / "golden" / "architectures" / name, folder)
        write_tokenizer(folder)
        return folder

    def generated(self, model, *more):
        answer = run_json("run", model, "--prompt", "the sun is", "--max-tokens", 12, "--temperature", 0, "--kv-type", "f32", "--threads", 2, *more)
        return answer["token_ids"]

    def test_profile_plan_and_run(self):
        for name, all_read in TINY.items():
            with self.subTest(name):
                model, out = self.model(name), self.root / f"{name}.profile"
                base = ("--device", "host", "--kv-type", "f32")
                answer = run_json("profile", model, "--corpus", self.corpus, "--hardware", self.hardware, "--gpu-memory", "64MiB", "--out", out,
                                  "--predictor", "none", *base)
                everything = answer["plan"]["devices"][1]
                # Room for more than one of two layers.
                budget = everything["scratch_bytes"] + (everything["used_bytes"] - everything["scratch_bytes"]) * 7 // 10
                plan = run_json("plan", out, "--gpu-memory", budget, "--write", *base)
                self.assertEqual((answer["activity"]["rule"], answer["activity"]["threshold"]), ("not zero", 0))
                self.assertEqual({layer["sparsity"] < 0.01 for layer in answer["layers"]}, {name in ("falcon7b", "llama")})
                self.assertGreater(plan["hot_neurons"], 0)
                if all_read:
                    self.assertEqual((plan["by_layer"], plan["whole_layers"]), (True, 1))
                    self.assertIn("every token reads every neuron", plan["by_layer_reason"])
                    self.assertIn("1 of 2 layers are whole on", plan["by_layer_reason"])
                    self.assertIn("planned by layer", (out / "report.html").read_text().lower())
                else:
                    self.assertEqual(plan["by_layer_reason"] is None, not plan["by_layer"])
                alone = self.generated(model)
                self.assertEqual(self.generated(model, "--profile", out, "--device", "host", "--mode", "dense" if all_read else "exact"), alone)

    def test_a_magnitude_makes_some_neurons_silent_but_they_are_read(self):
        model, out = self.model("phi3"), self.root / "phi3.profile"
        answer = run_json("profile", model, "--corpus", self.corpus, "--hardware", self.hardware, "--gpu-memory", "64MiB", "--out", out,
                          "--device", "host", "--threshold", "0.1")
        self.assertEqual(answer["activity"]["rule"], "magnitude")
        self.assertTrue(all(0.1 < layer["sparsity"] < 0.9 for layer in answer["layers"]), answer)
        self.assertTrue(answer["plan"]["by_layer"])
        result = run("profile", model, "--corpus", self.corpus, "--hardware", self.hardware, "--out", out, "--device", "host", "--predictor", "mlp")
        self.assertEqual(result.returncode, 2, result)
        self.assertIn(b"--predictor: is mlp, but every token reads every neuron", result.stderr)
        result = run("plan", out, "--device", "host", "--gpu-memory", "64MiB")
        self.assertIn(b"planned by layer: activation silu is zero on no range of inputs", result.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
