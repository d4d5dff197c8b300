#!/usr/bin/env bash
# Unpacks Debian's arm64 libraries into build/aarch64-sysroot, for the preset aarch64.
# Nothing of the host is changed, and no rights are needed. Safe to run again.
# usage: aarch64-sysroot.sh
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

# The libraries of scripts/install-deps.sh without the server's; what they depend on, up to the C library, comes with them.
packages=(
  libabsl-dev libtbb-dev libhwy-dev libfmt-dev libspdlog-dev libcli11-dev nlohmann-json3-dev libicu-dev libssl-dev
  coinor-libcbc-dev libprotobuf-dev
  libgtest-dev libgmock-dev libbenchmark-dev libboost-context1.81-dev
)

sysroot=$PWD/build/aarch64-sysroot
stamp=$sysroot/unpacked
wanted=$(sha256sum "scripts/$(basename "$0")")
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  echo "aarch64-sysroot: $sysroot is complete"
  exit 0
fi
rm -rf "$sysroot"
mkdir -p "$sysroot"/apt/{lists,cache}/partial "$sysroot"/usr/{bin,lib,sbin}
touch "$sysroot/apt/status"
for folder in bin lib sbin; do  # Debian's merged /usr
  ln -s "usr/$folder" "$sysroot/$folder"
done

# An apt of its own, for which no package is installed: it resolves dependencies in arm64 alone, from the host's sources.
private_apt() {
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User= -o Dir::State="$sysroot/apt" \
    -o Dir::State::status="$sysroot/apt/status" -o Dir::State::extended_states="$sysroot/apt/extended_states" \
    -o Dir::Cache="$sysroot/apt/cache" -o Acquire::Languages=none "$@"
}
echo "aarch64-sysroot: unpacking ${packages[*]}"
private_apt update
private_apt install --download-only --no-install-recommends -y "${packages[@]}" >/dev/null
for package in "$sysroot"/apt/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$sysroot" --keep-directory-symlink
done
# BLAS and LAPACK, of which Debian lets the host choose among several.
for library in blas lapack; do
  ln -s "$library/lib$library.so.3" "$library/lib$library.so" "$sysroot/usr/lib/aarch64-linux-gnu"
done
# Absolute links point into the sysroot, not into the host.
find "$sysroot" -type l -lname '/*' | while read -r link; do
  ln -sfnr "$sysroot$(readlink "$link")" "$link"
done
rm -rf "$sysroot/apt"
echo "$wanted" > "$stamp"
