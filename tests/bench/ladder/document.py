#!/usr/bin/env python3
"""Keeps the tables of docs/kernels.md equal to a result of ladder_bench.

usage: document.py RESULT.json DOCUMENT.md [--update]
Without --update it only compares, and fails where a table differs. A table stands between `<!-- ladder NAME -->` and `<!-- end -->`.
SPDX-License-Identifier: Apache-2.0
"""
import json
import re
import sys
from pathlib import Path

# Gains over the first rung that the texts behind the ladder give (docs/kernels.md names them); where they give a ratio to the rung before, so
# does the entry.
PUBLISHED = {
    "relu": {"scalar": "1", "SIMD, unaligned": "4.1", "SIMD, aligned": "4.5"},
    "leaky_relu": {},
    "matmul": {
        "naive": "1", "1x4": "4.0", "4x4 register block": "7.1", "SIMD": "10.6", "cache-blocked": "10.6", "packed inside the call": "10.6",
        "packed ahead of time": "20",
    },
    "matrix4": {"columns interleaved": "2 over the one before"},
    "matrix4_q1_14": {"columns interleaved": "2 over the one before"},
    "box_filter": {
        "naive": "1", "two rows at once": "8.1", "SIMD, one window at a time": "9.6", "SIMD, two rows at once": "33", "without multiplications": "37",
    },
}
# The figure of each family, its unit, and the problem whose gains are compared.
FIGURE = {
    "relu": ("gb_per_second", "GB/s", "1024 x 1024 floats"),
    "leaky_relu": ("gb_per_second", "GB/s", "1024 x 1024 floats"),
    "matmul": ("gflops", "GFLOP/s", "512 x 512 x 512"),
    "matrix4": ("gflops", "GFLOP/s", "128 matrices"),
    "matrix4_q1_14": ("gflops", "Gop/s", "128 matrices"),
    "box_filter": ("gb_per_second", "GB/s", "3840 x 2160"),
}


def duration(seconds):
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def figure(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def percent(share):
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def rung_table(result, family):
    key, unit, of_gain = FIGURE[family]
    problems = [problem for problem in result["problems"] if problem["family"] == family]
    by_problem = [{rung["name"]: rung for rung in problem["rungs"]} for problem in problems]
    names = list(dict.fromkeys(rung["name"] for problem in problems for rung in problem["rungs"]))
    gains = by_problem[[problem["problem"] for problem in problems].index(of_gain)]
    of = "copy" if problems[0]["memory_bound"] else "peak"
    header = ["rung", "gain published", "gain here" + (f", {of_gain}" if len(problems) > 1 else "")]
    header += [f"{problem['problem']}: {unit} (of {of})" for problem in problems]
    rows = []
    for name in names:
        if name.startswith("copy") and of == "peak":
            continue
        gain = gains.get(name)
        row = [name, PUBLISHED[family].get(name, ""), figure(gain["gain_over_first"]) if gain else ""]
        for rungs in by_problem:
            rung = rungs.get(name)
            row.append(f"{figure(rung[key])} ({percent(rung['share_of_floor'])})" if rung else "")
        rows.append(row)
    return table(header, rows)


def floors(result):
    rows = []
    for problem in result["problems"]:
        best = min((rung for rung in problem["rungs"] if not rung["peer"]), key=lambda rung: rung["seconds"]["median"])
        rows.append([
            problem["family"], problem["problem"], f"{problem['operations']:.3g}", f"{problem['bytes']:.3g}",
            duration(problem["floors"]["arithmetic_seconds"]), duration(problem["floors"]["copy_seconds"]), best["name"],
            duration(best["seconds"]["median"]),
            f"{percent(best['share_of_floor'])} of the {'copy' if problem['memory_bound'] else 'peak'}",
        ])
    return table(["family", "problem", "operations", "bytes", "arithmetic floor", "copy floor", "best rung", "takes", "reached"], rows)


def machine(result):
    hardware, build = result["hardware"], result["build"]
    return [
        f"{hardware['cpu']}, {hardware['isa']} rungs, one thread: multiply-adds in registers {hardware['peak_gflops']['median']:.0f} GFLOP/s, reads"
        f" {hardware['read_gb_per_second']['median']:.1f} GB/s, copies {hardware['copy_gb_per_second']['median']:.1f} GB/s (read plus written).",
        f"Built by {build['compiler']}, {build['type']} (`{build['flags']}`). {result['openblas'] or 'OpenBLAS was not installed'}.",
    ]


def goals(result):
    rows = []
    for goal in result["goals"]:
        least = "not measured" if goal["least"] is None else f"{goal['least']:.3g} ({goal['problem']})"
        rows.append([goal["goal"], least, {True: "yes", False: "no", None: ""}[goal["met"]]])
    return table(["goal", "least", "met"], rows)


def blocks(result):
    named = {"machine": machine(result), "floors": floors(result), "goals": goals(result)}
    named.update({family: rung_table(result, family) for family in FIGURE})
    return named


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--update"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    result = json.loads(Path(arguments[0]).read_text())
    document = Path(arguments[1])
    made = blocks(result)
    found = []

    def replace(match):
        name = match.group(1)
        if name not in made:
            sys.exit(f"{document}: there is no table '{name}', known are {', '.join(made)}")
        found.append(name)
        return f"<!-- ladder {name} -->\n" + "\n".join(made[name]) + "\n<!-- end -->"

    old = document.read_text()
    new = re.sub(r"<!-- ladder (\S+) -->\n.*?<!-- end -->", replace, old, flags=re.DOTALL)
    missing = sorted(set(made) - set(found))
    if missing:
        sys.exit(f"{document}: the tables {', '.join(missing)} are missing")
    if "--update" in sys.argv:
        document.write_text(new)
    elif new != old:
        sys.exit(f"{document}: its tables are not those of {arguments[0]}; document.py --update writes them")
    print(f"{document}: {len(found)} tables of {arguments[0]}")


if __name__ == "__main__":
    main()
