// Package action is what each action of a spec does: what it reads, its part of the key of a step,
// how it is carried out, and how a change of it is told. Each has a file of its own, and a line in
// kinds. Its words are those of package spec.
package action

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"genoci/internal/cache"
	"genoci/internal/command"
	"genoci/internal/layer"
	"genoci/internal/plan"
	"genoci/internal/source"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// Action is an action of a step, with what is known of what it reads. It is a Composer or a Runner,
// and a Reader where it reads something from outside.
type Action interface {
	// At returns where the action stands.
	At() At
	// Node returns the action's part of the key of its step: a struct that encoding/json writes.
	Node(Ground) (any, error)
	// Written returns a node that Node returned, with the texts that are shown of the action.
	Written(node any) any
}

// Composer is an Action that runs nothing.
type Composer interface {
	Action
	// Compose makes the changes of the action to what c has.
	Compose(ctx context.Context, s *Stage, c *layer.Composer) error
}

// Runner is an Action that runs something.
type Runner interface {
	Action
	// Run carries out the action in the tree with the root folder root. Its commands write to out.
	Run(ctx context.Context, s *Stage, root string, out *command.Output) error
}

// Reader is an Action that reads something from outside.
type Reader interface {
	Action
	// Names returns the names of files of the host that the action cannot do without, and how they
	// are looked for.
	Names(src *source.Source) (names []string, find func(name string) ([]string, error))
	// Find finds what the action reads. Digests that carrying out the step tells may stay unknown.
	Find(ctx context.Context, h Host) error
	// Unread reports whether a digest is unknown.
	Unread() bool
	// Complete finds out the digests that Find left unknown.
	Complete(ctx context.Context, h Host) error
	// Keep keeps what the node of the action has digests of.
	Keep(c *cache.Cache, h Host) error
}

// At is where an action stands.
type At struct {
	Step   *plan.Step
	Action spec.Action
}

// Host is what actions read from, and how.
type Host struct {
	Source    *source.Source
	RealTimes bool              // times of files count
	Warn      func(text string) // is told what is left out
}

// Ground is what a step stands on.
type Ground struct {
	Empty bool                                      // there is no layer
	Chain func(image string) (digest.Digest, error) // returns the chain ID of another image
}

// kinds are all kinds of actions of steps.
var kinds = sync.OnceValue(func() []kind {
	return []kind{expandKind(), copyKind(), installKind(), runKind(), removeKind()}
})

// kind is all actions of one sort.
type kind interface {
	// bind returns an action of this kind; nil for others.
	bind(At) Action
	// then returns a node of the key of a step as it was; nil where it is one of another kind.
	then(node json.RawMessage) any
	// name returns the key of the spec that gives such actions.
	name() string
	// what says in a few words which action a node is of; "" for nil.
	what(node any) string
	// changes says what is different between two versions of an action.
	changes(t teller, was, is version) []stepkey.Reason
}

// New returns the action of a step. Hooks are none: they have no key.
func New(s *plan.Step, a spec.Action) (Action, error) {
	for _, k := range kinds() {
		if of := k.bind(At{s, a}); of != nil {
			return of, nil
		}
	}
	return nil, fmt.Errorf("%T is not an action", a.Op)
}

// OfStep returns the actions of a step.
func OfStep(s *plan.Step) ([]Action, error) {
	all := make([]Action, len(s.Ops))
	var err error
	for i, a := range s.Ops {
		if all[i], err = New(s, a); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Unread reports whether an action reads something whose digest is unknown.
func Unread(a Action) bool {
	r, ok := a.(Reader)
	return ok && r.Unread()
}

// Key puts the actions of a step into its key.
func Key(key *stepkey.Step, all []Action, g Ground) error {
	about := &stepkey.About{Ops: make([]any, len(all)), Args: make([]map[string]string, len(all))}
	for i, a := range all {
		node, err := a.Node(g)
		if err != nil {
			return &Error{a.At().Action, err}
		}
		key.Ops = append(key.Ops, node)
		if about.Args[i] = spec.Arguments(a.At().Action.Op); about.Args[i] != nil {
			about.Ops[i], key.About = a.Written(node), about
		}
	}
	return nil
}

// Error is an error of an action.
type Error struct {
	Action spec.Action
	Err    error
}

func (e *Error) Error() string { return e.Action.Op.String() + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// localNames returns the inputs of an action that are files of the host. paths says that one of an
// action that could not be read whole may be a path in an image.
func localNames(a spec.Action, paths bool) []string {
	var names []string
	for _, name := range a.Op.Inputs() {
		if a.Part && (name == "" || paths && filepath.IsAbs(name)) {
			continue // the key that could not be read may be "from"
		}
		if !strings.Contains(name, "://") { // what is no URL of a kind that can be fetched is told already
			names = append(names, name)
		}
	}
	return names
}

// inputOf is the first file that an op reads, as it is shown.
func inputOf(op spec.Op) string {
	if in := spec.ShownInputs(op); len(in) > 0 {
		return in[0]
	}
	return ""
}
