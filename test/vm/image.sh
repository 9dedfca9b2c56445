#!/bin/bash
# image.sh FOLDER: makes what run.sh needs: vmlinuz and initramfs, of Debian's kernel for clouds and of programs of this machine.
set -euo pipefail

out=$1
programs="busybox lvm mkfs.ext4 e2fsck mkfs.xfs thin_check losetup strace tar gzip"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 777 "$scratch" # apt-get as root downloads as a user of its own
root=$scratch/root
mkdir -p "$root"/{bin,sbin,dev,proc,sys,run/lock,tmp,mnt,root,etc/lvm,var/tmp,var/lib,lib/modules} "$root"/usr/{bin,sbin}

kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
(cd "$scratch" && apt-get download -qq "$kernel" && dpkg-deb -x "$kernel"_*.deb kernel)
modules=$(cd "$scratch/kernel" && echo lib/modules/*)
(cd "$scratch/kernel" && find "$modules"/kernel/{drivers/md,drivers/block/{loop,brd}.ko*,fs/{xfs,overlayfs},lib,crypto,arch/x86/crypto} -name '*.ko*') |
	tar -c -C "$scratch/kernel" -T - | tar -x -C "$root"
cp "$scratch/kernel/$modules"/modules.{builtin,order} "$root/$modules"
busybox depmod -b "$root" "${modules##*/}"

# Programs in their places, with the libraries that they are linked with.
for name in $programs; do
	file=$(PATH=$PATH:/sbin:/usr/sbin command -v "$name")
	install -D "$(readlink -f "$file")" "$root/$file"
	for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*'); do
		[ -e "$root/$library" ] || install -D "$(readlink -f "$library")" "$root/$library"
	done
done
mv "$root/usr/bin/busybox" "$root/bin/busybox"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"

mkdir -p "$out"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$out/initramfs"
cp "$scratch"/kernel/boot/vmlinuz-* "$out/vmlinuz"
