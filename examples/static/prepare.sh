#!/bin/sh
# Builds the program.
set -eu
command -v go >/dev/null || { echo "go: not found" >&2; exit 77; }
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' -o server server.go
