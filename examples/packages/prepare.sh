#!/bin/sh
# Takes the Debian root filesystem that test/prepare.sh makes.
# By hand: mmdebstrap --variant=minbase bookworm debian.tar.gz
set -eu
if [ -z "${GENOCI_TEST_DEB_ROOTFS:-}" ]; then
	echo "no Debian root filesystem; test/prepare.sh makes one" >&2
	exit 77
fi
ln -s "$GENOCI_TEST_DEB_ROOTFS" debian.tar.gz
