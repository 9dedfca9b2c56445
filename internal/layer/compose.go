package layer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"syscall"
)

// Composer puts together the changes of a step that runs nothing, on a base that is only looked at.
// It is a View of the outcome so far. It is not for use by several goroutines at once.
//
// A root that the base does not have is made as a folder, 0755 root.
type Composer struct {
	base  View
	epoch int64
	root  *node // nil until it is needed, see start

	By any // on whose behalf changes are made from now on: Changes tells of each
}

var _ View = (*Composer)(nil)

// node is what the composer knows of one path. There are nodes for what was put or removed, and for
// the folders on the way to it.
type node struct {
	here     *Change          // what stands here; nil when nothing does
	ours     bool             // the step put it here; else it is the base's
	hides    bool             // what the base has below this path is not seen
	file     any              // identity of a file with several names, see linkedChange
	children map[string]*node // by name; in a folder only
}

// identity is what the names of a hard link group have in common; two of them are never equal.
type identity struct{ names int }

func (n *node) isDir() bool { return n.here != nil && n.here.Type == TypeDir }

// NewComposer starts with no changes on base. epoch (seconds since 1970) is the mtime of folders
// that it makes.
func NewComposer(base View, epoch int64) *Composer { return &Composer{base: base, epoch: epoch} }

// Resolve is the function Resolve in the tree as it is now.
func (c *Composer) Resolve(path string, last bool) (string, error) { return Resolve(c, path, last) }

// Resolve follows the symlinks of path's parents, and of its last element too when last is set, as
// inside a chroot, and returns the canonical path. What does not exist is taken as it is written;
// more than 255 links are an error. A leading "/" and elements "." and ".." mean what they mean in
// a chroot.
func Resolve(view View, path string, last bool) (string, error) {
	return resolve(path, last, func(p string) (string, error) {
		e, ok, err := view.Lookup(p)
		if err != nil || !ok || e.Type != TypeSymlink {
			return "", err
		}
		return e.Link, nil
	})
}

// resolve is Resolve in a tree of which readlink returns the text of the symlink at a canonical
// path, or "" where none is.
func resolve(path string, last bool, readlink func(string) (string, error)) (string, error) {
	const maxLinks = 255
	at, rest, links := ".", path, 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			at, _ = split(at)
			continue
		}
		at = join(at, name)
		if !last && strings.Trim(rest, "/") == "" {
			continue
		}
		link, err := readlink(at)
		switch {
		case err != nil:
			return "", err
		case link == "":
			continue
		case links == maxLinks:
			return "", &fs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
		}
		links++
		at, _ = split(at)
		if strings.HasPrefix(link, "/") {
			at = "."
		}
		rest = link + "/" + rest
	}
	return at, nil
}

// Put places an entry (path, metadata, content) into the tree. Symlinks among its parents are
// followed, missing parents made 0755 root. A folder put on a folder changes its metadata and keeps
// what is in it; all else replaces what was there, with everything below it. What no tree can hold
// is an error, what trees hold in another way is changed so. A symlink at the path itself is
// replaced, never followed: callers that want to follow it call Resolve first. Put at "." sets the
// root's metadata. The entry's Group is not looked at; hard links are made with Link. A whiteout
// removes.
func (c *Composer) Put(ch Change) error {
	if ch.Type == TypeWhiteout {
		return c.Remove(ch.Path)
	}
	n, path, err := c.place("put", ch.Path)
	if err != nil {
		return err
	}
	if path == "." && ch.Type != TypeDir {
		return &fs.PathError{Op: "put", Path: path, Err: syscall.EISDIR}
	}
	if err := holdable(&ch.Entry); err != nil {
		return &fs.PathError{Op: "put", Path: path, Err: err}
	}
	open := ch.Open
	if ch.Type != TypeFile {
		open = nil
	}
	put := &Change{Entry: canonical(ch.Entry), Open: open, Origin: ch.Origin, By: c.By}
	put.Path = path
	if ch.Type == TypeDir && n.isDir() {
		n.here, n.ours = put, true
		return nil
	}
	*n = node{here: put, ours: true, hides: true}
	return nil
}

// MkdirAll makes the folder at path with missing parents, 0755 and owned by uid and gid; what is
// there already stays as it is. Symlinks are followed, at the path itself too.
func (c *Composer) MkdirAll(path string, uid, gid int) error {
	path, err := c.Resolve(path, true)
	if err != nil {
		return err
	}
	if hasWhiteout(path) {
		return &fs.PathError{Op: "mkdir", Path: path, Err: ErrReserved}
	}
	_, err = c.mkdir(path, uid, gid)
	return err
}

