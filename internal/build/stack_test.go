package build

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"genoci/internal/image"
)

// Each prefix of a stack has its own chain ID, whichever was asked for first.
func TestChainID(t *testing.T) {
	for first := range 5 {
		var s stack
		var diffIDs []digest.Digest
		for i := range 4 {
			diffIDs = append(diffIDs, digest.FromString(fmt.Sprint(i)))
			s = s.on(&builtLayer{DiffID: diffIDs[i]})
		}
		s[:first].chainID()
		for n, want := range append([]digest.Digest{""}, image.ChainIDs(diffIDs)...) {
			if got := s[:n].chainID(); got != want {
				t.Errorf("%d layers were asked for first: of %d layers %s, want %s", first, n, got, want)
			}
		}
	}
}
