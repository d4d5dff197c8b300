#!/usr/bin/env bash
# Installs what is needed, builds, and runs every test: release build, then the memory- and race-sensitive rooms under sanitizers.
# usage: test.sh [--quick] [--offline]
#   --quick    release build only
#   --offline  leave out the tests that need downloaded models (they are reported as not run)
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
offline=false
for argument in "$@"; do
  case "$argument" in
    --quick) quick=true ;;
    --offline) offline=true ;;
    *)
      echo "test.sh: unknown argument $argument (known are --quick, --offline)" >&2
      exit 2
      ;;
  esac
done

./scripts/install-deps.sh
if $offline; then
  unset THERMOCLINE_TEST_MODELS
  echo "test.sh: offline, the tests on real downloaded models are not run"
else
  THERMOCLINE_TEST_MODELS=$(./scripts/fetch-test-models.sh | tail -n 1)
  export THERMOCLINE_TEST_MODELS
fi

run_preset() {  # preset, then ctest's arguments
  local preset=$1
  shift
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset"
  ctest --preset "$preset" --output-on-failure "$@"
}

run_preset release
if ! $quick; then
  # Without gRPC these build quickly; the parsers and kernels under AddressSanitizer, the threads under ThreadSanitizer.
  run_preset asan
  run_preset tsan
fi
echo "test.sh: all tests passed"
