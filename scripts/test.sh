#!/usr/bin/env bash
# Installs what is needed, builds, and runs every test: release, Arm under emulation, sanitizers.
# usage: test.sh [--quick | --thorough] [--offline]
#   --quick    release build only
#   --thorough every room under AddressSanitizer: about a quarter of an hour more
#   --offline  leave out the tests that need downloaded models or client packages (they are reported as not run)
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
thorough=false
offline=false
for argument in "$@"; do
  case "$argument" in
    --quick) quick=true ;;
    --thorough) thorough=true ;;
    --offline) offline=true ;;
    *)
      echo "test.sh: unknown argument $argument (known are --quick, --thorough, --offline)" >&2
      exit 2
      ;;
  esac
done

./scripts/install-deps.sh
if $offline; then
  unset THERMOCLINE_TEST_MODELS THERMOCLINE_TEST_PYTHON
  echo "test.sh: offline, the tests on real downloaded models and with downloaded client packages are not run"
else
  THERMOCLINE_TEST_MODELS=$(./scripts/fetch-test-models.sh | tail -n 1)
  THERMOCLINE_TEST_PYTHON=$(./scripts/fetch-test-clients.sh | tail -n 1)
  export THERMOCLINE_TEST_MODELS THERMOCLINE_TEST_PYTHON
fi

run_preset() {  # preset, targets to build (all when empty), then ctest's arguments
  local preset=$1 targets=$2
  shift 2
  echo "test.sh: preset $preset"
  cmake --preset "$preset" >/dev/null
  # shellcheck disable=SC2086  # a list of words
  cmake --build --preset "$preset" ${targets:+--target $targets}
  ctest --preset "$preset" --parallel "$(nproc)" "$@"
}

run_preset release ''
if ! $quick; then
  if [ "$(dpkg --print-architecture)" = amd64 ]; then  # elsewhere there is no cross compiler to install
    ./scripts/aarch64-sysroot.sh
    run_preset aarch64 ''
  fi
  # Under AddressSanitizer and UndefinedBehaviorSanitizer: kernels, file parsers, whatever a client or a file can reach; the emulated CUDA
  # watches its memory itself. Under ThreadSanitizer: what runs threads. The tests of real models say nothing more there and would take long.
  unset THERMOCLINE_TEST_MODELS
  if $thorough; then
    run_preset asan '' --exclude-regex '^e2e'
  else
    run_preset asan 'core_tests kernels_cpu_tests model_tests conversion_tests tokenizer_tests chat_tests scheduler_tests server_tests fuzz' \
      --tests-regex '^(core|kernels_cpu|model|conversion|tokenizer|chat|scheduler|server|fuzz)\.'
  fi
  run_preset tsan 'core_tests scheduler_tests server_tests' --tests-regex '^(core|scheduler|server)\.' \
    --exclude-regex 'EveryInstructionSet'  # the same threads four times over
fi
echo "test.sh: all tests passed"
