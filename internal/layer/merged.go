package layer

import (
	"fmt"
	"io/fs"
	"iter"
	"slices"
)

// Merged is the tree that a chain of layers makes, lowest first, as a View. The
// layers are looked through from the top; nothing is merged ahead.
//
// Hard link groups are those within the layer that an entry comes from: a name
// that a higher layer replaced is no longer a name of the file, though Entry.Group may still be it.
//
// A path of a foreign layer that runs through a symlink of a lower layer stands for itself: there
// is a folder in place of the symlink, as storage drivers that unpack each layer alone have it.
type Merged struct{ layers []*TOC }

// Merge returns the view of a chain of layers, lowest first. None at all is an empty
// tree, in which not even "." is found.
func Merge(layers ...*TOC) *Merged { return &Merged{layers} }

// With returns the view of the chain with a further layer on top.
func (m *Merged) With(top *TOC) *Merged { return Merge(append(slices.Clone(m.layers), top)...) }

var _ View = (*Merged)(nil)

// place is where a layer of a chain has an entry.
type place struct {
	layer  int // index into Merged.layers
	record int // of its TOC
}

// Lookup implements View. A hard link whose target no lower layer has is an error.
func (m *Merged) Lookup(path string) (Entry, bool, error) {
	e, _, ok, err := m.lookup(path, len(m.layers))
	return e, ok, err
}

// lookup looks path up in the lowest n layers, and tells where the content of a regular file is.
func (m *Merged) lookup(path string, n int) (Entry, place, bool, error) {
	for n--; n >= 0; n-- {
		t := m.layers[n]
		i, ok := t.search(path)
		switch {
		case ok && t.typ(i) != TypeWhiteout:
			e, at, err := m.inherit(t.entry(i), place{n, i})
			return e, at, err == nil, err
		case ok || t.hides(i, path):
			return Entry{}, place{}, false, nil
		}
	}
	return Entry{}, place{}, false, nil
}

// inherit gives an entry of the layer at.layer what its own layer does not know of it: the metadata
// of a folder without a header, the file that a hard link to a lower layer stands for.
func (m *Merged) inherit(e Entry, at place) (Entry, place, error) {
	switch {
	case isLowerLink(e):
		target, from, ok, err := m.target(e.Link, at.layer)
		if err != nil {
			return Entry{}, place{}, fmt.Errorf("%s: %w", e.Path, err)
		}
		if !ok || target.Type == TypeDir {
			return Entry{}, place{}, fmt.Errorf("%s: hard link to %s, which is not a file of a lower layer", e.Path, e.Link)
		}
		target.Path, target.Group = e.Path, ""
		return target, from, nil
	case e.Implied && !m.layers[at.layer].covered(at.record):
		lower, from, ok, err := m.lookup(e.Path, at.layer)
		if err != nil || ok && lower.Type == TypeDir {
			return lower, from, err
		}
	}
	e.Implied, e.Opaque = false, false
	return e, at, nil
}

// target looks up the target of a hard link in the lowest n layers. As link(2) does, it follows
// symlinks on the way there, but not the last one.
func (m *Merged) target(path string, n int) (Entry, place, bool, error) {
	path, err := resolve(path, false, func(p string) (string, error) {
		e, _, ok, err := m.lookup(p, n)
		if err != nil || !ok || e.Type != TypeSymlink {
			return "", err
		}
		return e.Link, nil
	})
	if err != nil {
		return Entry{}, place{}, false, err
	}
	return m.lookup(path, n)
}

// Children implements View.
func (m *Merged) Children(path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		lists, last := m.lists(path), path
		for {
			at, ok := m.next(lists)
			if !ok {
				return
			}
			t := m.layers[at.layer]
			if t.typ(at.record) == TypeWhiteout {
				continue
			}
			e := t.entry(at.record)
			if dir, _ := split(e.Path); dir != path || Compare(last, e.Path) >= 0 {
				yield(Entry{}, fmt.Errorf("%s: damaged index of layer %d: it contains %q", path, at.layer, e.Path))
				return
			}
			last = e.Path
			e, _, err := m.inherit(e, at)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// list is what is left of the children that one layer has in a folder.
type list struct {
	layer     int
	next, end int // records
}

// lists returns the lists of children of those layers that have the folder at path, topmost first.
func (m *Merged) lists(path string) []list {
	var lists []list
	for n := len(m.layers) - 1; n >= 0; n-- {
		t := m.layers[n]
		i, ok := t.search(path)
		switch {
		case ok && t.typ(i) == TypeDir:
			lists = append(lists, list{layer: n, next: i + 1, end: t.end(i)})
			if t.covers(i) {
				return lists
			}
		case ok || t.hides(i, path):
			return lists
		}
	}
	return lists
}

// next takes the first name off all lists, and returns the entry of the topmost layer that has it.
func (m *Merged) next(lists []list) (first place, ok bool) {
	var path []byte
	for i := range lists {
		l := &lists[i]
		if l.next >= l.end {
			continue
		}
		if p := m.layers[l.layer].path(l.next); !ok || compare(p, path) < 0 {
			first, path, ok = place{l.layer, l.next}, p, true
		}
	}
	for i := range lists {
		l := &lists[i]
		if t := m.layers[l.layer]; l.next < l.end && string(t.path(l.next)) == string(path) {
			l.next = t.end(l.next)
		}
	}
	return first, ok
}

// ReadFile implements View. It knows the files named in Kept, up to 1 MiB.
func (m *Merged) ReadFile(path string) ([]byte, error) {
	e, at, ok, err := m.lookup(path, len(m.layers))
	if err == nil && (!ok || e.Type != TypeFile || !m.layers[at.layer].hasBody(at.record)) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return append([]byte(nil), m.layers[at.layer].body(at.record)...), nil
}

// Locate says which layer of the chain (an index into Merge's arguments) holds the content of the
// regular file at path, and where in that layer's uncompressed tar, as Content wants it.
func (m *Merged) Locate(path string) (layer int, offset int64, ok bool) {
	e, at, ok, err := m.lookup(path, len(m.layers))
	if err != nil || !ok || e.Type != TypeFile {
		return 0, 0, false
	}
	return at.layer, m.layers[at.layer].offset(at.record), true
}
