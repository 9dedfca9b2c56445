package build

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"genoci/internal/shown"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// ops compares the actions of the step with those that it had. What is left when equal ones are set apart is paired by
// its sort, in order.
func (c *comparison) ops(old fields, now *stepNode) []Reason {
	var texts []json.RawMessage
	_ = json.Unmarshal(old["ops"], &texts) // what is no list has no actions
	was := c.opsThen(texts, now)
	a, b := make([]string, len(was)), make([]string, len(now.Ops))
	for i, op := range texts {
		a[i] = string(op)
	}
	is := make([]opFields, len(now.Ops))
	for i, op := range now.Ops {
		is[i] = opFields{real: fieldsOf(op)}
		is[i].shown = is[i].real
		if now.shown != nil && now.shown.Ops[i] != nil {
			is[i].shown, is[i].args = fieldsOf(now.shown.Ops[i]), now.shown.Args[i]
		}
		if c.copiesUnknown(i) {
			is[i].real["From"] = json.RawMessage(`"not known yet"`)
			is[i].shown["From"] = is[i].real["From"]
		}
		text, _ := json.Marshal(op) // it was the node of a key before
		b[i] = string(text)
	}
	var all []Reason
	for i := range now.Ops {
		if c.copiesUnknown(i) {
			all = append(all, c.reason(i, ReasonFrom, "the image that it copies from is not cached (see its own reasons)"))
		}
	}
	for _, e := range edits(a, b) {
		left := slices.Clone(was[e.from:e.to])
		for i := e.at; i < e.end; i++ {
			at := slices.IndexFunc(left, func(f opFields) bool { return sortOf(f.real) == sortOf(is[i].real) })
			if at < 0 {
				all = append(all, c.reason(i, ReasonAction, "is new"))
				continue
			}
			all = append(all, c.op(i, left[at], is[i])...)
			left = slices.Delete(left, at, at+1)
		}
		for _, f := range left {
			all = append(all, Reason{Kind: ReasonAction, Text: describeOp(f) + " is no longer there"})
		}
	}
	return all
}

// opFields are the fields of an action.
type opFields struct {
	real  fields
	shown fields            // with ${{NAME}} in place of the values of arguments; nil where there may be such, and it is not known where
	args  map[string]string // what the arguments stand for
}

// opsThen returns the actions of the step as it was. Where arguments stand in it now and nothing is kept of those that it may have had,
// nothing of its texts can be shown.
func (c *comparison) opsThen(ops []json.RawMessage, now *stepNode) []opFields {
	var about struct {
		Ops  []json.RawMessage
		Args []map[string]string
	}
	kept := json.Unmarshal(c.about, &about) == nil && len(about.Ops) == len(ops) && len(about.Args) == len(ops)
	out := make([]opFields, len(ops))
	for i, op := range ops {
		out[i].real = fieldsOf(op)
		switch {
		case kept && about.Args[i] != nil:
			out[i].shown, out[i].args = fieldsOf(about.Ops[i]), about.Args[i]
		case kept || now.shown == nil:
			out[i].shown = out[i].real
		}
	}
	return out
}

// copiesUnknown reports whether the op with the index i copies from an image that is not known.
func (c *comparison) copiesUnknown(i int) bool {
	op, ok := c.s.Ops[i].Op.(*spec.Copy)
	return ok && c.open.from[op.From]
}

// reason is one that concerns the op with the index i.
func (c *comparison) reason(i int, kind ReasonKind, text string) Reason {
	return Reason{Kind: kind, Op: c.s.Ops[i].Op.String(), Pos: c.s.Ops[i].Pos, Text: text}
}

// sortOf says what sort of action a node is of.
func sortOf(f fields) string {
	for _, key := range []string{"Expand", "Run", "Remove", "Install", "Packages"} {
		if _, ok := f[key]; ok {
			return strings.ToLower(strings.Replace(key, "Packages", "Install", 1))
		}
	}
	return "copy"
}

