#!/bin/bash
# prepare.sh: gets a machine ready for all of genoci's tests, and prints what they need as shell text:
#
#	eval "$(test/prepare.sh)"
#
# As root, on a machine with apt-get, it installs the programs that are missing. As anybody else it only
# names them. It then makes the test inputs, once, in GENOCI_TEST_CACHE (default: /var/cache/genoci-test
# for root, $XDG_CACHE_HOME/genoci-test for others) from the mirror that apt is configured for. Delete that
# folder to have them made again. What cannot be made here is left out, and the tests that need it skip.
#
# An ordinary user with subordinate ids, for the tests that root cannot do, is made only by root, and only
# where CI is set (then it is called genoci-test) or where GENOCI_TEST_USER names it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
say() { echo "prepare: $*" >&2; }

# package:program
needs=(
	umoci:umoci skopeo:skopeo buildah:buildah runc:runc uidmap:newuidmap busybox-static:busybox
	mmdebstrap:mmdebstrap strace:strace rpm:rpmbuild xz-utils:xz zstd:zstd bzip2:bzip2 xfsprogs:mkfs.xfs
	btrfs-progs:mkfs.btrfs attr:setfattr acl:setfacl util-linux:setpriv
	qemu-system-x86:qemu-system-x86_64 cpio:cpio lvm2:lvm thin-provisioning-tools:thin_check e2fsprogs:mkfs.ext4
)

root=false
[ "$(id -u)" != 0 ] || root=true

install_programs() {
	local missing=() need
	for need in "${needs[@]}"; do
		[ -z "${CI:-}" ] && PATH=$PATH:/sbin:/usr/sbin command -v "${need#*:}" >/dev/null || missing+=("${need%%:*}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if $root && command -v apt-get >/dev/null; then
		say "installing ${missing[*]}"
		apt-get update -qq >&2
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
	else
		say "these are missing, and tests that need them will skip: ${missing[*]}"
		say "as root: apt-get install ${missing[*]}"
	fi
}

# An ordinary user that may use 65,536 subordinate ids (useradd gives each new user a range of its own).
make_user() {
	user=${GENOCI_TEST_USER:-${CI:+genoci-test}}
	if ! $root || [ -z "$user" ]; then
		user=
		return 0
	fi
	if ! id "$user" >/dev/null 2>&1; then
		say "making the user $user"
		useradd --create-home --shell /bin/bash "$user"
	fi
	if ! grep -q "^$user:" /etc/subuid; then
		usermod --add-subuids 1000000-1065535 --add-subgids 1000000-1065535 "$user"
	fi
}

# once FILE COMMAND...: runs COMMAND OUTPUT SCRATCH, and OUTPUT becomes FILE when it succeeds.
once() {
	local file=$1 scratch
	shift
	[ ! -s "$file" ] || return 0
	say "making $file"
	scratch=$(mktemp -d)
	chmod 755 "$scratch"
	if "$@" "$file.new-$$" "$scratch" >&2; then
		mv "$file.new-$$" "$file"
	else
		rm -f "$file.new-$$"
		say "could not make $file"
	fi
	rm -rf "$scratch"
}

# The settings of the host's apt without which its mirror may not be reachable.
apt_settings() {
	apt-config dump --format '%F "%v";%n' |
		grep -E '^Acquire::(http|https)::Proxy "|^Acquire::Check-(Valid-Until|Date) "' | sed 's/^/--aptopt=/' || true
}

# The archive of a minimal root filesystem of the host's own distribution, with more packages.
debian() { # PACKAGES OUTPUT SCRATCH
	command -v mmdebstrap >/dev/null || return 1
	local settings sources
	mapfile -t settings < <(apt_settings)
	sources=$(find /etc/apt/sources.list.d -name debian.sources -o -name ubuntu.sources | head -n 1)
	# shellcheck source=/dev/null
	(. /etc/os-release && mmdebstrap --quiet --variant=minbase ${1:+--include="$1"} --format=tar \
		"${settings[@]}" --aptopt='Acquire::Languages "none"' "$VERSION_CODENAME" - "${sources:-/etc/apt/sources.list}") |
		gzip -n >"$2"
}

# A real .deb that needs nothing that a minimal system lacks.
hello() { # OUTPUT SCRATCH
	command -v apt-get >/dev/null || return 1
	chmod 777 "$2" # apt-get as root downloads as a user of its own
	(cd "$2" && apt-get download -qq hello) && cat "$2"/hello_*.deb >"$1"
}

# The packages of python3 and of all that it needs on debian.tar.gz.
python3() { # OUTPUT SCRATCH
	command -v apt-get >/dev/null || return 1
	chmod 777 "$2"
	tar --extract --to-stdout --file "$cache/debian.tar.gz" ./var/lib/dpkg/status >"$2/status" || return 1
	(cd "$2" && apt-get -o "Dir::State::status=$2/status" --no-install-recommends --simulate install python3 | awk '$1 == "Inst" {print $2}' >names &&
		xargs apt-get download -qq <names && tar --create --file "$1" -- *.deb)
}

# An .rpm with a program and a config file.
tiny() { # OUTPUT SCRATCH
	command -v rpmbuild >/dev/null || return 1
	cat >"$2/tiny.spec" <<'SPEC'
Name: tiny
Version: 1.0
Release: 1
Summary: A tiny package
License: Apache-2.0
BuildArch: noarch
%description
A program and a config file.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc
printf '#!/bin/sh\necho tiny\n' >%{buildroot}/usr/bin/tiny
chmod 755 %{buildroot}/usr/bin/tiny
echo tiny=1 >%{buildroot}/etc/tiny.conf
%files
/usr/bin/tiny
%config /etc/tiny.conf
SPEC
	rpmbuild --quiet --define "_topdir $2" -bb "$2/tiny.spec" && cat "$2"/RPMS/noarch/tiny-*.rpm >"$1"
}

# What a virtual machine is made of (vm/run.sh).
machine() { # OUTPUT SCRATCH
	command -v qemu-system-x86_64 >/dev/null || return 1
	"$here/vm/image.sh" "$2" && mv "$2/vmlinuz" "$cache/vm/vmlinuz" && mv "$2/initramfs" "$1"
}

export_file() { # NAME FILE
	[ ! -s "$2" ] || printf 'export %s=%q\n' "$1" "$2"
}

install_programs
make_user

if $root; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
cache=${GENOCI_TEST_CACHE:-$cache/genoci-test}
mkdir -p "$cache/vm"
once "$cache/debian.tar.gz" debian ""
once "$cache/debian-rpm.tar.gz" debian rpm
once "$cache/hello.deb" hello
once "$cache/python3.tar" python3
once "$cache/tiny.rpm" tiny
once "$cache/vm/initramfs" machine

export_file GENOCI_TEST_DEB_ROOTFS "$cache/debian.tar.gz"
export_file GENOCI_TEST_RPM_ROOTFS "$cache/debian-rpm.tar.gz"
export_file GENOCI_TEST_DEB "$cache/hello.deb"
export_file GENOCI_TEST_DEBS "$cache/python3.tar"
export_file GENOCI_TEST_RPM "$cache/tiny.rpm"
[ ! -s "$cache/vm/initramfs" ] || printf 'export GENOCI_TEST_VM=%q\n' "$cache/vm"
[ -z "$user" ] || printf 'export GENOCI_TEST_USER=%q\n' "$user"
