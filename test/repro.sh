#!/bin/bash
# repro.sh: builds the program twice, in folders of different names, once with an empty build cache, and compares the bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
for copy in one a-longer/two; do
	mkdir -p "$dir/$copy"
	git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$dir/$copy"
done
make -s -C "$dir/one" VERSION=repro
GOCACHE=$dir/cache make -s -C "$dir/a-longer/two" VERSION=repro
cmp "$dir/one/bin/genoci" "$dir/a-longer/two/bin/genoci"
echo "two builds, equal bytes: $(sha256sum <"$dir/one/bin/genoci" | cut -c 1-64)"
