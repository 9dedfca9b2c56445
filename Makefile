# Each target is a line or two that could be typed. CONTRIBUTING.md says when to use which.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
COUNT    ?= 10
TOOL      = go tool -modfile=tools/go.mod

export CGO_ENABLED = 0

bin/genoci: FORCE ## the program, static; the default
	go build -trimpath -buildvcs=false -ldflags='-s -w -X main.version=$(VERSION)' -o $@ ./cmd/genoci

demo: bin/genoci ## the main job on real input; no root needed
	examples/demo/run.sh

test: bin/genoci ## everything that this machine can test; as root, installs what tests need
	test/run.sh

check: lint ## what to run before each commit: lint and the tests that need no preparation
	go test ./...

lint: ## formatting, vet, golangci-lint and a tidy go.mod
	test -z "$$(gofmt -l . | tee /dev/stderr)"
	go vet ./...
	go mod tidy -diff
	$(TOOL) golangci-lint run

race: ## all tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race ./...

fuzz: ## each fuzz target for FUZZTIME
	test/fuzz.sh $(FUZZTIME)

bench: bin/genoci ## genoci and its peers side by side, into docs/benchmarks.md; as root. bench/run.sh lists RUNS, SCENARIOS, PEERS, CORPUS
	bench/run.sh scenarios,trace

bench-growth: bin/genoci ## how cost grows with sizes, into docs/benchmarks.md; as root
	bench/run.sh growth

bench-drivers: bin/genoci ## what storage drivers take, into docs/benchmarks.md; as root
	bench/run.sh drivers,emulated

bench-go: ## Go benchmarks COUNT times into bench/new.txt, compared with bench/old.txt
	go test -run='^$$' -bench=. -benchmem -count=$(COUNT) ./... | tee bench/new.txt
	$(TOOL) benchstat $(wildcard bench/old.txt) bench/new.txt

golden: ## rewrite what tests expect
	go test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n 1 dirname | sort -u) -update

judge: bin/genoci ## other implementations read what genoci wrote
	cd test/oracle && go test ./...

judge-copy: ## buildah and BuildKit build each cell of docs/copy.md; as root
	cd bench && go build -ldflags='-s -w' -o bin/ github.com/moby/buildkit/cmd/buildkitd github.com/moby/buildkit/cmd/buildctl
	cd test/oracle && GENOCI_BUILDKIT=$(CURDIR)/bench/bin go test -count=1 -v -timeout 2h -run '^TestCopyTable' .

repro: ## two builds of the program give the same bytes
	test/repro.sh

cover: ## statement coverage of all tests
	go test -coverprofile=cover.out -coverpkg=./... ./...
	go tool cover -func=cover.out | tail -n 1

clean: ## what make made here; test inputs stay (see test/prepare.sh)
	rm -rf bin bench/bin cover.out bench/new.txt

help: ## this list
	@grep -E '^[a-z/-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

FORCE:
.PHONY: FORCE demo test check lint race fuzz bench bench-growth bench-drivers bench-go golden judge judge-copy repro cover clean help
