#!/usr/bin/env bash
# Runs one GGUF file through llama.cpp's llama-bench and `thermocline bench` in turn, and prints the ratio. Wants a quiet machine.
# usage: compare-peers.sh MODEL.gguf [--threads N] [--prompt-tokens N] [--decode-tokens N] [--rounds N] [--repetitions N] [--activation A] [--json FILE]
# LLAMA_BENCH: llama-bench, else the one on the PATH. THERMOCLINE: the program, else build/release/cli/thermocline, else the one on the PATH.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

peer=${LLAMA_BENCH:-$(command -v llama-bench || true)}
if [ -z "$peer" ] || ! command -v "$peer" >/dev/null; then
  echo "compare-peers.sh: ${peer:-llama-bench} is not there: build llama.cpp (cmake -B build && cmake --build build --target llama-bench), then put llama-bench on the PATH or name it in LLAMA_BENCH" >&2
  exit 2
fi
ours=${THERMOCLINE:-$root/build/release/cli/thermocline}
[ -n "${THERMOCLINE:-}" ] || [ -x "$ours" ] || ours=$(command -v thermocline || echo "$ours")
if ! command -v "$ours" >/dev/null; then
  echo "compare-peers.sh: $ours is not there: cmake --preset release && cmake --build --preset release --target thermocline, or name it in THERMOCLINE" >&2
  exit 2
fi
exec python3 "$root/tests/bench/compare_peers.py" "$peer" "$ours" "$@"
