package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/command"
	"genoci/internal/layer"
	"genoci/internal/plan"
	"genoci/internal/snapshot"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// buildStep adds the layer of a step to the node: the known one, or one that it makes.
func (b *Builder) buildStep(ctx context.Context, nodes nodes, n *node, s *plan.Step) error {
	st := &step{Builder: b, nodes: nodes, n: n, Step: s, started: time.Now(), parent: n.stack().chainID()}
	st.setRunner()
	if len(s.Pre) == 0 { // else they may make the inputs
		if err := st.findInputs(ctx); err != nil {
			return err
		}
	}
	var l *builtLayer
	hit := false
	if !st.unread {
		l, hit = b.lookup(n, s, st.key)
	}
	if hit {
		st.done(hit, 0)
		n.add(s, st.press(ctx, l))
		return nil
	}
	if needsSpare(nodes, n, s) {
		return errSpared
	}
	n.cached = false
	b.report(Event{Kind: StepStarted, Target: n.String(), Step: s.Name(), Outcome: wayOf(s), Text: b.why(nodes, n, s, st.ins)})
	l, shared, err := b.carryOutOnce(ctx, st)
	if err != nil {
		return err
	}
	n.add(s, st.press(ctx, l))
	for _, a := range s.Ops {
		if op, ok := a.Op.(*spec.Expand); ok {
			n.archives = append(n.archives, Archive{Op: op.String(), How: st.Archive(s, op)})
		}
	}
	switch {
	case shared:
		if !st.unread {
			b.last.Set(lastName(s), st.key)
		}
		st.done(true, 0)
	case l != nil:
		n.made = n.made.on(l)
	default:
		if st.unread {
			if err := st.learnKey(ctx); err != nil {
				return err
			}
		}
		if err := st.remember(nil); err != nil {
			return b.stepError(n, s, err)
		}
		st.done(false, 0)
	}
	return nil
}

// findInputs finds what the step reads from outside, and with that its key.
func (s *step) findInputs(ctx context.Context) (err error) {
	if s.ins, err = s.resolve(ctx, s.n, s.Step); err != nil {
		return err
	}
	for _, in := range s.ins {
		for _, text := range in.warnings {
			s.report(Event{Kind: Warning, Target: s.n.String(), Step: s.Name(), Text: text})
		}
	}
	s.key, s.unread, err = s.keyNow(ctx, s.nodes, s.n, s.Step, s.ins)
	return err
}

// carried is what became of a step that was carried out.
type carried struct {
	layer   *builtLayer // nil where it changed nothing
	archive string      // what became of the archive of a passable step
}

// carryOutOnce carries a step out, unless another image has just done that or is about it: then its layer is shared.
func (b *Builder) carryOutOnce(ctx context.Context, st *step) (l *builtLayer, shared bool, err error) {
	if st.Hooked() {
		l, err = st.carryOut(ctx)
		return l, false, err
	}
	mine := false
	key := st.key.String()
	op, passes := passable(st.Step)
	if passes {
		key += " " + b.blobID(st.recompress()) // what one image may leave as it is, another wants anew
	}
	c, err := b.running.get(key, func() (c carried, err error) {
		mine = true
		c.layer, err = st.carryOut(ctx)
		if passes {
			c.archive = b.Archive(st.Step, op)
		}
		return c, err
	})
	if err != nil && !mine && ctx.Err() == nil { // what became of the other is for that to tell
		l, err = st.carryOut(ctx)
		return l, false, err
	}
	if passes {
		b.noteArchive(st.Step, c.archive)
	}
	return c.layer, !mine, err
}

// done tells that the step is done, and how many bytes it added to the layout.
func (s *step) done(hit bool, added int64) {
	e := Event{Kind: StepDone, Target: s.n.String(), Step: s.Name(), Outcome: Cached, Added: added, Elapsed: time.Since(s.started)}
	if !hit {
		e.Outcome = wayOf(s.Step)
	}
	s.report(e)
}

