#!/usr/bin/env bash
# Makes a virtual environment with the client packages that the end-to-end tests use unmodified. Safe to run again.
# SPDX-License-Identifier: Apache-2.0
#
# usage: fetch-test-clients.sh [FOLDER]      default ${XDG_CACHE_HOME:-$HOME/.cache}/thermocline/clients
# Needs python3 with venv and pip; once the environment is there it needs no network. The last line printed is the interpreter:
# THERMOCLINE_TEST_PYTHON=$(scripts/fetch-test-clients.sh | tail -n 1)
set -euo pipefail

if [ "$#" -gt 1 ] || [[ "${1:-}" == -* ]]; then
  echo "usage: fetch-test-clients.sh [FOLDER]" >&2
  exit 2
fi
requirements=$(cd "$(dirname "$0")/.." && pwd)/tests/e2e/requirements.txt
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/thermocline/clients}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# Other pins or another Python make another environment, so that a half-made one is never taken for it.
digest=$({ cat "$requirements"; python3 --version; } | sha256sum | cut -c1-16)
environment=$folder/$digest
if [ -f "$environment/complete" ]; then
  echo "fetch-test-clients: the environment is there"
else
  rm -rf "$environment"
  python3 -m venv "$environment"
  if ! "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --requirement "$requirements"; then
    echo "fetch-test-clients: pip could not bring the packages of $requirements" >&2
    exit 1
  fi
  touch "$environment/complete"
  echo "fetch-test-clients: environment made"
fi
echo "$environment/bin/python"
