package layer

import (
	"io"

	"genoci/internal/unxz"
)

// newXzReader decompresses xz. It refuses blocks that ask for a window of more than maxWindow,
// before anything is allocated for it.
func newXzReader(r io.Reader) (io.ReadCloser, error) { return unxz.NewReader(r, maxWindow) }
