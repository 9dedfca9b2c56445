#!/bin/bash
# prepare.sh [DIR]: makes rootfs.tar.gz in DIR, a small Debian root filesystem out of downloaded packages; needs no root.
set -euo pipefail

command -v apt-get >/dev/null || { echo "apt-get: not found" >&2; exit 77; }
dir=$(cd "${1:-.}" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
root=$scratch/root
mkdir -p "$root" "$scratch/lists/partial" "$scratch/cache"

# An ordinary user cannot fill apt's own lists, but can have lists of his own.
download() { (cd "$scratch" && apt-get -qq -o APT::Sandbox::User= "$@"); }
if ! download download base-files busybox-static 2>/dev/null; then
	own=(-o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" -o Debug::NoLocking=true)
	download "${own[@]}" update 2>/dev/null
	download "${own[@]}" download base-files busybox-static
fi
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$root"; done

for name in $("$root/bin/busybox" --list); do
	[ -e "$root/bin/$name" ] || ln -s busybox "$root/bin/$name"
done
mkdir -p "$root"/{etc,root,run,dev}
echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
echo root:x:0: >"$root/etc/group"
chmod 755 "$root"
tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1000000000 -c . | gzip -n >"$dir/rootfs.tar.gz"
