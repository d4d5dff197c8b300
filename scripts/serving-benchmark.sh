#!/usr/bin/env bash
# Measures the server of the demo model under load: throughput, gaps between tokens, prefix cache, refusals. Wants a quiet machine.
# usage: serving-benchmark.sh [SECONDS] [PROGRAM]      60 seconds a measurement; PROGRAM: a built thermocline, else build/release/cli/thermocline
# Writes tests/bench/results/serving-demo.json.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
program=${2:-build/release/cli/thermocline}
if [ ! -x "$program" ]; then
  echo "serving-benchmark.sh: $program is not there: cmake --preset release && cmake --build --preset release --target thermocline" >&2
  exit 2
fi
exec python3 tests/bench/serving_bench.py "$program" models/demo models/demo/valid.txt --seconds "$seconds" \
  --json tests/bench/results/serving-demo.json
