package unxz

import "golang.org/x/sys/unix"

// allocate returns n zero bytes, of which those take memory that are written to. They are not the
// garbage collector's business, which lets the heap grow to twice of what is in it: a few large
// pieces would have it leave as much garbage as they are large.
func allocate(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// free gives back what allocate returned, if anything.
func free(b []byte) {
	if b != nil {
		_ = unix.Munmap(b) // nothing that allocate returned can fail to be unmapped
	}
}
