package build

import (
	"iter"
	"slices"

	"genoci/internal/plan"
)

// queue gives out the images of a plan in the order in which they are to be begun: of those that
// can be, the one is next that has the most steps before it and what stands on it are done; of
// equal ones the first in the plan. When an image comes to something, only those that wait for it
// are looked at.
type queue struct {
	order   []*node // all, the most urgent first
	waiters map[*node][]*node
	ready   []*node // in the same order
	failing []*node // what they need will never be built
}

func newQueue(p *plan.Plan, nodes nodes) *queue {
	q := &queue{waiters: map[*node][]*node{}}
	for _, img := range p.Images {
		n := nodes[img]
		q.order = append(q.order, n)
		for _, d := range n.needs() {
			q.waiters[d] = append(q.waiters[d], n)
		}
	}
	slices.SortStableFunc(q.order, func(a, b *node) int { return b.need.height - a.need.height })
	for i, n := range q.order {
		n.turn.rank = i
	}
	for _, n := range q.order {
		q.check(n)
	}
	return q
}

// check puts n where it belongs, if it waits no longer.
func (q *queue) check(n *node) {
	if n.turn.queued {
		return
	}
	ready, failed := n.ready()
	switch {
	case failed != nil:
		q.failing = append(q.failing, n)
	case ready:
		at, _ := slices.BinarySearchFunc(q.ready, n, func(a, b *node) int { return a.turn.rank - b.turn.rank })
		q.ready = slices.Insert(q.ready, at, n)
	default:
		return
	}
	n.turn.queued = true
}

// changed looks at what waits for n, whose steps are done, or which is done or skipped.
func (q *queue) changed(n *node) {
	for _, w := range q.waiters[n] {
		q.check(w)
	}
}

// next returns the image to begin; nil while none can be.
func (q *queue) next() *node {
	for len(q.ready) > 0 {
		n := q.ready[0]
		q.ready = q.ready[1:]
		if _, failed := n.ready(); failed != nil {
			q.failing = append(q.failing, n)
			continue
		}
		n.turn.begun = true
		return n
	}
	return nil
}

// failures yields the images that cannot be built, with what they need and that failed. Whoever is
// told notes it at the node.
func (q *queue) failures() iter.Seq2[*node, *node] {
	return func(yield func(n, failed *node) bool) {
		for len(q.failing) > 0 {
			n := q.failing[0]
			q.failing = q.failing[1:]
			if _, failed := n.ready(); !yield(n, failed) {
				return
			}
		}
	}
}

// left returns the images that were neither begun nor skipped.
func (q *queue) left() []*node {
	return slices.DeleteFunc(slices.Clone(q.order), func(n *node) bool { return n.turn.begun || n.turn.done })
}
