package build

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/action"
	"genoci/internal/cache"
	"genoci/internal/layer"
	"genoci/internal/plan"
	"genoci/internal/snapshot"
	"genoci/internal/source"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// step is a step of an image: its actions, its key and, when it was carried out, what became of it.
type step struct {
	b       *Builder
	n       *node
	plan    *plan.Step
	actions []action.Action // with what they read; nil until that was found
	parent  digest.Digest   // chain ID of the tree that it begins with
	key     cache.Key
	unread  bool // key is that of a step with inputs that are not read yet
	open    unknown
	started time.Time

	archive stepkey.Archive // what became of the archive of a step that may take it as its layer
	lent    string          // digest of the busybox that was lent to its commands; "" for none
}

// step returns the next step of an image, which stands on those that the node has.
func (b *Builder) step(n *node, s *plan.Step) *step {
	return &step{b: b, n: n, plan: s, started: time.Now(), parent: n.stack().chainID()}
}

// report passes on an event of the step.
func (s *step) report(e Event) {
	e.Target, e.Step = s.n.String(), s.plan.Name()
	s.b.report(e)
}

// warn reports a warning.
func (s *step) warn(text string) { s.report(Event{Kind: Warning, Text: text}) }

// build adds the layer of the step to the node: the known one, or one that it makes.
func (s *step) build(ctx context.Context) error {
	if len(s.plan.Pre) == 0 { // else they may make the inputs
		if err := s.findInputs(ctx); err != nil {
			return err
		}
	}
	if !s.unread {
		if l, hit := s.lookup(); hit {
			s.done(hit, 0)
			s.n.add(s.plan, s.withBlob(ctx, l))
			return nil
		}
	}
	if s.needsSpare() {
		return errSpared
	}
	s.n.made.cached = false
	s.report(Event{Kind: StepStarted, Outcome: wayOf(s.plan), Why: s.why()})
	l, shared, err := s.carryOutOnce(ctx)
	if err != nil {
		return err
	}
	s.n.add(s.plan, s.withBlob(ctx, l))
	for _, a := range s.plan.Ops {
		if fate := action.ArchiveOf(s.plan, a, s.archive); fate.Fate != stepkey.NoArchive {
			s.n.made.archives = append(s.n.made.archives, Archive{Op: a.Op.String(), Fate: fate})
		}
	}
	switch {
	case shared:
		if !s.unread {
			s.b.last.Set(s.lastName(), s.key)
		}
		s.done(true, 0)
	case l != nil:
		s.n.made.own = s.n.made.own.on(l)
	default:
		if s.unread {
			if err := s.learnKey(ctx); err != nil {
				return err
			}
		}
		if err := s.remember(nil); err != nil {
			return s.error(err)
		}
		s.done(false, 0)
	}
	return nil
}

// findInputs finds what the step reads from outside, and with that its key.
func (s *step) findInputs(ctx context.Context) error {
	warnings, err := s.resolve(ctx)
	if err != nil {
		return err
	}
	for _, text := range warnings {
		s.warn(text)
	}
	return s.keyNow(ctx)
}

// carried is what became of a step that was carried out.
type carried struct {
	layer   *builtLayer // nil where it changed nothing
	archive stepkey.Archive
}

// carryOutOnce carries the step out, unless another image has just done that or is about it: then
// its layer is shared.
func (s *step) carryOutOnce(ctx context.Context) (l *builtLayer, shared bool, err error) {
	if s.plan.Hooked() {
		l, err = s.carryOut(ctx)
		return l, false, err
	}
	mine := false
	c, err := s.b.running.get(s.sharedBy(), func() (c carried, err error) {
		mine = true
		c.layer, err = s.carryOut(ctx)
		c.archive = s.archive
		return c, err
	})
	if err != nil && !mine && ctx.Err() == nil { // what became of the other is for that to tell
		l, err = s.carryOut(ctx)
		return l, false, err
	}
	s.archive = c.archive
	return c.layer, !mine, err
}

// sharedBy is what steps that share a layer have in common.
func (s *step) sharedBy() string {
	key := s.key.String()
	if action.Passable(s.plan) {
		key += " " + s.blob().Name() // what one image may leave as it is, another wants anew
	}
	return key
}

// done tells that the step is done, and how many bytes it added to the layout.
func (s *step) done(hit bool, added int64) {
	e := Event{Kind: StepDone, Outcome: Cached, Added: added, Elapsed: time.Since(s.started)}
	if !hit {
		e.Outcome = wayOf(s.plan)
	}
	s.report(e)
}

// carryOut makes the layer of the step; nil where it changes nothing.
func (s *step) carryOut(ctx context.Context) (l *builtLayer, err error) {
	x := s.execution()
	defer func() { err = errors.Join(err, x.stage.Close()) }()
	base, err := s.b.view(ctx, s.n.stack())
	if err != nil {
		return l, s.error(err)
	}
	if s.plan.Executes() {
		return x.execute(ctx, base)
	}
	return x.composeAll(ctx, base)
}

// learn notes the digests of the files of the host that came into a layer.
func (s *step) learn(changes []layer.Change, toc *layer.TOC) {
	for _, c := range changes {
		if n, ok := c.Origin.(*source.Node); ok {
			if e, _, ok := toc.Lookup(c.Path); ok {
				s.b.src.Learn(n, e.Digest)
			}
		}
	}
}

// learnKey computes the key of a step that was begun without it. Files that were copied and did not
// come into the layer are read now. That there was such a step is noted: the next time its inputs
// are read before it is decided whether to carry it out.
func (s *step) learnKey(ctx context.Context) error {
	begun, key := s.sharedBy(), s.key
	if err := s.complete(ctx); err != nil {
		return err
	}
	s.unread = false
	if err := s.computeKey(); err != nil {
		return err
	}
	// Whoever finds the digests from now on waits for this step, which was begun under another key.
	s.b.running.alias(begun, s.sharedBy())
	if err := s.b.Cache.Put(key, cache.Entry{Seconds: s.seconds()}); err != nil {
		return s.error(err)
	}
	return nil
}

// seconds returns how long the step has taken by now.
func (s *step) seconds() float64 { return math.Round(time.Since(s.started).Seconds()*1000) / 1000 }

// error is an error that concerns all of the step.
func (s *step) error(err error) error {
	a := spec.Action{Pos: s.n.image.Target.Pos}
	if len(s.plan.Ops) > 0 {
		a = s.plan.Ops[0]
	}
	return s.opError(a, err, nil)
}

// opError is the error of an action. Interruptions and errors that say where they happened stay as
// they are.
func (s *step) opError(a spec.Action, err error, tail []string) error {
	var known *StepError
	if errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	op := "step"
	if a.Op != nil {
		op = a.Op.String()
	}
	_, hook := a.Op.(*spec.Hook)
	return &StepError{Target: s.n.String(), Step: s.plan.Name(), File: s.n.file, Pos: a.Pos, Op: op, Hook: hook, Tail: tail, Err: err}
}

// newTree makes a tree on what the steps before made.
func (s *step) newTree(ctx context.Context) (snapshot.Tree, error) {
	parent, err := s.b.ensureTree(ctx, s.n.String(), s.n.stack())
	if err != nil {
		return nil, err
	}
	drv, err := s.b.trees.driver()
	if err != nil {
		return nil, err
	}
	return drv.New(ctx, parent)
}

// firstError returns err, or else the error of closing what it came from: a writer that failed
// tells the same again.
func firstError(err, closing error) error {
	if err != nil {
		return err
	}
	return closing
}
