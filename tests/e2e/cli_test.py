#!/usr/bin/env python3
"""The program on the command line: results, JSON contracts, exit codes, one-line refusals.

usage: cli_test.py THERMOCLINE SOURCE_DIR
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

PROGRAM, SOURCE = sys.argv[1], Path(sys.argv[2])
DEMO = str(SOURCE / "models" / "demo")
GOLDEN = json.loads((SOURCE / "models" / "demo" / "golden.json").read_text())


def run(*arguments, stdin=subprocess.DEVNULL, **options):
    if isinstance(stdin, bytes):
        options["input"] = stdin
    else:
        options["stdin"] = stdin
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, timeout=120, **options)


def run_json(*arguments, **options):
    """The one JSON object on standard output; nothing else may be there."""
    result = run(*arguments, **options)
    assert result.returncode == 0, result
    assert result.stdout.count(b"\n") == 1 and result.stdout.endswith(b"\n"), result.stdout
    return json.loads(result.stdout)


class Run(unittest.TestCase):
    def test_greedy_tokens_match_the_goldens(self):
        for case in GOLDEN["cases"]:
            answer = run_json("run", DEMO, "--prompt", case["prompt"], "--max-tokens", 48, "--json")
            self.assertEqual(answer["token_ids"], case["greedy_ids"], case["prompt"])
            self.assertEqual(answer["prompt_tokens"], len(case["prompt_ids"]))
            # The golden text was decoded on its own, which drops the space before its first word.
            self.assertEqual(answer["text"].removeprefix(" "), case["text"])
            self.assertLessEqual({"text", "token_ids", "prompt_tokens", "finish_reason", "seed", "timings"}, set(answer))
            self.assertLessEqual({"prefill_ms", "decode_ms", "decode_tokens_per_second"}, set(answer["timings"]))

    def test_streamed_text_is_the_json_text(self):
        arguments = ["run", DEMO, "--prompt", "The captain looked at the sea and", "--max-tokens", "20"]
        streamed = run(*arguments)
        self.assertEqual(streamed.stdout.decode(), run_json(*arguments, "--json")["text"] + "\n")
        self.assertIn(b"mode exact", streamed.stderr)  # of ReLU without predictors
        self.assertIn(b"[quality exact: 100.0 % of neurons marked", streamed.stderr)

    def test_prompt_from_standard_input(self):
        arguments = ["run", DEMO, "--max-tokens", "8", "--json"]
        self.assertEqual(run_json(*arguments, stdin=b"Once upon a time")["token_ids"],
                         run_json(*arguments, "--prompt", "Once upon a time")["token_ids"])

    def test_seed_reproduces_and_threads_do_not_matter(self):
        arguments = ["run", DEMO, "--prompt", "My dear", "--temperature", "1", "--max-tokens", "30", "--json"]
        first = run_json(*arguments)
        again = run_json(*arguments, "--seed", first["seed"], "--threads", "1")
        self.assertEqual(first["token_ids"], again["token_ids"])

    def test_stop_echo_and_logprobs(self):
        prompt = GOLDEN["cases"][0]["prompt"]
        answer = run_json("run", DEMO, "--prompt", prompt, "--stop", " the world", "--echo", "--top-logprobs", "2", "--json")
        self.assertEqual(answer["text"], prompt + " great deal of a man in")
        self.assertEqual((answer["finish_reason"], answer["matched_stop"]), ("stop", " the world"))
        self.assertEqual(len(answer["logprobs"]), len(answer["token_ids"]))
        for token in answer["logprobs"]:
            self.assertEqual(len(token["top"]), 2)
            self.assertAlmostEqual(token["logprob"], token["top"][0]["logprob"], places=6)  # greedy takes the likeliest

    def test_quality_is_exact_without_predictors(self):
        arguments = ["run", DEMO, "--prompt", "My dear", "--max-tokens", "12", "--json"]
        plain, exact = run_json(*arguments), run_json(*arguments, "--quality", "exact", "--audit-every", "1")
        self.assertEqual((plain["quality"], exact["quality"]), ("exact", "exact"))
        self.assertEqual(plain["token_ids"], exact["token_ids"])
        self.assertEqual(exact["audit"]["tokens"], 0)  # nothing is left out that could be missed
        self.assertNotIn("audit", plain)

    def test_sparsity(self):
        arguments = ["run", DEMO, "--prompt", "My dear", "--max-tokens", "12", "--ignore-eos", "--json"]
        config = json.loads((Path(DEMO) / "config.json").read_text())
        all_neurons = 11 * config["num_hidden_layers"] * config["intermediate_size"]  # the last token needs no step
        exact = run_json(*arguments, "--mode", "exact")["sparsity"]
        self.assertEqual((exact["tokens"], exact["neurons"], exact["marked"]), (11, all_neurons, all_neurons))
        self.assertTrue(0 < exact["active"] < all_neurons, exact)
        self.assertEqual(exact["active_on_accelerators"], 0)
        dense = run_json(*arguments, "--mode", "dense")["sparsity"]
        self.assertEqual((dense["marked"], dense["active"]), (all_neurons, 0))
        self.assertLess(exact["bytes_per_token"], dense["bytes_per_token"])
        self.assertNotIn("sparsity", run_json(*arguments[:4], "--max-tokens", "1", "--json"))

    def test_prompt_loop_on_a_terminal(self):
        controller, terminal = pty.openpty()
        process = subprocess.Popen([PROGRAM, "run", DEMO, "--max-tokens", "5"], stdin=terminal, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        os.close(terminal)
        os.write(controller, b"Once upon a time there was a\n" + b"word " * 600 + b"\nOnce upon a time there was a\n\x04")
        out, err = process.communicate(timeout=60)
        os.close(controller)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(out.decode().splitlines(), [" great deal of a man"] * 2)
        self.assertIn(b"prompt: has 602 tokens", err)  # the long line was refused, the loop went on


class OtherCommands(unittest.TestCase):
    def test_inspect(self):
        answer = run_json("inspect", DEMO, "--json")
        config = json.loads((Path(DEMO) / "config.json").read_text())
        self.assertEqual((answer["architecture"], answer["activation"], answer["gated"]), ("llama", "relu", True))
        for ours, theirs in {"n_layers": "num_hidden_layers", "d_model": "hidden_size", "d_ff": "intermediate_size",
                             "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads", "n_vocab": "vocab_size"}.items():
            self.assertEqual(answer[ours], config[theirs])
        self.assertEqual(list(answer["types"]), ["F16"])
        self.assertEqual(answer["bytes"], 2 * 6950144)  # the parameters that its README states, two bytes each
        digest = subprocess.run(["sha256sum", Path(DEMO) / "model.safetensors"], capture_output=True, check=True).stdout
        self.assertEqual(answer["sha256"], digest.split()[0].decode())

    def test_doctor(self):
        answer = run_json("doctor", "--json")
        self.assertIn(answer["isa"], answer["available_isas"])
        self.assertGreater(answer["read_gb_per_second"], 0)

    def test_eval(self):
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text.txt"
            text.write_bytes((Path(DEMO) / "valid.txt").read_bytes()[:8000])
            answer = run_json("eval", DEMO, "--text", text, "--json")
            self.assertEqual((answer["mode"], answer["kl_mean"], answer["kl_p99"], answer["top1_agreement"]), ("exact", 0, 0, 1))
            # Windows that each open with BOS see almost what the goldens' windows saw.
            self.assertLess(abs(answer["perplexity"] / GOLDEN["perplexity"] - 1), 0.25)
            shorter = run_json("eval", DEMO, "--text", text, "--context", "64", "--json")
            self.assertGreater(shorter["perplexity"], answer["perplexity"])

    BENCH = ["bench", DEMO, "--prompt-tokens", 8, "--decode-tokens", 4, "--repetitions", 3]

    def check_spread(self, samples, count):
        self.assertEqual(len(samples["samples"]), count)
        self.assertLessEqual(samples["min"], samples["median"])
        self.assertLessEqual(samples["median"], samples["max"])

    def test_bench(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.json"
            table = run(*self.BENCH, "--json", path)
            self.assertEqual(table.returncode, 0, table.stderr)
            answer = json.loads(path.read_text())
        self.assertEqual(answer["schema"], 1)
        self.assertLessEqual({"version", "revision", "compiler", "type", "flags"}, set(answer["build"]))
        self.assertLessEqual({"cpu", "usable_cpus", "isa", "threads", "memory_bytes", "read_gb_per_second"}, set(answer["hardware"]))
        self.assertLessEqual({"file", "sha256", "type"}, set(answer["model"]))
        self.assertEqual(answer["profile"], {"sha256": None, "predictors_sha256": None, "thresholds_sha256": None})
        self.assertEqual(list(answer["modes"]), ["dense", "exact"])  # of ReLU without predictors
        for name, mode in answer["modes"].items():
            self.assertIn(name, table.stdout.decode())
            self.assertLessEqual({"bytes_per_token", "gb_per_second", "share_of_peak", "speedup", "speedup_bound", "share_of_bound"}, set(mode))
            self.check_spread(mode["decode_tokens_per_second"], 3)
            for samples in ("prefill_tokens_per_second", "prefill_gflop_per_second", "time_to_first_token_ms"):
                self.check_spread(mode[samples], 3)
            self.assertLessEqual(mode["inter_token_ms"]["p50"], mode["inter_token_ms"]["p99"])
            self.assertEqual((len(mode["inter_token_ms"]["p50_samples"]), len(mode["inter_token_ms"]["p99_samples"])), (3, 3))
            self.assertTrue(0 < mode["neuron_bytes_per_token"] < mode["bytes_per_token"], mode)
        dense, exact = answer["modes"]["dense"], answer["modes"]["exact"]
        self.assertEqual((dense["speedup"], dense["speedup_bound"]), (1, 1))
        # Exact computes every gate, and reads up and down rows only of neurons that fire.
        self.assertEqual(exact["marked_share"], 1)
        self.assertTrue(0 < exact["active_share"] < 1, exact)
        self.assertLess(exact["bytes_per_token"], dense["bytes_per_token"])
        rest = [mode["bytes_per_token"] - mode["neuron_bytes_per_token"] for mode in (dense, exact)]
        self.assertEqual(*rest)  # no mode leaves out attention, cache and head
        self.assertAlmostEqual(exact["speedup_bound"], dense["bytes_per_token"] / exact["bytes_per_token"])
        self.assertAlmostEqual(exact["share_of_bound"], exact["speedup"] / exact["speedup_bound"])
        self.assertNotIn("overlap_ratio", exact)
        self.assertFalse(answer["emulated"])

    def test_bench_of_one_mode_and_a_text(self):
        answer = run_json(*self.BENCH, "--modes", "dense", "--text", Path(DEMO) / "valid.txt", "--json", "-")
        self.assertEqual(list(answer["modes"]), ["dense"])
        self.assertEqual((answer["prompt_tokens"], answer["decode_tokens"]), (8, 4))

    def test_bench_beside_a_baseline(self):
        with tempfile.TemporaryDirectory() as folder:
            old, new, page = (Path(folder) / name for name in ("old.json", "new.json", "page.html"))
            bench = [*self.BENCH, "--modes", "dense"]
            self.assertEqual(run(*bench, "--json", old).returncode, 0)
            before = json.loads(old.read_text())
            before["hardware"]["threads"] = 99
            old.write_text(json.dumps(before))
            table = run(*bench, "--baseline", old, "--json", new, "--plot", page)
            self.assertEqual(table.returncode, 0, table.stderr)
            self.assertIn(b"of other hardware (threads: 99, here", table.stderr)
            self.assertIn("dense decode tokens/s", table.stdout.decode())
            compared = json.loads(new.read_text())
            self.assertEqual(compared["baseline"]["file"], "old.json")
            figures = {(each.get("mode"), each["figure"]): each for each in compared["baseline"]["figures"]}
            speed = figures["dense", "decode tokens/s"]
            self.assertEqual(speed["before"], before["modes"]["dense"]["decode_tokens_per_second"]["median"])
            self.assertEqual(speed["now"], compared["modes"]["dense"]["decode_tokens_per_second"]["median"])
            self.assertAlmostEqual(speed["ratio"], speed["now"] / speed["before"])
            root = ElementTree.fromstring(page.read_text())
            ids = [element.get("id") for element in root.iter() if element.get("id")]
            self.assertEqual(len(ids), len(set(ids)))
            self.assertLessEqual({"decode-chart", "peak-chart", "baseline"}, set(ids))
            # No machine is a million times as fast as itself.
            failed = run(*bench, "--baseline", old, "--fail-below", "1e6", "--json", "-")
            self.assertEqual(failed.returncode, 1, failed.stderr)
            self.assertIn(b"--fail-below", failed.stderr)
            self.assertIn("baseline", json.loads(failed.stdout))
            before["model"]["sha256"] = "0" * 64
            old.write_text(json.dumps(before))
            refused = run(*bench, "--baseline", old)
            self.assertEqual((refused.returncode, refused.stdout), (1, b""))
            self.assertIn(b"another model", refused.stderr)

    def test_bench_crossover(self):
        answer = run_json(*self.BENCH, "--modes", "dense", "--crossover", "--json", "-")
        crossover = answer["crossover"]
        rows = crossover["rows"]
        self.assertEqual([row["sparsity"] for row in rows], [0, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
        self.assertEqual(rows[0]["neurons"], crossover["d_ff"])
        for row in rows:
            self.check_spread(row["speedup"], 3)
            self.assertAlmostEqual(row["speedup_bound"], crossover["d_ff"] / row["neurons"])


class Synth(unittest.TestCase):
    def test_a_synthetic_model_runs_with_its_profile(self):
        with tempfile.TemporaryDirectory() as folder:
            model, measured = Path(folder) / "tiny.gguf", Path(folder) / "measured"
            planted = Path(str(model) + ".thermocline")
            made = run_json("synth", model, "--shape", "tiny", "--type", "q8_0", "--sparsity", "0.8", "--json")
            self.assertAlmostEqual(made["sparsity"], 0.8, delta=0.01)
            self.assertAlmostEqual(made["share_for_80"], 0.26, delta=0.02)
            self.assertAlmostEqual(made["predictor"]["recall"], 0.95, delta=0.02)
            seen = run_json("inspect", model, "--json")
            self.assertEqual((seen["activation"], seen["activation_threshold"], seen["sha256"]), ("fatrelu", 0.25, made["sha256"]))
            self.assertEqual(len(run_json("run", model, "--prompt", "any text", "--max-tokens", 20, "--json")["token_ids"]), 20)
            # What a profile of the running model says, its sizes too, is what was planted.
            corpus = Path(folder) / "corpus.txt"
            corpus.write_bytes((Path(DEMO) / "valid.txt").read_bytes()[:20000])
            profile = run_json("profile", model, "--corpus", corpus, "--out", measured, "--json")
            self.assertAlmostEqual(sum(l["sparsity"] for l in profile["layers"]) / len(profile["layers"]), 0.8, delta=0.05)
            shutil.copy(measured / "hardware.json", planted)
            plans = [run_json("plan", directory, "--json")["devices"] for directory in (measured, planted)]
            for ours, theirs in zip(*plans):
                for size in ("neuron_bytes", "attention_bytes", "kv_cache_bytes", "head_bytes", "scratch_bytes"):
                    self.assertEqual(ours[size], theirs[size], size)


class Predicted(unittest.TestCase):
    """The dial and the audit, with predictors that are made here."""

    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        corpus, cls.profile = Path(folder) / "corpus.txt", Path(folder) / "profile"
        corpus.write_bytes((Path(DEMO) / "valid.txt").read_bytes()[:20000])
        made = run("profile", DEMO, "--corpus", corpus, "--predictor", "sign", "--predictor-tokens", 512,
                   "--device", "host", "--gpu-memory", "8MiB",
                   "--hardware", SOURCE / "tests" / "e2e" / "split_hardware.json", "--out", cls.profile)
        assert made.returncode == 0, made

    def complete(self, *flags):
        return run_json("run", DEMO, "--prompt", "Once upon a time", "--max-tokens", 25, "--ignore-eos", "--profile", self.profile,
                        "--json", *flags)

    def test_qualities_read_less_and_less(self):
        answers = {quality: self.complete("--quality", quality) for quality in ["exact", "balanced", "fast"]}
        for quality, answer in answers.items():
            self.assertEqual(answer["quality"], quality)
        marked = [answers[quality]["sparsity"]["marked"] for quality in ["exact", "balanced", "fast"]]
        self.assertEqual(marked[0], answers["exact"]["sparsity"]["neurons"])
        self.assertTrue(marked[0] > marked[1] > marked[2], marked)
        self.assertEqual(self.complete()["quality"], "balanced")
        self.assertEqual(answers["exact"]["token_ids"], self.complete("--mode", "exact")["token_ids"])

    def test_audit_measures_and_changes_nothing(self):
        plain, audited = self.complete("--quality", "fast"), self.complete("--quality", "fast", "--audit-every", 3)
        self.assertEqual(plain["token_ids"], audited["token_ids"])
        self.assertEqual(plain["sparsity"], audited["sparsity"])
        audit = audited["audit"]
        self.assertEqual(audit["tokens"], 24 // 3)
        self.assertTrue(0.5 < audit["recall"] < 1, audit)  # calibrated for 0.9 on other text
        self.assertTrue(0 < audit["kl_mean"] <= audit["kl_max"], audit)
        self.assertTrue(0 <= audit["top1_agreement"] <= 1, audit)
        self.assertEqual(self.complete("--quality", "exact", "--audit-every", 1)["audit"]["tokens"], 0)

    def test_emulated_accelerator(self):
        sparsity = self.complete("--quality", "exact", "--device", "host")["sparsity"]
        self.assertTrue(0 < sparsity["active_on_accelerators"] < sparsity["active"], sparsity)

    def test_bench_of_several_plans(self):
        bench = ["bench", DEMO, "--profile", self.profile, "--device", "host", "--prompt-tokens", 4, "--decode-tokens", 4,
                 "--repetitions", 2]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.json"
            table = run(*bench, "--plans", "layers:7MiB,latency:7MiB", "--json", path)
            self.assertEqual(table.returncode, 0, table.stderr)
            beside = run(*bench, "--plans", "latency:7MiB", "--baseline", path, "--json", "-")
            self.assertEqual(beside.returncode, 0, beside.stderr)
            self.assertEqual({figure["plan"] for figure in json.loads(beside.stdout)["baseline"]["figures"]}, {"latency:7MiB"})
            plans = json.loads(path.read_text())["plans"]
        split, solved = plans["layers:7MiB"], plans["latency:7MiB"]
        self.assertEqual((list(split["modes"]), list(solved["modes"])), (["dense"], ["dense", "exact", "predicted"]))
        for name, mode, run_of in [("layers", "dense", split), ("latency", "predicted", solved)]:
            plan = run_of["plan"]
            self.assertEqual((plan["objective"], plan["budget_bytes"], plan["mode"]), (name, 7 << 20, mode))
            self.assertTrue(0 < plan["used_bytes"] <= plan["budget_bytes"], plan)
            self.assertAlmostEqual(plan["used_share_of_budget"], plan["used_bytes"] / (7 << 20))
            self.assertGreater(plan["predicted_tokens_per_second"], 0)
            measured = run_of["modes"][mode]["decode_tokens_per_second"]["median"]
            self.assertEqual(plan["measured_tokens_per_second"], measured)
            self.assertAlmostEqual(plan["measured_over_predicted"], measured / plan["predicted_tokens_per_second"])
        self.assertEqual(split["plan"]["hot_neurons"] % 1024, 0)  # whole layers of the demo model
        for mode in solved["modes"].values():
            self.assertAlmostEqual(mode["speedup_over_dense_split"],
                                   mode["decode_tokens_per_second"]["median"] / split["plan"]["measured_tokens_per_second"])
            self.assertAlmostEqual(mode["speedup_over_dense_split_of_file_bytes"] / mode["speedup_over_dense_split"],
                                   min(1, split["model"]["bytes"] / split["modes"]["dense"]["bytes_per_token"]))
        self.assertIn("over the dense split", table.stdout.decode())
        for plans, word in [("speed:7MiB", "speed"), ("layers:lots", "lots")]:
            refused = run(*bench, "--plans", plans)
            self.assertEqual(refused.returncode, 2, refused)
            self.assertIn(b"--plans", refused.stderr)
            self.assertIn(word.encode(), refused.stderr)

    def test_trace_shows_both_devices_at_the_same_layer(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self.complete("--mode", "exact", "--device", "host", "--trace", path)
            events = json.loads(path.read_text())["traceEvents"]
            tracks = {e["args"]["name"]: e["tid"] for e in events if e["name"] == "thread_name"}
            halves = {(e["tid"], e["args"]["layer"]) for e in events if e["ph"] == "X" and e["name"] == "neurons"}
            split = [layer for layer in range(6) if {(tracks["cpu"], layer), (tracks["host"], layer)} <= halves]
            self.assertTrue(split, halves)
            self.assertTrue(all(e["dur"] >= 0 for e in events if e["ph"] == "X"))

    def test_eval_compares_with_dense(self):
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text.txt"
            text.write_bytes((Path(DEMO) / "valid.txt").read_bytes()[30000:40000])
            evaluate = lambda *flags: run_json("eval", DEMO, "--text", text, "--profile", self.profile, "--json", *flags)
            # Packed, a dense runner rounds activations; what is equal bit for bit is the arithmetic of the modes.
            dense, exact = evaluate("--mode", "dense", "--no-pack"), evaluate("--mode", "exact", "--no-pack")
            self.assertEqual({**exact, "mode": "", "tokens_per_second": 0}, {**dense, "mode": "", "tokens_per_second": 0})
            self.assertEqual((exact["kl_mean"], exact["kl_p99"], exact["top1_agreement"]), (0, 0, 1))
            balanced, fast = evaluate(), evaluate("--quality", "fast")
            self.assertEqual((balanced["mode"], balanced["quality"], fast["quality"]), ("predicted", "balanced", "fast"))
            self.assertTrue(0 < balanced["kl_mean"] < fast["kl_mean"], (balanced, fast))
            self.assertTrue(balanced["kl_mean"] < balanced["kl_p99"])
            self.assertTrue(0.5 < fast["top1_agreement"] <= balanced["top1_agreement"] < 1)
            # The same neurons on two devices: the order of sums differs, the answer hardly.
            hybrid = evaluate("--mode", "exact", "--device", "host")
            self.assertAlmostEqual(hybrid["perplexity"], dense["perplexity"], delta=1e-3)
            self.assertLess(hybrid["kl_mean"], 1e-6)

    def test_what_belongs_to_another_model_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "other.gguf"
            run_json("synth", model, "--shape", "tiny", "--type", "f16", "--json")
            result = run("run", model, "--prompt", "x", "--profile", self.profile)
            self.assertEqual(result.returncode, 1)
            self.assertIn(b"predictor.safetensors", result.stderr)
            result = run("run", DEMO, "--prompt", "x", "--profile", self.profile, "--device", "host", "--gpu-memory", "64KiB")
            self.assertEqual(result.returncode, 1)
            self.assertIn(b"65536", result.stderr)


class Thresholds(unittest.TestCase):
    """The demo model read as a SiLU model, whose neurons are never silent."""

    MODEL = [DEMO, "--activation", "silu", "--context", "256"]

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.profile = Path(cls.folder.name) / "profile"
        corpus = Path(cls.folder.name) / "corpus.txt"
        corpus.write_bytes((Path(DEMO) / "valid.txt").read_bytes()[:8000])
        hardware = SOURCE / "tests" / "e2e" / "split_hardware.json"
        cls.arguments = ["profile", *cls.MODEL, "--corpus", corpus, "--threshold", "0.1", "--out", cls.profile, "--device", "none",
                         "--hardware", hardware, "--threshold-tokens", "1000", "--json"]
        cls.answer = run_json(*cls.arguments, "--thresholds", "teal", "--threshold-sparsity", "0.3")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_profile_finds_what_inspect_shows(self):
        found = self.answer["thresholds"]
        self.assertEqual((found["method"], found["target"], len(found["layers"])), ("teal", 0.3, 6))
        self.assertAlmostEqual(found["skipped"], 0.3, delta=0.01)
        self.assertEqual(run_json("inspect", self.profile, "--json")["thresholds"], found)
        self.assertIn(b"thresholds (teal)", run("inspect", self.profile).stdout)

    def test_eval_and_bench_decode_with_them(self):
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text.txt"
            text.write_bytes((Path(DEMO) / "valid.txt").read_bytes()[30000:33000])
            evaluate = lambda *flags: run_json("eval", *self.MODEL, "--text", text, "--profile", self.profile, "--json", *flags)
            threshold, exact = evaluate("--mode", "threshold"), evaluate("--mode", "threshold", "--quality", "exact")
        self.assertEqual((threshold["mode"], threshold["quality"]), ("threshold", "balanced"))
        self.assertGreater(threshold["kl_mean"], exact["kl_mean"])
        self.assertLess(threshold["top1_agreement"], 1)
        self.assertEqual(exact["top1_agreement"], 1)
        short = ["--prompt-tokens", "16", "--decode-tokens", "4", "--repetitions", "1", "--json", "-"]
        modes = run_json("bench", *self.MODEL, *short, "--modes", "threshold", "--profile", self.profile)["modes"]
        self.assertEqual(list(modes), ["dense", "threshold"])
        self.assertLess(modes["threshold"]["bytes_per_token"], modes["dense"]["bytes_per_token"])
        self.assertEqual(modes["threshold"]["thresholds"]["method"], "teal")
        own = run_json("bench", *self.MODEL, *short, "--threshold-sparsity", "0.5")["modes"]["threshold"]
        self.assertEqual(own["thresholds"]["method"], "uniform")
        self.assertAlmostEqual(own["thresholds"]["skipped"], 0.5, delta=0.01)
        self.assertLess(own["bytes_per_token"], modes["threshold"]["bytes_per_token"])

    def test_refusals(self):
        prompt = ["--prompt", "x", "--mode", "threshold"]
        for words, arguments in [
            (["--mode", "thresholds.json", "profile --thresholds"], ["run", *self.MODEL, *prompt]),
            (["--device", "host", "CPU alone"], ["run", *self.MODEL, *prompt, "--profile", self.profile, "--device", "host"]),
            (["--thresholds", "magic", "teal"], [*self.arguments, "--thresholds", "magic"]),
            (["--threshold-sparsity", "0.95"], [*self.arguments, "--thresholds", "cats", "--threshold-sparsity", "1"]),
            (["--modes", "exact", "threshold"], ["bench", DEMO, "--modes", "exact,threshold"]),
            (["--threshold-sparsity", "--modes"], ["bench", DEMO, "--modes", "exact", "--threshold-sparsity", "0.4"]),
        ]:
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, result)
            self.assertEqual(result.stderr.count(b"\n"), 1, result.stderr)
            for word in words:
                self.assertIn(word.encode(), result.stderr)


class Refusals(unittest.TestCase):
    def refused(self, code, words, *arguments, **options):
        result = run(*arguments, **options)
        lines = [l for l in result.stderr.decode().splitlines() if not l.startswith("thermocline: mode ")]
        self.assertEqual(result.returncode, code, result)
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith("thermocline: "), lines)
        for word in words:
            self.assertIn(word, lines[0])
        self.assertEqual(result.stdout.strip(), b"")

    def test_usage(self):
        prompt = ["--prompt", "x"]
        self.refused(2, ["subcommand"])
        self.refused(2, ["--frobnicate"], "run", DEMO, "--frobnicate")
        self.refused(2, ["MODEL"], "run")
        self.refused(2, ["--max-tokens", "many"], "run", DEMO, *prompt, "--max-tokens", "many")
        self.refused(2, ["max_tokens", "0"], "run", DEMO, *prompt, "--max-tokens", "0")
        self.refused(2, ["temperature", "99"], "run", DEMO, *prompt, "--temperature", "99")
        self.refused(2, ["logit_bias", "a=b"], "run", DEMO, *prompt, "--logit-bias", "a=b")
        self.refused(2, ["--mode", "psychic"], "run", DEMO, *prompt, "--mode", "psychic")
        self.refused(2, ["--activation", "tanh"], "run", DEMO, *prompt, "--activation", "tanh")
        self.refused(2, ["--threads", "-1"], "run", DEMO, *prompt, "--threads", "-1")
        self.refused(2, ["--context", "513", "512"], "run", DEMO, *prompt, "--context", "513")
        self.refused(2, ["--shape"], "synth", "out.gguf")
        self.refused(2, ["--shape", "9b", "7b"], "synth", "out.gguf", "--shape", "9b")
        self.refused(2, ["--skew", "0.9", "0.8"], "synth", "out.gguf", "--shape", "tiny", "--skew", "0.9")
        self.refused(2, ["--type", "Q6_K", "q4_0"], "synth", "out.gguf", "--shape", "tiny", "--type", "q6_k")
        self.refused(2, ["quality", "psychic", "balanced"], "run", DEMO, *prompt, "--quality", "psychic")
        self.refused(2, ["quality", "fast", "exact"], "run", DEMO, *prompt, "--quality", "fast")
        self.refused(2, ["--audit-every", "-1"], "run", DEMO, *prompt, "--audit-every", "-1")
        self.refused(2, ["--modes", "psychic"], "bench", DEMO, "--modes", "psychic")
        self.refused(2, ["predicted", "predictor.safetensors"], "bench", DEMO, "--modes", "predicted")
        self.refused(2, ["--quality", "psychic"], "bench", DEMO, "--quality", "psychic")
        self.refused(2, ["--repetitions", "0"], "bench", DEMO, "--repetitions", "0")
        self.refused(2, ["--fail-below", "--baseline"], "bench", DEMO, "--fail-below", "0.9")
        self.refused(2, ["--fail-below", "-1"], "bench", DEMO, "--baseline", "x.json", "--fail-below", "-1")
        self.refused(1, ["config.json", "schema"], "bench", DEMO, "--baseline", Path(DEMO) / "config.json")
        self.refused(2, ["--decode-tokens", "528", "512"], "bench", DEMO, "--decode-tokens", "400")

    def test_prompts(self):
        self.refused(1, ["prompt", "empty"], "run", DEMO, "--prompt", "")
        self.refused(1, ["prompt", "empty"], "run", DEMO, stdin=b"")
        self.refused(1, ["prompt", "602", "512"], "run", DEMO, "--prompt", "word " * 600)

    def test_model_files(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            self.refused(1, ["absent", "no such file"], "run", root / "absent", "--prompt", "x")
            (root / "empty.gguf").touch()
            self.refused(1, ["empty.gguf", "empty"], "inspect", root / "empty.gguf")
            (root / "text.gguf").write_text("once upon a time there was a text file")
            self.refused(1, ["text.gguf", "GGUF"], "inspect", root / "text.gguf")
            self.refused(1, ["config.json"], "inspect", root)

            def copy(change):
                shutil.rmtree(root / "model", ignore_errors=True)
                shutil.copytree(DEMO, root / "model")
                change(root / "model")
                return root / "model"

            def truncate(model):
                data = (model / "model.safetensors").read_bytes()
                (model / "model.safetensors").write_bytes(data[:-1000])

            def configure(**values):
                def change(model):
                    config = json.loads((model / "config.json").read_text())
                    config.update(values)
                    (model / "config.json").write_text(json.dumps(config))
                return change

            self.refused(1, ["model.safetensors"], "inspect", copy(truncate))
            self.refused(1, ["GPTNeoXForCausalLM", "llama"], "inspect", copy(configure(architectures=["GPTNeoXForCausalLM"], model_type="gpt_neox")))
            self.refused(1, ["tanh"], "inspect", copy(configure(hidden_act="tanh")))
            self.refused(1, ["model.layers.0.mlp.gate_proj.weight", "1024"], "inspect", copy(configure(intermediate_size=2048)))
            self.refused(1, ["model.layers.6"], "inspect", copy(configure(num_hidden_layers=7)))
            self.refused(1, ["tokenizer"], "run", copy(lambda model: (model / "tokenizer.model").unlink()), "--prompt", "x")

    def test_texts(self):
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "empty.txt"
            text.touch()
            self.refused(1, ["empty.txt", "empty"], "eval", DEMO, "--text", text)
            self.refused(1, ["absent.txt", "no such file"], "eval", DEMO, "--text", Path(folder) / "absent.txt")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
