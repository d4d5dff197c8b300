#!/usr/bin/env python3
"""One GGUF file through llama-bench and `thermocline bench` in turn: tokens a second of both, and the ratio.

usage: compare_peers.py LLAMA_BENCH THERMOCLINE MODEL.gguf [--threads N] [--prompt-tokens N] [--decode-tokens N]
                        [--rounds N] [--repetitions N] [--activation NAME] [--json FILE]
Each round runs both, the order turning from round to round; the figures are medians over the samples of all rounds. Decoding is
dense and starts behind the prompt in both, where llama-bench has a depth (-d); an older one decodes from an empty
context, which is said.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

PATIENCE_S = 3600  # ends a round that hangs


def fail(message):
    sys.exit(f"compare-peers: {message}")


def run(command):
    """Standard output of a program that must succeed."""
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        fail(f"{command[0]}: {error}")
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        fail(f"{command[0]}: exit code {result.returncode}: {lines[-1]}")
    return result.stdout.decode(errors="replace")


def run_json(command):
    text = run(command)
    try:
        return json.loads(text)
    except ValueError:
        fail(f"{command[0]}: no JSON: {text[:80]!r}")


def peer_round(flags, has_depth):
    """(prefill samples, decode samples, what llama-bench says of itself), in tokens a second."""
    common = [flags.llama_bench, "-m", flags.model, "-t", str(flags.threads), "-r", str(flags.repetitions), "-ngl", "0", "-o", "json"]
    prefill = run_json([*common, "-p", str(flags.prompt_tokens), "-n", "0"])
    depth = ["-d", str(flags.prompt_tokens)] if has_depth else []
    decode = run_json([*common, "-p", "0", "-n", str(flags.decode_tokens), *depth])
    try:
        return prefill[0]["samples_ts"], decode[0]["samples_ts"], prefill[0]
    except (LookupError, TypeError):
        fail(f"{flags.llama_bench}: its JSON has no samples_ts; a newer llama.cpp is needed")


def our_round(flags):
    context = flags.prompt_tokens + flags.decode_tokens
    result = run_json([flags.thermocline, "bench", flags.model, "--modes", "dense", "--device", "none", "--threads", str(flags.threads),
                       "--context", str(context), "--prompt-tokens", str(flags.prompt_tokens), "--decode-tokens", str(flags.decode_tokens),
                       "--repetitions", str(flags.repetitions), "--json", "-",
                       *(["--activation", flags.activation] if flags.activation else [])])
    dense = result["modes"]["dense"]
    return dense["prefill_tokens_per_second"]["samples"], dense["decode_tokens_per_second"]["samples"], result


def spread(samples):
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples), "samples": samples}


def read_flags():
    parser = argparse.ArgumentParser(prog="compare-peers.sh", allow_abbrev=False)
    parser.add_argument("llama_bench", help=argparse.SUPPRESS)
    parser.add_argument("thermocline", help=argparse.SUPPRESS)
    parser.add_argument("model", metavar="MODEL.gguf")
    counts = [("--threads", len(os.sched_getaffinity(0)), "of both"), ("--prompt-tokens", 512, "of prefill"),
              ("--decode-tokens", 64, "decoded behind them"), ("--rounds", 3, "that run both"),
              ("--repetitions", 3, "of each program in a round")]
    for name, default, text in counts:
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{text}; {default} if not given")
    parser.add_argument("--activation", metavar="NAME",
                        help="what thermocline takes it to be; silu: a file of `thermocline synth` is computed as llama.cpp computes it")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    flags = parser.parse_args()
    for name, _, _ in counts:
        if getattr(flags, name[2:].replace("-", "_")) < 1:
            parser.error(f"{name}: at least 1 is needed")
    if not os.path.isfile(flags.model):
        parser.error(f"{flags.model}: no such file")
    return flags


def main():
    flags = read_flags()
    has_depth = "--n-depth" in run([flags.llama_bench, "--help"])
    samples = {"thermocline": {"prefill": [], "decode": []}, "llama_bench": {"prefill": [], "decode": []}}
    about = {}
    for number in range(flags.rounds):
        turns = [("llama_bench", lambda: peer_round(flags, has_depth)), ("thermocline", lambda: our_round(flags))]
        for name, take in turns if number % 2 == 0 else reversed(turns):
            print(f"compare-peers: round {number + 1} of {flags.rounds}: {name}", file=sys.stderr)
            prefill, decode, about[name] = take()
            samples[name]["prefill"] += prefill
            samples[name]["decode"] += decode
    peer, ours = about["llama_bench"], about["thermocline"]
    figures = {name: {figure: spread(of) for figure, of in both.items()} for name, both in samples.items()}
    ratios = {figure: figures["thermocline"][figure]["median"] / figures["llama_bench"][figure]["median"] for figure in ("prefill", "decode")}
    result = {"benchmark": "compare-peers", "hardware": ours["hardware"], "build": ours["build"], "model": ours["model"],
              "peer": {"build_commit": peer.get("build_commit"), "build_number": peer.get("build_number"), "backends": peer.get("backends"),
                       "decodes_behind_prompt": has_depth},
              "threads": flags.threads, "prompt_tokens": flags.prompt_tokens, "decode_tokens": flags.decode_tokens,
              "activation": flags.activation, "rounds": flags.rounds, "repetitions": flags.repetitions, "tokens_per_second": figures, "ratio": ratios}
    print(f"{ours['hardware']['cpu']} | {flags.threads} threads | reads {ours['hardware']['read_gb_per_second']:.1f} GB/s")
    print(f"{ours['model']['file']} | {ours['model']['type']} | llama.cpp {peer.get('build_number')} ({peer.get('build_commit')})\n")
    print(f"{'tokens/s':24}{'thermocline':>24}{'llama-bench':>24}{'ratio':>8}")
    for figure, length in (("prefill", flags.prompt_tokens), ("decode", flags.decode_tokens)):
        cells = ["{median:.1f} ({min:.1f} to {max:.1f})".format(**figures[name][figure]) for name in ("thermocline", "llama_bench")]
        print(f"{f'{figure} of {length}':24}{cells[0]:>24}{cells[1]:>24}{ratios[figure]:>8.3f}")
    if not has_depth:
        print(f"this llama-bench has no depth: it decodes from an empty context, thermocline behind {flags.prompt_tokens} tokens")
    if flags.json:
        try:
            with open(flags.json, "w", encoding="utf-8") as file:
                file.write(json.dumps(result, indent=1) + "\n")
        except OSError as error:
            fail(f"{flags.json}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
