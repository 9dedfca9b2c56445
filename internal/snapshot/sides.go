package snapshot

import (
	"context"
	"iter"
)

// This file has what only some drivers or trees can do. Whoever uses a driver asks by the funcs
// here, where there is one.

// Toucher is an optional side of a Tree: where to look for changes, never what changed.
type Toucher interface {
	// Touched yields paths (relative to Dir, slash-separated) that may differ from the parent,
	// removed ones too; "." is the root folder. A path with a trailing slash stands for the folder
	// and everything below it. Every path that differs is yielded, or lies below one that is
	// yielded with a trailing slash or that is no folder any more.
	//
	// The tree must be at rest, with nothing open below Dir: the driver may mount it anew. Only
	// from then on do hard links that were made in the tree have one inode number.
	Touched(ctx context.Context) iter.Seq2[string, error]
}

// Rester is an optional side of a Tree that may hold what can neither be compared nor written to as
// it is.
type Rester interface {
	// Rest makes ordinary files and folders of that. The tree must be at rest as for Touched.
	Rest(ctx context.Context) error
}

// Splitter is an optional side of a Tree.
type Splitter interface {
	// Splits reports whether a file of the parent that has several names becomes two when it is
	// written to by one of them.
	Splits() bool
}

// Splits reports whether the tree is a Splitter that does.
func Splits(t Tree) bool {
	s, ok := t.(Splitter)
	return ok && s.Splits()
}

// Touched returns where to look for the changes in a tree, which is made fit for being looked at.
// nil: everywhere.
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

// UnsyncedKeeper is an optional side of a Tree: it can be kept without a wait for the disk, where
// nobody's work is lost with it.
type UnsyncedKeeper interface {
	// KeepUnsynced is Keep, but the tree is gone when the machine is started anew before it was on
	// disk, which the kernel writes in its own time.
	KeepUnsynced(ctx context.Context, name string, note []byte) error
}

// KeepUnsynced keeps a tree without a wait for the disk, if it can be.
func KeepUnsynced(ctx context.Context, t Tree, name string, note []byte) error {
	if k, ok := t.(UnsyncedKeeper); ok {
		return k.KeepUnsynced(ctx, name, note)
	}
	return t.Keep(ctx, name, note)
}

// Flusher is an optional side of a Driver whose Commit does not wait for the disk.
type Flusher interface {
	// FlushOld writes out the snapshots that have been there for a while, so that they survive a
	// power cut: the kernel has done most of that by then. It is for the time while something else
	// is done, and takes as long as all that the file system has to write; nothing can end it
	// early.
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
	// Copies reports whether a copy takes time and space for all of its parent, and does not share
	// the blocks of files with it.
	Copies() bool
}
