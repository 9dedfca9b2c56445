#!/bin/sh
echo "${GREETING:-Good day}, ${1:-world}"
