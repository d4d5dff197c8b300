#!/usr/bin/env bash
# Proves and measures the GPU side on a machine that has one: tests, compute-sanitizer, benchmarks; one JSON. Within 9 minutes on 16 cores.
# usage: gpu-check.sh [--quick | --models | --dry-run] [--build DIR] [--work DIR] [--json FILE] [--seconds N]
#   (nothing)   everything; what the time does not allow is named in the JSON as not run
#   --quick     tests, sanitizers and one model's kernels; no whole models
#   --models    whole models alone, with all of the time
#   --dry-run   end to end without a GPU, on the emulated one and with tiny models: shows that this script works, figures mean nothing
#   --build     a build folder to take the programs from; else the portable build of gpu-portable.sh if it is there, else build/gpu-check is built
# Exit status: 0 when every stage that ran passed, 1 otherwise. Every stage runs whatever became of the others.
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail

source_dir=$(cd "$(dirname "$0")/.." && pwd)
mode=all build= work= json= seconds=530
while [ $# -gt 0 ]; do
  case $1 in
    --quick | --models | --dry-run) mode=${1#--} ;;
    --build | --work | --json | --seconds)
      [ $# -ge 2 ] || { echo "gpu-check: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift
      ;;
    *) echo "gpu-check: unknown argument '$1', allowed are --quick, --models, --dry-run, --build, --work, --json, --seconds" >&2; exit 2 ;;
  esac
  shift
done
[[ $seconds =~ ^[0-9]+$ ]] || { echo "gpu-check: --seconds is '$seconds', a whole number is needed" >&2; exit 2; }
began=$SECONDS
PATH=$PATH:/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer
made_work=
if [ -z "$work" ]; then
  work=$(mktemp -d)
  made_work=$work
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)
json=${json:-$work/gpu-check.json}
: >"$work/stages"
: >"$work/goals"
trap '[ -z "$made_work" ] || [ "${json#"$made_work"}" != "$json" ] || rm -rf "$made_work"; rm -rf "${models:-}"' EXIT

left() { echo $((seconds - (SECONDS - began))); }
# A JSON string of what comes in.
quote() { printf '"%s"' "$(tr -d '\000-\010\013-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/ /g' | sed -e ':a' -e 'N' -e '$!ba' -e 's/\n/\\n/g')"; }

# ---- The result, written anew after every stage

write_json() {
  {
    printf '{"check": "gpu", "mode": "%s", "emulated": %s, "revision": %s,\n' "$mode" "$([ "$mode" = dry-run ] && echo true || echo false)" "$(quote <<<"$revision")"
    printf ' "machine": %s,\n "seconds": %s,\n "stages": [' "$machine" $((SECONDS - began))
    paste -sd, "$work/stages"
    printf '],\n "kernels": %s,\n "hardware": %s,\n "models": [' "$(cat "$work/kernels.json" 2>/dev/null || echo null)" "$(cat "$work/hardware.json" 2>/dev/null || echo null)"
    cat "$work"/model-*.json 2>/dev/null
    printf '],\n "goals": [%s]}\n' "$(paste -sd, "$work/goals")"
  } >"$json.new" && mv "$json.new" "$json"
}

failures=0
# record NAME passed|failed|"not run" SECONDS WHY
record() {
  printf '{"name": "%s", "result": "%s", "seconds": %s, "why": %s}\n' "$1" "$2" "$3" "$(quote <<<"$4")" >>"$work/stages"
  printf '%-28s %-8s %4s s  %s\n' "$1" "$2" "$3" "$(head -n1 <<<"$4")"
  [ "$2" != failed ] || failures=$((failures + 1))
  write_json
}

