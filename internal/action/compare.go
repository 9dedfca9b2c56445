package action

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"genoci/internal/cache"
	"genoci/internal/shown"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// Comparison compares the actions of a step with those that it had.
type Comparison struct {
	Cache     *cache.Cache            // has what nodes have digests of
	RealTimes bool                    // times of files count
	Uncached  func(image string) bool // reports whether an image that is copied from is not cached
}

// Differences says what is different about the actions of a step, whose key is now. Actions that
// are equal are set apart first. What is left is paired by its kind, in order.
func (c Comparison) Differences(then stepkey.Then, now *stepkey.Step, actions []Action) []stepkey.Reason {
	was := c.versionsThen(then, now)
	a, b := make([]string, len(was)), make([]string, len(now.Ops))
	for i, op := range then.Ops {
		a[i] = string(op)
	}
	for i, op := range now.Ops {
		text, _ := json.Marshal(op) // it was the node of a key before
		b[i] = string(text)
	}
	var all []stepkey.Reason
	for _, of := range actions {
		if c.readsUncached(of) {
			all = append(all, teller{of: of}.reason(stepkey.FromUncached))
		}
	}
	for _, e := range stepkey.Regions(a, b) {
		left := slices.Clone(was[e.From:e.To])
		for i := e.At; i < e.End; i++ {
			t := teller{with: c, of: actions[i]}
			is := versionNow(now, i)
			at := slices.IndexFunc(left, func(v version) bool { return v.kind != nil && v.kind.bind(actions[i].At()) != nil })
			if at < 0 {
				all = append(all, t.reason(stepkey.ActionAdded))
				continue
			}
			all = append(all, t.changes(left[at], is)...)
			left = slices.Delete(left, at, at+1)
		}
		for _, v := range left {
			all = append(all, stepkey.Reason{Code: stepkey.ActionGone, Name: v.title()})
		}
	}
	return all
}

// readsUncached reports whether an action copies from an image that is not cached.
func (c Comparison) readsUncached(of Action) bool {
	return slices.ContainsFunc(of.At().Action.Op.Images(), c.Uncached)
}

// version is an action as it was, or as it is.
type version struct {
	kind  kind              // nil where none knows it
	real  any               // its node
	shown any               // with ${{NAME}} in place of the values of arguments; nil where it is not known where they stand
	args  map[string]string // what the arguments stand for
}

// versionsThen returns the actions of the step as it was. Where arguments stand in it now and
// nothing is kept of those that it may have had, nothing of its texts can be shown.
func (c Comparison) versionsThen(then stepkey.Then, now *stepkey.Step) []version {
	var about struct {
		Ops  []json.RawMessage
		Args []map[string]string
	}
	n := len(then.Ops)
	kept := json.Unmarshal(then.About, &about) == nil && len(about.Ops) == n && len(about.Args) == n
	out := make([]version, n)
	for i, op := range then.Ops {
		v := &out[i]
		v.kind, v.real = recall(op)
		switch {
		case v.kind == nil:
		case kept && about.Args[i] != nil:
			v.shown, v.args = v.kind.then(about.Ops[i]), about.Args[i]
		case kept || now.About == nil:
			v.shown = v.real
		}
	}
	return out
}

// recall returns a node of a key, and the kind of its action.
func recall(node json.RawMessage) (kind, any) {
	for _, k := range kinds() {
		if n := k.then(node); n != nil {
			return k, n
		}
	}
	return nil, nil
}

// versionNow returns the action with the index i of a step.
func versionNow(now *stepkey.Step, i int) version {
	v := version{real: now.Ops[i], shown: now.Ops[i]}
	if now.About != nil && now.About.Ops[i] != nil {
		v.shown, v.args = now.About.Ops[i], now.About.Args[i]
	}
	return v
}

// title names an action that is gone.
func (v version) title() string {
	if v.kind == nil {
		return "an action"
	}
	what := v.kind.what(v.shown)
	if first, _, more := strings.Cut(strings.TrimSpace(what), "\n"); more {
		what = first + " …"
	}
	return strings.TrimSpace(v.kind.name() + " " + what)
}

// kindOf is the kind of the actions that ops O give, and of their nodes N.
type kindOf[O spec.Op, N any] struct {
	word      string
	new       func(At, O) Action
	fields    func() []field[N]
	named     func(N) string       // says in a few words which one it is
	elsewhere func(was, is N) bool // reports whether sources differ in their sort; nil: there are none
}

func (k *kindOf[O, N]) name() string { return k.word }

func (k *kindOf[O, N]) bind(at At) Action {
	if op, ok := at.Action.Op.(O); ok {
		return k.new(at, op)
	}
	return nil
}

// then takes a node for its own that it would have written itself.
func (k *kindOf[O, N]) then(node json.RawMessage) any {
	var n N
	if json.Unmarshal(node, &n) != nil {
		return nil
	}
	if same, err := json.Marshal(n); err != nil || !bytes.Equal(same, node) {
		return nil
	}
	return n
}

