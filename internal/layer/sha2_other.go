//go:build !amd64

package layer

func blocks2(_, _ *[8]uint32, _ *byte, _ int) { panic("layer: no instructions for SHA-256") }

func hasSHA() bool { return false }
