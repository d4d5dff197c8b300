#!/usr/bin/env python3
"""The server as a client of another language sees it: Debian's grpcio with stubs generated here from our protos.

usage: grpc_client_test.py THERMOCLINE SOURCE_DIR
SPDX-License-Identifier: Apache-2.0
"""
import json
import signal
import sys
import tempfile
import unittest
from pathlib import Path

import grpc

from grpc_server import (CONTEXT_TOKENS, DEMO, GOLDEN, NOT_SERVING, PROMPT, SERVING, SOURCE, RefusalsTestCase, Server, admin, detail,
                         gather, long_stream, pb, request, rpc, run)


class Completions(RefusalsTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server())
        cls.stub = cls.server.stub

    def test_greedy_tokens_match_the_goldens(self):
        for case in GOLDEN["cases"]:
            tokens = len(case["greedy_ids"])
            whole = self.stub.Complete(request(case["prompt"], tokens))
            self.assertEqual(list(whole.token_ids), case["greedy_ids"], case["prompt"])
            self.assertEqual(whole.summary.usage.prompt_tokens, len(case["prompt_ids"]))
            self.assertEqual(whole.summary.usage.completion_tokens, tokens)
            text, token_ids, summary = gather(
                self.stub.StreamComplete(request(case["prompt"], tokens, pb.StreamCompleteRequest)))
            self.assertEqual((text, token_ids), (whole.text, case["greedy_ids"]))
            self.assertEqual(summary.finish_reason, whole.summary.finish_reason)
            as_ids = pb.CompleteRequest(token_ids=pb.TokenIds(ids=case["prompt_ids"]),
                                        stopping=pb.StoppingOptions(max_tokens=tokens))
            self.assertEqual(list(self.stub.Complete(as_ids).token_ids), case["greedy_ids"])

    def test_tokens_match_the_goldens_and_go_back_to_text(self):
        for case in GOLDEN["cases"]:
            token_ids = self.stub.Tokenize(pb.TokenizeRequest(text=case["prompt"])).token_ids
            self.assertEqual(list(token_ids), case["prompt_ids"])
            self.assertEqual(self.stub.Detokenize(pb.DetokenizeRequest(token_ids=token_ids)).text, case["prompt"])

    def test_equals_run(self):
        for flags, sampling in [((), None),
                                (("--temperature", "0.9", "--top-p", "0.95", "--seed", "7"),
                                 pb.SamplingOptions(temperature=0.9, top_p=0.95, seed=7))]:
            for case in GOLDEN["cases"][:3]:
                with self.subTest(flags=flags, prompt=case["prompt"]):
                    local = json.loads(run("run", DEMO, "--prompt", case["prompt"], "--max-tokens", 32, "--json", *flags).stdout)
                    remote = self.stub.Complete(request(case["prompt"], 32, sampling=sampling))
                    self.assertEqual(remote.text, local["text"])
                    self.assertEqual(list(remote.token_ids), local["token_ids"])
                    self.assertEqual(remote.summary.usage.prompt_tokens, local["prompt_tokens"])
                    if sampling:
                        self.assertEqual(remote.summary.seed, local["seed"])

    def test_our_own_client_gets_the_same(self):
        flags = ("--prompt", PROMPT, "--max-tokens", 12)
        streamed = run("complete", "--server", self.server.address, *flags)
        self.assertEqual(streamed.returncode, 0, streamed.stderr)
        answer = json.loads(run("complete", "--server", self.server.address, *flags, "--json").stdout)
        expected = self.stub.Complete(request(max_tokens=12))
        self.assertEqual(streamed.stdout, expected.text + "\n")
        self.assertEqual((answer["text"], answer["token_ids"]), (expected.text, list(expected.token_ids)))
        self.assertRegex(streamed.stderr, r"tokens/s")

    def test_our_own_client_fails_in_one_line(self):
        for flags, said in [(("--top-p", "5"), "top_p"), (("--max-tokens", "0"), "max_tokens"), (("--prompt", ""), "prompt")]:
            prompt = () if "--prompt" in flags else ("--prompt", "x")
            result = run("complete", "--server", self.server.address, *prompt, *flags)
            self.assertEqual(result.returncode, 1, flags)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            self.assertIn(said, result.stderr)

    def test_stop_and_logprobs(self):
        answer = self.stub.Complete(request(max_tokens=40, stop=[" the world"], output=pb.OutputOptions(echo=True, top_logprobs=2)))
        self.assertEqual(answer.text, PROMPT + " great deal of a man in")
        self.assertEqual(answer.summary.finish_reason, pb.FINISH_REASON_STOP_STRING)
        self.assertEqual(answer.summary.matched_stop, " the world")
        self.assertEqual(len(answer.logprobs), len(answer.token_ids))
        for token in answer.logprobs:  # greedy: the likeliest was taken
            self.assertEqual((token.token_id, token.logprob), (token.top[0].token_id, token.top[0].logprob))

    def test_model_is_described(self):
        config = json.loads((DEMO / "config.json").read_text())
        model = self.stub.GetModel(pb.GetModelRequest()).model
        self.assertEqual((model.name, model.architecture, model.activation), ("demo", "llama", "relu"))
        self.assertEqual(model.shape, pb.ModelShape(
            n_layers=config["num_hidden_layers"], d_model=config["hidden_size"], d_ff=config["intermediate_size"],
            n_heads=config["num_attention_heads"], n_kv_heads=config["num_key_value_heads"],
            d_head=config["hidden_size"] // config["num_attention_heads"], gated=True))
        self.assertEqual((model.context_length, model.vocabulary_size), (CONTEXT_TOKENS, config["vocab_size"]))
        self.assertEqual(list(model.weight_types), ["F16"])
        self.assertEqual((model.mode, list(model.qualities)), ("exact", [pb.QUALITY_EXACT]))  # ReLU without predictors

    def test_bad_requests_name_their_field(self):
        nan, infinity = float("nan"), float("inf")

        def sampling(**fields):
            return request(sampling=pb.SamplingOptions(**fields))

        def stopping(**fields):
            return pb.CompleteRequest(text="x", stopping=pb.StoppingOptions(**fields))

        def time_limit(**fields):
            message = stopping()
            message.stopping.time_limit.SetInParent()
            for name, value in fields.items():
                setattr(message.stopping.time_limit, name, value)
            return message

        def token_ids(*ids):
            return pb.CompleteRequest(token_ids=pb.TokenIds(ids=ids))

        def chat(*messages, **fields):
            said = [pb.ChatMessage(role=role, content=content) for role, content in messages]
            return pb.CompleteRequest(messages=pb.ChatMessages(messages=said), **fields)

        biases = [pb.LogitBias(token_id=1, bias=1)] * 1025
        cases = [(pb.CompleteRequest(), "prompt"),
                 (request(""), "prompt"),
                 (request("word " * CONTEXT_TOKENS), "prompt"),
                 (token_ids(), "prompt"),
                 (token_ids(1 << 30), "prompt"),
                 (token_ids(-1), "prompt"),
                 (token_ids(*[5] * CONTEXT_TOKENS), "prompt"),
                 (pb.CompleteRequest(token_ids=pb.TokenIds(ids=[5]), parse_special=False), "parse_special"),
                 (chat(), "messages"),
                 (chat(("robot", "x")), "messages[0].role"),
                 (chat(("user", "x"), ("", "y")), "messages[1].role"),
                 (chat(*[("user", "x")] * 4097), "messages"),
                 (chat(("user", "x"), parse_special=True), "parse_special"),
                 (request(n=0), "n"),
                 (request(n=-3), "n"),
                 (request(n=129), "n"),
                 (request(max_tokens=0), "max_tokens"),
                 (request(max_tokens=-5), "max_tokens"),
                 (stopping(min_tokens=-1), "min_tokens"),
                 (stopping(max_tokens=3, min_tokens=-(1 << 62)), "min_tokens"),
                 (request(stop=["x"] * 65), "stop"),
                 (request(stop=[""]), "stop"),
                 (request(stop=["x" * 1025]), "stop"),
                 (time_limit(seconds=-1), "time_limit"),
                 (time_limit(nanos=-1), "time_limit"),
                 (time_limit(nanos=1000000000), "time_limit"),
                 (time_limit(seconds=2592001), "time_limit"),
                 (time_limit(), "time_limit"),
                 (sampling(temperature=nan), "temperature"),
                 (sampling(temperature=-0.1), "temperature"),
                 (sampling(temperature=infinity), "temperature"),
                 (sampling(top_k=-1), "top_k"),
                 (sampling(top_p=0), "top_p"),
                 (sampling(top_p=1.5), "top_p"),
                 (sampling(min_p=-0.5), "min_p"),
                 (sampling(min_p=nan), "min_p"),
                 (sampling(repetition_penalty=0), "repetition_penalty"),
                 (sampling(repetition_penalty=11), "repetition_penalty"),
                 (sampling(presence_penalty=2.5), "presence_penalty"),
                 (sampling(frequency_penalty=-2.5), "frequency_penalty"),
                 (sampling(logit_bias=[pb.LogitBias(token_id=1 << 30, bias=1)]), "logit_bias"),
                 (sampling(logit_bias=[pb.LogitBias(token_id=1, bias=101)]), "logit_bias"),
                 (sampling(logit_bias=biases), "logit_bias"),
                 (request(output=pb.OutputOptions(top_logprobs=21)), "top_logprobs"),
                 (request(output=pb.OutputOptions(top_logprobs=-1)), "top_logprobs"),
                 (request(quality=pb.QUALITY_UNSPECIFIED), "quality"),
                 (request(quality=pb.QUALITY_FAST), "quality")]
        self.assertGreaterEqual(len(cases), 40)
        for message, field in cases:
            streamed = pb.StreamCompleteRequest.FromString(message.SerializeToString())
            for call in [lambda m=message: self.stub.Complete(m), lambda m=streamed: list(self.stub.StreamComplete(m))]:
                details, metadata = self.refused(grpc.StatusCode.INVALID_ARGUMENT, call)
                self.assertEqual(metadata.get("thermocline-field"), field, details)
                violations = detail(metadata, rpc.BadRequest).field_violations
                self.assertEqual([(v.field, v.description) for v in violations], [(field, details)])
        _, metadata = self.refused(grpc.StatusCode.NOT_FOUND, lambda: self.stub.Complete(request(model="gpt-9")))
        self.assertEqual(metadata["thermocline-field"], "model")
        for call in [lambda: self.stub.Detokenize(pb.DetokenizeRequest(token_ids=[-1])),
                     lambda: list(self.server.admin.WatchStats(admin.WatchStatsRequest(interval={"nanos": 5})))]:
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, call)
        self.assertEqual(self.stub.Complete(request(max_tokens=1)).summary.usage.completion_tokens, 1)

    def test_choices(self):
        def asked(kind, seed, n):
            return request(max_tokens=12, kind=kind, n=n, sampling=pb.SamplingOptions(temperature=0.9, seed=seed))

        alone = [self.stub.Complete(asked(None, 40 + i, 1)).text for i in range(3)]
        whole = self.stub.Complete(asked(None, 40, 3))
        self.assertEqual([whole.text] + [choice.text for choice in whole.other_choices], alone)
        self.assertEqual([choice.summary.index for choice in whole.other_choices], [1, 2])
        texts, summaries = ["", "", ""], []
        for message in self.stub.StreamComplete(asked(pb.StreamCompleteRequest, 40, 3)):
            if message.WhichOneof("event") == "delta":
                texts[message.delta.index] += message.delta.text
            else:
                summaries.append(message.summary)
        self.assertEqual(texts, alone)
        self.assertEqual(sorted(summary.index for summary in summaries), [0, 1, 2])
        self.assertEqual(len({summary.usage.prompt_tokens for summary in summaries}), 1)

    def test_chat_is_written_down_by_the_template(self):
        with Server("--chat-template", "chatml") as server:
            written = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
            chat = pb.ChatMessages(messages=[pb.ChatMessage(role="user", content="Hello")])
            stopping = pb.StoppingOptions(max_tokens=8)
            answer = server.stub.Complete(pb.CompleteRequest(messages=chat, stopping=stopping))
            same = server.stub.Complete(pb.CompleteRequest(text=written, parse_special=True, stopping=stopping))
            self.assertEqual((answer.text, answer.summary.usage.prompt_tokens), (same.text, same.summary.usage.prompt_tokens))

    def test_cached_tokens_are_told(self):
        prompt = (DEMO / "valid.txt").read_text()[:600]
        first = self.stub.Complete(request(prompt, 4)).summary.usage
        again = self.stub.Complete(request(prompt, 4)).summary.usage
        self.assertEqual(first.cached_tokens, 0)
        self.assertTrue(again.prompt_tokens - 16 <= again.cached_tokens < again.prompt_tokens, again)

    def test_reflection_lists_the_services(self):
        ask = self.server.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        answer = next(ask(iter([b"\x3a\x01*"]), timeout=60))
        for service in [b"thermocline.v1.CompletionService", b"thermocline.v1.AdminService", b"grpc.health.v1.Health"]:
            self.assertIn(service, answer)

    def test_health_knows_every_service(self):
        for service in ["", "thermocline.v1.CompletionService", "thermocline.v1.AdminService", "grpc.health.v1.Health",
                        "grpc.reflection.v1alpha.ServerReflection"]:
            self.assertEqual(self.server.health(service), SERVING, service)

    def test_bytes_that_are_no_message_are_refused(self):
        complete = self.server.channel.unary_unary("/thermocline.v1.CompletionService/Complete")
        for body in [b"\xff" * 64, b"\x12\x02\xc3\x28"]:  # no field at all; text that is not UTF-8
            with self.assertRaises(grpc.RpcError):
                complete(body, timeout=60)
        self.assertEqual(self.server.health("thermocline.v1.CompletionService"), SERVING)

    def test_disconnect_ends_the_completions(self):
        one = gather(long_stream(self.stub))[2]
        self.assertEqual(one.finish_reason, pb.FINISH_REASON_LENGTH)
        one_ms = one.timings.prefill_ms + one.timings.decode_ms
        channel, stub = self.server.connect()
        streams = [long_stream(stub) for _ in range(40)]
        next(streams[0])  # the first one decodes, the others come or wait
        channel.close()
        # All forty would take forty times as long as one.
        after = self.stub.Complete(request(max_tokens=1)).summary
        self.assertLess(after.timings.queue_ms, 10 * one_ms)

    def test_deadline(self):
        blockers = [long_stream(self.stub) for _ in range(20)]
        next(blockers[0])
        self.refused(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: self.stub.Complete(request(), timeout=0.02))
        for blocker in blockers:
            blocker.cancel()
        self.assertEqual(self.stub.Complete(request(max_tokens=1), timeout=60).summary.usage.completion_tokens, 1)


class Admin(unittest.TestCase):
    def test_figures_add_up(self):
        with Server() as server:
            idle = server.admin.GetStats(admin.GetStatsRequest()).stats
            self.assertEqual((idle.requests_finished, idle.generated_tokens, idle.execution.steps), (0, 0, 0))
            self.assertEqual((idle.mode, idle.audit.every), ("exact", 256))
            answer = server.stub.Complete(request(max_tokens=12, ignore_eos=True))
            self.assertEqual(answer.summary.quality, pb.QUALITY_EXACT)
            stats = server.admin.GetStats(admin.GetStatsRequest()).stats
            self.assertEqual((stats.requests_running, stats.requests_waiting, stats.requests_finished), (0, 0, 1))
            self.assertEqual(stats.generated_tokens, 12)
            self.assertEqual(stats.sparsity, answer.summary.sparsity)
            self.assertEqual((stats.sparsity.tokens, stats.sparsity.marked), (11, stats.sparsity.neurons))
            self.assertTrue(0 < stats.sparsity.active < stats.sparsity.neurons)
            self.assertEqual(stats.execution.steps, 12)  # the prompt's, and one for each token but the last
            self.assertEqual(len(stats.execution.busy_seconds), 1)
            self.assertFalse(stats.execution.HasField("overlap_ratio"))

    def test_watch(self):
        with Server() as server:
            watch = server.admin.WatchStats(admin.WatchStatsRequest(interval={"nanos": 100000000}))
            first = next(watch).stats
            self.assertEqual(first.generated_tokens, 0)
            self.assertGreaterEqual(first.kv_cache.pages * first.kv_cache.tokens_per_page, CONTEXT_TOKENS)
            server.stub.Complete(request(max_tokens=12, ignore_eos=True))
            now = next(message.stats for message in watch if message.stats.requests_finished == 1)
            self.assertEqual((now.generated_tokens, now.steps.prefill, now.steps.decode), (12, 1, 11))
            self.assertEqual(now.kv_cache.used_pages, 0)
            server.process.send_signal(signal.SIGTERM)
            for _ in watch:
                pass
            self.assertEqual(watch.code(), grpc.StatusCode.OK)
            self.assertEqual(server.process.wait(timeout=120), 0)

    def test_placement_on_the_cpu(self):
        config = json.loads((DEMO / "config.json").read_text())
        with Server() as server:
            placement = server.admin.GetPlacement(admin.GetPlacementRequest()).placement
            self.assertEqual([(device.name, device.emulated, device.budget_bytes) for device in placement.devices], [("cpu", False, 0)])
            self.assertGreater(placement.devices[0].used_bytes, 0)
            self.assertEqual(placement.neurons_per_layer, config["intermediate_size"])
            self.assertEqual(list(placement.hot_neurons), [0] * config["num_hidden_layers"])


class Predicted(unittest.TestCase):
    """A server with predictors, hot neurons on the emulated accelerator."""

    @classmethod
    def setUpClass(cls):
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        corpus, cls.profile = folder / "corpus.txt", folder / "profile"
        corpus.write_bytes((DEMO / "valid.txt").read_bytes()[:20000])
        made = run("profile", DEMO, "--corpus", corpus, "--predictor", "sign", "--predictor-tokens", 512,
                   "--device", "host", "--gpu-memory", "8MiB",
                   "--hardware", SOURCE / "tests" / "e2e" / "split_hardware.json", "--out", cls.profile)
        assert made.returncode == 0, made.stderr
        cls.server = cls.enterClassContext(Server("--profile", cls.profile, "--device", "host", "--audit-every", "5", "--request-traces", "2"))

    def complete(self, **fields):
        return self.server.stub.Complete(request("Once upon a time", 21, ignore_eos=True, **fields))

    def stats(self):
        return self.server.admin.GetStats(admin.GetStatsRequest()).stats

    def test_each_request_gets_its_quality(self):
        model = self.server.stub.GetModel(pb.GetModelRequest()).model
        self.assertEqual((model.mode, list(model.qualities)), ("predicted", [pb.QUALITY_EXACT, pb.QUALITY_BALANCED, pb.QUALITY_FAST]))
        for name in ["exact", "balanced", "fast"]:
            alone = json.loads(run("run", DEMO, "--prompt", "Once upon a time", "--max-tokens", 21, "--ignore-eos", "--quality", name,
                                   "--profile", self.profile, "--device", "host", "--json").stdout)
            answer = self.complete(quality=pb.Quality.Value(f"QUALITY_{name.upper()}"))
            self.assertEqual(list(answer.token_ids), alone["token_ids"], name)
            self.assertEqual(answer.summary.sparsity.marked, alone["sparsity"]["marked"])
            ours = json.loads(run("complete", "--server", self.server.address, "--prompt", "Once upon a time", "--max-tokens", 21,
                                  "--ignore-eos", "--quality", name, "--json").stdout)
            self.assertEqual((ours["quality"], ours["token_ids"], ours["sparsity"]), (name, alone["token_ids"], alone["sparsity"]))
        self.assertEqual(self.complete().summary.quality, pb.QUALITY_BALANCED)

    def test_live_audit(self):
        before = self.stats().audit
        exact = self.complete(quality=pb.QUALITY_EXACT).summary.sparsity
        self.assertEqual((exact.audited_tokens, exact.HasField("predictor_recall")), (0, False))
        self.assertEqual(self.stats().audit, before)
        fast = self.complete(quality=pb.QUALITY_FAST).summary.sparsity  # 20 steps, one audit in 5
        self.assertEqual(fast.audited_tokens, 4)
        self.assertTrue(0 < fast.predictor_recall < 1, fast)
        self.assertTrue(0 < fast.active_on_accelerators < fast.active, fast)
        after = self.stats().audit
        self.assertEqual((after.every, after.tokens), (5, before.tokens + 4))
        self.assertTrue(0 < after.recall < 1, after)
        self.assertTrue(0 < after.kl_mean <= after.kl_max, after)

    def test_placement_and_execution(self):
        placement = self.server.admin.GetPlacement(admin.GetPlacementRequest()).placement
        self.assertEqual([device.emulated for device in placement.devices], [False, True])
        host = placement.devices[1]
        self.assertEqual(host.budget_bytes, 8 << 20)
        self.assertTrue(0 < host.used_bytes <= host.budget_bytes, host)
        self.assertGreater(sum(placement.hot_neurons), 0)
        answer = self.complete(quality=pb.QUALITY_EXACT)
        self.assertTrue(0 < answer.summary.sparsity.active_on_accelerators < answer.summary.sparsity.active)
        execution = self.stats().execution
        self.assertEqual(len(execution.busy_seconds), 2)
        self.assertGreater(execution.hand_overs, 0)
        self.assertGreater(execution.mean_hand_over_micros, 0)
        self.assertTrue(0 <= execution.overlap_ratio <= 1, execution)
        self.assertGreater(execution.link_bytes, 0)

    def test_a_trace_shows_phases_steps_and_operators(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            done = run("complete", "--server", self.server.address, "--prompt", "Once upon a time", "--max-tokens", 21, "--ignore-eos",
                       "--trace", path)
            self.assertEqual(done.returncode, 0, done.stderr)
            events = json.loads(path.read_text())["traceEvents"]
        tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
        self.assertEqual(list(tracks.values()), ["request", "its steps", "cpu", "host"])
        spans = [e for e in events if e["ph"] == "X"]
        self.assertEqual([e["name"] for e in spans if e["cat"] == "phase"], ["queued", "prefill", "decode"])
        steps = [e for e in spans if e["cat"] == "step"]
        self.assertEqual(sum(e["name"].startswith("decode at") for e in steps), 20)
        operators = [e for e in spans if e["cat"] == "operator"]
        self.assertEqual({tracks[e["tid"]] for e in operators}, {"cpu", "host"})
        self.assertIn("neurons", {e["name"] for e in operators})
        # Perfetto draws what lies within what: operators within steps, steps within the request's time.
        inside = lambda e, outer: outer["ts"] <= e["ts"] and e["ts"] + e["dur"] <= outer["ts"] + outer["dur"]
        for operator in operators:
            self.assertTrue(any(inside(operator, step) for step in steps), operator)


class Log(unittest.TestCase):
    PROMPT = "red \x1b[31m\nline"

    def lines_of(self, *flags):
        """What the server logs of one completion, whole lines."""
        with Server(*flags) as server:
            server.stub.Complete(request(self.PROMPT, 3, request_id="mine"))
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(timeout=120)
            return [line for line in iter(server.lines.get, None) if line.startswith("{")]

    def test_prompts_come_when_they_are_asked_for_and_escaped(self):
        lines = self.lines_of("--log-level", "debug", "--log-prompts")
        self.assertNotIn("\x1b", "".join(lines))
        logged = [json.loads(line) for line in lines]
        admitted = [line for line in logged if line["event"] == "admitted"]
        self.assertEqual([(line["level"], line["request_id"], line["choices"]) for line in admitted], [("debug", "mine", 1)])
        done = next(line for line in logged if line.get("request_id") == "mine" and line["event"] == "request")
        self.assertIn("\x1b[31m\nline", done["prompt"])
        self.assertTrue(done["completion"])

    def test_prompts_are_left_out_by_default(self):
        logged = [json.loads(line) for line in self.lines_of()]
        self.assertFalse([line for line in logged if line["event"] == "admitted"])
        done = next(line for line in logged if line.get("request_id") == "mine")
        self.assertFalse({"prompt", "completion"} & set(done))

    def test_levels_leave_out_what_is_below(self):
        self.assertEqual(self.lines_of("--log-level", "warning"), [])


class Capacity(RefusalsTestCase):
    def test_flags_bound_what_runs_and_waits(self):
        with Server("--kv-tokens", CONTEXT_TOKENS, "--max-running", "1", "--max-queued", "1") as server:
            cache = server.admin.GetStats(admin.GetStatsRequest()).stats.kv_cache
            self.assertEqual(cache.pages * cache.tokens_per_page, CONTEXT_TOKENS)
            running = long_stream(server.stub)
            next(running)
            waiting = long_stream(server.stub)
            while server.admin.GetStats(admin.GetStatsRequest()).stats.requests_waiting == 0:
                pass
            _, metadata = self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: server.stub.Complete(request()))
            delay = detail(metadata, rpc.RetryInfo).retry_delay.ToTimedelta().total_seconds()
            self.assertEqual(round(delay * 1000), int(metadata["grpc-retry-pushback-ms"]))
            self.assertGreater(delay, 0)
            waiting.cancel()
            running.cancel()

    def test_default_holds_several_contexts(self):
        with Server() as server:
            cache = server.admin.GetStats(admin.GetStatsRequest()).stats.kv_cache
            self.assertEqual(cache.pages * cache.tokens_per_page, 8 * CONTEXT_TOKENS)


class Life(unittest.TestCase):
    def test_sigterm_drains_and_exits_0(self):
        with Server("--shutdown-timeout", "120s") as server:
            self.assertEqual(server.health(""), SERVING)
            first = long_stream(server.stub)
            tokens = len(next(first).delta.token_ids)  # it runs
            others = [long_stream(server.stub) for _ in range(5)]
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_line("draining")
            with self.assertRaises(grpc.RpcError) as refused:
                server.stub.Complete(request(), timeout=60)
            self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAVAILABLE)

            _, token_ids, summary = gather(first)
            self.assertEqual(summary.usage.completion_tokens, tokens + len(token_ids))
            self.assertEqual(summary.usage.prompt_tokens + summary.usage.completion_tokens, CONTEXT_TOKENS)
            for other in others:  # whole, or refused since it came too late; never broken off
                try:
                    self.assertEqual(gather(other)[2].finish_reason, pb.FINISH_REASON_LENGTH)
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(server.process.wait(timeout=120), 0)

    def test_health_watch_sees_the_drain(self):
        with Server() as server:
            watch = server.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=120)
            self.assertEqual(next(watch)[1], SERVING)
            server.process.send_signal(signal.SIGTERM)
            with self.assertRaises((grpc.RpcError, StopIteration)):
                while True:
                    self.assertEqual(next(watch)[1], NOT_SERVING)
            self.assertEqual(server.process.wait(timeout=120), 0)

    def test_timeout_ends_the_drain(self):
        with Server("--shutdown-timeout", "0ms") as server:
            streams = [long_stream(server.stub) for _ in range(40)]
            next(streams[0])
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.process.wait(timeout=120), 0)
            broken_off = 0
            for stream in streams[1:]:
                try:
                    gather(stream)
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
                    broken_off += 1
            self.assertGreater(broken_off, 0)  # forty cannot have come to their end

    def test_second_signal_ends_at_once(self):
        with Server("--shutdown-timeout", "120s") as server:
            streams = [long_stream(server.stub) for _ in range(200)]
            next(streams[0])
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_line("draining")
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(timeout=120), -signal.SIGTERM)

    def test_busy_port(self):
        with Server() as server:
            result = run("serve", DEMO, "--listen", server.address)
            self.assertEqual(result.returncode, 1)
            errors = [line for line in result.stderr.splitlines() if "mode" not in line]
            self.assertEqual(len(errors), 1, result.stderr)
            self.assertIn(server.address, errors[0])
            self.assertEqual(server.health(""), SERVING)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
