#!/bin/bash
# run.sh: runs all of genoci's tests that this machine and this user can run; see prepare.sh for what that depends on.
# As root, with GENOCI_TEST_USER set or in CI, GENOCI_REQUIRE names what has to work: a test that lacks it fails.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

say "preparing the machine and the inputs"
exports=$(test/prepare.sh)
eval "$exports"
export GENOCI_BIN=$PWD/bin/genoci

if [ "$(id -u)" = 0 ] && [ -n "${GENOCI_TEST_USER:-}" ]; then
	user_require=overlay,btrfs,vfs,userns,busybox,tmpfs,xattr,umoci,skopeo,runc,strace,ptrace,gzip,bzip2,xz,zstd,examples,debian,deb,rpm,network
	export GENOCI_REQUIRE=${GENOCI_REQUIRE:-root,ext4,xfs,loop,acl,mount,buildah,$user_require}
fi

# What is to be undone when this ends, however it does.
cleanups=()
cleanup() {
	local i
	for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do eval "${cleanups[i]}" || true; done
}
trap cleanup EXIT

if [ -n "${GENOCI_TEST_VM:-}" ]; then
	say "the storage driver lvm, in virtual machines, beside all that follows"
	machines=$(mktemp)
	GENOCI_REQUIRE=root,lvm,busybox,ptrace setsid go test -count=1 -short -p 1 -timeout 30m -run Lvm -exec "$PWD/test/vm/run.sh" \
		./internal/snapshot/lvm ./test/e2e >"$machines" 2>&1 &
	machines_pid=$!
	cleanups+=('rm -f "$machines"' '[ -z "$machines_pid" ] || kill -- "-$machines_pid" 2>/dev/null')
elif [ -n "${GENOCI_REQUIRE:-}" ]; then
	echo "there is no virtual machine for the storage driver lvm (test/prepare.sh says why)" >&2
	exit 1
fi

say "other systems and processors"
GOOS=darwin go build ./internal/spec ./internal/plan ./internal/image
GOARCH=arm64 go build ./...

say "go vet"
go vet ./...

say "all tests, as $(id -un)"
# Results from the cache say nothing of the machine: -count=1.
go test -count=1 -timeout 30m ./...

if [ "$(id -u)" = 0 ] && [ -n "${GENOCI_TEST_USER:-}" ]; then
	say "tests that touch the machine, as $GENOCI_TEST_USER"
	# A copy, since the user need not be able to read this folder.
	GENOCI_TEST_TREE=$(mktemp -d "${TMPDIR:-/var/tmp}/genoci-tree-XXXXXX")
	cleanups+=('rm -rf --one-file-system "$GENOCI_TEST_TREE"')
	export GENOCI_TEST_TREE
	git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$GENOCI_TEST_TREE"
	install -D -m 755 bin/genoci "$GENOCI_TEST_TREE/bin/genoci"
	mkdir "$GENOCI_TEST_TREE/tmp" "$GENOCI_TEST_TREE/btrfs"
	# A btrfs that root has mounted, with a folder of the user.
	truncate -s 8G "$GENOCI_TEST_TREE/btrfs.img"
	mkfs.btrfs -q "$GENOCI_TEST_TREE/btrfs.img"
	mount -o loop "$GENOCI_TEST_TREE/btrfs.img" "$GENOCI_TEST_TREE/btrfs"
	cleanups+=('umount "$GENOCI_TEST_TREE/btrfs"')
	export GENOCI_TEST_BTRFS=$GENOCI_TEST_TREE/btrfs
	chown -R "$GENOCI_TEST_USER:" "$GENOCI_TEST_TREE"
	chmod 755 "$GENOCI_TEST_TREE"
	GENOCI_BIN=$GENOCI_TEST_TREE/bin/genoci GENOCI_REQUIRE=$user_require \
		go test -count=1 -timeout 30m -exec "$PWD/test/as-user.sh" ./internal/sandbox ./internal/snapshot/... ./internal/layer ./internal/build \
		./cmd/... ./examples ./test/e2e
fi

say "the benchmark suite, on tiny inputs"
(cd bench && go vet ./... && go test -count=1 ./...)

say "other implementations as judges"
(cd test/oracle && go test -count=1 ./...)

if [ -n "${machines_pid:-}" ]; then
	say "the storage driver lvm: what came of it"
	wait "$machines_pid" || failed=$?
	machines_pid=
	cat "$machines"
	exit "${failed:-0}"
fi
