#!/usr/bin/env bash
# Gathers what scripts/gpu-check.sh runs, with every library of ours, in one folder for a machine that has only a GPU, its driver and the toolkit.
# usage: gpu-portable.sh [BUILD]   BUILD: a build folder with CUDA to take the programs from; configured and built here if not given
# Result: build/portable/thermocline-gpu.tar.xz (or .gz where there is no xz), which gpu-check.sh unpacks. cuBLAS stays behind: the toolkit there has it.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

source_dir=$(cd "$(dirname "$0")/.." && pwd)
out=$source_dir/build/portable
build=${1:-$source_dir/build/portable-build}
most_bytes=$((64 << 20))

if [ $# -eq 0 ]; then
  # Machine code for 9.0 alone, which newer devices compile anew from the code beside it.
  cmake -S "$source_dir" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES=90 \
    -DTHERMOCLINE_SERVER=OFF -DTHERMOCLINE_MPI=OFF >/dev/null
fi
grep -q '^CMAKE_CUDA_FLAGS:' "$build/CMakeCache.txt" || { echo "gpu-portable: $build was configured without CUDA" >&2; exit 1; }
cmake --build "$build" --target thermocline gpu_device_tests kernels_cuda_tests gpu_kernels_bench

stage=$out/thermocline-gpu
rm -rf "$stage"
mkdir -p "$stage/bin" "$stage/lib" "$stage/glibc"
for program in cli/thermocline tests/scheduler/gpu_device_tests tests/kernels_cuda/kernels_cuda_tests tests/bench/gpu_kernels_bench; do
  strip -o "$stage/bin/$(basename "$program")" "$build/$program"
done

# Of the loader's answers, the C library goes to a folder of its own: it is used only where the machine's is older than ours.
ldd "$stage"/bin/* | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | while read -r library; do
  case $(basename "$library") in
    libcublas*.so* | libcudart*.so* | libcuda.so*) ;;
    libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.*) cp -L "$library" "$stage/glibc/" ;;
    *) cp -L "$library" "$stage/lib/" ;;
  esac
done
cp -L /lib64/ld-linux-x86-64.so.2 "$stage/glibc/"
strip --strip-unneeded "$stage"/lib/*.so* 2>/dev/null || true

# Runs a program of bin/ with the libraries beside it: `run PROGRAM ARGUMENTS...`.
cat >"$stage/run" <<'RUN'
#!/bin/sh
# Runs bin/PROGRAM with the libraries carried along: on the machine's C library where that is new enough, else on the carried one.
# usage: run PROGRAM [ARGUMENTS...]
here=$(cd "$(dirname "$0")" && pwd)
program=$here/bin/$1
shift
cublas=${THERMOCLINE_CUBLAS:-}
if [ -z "$cublas" ]; then
  for folder in /usr/local/cuda/lib64 /usr/local/cuda-13*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib /usr/lib/x86_64-linux-gnu \
                /opt/*/.venv/lib/python3*/site-packages/nvidia/*/lib /usr/lib/python3*/site-packages/nvidia/*/lib \
                /usr/local/lib/python3*/*-packages/nvidia/*/lib; do
    [ -e "$folder/libcublas.so.13" ] && cublas=$folder && break
  done
fi
if [ -z "$cublas" ]; then # wherever it is
  found=$(find /usr /opt /home /root -name libcublas.so.13 2>/dev/null | head -n1)
  [ -z "$found" ] || cublas=$(dirname "$found")
fi
driver=
for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib /usr/lib/wsl/lib; do
  [ -e "$folder/libcuda.so.1" ] && driver=$driver:$folder
done
libraries=$here/lib${cublas:+:$cublas}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}$driver
newest=$(cat "$here/newest-glibc")
have=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
if [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$newest" "$have" | sort -V | head -n1)" = "$newest" ] && [ "${THERMOCLINE_CARRIED_GLIBC:-0}" = 0 ]; then
  LD_LIBRARY_PATH=$libraries exec "$program" "$@"
fi
exec "$here/glibc/ld-linux-x86-64.so.2" --library-path "$here/glibc:$libraries:/usr/lib/x86_64-linux-gnu:/usr/lib64" "$program" "$@"
RUN
chmod +x "$stage/run"
# The newest version of the C library's symbols that anything carried asks for.
objdump -T "$stage"/bin/* "$stage"/lib/* 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -n1 >"$stage/newest-glibc"
git -C "$source_dir" describe --always --dirty >"$stage/revision"

# Programs start here with nothing but what is carried, on both C libraries.
for carried in 0 1; do
  THERMOCLINE_CARRIED_GLIBC=$carried "$stage/run" thermocline --help >/dev/null
  THERMOCLINE_CARRIED_GLIBC=$carried "$stage/run" kernels_cuda_tests --gtest_list_tests >/dev/null
done

rm -f "$out"/thermocline-gpu.tar.*
if command -v xz >/dev/null; then
  archive=$out/thermocline-gpu.tar.xz
  tar -C "$out" -c thermocline-gpu | xz -T0 -6 >"$archive"
else
  archive=$out/thermocline-gpu.tar.gz
  tar -C "$out" -cz thermocline-gpu >"$archive"
fi
rm -rf "$stage"
bytes=$(stat -c %s "$archive")
echo "gpu-portable: $archive, $bytes bytes, needs glibc $(tar -xOf "$archive" thermocline-gpu/newest-glibc) or runs on its own"
if [ "$bytes" -gt "$most_bytes" ]; then
  echo "gpu-portable: larger than $most_bytes bytes, which is the most that a GPU machine takes" >&2
  exit 1
fi
