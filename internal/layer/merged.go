package layer

import (
	"iter"
)

// Merged is the tree that a chain of layers makes, lowest first, as a View. The
// layers are looked through from the top; nothing is merged ahead.
type Merged struct{ layers []*TOC }

// Merge returns the view of a chain of layers, lowest first. None at all is an empty
// tree, in which not even "." is found.
func Merge(layers ...*TOC) *Merged { return &Merged{layers} }

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
