#!/bin/bash
# prepare.sh: gets a machine ready for the benchmarks.
#
#	bench/prepare.sh FOLDER INPUT...
#
# As root, on a machine with apt-get, it installs the programs that are missing; as anybody else it only names them. It then makes the
# inputs that are asked for, and are not yet there, in FOLDER, from the mirror that apt is configured for:
#
#	bb          bb.tar.gz: static busybox and its links
#	deb         deb.tar.gz, deb.tar.zst: a minimal Debian root filesystem, 170 MB unpacked
#	big         big.tar.gz: a large one with compilers and runtimes, 2.2 GB in 100,000 files
#	many        20,000 small files of half-compressible text
#	rand1g.bin  1 GiB that cannot be compressed
#
# Delete FOLDER to have them made again.
set -euo pipefail

say() { echo "prepare: $*" >&2; }

# package:program
needs=(
	umoci:umoci buildah:buildah skopeo:skopeo runc:runc busybox-static:busybox mmdebstrap:mmdebstrap e2fsprogs:mkfs.ext4 strace:strace
	tar:tar gzip:gzip zstd:zstd pigz:pigz isal:igzip libdeflate-tools:libdeflate-gzip
)

install_programs() {
	local missing=() need
	for need in "${needs[@]}"; do
		PATH=$PATH:/sbin:/usr/sbin command -v "${need#*:}" >/dev/null || missing+=("${need%%:*}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		say "these are missing, and what needs them is left out: ${missing[*]}"
		return 0
	fi
	say "installing ${missing[*]}"
	apt-get update -qq >&2
	# One by one, where not all can be had together.
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 && return 0
	for need in "${missing[@]}"; do
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$need" >&2 || say "could not install $need"
	done
}

# once FILE COMMAND...: runs COMMAND OUTPUT, and OUTPUT becomes FILE when it succeeds.
once() {
	local file=$1
	shift
	[ ! -e "$file" ] || return 0
	say "making $file"
	"$@" "$file.new-$$"
	mv "$file.new-$$" "$file"
}

busybox_root() { # OUTPUT
	local root=$scratch/busybox applet
	mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,tmp,root,var/tmp,run}
	chmod 1777 "$root/tmp" "$root/var/tmp"
	chmod 700 "$root/root"
	cp "$(command -v busybox)" "$root/bin/busybox"
	for applet in $("$root/bin/busybox" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
	echo 'root:x:0:' >"$root/etc/group"
	tar -C "$root" --numeric-owner --owner=0 --group=0 --sort=name -cf - . | gzip -n -9 >"$1"
}

# The settings of the host's apt without which its mirror may not be reachable.
apt_settings() {
	apt-config dump --format '%F "%v";%n' |
		grep -E '^Acquire::(http|https)::Proxy "|^Acquire::Check-(Valid-Until|Date) "' | sed 's/^/--aptopt=/' || true
}

debian() { # VARIANT PACKAGES OUTPUT
	local settings sources
	mapfile -t settings < <(apt_settings)
	sources=$(find /etc/apt/sources.list.d -name debian.sources -o -name ubuntu.sources | head -n 1)
	# shellcheck source=/dev/null
	(. /etc/os-release && mmdebstrap --quiet --variant="$1" ${2:+--include="$2"} --format=tar \
		"${settings[@]}" --aptopt='Acquire::Languages "none"' \
		--customize-hook='rm -rf "$1"/etc/resolv.conf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*' \
		--customize-hook='rm -rf "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*' \
		"$VERSION_CODENAME" - "${sources:-/etc/apt/sources.list}") >"$3"
}

compressed() { # TAR COMMAND... OUTPUT
	local tar=$1 output=${*: -1}
	shift
	"${@:1:$#-1}" <"$tar" >"$output"
}

many_files() { # OUTPUT
	awk -v top="$1" 'BEGIN {
		srand(7)
		letters = "abcdefghij klmnop\nqrstuv=0123456789"
		for (d = 0; d < 200; d++) {
			dir = sprintf("%s/d%03d", top, d)
			system("mkdir -p " dir)
			for (f = 0; f < 100; f++) {
				text = ""
				for (n = int(200 + rand() * 8000); n > 0; n--) text = text substr(letters, 1 + int(rand() * length(letters)), 1)
				file = sprintf("%s/f%03d.txt", dir, f)
				printf "%s", text >file
				close(file)
			}
		}
	}'
}

random() { # OUTPUT
	head -c 1G /dev/urandom >"$1"
}

big_packages=gcc,g++,python3,python3-dev,perl,perl-doc,default-jre-headless,nodejs,npm,locales-all,git,cmake,ruby,golang-go,vim,emacs-nox
big_packages+=,libboost-dev,man-db

folder=$1
shift
install_programs
mkdir -p "$folder"
scratch=$(mktemp -d "$folder/scratch-XXXXXX")
trap 'rm -rf "$scratch" "$folder"/*.new-$$' EXIT
chmod 755 "$scratch"
for input; do
	case $input in
	bb) once "$folder/bb.tar.gz" busybox_root ;;
	deb | big)
		if [ "$input" = deb ]; then make_root=(debian minbase ""); else make_root=(debian important "$big_packages"); fi
		[ -e "$folder/$input.tar.gz" ] || once "$folder/$input.tar" "${make_root[@]}"
		once "$folder/$input.tar.gz" compressed "$folder/$input.tar" gzip -n -6
		[ "$input" = big ] || once "$folder/$input.tar.zst" compressed "$folder/$input.tar" zstd -q -3
		;;
	many) once "$folder/many" many_files ;;
	rand1g.bin) once "$folder/rand1g.bin" random ;;
	*)
		say "no such input: $input"
		exit 2
		;;
	esac
done
