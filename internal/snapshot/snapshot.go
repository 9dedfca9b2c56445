// Package snapshot says what a storage driver must do: keep unpacked root filesystems that can be
// branched cheaply. Drivers know nothing of tar or images. They live in the folders below, with the
// packages that several of them need: store, mounts, treecopy, loop.
//
// Terms. A *snapshot* is a committed, read-only tree with a name (a chain ID, or any text without
// "/" and NUL). A *tree* is a working copy: made from a snapshot or from nothing, changed freely,
// and either committed under a new name or dropped, or *kept* under a name as it is, to go on with
// in another process. Snapshots are a cache: whoever uses them can make them again. A snapshot
// belongs to the id maps that it was made under (user_namespaces(7)): as root and as an ordinary
// user, a driver needs two folders.
//
// A driver keeps everything below one folder, may be used by several processes at once, and
// survives a kill at any instant: a tree that was neither committed nor kept is held by a file
// lock, and the next Open drops those whose lock is free. All calls are made inside a mount
// namespace of genoci's own (sandbox.Enter), in rootless mode also a user namespace.
//
//	t, err := driver.New(ctx, "sha256:ab...")  // "" for an empty tree
//	defer t.Close()                            // drops what was not committed
//	... change files below t.Dir() ...
//	err = t.Commit(ctx, "sha256:cd...")
package snapshot

import (
	"context"
	"errors"
)

var (
	// ErrUnsupported is wrapped by the error of a driver's Open where the machine or the folder
	// cannot serve it; the text says why and what would help.
	ErrUnsupported = errors.New("not supported here")
	// ErrNotExist is wrapped where there is no snapshot of the name.
	ErrNotExist = errors.New("no such snapshot")
)

// Driver makes, keeps and removes trees. All methods may be called concurrently.
//
// The first six are what a build needs, the next five are for trees that outlive the process, and
// the last three for whoever looks after the disk. What only some drivers can do are optional
// interfaces: [Flusher] and [Copier] of a Driver, [Toucher], [Rester], [Splitter] and
// [UnsyncedKeeper] of a Tree.
type Driver interface {
	// String returns the driver's name as users write it: "overlay", "vfs".
	String() string

	// New makes a tree that holds what the snapshot parent does, or nothing where parent is "".
	// The error wraps ErrNotExist where there is no such snapshot.
	New(ctx context.Context, parent string) (Tree, error)

	// View gives the snapshot name as a read-only tree. Commit of such a tree is an error; Close is
	// due.
	View(ctx context.Context, name string) (Tree, error)

	// Has reports whether the snapshot exists.
	Has(name string) bool

	// Remove removes snapshots. One that others are based on goes away only for new uses. Removing
	// what is not there is no error.
	Remove(ctx context.Context, names ...string) error

	// Names yields all snapshots in no particular order.
	Names(ctx context.Context) ([]string, error)

	// Kept returns all kept trees in no particular order.
	Kept(ctx context.Context) ([]Kept, error)

	// Resume goes on with a kept tree. Close then gives it back as it has become by then, and
	// Commit makes it a snapshot; after that it no longer is kept. The error wraps ErrNotExist
	// where there is no kept tree of the name, and ErrHeld where a process has it.
	Resume(ctx context.Context, name string) (Tree, error)

	// Drop removes a kept tree, which must not be shown (EBUSY) nor held (ErrHeld). Dropping what
	// is not there is no error.
	Drop(ctx context.Context, name string) error

	// Show lets all processes of the caller see a kept tree, until Hide or the next start of the
	// machine, and returns its root folder. Where that takes a mount, a tree that is shown can be
	// resumed, but neither committed nor kept anew (EBUSY). The error wraps ErrUnsupported where
	// nothing can be shown that does not end with this process.
	Show(ctx context.Context, name string) (dir string, err error)

	// Hide ends what Show began. The error is EBUSY where a file below is open, or a process stands
	// there.
	Hide(ctx context.Context, name string) error

	// Busy reports whether a process has a tree: one that it works on, looks at, or has resumed.
	Busy() (bool, error)

	// Space says what each tree takes on disk.
	Space(ctx context.Context) (Space, error)

	// Discard removes the driver's folder if no tree is in it any more. The driver is of no use
	// after that, nor is any other of the folder.
	Discard() error
}

// Tree is a root filesystem in a folder.
type Tree interface {
	// Dir is the absolute path of the tree's root folder.
	Dir() string

	// Commit makes the tree a snapshot called name. From then on it survives the end of the
	// process; after a power cut it is whole or gone. Where one of that name exists already, made
	// by another build of the same content, this tree is dropped and nil returned. The tree cannot
	// be used any more, and Dir is gone. Files that are open below Dir may be an error. After Close
	// or Commit the error wraps fs.ErrClosed.
	Commit(ctx context.Context, name string) error

	// Keep gives the tree a name under which it stays as it is, to be resumed; note is given back
	// by Kept. A kept tree of that name that is there already is dropped. All of it is on disk
	// then. The tree cannot be used any more through this handle, as after Commit.
	Keep(ctx context.Context, name string, note []byte) error

	// Close drops the tree if it was neither committed nor kept, and releases mounts and locks.
	// Further calls do nothing.
	Close() error
}
