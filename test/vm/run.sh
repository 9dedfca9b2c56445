#!/bin/bash
# run.sh: runs a program in a virtual machine that has what this machine's kernel may lack: the device mapper. It takes a test binary as
# "go test -exec" hands it over, and exits as that does:
#
#	go test -exec "$PWD/test/vm/run.sh" ./internal/snapshot/lvm
#
# The machine has the kernel and the programs that test/prepare.sh has put into GENOCI_TEST_VM, no disk, and no network; the
# program, which must be static, is the only one beside GENOCI_BIN, if that is set (/bin/genoci). It sees the variables GENOCI_*, and in
# /run/files the files of folder GENOCI_TEST_VM_FILES, if that is set.
# The processor is emulated, and a plain one: what newer ones have makes an emulation slower. Everything takes twenty times as long as it
# should, and nothing depends on what the host is itself.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
image=${GENOCI_TEST_VM:?is not set: eval "$(test/prepare.sh)"}
program=$1
shift

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What is added to the machine's files: archives one after the other are one (Documentation/driver-api/early-userspace/buffer-format.rst).
root=$scratch/root
mkdir -p "$root/run" "$root/bin"
install -m 755 "$here/init" "$root/init"
install -m 755 "$program" "$root/run/program"
[ -z "${GENOCI_BIN:-}" ] || install -m 755 "$GENOCI_BIN" "$root/bin/genoci"
[ -z "${GENOCI_TEST_VM_FILES:-}" ] || cp -rL "$GENOCI_TEST_VM_FILES" "$root/run/files"
{
	compgen -e GENOCI_ | while read -r name; do printf 'export %s=%q\n' "$name" "${!name}"; done
	echo 'unset GENOCI_TEST_VM; export PATH=/usr/sbin:/usr/bin:/sbin:/bin' # real programs before those of busybox
	[ -z "${GENOCI_BIN:-}" ] || echo 'export GENOCI_BIN=/bin/genoci'
	printf 'exec /run/program'
	[ $# = 0 ] || printf ' %q' "$@"
	echo
} >"$root/run/command"
(cd "$root" && find . | cpio --quiet -o -H newc) | cat "$image/initramfs" - >"$scratch/initramfs"

# On a busy host the machine's clock stands still for a while, now and then.
clock="no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1 tsc=nowatchdog"
: >"$scratch/status"
timeout --foreground "${GENOCI_TEST_VM_TIMEOUT:-1800}" qemu-system-x86_64 -accel tcg -M q35 -cpu qemu64 -smp 1 -m "${GENOCI_TEST_VM_MEMORY:-3G}" \
	-nodefaults -no-user-config -no-reboot -display none -serial stdio -serial "file:$scratch/status" \
	-kernel "$image/vmlinuz" -initrd "$scratch/initramfs" \
	-append "console=ttyS0 quiet loglevel=3 panic=-1 $clock mitigations=off nokaslr random.trust_cpu=on rcupdate.rcu_expedited=1" </dev/null ||
	echo "vm: qemu ended with status $?" >&2

status=$(tr -dc 0-9 <"$scratch/status")
if [ -z "$status" ]; then
	echo "vm: the machine ended before the program did" >&2
	exit 125
fi
exit "$status"
