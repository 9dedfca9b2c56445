// Package snapshot says what a storage driver must do: keep unpacked root filesystems that can be branched cheaply. Drivers know
// nothing of tar or images. They live in the folders below, with the packages that several of them need: store, mounts, treecopy, loop.
//
// Terms. A *snapshot* is a committed, read-only tree with a name (a chain ID, or any text without "/" and NUL).
// A *tree* is a working copy: made from a snapshot or from nothing, changed freely, and either committed under a new
// name or dropped, or *kept* under a name as it is, to go on with in another process. Snapshots are a cache: whoever uses them can
// make them again. A snapshot belongs to the id maps that it was made under (user_namespaces(7)): as root and as an ordinary user, a
// driver needs two folders.
//
// A driver keeps everything below one folder, may be used by several processes at once, and survives a kill at any
// instant: a tree that was neither committed nor kept is held by a file lock, and the next Open drops those whose lock is free.
// All calls are made inside a mount namespace of genoci's own (sandbox.Enter), in rootless mode also a user namespace.
//
//	t, err := driver.New(ctx, "sha256:ab...")  // "" for an empty tree
//	defer t.Close()                            // drops what was not committed
//	... change files below t.Dir() ...
//	err = t.Commit(ctx, "sha256:cd...")
package snapshot

import (
	"context"
	"errors"
	"iter"
)

var (
	// ErrUnsupported is wrapped by the error of a driver's Open where the machine or the folder cannot serve it; the text says why and what would help.
	ErrUnsupported = errors.New("not supported here")
	// ErrNotExist is wrapped where there is no snapshot of the name.
	ErrNotExist = errors.New("no such snapshot")
)

// Driver makes, keeps and removes trees. All methods may be called concurrently.
type Driver interface {
	// String returns the driver's name as users write it: "overlay", "vfs".
	String() string

	// New makes a tree that holds what the snapshot parent does, or nothing where parent is "".
	// The error wraps ErrNotExist where there is no such snapshot.
	New(ctx context.Context, parent string) (Tree, error)

	// View gives the snapshot name as a read-only tree. Commit of such a tree is an error; Close is due.
	View(ctx context.Context, name string) (Tree, error)

	// Has reports whether the snapshot exists.
	Has(name string) bool

	// Remove removes snapshots. One that others are based on goes away only for new uses. Removing what is not there is no error.
	Remove(ctx context.Context, names ...string) error

	// Names yields all snapshots in no particular order.
	Names(ctx context.Context) ([]string, error)

	// Busy reports whether a process has a tree: one that it works on, looks at, or has resumed.
	Busy() (bool, error)

	// Kept returns all kept trees in no particular order.
	Kept(ctx context.Context) ([]Kept, error)

	// Resume goes on with a kept tree. Close then gives it back as it has become by then, and Commit makes it a snapshot; after that
	// it no longer is kept. The error wraps ErrNotExist where there is no kept tree of the name, and ErrHeld where a process has it.
	Resume(ctx context.Context, name string) (Tree, error)

	// Drop removes a kept tree, which must not be shown (EBUSY) nor held (ErrHeld). Dropping what is not there is no error.
	Drop(ctx context.Context, name string) error

	// Show lets all processes of the caller see a kept tree, until Hide or the next start of the machine, and returns its root folder.
	// Where that takes a mount, a tree that is shown can be resumed, but neither committed nor kept anew (EBUSY). The error wraps
	// ErrUnsupported where nothing can be shown that does not end with this process.
	Show(ctx context.Context, name string) (dir string, err error)

	// Hide ends what Show began. The error is EBUSY where a file below is open, or a process stands there.
	Hide(ctx context.Context, name string) error

	// Space says what each tree takes on disk.
	Space(ctx context.Context) (Space, error)

	// Discard removes the driver's folder if no tree is in it any more. The driver is of no use after that, nor is any other of the folder.
	Discard() error
}

// Tree is a root filesystem in a folder.
type Tree interface {
	// Dir is the absolute path of the tree's root folder.
	Dir() string

	// Commit makes the tree a snapshot called name. From then on it survives the end of the process; after a power cut it is
	// whole or gone. Where one of that name exists already, made by another build of the same content, this tree is dropped and
	// nil returned. The tree cannot be used any more, and Dir is gone. Files that are open below Dir may be an error. After Close or Commit the error wraps fs.ErrClosed.
	Commit(ctx context.Context, name string) error

	// Keep gives the tree a name under which it stays as it is, to be resumed; note is given back by Kept. A kept tree of that
	// name that is there already is dropped. All of it is on disk then. The tree cannot be used any more through this handle, as after Commit.
	Keep(ctx context.Context, name string, note []byte) error

	// Close drops the tree if it was neither committed nor kept, and releases mounts and locks. Further calls do nothing.
	Close() error
}

// Toucher is an optional side of a Tree: where to look for changes, never what changed.
type Toucher interface {
	// Touched yields paths (relative to Dir, slash-separated) that may differ from the parent, removed ones too; "." is the root folder.
	// A path with a trailing slash stands for the folder and everything below it. Every path that differs is yielded, or
	// lies below one that is yielded with a trailing slash or that is no folder any more.
	//
	// The tree must be at rest, with nothing open below Dir: the driver may mount it anew. Only from then on do hard links
	// that were made in the tree have one inode number.
	Touched(ctx context.Context) iter.Seq2[string, error]
}

// Rester is an optional side of a Tree that may hold what can neither be compared nor written to as it is.
type Rester interface {
	// Rest makes ordinary files and folders of that. The tree must be at rest as for Touched.
	Rest(ctx context.Context) error
}

// Splitter is an optional side of a Tree.
type Splitter interface {
	// Splits reports whether a file of the parent that has several names becomes two when it is written to by one of them.
	Splits() bool
}

// Splits reports whether the tree is a Splitter that does.
func Splits(t Tree) bool {
	s, ok := t.(Splitter)
	return ok && s.Splits()
}

// Touched returns where to look for the changes in a tree, which is made fit for being looked at. nil: everywhere.
func Touched(ctx context.Context, t Tree) (iter.Seq2[string, error], error) {
	if r, ok := t.(Rester); ok {
		if err := r.Rest(ctx); err != nil {
			return nil, err
		}
	}
	if t, ok := t.(Toucher); ok {
		return t.Touched(ctx), nil
	}
	return nil, nil
}

// Flusher is an optional side of a Driver whose Commit does not wait for the disk.
type Flusher interface {
	// FlushOld writes out the snapshots that have been there for a while, so that they survive a power cut: the kernel has done most of that by
	// then. It is for the time while something else is done, and takes as long as all that the file system has to write; nothing can end it early.
	FlushOld() error
}

// FlushOld writes out the driver's snapshots that have been there for a while, if it is a Flusher.
func FlushOld(d Driver) error {
	if f, ok := d.(Flusher); ok {
		return f.FlushOld()
	}
	return nil
}

// Copier is an optional side of a Driver whose trees are copies of their parents.
type Copier interface {
	// Copies reports whether a copy takes time and space for all of its parent, and does not share the blocks of files with it.
	Copies() bool
}
