package spec

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"genoci/internal/shown"
)

// Written is an op as it is written where arguments stand in it. The op itself has their values,
// which may be secrets: it is carried out, and this is shown.
type Written struct {
	Op   Op                // of the same type, with ${{NAME}} in place of the values. What is no text, and comes from an argument, is zero
	Args map[string]string // what the arguments that stand in it stand for
}

// Shown returns op with ${{NAME}} in place of the values of arguments; op itself where none stands
// in it.
func Shown(op Op) Op {
	if w := *op.written(); w != nil {
		return w.Op
	}
	return op
}

// shownAs is Shown for one type of ops.
func shownAs[T Op](op T) T {
	if s, ok := Shown(op).(T); ok {
		return s
	}
	return op
}

// Arguments returns what the arguments that stand in op stand for, by their names; nil for none.
func Arguments(op Op) map[string]string {
	if w := *op.written(); w != nil {
		return w.Args
	}
	return nil
}

// ShownInputs returns op.Inputs() as they may be shown: names of files as they are looked for; and
// ${{NAME}} in place of the values of arguments in URLs, and in a word that may be no name of a
// file. What may be secret in URLs is left out.
func ShownInputs(op Op) []string {
	inputs := slices.Clone(op.Inputs())
	written := Shown(op).Inputs()
	run, _ := op.(*Run)
	for i, input := range inputs {
		switch {
		case !isURL(input) && (run == nil || run.IsFile):
		case len(written) == len(inputs):
			input = written[i]
		default: // an argument holds several words
			input = cmp.Or(strings.Join(written, " "), op.String())
		}
		inputs[i] = shown.Text(input)
	}
	return inputs
}

// asWritten returns a decoder to which arguments stand for their names, and that refuses nothing.
func (d *decoder) asWritten() *decoder {
	return &decoder{spec: d.spec, target: d.target, path: slices.Clone(d.path), args: d.args.asWritten()}
}

// writtenForm is f, noting in each op how it is written where arguments stand in it.
func writtenForm(f form[[]Action]) form[[]Action] {
	decode := f.decode
	f.decode = func(d *decoder, n *yaml.Node) ([]Action, bool) {
		actions, ok := decode(d, n)
		if !d.args.mayStandIn(n) {
			return actions, ok
		}
		w := d.asWritten()
		written, _ := decode(w, n)
		for i, a := range actions {
			if len(w.args.values) == 0 {
				break
			}
			all, _ := w.text(n)
			op := a.Op.whole(all) // an argument may hold several words
			if len(written) == len(actions) && written[i].Op != nil {
				op = written[i].Op
			}
			*a.Op.written() = &Written{op, w.args.values}
		}
		return actions, ok
	}
	return f
}

// withoutValues returns msg, which is about n, with ${{NAME}} in place of the values of arguments
// in what it quotes.
func (d *decoder) withoutValues(n *yaml.Node, msg string) string {
	if !d.args.mayStandIn(n) {
		return msg
	}
	w := d.asWritten()
	eachScalar(n, func(n *yaml.Node) bool {
		_, _ = w.args.expand(n.Value)
		return true
	})
	var pairs []string
	names := slices.SortedFunc(maps.Keys(w.args.values), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(w.args.values[b]), len(w.args.values[a])), cmp.Compare(a, b))
	})
	for _, name := range names {
		for value := range strings.SplitSeq(w.args.values[name], "\x00") {
			if value != "" {
				pairs = append(pairs, value, argumentOpen+name+argumentClose)
			}
		}
	}
	return regexp.MustCompile(`"(?:[^"\\]|\\.)*"`).ReplaceAllStringFunc(msg, func(quoted string) string {
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return quoted
		}
		return strconv.Quote(strings.NewReplacer(pairs...).Replace(text))
	})
}

// eachScalar calls f for the scalars in n until it returns false, and returns what it did.
func eachScalar(n *yaml.Node, f func(*yaml.Node) bool) bool {
	if n = follow(n); n.Kind == yaml.ScalarNode {
		return f(n)
	}
	for _, c := range n.Content {
		if !eachScalar(c, f) {
			return false
		}
	}
	return true
}
