#!/usr/bin/env python3
"""The server under many clients at once: nobody's answer changes, nothing is left behind, and the books agree.

usage: concurrency_test.py THERMOCLINE SOURCE_DIR [VANISHING_CLIENTS]     60 clients vanish unless another number is said
SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import grpc

from grpc_server import pb, pb_grpc
from load_client import Server, call, complete, in_parallel, vanish

PROGRAM, SOURCE = sys.argv[1], Path(sys.argv[2])
VANISHING_CLIENTS = int(sys.argv[3]) if len(sys.argv) > 3 else 60
DEMO = SOURCE / "models" / "demo"
GOLDEN = json.loads((DEMO / "golden.json").read_text())
PROMPTS = [case["prompt"] for case in GOLDEN["cases"]]
TEXT = (DEMO / "valid.txt").read_text()
PAGE_TOKENS = 16


def prompt_at(random_numbers, length):
    start = random_numbers.randrange(len(TEXT) - length)
    return TEXT[start:start + length]


def http_request(numbers):
    """One of many kinds; what it asks for decides its answer."""
    body = {"max_tokens": numbers.randint(1, 40), "temperature": 0, "stream": numbers.random() < 0.5}
    if numbers.random() < 0.5:
        body |= {"temperature": 0.9, "top_p": 0.95, "seed": numbers.randrange(1 << 32), "n": numbers.randint(1, 2)}
    if numbers.random() < 0.3:
        body["stop"] = [" the", "."]
    prompt = prompt_at(numbers, numbers.choice([5, 40, 400]))
    if numbers.random() < 0.3:
        return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": prompt}]}
    return "/v1/completions", body | {"prompt": prompt}


async def http_answer(server, request):
    path, body = request
    answer = await complete(server, body, path)
    assert answer.whole, (answer, body)
    return answer.texts, answer.finish_reasons


async def grpc_answer(stub, fields):
    message = pb.CompleteRequest(text=fields["prompt"], stopping=pb.StoppingOptions(max_tokens=fields["max_tokens"]))
    if "seed" in fields:
        message.sampling.seed, message.sampling.temperature = fields["seed"], fields["temperature"]
    answer = await stub.Complete(message, wait_for_ready=True)
    return list(answer.token_ids), answer.summary.finish_reason


def run(coroutine):
    return asyncio.run(coroutine)


class OneServer(unittest.TestCase):
    """The server outlives its tests, so that what one leaves behind disturbs the next."""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server(PROGRAM, DEMO))

    def test_a_hundred_mixed_requests_are_answered_as_alone(self):
        numbers = random.Random(1)
        requests = [http_request(numbers) for _ in range(80)]
        calls = [{"prompt": prompt_at(numbers, 60), "max_tokens": 20} | ({"seed": i, "temperature": 0.8} if i % 2 else {})
                 for i in range(20)]

        async def answers(at_a_time, order):
            async with grpc.aio.insecure_channel(self.server.grpc) as channel:
                stub = pb_grpc.CompletionServiceStub(channel)
                jobs = [http_answer(self.server, request) for request in requests] + [grpc_answer(stub, fields) for fields in calls]
                found = await in_parallel(at_a_time, [jobs[i] for i in order])
                return dict(zip(order, found))

        order = list(range(100))
        alone = run(answers(1, order))
        numbers.shuffle(order)
        self.assertEqual(run(answers(16, order)), alone)

    def test_sixteen_clients_get_the_goldens(self):
        async def client(case):
            return await complete(self.server, {"prompt": case["prompt"], "max_tokens": len(case["greedy_ids"]), "temperature": 0})

        async def all_clients():
            cases = [GOLDEN["cases"][i % len(PROMPTS)] for i in range(16)]
            return cases, await asyncio.gather(*map(client, cases))

        for case, answer in zip(*run(all_clients())):
            self.assertEqual(answer.text.removeprefix(" "), case["text"])

    def test_clients_that_vanish_leave_nothing_behind(self):
        numbers = random.Random(2)
        steady = [(prompt, 48) for prompt in PROMPTS]

        async def steady_client(prompt, tokens):
            answer = await complete(self.server, {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True})
            return answer.texts

        async def vanishing_http_client(after, prompt, wait):
            await asyncio.sleep(wait)
            answer = await complete(self.server, {"prompt": prompt, "max_tokens": 100, "ignore_eos": True, "stream": True},
                                    vanish_after=after)
            self.assertIn(answer.status, (0, 200))

        async def silent_client(prompt, wait):
            """Vanishes while its whole answer is computed, or waits to be."""
            reader, writer = await asyncio.open_connection(self.server.host, self.server.port)
            body = json.dumps({"prompt": prompt, "max_tokens": 100, "ignore_eos": True}).encode()
            writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                         b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await asyncio.sleep(wait)
            vanish(writer)

        async def vanishing_grpc_client(stub, after, prompt, timeout):
            message = pb.StreamCompleteRequest(text=prompt, stopping=pb.StoppingOptions(max_tokens=100, ignore_eos=True))
            stream = stub.StreamComplete(message, timeout=timeout)
            try:
                for _ in range(after):
                    await stream.read()
                stream.cancel()
                await stream.read()
            except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
                pass  # cancelled, or past its deadline

        async def scenario():
            alone = [await steady_client(*request) for request in steady]
            await self.server.idle()
            async with grpc.aio.insecure_channel(self.server.grpc) as channel:
                stub = pb_grpc.CompletionServiceStub(channel)
                await stub.GetModel(pb.GetModelRequest())
                (threads, pools), files = self.server.threads(), self.server.open_files()
                vanishing = []
                for i in range(VANISHING_CLIENTS):
                    prompt, wait = prompt_at(numbers, 200), numbers.random() * VANISHING_CLIENTS / 100
                    kind = i % 4
                    if kind == 0:
                        vanishing.append(silent_client(prompt, wait))
                    elif kind == 1:
                        timeout = numbers.choice([None, 0.01, 0.1])
                        vanishing.append(vanishing_grpc_client(stub, numbers.randint(0, 30), prompt, timeout))
                    else:
                        vanishing.append(vanishing_http_client(numbers.randint(-1, 40), prompt, wait))
                beside = [steady_client(*request) for request in steady * 4]
                found = await asyncio.gather(*beside, *vanishing)
                self.assertEqual(found[:len(beside)], alone * 4)
                metrics = await self.server.idle()
                self.assertEqual(metrics.get("vllm:kv_cache_usage_perc"), 0)
                # The last connections close after their last answers.
                while self.server.open_files() > files or self.server.threads()[0] > threads:
                    await asyncio.sleep(0.02)
                # Were there a thread for each, these would be as many as the clients of gRPC.
                self.assertLess(self.server.threads()[1] - pools, VANISHING_CLIENTS // 4)

        run(scenario())

    def test_a_prompt_that_comes_again_is_cached(self):
        async def twice():
            tokens = (await call(self.server, "POST", "/tokenize", {"prompt": TEXT[5000:8000]})).json()["tokens"][:400]
            body = {"prompt": tokens, "max_tokens": 8, "temperature": 0}
            before = await self.server.idle()
            answers = [await complete(self.server, body) for _ in range(2)]
            return before, answers, await self.server.idle()

        before, (first, again), after = run(twice())
        # Whole pages of all but the last token, which must be computed for its logits.
        cached = 399 // PAGE_TOKENS * PAGE_TOKENS
        self.assertEqual([answer.usage["prompt_tokens_details"]["cached_tokens"] for answer in (first, again)], [0, cached])
        self.assertEqual(again.texts, first.texts)
        for name, grown in [("vllm:prefix_cache_queries_total", 800), ("vllm:prefix_cache_hits_total", cached)]:
            self.assertEqual(after.get(name) - before.get(name), grown, name)


class Overload(unittest.TestCase):
    def test_what_is_refused_is_told_when_to_come_again(self):
        """Many more than there is room for, at once: each is either answered in full or refused."""
        body = {"prompt": PROMPTS[0], "max_tokens": 300, "temperature": 0, "ignore_eos": True}

        async def grpc_client(stub):
            message = pb.CompleteRequest(text=PROMPTS[0], stopping=pb.StoppingOptions(max_tokens=300, ignore_eos=True))
            try:
                return len((await stub.Complete(message)).token_ids)
            except grpc.aio.AioRpcError as error:
                return error

        async def burst(server):
            alone = await complete(server, body)
            async with grpc.aio.insecure_channel(server.grpc) as channel:
                stub = pb_grpc.CompletionServiceStub(channel)
                answers = await asyncio.gather(*(complete(server, body) for _ in range(150)), *(grpc_client(stub) for _ in range(50)))
            after = await complete(server, body)
            return alone, answers[:150], answers[150:], after, await server.idle()

        with Server(PROGRAM, DEMO, "--max-running", 4, "--max-queued", 4) as server:
            alone, answers, called, after, metrics = run(burst(server))
        admitted = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status != 200]
        errors = [answer for answer in called if isinstance(answer, grpc.aio.AioRpcError)]
        # Which of the clients find room is the machine's choice.
        self.assertTrue(len(admitted) + len(called) > len(errors) and refused, (len(admitted), len(errors)))
        for answer in admitted + [after]:
            self.assertEqual((answer.texts, answer.usage["completion_tokens"]), (alone.texts, 300))
        for answer in refused:
            self.assertEqual((answer.status, answer.error["code"]), (429, "rate_limit_exceeded"))
            self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
        for error in errors:
            self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, error.details())
            self.assertGreater(int(error.trailing_metadata()["grpc-retry-pushback-ms"]), 0)
            self.assertIn(b"google.rpc.RetryInfo", error.trailing_metadata()["grpc-status-details-bin"])
        self.assertEqual({answer for answer in called if answer not in errors} | {300}, {300})
        self.assertEqual(metrics.get("thermocline_requests_refused_total", status="RESOURCE_EXHAUSTED"), len(refused) + len(errors))


class Counters(unittest.TestCase):
    def test_they_equal_what_clients_counted(self):
        bad = [({"prompt": ""}, "/v1/completions"), ({"prompt": "x", "temperature": -1}, "/v1/completions"),
               ({"messages": []}, "/v1/chat/completions")]
        calls = 20

        async def grpc_client(stub, number):
            message = pb.CompleteRequest(text=PROMPTS[0], stopping=pb.StoppingOptions(max_tokens=number + 1, ignore_eos=True))
            return (await stub.Complete(message)).summary

        async def scenario(server):
            numbers = random.Random(3)
            requests = [http_request(numbers) for _ in range(60)]
            async with grpc.aio.insecure_channel(server.grpc) as channel:
                stub = pb_grpc.CompletionServiceStub(channel)
                answers = await in_parallel(16, [complete(server, ask(body), path) for path, body in requests]
                                            + [grpc_client(stub, number) for number in range(calls)])
            refused = [await complete(server, body, path) for body, path in bad]
            return requests, answers, refused, await server.idle()

        def ask(body):
            return body | ({"stream_options": {"include_usage": True}} if body["stream"] else {})

        with Server(PROGRAM, DEMO) as server:
            requests, answers, refused, metrics = run(scenario(server))
        answers, summaries = answers[:-calls], answers[-calls:]
        self.assertEqual([answer.status for answer in refused], [400] * len(bad))
        choices = sum(body.get("n", 1) for _, body in requests) + calls  # each is a request to the scheduler
        prompt_tokens, completion_tokens = (
            sum(answer.usage[name] for answer in answers) + sum(getattr(summary.usage, name) for summary in summaries)
            for name in ("prompt_tokens", "completion_tokens"))
        reasons = [reason for answer in answers for reason in answer.finish_reasons.values()] + ["length"] * calls
        self.assertEqual(metrics.get("vllm:prompt_tokens_total"), prompt_tokens)
        self.assertEqual(metrics.get("vllm:generation_tokens_total"), completion_tokens)
        for reason in ("stop", "length"):
            self.assertEqual(metrics.get("vllm:request_success_total", finished_reason=reason), reasons.count(reason), reason)
        self.assertEqual(metrics.sum("vllm:request_success_total"), choices)
        for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_prefill_time", "request_decode_time"):
            self.assertEqual(metrics.get(f"vllm:{name}_seconds_count"), choices, name)
        self.assertEqual(metrics.get("vllm:inter_token_latency_seconds_count"), completion_tokens - choices)
        self.assertEqual(metrics.get("thermocline_requests_refused_total", status="INVALID_ARGUMENT"), len(bad))
        self.assertEqual(metrics.sum("thermocline_requests_refused_total"), len(bad))
        self.check_with_promtool(metrics.text)

    def check_with_promtool(self, text):
        """Nothing to object to, but for the colons of vLLM's names, which dashboards know."""
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        self.assertIn(checked.returncode, (0, 3), checked.stderr)
        objections = [line for line in checked.stderr.splitlines() if line]
        for line in objections:
            self.assertRegex(line, r"^vllm:\w+ metric names should not contain ':'$")


