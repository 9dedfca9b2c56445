package build

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// Kind says what an Event tells.
type Kind string

// The kinds of events. Which fields each sets stands beside it; Time is always set, Target on all
// but BuildStarted and BuildDone.
const (
	BuildStarted Kind = "build-started" // Total: number of images
	ImageStarted Kind = "image-started"
	StepStarted  Kind = "step-started"  // Step; Outcome; Why, where the builder is to say
	OpStarted    Kind = "op-started"    // Step; Text: the op in a line; Pos
	Output       Kind = "output"        // Step; Text: one line that a command wrote, without line end
	Progress     Kind = "progress"      // Step; Text: what (expand, download, compress); Done, Total: bytes (Total 0: unknown)
	Warning      Kind = "warning"       // Text
	Rewritten    Kind = "rewritten"     // Step; Text: why an archive is not taken as a layer as it is
	StepDone     Kind = "step-done"     // Step; Outcome; Added: bytes of the layer's blob (0: nothing changed); Elapsed
	ImageDone    Kind = "image-done"    // Image
	ImageFailed  Kind = "image-failed"  // Err
	ImageSkipped Kind = "image-skipped" // Text: the target whose failure kept it from being built; "" where the build was interrupted
	BuildDone    Kind = "build-done"    // Elapsed; after tags moved
)

// Event is something that happened in a build.
type Event struct {
	Time    time.Time
	Kind    Kind
	Target  string
	Step    string
	Text    string
	Pos     spec.Pos
	Done    int64
	Total   int64
	Added   int64
	Outcome Outcome
	Why     []stepkey.Reason // the step is not cached
	Elapsed time.Duration
	Image   *ImageResult
	Err     error
}

// ImageResult is an image that was built.
type ImageResult struct {
	Target    string
	Digest    digest.Digest // of the manifest; "" where none was written, since no tag needs it
	Size      int64         // of manifest, config and all layers, as they are stored
	Added     int64         // of that, what this build added to the layout
	Layers    int
	Cached    bool // no step was carried out
	BuildOnly bool
	Archives  []Archive // that were expanded in this build
	Tags      []string  // that now name it, NAME first, then NAME-DATE_N; set in Result, not in events
	Elapsed   time.Duration
}

// Archive is an archive that was expanded.
type Archive struct {
	Op   string // in a line
	Fate stepkey.Archive
}

// Result is what Build made.
type Result struct {
	Images  []ImageResult // in the order of the plan
	Elapsed time.Duration
}

// StepError is a step that failed.
type StepError struct {
	Target string
	Step   string
	File   string   // the spec
	Pos    spec.Pos // of the op
	Op     string   // in a line
	Hook   bool     // the op is a hook: its command ran on the host
	Tail   []string // last lines of output of the command, at most 20
	Shown  bool     // Tail was shown as it happened: for whoever shows it, Build leaves it false
	Kept   string   // FailedRef of the tree that the step left; "" where there is none
	Err    error    // wraps *sandbox.ExitError where a command failed
}

// Error is "FILE:LINE:COL: target "NAME": OP: cause", without the tail.
func (e *StepError) Error() string {
	return fmt.Sprintf("%s:%d:%d: target %q: %s: %v", e.File, e.Pos.Line, e.Pos.Col, e.Target, e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }
