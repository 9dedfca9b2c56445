#!/bin/bash
# as-user.sh: runs a test binary as the ordinary user GENOCI_TEST_USER, in the same package of a copy of the tree that the
# user may read (GENOCI_TEST_TREE, see run.sh):
#
#	go test -exec "$PWD/test/as-user.sh" ./internal/sandbox
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
home=$(getent passwd "$GENOCI_TEST_USER" | cut -d: -f6)
copy=$(mktemp -p "$GENOCI_TEST_TREE" test.XXXXXX)
install -m 755 "$1" "$copy"
shift
cd "$GENOCI_TEST_TREE/${PWD#"$top"}"
exec setpriv --reuid="$GENOCI_TEST_USER" --regid="$GENOCI_TEST_USER" --init-groups --inh-caps=-all \
	env -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_RUNTIME_DIR HOME="$home" USER="$GENOCI_TEST_USER" TMPDIR="$GENOCI_TEST_TREE/tmp" \
	"$copy" "$@"
