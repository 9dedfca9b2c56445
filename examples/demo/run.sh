#!/bin/bash
# run.sh: shows genoci's main job on real input, without root. `make demo` builds the program first.
#
# The input is a small Debian root filesystem, put together from packages that apt-get downloads. All that is made here is
# below bin/demo, and in genoci's cache.
set -euo pipefail
cd "$(dirname "$0")"

work=$PWD/../../bin/demo
rm -rf "$work"
mkdir -p "$work"
cp genoci.yaml hello.sh "$work"
./prepare.sh "$work"
cd "$work"

genoci() {
	printf '\n$ genoci %s\n' "$*"
	../genoci "$@"
}

targets=() # all
image=app
status=0
genoci build || status=$?
if [ $status = 3 ]; then # the machine lacks something; genoci has said what
	printf '\nSteps that run something are left out. Those that run nothing work everywhere:\n'
	targets=(docs)
	image=docs
	genoci build "${targets[@]}"
elif [ $status != 0 ]; then
	exit $status
fi

genoci build "${targets[@]}" # again: nothing changed
genoci ls
genoci inspect $image
genoci unpack $image root
printf '\n$ ls -lR root, without /bin and /usr/share\n'
(cd root && find . -path ./bin/\* -prune -o -path ./usr/share/\* -prune -o -printf '%M %U:%G %8s %p %l\n' | sort -k 4)