# stage NAME MOST_SECONDS COMMAND...: its output goes to NAME.log; what went wrong, to the JSON.
stage() {
  local name=$1 most=$2 start=$SECONDS status
  shift 2
  [ "$most" -le "$(left)" ] || most=$(left)
  if [ "$most" -lt 5 ]; then
    record "$name" "not run" 0 "the time was up"
    return 1
  fi
  timeout --kill-after=5 "$most" "$@" >"$work/$name.log" 2>&1
  status=$?
  if [ $status -eq 0 ]; then
    record "$name" passed $((SECONDS - start)) ""
  elif [ $status -eq 124 ] || [ $status -eq 137 ]; then
    record "$name" failed $((SECONDS - start)) "stopped after $most s; the last lines: $(tail -n5 "$work/$name.log")"
  else
    record "$name" failed $((SECONDS - start)) "exit status $status: $(grep -aE 'FAILED|ERROR|error|: ' "$work/$name.log" | tail -n12)"
  fi
  return $status
}

# ---- The programs

portable=
if [ -z "$build" ]; then
  archive=$(ls "$source_dir"/build/portable/thermocline-gpu.tar.* 2>/dev/null | head -n1)
  if [ -n "$archive" ]; then
    mkdir -p "$work/portable"
    case $archive in
      *.xz) if command -v xz >/dev/null; then tar -C "$work/portable" -xJf "$archive"; else python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$archive" "$work/portable"; fi ;;
      *) tar -C "$work/portable" -xzf "$archive" ;;
    esac && portable=$work/portable/thermocline-gpu
  fi
fi
# The command line of a program, in the array `program`.
program() {
  if [ -n "$portable" ]; then
    program=("$portable/run" "$1")
  else
    case $1 in
      thermocline) program=("$build/cli/thermocline") ;;
      gpu_device_tests) program=("$build/tests/scheduler/gpu_device_tests") ;;
      kernels_cuda_tests) program=("$build/tests/kernels_cuda/kernels_cuda_tests") ;;
      gpu_kernels_bench) program=("$build/tests/bench/gpu_kernels_bench") ;;
    esac
  fi
}
cores=$(nproc)
threads=$((cores > 1 ? cores - 1 : 1)) # one is left to the thread that feeds the GPU

# Google Test passes when a filter names nothing.
tests() { # PROGRAM FILTER
  local program
  program "$1"
  "${program[@]}" --gtest_filter="$2" --gtest_brief=1 | tee "$work/tests.out"
  [ "${PIPESTATUS[0]}" -eq 0 ] && grep -qE '^\[  PASSED  \] [1-9]' "$work/tests.out"
}

# sanitize TOOL MOST_SECONDS PROGRAM...: every suite of the programs' CUDA tests by itself, four at a time.
sanitize() {
  local tool=$1 most=$2 deadline suites=() name program
  shift 2
  local folder=$work/$tool
  mkdir -p "$folder"
  for name in "$@"; do
    program "$name"
    while read -r suite; do suites+=("$name $suite"); done < <("${program[@]}" --gtest_list_tests --gtest_filter='*/Cuda' | grep -oE '^[A-Za-z0-9_/]+\.')
  done
  [ ${#suites[@]} -gt 0 ] || { echo "error: no test of a CUDA device"; return 1; }
  deadline=$(($(date +%s) + most))
  printf '%s\n' "${suites[@]}" | tool=$tool folder=$folder deadline=$deadline portable=$portable build=$build xargs -P 4 -L 1 bash -c '
      program=$0 suite=$1
      left=$((deadline - $(date +%s)))
      if [ -n "$portable" ]; then command=("$portable/run" "$program"); else command=("$(find "$build/tests" -name "$program" -type f | head -n1)"); fi
      log=$folder/$program-${suite//\//_}log
      [ $left -ge 3 ] || { echo "no time: $suite"; exit 0; }
      timeout $left compute-sanitizer --tool "$tool" --target-processes all --report-api-errors no --error-exitcode 9 \
        "${command[@]}" --gtest_filter="${suite}*/Cuda" --gtest_brief=1 >"$log" 2>&1
      case $? in 0) echo "clean: $suite" ;; 124 | 137) echo "no time: $suite" ;; *) echo "error: $suite: $(grep -aE "=========|FAILED" "$log" | head -n4)" ;; esac' >"$folder/summary"
  sort -r "$folder/summary" | awk '/^error/ { print } !/^error/ { rest = rest $0 "\n" } END { printf "%s", rest }'
  grep -q '^clean' "$folder/summary" && ! grep -q '^error' "$folder/summary"
}