// describeOp names an action that is gone.
func describeOp(op opFields) string {
	kind, f := sortOf(op.real), op.shown
	what := cmp.Or(f.text("Run"), f.text("Dest"), strings.Join(append(f.list("Remove"), f.list("Packages")...), " "))
	if first, _, more := strings.Cut(strings.TrimSpace(what), "\n"); more {
		what = first + " …"
	}
	if what != "" && (kind == "copy" || kind == "expand") {
		what = "to " + what
	}
	return strings.TrimSpace(kind + " " + what)
}

// op compares two actions of one sort, the new one of which has the index i.
func (c *comparison) op(i int, old, now opFields) []Reason {
	var all []Reason
	for _, name := range slices.Sorted(maps.Keys(now.args)) {
		if value, ok := old.args[name]; ok && value != now.args[name] {
			all = append(all, c.reason(i, ReasonArgument, fmt.Sprintf("argument %s changed", name)))
		}
	}
	elsewhere := func(name string) bool { return (old.real[name] == nil) != (now.real[name] == nil) }
	names := differing(old.real, now.real)
	if sources := []string{"Copy", "From", "Content"}; sortOf(now.real) == "copy" && slices.ContainsFunc(sources, elsewhere) {
		all = append(all, c.reason(i, ReasonAction, "what is copied comes from elsewhere"))
		names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(append(sources, "Src", "Exclude"), name) })
	}
	for _, name := range names {
		switch {
		case old.shown == nil && slices.Contains([]string{"Expand", "Copy", "From", "Script", "Env"}, name): // digests
			all = append(all, c.field(i, name, old.real, now.shown)...)
		case old.shown == nil:
			all = append(all, c.reason(i, ReasonAction, fieldName(name)+" changed"))
		case string(old.shown[name]) != string(now.shown[name]):
			all = append(all, c.field(i, name, old.shown, now.shown)...)
		}
	}
	if len(all) == 0 && len(old.args)+len(now.args) > 0 {
		all = append(all, c.reason(i, ReasonArgument, "arguments changed"))
	}
	return all
}

// field compares a field of two actions.
func (c *comparison) field(i int, name string, old, now fields) []Reason {
	text := func(kind ReasonKind, path, was, is string) []Reason {
		r := c.reason(i, kind, "")
		r.Text, r.Lines = shownChange(was, is)
		if r.Path = path; path != "" {
			r.Text = path + ": " + r.Text
		}
		return []Reason{r}
	}
	both := old[name] != nil && now[name] != nil
	switch {
	case name == "From" && c.copiesUnknown(i):
		return nil // told already
	case name == "From":
		return []Reason{c.reason(i, ReasonFrom, "the image that it copies from changed")}
	case name == "Expand":
		r := c.reason(i, ReasonInput, "the archive changed")
		r.Path, r.Changes = inputOf(c.s.Ops[i].Op), []Change{{"content", old.text(name), now.text(name)}}
		return []Reason{r}
	case name == "Copy":
		return c.manifests(i, old.text(name), now.text(name))
	case name == "Content", name == "Run" && old["Script"] == nil && now["Script"] == nil:
		return text(ReasonAction, "", old.text(name), now.text(name))
	case name == "Script" && both:
		was, wasErr := c.node(old.text(name))
		is, isErr := readScript(c.ins[i].script)
		if wasErr == nil && isErr == nil {
			return text(ReasonInput, inputOf(c.s.Ops[i].Op), string(was), string(is))
		}
		r := c.reason(i, ReasonInput, inputOf(c.s.Ops[i].Op)+" changed")
		r.Path, r.Changes = inputOf(c.s.Ops[i].Op), []Change{{"content", old.text(name), now.text(name)}}
		return []Reason{r}
	case name == "Env":
		all := environmentChanges(old.list(name), now.list(name))
		for j := range all {
			all[j].Op, all[j].Pos = c.s.Ops[i].Op.String(), c.s.Ops[i].Pos
		}
		return all
	case name == "Install":
		return c.packages(i, old.list(name), now.list(name))
	}
	return []Reason{c.plain(i, name, old, now)}
}