// step is a step while it is carried out.
type step struct {
	*Builder
	*plan.Step
	nodes   nodes
	n       *node
	ins     []*input
	key     cache.Key
	parent  digest.Digest // chain ID of the tree that it begins with
	unread  bool          // key is that of a step with inputs that are not read yet
	started time.Time
	begun   spec.Op   // the op that was begun last
	begin   time.Time // of its execution, by the clock of file systems

	given  map[string]int64 // by path: mtimes out of archives that are not older than begin
	runner command.Runner   // of its commands
	files  []io.Closer      // what the openers of changes read from
	room   *hookRoom        // while hooks run, and between them; else nil
}

// carryOut makes the layer of the step; nil where it changes nothing.
func (s *step) carryOut(ctx context.Context) (l *builtLayer, err error) {
	defer func() {
		for _, f := range s.files {
			err = errors.Join(err, f.Close())
		}
	}()
	base, err := s.view(ctx, s.n.stack())
	if err != nil {
		return l, s.stepError(s.n, s.Step, err)
	}
	if s.Executes() {
		return s.execute(ctx, base)
	}
	return s.composeAll(ctx, base)
}

// composeAll makes the layer of a step that runs nothing from the index of its base.
func (s *step) composeAll(ctx context.Context, base *layer.Merged) (l *builtLayer, err error) {
	if l, ok, err := s.passThrough(ctx); ok || err != nil {
		return l, err
	}
	c := layer.NewComposer(base, s.n.epoch)
	for i, a := range s.Ops {
		if err := s.compose(ctx, c, a, s.ins[i]); err != nil {
			return l, err
		}
	}
	changes, err := c.Changes()
	if err == nil {
		l, err = s.packAndPlant(ctx, changes)
	}
	if err != nil {
		return nil, s.stepError(s.n, s.Step, err)
	}
	return l, nil
}

// learn notes the digests of the files of the host that came into a layer.
func (s *step) learn(changes []layer.Change, toc *layer.TOC) {
	for _, c := range changes {
		if n, ok := c.Origin.(*source.Node); ok {
			if e, _, ok := toc.Lookup(c.Path); ok {
				s.src.Learn(n, e.Digest)
			}
		}
	}
}

// learnKey computes the key of a step that was begun without it. Files that were copied and did not come into the layer are
// read now. That there was such a step is noted: the next time its inputs are read before it is decided whether to carry it out.
func (s *step) learnKey(ctx context.Context) (err error) {
	if err := s.complete(ctx, s.n, s.Step, s.ins); err != nil {
		return err
	}
	if err := s.Cache.Put(s.key, cache.Entry{Seconds: s.seconds()}); err != nil {
		return s.stepError(s.n, s.Step, err)
	}
	s.unread = false
	s.key, err = s.Builder.key(s.nodes, s.n, s.Step, s.ins)
	return err
}

// seconds returns how long the step has taken by now.
func (s *step) seconds() float64 { return math.Round(time.Since(s.started).Seconds()*1000) / 1000 }

// compose applies an op that runs nothing.
func (s *step) compose(ctx context.Context, c *layer.Composer, a spec.Action, in *input) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.opStarted(a)
	var err error
	switch op := a.Op.(type) {
	case *spec.Expand:
		err = s.expand(ctx, c, op, in)
	case *spec.Copy:
		err = s.copy(ctx, c, op, in)
	case *spec.Remove:
		err = s.remove(c, op)
	case *spec.Run, *spec.Install, *spec.Hook:
		err = errors.New("runs something")
	}
	if err != nil {
		return s.opError(s.n, s.Step, a, err, nil)
	}
	return nil
}

// opStarted tells of an op, once, also where a second way of carrying it out is tried.
func (s *step) opStarted(a spec.Action) {
	if s.begun == a.Op {
		return
	}
	s.begun = a.Op
	s.runner.Begin()
	s.report(Event{Kind: OpStarted, Target: s.n.String(), Step: s.Name(), Text: a.Op.String(), Pos: a.Pos})
}

