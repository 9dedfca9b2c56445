#!/bin/bash
# run.sh: builds what the benchmarks need, and runs the parts that are named (scenarios, trace, growth, drivers, emulated; nothing: only writes the docs).
#
#	bench/run.sh scenarios,trace
#
# It takes these variables, all of which may be empty:
#
#	RUNS       how often each tool does each scenario (3); peers that take more than 10 seconds do it once, and what takes
#	           less than half a second is done three times as often
#	SCENARIOS  scenarios by the beginning of their names, separated by commas: "S3,S4 bb"
#	PEERS      tools beside genoci and the limits, separated by commas: "buildah,umoci raw"
#	CORPUS     folder of the inputs, which are made there when missing (/var/cache/genoci-bench)
#	DISK       folder for the file of the disk that is measured on, which takes up to 30 GB while it runs (/var/tmp)
#	MERGE      1: results of chosen scenarios go into the docs too, among those that are there
#
# With SCENARIOS or PEERS, results are only printed, unless MERGE is 1. Else they go into results.json and docs, which are committed together.
set -euo pipefail
cd "$(dirname "$0")"
export CGO_ENABLED=0

parts=${1:-}
corpus=${CORPUS:-${GENOCI_BENCH_CORPUS:-/var/cache/genoci-bench}}
choice=(-scenarios "${SCENARIOS:-}" -peers "${PEERS:-}")
output=(-results results.json -docs ../docs)
if [ -n "${SCENARIOS:-}${PEERS:-}" ] && [ "${MERGE:-}" != 1 ]; then
	output=()
	parts=${parts%,trace}
fi

go build -trimpath -buildvcs=false -o bin/bench .
if [ -n "$parts" ]; then
	case ,${PEERS:-buildkit}, in
	*,[Bb]uild[Kk]it,*)
		if [[ $parts == *scenarios* ]]; then
			version=$(go list -m -f '{{.Version}}' github.com/moby/buildkit)
			nice -n 10 go build -ldflags="-s -w -X github.com/moby/buildkit/version.Version=$version" -o bin/ \
				github.com/moby/buildkit/cmd/buildkitd github.com/moby/buildkit/cmd/buildctl ||
				echo "bench: BuildKit cannot be built; it counts as failed" >&2
		fi
		;;
	esac
	if [[ $parts == *emulated* && -z "${GENOCI_TEST_VM:-}" ]]; then
		exports=$(../test/prepare.sh)
		eval "$exports"
	fi
	read -ra inputs <<<"$(bin/bench -inputs -parts "$parts" "${choice[@]}")"
	./prepare.sh "$corpus" "${inputs[@]}"
fi
exec bin/bench -parts "$parts" -programs "$(cd .. && pwd)/bin:$PWD/bin" -corpus "$corpus" -disk "${DISK:-/var/tmp}" \
	-runs "${RUNS:-3}" "${choice[@]}" "${output[@]}"
