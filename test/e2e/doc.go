// Package e2e holds tests of the whole program on real input: Debian root filesystems, real
// packages, real mirrors, and other programs that read what it wrote. test/prepare.sh makes what
// they need.
package e2e