// execute carries out the step in a tree of the driver.
func (s *step) execute(ctx context.Context, base *layer.Merged) (l *builtLayer, err error) {
	tree, err := s.newTree(ctx)
	if err != nil {
		return l, s.stepError(s.n, s.Step, err)
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	s.begin = coarseNow()
	if err := s.act(ctx, tree, base); err != nil {
		s.keepFailed(ctx, tree, err)
		return l, err
	}
	changes, err := s.diff(ctx, tree, base)
	if err == nil && slices.ContainsFunc(s.Ops, installs) {
		s.warnKept(changes)
	}
	if err == nil {
		l, err = s.pack(ctx, changes)
	}
	if err == nil && l != nil {
		err = tree.Commit(ctx, string(s.n.stack().on(l).chainID()))
	}
	if err != nil {
		return nil, s.stepError(s.n, s.Step, err)
	}
	return l, nil
}

// newTree makes a tree on what the steps before made.
func (s *step) newTree(ctx context.Context) (snapshot.Tree, error) {
	parent, err := s.ensureTree(ctx, s.n, s.n.stack())
	if err != nil {
		return nil, err
	}
	drv, err := s.trees.driver()
	if err != nil {
		return nil, err
	}
	return drv.New(ctx, parent)
}

// act runs hooks and ops in the tree. Post hooks run whenever pre hooks began.
func (s *step) act(ctx context.Context, tree snapshot.Tree, base *layer.Merged) (err error) {
	post := s.n.Steps[len(s.n.Steps)-1].Post
	defer func() {
		if len(s.Post) > 0 || err != nil && s.n.hooksOn {
			s.n.hooksOn = false
			// The cleaning up that post hooks are for is due after Ctrl-C, too.
			err = errors.Join(err, s.hooks(context.WithoutCancel(ctx), tree, post))
		}
		if leaveErr := s.leaveHooks(); leaveErr != nil {
			err = errors.Join(err, s.stepError(s.n, s.Step, leaveErr))
		}
	}()
	s.n.hooksOn = s.n.hooksOn || len(s.Pre) > 0
	if err := s.hooks(ctx, tree, s.Pre); err != nil {
		return err
	}
	if s.ins == nil {
		if err := s.findInputs(ctx); err != nil {
			return err
		}
	}
	dir := tree.Dir()
	var view layer.View = base
	if len(s.Pre) > 0 {
		dir = s.room.Below() // what hooks have mounted is for commands; all else is about the image
		view = s.live(dir, base)
	}
	var put placed // by ops before an installation
	for i := 0; i < len(s.Ops); {
		a := s.Ops[i]
		if plan.Runs(a.Op) {
			begin := coarseNow()
			if err := s.run(ctx, tree.Dir(), a, s.ins[i]); err != nil {
				return err
			}
			if _, ok := a.Op.(*spec.Install); ok {
				if err := s.warnReplaced(ctx, dir, a, &put, begin); err != nil {
					return s.opError(s.n, s.Step, a, err, nil)
				}
			}
			view = s.live(dir, base)
			i++
			continue
		}
		c := layer.NewComposer(view, s.n.epoch)
		last := i
		for ; i < len(s.Ops) && !plan.Runs(s.Ops[i].Op); i++ {
			c.By = &s.Ops[i]
			if err := s.compose(ctx, c, s.Ops[i], s.ins[i]); err != nil {
				return err
			}
			last = i
		}
		changes, err := c.Changes()
		if err == nil {
			s.give(changes)
			err = layer.Apply(ctx, dir, changes, s.unpackOptions())
		}
		if errors.Is(err, unix.EBUSY) && s.room != nil {
			err = fmt.Errorf("%w: a hook has mounted something there", err)
		}
		if err != nil {
			return s.opError(s.n, s.Step, s.Ops[last], err, nil)
		}
		if slices.ContainsFunc(s.Ops[i:], installs) {
			put.add(changes)
		}
		view = s.live(dir, base)
	}
	return nil
}

// give notes the times of changes that are put into the tree and that could be taken for the step's own.
func (s *step) give(changes []layer.Change) {
	for _, ch := range changes {
		if ch.Type == layer.TypeWhiteout || ch.MTime < s.begin.Unix() {
			continue
		}
		if s.given == nil {
			s.given = map[string]int64{}
		}
		s.given[ch.Path] = ch.MTime
	}
}

// live is the view of a tree, in the folder dir, in which something was run.
func (s *step) live(dir string, base layer.View) layer.View {
	if s.RealTimes {
		return layer.Dir(dir)
	}
	return &liveView{View: layer.Dir(dir), base: base, begin: s.begin.Unix(), epoch: s.n.epoch, given: s.given}
}

// liveView is a tree as the step's layer will have it: a folder that the step touched has the time of
// the base's folder, or the epoch. Changes that are composed on it could else carry the time of day.
type liveView struct {
	layer.View
	base         layer.View
	begin, epoch int64 // seconds since 1970
	given        map[string]int64
}

// Lookup implements layer.View.
func (v *liveView) Lookup(path string) (layer.Entry, bool, error) {
	e, ok, err := v.View.Lookup(path)
	if err != nil || !ok || e.Type != layer.TypeDir || e.MTime < v.begin {
		return e, ok, err
	}
	if given, ok := v.given[path]; ok && given == e.MTime {
		return e, true, nil
	}
	below, had, err := v.base.Lookup(path)
	e.MTime = v.epoch
	if had && below.Type == layer.TypeDir {
		e.MTime = below.MTime
	}
	return e, ok, err
}

// diff finds what the step changed. The times that are the step's own become the epoch, in the tree
// as well: what later steps see is the same whether the tree was kept or unpacked from the layer.
func (s *step) diff(ctx context.Context, tree snapshot.Tree, base *layer.Merged) ([]layer.Change, error) {
	// SOURCE_DATE_EPOCH is a limit for all times (https://reproducible-builds.org/specs/source-date-epoch/).
	o := layer.DiffOptions{Since: s.begin, Epoch: s.n.epoch, Clamp: s.SourceEpoch, Warn: func(path, what string) {
		s.report(Event{Kind: Warning, Target: s.n.String(), Step: s.Name(), Text: path + ": " + what})
	}}
	var err error
	if o.Touched, err = snapshot.Touched(ctx, tree); err != nil {
		return nil, err
	}
	o.Settle, o.Strict, o.Splits = true, true, snapshot.Splits(tree)
	if !s.RealTimes {
		o.Start, o.Given = s.begin, s.given
	}
	return layer.Diff(ctx, tree.Dir(), base, o)
}

// firstError returns err, or else the error of closing what it came from: a writer that failed tells the same again.
func firstError(err, closing error) error {
	if err != nil {
		return err
	}
	return closing
}

// coarseNow is the clock that file systems stamp files with: never ahead of a stamp to come
// (clock_gettime(2), CLOCK_REALTIME_COARSE).
func coarseNow() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts); err != nil {
		return time.Now()
	}
	return time.Unix(ts.Unix())
}

