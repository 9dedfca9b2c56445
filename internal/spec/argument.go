package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// What stands around the name of an argument in a text. A "$" before keeps the text as it is.
const (
	argumentOpen  = "${{"
	argumentClose = "}}"
)

// arguments are the values that ${{NAME}} stands for.
type arguments struct {
	given    map[string]string // by --arg
	defaults map[string]string // genoci.args with a value
	declared map[string]bool   // genoci.args, with and without
	used     map[string]bool   // named in a text that was read
	size     int               // bytes that were put in so far
	closed   bool              // nothing may be expanded: the arguments themselves are being read
	some     bool              // the file may use arguments

	values map[string]string // nil, or: ${{NAME}} stands for itself, and what it would stand for goes in here; several values, joined by NUL
}

// newArguments returns arguments as given on the command line, and no others.
func newArguments(given map[string]string) *arguments {
	return &arguments{
		given:    given,
		defaults: map[string]string{},
		declared: map[string]bool{},
		used:     map[string]bool{},
	}
}

// declare adds the arguments of the file; a nil default must be given.
func (a *arguments) declare(args []argument) {
	for _, arg := range args {
		a.declared[arg.name] = true
		if arg.value != nil {
			a.defaults[arg.name] = *arg.value
		}
	}
}

// asWritten returns the same arguments, but each stands for its own name, ${{NAME}}.
func (a *arguments) asWritten() *arguments {
	return &arguments{given: a.given, defaults: a.defaults, declared: a.declared, used: map[string]bool{}, values: map[string]string{}}
}

// mayStandIn reports whether arguments may stand in n, and are to be replaced by their values.
func (a *arguments) mayStandIn(n *yaml.Node) bool {
	return a.some && a.values == nil && !eachScalar(n, func(n *yaml.Node) bool { return !strings.Contains(n.Value, argumentOpen) })
}

// argument is one entry of genoci.args.
type argument struct {
	name  string
	value *string // nil: it must be given
}

// expand returns s with ${{NAME}} and ${{NAME:default}} replaced, and $${{ by ${{. What is put in
// is not looked at again. The error is a *textError.
func (a *arguments) expand(s string) (string, error) {
	if !strings.Contains(s, argumentOpen) {
		return s, nil
	}
	var out strings.Builder
	for at := 0; ; {
		i := strings.Index(s[at:], argumentOpen)
		if i < 0 {
			out.WriteString(s[at:])
			return out.String(), nil
		}
		before := s[at : at+i]
		at += i
		if kept, ok := strings.CutSuffix(before, "$"); ok {
			out.WriteString(kept + argumentOpen)
			at += len(argumentOpen)
			continue
		}
		out.WriteString(before)
		body, _, ok := strings.Cut(s[at+len(argumentOpen):], argumentClose)
		if !ok {
			return "", &textError{offset: at, msg: argumentOpen + " without " + argumentClose + "; write $" + argumentOpen + " for the text itself"}
		}
		value, err := a.value(body, at)
		if err != nil {
			return "", err
		}
		if a.values != nil {
			value = a.name(body, value)
		}
		if a.size += len(value); a.size > maxSize {
			return "", &textError{offset: at, msg: fmt.Sprintf("with its arguments expanded, the file is larger than %d MiB", maxSize>>20)}
		}
		out.WriteString(value)
		at += len(argumentOpen) + len(body) + len(argumentClose)
	}
}

// name returns what the argument that body names is written as, and notes its value.
func (a *arguments) name(body, value string) string {
	name, _, _ := strings.Cut(body, ":")
	name = strings.TrimSpace(name)
	if old, ok := a.values[name]; !ok {
		a.values[name] = value
	} else if !slices.Contains(strings.Split(old, "\x00"), value) {
		a.values[name] = old + "\x00" + value // each place has a default of its own
	}
	return argumentOpen + name + argumentClose
}

// value returns what the argument that body names, NAME or NAME:default, stands for. offset is
// where it is in the text, for errors.
func (a *arguments) value(body string, offset int) (string, error) {
	name, fallback, hasFallback := strings.Cut(body, ":")
	name = strings.TrimSpace(name)
	if a.closed {
		return "", &textError{offset: offset, msg: "arguments cannot be used in " + settingsName + "." + argsName + " itself"}
	}
	if err := checkArgumentName(name); err != nil {
		return "", &textError{offset: offset, msg: err.Error()}
	}
	a.used[name] = true
	if v, ok := a.given[name]; ok {
		if !utf8.ValidString(v) {
			return "", &textError{offset: offset, msg: fmt.Sprintf("--arg %s: the value is not UTF-8", name)}
		}
		return v, nil
	}
	if v, ok := a.defaults[name]; ok {
		return v, nil
	}
	if hasFallback {
		return fallback, nil
	}
	if a.declared[name] {
		return "", &textError{offset: offset, msg: fmt.Sprintf("argument %q has no default; give --arg %s=VALUE", name, name)}
	}
	return "", &textError{offset: offset, msg: fmt.Sprintf("argument %q is not defined", name),
		suggest: didYouMean(name, slices.Sorted(maps.Keys(a.declared)))}
}

// unknown returns the given arguments that the file neither declares nor uses, sorted.
func (a *arguments) unknown() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(a.given)) {
		if !a.declared[name] && !a.used[name] {
			out = append(out, name)
		}
	}
	return out
}

// names returns all arguments that the file declares or uses, sorted.
func (a *arguments) names() []string {
	all := maps.Clone(a.declared)
	maps.Copy(all, a.used)
	return slices.Sorted(maps.Keys(all))
}

// isVariable reports whether s is a name as shells have them for variables.
func isVariable(s string) bool {
	for i, c := range []byte(s) {
		if !isVariableByte(c, i == 0) {
			return false
		}
	}
	return s != ""
}

// isVariableByte reports whether c may stand in the name of a variable, or begin it.
func isVariableByte(c byte, first bool) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || !first && '0' <= c && c <= '9'
}
