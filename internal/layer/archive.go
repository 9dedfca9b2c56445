package layer

import (
	"context"
	"io"
	"os"
)

// Archive is a tar archive that a spec expands: its entries in the archive's order, and
// its decompressed bytes, which it keeps in a nameless temporary file.
type Archive struct {
	Entries []ArchiveEntry
	stub    int
}

// ArchiveEntry is one entry of an archive as it was written there.
type ArchiveEntry struct {
	Change          // Path is cleaned: relative, no "." or ".." elements ("." is the root)
	HardLink string // the cleaned name of the entry that this is another name of; "" otherwise
}

// ReadArchive reads a tar, compressed in any of Compressions (told by content), to its end. The
// uncompressed bytes go to spool, an empty file that the archive owns from now on.
// Names that leave the archive's root are clamped to it, sparse files expanded, sockets dropped.
// What is no tar, is cut off, or grows beyond what any real archive does, is an error.
func ReadArchive(ctx context.Context, r io.Reader, spool *os.File) (*Archive, error) { panic("stub") }

// Close drops the spool. Openers of the entries fail from then on.
func (a *Archive) Close() error { panic("stub") }
