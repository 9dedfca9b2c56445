// Package build carries out a plan: it decides what is cached, puts layers together or runs steps in root filesystems, and moves the tags.
// It is the one place where the parts meet. It prints nothing; what happens is reported as Events.
package build

import (
	"context"
	"time"

	"genoci/internal/cache"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/plan"
	"genoci/internal/snapshot"
)

// Builder builds plans. Layout, Cache and Driver are needed; the zero values of the others are useful.
type Builder struct {
	Layout *layout.Layout
	Cache  *cache.Cache
	// Driver opens the storage driver; it is called once, and only where a step needs a root filesystem.
	Driver func() (snapshot.Driver, error)

	Jobs        int               // images built at once; 0: number of processors
	NoCache     bool              // carry out every step
	KeepGoing   bool              // after a failure, build and tag what does not depend on it
	NoHooks     bool              // refuse plans with hooks
	RealTimes   bool              // keep the times of files that steps make (--reproducible=false)
	SourceEpoch *int64            // SOURCE_DATE_EPOCH, seconds since 1970
	Compression layer.Compression // of new layers; zero: gzip
	Busybox     string            // static busybox to lend to images without a shell; "": looked for on the host
	Now         func() time.Time  // clock of dated tags; nil: time.Now
	Report      func(Event)       // called from several goroutines, one at a time; nil: dropped
}

// Outcome says how a step will be, or was, carried out.
type Outcome string

// The outcomes of steps.
const (
	Cached  Outcome = "cached"  // the layer is known and there
	Compose Outcome = "compose" // put together without a root filesystem
	Execute Outcome = "execute" // run in a root filesystem
	Depends Outcome = "depends" // not known before an earlier step is carried out; else as Executes says
)

// Forecast says for each step of p what Build would do, without doing any of it, and whether Build needs a namespace (sandbox.Enter) for it.
func (b *Builder) Forecast(ctx context.Context, p *plan.Plan) (map[*plan.Step]Outcome, bool, error) {
	panic("stub")
}

// Build builds all images of p, and moves their tags in one step at the end. On failure no tag moves, or with KeepGoing those of the images that were built; the
// error is a *StepError for the first failure (joined with the others under KeepGoing).
func (b *Builder) Build(ctx context.Context, p *plan.Plan) (*Result, error) { panic("stub") }
