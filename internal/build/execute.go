package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/action"
	"genoci/internal/command"
	"genoci/internal/layer"
	"genoci/internal/snapshot"
	"genoci/internal/spec"
)

// execution is a step while it is carried out.
type execution struct {
	s     *step
	stage action.Stage
	begun spec.Op          // the action that was begun last
	begin time.Time        // by the clock of file systems; zero where nothing is run
	given map[string]int64 // by path: mtimes out of archives that are not older than begin
	room  *action.HookRoom // while hooks run, and between them; else nil
}

// execution returns the step as it is to be carried out.
func (s *step) execution() *execution {
	b := s.b
	x := &execution{s: s, stage: action.Stage{
		Source: b.src, Cache: b.Cache, Images: b.images(), Epoch: s.n.base.epoch, Clamp: b.SourceEpoch, RealTimes: b.RealTimes,
		Below: s.below, From: s.fromTree, Warn: s.warn, Place: s.place, Now: coarseNow,
		Progress: func(ctx context.Context, what string, total int64, r io.Reader) io.Reader {
			return b.progress(ctx, s.n.String(), s.plan.Name(), what, total, r)
		},
	}}
	if s.plan.Executes() {
		x.stage.Commands = command.Runner{
			Env: stepEnv(s.n), TempDir: x.stage.TempDir, Busybox: b.busybox,
			Warn: func(text string) { b.warnOnce.Do(func() { b.report(Event{Kind: Warning, Text: text}) }) },
		}
	}
	return x
}

// below returns what the step stands on, when its blobs are there.
func (s *step) below(ctx context.Context) (t action.Tree, err error) {
	layers := s.n.stack()
	if t.View, err = s.b.view(ctx, layers); err != nil {
		return t, err
	}
	for _, l := range layers {
		desc, err := l.wait(ctx)
		if err != nil {
			return t, err
		}
		t.Layers = append(t.Layers, desc)
	}
	return t, nil
}

// fromTree returns an image that the step copies from.
func (s *step) fromTree(ctx context.Context, name string) (action.Tree, error) {
	img, err := s.fromImage(name)
	if err != nil {
		return action.Tree{}, err
	}
	view, err := s.b.view(ctx, stackOf(img))
	return action.Tree{View: view, Layers: img.Manifest.Layers}, err
}

// place is where an action stands in the spec.
func (s *step) place(a spec.Action) string {
	return fmt.Sprintf("%s:%d:%d", s.n.file, a.Pos.Line, a.Pos.Col)
}

// composeAll makes the layer of a step that runs nothing from the index of its base.
func (x *execution) composeAll(ctx context.Context, base *layer.Merged) (l *builtLayer, err error) {
	s := x.s
	if f := action.Archive(s.plan, s.actions); f != nil {
		x.opStarted(s.plan.Ops[0])
		if l, err := s.passThrough(ctx, f); l != nil || err != nil {
			return l, err
		}
	}
	c := layer.NewComposer(base, s.n.base.epoch)
	for _, a := range s.actions {
		if err := x.compose(ctx, c, a); err != nil {
			return nil, err
		}
	}
	changes, err := c.Changes()
	if err == nil {
		l, err = s.packAndMakeTree(ctx, changes)
	}
	if err != nil {
		return nil, s.error(err)
	}
	return l, nil
}

// compose carries out an action that runs nothing.
func (x *execution) compose(ctx context.Context, c *layer.Composer, a action.Action) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	at := a.At().Action
	x.opStarted(at)
	composer, ok := a.(action.Composer)
	if !ok {
		return x.s.opError(at, errors.New("runs something"), nil)
	}
	if err := composer.Compose(ctx, &x.stage, c); err != nil {
		return x.s.opError(at, err, nil)
	}
	return nil
}

// run carries out an action that runs something in the tree.
func (x *execution) run(ctx context.Context, root string, a action.Action) error {
	at := a.At().Action
	x.opStarted(at)
	out := x.output()
	err := fmt.Errorf("%T runs nothing", at.Op)
	if runner, ok := a.(action.Runner); ok {
		err = runner.Run(ctx, &x.stage, root, out)
	}
	tail := out.Tail()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return x.s.opError(at, err, tail)
}

// output returns where a command of the step writes.
func (x *execution) output() *command.Output {
	return command.NewOutput(func(line string) { x.s.report(Event{Kind: Output, Text: line}) })
}