// stepError is an error that concerns all of a step.
func (b *Builder) stepError(n *node, s *plan.Step, err error) error {
	a := spec.Action{Pos: n.Target.Pos}
	if len(s.Ops) > 0 {
		a = s.Ops[0]
	}
	return b.opError(n, s, a, err, nil)
}

// opError is the error of an op. Interruptions and errors that say where they happened stay as they are.
func (b *Builder) opError(n *node, s *plan.Step, a spec.Action, err error, tail []string) error {
	var known *StepError
	if errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	op := "step"
	if a.Op != nil {
		op = a.Op.String()
	}
	_, hook := a.Op.(*spec.Hook)
	return &StepError{Target: n.String(), Step: s.Name(), File: n.file, Pos: a.Pos, Op: op, Hook: hook, Tail: tail, Err: err}
}

// tempDir makes a folder that is removed when the step ends, or by a later build where it is killed.
func (s *step) tempDir() (string, error) {
	dir, remove, err := command.Folder(s.Cache)
	s.files = append(s.files, closer(remove))
	return dir, err
}

// tempFile makes a nameless file that is closed when the step ends.
func (s *step) tempFile() (*os.File, error) {
	f, err := s.Cache.Temp()
	if err == nil {
		s.files = append(s.files, f)
	}
	return f, err
}

// closer makes an io.Closer of a function.
type closer func() error

func (c closer) Close() error { return c() }

// setRunner sets what commands of the step are run with.
func (s *step) setRunner() {
	s.runner = command.Runner{TempDir: s.tempDir, Busybox: s.busybox, Warn: func(text string) {
		s.warnOnce.Do(func() { s.report(Event{Kind: Warning, Text: text}) })
	}}
	if s.Executes() {
		s.runner.Env = stepEnv(s.n)
	}
}

// newOutput returns where a command of the step writes.
func (s *step) newOutput() *command.Output {
	return command.NewOutput(func(line string) {
		s.report(Event{Kind: Output, Target: s.n.String(), Step: s.Name(), Text: line})
	})
}
