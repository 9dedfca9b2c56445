#!/bin/sh
# Takes what test/prepare.sh makes: a Debian root filesystem with rpm in it, a .deb and an .rpm.
# By hand: mmdebstrap --variant=minbase --include=rpm bookworm minbase.tar.gz; apt-get download hello; any .rpm
set -eu
if [ -z "${GENOCI_TEST_RPM_ROOTFS:-}" ] || [ -z "${GENOCI_TEST_DEB:-}" ] || [ -z "${GENOCI_TEST_RPM:-}" ]; then
	echo "no Debian root filesystem; test/prepare.sh makes one" >&2
	exit 77
fi
ln -s "$GENOCI_TEST_RPM_ROOTFS" minbase.tar.gz
ln -s "$GENOCI_TEST_DEB" hello.deb
ln -s "$GENOCI_TEST_RPM" tiny.rpm