# Whether the tool runs here at all: under some virtual machines it refuses the device.
sanitizer_stage() { # TOOL MOST_SECONDS PROGRAM...
  local tool=$1 most=$2 start=$SECONDS why program
  shift 2
  if ! command -v compute-sanitizer >/dev/null; then
    record "$tool" "not run" 0 "compute-sanitizer is not installed"
    return
  fi
  program kernels_cuda_tests
  why=$(timeout 60 compute-sanitizer --tool "$tool" --target-processes all "${program[@]}" --gtest_filter='*GpuDequantizeTest*/Cuda' 2>&1)
  if grep -qiE 'not supported|unable to|initialization failed|error 999' <<<"$why"; then
    record "$tool" "not run" $((SECONDS - start)) "the tool cannot run here: $(grep -iE 'not supported|unable to|initialization failed|error 999' <<<"$why" | head -n2)"
    return
  fi
  [ "$most" -le "$(left)" ] || most=$(left)
  if [ "$most" -lt 10 ]; then
    record "$tool" "not run" 0 "the time was up"
    return
  fi
  start=$SECONDS
  if sanitize "$tool" "$most" "$@" >"$work/$tool.log" 2>&1; then
    record "$tool" passed $((SECONDS - start)) "$(cat "$work/$tool.log")"
  else
    record "$tool" failed $((SECONDS - start)) "$(cat "$work/$tool.log")"
  fi
}

# ---- Whole models

# model NAME NOTE SHAPE TYPE PLANS LEAST_SECONDS GIB DEVICE: written, planned for and measured.
model() {
  local name=$1 note=$2 shape=$3 type=$4 plans=$5 least=$6 gib=$7 device=$8 program smi= before= most=
  if [ "$(left)" -lt "$least" ]; then
    record "model-$name" "not run" 0 "$(left) s are left, it takes about $least"
    return
  fi
  # In memory where there is room for file and weights, else on the disk.
  local folder=$work/models need=$((gib << 30))
  if [ "$(df --output=avail -B1 /dev/shm 2>/dev/null | tail -n1 || echo 0)" -gt "$need" ] &&
     [ "$(awk '/MemAvailable/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)" -gt $((need * 5 / 2)) ]; then
    folder=$(mktemp -d /dev/shm/thermocline.XXXXXX)
  elif [ "$(df --output=avail -B1 "$work" | tail -n1)" -lt "$need" ]; then
    record "model-$name" "not run" 0 "$gib GiB fit neither into memory twice nor onto the disk"
    return
  fi
  models=$folder
  mkdir -p "$folder"
  program thermocline
  local file=$folder/$name.gguf quiet=(--prompt-tokens 8 --decode-tokens 16 --repetitions 3)
  [ "$device" = cuda ] || quiet=(--prompt-tokens 2 --decode-tokens 2 --repetitions 1)
  if stage "synth-$name" 150 "${program[@]}" synth "$file" --shape "$shape" --type "$type" --json; then
    cp "$work/hardware.json" "$file.thermocline/hardware.json"
    if [ "$device" = cuda ]; then
      before=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -n1)
      nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 500 >"$work/memory-$name" 2>/dev/null &
      smi=$!
    fi
    stage "model-$name" 300 "${program[@]}" bench "$file" --threads "$threads" --context 1024 --device "$device" --plans "$plans" "${quiet[@]}" --json "$work/bench-$name.json"
    if [ -n "$smi" ]; then
      kill "$smi" 2>/dev/null
      wait "$smi" 2>/dev/null
      most=$(sort -n "$work/memory-$name" | tail -n1)
    fi
    if [ -s "$work/bench-$name.json" ]; then
      {
        [ ! -e "$work/some-model" ] || echo ,
        printf '{"name": "%s", "note": %s, "shape": "%s", "type": "%s", "synth": %s, "driver_mib_before": %s, "driver_mib_most": %s,\n "bench": ' \
          "$name" "$(quote <<<"$note")" "$shape" "$type" "$(cat "$work/synth-$name.log" | grep '^{' | tail -n1)" "${before:-null}" "${most:-null}"
        cat "$work/bench-$name.json"
        echo '}'
      } >"$work/model-$((model_number += 1))-$name.json"
      : >"$work/some-model"
      write_json
    fi
  fi
  rm -rf "$folder"
  models=
}
model_number=0

