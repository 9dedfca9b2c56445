package layer

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"
)

// TOC is the index of one layer: its entries in the order of Compare, whiteouts
// and opaque folders among them, with the place of each file's content in the
// uncompressed tar, and the content of the files in Kept.
//
// It is immutable. On disk it is made for lookups without being read as a whole:
// OpenTOC maps the file, and a lookup is a binary search.
type TOC struct{ stub int }

// OpenTOC maps the TOC in the file at path, which Save has written. Close unmaps it.
func OpenTOC(path string) (*TOC, error) { panic("stub") }

// Save writes the TOC to path: to a temporary name in the same folder, renamed when complete.
func (t *TOC) Save(path string) error { panic("stub") }

// Close releases the mapping. Entries that were returned stay valid.
func (t *TOC) Close() error { panic("stub") }

// Len returns the number of entries.
func (t *TOC) Len() int { panic("stub") }

// Lookup returns the entry that this layer has at path (a whiteout too), and the
// offset of its content in the uncompressed tar.
func (t *TOC) Lookup(path string) (e Entry, offset int64, ok bool) { panic("stub") }

// All yields every entry of the layer with the offset of its content, in the order of Compare.
func (t *TOC) All() iter.Seq2[Entry, int64] { panic("stub") }

// Index reads a layer's uncompressed tar to the end of the stream (trailing bytes
// too), and returns its TOC and its DiffID: the SHA-256 of all bytes read.
// Unlike Pack's own, foreign layers may be unsorted and may hold anything that
// the image-spec's layer.md allows; what no tool could unpack is an error that names the entry.
func Index(ctx context.Context, tar io.Reader) (*TOC, digest.Digest, error) { panic("stub") }

// Merged is the tree that a chain of layers makes, lowest first, as a View. The
// layers are looked through from the top; nothing is merged ahead.
type Merged struct{ stub []*TOC }

// Merge returns the view of a chain of layers, lowest first. None at all is an empty
// tree, in which not even "." is found.
func Merge(layers ...*TOC) *Merged { panic("stub") }

var _ View = (*Merged)(nil)

// Lookup implements View.
func (m *Merged) Lookup(path string) (Entry, bool, error) { panic("stub") }

// Children implements View.
func (m *Merged) Children(path string) iter.Seq2[Entry, error] { panic("stub") }

// ReadFile implements View.
func (m *Merged) ReadFile(path string) ([]byte, error) { panic("stub") }

// Locate says which layer of the chain (an index into Merge's arguments) holds the content of the
// regular file at path, and at which offset of that layer's uncompressed tar.
func (m *Merged) Locate(path string) (layer int, offset int64, ok bool) { panic("stub") }
