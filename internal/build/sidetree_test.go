package build

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/layer"
	"genoci/internal/snapshot"
)

// closedTree is a tree that is closed, and never committed.
type closedTree struct {
	snapshot.Tree
	closed bool
}

func (t *closedTree) Close() error { t.closed = true; return nil }

// TestPlantingOwner: a layer is made although its tree cannot be, because an owner has no id here.
// Other errors fail the step.
func TestPlantingOwner(t *testing.T) {
	for _, test := range []struct{ err, want error }{
		{&layer.OwnerError{UID: 718322462, GID: 5, Err: unix.EINVAL}, nil},
		{unix.ENOSPC, unix.ENOSPC},
	} {
		tree := &closedTree{}
		p := &sideTree{tree: tree, cancel: func() {}, done: make(chan error, 1)}
		p.done <- test.err
		if err := p.commit(t.Context(), nil); !errors.Is(err, test.want) || !tree.closed {
			t.Errorf("%v: got %v, closed %v", test.err, err, tree.closed)
		}
	}
}
