#!/usr/bin/env bash
# Mixed load on a server of the demo model, for as long as one likes; fails when memory grows or anything goes wrong.
# usage: soak.sh [MINUTES] [PROGRAM]      10 minutes; PROGRAM: a built thermocline, else build/release/cli/thermocline
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:-10}
program=${2:-build/release/cli/thermocline}
if [ ! -x "$program" ]; then
  echo "soak.sh: $program is not there: cmake --preset release && cmake --build --preset release --target thermocline" >&2
  exit 2
fi
exec python3 tests/e2e/soak.py "$program" models/demo models/demo/valid.txt --minutes "$minutes"
