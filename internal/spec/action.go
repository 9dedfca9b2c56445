package spec

import (
	"slices"
	"strings"
	"sync"
	"unicode"

	"go.yaml.in/yaml/v4"

	"genoci/internal/shown"
)

// Op is an action. The set is closed: Expand, Copy, Install, Run, Remove, Hook. All but Hook have a
// line in the kinds of package action.
//
//sumtype:decl
type Op interface {
	// Inputs returns what the op reads from outside, as written: paths relative to the spec's
	// folder, globs, URLs. A Run of one word returns that word, which may or may not name a file.
	Inputs() []string
	// Images returns the names of images that the op reads: targets of the file, or tags of the
	// layout.
	Images() []string
	// Runs reports whether the op runs something in the image.
	Runs() bool
	// String returns the op in a short line, for progress and history. What may be secret in URLs
	// and commands is left out, and ${{NAME}} stands in place of the values of arguments.
	String() string
	written() **Written   // how it is written, nil where no argument stands in it
	whole(text string) Op // an op of its type of which only all of the text says something
}

// directive is a key that gives actions, in a target or in a step.
type directive struct {
	name, doc string
	shape     shape[[]Action]
	also      []string
}

// directives are all of them, in the order in which they run where there are no steps.
var directives = sync.OnceValue(func() []directive {
	return []directive{
		{"expand", "Archives to unpack into the image.", expandShape(), []string{"unpack", "extract", "tar", "untar"}},
		{"copy", "Files to copy into the image: SRC DEST.", copyShape(), []string{"add", "cp", "files"}},
		{"install", ".deb and .rpm files, or packages by name, to install with the image's own package manager.", installShape(), []string{"packages", "apt", "apt-get", "dpkg", "rpm", "dnf"}},
		{"run", "Shell text, or a script beside the spec, to run in the sandbox.", runShape(), []string{"script", "exec", "shell"}},
		{"remove", "Paths and globs to delete from the image.", removeShape(), []string{"rm", "delete"}},
	}
})

// isDirective reports whether key gives actions.
func isDirective(key string) bool {
	return slices.ContainsFunc(directives(), func(a directive) bool { return a.name == key })
}

// actionFields returns the directives as keys of a table; add takes the actions that one gives.
func actionFields[T any](add func(v *T, name string, actions []Action)) []field[T] {
	var out []field[T]
	for _, a := range directives() {
		out = append(out, field[T]{a.name, a.doc, a.also, a.shape.schema(), func(d *decoder, value *yaml.Node, into *T) bool {
			actions, ok := a.shape.decode(d, value)
			add(into, a.name, actions)
			return ok
		}})
	}
	return out
}

// actionShape is what actions look like: a string, a map, or a list of both. alone is the string
// where it stands alone, item where it is an element of a list.
func actionShape(alone, item, table form[[]Action]) shape[[]Action] {
	item, table = writtenForm(item), writtenForm(table)
	return shape[[]Action]{writtenForm(alone), concatForm("a list", shape[[]Action]{item, table}), table}
}

// textAction is an action given as a string.
func textAction(facets schema, parse func(string) (Op, error)) form[[]Action] {
	return placed(textForm("a string", facets, parse))
}

// tableAction is an action given as a map.
func tableAction[T any, P interface {
	*T
	Op
}](t table[T]) form[[]Action] {
	f := t.form()
	return form[[]Action]{f.kind, f.want, f.schema, func(d *decoder, n *yaml.Node) ([]Action, bool) {
		v, ok := f.decode(d, n)
		return []Action{{Op: P(&v), Pos: posOf(n), Part: !ok}}, ok
	}}
}

// placed is the op of f with its place.
func placed(f form[Op]) form[[]Action] {
	return form[[]Action]{f.kind, f.want, f.schema, func(d *decoder, n *yaml.Node) ([]Action, bool) {
		op, ok := f.decode(d, n)
		if !ok {
			return nil, false
		}
		return []Action{{Op: op, Pos: posOf(n)}}, true
	}}
}

// step is one element of steps.
type step struct {
	actions []Action
	layer   bool
}

// stepTable is the keys of a step.
func stepTable() table[step] {
	var one []schema
	for _, name := range directiveNames() {
		one = append(one, schema{"required": []string{name}})
	}
	add := func(s *step, _ string, actions []Action) { s.actions = append(s.actions, actions...) }
	return table[step]{
		fields: append(actionFields(add),
			key("layer", "Close a layer after this step.", boolShape(), func(s *step) *bool { return &s.layer })),
		facets: schema{"oneOf": one},
		check:  checkStep,
	}
}

// stepsShape is a list of maps, each with one directive.
func stepsShape() shape[[]Action] {
	f := stepTable().form()
	actions := form[[]Action]{f.kind, f.want, f.schema, func(d *decoder, n *yaml.Node) ([]Action, bool) {
		s, ok := f.decode(d, n)
		if ok && s.layer {
			s.actions[len(s.actions)-1].Layer = true
		}
		return s.actions, ok
	}}
	return shape[[]Action]{concatForm("a list of maps", shape[[]Action]{actions})}
}

// checkStep refuses a step that has not exactly one directive.
func checkStep(d *decoder, n *yaml.Node, keys keys, _ *step) {
	var first *entry
	for _, e := range keys.inOrder() {
		switch {
		case !isDirective(e.key.Value):
		case first == nil:
			first = &e
		default:
			d.errorf(posOf(e.key), `a step has one action: %q needs its own step, which begins with "- "`, e.key.Value)
		}
	}
	if first == nil {
		d.errorf(posOf(n), "a step needs an action: %s", strings.Join(directiveNames(), ", "))
	}
}

// directiveNames returns the names of the directives, in their order.
func directiveNames() []string {
	var names []string
	for _, a := range directives() {
		names = append(names, a.name)
	}
	return names
}

// summary returns verb and the first line of text, at most 70 characters together, with an ellipsis
// where something was cut off. Control characters become blanks, so that it is safe on a terminal,
// and what may be secret in URLs and commands is left out (shown.Text).
func summary(verb, text string) string {
	const limit = 70
	line, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	line = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(line))
	out := []rune(verb + " " + shown.Text(line))
	if len(out) > limit {
		return strings.TrimRight(string(out[:limit-1]), " ") + "…"
	}
	if rest != "" {
		return string(out) + " …"
	}
	return string(out)
}