// opStarted tells of an action, once, also where a second way of carrying it out is tried.
func (x *execution) opStarted(a spec.Action) {
	if x.begun == a.Op {
		return
	}
	x.begun = a.Op
	x.stage.Commands.Begin()
	x.s.report(Event{Kind: OpStarted, Text: a.Op.String(), Pos: a.Pos})
}

// execute carries out the step in a tree of the driver.
func (x *execution) execute(ctx context.Context, base *layer.Merged) (l *builtLayer, err error) {
	s := x.s
	tree, err := s.newTree(ctx)
	if err != nil {
		return l, s.error(err)
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	x.begin = coarseNow()
	if err := x.act(ctx, tree, base); err != nil {
		x.keepFailed(ctx, tree, err)
		return l, err
	}
	s.lent = x.stage.Commands.Lent()
	changes, err := x.diff(ctx, tree, base)
	if err == nil {
		x.stage.Look(s.actions, changes)
		l, err = s.pack(ctx, changes)
	}
	if err == nil && l != nil {
		err = tree.Commit(ctx, string(s.n.stack().on(l).chainID()))
	}
	if err != nil {
		return nil, s.error(err)
	}
	return l, nil
}

// act runs hooks and actions in the tree. Post hooks run whenever pre hooks began.
func (x *execution) act(ctx context.Context, tree snapshot.Tree, base *layer.Merged) (err error) {
	s := x.s
	steps := s.n.image.Steps
	post := steps[len(steps)-1].Post
	defer func() {
		if len(s.plan.Post) > 0 || err != nil && s.n.made.hooksOn {
			s.n.made.hooksOn = false
			// The cleaning up that post hooks are for is due after Ctrl-C, too.
			err = errors.Join(err, x.hooks(context.WithoutCancel(ctx), tree, post))
		}
		if leaveErr := x.leaveHooks(); leaveErr != nil {
			err = errors.Join(err, s.error(leaveErr))
		}
	}()
	s.n.made.hooksOn = s.n.made.hooksOn || len(s.plan.Pre) > 0
	if err := x.hooks(ctx, tree, s.plan.Pre); err != nil {
		return err
	}
	if s.actions == nil {
		if err := s.findInputs(ctx); err != nil {
			return err
		}
	}
	dir := tree.Dir()
	var view layer.View = base
	if len(s.plan.Pre) > 0 {
		dir = x.room.Below() // what hooks have mounted is for commands; all else is about the image
		view = x.live(dir, base)
	}
	x.stage.Dir = dir
	for i := 0; i < len(s.actions); {
		if s.plan.Ops[i].Op.Runs() {
			if err := x.run(ctx, tree.Dir(), s.actions[i]); err != nil {
				return err
			}
			view = x.live(dir, base)
			i++
			continue
		}
		if i, err = x.composeInto(ctx, dir, view, i); err != nil {
			return err
		}
		view = x.live(dir, base)
	}
	return nil
}

// composeInto carries out the actions from the index i up to one that runs something, next, and
// puts their changes into the tree with the root folder dir, which looks like view.
func (x *execution) composeInto(ctx context.Context, dir string, view layer.View, i int) (next int, err error) {
	s := x.s
	c := layer.NewComposer(view, s.n.base.epoch)
	for next = i; next < len(s.actions) && !s.plan.Ops[next].Op.Runs(); next++ {
		c.By = &s.plan.Ops[next]
		if err := x.compose(ctx, c, s.actions[next]); err != nil {
			return next, err
		}
	}
	changes, err := c.Changes()
	if err == nil {
		x.give(changes)
		err = layer.Apply(ctx, dir, changes, s.b.unpackOptions())
	}
	if errors.Is(err, unix.EBUSY) && x.room != nil {
		err = fmt.Errorf("%w: a hook has mounted something there", err)
	}
	if err != nil {
		return next, s.opError(s.plan.Ops[next-1], err, nil)
	}
	x.stage.Put(changes, s.actions[next:])
	return next, nil
}

// give notes the times of changes that are put into the tree and that could be taken for the step's
// own.
func (x *execution) give(changes []layer.Change) {
	for _, ch := range changes {
		if ch.Type == layer.TypeWhiteout || ch.MTime < x.begin.Unix() {
			continue
		}
		if x.given == nil {
			x.given = map[string]int64{}
		}
		x.given[ch.Path] = ch.MTime
	}
}

// live is the view of a tree, in the folder dir, in which something was run.
func (x *execution) live(dir string, base layer.View) layer.View {
	if x.s.b.RealTimes {
		return layer.Dir(dir)
	}
	return &liveView{now: layer.Dir(dir), base: base, begin: x.begin.Unix(), epoch: x.s.n.base.epoch, given: x.given}
}

// liveView is a tree as the step's layer will have it: a folder that the step touched has the time
// of the base's folder, or the epoch. Changes that are composed on it could else carry the time of
// day.
type liveView struct {
	now          layer.View
	base         layer.View
	begin, epoch int64 // seconds since 1970
	given        map[string]int64
}

// Lookup implements layer.View.
func (v *liveView) Lookup(path string) (layer.Entry, bool, error) {
	e, ok, err := v.now.Lookup(path)
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

// Children implements layer.View.
func (v *liveView) Children(path string) iter.Seq2[layer.Entry, error] { return v.now.Children(path) }

// ReadFile implements layer.View.
func (v *liveView) ReadFile(path string) ([]byte, error) { return v.now.ReadFile(path) }

// diff finds what the step changed. The times that are the step's own become the epoch, in the tree
// as well: what later steps see is the same whether the tree was kept or unpacked from the layer.
func (x *execution) diff(ctx context.Context, tree snapshot.Tree, base *layer.Merged) ([]layer.Change, error) {
	// SOURCE_DATE_EPOCH is a limit for all times
	// (https://reproducible-builds.org/specs/source-date-epoch/).
	o := layer.DiffOptions{Since: x.begin, Epoch: x.s.n.base.epoch, Clamp: x.s.b.SourceEpoch, Warn: func(path, what string) {
		x.s.warn(path + ": " + what)
	}}
	var err error
	if o.Touched, err = snapshot.Touched(ctx, tree); err != nil {
		return nil, err
	}
	o.Settle, o.Strict, o.Splits = true, true, snapshot.Splits(tree)
	if !x.s.b.RealTimes {
		o.Start, o.Given = x.begin, x.given
	}
	return layer.Diff(ctx, tree.Dir(), base, o)
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

// hooks runs hooks in the tree, one after the other. Post hooks all run, whatever fails.
func (x *execution) hooks(ctx context.Context, tree snapshot.Tree, hooks []*spec.Hook) error {
	if len(hooks) == 0 {
		return nil
	}
	s := x.s
	if x.room == nil {
		room, err := action.EnterHooks(s.b.Cache, tree.Dir())
		if x.room = room; err != nil {
			return s.opError(spec.Action{Op: hooks[0], Pos: hooks[0].Pos}, err, nil)
		}
	}
	var errs []error
	for _, h := range hooks {
		a := spec.Action{Op: h, Pos: h.Pos}
		x.opStarted(a)
		out := x.output()
		err := x.room.Run(ctx, s.b.src, h, s.n.String(), s.n.base.epoch, out)
		if err == nil {
			out.Tail()
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		errs = append(errs, s.opError(a, err, out.Tail()))
		if !h.Post {
			break
		}
	}
	return errors.Join(errs...)
}

// leaveHooks ends the room of hooks, if there is one, and all that hooks have mounted in the tree.
func (x *execution) leaveHooks() error {
	if x.room == nil {
		return nil
	}
	room := x.room
	x.room = nil
	return room.Close()
}

// cleanUp runs the post hooks of an image that failed with err after its pre hooks began, and where
// no tree was at hand in which post hooks could run. They have one as it was before the step that
// failed, or an empty one where that cannot be had; it goes afterwards.
func (b *Builder) cleanUp(ctx context.Context, n *node, err error) error {
	last := n.image.Steps[len(n.image.Steps)-1]
	if !n.made.hooksOn || len(last.Post) == 0 {
		return err
	}
	n.made.hooksOn = false
	ctx = context.WithoutCancel(ctx)
	s := b.step(n, last)
	x := s.execution()
	tree, treeErr := s.newTree(ctx)
	if treeErr != nil {
		tree, treeErr = b.trees.opened.New(ctx, "")
	}
	if treeErr != nil {
		return errors.Join(err, s.error(fmt.Errorf("make a tree for post hooks: %w", treeErr)))
	}
	return errors.Join(err, x.hooks(ctx, tree, last.Post), x.leaveHooks(), tree.Close())
}
