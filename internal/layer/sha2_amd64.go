package layer

// blocks2 adds n blocks of 64 bytes at p to two states of SHA-256. n is not 0, and hasSHA.
//
//go:noescape
func blocks2(a, b *[8]uint32, p *byte, n int)

// hasSHA reports whether the processor has the instructions for it: SHA, SSSE3 and SSE4.1.
func hasSHA() bool
