package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"genoci/internal/command"
	"genoci/internal/image"
	"genoci/internal/kept"
	"genoci/internal/layer"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
)

const failedSuffix = "@failed"

// FailedRef returns the name by which users call what the newest failed step of a target left.
func FailedRef(target string) string { return target + failedSuffix }

// FailedTarget returns the target whose failed step a user's name stands for.
func FailedTarget(ref string) (target string, ok bool) {
	target, ok = strings.CutSuffix(ref, failedSuffix)
	return target, ok && target != ""
}

// FailedNote is what is noted of the tree that a failed step left: what happened, and how a command
// is to be run in it. The command as it was run and the values of environment variables are in it,
// since a shell needs them; it is kept, and goes, with the tree. Proxy settings are not.
type FailedNote struct {
	Target string    `json:"target"`
	Step   string    `json:"step"` // TARGET, or TARGET#2 for the second of several layers
	Spec   string    `json:"spec"` // absolute path
	Line   int       `json:"line"`
	Column int       `json:"column"`
	Op     string    `json:"op"` // in a line
	Error  string    `json:"error"`
	Exit   int       `json:"exit,omitempty"` // status of the command that failed
	Time   time.Time `json:"time"`

	Base     string          `json:"base"`             // of the target, as the spec has it
	Layers   []digest.Digest `json:"layers,omitempty"` // DiffIDs of what the step stands on, the lowest first
	Platform v1.Platform     `json:"platform"`
	Setting  command.Setting `json:"setting"`
}

// ParseFailedNote returns what is noted of a kept tree that a failed step left.
func ParseFailedNote(k snapshot.Kept) (*FailedNote, error) {
	n := &FailedNote{}
	if err := json.Unmarshal(k.Note, n); err != nil {
		return nil, fmt.Errorf("note of kept tree %s: %w", k.Name, err)
	}
	return n, nil
}

// keepFailed keeps the tree of a step that failed with err, and notes that at the *StepError. Where
// a user has ended the build the tree goes: nothing is wrong with it. That a tree cannot be kept is
// told beside the error, and never in its place.
func (x *execution) keepFailed(ctx context.Context, tree snapshot.Tree, err error) {
	s := x.s
	var failure *StepError
	if errors.Is(err, context.Canceled) || !errors.As(err, &failure) {
		return
	}
	if err := s.keepIndexes(context.WithoutCancel(ctx)); err != nil {
		s.warn(fmt.Sprintf("what the step left cannot be compared: %v", err))
	}
	note, keepErr := json.Marshal(x.failedNote(failure))
	if keepErr == nil {
		keepErr = snapshot.KeepUnsynced(context.WithoutCancel(ctx), tree, kept.Failed(failure.Target), note)
	}
	if keepErr != nil {
		s.warn(fmt.Sprintf("what the step left is not kept: %v", keepErr))
		return
	}
	failure.Kept = FailedRef(failure.Target)
}

// keepIndexes makes sure that the cache has the indexes of what the step began with, so that what
// it left can be compared. Layers of the same build that are not in the layout yet may never get
// there.
func (s *step) keepIndexes(ctx context.Context) error {
	for _, l := range s.n.stack() {
		if s.b.images().HasTOC(l.DiffID) {
			continue
		}
		toc, err := s.b.toc(ctx, l)
		if err == nil {
			err = s.b.images().SaveTOC(l.DiffID, toc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *execution) failedNote(failure *StepError) *FailedNote {
	s := x.s
	n := &FailedNote{
		Target: failure.Target, Step: failure.Step, Spec: s.b.specPath(failure.File), Line: failure.Pos.Line, Column: failure.Pos.Col,
		Op: failure.Op, Error: failure.Err.Error(), Time: s.b.Now().UTC(),
		Base: s.n.image.Base.String(), Platform: image.BuiltHere(), Setting: command.Setting{Env: stepEnv(s.n)},
	}
	var exit *sandbox.ExitError
	if errors.As(failure.Err, &exit) {
		n.Exit = exit.Code
	}
	for _, l := range s.n.stack() {
		n.Layers = append(n.Layers, l.DiffID)
	}
	if ran := x.stage.Commands.Last(); ran != nil {
		n.Setting = *ran
	}
	return n
}

// specPath returns the absolute path of the spec, by which failed steps of targets of one name are
// told apart.
func (b *Builder) specPath(file string) string { return filepath.Join(b.src.Dir, filepath.Base(file)) }

// dropFailed drops the trees that failed steps left of targets that are built now, from the same
// spec. One that somebody is looking into stays until the next time.
func (b *Builder) dropFailed(ctx context.Context, file string, built []ImageResult) error {
	if b.trees.opened == nil { // nothing was executed
		return nil
	}
	all, err := b.trees.opened.Kept(ctx)
	for _, k := range all {
		target, ok := kept.FailedTarget(k.Name)
		if !ok || !slices.ContainsFunc(built, func(i ImageResult) bool { return i.Target == target }) {
			continue
		}
		note, noteErr := ParseFailedNote(k)
		if noteErr != nil || note.Spec != b.specPath(file) {
			continue
		}
		if dropErr := b.trees.opened.Drop(ctx, k.Name); !errors.Is(dropErr, snapshot.ErrHeld) && !errors.Is(dropErr, unix.EBUSY) {
			err = errors.Join(err, dropErr)
		}
	}
	return err
}

// OpenFailed opens what the newest failed step of a target left. Close of the tree gives it back as
// it has become. The error wraps snapshot.ErrNotExist where there is none, and snapshot.ErrHeld
// where somebody has it.
func OpenFailed(ctx context.Context, drv snapshot.Driver, target string) (snapshot.Tree, *FailedNote, error) {
	tree, err := drv.Resume(ctx, kept.Failed(target))
	if err != nil {
		return nil, nil, err
	}
	note, err := NoteOfFailed(ctx, drv, target)
	if err == nil {
		err = command.RemoveLent(tree.Dir())
	}
	if err != nil {
		return nil, nil, errors.Join(err, tree.Close())
	}
	return tree, note, nil
}

// NoteOfFailed returns what is noted of what the newest failed step of a target left. The error
// wraps snapshot.ErrNotExist where there is none.
func NoteOfFailed(ctx context.Context, drv snapshot.Driver, target string) (*FailedNote, error) {
	name := kept.Failed(target)
	all, err := drv.Kept(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(k snapshot.Kept) bool { return k.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("kept tree %s: %w", name, snapshot.ErrNotExist)
	}
	return ParseFailedNote(all[i])
}

// DiffFailed returns how what a failed step left differs from what it began with. warn is told what
// a layer cannot hold.
func DiffFailed(ctx context.Context, base layer.View, tree snapshot.Tree, warn func(path, what string)) ([]layer.Change, error) {
	touched, err := snapshot.Touched(ctx, tree)
	if err != nil {
		return nil, err
	}
	return layer.Diff(ctx, tree.Dir(), base, layer.DiffOptions{Warn: warn, Touched: touched})
}
