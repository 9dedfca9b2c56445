package action

import (
	"context"
	"fmt"
	"path"
	"strings"

	"genoci/internal/layer"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// remove deletes paths of the image.
type remove struct {
	at At
	op *spec.Remove
}

func removeKind() kind {
	return &kindOf[*spec.Remove, removeNode]{
		word: "remove", new: func(at At, op *spec.Remove) Action { return &remove{at, op} },
		named: func(n removeNode) string { return strings.Join(n.Remove, " ") },
		fields: func() []field[removeNode] {
			return []field[removeNode]{listField("paths", func(n removeNode) []string { return n.Remove })}
		},
	}
}

// removeNode is the part of a remove in a key.
type removeNode struct{ Remove []string }

// At implements Action.
func (r *remove) At() At { return r.at }

// Node implements Action.
func (r *remove) Node(Ground) (any, error) { return removeNode{r.op.Paths}, nil }

// Written implements Action.
func (r *remove) Written(any) any { return removeNode{spec.Shown(r.op).(*spec.Remove).Paths} }

// Compose implements Composer. Symlinks among the parents of a path are followed, as everywhere;
// one that is named itself is removed, not what it points to.
func (r *remove) Compose(_ context.Context, s *Stage, c *layer.Composer) error {
	for _, p := range r.op.Paths {
		if clean(p) == "." {
			return fmt.Errorf("remove %s: the root of the image cannot be removed", p)
		}
		paths := []string{clean(p)}
		if source.IsGlob(p) {
			dir, err := c.Resolve(path.Dir(clean(p)), true)
			if err != nil {
				return err
			}
			if paths, err = globView(c, path.Join(dir, path.Base(p))); err != nil {
				return fmt.Errorf("remove %s: %w", p, err)
			}
		}
		gone := false
		for _, victim := range paths {
			real, err := c.Resolve(victim, false)
			if err != nil {
				return err
			}
			_, ok, err := c.Lookup(real)
			if err != nil {
				return err
			}
			gone = gone || ok
			if err := c.Remove(real); err != nil {
				return err
			}
		}
		if !gone {
			s.Warn(fmt.Sprintf("remove %s: there is nothing of that name", p))
		}
	}
	return nil
}
