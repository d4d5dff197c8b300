#!/usr/bin/env bash
# Installs every Debian 12 package that building, testing and the demo need. Safe to run again; the only place that names the host's packages.
# usage: install-deps.sh [--mpi]   --mpi: also Open MPI, with which builds can share profiling under mpirun
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

packages=(
  # toolchain
  g++ cmake ninja-build ccache pkg-config git
  # libraries
  libabsl-dev libtbb-dev libhwy-dev libfmt-dev libspdlog-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libicu-dev libssl-dev libboost1.81-dev
  # placement
  coinor-libcbc-dev
  # service
  libprotobuf-dev protobuf-compiler libgrpc++-dev protobuf-compiler-grpc
  # tests and benchmarks
  libgtest-dev libgmock-dev libbenchmark-dev libboost-context1.81-dev
  # the peer of the kernel ladder's matrix product, loaded by that benchmark alone; without threads of its own
  libopenblas0-serial
  # Python clients, goldens and oracles of the tests
  curl python3 python3-venv python3-pip python3-numpy python3-grpcio python3-protobuf
  # the report in a browser
  chromium fonts-dejavu-core python3-pil
  # promtool, which checks what /metrics says
  prometheus
)
# The cross-build for Arm and its emulator. On Arm itself the preset release is that build.
if [ "$(dpkg --print-architecture)" = amd64 ]; then
  packages+=(g++-aarch64-linux-gnu qemu-user)
fi
case "${1:-}" in
  '') ;;
  --mpi) packages+=(openmpi-bin libopenmpi-dev) ;;
  *) echo "install-deps: unknown argument '$1', allowed is --mpi" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
  echo "install-deps: all ${#packages[@]} packages are installed"
  exit 0
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
# Only promtool is wanted: where the package is new, the server that comes with it is kept from starting.
if [[ " ${missing[*]} " == *' prometheus '* && ! -e /etc/systemd/system/prometheus.service ]]; then
  "${as_root[@]}" mkdir -p /etc/systemd/system
  "${as_root[@]}" ln -s /dev/null /etc/systemd/system/prometheus.service
fi
echo "install-deps: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
