#!/usr/bin/env bash
# Installs what is needed, builds, serves the demo model on loopback, and completes a prompt over gRPC.
# usage: demo.sh [PROMPT]
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

prompt=${1:-Once upon a time there was a}
./scripts/install-deps.sh
cmake --preset release -DTHERMOCLINE_TESTS=OFF -B build/demo >/dev/null
cmake --build build/demo --target thermocline
program=build/demo/cli/thermocline

log=$(mktemp)
"$program" serve models/demo --listen 127.0.0.1:0 2>"$log" &
server=$!
stop() {
  kill -TERM "$server" 2>/dev/null && wait "$server" || true
  rm -f "$log"
}
trap stop EXIT

address=""
for _ in $(seq 100); do
  address=$(sed -n 's/.*listening on \([^ ]*\).*/\1/p' "$log" | head -n 1)
  [ -z "$address" ] || break
  kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.1
done
[ -n "$address" ] || { echo "demo.sh: the server did not come up" >&2; exit 1; }

printf '\n--- thermocline serve models/demo on %s, completing over gRPC:\n\n%s' "$address" "$prompt"
"$program" complete --server "$address" --prompt "$prompt" --max-tokens 96 --temperature 0.8 --seed 7
printf '\n--- the same model on the terminal: %s run models/demo --prompt "..."\n' "$program"
