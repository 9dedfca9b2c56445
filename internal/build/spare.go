package build

import (
	"context"
	"errors"
	"slices"

	"genoci/internal/image"
	"genoci/internal/plan"
	"genoci/internal/spec"
)

// errSpared says that a step needs the layers of an image that was taken for spare.
var errSpared = errors.New("needs layers that were not made")

// foresee says for each step of p what Build would do, and whether one of those that are carried out runs something. It notes which images are
// spare: no tag needs them, and nor does a step that is carried out, so that it is enough to know what their steps made. Where a step is
// carried out only since its layer is gone, what it made before is taken for what it will make.
func (b *Builder) foresee(ctx context.Context, p *plan.Plan) (outcomes map[*plan.Step]Outcome, executes bool, err error) {
	outcomes = map[*plan.Step]Outcome{}
	nodes := newNodes(p)
	gone := map[*plan.Step]bool{}
	for _, img := range p.Images {
		n := nodes[img]
		n.spare = !n.needed
		known := n.allKnown()
		if known {
			if err := b.begin(ctx, n); err != nil {
				return nil, false, err
			}
		}
		for _, s := range img.Steps {
			if known {
				if known, gone[s], err = b.foreseeStep(ctx, nodes, n, s); err != nil {
					return nil, false, err
				}
			}
			outcomes[s] = Cached
			if !known {
				outcomes[s] = wayOf(s)
			}
		}
		if n.known = known; known {
			n.early = image.Extend(n.base, b.extension(n))
			n.img = n.early
		}
	}
	spared := map[*plan.Image]bool{}
	for _, img := range slices.Backward(p.Images) {
		n := nodes[img]
		n.spare = n.spare && n.known
		for _, s := range img.Steps {
			if !n.spare && gone[s] {
				outcomes[s] = wayOf(s)
			}
			if outcomes[s] != Cached {
				executes = executes || s.Executes()
				for _, from := range sourcesOf(nodes, s) {
					from.spare = false
				}
			}
		}
		if n.onto != nil && !n.spare {
			n.onto.spare = false
		}
		spared[img] = n.spare
	}
	b.spared = spared
	return outcomes, executes, nil
}

// foreseeStep reports whether the result of the step is known, and then adds it to the node; and whether only what it holds is known.
func (b *Builder) foreseeStep(ctx context.Context, nodes nodes, n *node, s *plan.Step) (hit, gone bool, err error) {
	if s.Hooked() { // which is never cached; pre may make its inputs
		return false, false, nil
	}
	ins, err := b.resolve(ctx, n, s)
	if err != nil {
		return false, false, err
	}
	key, unread, err := b.keyNow(ctx, nodes, n, s, ins)
	if err != nil || unread {
		return false, false, err
	}
	l, hit := b.lookup(n, s, key)
	if hit {
		n.add(s, l)
	}
	return hit, l != nil && l.gone, nil
}

// sourcesOf returns the images of the plan that a step copies from.
func sourcesOf(nodes nodes, s *plan.Step) (all []*node) {
	for _, a := range s.Ops {
		c, ok := a.Op.(*spec.Copy)
		for _, img := range s.Image.From {
			if ok && img.String() == c.From {
				all = append(all, nodes[img])
			}
		}
	}
	return all
}

// needsSpare reports whether a step that is carried out needs the layers of a spare image.
func needsSpare(nodes nodes, n *node, s *plan.Step) bool {
	return n.spare || n.onto != nil && n.onto.spare || slices.ContainsFunc(sourcesOf(nodes, s), func(d *node) bool { return d.spare })
}

// foreseeSpare finds out which images are spare, unless that is known or all have tags.
func (b *Builder) foreseeSpare(ctx context.Context, p *plan.Plan, nodes nodes) {
	if b.spared != nil || !slices.ContainsFunc(p.Images, func(img *plan.Image) bool { return !nodes[img].needed }) {
		return
	}
	if _, _, err := b.foresee(ctx, p); err != nil {
		b.spared = nil // what comes next tells it, with its place
	}
}

// buildSparing builds all images of p but those that are spare, of which it is known what they hold. Where a step that was carried out anew made something
// else than before, so that more is to be built than was foreseen, it begins again and spares none.
func (b *Builder) buildSparing(ctx context.Context, p *plan.Plan) (nodes, error) {
	nodes := newNodes(p)
	b.foreseeSpare(ctx, p, nodes)
	for img, n := range nodes {
		n.spare = b.spared[img]
	}
	err := b.buildAll(ctx, p, nodes)
	if !errors.Is(err, errSpared) {
		return nodes, err
	}
	nodes = newNodes(p)
	return nodes, b.buildAll(ctx, p, nodes)
}
