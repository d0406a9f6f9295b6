#!/bin/sh
# Runs an example in a directory of its own and compares what it prints: run.sh PROGRAM EXPECTED
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
"$1" "$dir/data" >"$dir/out" || { echo "$1: exit code $?" >&2; exit 1; }
diff -u "$2" "$dir/out"
