package layer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
)

// delta gathers what differs between a base and a new tree, and brings it into the one form in
// which layers list it. Composer and Diff both end here, so that it does not matter which of them
// found a difference.
//
// The caller goes through the folders that both trees have, and calls put and remove; it does not
// go below what is a folder in only one of them, except to put what is in a new folder. The methods
// may be called concurrently.
type delta struct {
	base View

	mu      sync.Mutex
	changes []linkedChange
	same    []linkedChange // names of files with several that are as in the base: they are listed if another name is
}

// linkedChange is a change with the identity of its file: names with equal identities, which are
// comparable values, are hard links of each other. nil stands for a file with one name.
type linkedChange struct {
	Change
	file any
}

// put adds what stands at a path of the new tree, unless the base has the same there. The content
// of a file whose metadata is equal is compared by its digest, which digest is asked for when ch
// does not know it.
func (d *delta) put(ch Change, file any, base Entry, inBase bool, digest func() ([32]byte, error)) error {
	ch.Entry = canonical(ch.Entry)
	if inBase && !isHeld(&base) { // a tree has it in another way
		base.MTime, base.Xattrs = clampMTime(base.MTime), held(&base)
	}
	if inBase && sameMetadata(ch.Entry, base) {
		if ch.Type != TypeFile || ch.Size == 0 {
			d.keep(ch, file)
			return nil
		}
		if ch.Digest == ([32]byte{}) {
			var err error
			if ch.Digest, err = digest(); err != nil {
				return err
			}
		}
		if ch.Digest == base.Digest {
			d.keep(ch, file)
			return nil
		}
	}
	if ch.Type == TypeChar || len(ch.Path) > maxHeldPath { // file systems differ in whether they take these
		if err := holdable(&ch.Entry); err != nil {
			return &fs.PathError{Op: "put", Path: ch.Path, Err: err}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes = append(d.changes, linkedChange{ch, file})
	return nil
}

// keep notes a name that is as in the base.
func (d *delta) keep(ch Change, file any) {
	if _, composed := file.(*identity); composed { // Diff has more to say of names: linker
		d.mu.Lock()
		defer d.mu.Unlock()
		d.same = append(d.same, linkedChange{ch, file})
	}
}

// remove adds the whiteout of a name that the base has in a folder of both trees.
func (d *delta) remove(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes = append(d.changes, linkedChange{Change: Change{Entry: Entry{Path: path, Type: TypeWhiteout}}})
}

// finish returns the changes in canonical order, with their parents and hard link groups.
// On a base without a root the root alone is no change: it is what every empty tree has.
func (d *delta) finish() ([]Change, error) {
	listed := make(map[any]bool)
	for _, ch := range d.changes {
		listed[ch.file] = true
	}
	for _, ch := range d.same {
		if listed[ch.file] {
			d.changes = append(d.changes, ch)
		}
	}
	if err := d.addParents(); err != nil {
		return nil, err
	}
	slices.SortFunc(d.changes, func(a, b linkedChange) int { return compareChanges(a.Change, b.Change) })
	if len(d.changes) == 1 && d.changes[0].Path == "." {
		if _, ok, err := d.base.Lookup("."); err != nil || !ok {
			return nil, err
		}
	}
	changes := make([]Change, len(d.changes))
	first := make(map[any]int) // of each file with several names, the index of its first
	for i, ch := range d.changes {
		changes[i] = ch.Change
		if ch.file == nil {
			continue
		}
		leader, ok := first[ch.file]
		if !ok {
			first[ch.file] = i
			continue
		}
		changes[leader].Group = changes[leader].Path
		changes[i].Group, changes[i].Open = changes[leader].Path, nil
		changes[i].Digest, changes[i].MTime = changes[leader].Digest, changes[leader].MTime
	}
	return changes, nil
}

// addParents adds every folder on the way to a change that is none itself, as the base has it.
func (d *delta) addParents() error {
	listed := make(map[string]bool, len(d.changes))
	for _, ch := range d.changes {
		listed[ch.Path] = true
	}
	for _, ch := range slices.Clone(d.changes) {
		for dir, _ := split(ch.Path); !listed[dir]; dir, _ = split(dir) {
			e, ok, err := d.base.Lookup(dir)
			if err != nil {
				return err
			}
			if !ok || e.Type != TypeDir {
				return fmt.Errorf("%s: changed, but its folder is not in the base", ch.Path)
			}
			e = canonical(e)
			e.Path = dir
			d.changes = append(d.changes, linkedChange{Change: Change{Entry: e, Parent: true}})
			listed[dir] = true
		}
	}
	return nil
}

// canonical returns e with only those fields set that its type has in a layer.
func canonical(e Entry) Entry {
	if e.Type == TypeWhiteout {
		return Entry{Path: e.Path, Type: e.Type}
	}
	c := Entry{Path: e.Path, Type: e.Type, Mode: e.Mode & 0o7777, UID: e.UID, GID: e.GID, MTime: clampMTime(e.MTime), Xattrs: held(&e)}
	switch e.Type {
	case TypeFile:
		c.Size, c.Digest = e.Size, e.Digest
	case TypeSymlink:
		c.Link, c.Mode = e.Link, 0o777 // the mode of a symlink cannot be set
	case TypeChar, TypeBlock:
		c.Major, c.Minor = e.Major, e.Minor
	}
	return c
}

// sameMetadata reports whether a file need not be listed in a layer, provided that its content is
// the same. It says nothing of names: hard links are not compared.
func sameMetadata(a, b Entry) bool { return attributes(a, b)&^AttrContent == 0 }

// digestOf returns the SHA-256 of a file's content; open may be nil for an empty file.
func digestOf(open Opener) (sum [32]byte, err error) {
	if open == nil {
		return sha256.Sum256(nil), nil
	}
	r, err := open()
	if err != nil {
		return sum, err
	}
	defer r.Close()
	return sumOf(context.Background(), r, make([]byte, bufferSize))
}

// bufferSize is that of the buffers that content is copied through.
const bufferSize = 256 << 10

// sumOf returns the SHA-256 of what r yields, read through buf.
func sumOf(ctx context.Context, r io.Reader, buf []byte) (sum [32]byte, err error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, contextReader{ctx, r}, buf); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}