// Link makes path another name of the file at target, which may be the base's: its content is then
// needed and opened with open. It returns an error wrapping fs.ErrNotExist when there is no target.
// Symlinks among the parents of both are followed; a symlink at target is linked itself.
func (c *Composer) Link(path, target string, open Opener) error {
	target, err := c.Resolve(target, false)
	if err != nil {
		return err
	}
	from, err := c.existing(target)
	switch {
	case err != nil:
		return err
	case from == nil || from.here == nil:
		return &fs.PathError{Op: "link", Path: target, Err: fs.ErrNotExist}
	case from.isDir():
		return &fs.PathError{Op: "link", Path: target, Err: syscall.EISDIR}
	}
	to, path, err := c.place("link", path)
	if err != nil || to == from {
		return err
	}
	here := *from.here
	here.Path, here.By = path, c.By
	if !from.ours && here.Type == TypeFile {
		here.Open = open
	}
	if here.Type == TypeFile && here.Size > 0 && here.Open == nil {
		return &fs.PathError{Op: "link", Path: target, Err: errNoContent}
	}
	file, _ := from.file.(*identity)
	if file == nil {
		file = &identity{names: 1}
		from.file = file
		if err := c.takeNames(from, target, open); err != nil {
			return err
		}
	}
	if to.file == from.file {
		return nil // it is one already
	}
	if file.names++; file.names > maxNames {
		return &fs.PathError{Op: "link", Path: path, Err: fmt.Errorf("the file has more names than filesystems such as ext4 can hold (%d)", maxNames)}
	}
	*to = node{here: &here, ours: true, hides: true, file: from.file}
	return nil
}

// takeNames makes all names that the file at target, whose node is from, has in the base, names of
// one file of the step.
func (c *Composer) takeNames(from *node, target string, open Opener) error {
	if from.ours {
		return nil
	}
	names := []string{target}
	if m, ok := c.base.(*Merged); ok {
		var err error
		if names, err = (&comparedTree{Merged: m}).namesAcross(target); err != nil {
			return err
		}
	}
	for _, name := range names {
		n, err := c.existing(name)
		if err != nil {
			return err
		}
		if n == nil || n.here == nil || n.ours || n.isDir() {
			continue
		}
		here := *n.here
		if here.Type == TypeFile {
			here.Open = open
		}
		n.here, n.ours, n.file = &here, true, from.file
		if n != from {
			from.file.(*identity).names++
		}
	}
	return nil
}

var errNoContent = errors.New("the content is unknown")

// Remove removes path with everything below it. Nothing there is no error. A symlink at the path
// itself is removed, not followed.
func (c *Composer) Remove(path string) error {
	path, err := c.Resolve(path, false)
	if err != nil {
		return err
	}
	if path == "." {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.EBUSY}
	}
	n, err := c.existing(path)
	if n != nil && n.here != nil {
		*n = node{hides: true}
	}
	return err
}

// Changes returns the outcome as Pack wants it; what is as in the base is left out. A file is as in
// the base when type, mode, owner, size, mtime, xattrs and SHA-256 are equal; content without a
// digest is read for that.
func (c *Composer) Changes() ([]Change, error) {
	if err := c.start(); err != nil {
		return nil, err
	}
	d := &delta{base: c.base}
	if err := c.compare(d, ".", c.root, true); err != nil {
		return nil, err
	}
	return d.finish()
}

// compare adds to d what differs at path and below. inBase says that the base has a folder around
// path.
func (c *Composer) compare(d *delta, path string, n *node, inBase bool) error {
	var base Entry
	var err error
	switch {
	case n.here != nil && !n.ours:
		base = n.here.Entry
	case inBase:
		if base, inBase, err = c.base.Lookup(path); err != nil {
			return err
		}
	}
	if n.here == nil {
		if inBase {
			d.remove(path)
		}
		return nil
	}
	if n.ours {
		if err := d.put(*n.here, n.file, base, inBase, func() ([32]byte, error) { return digestOf(n.here.Open) }); err != nil {
			return err
		}
	}
	inBase = inBase && base.Type == TypeDir
	for name, child := range n.children {
		if err := c.compare(d, join(path, name), child, inBase); err != nil {
			return err
		}
	}
	if !n.hides || !n.isDir() || !inBase {
		return nil
	}
	for e, err := range c.base.Children(path) {
		if err != nil {
			return err
		}
		if _, name := split(e.Path); n.children[name] == nil {
			d.remove(e.Path)
		}
	}
	return nil
}

// Lookup implements View.
func (c *Composer) Lookup(path string) (Entry, bool, error) {
	n, shown, err := c.find(path)
	switch {
	case err != nil:
		return Entry{}, false, err
	case n != nil && n.here != nil:
		return n.here.Entry, true, nil
	case shown:
		return c.base.Lookup(path)
	}
	return Entry{}, false, nil
}

