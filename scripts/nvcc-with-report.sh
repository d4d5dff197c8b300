#!/bin/sh
# Runs nvcc; what ptxas says of registers, stack and spills goes to OBJECT.ptxas, not to the terminal.
# usage: nvcc-with-report.sh NVCC ARGUMENTS... -o OBJECT ...     (a compiler launcher; the report is read by tests/support/ptxas_report.py)
# SPDX-License-Identifier: Apache-2.0
object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"

"$@" 2>"$object.stderr"
status=$?
report='^ptxas info|^ *[0-9]+ bytes stack frame'
grep -E "$report" "$object.stderr" >"$object.ptxas"
grep -vE "$report" "$object.stderr" >&2
rm -f "$object.stderr"
exit $status
