#!/usr/bin/env python3
"""Prints what each GPU kernel takes on each architecture; fails when one spills registers or has a stack frame.

usage: ptxas_report.py REPORT ARCHITECTURES OBJECT...
REPORT is the file that keeps the table. ARCHITECTURES, as CMake names them ("75,90-real"), must each occur in OBJECT.ptxas of every object, as
scripts/nvcc-with-report.sh writes it. Also checks itself: a planted spill must be found.
SPDX-License-Identifier: Apache-2.0
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\w+)'")
FUNCTION = re.compile(r"Function properties for (\S+)")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")

PLANTED = """ptxas info    : Compiling entry function 'spilling' for 'sm_75'
ptxas info    : Function properties for spilling
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compiling entry function 'good' for 'sm_90'
ptxas info    : Function properties for good
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers
"""


class Kernel(NamedTuple):
    name: str
    architecture: str
    registers: int
    shared: int
    stack: int
    spilled: int

    def is_bad(self):
        return self.stack > 0 or self.spilled > 0


def kernels(text):
    """Functions that kernels call but that were not inlined count as kernels without registers of their own."""
    architecture, name, stack, spilled = "?", None, 0, 0
    for line in text.splitlines():
        if found := ENTRY.search(line):
            architecture = found.group(2)
        elif found := FUNCTION.search(line):
            if name is not None:
                yield Kernel(name, architecture, 0, 0, stack, spilled)
            name = found.group(1)
        elif found := STACK.search(line):
            stack, spilled = int(found.group(1)), int(found.group(2)) + int(found.group(3))
        elif found := USED.search(line):
            shared = SHARED.search(line)
            yield Kernel(name, architecture, int(found.group(1)), int(shared.group(1)) if shared else 0, stack, spilled)
            name = None
    if name is not None:
        yield Kernel(name, architecture, 0, 0, stack, spilled)


def demangled(names):
    if shutil.which("c++filt") is None or not names:
        return names
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    shorter = re.compile(r"\(anonymous namespace\)::|thermocline::|cuda_gpu::|_GLOBAL__N__\w+?::|^void ")
    return [re.sub(r"\((?!\w+\)).*$", "", shorter.sub("", line)) for line in out.splitlines()]


def table(found):
    lines = [f"{'sm':>5} {'registers':>9} {'shared':>7} {'stack':>6} {'spilled':>7}  kernel"]
    for kernel, name in zip(found, demangled([k.name for k in found])):
        lines.append(f"{kernel.architecture:>5} {kernel.registers:>9} {kernel.shared:>7} {kernel.stack:>6} {kernel.spilled:>7}  {name}")
    return "\n".join(lines) + "\n"


def self_check():
    found = list(kernels(PLANTED))
    return found == [Kernel("spilling", "75", 255, 1024, 16, 20), Kernel("good", "90", 32, 0, 0, 0)] and [k.is_bad() for k in found] == [True, False]


def main():
    if not self_check():
        sys.exit("ptxas_report: the planted spill was not read as planted")
    report, architectures, objects = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]
    wanted = {re.sub(r"-(real|virtual)$", "", each) for each in architectures}
    found, failures = [], []
    for each in objects:
        log = Path(each + ".ptxas")
        of_object = list(kernels(log.read_text())) if log.exists() else []
        missing = wanted - {kernel.architecture for kernel in of_object}
        if missing:
            failures.append(f"{log}: no kernel for {', '.join(sorted(missing))}")
        found += of_object
    if not objects:
        failures.append("no objects were named")
    found.sort(key=lambda kernel: (kernel.name, int(re.sub(r"\D", "", kernel.architecture) or 0)))
    text = table(found)
    report.write_text(text)
    print(text)
    failures += [f"sm_{k.architecture}: {k.name}: {k.stack} bytes of stack, {k.spilled} bytes spilled" for k in found if k.is_bad()]
    print("\n".join(failures) or f"{len(found)} kernels, none spills")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
