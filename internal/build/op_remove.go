package build

import (
	"fmt"
	"path"

	"genoci/internal/layer"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// remove deletes paths of the image. Symlinks among the parents of a path are followed, as everywhere;
// one that is named itself is removed, not what it points to.
func (s *step) remove(c *layer.Composer, op *spec.Remove) error {
	for _, p := range op.Paths {
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
			s.report(Event{Kind: Warning, Target: s.n.String(), Step: s.Name(), Text: fmt.Sprintf("remove %s: there is nothing of that name", p)})
		}
	}
	return nil
}
