#!/usr/bin/env python3
"""A mixed soak of the server: every kind of request, clients that vanish, bursts of overload; what stays behind is reported.

usage: soak.py THERMOCLINE MODEL TEXT [--minutes 10] [--clients 12] [--seed 1]        TEXT: a file that prompts are cut from
Prints a summary as JSON. Fails when an answer is wrong or missing, when memory grew by 50 MB or more after the warm-up, or
when pages, threads or files do not return to what they were. Times are reported, not judged.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import asyncio
import collections
import json
import random
import signal
import statistics
import sys
import time
from pathlib import Path

from load_client import Server, call, complete

MOST_GROWTH_BYTES = 50_000_000
MOST_QUEUED = 16
BURST_SECONDS = 30  # between bursts


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Soak:
    def __init__(self, server, text, numbers, seconds):
        self.server, self.text, self.numbers = server, text, numbers
        self.ends = time.monotonic() + seconds
        self.counts = collections.Counter()
        self.problems = []
        self.refusal_seconds = []
        self.rss_bytes = []
        self.references = []  # of prompt and the answer it gets alone
        self.tokens = 0

    def running(self):
        return time.monotonic() < self.ends

    def prompt(self, length):
        start = self.numbers.randrange(len(self.text) - length)
        return self.text[start:start + length]

    async def learn_references(self):
        for _ in range(8):
            body = {"prompt": self.prompt(80), "max_tokens": 32, "temperature": 0}
            self.references.append((body, (await complete(self.server, body)).texts))

    def check(self, kind, is_good, what):
        self.counts[kind] += 1
        if not is_good:
            self.problems.append(f"{kind}: {what}")

    async def completion(self, kind, body, path="/v1/completions", expected=None):
        answer = await complete(self.server, body, path)
        if answer.status == 429:
            self.counts["refused"] += 1
            return
        self.tokens += answer.usage["completion_tokens"] if answer.usage else 0
        self.check(kind, answer.whole and (expected is None or answer.texts == expected), (answer.status, answer.error, answer.texts))

    async def one_request(self):
        kind = self.numbers.choice(["reference", "stream", "chat", "choices", "long", "vanish", "bad", "tokenize", "metrics"])
        if kind == "reference":
            body, texts = self.numbers.choice(self.references)
            await self.completion(kind, body | {"stream": self.numbers.random() < 0.5}, expected=texts)
        elif kind == "stream":
            await self.completion(kind, {"prompt": self.prompt(60), "max_tokens": self.numbers.randint(1, 150), "stream": True})
        elif kind == "chat":
            messages = [{"role": "user", "content": self.prompt(100)}]
            await self.completion(kind, {"messages": messages, "max_tokens": 40, "logprobs": True, "top_logprobs": 3}, "/v1/chat/completions")
        elif kind == "choices":
            await self.completion(kind, {"prompt": [self.prompt(30), self.prompt(30)], "n": 2, "max_tokens": 20, "stop": ["."]})
        elif kind == "long":
            await self.completion(kind, {"prompt": self.prompt(1200), "max_tokens": 20, "ignore_eos": True})
        elif kind == "vanish":
            body = {"prompt": self.prompt(100), "max_tokens": 100, "ignore_eos": True, "stream": True}
            answer = await complete(self.server, body, vanish_after=self.numbers.randint(-1, 30))
            self.check(kind, answer.status in (0, 200, 429), answer.status)
        elif kind == "bad":
            body = self.numbers.choice([{"prompt": ""}, {"prompt": 7}, {"prompt": "x", "n": 1000}, {"prompt": "x", "logit_bias": {"no": 1}}])
            self.check(kind, (await call(self.server, "POST", "/v1/completions", body)).status == 400, body)
        elif kind == "tokenize":
            prompt = self.prompt(200)
            answer = await call(self.server, "POST", "/tokenize", {"prompt": prompt})
            self.check(kind, answer.status == 200, answer.body)
        else:
            self.check(kind, (await self.server.metrics()).get("thermocline_ready") == 1, "not ready")

    async def client(self):
        while self.running():
            await self.one_request()

    async def bursts(self):
        """Now and then ten times as many as the queue takes, shortly one after the other so that this client is no bottleneck."""
        async def one(number, body):
            await asyncio.sleep(0.005 * number)
            return await call(self.server, "POST", "/v1/completions", body)

        while self.running():
            body = {"prompt": self.prompt(60), "max_tokens": 200, "ignore_eos": True, "temperature": 0}
            for answer in await asyncio.gather(*(one(number, body) for number in range(10 * MOST_QUEUED))):
                if answer.status == 429:
                    self.refusal_seconds.append(answer.seconds)
                    self.check("burst refused", int(answer.headers.get("retry-after", 0)) >= 1, answer.headers)
                else:
                    self.check("burst admitted", answer.status == 200 and answer.json()["usage"]["completion_tokens"] == 200, answer.body)
            await asyncio.sleep(max(0, min(BURST_SECONDS, self.ends - time.monotonic())))

    async def watch_memory(self):
        while self.running():
            self.rss_bytes.append(self.server.rss_bytes())
            await asyncio.sleep(1)

    async def run(self, clients):
        await self.learn_references()
        await self.server.idle()
        # However many clients come, as many as without any are left at the end.
        threads, files = self.server.threads()[0], self.server.open_files()
        await asyncio.gather(self.watch_memory(), self.bursts(), *(self.client() for _ in range(clients)))
        metrics = await self.server.idle()
        await asyncio.sleep(1)  # the last connections close after their last answers
        left = {"pages": metrics.get("vllm:kv_cache_usage_perc"),
                "threads": self.server.threads()[0] - threads,
                "files": self.server.open_files() - files}
        if any(value > 0 for value in left.values()):
            self.problems.append(f"left behind: {left}")
        return left

    def growth_bytes(self):
        """From the tenth of the time after the first tenth, in which caches fill, to the last."""
        tenth = max(1, len(self.rss_bytes) // 10)
        return round(statistics.median(self.rss_bytes[-tenth:]) - statistics.median(self.rss_bytes[tenth:2 * tenth] or self.rss_bytes[:1]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()

    with Server(flags.program, flags.model, "--max-queued", MOST_QUEUED) as server:
        soak = Soak(server, flags.text.read_text(), random.Random(flags.seed), flags.minutes * 60)
        left = asyncio.run(soak.run(flags.clients))
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait()
    growth = soak.growth_bytes()
    if growth >= MOST_GROWTH_BYTES:
        soak.problems.append(f"memory grew by {growth} bytes")
    if code != 0:
        soak.problems.append(f"the server ended with {code}")
    milliseconds = [1e3 * seconds for seconds in soak.refusal_seconds]
    print(json.dumps({"minutes": flags.minutes, "clients": flags.clients, "requests": dict(sorted(soak.counts.items())),
                      "completion_tokens": soak.tokens,
                      "rss_bytes": {"first": soak.rss_bytes[0], "last": soak.rss_bytes[-1], "most": max(soak.rss_bytes), "growth": growth},
                      "refusal_ms": {"p50": quantile(milliseconds, 0.5), "p99": quantile(milliseconds, 0.99)},
                      "left_behind": left, "problems": len(soak.problems), "first_problems": soak.problems[:10]}, indent=2))
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
