package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"genoci/internal/action"
	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/plan"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// Prospect is how a step would be carried out.
type Prospect struct {
	Outcome Outcome

	archive stepkey.Archive
}

// Archive says what becomes of the archive that the action a of the step s expands; zero where it
// expands none.
func (p Prospect) Archive(s *plan.Step, a spec.Action) stepkey.Archive {
	return action.ArchiveOf(s, a, p.archive)
}

// Explanation says what a build would do with a step, and why.
type Explanation struct {
	Prospect Prospect
	Reasons  []stepkey.Reason // why it is not cached, the most telling first; none where it is
}

// Explain says for each step of p what Build would do, as Forecast does, and why. A step is
// compared with what it was when the spec was built last. A step whose base is not cached is told
// from what is known without it.
func (b *Builder) Explain(ctx context.Context, p *plan.Plan) (map[*plan.Step]Explanation, error) {
	if err := b.init(p); err != nil {
		return nil, err
	}
	if err := b.checkHooks(p); err != nil {
		return nil, err
	}
	all := map[*plan.Step]Explanation{}
	nodes := newNodes(p)
	b.foreseeSpare(ctx, p, nodes)
	for _, img := range p.Images {
		n := nodes[img]
		n.spare = !n.need.tag
		if err := b.begin(ctx, n); err != nil {
			return nil, err
		}
		n.known = n.onto == nil || n.onto.known
		for _, s := range img.Steps {
			e, err := b.step(n, s).explain(ctx)
			if err != nil {
				return nil, err
			}
			all[s] = e
		}
		// Where a step is not cached, this is no image that will ever be; yet its environment is
		// what the next one inherits.
		n.early = image.Extend(n.base.img, extension(n))
		n.img = n.early
	}
	return all, b.src.Stats.Save()
}

// explain explains a step, and adds its result to the node where that is known.
func (s *step) explain(ctx context.Context) (Explanation, error) {
	because := func(reasons []stepkey.Reason) (Explanation, error) {
		s.n.known = false
		return Explanation{Prospect{wayOf(s.plan), s.archive}, reasons}, nil
	}
	if s.plan.Hooked() {
		return because(s.reasons(nil))
	}
	_, err := s.resolve(ctx)
	if errors.Is(err, fs.ErrNotExist) && len(s.n.image.Target.Pre) > 0 {
		return because([]stepkey.Reason{{Code: stepkey.HooksMakeInput}})
	}
	if err == nil {
		err = s.complete(ctx)
	}
	if err != nil {
		return Explanation{}, err
	}
	s.open = unknown{base: !s.n.known, from: slices.DeleteFunc(s.sources(), func(d *node) bool { return d.known })}
	now, err := s.keyNode()
	if err != nil {
		return Explanation{}, err
	}
	if !s.open.any() {
		if s.key, err = now.Key(); err != nil {
			return Explanation{}, err
		}
		if l, hit := s.lookup(); hit {
			s.n.add(s.plan, l)
			if l == nil || !l.gone || s.b.spared[s.n.image] {
				return Explanation{Prospect: Prospect{Cached, s.archive}}, nil
			}
			return Explanation{Prospect{wayOf(s.plan), s.archive}, s.reasons(now)}, nil
		}
	}
	return because(s.reasons(now))
}

// unknown is what the key of a step needs and that is only known when something else was built.
type unknown struct {
	base bool    // the base, or a step before
	from []*node // images that it copies from
}

func (u unknown) any() bool { return u.base || len(u.from) > 0 }

// why says why a step that is carried out is not cached; nothing where nobody asked.
func (s *step) why() []stepkey.Reason {
	if !s.b.Why {
		return nil
	}
	if s.plan.Hooked() {
		return s.reasons(nil)
	}
	now, err := s.keyNode()
	if err != nil {
		return nil
	}
	return s.reasons(now)
}

// comparable reports whether somebody wants to know how a step differs from what it was, which
// takes all digests.
func (s *step) comparable() bool {
	return s.b.Why && !s.b.NoCache && s.b.last.Get(s.lastName()) != ""
}

// lastName is the name of a step in cache.Last.
func (s *step) lastName() string { return fmt.Sprintf("%s#%d", s.n, s.plan.Index+1) }

// saveLast stores under which keys the steps of the plan were built or found.
func (b *Builder) saveLast(p *plan.Plan) error {
	targets := map[string]bool{}
	for _, t := range p.Spec.Targets {
		targets[t.Name] = true
	}
	return b.last.Save(func(step string) bool {
		at := strings.LastIndexByte(step, '#')
		return at >= 0 && targets[step[:at]]
	})
}

// reasons says why a step, whose key covers now, is not cached: at least one. What may be secret in
// URLs and commands is left out.
func (s *step) reasons(now *stepkey.Step) []stepkey.Reason {
	all := s.differences(now)
	for i := range all {
		all[i] = all[i].Shown()
	}
	return all
}

func (s *step) differences(now *stepkey.Step) []stepkey.Reason {
	only := func(r stepkey.Reason) []stepkey.Reason { return []stepkey.Reason{r} }
	switch {
	case s.plan.Hooked():
		return only(stepkey.Reason{Code: stepkey.HooksRun})
	case s.b.NoCache:
		return only(stepkey.Reason{Code: stepkey.CacheRefused})
	}
	last := s.b.last.Get(s.lastName())
	if !s.open.any() {
		key, err := now.Key()
		if err != nil {
			return only(stepkey.Reason{Code: stepkey.NoKey, Err: err})
		}
		if e, err := s.b.Cache.Get(key); err == nil {
			return only(stepkey.Unusable(e, s.b.blob(true), s.b.busyboxDigest()))
		}
		if last == key.String() {
			return only(stepkey.Reason{Code: stepkey.EntryLost})
		}
	}
	if last == "" {
		return only(stepkey.Reason{Code: stepkey.NeverBuilt})
	}
	old, about, err := s.b.Cache.Inputs(last)
	switch {
	case errors.Is(err, cache.ErrMiss):
		return only(stepkey.Reason{Code: stepkey.LastLost})
	case err != nil:
		return only(stepkey.Reason{Code: stepkey.LastUnreadable, Err: err})
	}
	then := stepkey.ReadThen(old, about)
	below := stepkey.Below{Uncached: s.open.base}
	if s.plan.Index == 0 {
		below.Name = s.n.image.Base.String()
	}
	c := action.Comparison{Cache: s.b.Cache, RealTimes: s.b.RealTimes, Uncached: func(name string) bool {
		return slices.ContainsFunc(s.open.from, func(d *node) bool { return d.String() == name })
	}}
	all := append(c.Differences(then, now, s.actions), then.Differences(now, below)...)
	if len(all) == 0 {
		return only(stepkey.Reason{Code: stepkey.VersionChanged})
	}
	return all
}
