package snapshot

import (
	"errors"
	"time"
)

// ErrHeld is wrapped where a kept tree is in use by another process, or by another part of this
// one.
var ErrHeld = errors.New("in use by another process")

// Kept is a tree that outlives the process that made it: a checkout, or what a step that failed
// left.
type Kept struct {
	Name  string
	Note  []byte    // what was said of it when it was kept
	Dir   string    // the tree's root folder, while it is shown
	Shown bool      // Dir can be seen by all processes
	Held  bool      // a process has resumed it
	Since time.Time // when it was kept last
}
