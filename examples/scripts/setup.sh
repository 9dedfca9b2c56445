#!/bin/sh
# A script of the host: it is run inside by its own interpreter line, and never stays in the image.
for arg; do echo "$COLOUR: $arg"; done > /out
pwd >> /out
