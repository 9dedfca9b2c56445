package snapshot

import "time"

// Space is what the trees of a driver take on disk. A tree is made of parts, and may have them in
// common with others: what goes with a tree is what no other is made of.
type Space struct {
	Trees []TreeSpace
	Parts map[string]int64 // bytes of each part
	Rest  int64            // bytes of the driver's own records
}

// TreeSpace is a snapshot, a kept tree, or one that a process has open.
type TreeSpace struct {
	Name  string // "" for one that is open, and neither a snapshot nor kept
	Kept  bool
	Parts []string  // its own first
	Used  time.Time // when it was last made, kept, or a parent
}
