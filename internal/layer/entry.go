// Package layer knows the bytes of an image layer: how a difference between two
// trees looks, how it is written as a tar, how it is read, indexed and unpacked.
// It never mounts anything, and knows neither storage drivers nor OCI layouts.
//
// Terms:
//
//   - An [Entry] says what stands at one path of a tree.
//   - A [View] is a tree that can be looked up: the merged [TOC]s of a chain of
//     layers ([Merged]), a folder on disk ([Dir]), or a [Composer]'s unfinished work.
//   - A [Change] is an entry of a layer: something that is put at a path, or a
//     whiteout. A layer is a sorted list of changes.
//   - A [TOC] is the index of one layer.
//
// Changes come from [Composer.Changes] (steps that run nothing) or from [Diff]
// (steps that ran something in a folder). Both give the same list for the same
// trees, and [Pack] turns a list into the one tar that stands for it.
package layer

import (
	"cmp"
	"io"
	"io/fs"
	"iter"
	"strings"
)

// Type is the type of an [Entry]. The values are the type flags of tar (POSIX.1-1988 ustar).
type Type byte

// The types of entries. A hard link is no type of its own: each of its names is
// a TypeFile (or device, fifo, symlink) with the same Entry.Group.
const (
	TypeFile     Type = '0'
	TypeSymlink  Type = '2'
	TypeChar     Type = '3'
	TypeBlock    Type = '4'
	TypeDir      Type = '5'
	TypeFIFO     Type = '6'
	TypeWhiteout Type = 'w' // in a Change and in a TOC only: the path is removed
)

// Entry is what stands at one path of a tree.
type Entry struct {
	Path   string            // slash-separated, relative to the root, as in io/fs.ValidPath; "." is the root
	Type   Type              //
	Mode   uint32            // permission bits, with 04000 setuid, 02000 setgid, 01000 sticky
	UID    int               // as in the image, never as on the host
	GID    int               //
	Size   int64             // bytes; regular files only
	MTime  int64             // seconds since 1970, rounded down
	Link   string            // the text of a symlink; of a TypeFile in a TOC: the file of a lower layer that it is another name of
	Group  string            // hard links: the path of the group's first name in path order; "" when there is only one name
	Major  uint32            // devices only
	Minor  uint32            //
	Xattrs map[string]string // extended attributes that images keep (see KeepXattr); nil when none
	Digest [32]byte          // SHA-256 of a regular file's content; the zero value when it is not known
	Opaque bool              // a folder that hides what lower layers have below it; in a TOC of a foreign layer only

	// Implied marks a folder that its layer has no header for, only something below it: its
	// metadata is that of the lower layers, or 0755 root if they have no folder there. In a TOC of
	// a foreign layer only.
	Implied bool
}

// Opener opens the content of a regular file. Each call gives a new reader, from the start. Several
// goroutines may call it at once.
type Opener func() (io.ReadCloser, error)

// Change is one entry of a layer.
type Change struct {
	Entry

	// Parent says that the folder itself is as it was below: it stands in the layer
	// only because something below it changed, since some tools would else make it
	// anew as 0755 root (podman's and docker's overlay stores do).
	Parent bool

	// Open opens the content; nil for an empty file and for what is no regular file.
	// Within a hard link group only the first name has it.
	Open Opener

	// Origin is what whoever made the change wants to find at it again; nothing here looks at it.
	Origin any

	// By is what Composer.By was when the change was made.
	By any
}

// View is a tree that can be looked up. Paths are canonical: no symlink in a
// view is followed by any method.
type View interface {
	// Lookup returns the entry at path. ok is false when there is none.
	// Digest may be unknown, see Entry.
	Lookup(path string) (e Entry, ok bool, err error)

	// Children yields the entries directly in the folder at path, sorted by name (bytewise).
	// It yields nothing where path is no folder.
	Children(path string) iter.Seq2[Entry, error]

	// ReadFile returns the content of a regular file of at most 1 MiB. Views made
	// from TOCs know only the files named in Kept. The error wraps fs.ErrNotExist.
	ReadFile(path string) ([]byte, error)
}

// Walk calls visit for the entry at path and, where visit says so, for what is below it, parents
// first. The error wraps fs.ErrNotExist where there is nothing at path.
func Walk(view View, path string, visit func(Entry) (deeper bool, err error)) error {
	e, ok, err := view.Lookup(path)
	if err != nil {
		return err
	}
	if !ok {
		return &fs.PathError{Op: "find", Path: "/" + path, Err: fs.ErrNotExist}
	}
	deeper, err := visit(e)
	if err != nil || !deeper || e.Type != TypeDir {
		return err
	}
	for child, err := range view.Children(path) {
		if err != nil {
			return err
		}
		if err := Walk(view, child.Path, visit); err != nil {
			return err
		}
	}
	return nil
}

// Kept are the files whose content a TOC holds, for looking up users, groups and the distribution.
var Kept = []string{"etc/passwd", "etc/group", "etc/os-release", "usr/lib/os-release"}

// Compare orders paths as layers list them: a folder right before what is in
// it, siblings bytewise. "." comes first.
func Compare(a, b string) int { return compare(a, b) }

// compare is Compare for paths that may still lie in a mapped file.
func compare[A, B string | []byte](a A, b B) int {
	switch aRoot, bRoot := isRoot(a), isRoot(b); {
	case aRoot && bRoot:
		return 0
	case aRoot:
		return -1
	case bRoot:
		return 1
	}
	for i := range min(len(a), len(b)) {
		switch x, y := a[i], b[i]; {
		case x == y:
			continue
		case x == '/':
			return -1
		case y == '/':
			return 1
		default:
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}

func isRoot[T string | []byte](path T) bool { return len(path) == 1 && path[0] == '.' }

// Below reports whether path is dir or lies below it.
func Below(path, dir string) bool {
	return dir == "." || path == dir || len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}

// Rel returns path, which is dir or lies below it, relative to dir: "." for dir itself.
func Rel(dir, path string) string {
	switch {
	case path == dir:
		return "."
	case dir == ".":
		return path
	default:
		return path[len(dir)+1:]
	}
}
