// Package build carries out a plan: it decides what is cached, puts layers together or runs steps
// in root filesystems, and moves the tags. It is the one place where the parts meet. It prints
// nothing; what happens is reported as Events.
//
// Each image of the plan has a goroutine of its own. It begins when all steps of the image below
// are done, and the images that it copies from are complete. Its steps follow one another, and
// their layers are compressed and stored beside what comes next. A step is looked up in the cache
// by a key that covers all its inputs (completed while they are read, where nobody read them
// before). Otherwise it is *composed*, if it runs nothing: its layer is put together from the index
// of the base and the inputs. Or it is *executed* in a tree that a storage driver makes. Both ways
// of carrying out the same step give the same bytes.
package build

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/action"
	"genoci/internal/cache"
	"genoci/internal/command"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/plan"
	"genoci/internal/snapshot"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// Builder builds plans. Layout, Cache and Driver are needed; the zero values of the others are
// useful. A Builder is for one plan: what it found out about inputs it does not ask again. Driver,
// Jobs, KeepGoing and Report may be set between Forecast and Build.
type Builder struct {
	Layout *layout.Layout // may be nil for Forecast: a layout that is not there yet
	Cache  *cache.Cache

	// LayoutDir is the folder of the layout, where Layout is nil: copies leave it out.
	LayoutDir string

	// Driver opens the storage driver. It is called once, and only where a step needs a root
	// filesystem.
	Driver func() (snapshot.Driver, error)

	Jobs        int               // images built at once; 0: four for each processor, since most of what steps run waits
	NoCache     bool              // carry out every step
	KeepGoing   bool              // after a failure, build and tag what does not depend on it
	NoHooks     bool              // refuse plans with hooks
	Why         bool              // say why a step is not cached
	RealTimes   bool              // keep the times of what steps make (--reproducible=false)
	SourceEpoch *int64            // SOURCE_DATE_EPOCH, seconds since 1970
	Compression layer.Compression // of new layers; zero: gzip
	Recompress  bool              // archives that are taken as layers too; else these stay gzip or zstd as they are
	Busybox     string            // static busybox to lend to images without a shell; "": looked for on the host
	Netrc       string            // file of users and passwords for the hosts of URLs; "": none
	Rootless    bool              // devices cannot be made (sandbox.Rootless)
	Now         func() time.Time  // clock of dated tags and of "created: now"; nil: time.Now
	Report      func(Event)       // called from several goroutines, one at a time; nil: dropped

	once       sync.Once
	src        *source.Source
	last       *cache.Last
	start      time.Time
	initErr    error
	mu         sync.Mutex             // of report
	readings   memo[spec.Op, reading] // actions with what they read
	tocs       memo[string, *layer.TOC]
	found      sync.Map                    // located by key, and whether a tag needs it: steps that are cached
	running    memo[string, carried]       // steps that are or were carried out, by their keys
	compressed memo[string, v1.Descriptor] // scratch layers that got a blob, by their DiffIDs
	trees      trees
	spared     map[*plan.Image]bool // images whose layers no step needs that is carried out; nil: not known
	packing    chan struct{}        // holds a token for each layer that is being compressed

	warnOnce sync.Once                        // of what the sandbox cannot do here
	busybox  func() (*command.Busybox, error) // to lend, looked for once
}

// Outcome says how a step will be, or was, carried out.
type Outcome string

// The outcomes of steps.
const (
	Cached  Outcome = "cached"  // the layer is known and there
	Compose Outcome = "compose" // put together without a root filesystem
	Execute Outcome = "execute" // run in a root filesystem
)

// init sets up what Forecast and Build share.
func (b *Builder) init(p *plan.Plan) error {
	b.once.Do(func() { b.initErr = b.setup(p) })
	return b.initErr
}