class Drain(unittest.TestCase):
    def test_streams_of_both_kinds_complete(self):
        body = {"prompt": PROMPTS[0], "max_tokens": 400, "ignore_eos": True, "temperature": 0, "stream": True}

        async def rest_of(stream):
            """How many tokens still come."""
            tokens = 0
            while (message := await stream.read()) is not grpc.aio.EOF:
                tokens += len(message.delta.token_ids)
            return tokens

        async def scenario(server):
            alone = await complete(server, body)
            async with grpc.aio.insecure_channel(server.grpc) as channel:
                stub = pb_grpc.CompletionServiceStub(channel)
                message = pb.StreamCompleteRequest(text=PROMPTS[0], stopping=pb.StoppingOptions(max_tokens=400, ignore_eos=True))
                called = [stub.StreamComplete(message) for _ in range(10)]
                started = [await stream.read() for stream in called[:1]]
                heads = [asyncio.Event() for _ in range(10)]
                streams = [asyncio.ensure_future(complete(server, body, admitted=head)) for head in heads]
                for head in heads:
                    await head.wait()
                server.process.send_signal(signal.SIGTERM)
                server.wait_for_line("draining")
                refused = await complete(server, body)
                with self.assertRaises(grpc.aio.AioRpcError) as caught:
                    await stub.Complete(pb.CompleteRequest(text="x"))
                health = await call(server, "GET", "/health")
                answers = await asyncio.gather(*streams)
                tokens = [await rest_of(stream) for stream in called]
                return alone, started, refused, caught.exception, health, answers, tokens

        with Server(PROGRAM, DEMO, "--shutdown-timeout", "10m") as server:
            alone, started, refused, unavailable, health, answers, tokens = run(scenario(server))
            code = server.process.wait(60)
        self.assertEqual((refused.status, health.status, health.json()["status"]), (503, 503, "draining"))
        self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
        self.assertEqual(unavailable.code(), grpc.StatusCode.UNAVAILABLE)
        for answer in answers:
            self.assertEqual((answer.whole, answer.texts), (True, alone.texts))
        tokens[0] += len(started[0].delta.token_ids)
        self.assertEqual(tokens, [400] * 10)
        self.assertEqual(code, 0)


class Configured(unittest.TestCase):
    def test_a_file_stands_for_the_flags(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "serve.toml"
            path.write_text("http-threads = 1\nmax-queued = 3\nlisten = \"256.0.0.1:1\"\n")
            with Server(PROGRAM, DEMO, "--config", path) as server:  # whose --listen is better
                self.assertEqual(run(call(server, "GET", "/health")).json(), {"status": "ok"})
            path.write_text("max-queued = 3\nmax-queue = 3\n")
            failed = subprocess.run([PROGRAM, "serve", str(DEMO), "--config", str(path)], capture_output=True, text=True)
            self.assertEqual(failed.returncode, 2, failed.stderr)
            self.assertRegex(failed.stderr, re.escape(f"{path}, line 2") + r'.*"max-queue"')


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
