package build

import (
	"context"
	"errors"
	"slices"

	"genoci/internal/image"
	"genoci/internal/plan"
)

// errSpared says that a step needs the layers of an image that was taken for spare.
var errSpared = errors.New("needs layers that were not made")

// foresee says for each step of p what Build would do, and whether one of those that are carried
// out runs something. It notes which images are spare: no tag needs them, and nor does a step that
// is carried out, so that it is enough to know what their steps made. Where a step is carried out
// only since its layer is gone, what it made before is taken for what it will make.
func (b *Builder) foresee(ctx context.Context, p *plan.Plan) (prospects map[*plan.Step]Prospect, executes bool, err error) {
	prospects = map[*plan.Step]Prospect{}
	nodes := newNodes(p)
	gone := map[*plan.Step]bool{}
	for _, img := range p.Images {
		n := nodes[img]
		n.spare = !n.need.tag
		known := n.allKnown()
		if known {
			if err := b.begin(ctx, n); err != nil {
				return nil, false, err
			}
		}
		for _, s := range img.Steps {
			prospect := Prospect{Outcome: Cached}
			if known {
				st := b.step(n, s)
				if known, gone[s], err = st.foresee(ctx); err != nil {
					return nil, false, err
				}
				prospect.archive = st.archive
			}
			if !known {
				prospect.Outcome = wayOf(s)
			}
			prospects[s] = prospect
		}
		if n.known = known; known {
			n.early = image.Extend(n.base.img, extension(n))
			n.img = n.early
		}
	}
	spared := map[*plan.Image]bool{}
	for _, img := range slices.Backward(p.Images) {
		n := nodes[img]
		n.spare = n.spare && n.known
		for _, s := range img.Steps {
			if !n.spare && gone[s] {
				prospects[s] = Prospect{wayOf(s), prospects[s].archive}
			}
			if prospects[s].Outcome != Cached {
				executes = executes || s.Executes()
				for _, from := range sourcesOf(n, s) {
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
	return prospects, executes, nil
}

// foresee reports whether the result of the step is known, and then adds it to the node; and
// whether only what it holds is known.
func (s *step) foresee(ctx context.Context) (hit, gone bool, err error) {
	if s.plan.Hooked() { // which is never cached; pre may make its inputs
		return false, false, nil
	}
	if _, err := s.resolve(ctx); err != nil {
		return false, false, err
	}
	if err := s.keyNow(ctx); err != nil || s.unread {
		return false, false, err
	}
	l, hit := s.lookup()
	if hit {
		s.n.add(s.plan, l)
	}
	return hit, l != nil && l.gone, nil
}

// sourcesOf returns the images of the plan that a step of n copies from.
func sourcesOf(n *node, s *plan.Step) (all []*node) {
	for _, a := range s.Ops {
		for _, name := range a.Op.Images() {
			for _, from := range n.from {
				if from.String() == name {
					all = append(all, from)
				}
			}
		}
	}
	return all
}

// sources returns the images of the plan that the step copies from.
func (s *step) sources() []*node { return sourcesOf(s.n, s.plan) }

// needsSpare reports whether the step, which is to be carried out, needs the layers of a spare
// image.
func (s *step) needsSpare() bool {
	return s.n.spare || s.n.onto != nil && s.n.onto.spare || slices.ContainsFunc(s.sources(), func(d *node) bool { return d.spare })
}

// foreseeSpare finds out which images are spare, unless that is known or all have tags.
func (b *Builder) foreseeSpare(ctx context.Context, p *plan.Plan, nodes nodes) {
	if b.spared != nil || !slices.ContainsFunc(p.Images, func(img *plan.Image) bool { return !nodes[img].need.tag }) {
		return
	}
	if _, _, err := b.foresee(ctx, p); err != nil {
		b.spared = nil // what comes next tells it, with its place
	}
}

// buildSparing builds all images of p but those that are spare, of which it is known what they
// hold. Where a step that was carried out anew made something else than before, so that more is to
// be built than was foreseen, it begins again and spares none.
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
