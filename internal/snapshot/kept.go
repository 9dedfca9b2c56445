package snapshot

import (
	"context"
	"errors"
	"time"
)

// ErrHeld is wrapped where a kept tree is in use by another process, or by another part of this one.
var ErrHeld = errors.New("in use by another process")

// Kept is a tree that outlives the process that made it: a checkout, or what a step that failed left.
type Kept struct {
	Name  string
	Note  []byte    // what was said of it when it was kept
	Dir   string    // the tree's root folder, while it is shown
	Shown bool      // Dir can be seen by all processes
	Held  bool      // a process has resumed it
	Since time.Time // when it was kept last
}

// UnsyncedKeeper is an optional side of a Tree: it can be kept without a wait for the disk, where nobody's work is lost with it.
type UnsyncedKeeper interface {
	// KeepUnsynced is Keep, but the tree is gone when the machine is started anew before it was on disk, which the kernel writes in its own time.
	KeepUnsynced(ctx context.Context, name string, note []byte) error
}

// KeepUnsynced keeps a tree without a wait for the disk, if it can be.
func KeepUnsynced(ctx context.Context, t Tree, name string, note []byte) error {
	if k, ok := t.(UnsyncedKeeper); ok {
		return k.KeepUnsynced(ctx, name, note)
	}
	return t.Keep(ctx, name, note)
}