// plain compares a field whose value can be shown as it is.
func (c *comparison) plain(i int, name string, old, now fields) Reason {
	what := fieldName(name)
	if was, is := old.list(name), now.list(name); was != nil || is != nil {
		r := c.reason(i, ReasonAction, what+" changed")
		r.Lines = listChange(shown.Words(was), shown.Words(is))
		return r
	}
	was, is := old.value(name), now.value(name)
	if name == "Chmod" {
		was, is = octal(was), octal(is)
	}
	r := c.reason(i, ReasonAction, arrow(what+" changed: ", was, is))
	r.Changes = []Change{{what, was, is}}
	return r
}

// fieldName returns the key of the spec that a field of a node comes from.
func fieldName(name string) string {
	others := map[string]string{"Strip": "strip_components", "Copy": "src", "Script": "script", "Run": "script", "Remove": "paths", "Install": "files"}
	return cmp.Or(others[name], strings.ToLower(name))
}

// octal writes a decimal number as modes are written.
func octal(s string) string {
	var mode uint32
	if _, err := fmt.Sscan(s, &mode); err != nil {
		return s
	}
	return fmt.Sprintf("%04o", mode)
}

// inputOf is the first file that an op reads, as it is shown.
func inputOf(op spec.Op) string {
	if in := spec.ShownInputs(op); len(in) > 0 {
		return in[0]
	}
	if r, ok := spec.Shown(op).(*spec.Run); ok {
		return r.Script
	}
	return ""
}

// node returns what the cache keeps under a digest, sha256:HEX.
func (c *comparison) node(digest string) ([]byte, error) {
	var sum [32]byte
	if _, err := hex.Decode(sum[:], []byte(strings.TrimPrefix(digest, "sha256:"))); err != nil {
		return nil, err
	}
	return c.b.Cache.Node(sum)
}

// packages compares lists of "DIGEST NAME" of package files.
func (c *comparison) packages(i int, old, now []string) []Reason {
	digests := func(list []string) map[string]string {
		m := map[string]string{}
		for _, s := range list {
			digest, name, _ := strings.Cut(s, " ")
			m[name] = digest
		}
		return m
	}
	was, is := digests(old), digests(now)
	var all []Reason
	add := func(name, what string) {
		r := c.reason(i, ReasonInput, what)
		r.Path = name
		if was[name] != is[name] {
			r.Changes = []Change{{"content", was[name], is[name]}}
		}
		all = append(all, r)
	}
	for _, s := range now {
		_, name, _ := strings.Cut(s, " ")
		if was[name] == "" {
			add(name, "+ "+name)
		} else if was[name] != is[name] {
			add(name, name+" changed")
		}
	}
	for _, s := range old {
		if _, name, _ := strings.Cut(s, " "); is[name] == "" {
			add(name, "- "+name)
		}
	}
	if len(all) == 0 {
		all = append(all, c.reason(i, ReasonInput, "the order of the packages changed"))
	}
	return all
}

// manifests compares what a copy took with what it takes now.
func (c *comparison) manifests(i int, old, now string) []Reason {
	op := c.s.Ops[i].Op.(*spec.Copy)
	was, err := c.node(old)
	if err != nil {
		r := c.reason(i, ReasonInput, "files changed; what they were is no longer in the cache")
		r.Path = inputOf(op)
		return []Reason{r}
	}
	var is bytes.Buffer
	_ = writeManifest(&is, c.ins[i].matches, c.b.RealTimes) // a buffer does not fail
	d := treeChange{old: parseManifest(was), now: parseManifest(is.Bytes()), name: func(l listed) string {
		switch {
		case source.IsURL(op.Src):
			return inputOf(op)
		case l.kind == aroundMatch:
			return path.Join(source.Around(op.Src), l.path)
		case op.Parents:
			return path.Join(source.Around(op.Src), l.match, l.path)
		case source.IsGlob(op.Src):
			return path.Join(l.match, l.path)
		}
		return path.Join(op.Src, l.path)
	}}
	var all []Reason
	for _, r := range d.reasons() {
		r.Kind, r.Op, r.Pos = ReasonInput, op.String(), c.s.Ops[i].Pos
		all = append(all, r)
	}
	if len(all) == 0 {
		all = append(all, c.reason(i, ReasonInput, inputOf(op)+" has another name"))
	}
	return all
}