func (b *Builder) setup(p *plan.Plan) error {
	if b.Compression.Name == "" {
		b.Compression = layer.Compressions[0]
	}
	if b.Now == nil {
		b.Now = time.Now
	}
	b.start = b.Now()
	b.packing = make(chan struct{}, runtime.GOMAXPROCS(0))
	b.busybox = sync.OnceValues(func() (*command.Busybox, error) { return command.FindBusybox(b.src, b.Busybox) })
	b.trees.open = sync.OnceValues(func() (snapshot.Driver, error) {
		drv, err := b.Driver()
		if err == nil {
			b.trees.opened = drv
		}
		return drv, err
	})
	dir, err := filepath.Abs(p.Spec.Dir)
	if err != nil {
		return err
	}
	if b.src, err = newSource(b.Cache, dir); err != nil {
		return err
	}
	b.src.GitModes, b.src.Netrc, b.src.Shown = p.Spec.GitModes, b.Netrc, shownURLs(p)
	layoutDir := b.LayoutDir
	if b.Layout != nil {
		layoutDir = b.Layout.Dir()
	}
	if layoutDir, err = filepath.Abs(layoutDir); err != nil {
		return err
	}
	b.src.Own = []source.Own{{Path: layoutDir, Is: "the layout"}, {Path: b.Cache.Root(), Is: "the cache"}}
	b.last = b.Cache.Last(filepath.Join(dir, filepath.Base(p.Spec.File)))
	return nil
}

// newSource returns the source of what ops in the folder dir read.
func newSource(c *cache.Cache, dir string) (*source.Source, error) {
	state, err := c.Dir(cache.InputsDir)
	if err != nil {
		return nil, err
	}
	src, err := source.Open(dir, state)
	if err != nil {
		return nil, err
	}
	src.Keeps = action.KeepXattr
	src.Secret = func() ([]byte, error) { return c.Secret("downloads") }
	return src, nil
}

// Forecast says for each step of p what Build would do, without doing any of it, and whether Build
// needs a namespace (sandbox.Enter) for it. A step after one that is not cached counts as not
// cached.
func (b *Builder) Forecast(ctx context.Context, p *plan.Plan) (map[*plan.Step]Prospect, bool, error) {
	if err := b.init(p); err != nil {
		return nil, false, err
	}
	if err := b.checkHooks(p); err != nil {
		return nil, false, err
	}
	prospects, executes, err := b.foresee(ctx, p)
	return prospects, executes, errors.Join(err, b.src.Stats.Save())
}

// wayOf says how the step is carried out when it is not cached.
func wayOf(s *plan.Step) Outcome {
	if s.Executes() {
		return Execute
	}
	return Compose
}