// Children implements View.
func (c *Composer) Children(path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		children, err := c.children(path)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for _, e := range children {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (c *Composer) children(path string) ([]Entry, error) {
	n, shown, err := c.find(path)
	if err != nil || n != nil && !n.isDir() {
		return nil, err
	}
	var children []Entry
	var ours map[string]*node
	if n != nil {
		ours, shown = n.children, !n.hides
	}
	if shown {
		for e, err := range c.base.Children(path) {
			if err != nil {
				return nil, err
			}
			if _, name := split(e.Path); ours[name] == nil {
				children = append(children, e)
			}
		}
	}
	for _, child := range ours {
		if child.here != nil {
			children = append(children, child.here.Entry)
		}
	}
	slices.SortFunc(children, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return children, nil
}

// ReadFile implements View; it also knows small files that were Put.
func (c *Composer) ReadFile(path string) ([]byte, error) {
	n, shown, err := c.find(path)
	switch {
	case err != nil:
		return nil, err
	case n == nil && shown, n != nil && n.here != nil && !n.ours:
		return c.base.ReadFile(path)
	case n == nil || n.here == nil:
		return nil, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	}
	return readSmall(n.here.Entry, n.here.Open)
}

// readSmall returns the content of a regular file as View.ReadFile promises it.
func readSmall(e Entry, open Opener) ([]byte, error) {
	switch {
	case e.Type != TypeFile:
		return nil, &fs.PathError{Op: "read", Path: e.Path, Err: fmt.Errorf("not a regular file: %w", fs.ErrNotExist)}
	case e.Size > maxKept:
		return nil, &fs.PathError{Op: "read", Path: e.Path, Err: syscall.EFBIG}
	case open == nil:
		return nil, nil
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxKept))
}

// start makes the node of the root.
func (c *Composer) start() error {
	if c.root != nil {
		return nil
	}
	e, ok, err := c.base.Lookup(".")
	if err != nil {
		return err
	}
	if ok {
		c.root = &node{here: &Change{Entry: e}}
	} else {
		c.root = &node{here: c.newFolder("."), ours: true}
	}
	return nil
}

func (c *Composer) newFolder(path string) *Change {
	return &Change{Entry: Entry{Path: path, Type: TypeDir, Mode: 0o755, MTime: c.epoch}}
}

// find returns the node of the canonical path, if it has one; shown says that the base is seen
// where it has none.
func (c *Composer) find(path string) (n *node, shown bool, err error) {
	if err := c.start(); err != nil {
		return nil, false, err
	}
	n = c.root
	if path == "." {
		return n, false, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		child := n.children[name]
		if child == nil {
			return nil, n.isDir() && !n.hides, nil
		}
		n = child
	}
	return n, false, nil
}

// child returns the node of the name in the folder n, which is at path, and makes it if need be.
func (c *Composer) child(n *node, path, name string) (*node, error) {
	if child := n.children[name]; child != nil {
		return child, nil
	}
	child := &node{hides: true}
	if !n.hides {
		e, ok, err := c.base.Lookup(join(path, name))
		if err != nil {
			return nil, err
		}
		if ok {
			child = &node{here: &Change{Entry: e}}
		}
	}
	if n.children == nil {
		n.children = make(map[string]*node)
	}
	n.children[name] = child
	return child, nil
}

// existing returns the node of the canonical path; nil when one of the folders on the way is
// missing.
func (c *Composer) existing(path string) (*node, error) {
	if err := c.start(); err != nil {
		return nil, err
	}
	n, at := c.root, "."
	if path == "." {
		return n, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if !n.isDir() {
			return nil, nil
		}
		var err error
		if n, err = c.child(n, at, name); err != nil {
			return nil, err
		}
		at = join(at, name)
	}
	return n, nil
}

// mkdir returns the node of the folder at the canonical path, which it makes with missing parents,
// owned by uid and gid.
func (c *Composer) mkdir(path string, uid, gid int) (*node, error) {
	if err := c.start(); err != nil {
		return nil, err
	}
	n, at := c.root, "."
	if path == "." {
		return n, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		var err error
		if n, err = c.child(n, at, name); err != nil {
			return nil, err
		}
		at = join(at, name)
		switch {
		case n.here == nil:
			n.here, n.ours = c.newFolder(at), true
			n.here.UID, n.here.GID = uid, gid
		case !n.isDir():
			return nil, &fs.PathError{Op: "mkdir", Path: at, Err: syscall.ENOTDIR}
		}
	}
	return n, nil
}

// place returns the node and the canonical path at which something new is to stand. Missing parents
// are made.
func (c *Composer) place(op, path string) (*node, string, error) {
	path, err := c.Resolve(path, false)
	if err != nil {
		return nil, "", err
	}
	if hasWhiteout(path) {
		return nil, "", &fs.PathError{Op: op, Path: path, Err: ErrReserved}
	}
	if path == "." {
		n, err := c.existing(path)
		return n, path, err
	}
	dir, name := split(path)
	parent, err := c.mkdir(dir, 0, 0)
	if err != nil {
		return nil, "", err
	}
	n, err := c.child(parent, dir, name)
	return n, path, err
}

// ErrReserved is wrapped where something has a name that no layer can hold (image-spec, layer.md,
// "Whiteouts").
var ErrReserved = errors.New("in layers, a name that begins with .wh. means a removed file")
