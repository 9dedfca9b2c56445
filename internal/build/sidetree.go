package build

import (
	"context"
	"errors"

	"genoci/internal/layer"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
)

// sideTree is a tree that is made beside its layer, of the same bytes, because a later step needs
// it. A nil one makes none.
type sideTree struct {
	tree   snapshot.Tree
	cancel context.CancelFunc
	done   chan error
}

// makeTreeBeside begins a tree on what the steps before made, and lets fill put the layer of this
// step into it; nil where no step will need the tree. A driver that does not work is for the step
// to tell that cannot do without.
func (s *step) makeTreeBeside(ctx context.Context, fill func(ctx context.Context, dir string) error) *sideTree {
	if !s.carries() || !sandbox.Inside() {
		return nil
	}
	tree, err := s.newTree(ctx)
	if err != nil {
		return nil
	}
	p := &sideTree{tree: tree, done: make(chan error, 1)}
	ctx, p.cancel = context.WithCancel(ctx)
	go func() {
		defer close(p.done)
		p.done <- fill(ctx, tree.Dir())
	}()
	return p
}

// carries reports whether a later step runs something on the tree that this one makes.
func (s *step) carries() bool {
	for _, later := range s.n.image.Steps[s.plan.Index+1:] {
		if later.Executes() {
			return true
		}
	}
	return s.n.need.tree
}

// commit waits for the tree, and makes it the snapshot of the layers.
func (p *sideTree) commit(ctx context.Context, layers stack) error {
	if p == nil {
		return nil
	}
	err := <-p.done
	p.cancel()
	var owner *layer.OwnerError
	switch {
	case err == nil:
		err = p.tree.Commit(ctx, string(layers.chainID()))
	case errors.As(err, &owner): // the layer is right; the tree is for the step to miss that runs something on it
		err = nil
	}
	return errors.Join(err, p.tree.Close())
}

// drop drops the tree, when nothing is put into it any more.
func (p *sideTree) drop() error {
	if p == nil {
		return nil
	}
	p.cancel()
	for range p.done {
		// Until it is closed.
	}
	return p.tree.Close()
}