// checkHooks refuses hooks where the user did.
func (b *Builder) checkHooks(p *plan.Plan) error {
	if !b.NoHooks {
		return nil
	}
	var errs spec.Errors
	for _, img := range p.Images {
		for _, hooks := range [][]*spec.Hook{img.Target.Pre, img.Target.Post} {
			for _, h := range hooks {
				errs = append(errs, p.Spec.Errorf(h.Pos, img.Target.Name, "hooks run on the host, and --no-hooks refuses them"))
			}
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// Build builds all images of p, and moves their tags in one step at the end. On failure no tag
// moves, or with KeepGoing those of the images that were built; the error is a *StepError, joined
// with further ones under KeepGoing. The result holds what was built, on failure too.
func (b *Builder) Build(ctx context.Context, p *plan.Plan) (*Result, error) {
	if err := b.init(p); err != nil {
		return nil, err
	}
	if err := b.checkHooks(p); err != nil {
		return nil, err
	}
	if !b.Layout.Used() {
		b.found.Clear() // blobs may have been collected since Forecast found them
		b.spared = nil
	}
	if err := b.Layout.Use(ctx); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(b.Layout.Dir())
	if err == nil {
		err = b.Cache.AddLayout(dir)
	}
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	b.report(Event{Kind: BuildStarted, Total: int64(len(p.Images))})
	b.src.Report = func(url string, done, total int64) {
		b.report(Event{Kind: Progress, Text: "download " + url, Done: done, Total: total})
	}

	nodes, err := b.buildSparing(ctx, p)
	if saveErr := errors.Join(b.src.Stats.Save(), b.saveLast(p)); saveErr != nil {
		b.report(Event{Kind: Warning, Text: saveErr.Error()})
	}
	res := &Result{}
	for _, img := range p.Images {
		if n := nodes[img]; n.result != nil {
			res.Images = append(res.Images, *n.result)
		}
	}
	if dropErr := b.dropFailed(ctx, p.Spec.File, res.Images); dropErr != nil && ctx.Err() == nil {
		b.report(Event{Kind: Warning, Text: fmt.Sprintf("drop what failed steps left: %v", dropErr)})
	}
	if err == nil || b.KeepGoing && ctx.Err() == nil {
		err = errors.Join(err, b.moveTags(ctx, p, nodes, res))
	}
	res.Elapsed = time.Since(begin)
	if err == nil {
		b.report(Event{Kind: BuildDone, Elapsed: res.Elapsed})
	}
	return res, err
}

// stage is what an image has come to: its steps are done, or it is complete.
type stage struct {
	n        *node
	complete bool
	err      error
}

// buildAll builds all images, as many at once as Jobs says, in the order of the queue.
func (b *Builder) buildAll(ctx context.Context, p *plan.Plan, nodes nodes) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs := b.Jobs
	if jobs <= 0 {
		jobs = 4 * runtime.GOMAXPROCS(0)
	}
	running, incomplete, stages := 0, 0, make(chan stage)
	q := newQueue(p, nodes)
	for {
		for running < jobs && ctx.Err() == nil {
			n := q.next()
			if n == nil {
				break
			}
			running++
			incomplete++
			go b.buildImage(ctx, n, stages)
		}
		for n, failed := range q.failures() {
			b.skip(n, fmt.Errorf("%w: target %q", errSkipped, failed), failed.String())
			q.changed(n)
		}
		if incomplete == 0 {
			break
		}
		s := <-stages
		if s.complete {
			incomplete--
			b.ended(s.n)
		} else {
			running--
			s.n.turn.stepsDone = s.err == nil
		}
		q.changed(s.n)
		if s.err != nil && !b.KeepGoing {
			cancel()
		}
	}
	for _, n := range q.left() {
		b.skip(n, ctx.Err(), "")
	}
	return nodes.failure(p)
}

// buildImage builds an image, and tells when its steps are done, and when it is complete.
func (b *Builder) buildImage(ctx context.Context, n *node, stages chan<- stage) {
	begin := time.Now()
	n.err = b.buildSteps(ctx, n)
	if n.err != nil && n.base.layers.failed() {
		n.err = fmt.Errorf("%w: target %q", errSkipped, n.onto)
	}
	stages <- stage{n: n, err: n.err}
	if n.err == nil {
		n.err = b.finishImage(ctx, n, begin)
	}
	n.made.blobs.Wait()
	close(n.complete)
	stages <- stage{n, true, n.err}
}

// ended notes that an image was built, or could not be.
func (b *Builder) ended(n *node) {
	switch n.turn.done = true; {
	case n.err == nil:
	case errors.Is(n.err, errSpared):
	case errors.Is(n.err, errSkipped):
		b.report(Event{Kind: ImageSkipped, Target: n.String(), Text: n.onto.String()})
	case errors.Is(n.err, context.Canceled):
		b.report(Event{Kind: ImageSkipped, Target: n.String()})
	default:
		b.report(Event{Kind: ImageFailed, Target: n.String(), Err: n.err})
	}
}

// skip notes that an image is not built, because of another one or of an interruption.
func (b *Builder) skip(n *node, err error, failed string) {
	n.turn.done, n.err = true, err
	close(n.complete)
	b.report(Event{Kind: ImageSkipped, Target: n.String(), Text: failed})
}

// report passes an event on.
func (b *Builder) report(e Event) {
	if b.Report == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Report(e)
}

// memo remembers results by key; each is computed once, also when several goroutines ask.
type memo[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]func() (V, error)
}

func (m *memo[K, V]) get(key K, compute func() (V, error)) (V, error) {
	m.mu.Lock()
	f, ok := m.m[key]
	if !ok {
		f = sync.OnceValues(compute)
		if m.m == nil {
			m.m = map[K]func() (V, error){}
		}
		m.m[key] = f
	}
	m.mu.Unlock()
	return f()
}

// alias makes other stand for the same result as key, unless there is none, or other has one.
func (m *memo[K, V]) alias(key, other K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.m[key]
	if _, taken := m.m[other]; ok && !taken {
		m.m[other] = f
	}
}

// busyboxDigest is that of the busybox that would be lent now; "" for none.
func (b *Builder) busyboxDigest() string {
	bb, err := b.busybox()
	if err != nil {
		return ""
	}
	return bb.Digest()
}

// shownURLs returns the texts that are shown in place of URLs in which arguments stand.
func shownURLs(p *plan.Plan) map[string]string {
	all := map[string]string{}
	for _, img := range p.Images {
		for _, a := range img.Target.Actions {
			if spec.Arguments(a.Op) == nil {
				continue
			}
			written := spec.ShownInputs(a.Op)
			for i, name := range a.Op.Inputs() {
				if source.IsURL(name) {
					all[name] = written[i]
				}
			}
		}
	}
	return all
}
