package layer

import (
	"context"
	"iter"
	"time"
)

// DiffOptions says where to look, and which times are the step's own.
type DiffOptions struct {
	// Touched yields paths that may differ from the base; a removed path too. A path that ends
	// in "/" stands for the folder and everything below it. Every path that differs must be yielded or lie
	// below one that ends in "/". Parents need not be yielded for their times.
	// nil: all of dir is walked, in parallel.
	Touched iter.Seq2[string, error]

	// Since, for the walk: what has a ctime before it is known to be as in the base. Zero: everything is compared.
	Since time.Time

	// Start and End bound the step's own time. A file, symlink or new folder whose mtime lies in [Start, End]
	// gets the mtime Epoch; a folder of the base gets its mtime in the base. Zero Start: times are kept as they are.
	Start, End time.Time
	Epoch      int64 // seconds since 1970

	// Warn, if set, is told what a layer cannot hold (sockets, file names like .wh.x), once a path.
	Warn func(path, what string)
}

// Diff returns how the tree in the folder dir differs from base, sorted as Pack wants it: parents once, no
// opaque folders, whiteouts for the topmost removed names only, hard link groups formed among the
// changed names only. Whatever the driver and the hints, the same two trees give the same changes.
// Files are compared by SHA-256 where type, size, mode, owner, times and xattrs are equal.
func Diff(ctx context.Context, dir string, base View, o DiffOptions) ([]Change, error) { panic("stub") }

// Dir returns the view of a folder on disk, as it is at each call. Digests are not computed.
func Dir(dir string) View { panic("stub") }