func (k *kindOf[O, N]) what(node any) string {
	if n, ok := node.(N); ok {
		return k.named(n)
	}
	return ""
}

func (k *kindOf[O, N]) changes(t teller, was, is version) []stepkey.Reason {
	before, now := was.real.(N), is.real.(N)
	var all []stepkey.Reason
	elsewhere := k.elsewhere != nil && k.elsewhere(before, now)
	if elsewhere {
		all = append(all, t.reason(stepkey.SourceElsewhere))
	}
	for _, f := range k.fields() {
		shown, known := was.shown.(N)
		switch {
		case f.same(before, now), elsewhere && f.source:
		case known && !f.same(shown, is.shown.(N)):
			all = append(all, f.tell(t, shown, is.shown.(N))...)
		case known:
		case f.digest:
			all = append(all, f.tell(t, before, is.shown.(N))...)
		default:
			all = append(all, t.named(stepkey.FieldChanged, f.name))
		}
	}
	return all
}

// field is a field of nodes N, and how a change of it is told.
type field[N any] struct {
	name   string // the key of the spec
	digest bool   // it has digests, which may be told whatever texts hold
	source bool   // it says where something comes from
	same   func(was, is N) bool
	tell   func(t teller, was, is N) []stepkey.Reason
}

// valueField is a field with one value, "" for none.
func valueField[N any](name string, of func(N) string) field[N] {
	return field[N]{name: name, same: func(was, is N) bool { return of(was) == of(is) }, tell: func(t teller, was, is N) []stepkey.Reason {
		return []stepkey.Reason{t.replaced(name, of(was), of(is))}
	}}
}

// flagField is a field that is set or not.
func flagField[N any](name string, of func(N) bool) field[N] {
	return valueField(name, func(n N) string {
		if of(n) {
			return "true"
		}
		return ""
	})
}

// modeField is a field with the mode of a file; nil for none.
func modeField[N any](name string, of func(N) *uint32) field[N] {
	return valueField(name, func(n N) string {
		if mode := of(n); mode != nil {
			return fmt.Sprintf("%04o", *mode)
		}
		return ""
	})
}

// listField is a field with a list.
func listField[N any](name string, of func(N) []string) field[N] {
	return field[N]{name: name, same: func(was, is N) bool { return slices.Equal(of(was), of(is)) }, tell: func(t teller, was, is N) []stepkey.Reason {
		r := t.named(stepkey.FieldChanged, name)
		r.Lines = stepkey.ListChange(shown.Words(of(was)), shown.Words(of(is)))
		return []stepkey.Reason{r}
	}}
}

// teller tells how an action differs from what it was.
type teller struct {
	with Comparison
	of   Action
}

// changes says what is different between two versions of the action.
func (t teller) changes(was, is version) []stepkey.Reason {
	var all []stepkey.Reason
	for _, name := range slices.Sorted(maps.Keys(is.args)) {
		if value, ok := was.args[name]; ok && value != is.args[name] {
			all = append(all, t.named(stepkey.ArgumentChanged, name))
		}
	}
	all = append(all, was.kind.changes(t, was, is)...)
	if len(all) == 0 && len(was.args)+len(is.args) > 0 {
		all = append(all, t.reason(stepkey.ArgumentsChanged))
	}
	return all
}

// reason is one that concerns the action.
func (t teller) reason(code stepkey.Code) stepkey.Reason {
	a := t.of.At().Action
	return stepkey.Reason{Code: code, Op: a.Op.String(), Pos: a.Pos}
}

// named is a reason that names something.
func (t teller) named(code stepkey.Code, name string) stepkey.Reason {
	r := t.reason(code)
	r.Name = name
	return r
}

// input is a reason that concerns a file that the action reads, of which the digest is another one.
func (t teller) input(code stepkey.Code, path, was, is string) stepkey.Reason {
	r := t.reason(code)
	r.Path = path
	if was != is {
		r.Changes = []stepkey.Change{{Field: stepkey.ContentField, Old: was, New: is}}
	}
	return r
}

// replaced is the reason that a field has another value.
func (t teller) replaced(name, was, is string) stepkey.Reason {
	r := t.named(stepkey.FieldReplaced, name)
	r.Changes = []stepkey.Change{{Field: name, Old: was, New: is}}
	return r
}

// text is the reason that a text is another one; path is that of its file, "" where it stands in
// the spec.
func (t teller) text(path, was, is string) stepkey.Reason {
	r := t.reason(stepkey.TextChanged)
	r.Path = path
	r.Edit, r.Lines = stepkey.TextChange(was, is)
	return r
}

// node returns what the cache keeps under a digest, sha256:HEX.
func (c Comparison) node(digest string) ([]byte, error) {
	var sum [32]byte
	if _, err := hex.Decode(sum[:], []byte(strings.TrimPrefix(digest, "sha256:"))); err != nil {
		return nil, err
	}
	return c.Cache.Node(sum)
}
