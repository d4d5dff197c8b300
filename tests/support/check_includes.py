#!/usr/bin/env python3
"""Fails when a file includes a room that its own room may not include.

usage: check_includes.py ROOT
Also checks itself: a planted violation must be found.
SPDX-License-Identifier: Apache-2.0
"""
import re
import sys
import tempfile
from pathlib import Path

ALLOWED = {
    "core": set(),
    "proto": set(),
    "kernels_cpu": {"core"},
    "kernels_cuda": {"core"},
    "model": {"core", "proto", "kernels_cpu", "kernels_cuda"},
    "predictor": {"core", "kernels_cpu", "kernels_cuda", "model"},
    "scheduler": {"core", "kernels_cpu", "kernels_cuda", "model", "predictor"},
    "profiler": {"core", "kernels_cpu", "kernels_cuda", "model", "predictor", "scheduler"},
    "server": {"core", "proto", "model", "scheduler"},
    "cli": {"core", "proto", "kernels_cpu", "kernels_cuda", "model", "predictor", "scheduler", "profiler", "server"},
}
# Generated headers are included by their path below proto/.
ALIASES = {"thermocline": "proto"}
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">/]+)/[^">]*[">]')
SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".inc"}


def violations(root):
    for room, allowed in ALLOWED.items():
        for path in sorted((root / room).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                found = INCLUDE.match(line)
                if not found:
                    continue
                target = ALIASES.get(found.group(1), found.group(1))
                if target == "tests" or (target in ALLOWED and target != room and target not in allowed):
                    yield f"{path.relative_to(root)}:{number}: {room} may not include {target}"


def self_check():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "core").mkdir()
        (root / "core" / "planted.h").write_text('#include "core/status.h"\n#include "model/config.h"\n')
        return len(list(violations(root))) == 1


def main():
    if not self_check():
        sys.exit("check_includes: the planted violation was not found")
    found = list(violations(Path(sys.argv[1])))
    print("\n".join(found) or f"include table holds in {len(ALLOWED)} rooms")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
