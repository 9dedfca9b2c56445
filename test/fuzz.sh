#!/bin/bash
# fuzz.sh TIME: runs each fuzz target for TIME. Found inputs are left under testdata/fuzz of the package, to be committed.
set -euo pipefail
cd "$(dirname "$0")/.."

# Minimising stalls fuzzing by default (golang/go issue 48820).
while read -r package; do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz'); do
		echo "== $package $target"
		go test -run='^$' -fuzz="^$target\$" -fuzztime="${1:-30s}" -fuzzminimizetime=10x "$package"
	done
done < <(grep -rl --include='*_test.go' '^func Fuzz' ./internal ./cmd | xargs -n 1 dirname | sort -u)
