#!/bin/sh
# Makes cirros.tar.gz, a root filesystem of a static busybox, in the place of the real one (which is
# http://download.cirros-cloud.net/, and works as well).
set -eu
bb=$(command -v busybox) || { echo "busybox: not found" >&2; exit 77; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/etc" "$root/tmp"
cp "$bb" "$root/bin/busybox"
for name in sh echo cat ls; do ln -s busybox "$root/bin/$name"; done
echo root:x:0:0:root:/:/bin/sh >"$root/etc/passwd"
chmod 755 "$root" "$root/bin" "$root/bin/busybox" "$root/etc"
chmod 644 "$root/etc/passwd"
chmod 1777 "$root/tmp"
tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1000000000 -c . | gzip -n >cirros.tar.gz
