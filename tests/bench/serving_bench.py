#!/usr/bin/env python3
"""Figures of the server under load, over HTTP: throughput, gaps while prompts arrive, the prefix cache, refusals.

usage: serving_bench.py THERMOCLINE MODEL TEXT [--seconds 10] [--mode dense] [--json FILE] [-- MORE_FLAGS_OF_SERVE]
TEXT: a file that prompts are cut from. The clients run in this process and share the machine with the server.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from load_client import Server, call, complete  # noqa: E402

MOST_QUEUED = 16
DECODE_TOKENS = 128
STREAM_TOKENS = 400
ROUNDS = 6
CACHED_PROMPT_TOKENS = 400


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "samples": len(values)}


class Bench:
    def __init__(self, server, text, seconds):
        self.server, self.text, self.seconds = server, text, seconds
        self.cut = 0

    def prompt(self, length):
        """Text that no prompt had before, while the file lasts."""
        self.cut = (self.cut + length) % (len(self.text) - length)
        return self.text[self.cut:self.cut + length]

    async def prompt_ids(self, tokens):
        answer = await call(self.server, "POST", "/tokenize", {"prompt": self.prompt(10 * tokens)})
        return answer.json()["tokens"][:tokens]

    async def greedy(self, **options):
        body = {"prompt": self.prompt(40), "max_tokens": DECODE_TOKENS, "ignore_eos": True, "temperature": 0}
        answer = await complete(self.server, body | options)
        assert answer.whole, answer
        return answer

    async def throughput(self, clients):
        """Tokens a second of so many clients that ask again and again, counted by the server."""
        ends = time.monotonic() + self.seconds / ROUNDS

        async def client():
            while time.monotonic() < ends:
                await self.greedy()

        before, began = await self.server.idle(), time.monotonic()
        await asyncio.gather(*(client() for _ in range(clients)))
        after, took = await self.server.idle(), time.monotonic() - began
        return (after.get("vllm:generation_tokens_total") - before.get("vllm:generation_tokens_total")) / took

    async def throughputs(self):
        """One client and sixteen in turn, since a shared machine's speed changes."""
        await self.greedy()
        one, sixteen = [], []
        for _ in range(ROUNDS):
            one.append(await self.throughput(1))
            sixteen.append(await self.throughput(16))
        return {"one_client_tokens_per_second": spread(one), "sixteen_clients_tokens_per_second": spread(sixteen),
                "ratio": spread([b / a for a, b in zip(one, sixteen)])}

    async def gaps(self):
        """Gaps between tokens of four streams while long prompts arrive, each stream's as the server measured them."""
        ends, summaries = time.monotonic() + self.seconds, []

        async def client():
            while time.monotonic() < ends:
                answer = await self.greedy(stream=True, max_tokens=STREAM_TOKENS)
                summaries.append(answer.figures[0]["timings"])

        async def long_prompts():
            sent = 0
            while time.monotonic() < ends:
                await complete(self.server, {"prompt": await self.prompt_ids(CACHED_PROMPT_TOKENS), "max_tokens": 1, "temperature": 0})
                sent += 1
                await asyncio.sleep(0.1)
            return sent

        *_, sent = await asyncio.gather(*(client() for _ in range(4)), long_prompts())
        ratios = [timings["inter_token_p99_ms"] / timings["inter_token_p50_ms"] for timings in summaries]
        return {"streams": len(summaries), "stream_tokens": STREAM_TOKENS, "long_prompts": sent, "prompt_tokens": CACHED_PROMPT_TOKENS,
                "p50_ms": spread([timings["inter_token_p50_ms"] for timings in summaries]),
                "p99_ms": spread([timings["inter_token_p99_ms"] for timings in summaries]),
                "p99_over_p50": spread(ratios)}

    async def prefix_cache(self):
        """Time to the first token of a prompt that is new, and of the same one again."""
        first, again, cached = [], [], []
        for _ in range(20):
            body = {"prompt": await self.prompt_ids(CACHED_PROMPT_TOKENS), "max_tokens": 1, "temperature": 0}
            for times in (first, again):
                answer = await complete(self.server, body)
                times.append(answer.figures[0]["timings"]["time_to_first_token_ms"])
            cached.append(answer.usage["prompt_tokens_details"]["cached_tokens"])
        return {"prompt_tokens": CACHED_PROMPT_TOKENS, "cached_tokens": min(cached), "first_ms": spread(first), "again_ms": spread(again),
                "ratio": statistics.median(first) / statistics.median(again)}

    async def overload(self):
        """Ten clients for every place in the queue, each of which comes again at once when it is refused or answered."""
        ends, refused, admitted, wrong = time.monotonic() + self.seconds, [], 0, 0

        async def client(number):
            nonlocal admitted, wrong
            await asyncio.sleep(0.005 * number)  # all at once would measure this process
            body = {"prompt": self.prompt(40), "max_tokens": DECODE_TOKENS, "ignore_eos": True, "temperature": 0}
            while time.monotonic() < ends:
                answer = await call(self.server, "POST", "/v1/completions", body)
                if answer.status == 200 and answer.json()["usage"]["completion_tokens"] == DECODE_TOKENS:
                    admitted += 1
                elif answer.status == 429 and "retry-after" in answer.headers:
                    refused.append(1e3 * answer.seconds)
                    await asyncio.sleep(0.5)
                else:
                    wrong += 1

        await asyncio.gather(*(client(number) for number in range(10 * MOST_QUEUED)))
        return {"clients": 10 * MOST_QUEUED, "queue": MOST_QUEUED, "admitted": admitted, "refused": len(refused), "wrong": wrong,
                "refusal_ms": {"p50": quantile(refused, 0.5), "p99": quantile(refused, 0.99), "max": max(refused)} if refused else None}

    async def run(self):
        return {"throughput": await self.throughputs(), "gaps": await self.gaps(), "prefix_cache": await self.prefix_cache(),
                "overload": await self.overload()}


def hardware():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {"cpu": cpu.group(1) if cpu else "unknown", "threads": len(os.sched_getaffinity(0))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--mode", default="dense")
    parser.add_argument("--json", type=Path, help="write the result there, too")
    parser.add_argument("flags", nargs="*", help="more flags of serve, after --")
    asked = parser.parse_args()

    flags = ["--mode", asked.mode, "--max-queued", MOST_QUEUED, *asked.flags]
    with Server(asked.program, asked.model, *flags) as server:
        figures = asyncio.run(Bench(server, asked.text.read_text(), asked.seconds).run())
    version = subprocess.run([asked.program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    result = {"what": f"scripts/serving-benchmark.sh: thermocline serve {asked.model.name} {' '.join(map(str, flags))}; clients on the same machine",
              "version": version, "hardware": hardware(), "model": asked.model.name, "mode": asked.mode, "decode_tokens": DECODE_TOKENS,
              **figures}
    text = json.dumps(result, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