# goal TEXT MEASURED LEAST
goal() {
  local met=false
  awk "BEGIN { exit !($2 >= $3) }" && met=true
  printf '{"goal": "%s", "measured": %s, "least": %s, "met": %s}\n' "$1" "$2" "$3" "$met" >>"$work/goals"
  printf 'goal: %s: %s (at least %s): %s\n' "$1" "$2" "$3" "$([ "$mode" = dry-run ] && echo 'an emulation, means nothing' || { [ $met = true ] && echo met || echo 'NOT MET'; })"
}
# Those of whole models, from the table that `bench` prints: plan, mode, tokens/s, expected, of the budget, over the split (of the file's bytes).
model_goals() { # NAME PLAN
  local plan decoding speed expected share over bytes
  read -r plan decoding speed expected share over bytes < <(grep -E "^$2 +predicted " "$work/model-$1.log" 2>/dev/null) || return
  over=${over%x} bytes=${bytes#(} bytes=${bytes%x)} share=${share%\%}
  goal "$1, $2: times the dense split" "$over" 8
  goal "$1, $2: times a dense split that reads no more than the file" "$bytes" 8
  goal "$1, $2: per cent of the GPU budget in use" "$share" 95
}

# Only architectures like LLaMA's load, so the others' blocks are gated ones of the same bytes: three rows of two thirds of the neurons.
gated="blocks are gated, of the same bytes"
whole_models() {
  stage hardware 60 "${doctor[@]}" --device cuda --threads "$threads" --save "$work/hardware.json" --json || return
  model falcon-40b-q4_0 "Falcon-40B by its dimensions; $gated" \
    layers=60,d_model=8192,d_ff=21856,heads=128,kv-heads=8,vocab=65024 q4_0 layers:24GiB,latency:24GiB,layers:11GiB,latency:11GiB 150 24 cuda
  model falcon-40b-20-of-60-layers-f16 "20 of Falcon-40B's 60 layers, and a third of the budgets; $gated" \
    layers=20,d_model=8192,d_ff=21856,heads=128,kv-heads=8,vocab=65024 f16 layers:8GiB,latency:8GiB,layers:3.667GiB,latency:3.667GiB 110 28 cuda
  model llama-70b-20-of-80-layers-q4_0 "20 of LLaMA-70B's 80 layers, and a quarter of the budgets" \
    layers=20,d_model=8192,d_ff=28672,heads=64,kv-heads=8,vocab=32000 q4_0 layers:6GiB,latency:6GiB,layers:2.75GiB,latency:2.75GiB 70 11 cuda
  model opt-30b-12-of-48-layers-q4_0 "12 of OPT-30B's 48 layers, and a quarter of the budgets; $gated" \
    layers=12,d_model=7168,d_ff=19104,heads=56,kv-heads=56,vocab=50272 q4_0 layers:6GiB,latency:6GiB,layers:2.75GiB,latency:2.75GiB 50 6 cuda
}

# ---- The stages

revision=$(cat "$portable/revision" 2>/dev/null || git -C "$source_dir" describe --always --dirty 2>/dev/null || echo unknown)
gpu_fields=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit
machine=$(printf '{"gpu": %s, "gpu_fields": "%s", "nvcc": %s, "cpu": %s, "cores": %s, "memory_kib": %s, "kernel": %s, "libc": %s, "portable": %s}' \
  "$(nvidia-smi --query-gpu=$gpu_fields --format=csv,noheader 2>/dev/null | quote)" "$gpu_fields" \
  "$({ nvcc --version || /usr/local/cuda/bin/nvcc --version; } 2>/dev/null | grep -oE 'V[0-9.]+' | quote)" \
  "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | sed 's/^ *//' | quote)" "$cores" "$(awk '/MemTotal/ { print $2 }' /proc/meminfo)" \
  "$(uname -r | quote)" "$(getconf GNU_LIBC_VERSION | quote)" "$([ -n "$portable" ] && echo true || echo false)")
write_json

if [ "$mode" != dry-run ] && [ -z "$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null)" ]; then
  record gpu failed 0 "nvidia-smi shows no GPU; --dry-run needs none"
  exit 1
fi
if [ -z "$portable" ] && [ -z "$build" ]; then
  build=$source_dir/build/gpu-check
  stage configure 60 cmake -S "$source_dir" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES=native \
    -DTHERMOCLINE_SERVER=OFF -DTHERMOCLINE_MPI=OFF &&
    stage build 600 cmake --build "$build" --target thermocline gpu_device_tests kernels_cuda_tests gpu_kernels_bench || exit 1
fi
[ -z "$build" ] || build=$(cd "$build" && pwd)
program thermocline
doctor=("${program[@]}" doctor)
program gpu_kernels_bench
kernels_bench=("${program[@]}")
export -f tests program
export portable build work

if [ "$mode" = dry-run ]; then
  stage kernels-tests 120 bash -c 'tests kernels_cuda_tests "*GpuNormsTest*/Emulated:*GpuSgemmTest*/Emulated"'
  stage device-tests 120 bash -c 'tests gpu_device_tests "*TakesToTheByte*/Emulated:*SameBits*/Emulated"'
  record memcheck "not run" 0 "a dry run: compute-sanitizer needs a GPU"
  record racecheck "not run" 0 "a dry run: compute-sanitizer needs a GPU"
  stage kernels-bench 120 "${kernels_bench[@]}" --emulated --json "$work/kernels.json"
  stage hardware 120 "${doctor[@]}" --device host --threads 1 --save "$work/hardware.json" --json &&
    threads=1 model tiny "a dry run on the emulated accelerator" tiny q4_0 layers:4MiB,latency:4MiB 0 1 host
  model_goals tiny latency:4MiB
else
  if [ "$mode" != models ]; then
    stage kernels-tests 60 bash -c 'tests kernels_cuda_tests "*/Cuda:OpenGpu.*:ProbeCudaDevice.*:DeviceInfo.*"'
    stage device-tests 60 bash -c 'tests gpu_device_tests "*/Cuda"'
    # What a case takes at most comes on top of --seconds.
    stage kernels-bench 125 "${kernels_bench[@]}" --seconds 95 $([ "$mode" = quick ] && echo --quick) --json "$work/kernels.json"
    cat "$work/kernels-bench.log"
    sanitizer_stage memcheck 70 kernels_cuda_tests gpu_device_tests
    sanitizer_stage racecheck 50 kernels_cuda_tests
  fi
  if [ "$mode" = quick ]; then
    record models "not run" 0 "--quick"
  else
    whole_models
    cat "$work"/model-*.log 2>/dev/null | grep -A30 'over the dense split'
    model_goals falcon-40b-q4_0 latency:24GiB
  fi
fi
write_json
echo "gpu-check: $json"
[ $failures -eq 0 ]
