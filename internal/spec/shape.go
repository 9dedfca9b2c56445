package spec

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// form is one way to write a value of type T: as text, as a list or as a map.
type form[T any] struct {
	kind   kind
	want   string // what a user is to write, in words: "a string", "a list of strings"
	schema schema
	// decode reads a node of that kind. Where it returns false it has recorded an error.
	decode func(d *decoder, n *yaml.Node) (T, bool)
}

// shape is what a value may look like: forms of different kinds.
type shape[T any] []form[T]

// decode reads n by the form of its kind, or records that there is none.
func (s shape[T]) decode(d *decoder, n *yaml.Node) (T, bool) {
	target := follow(n)
	k := kindOf(target)
	if k != text && !d.checkTag(target) {
		var none T
		return none, false
	}
	for _, f := range s {
		if f.kind == k {
			return f.decode(d, target)
		}
	}
	d.errorf(posOf(n), "expected %s, found %s", s.want(), k)
	var none T
	return none, false
}

// want says in words what the forms are.
func (s shape[T]) want() string {
	words := make([]string, len(s))
	for i, f := range s {
		words[i] = f.want
	}
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// schema describes the forms.
func (s shape[T]) schema() schema {
	if len(s) == 1 {
		return s[0].schema
	}
	forms := make([]schema, len(s))
	for i, f := range s {
		forms[i] = f.schema
	}
	return schema{"anyOf": forms}
}

// textForm is text that parse turns into a T, or says what is wrong with it. Where the error is a
// *textError, it is shown at its place within the text. facets is what a schema can say of the
// text.
func textForm[T any](want string, facets schema, parse func(string) (T, error)) form[T] {
	return form[T]{text, want, textSchema(facets), func(d *decoder, n *yaml.Node) (v T, ok bool) {
		s, ok := d.text(n)
		if !ok {
			return v, false
		}
		v, err := parse(s)
		if err != nil && d.args.values == nil {
			d.textErrorf(n, s, err)
			return v, false
		}
		return v, true
	}}
}

// convert is f with its value made into another.
func convert[T, U any](f form[T], to func(T) U) form[U] {
	return form[U]{f.kind, f.want, f.schema, func(d *decoder, n *yaml.Node) (out U, ok bool) {
		v, ok := f.decode(d, n)
		if ok {
			out = to(v)
		}
		return out, ok
	}}
}

// checked is s, refusing values that check says an error of.
func checked[T any](s shape[T], check func(T) error) shape[T] {
	out := slices.Clone(s)
	for i, f := range s {
		out[i].decode = func(d *decoder, n *yaml.Node) (T, bool) {
			v, ok := f.decode(d, n)
			if !ok {
				return v, false
			}
			if err := check(v); err != nil && d.args.values == nil {
				d.errorf(posOf(n), "%v", err)
				return v, false
			}
			return v, true
		}
	}
	return out
}

// listForm is a list of items, which may be empty.
func listForm[T any](want string, item shape[T]) form[[]T] {
	return form[[]T]{list, want, schema{"type": "array", "items": item.schema()},
		func(d *decoder, n *yaml.Node) ([]T, bool) { return concat(d, n, wrapped(item)) }}
}

// wrapped is item, its value in a list of one.
func wrapped[T any](item shape[T]) shape[[]T] {
	var out shape[[]T]
	for _, f := range item {
		out = append(out, convert(f, func(v T) []T { return []T{v} }))
	}
	return out
}

// concatForm is a list, not empty, of items that each give several values; the value is all of
// these.
func concatForm[T any](want string, item shape[[]T]) form[[]T] {
	return form[[]T]{list, want, schema{"type": "array", "minItems": 1, "items": item.schema()},
		func(d *decoder, n *yaml.Node) ([]T, bool) {
			if len(n.Content) == 0 {
				d.errorf(posOf(n), "the list is empty")
				return nil, false
			}
			return concat(d, n, item)
		}}
}

// concat decodes the elements of a list.
func concat[T any](d *decoder, n *yaml.Node, item shape[[]T]) ([]T, bool) {
	out, good := []T{}, true
	for _, c := range n.Content {
		v, ok := item.decode(d, c)
		out, good = append(out, v...), good && ok
	}
	return out, good
}

// unique is f, refusing values that key calls the same; what names them ("port").
func unique[T any](what string, f form[[]T], key func(T) string) form[[]T] {
	decode := f.decode
	f.decode = func(d *decoder, n *yaml.Node) ([]T, bool) {
		values, ok := decode(d, n)
		if !ok {
			return nil, false
		}
		seen := map[string]bool{}
		for i, v := range values {
			k := key(v)
			if seen[k] {
				d.errorf(posOf(n.Content[i]), "%s", d.withoutValues(n.Content[i], fmt.Sprintf("%s %q stands here twice", what, k)))
				ok = false
			}
			seen[k] = true
		}
		return values, ok
	}
	return f
}

// mapForm is a map of names that are not the language's own, but that what and checkName describe;
// pattern is what a schema can say of them. pair makes an element of a name and its value.
func mapForm[V, P any](what, pattern string, checkName func(string) error, value shape[V], pair func(string, V) P) form[[]P] {
	description := schema{
		"type":                 "object",
		"propertyNames":        schema{"pattern": pattern},
		"additionalProperties": value.schema(),
	}
	return form[[]P]{mapping, "a map", description, func(d *decoder, n *yaml.Node) ([]P, bool) {
		out, good := []P{}, true
		for _, e := range d.entries(n, what) {
			if err := checkName(e.key.Value); err != nil {
				d.errorf(posOf(e.key), "%v", err)
				good = false
				continue
			}
			pop := d.push(e.key.Value)
			v, ok := value.decode(d, e.value)
			pop()
			out, good = append(out, pair(e.key.Value, v)), good && ok
		}
		return out, good
	}}
}

// newKV makes a KV, for mapForm.
func newKV(name, value string) KV { return KV{name, value} }

// table is a map with keys of the language, decoded into a T.
type table[T any] struct {
	fields []field[T]
	later  []string // reserved keys: "not supported yet"
	open   bool     // keys that begin with x- are ignored
	facets schema   // what the schema says of keys together
	// check records what is wrong with keys together, and completes v. It runs only where all keys
	// were read without an error.
	check func(d *decoder, n *yaml.Node, keys keys, v *T)
}

// keys are the keys that a map has.
type keys map[string]entry

// inOrder returns those of the named keys that the map has, or all where none is named, in the
// order of the file.
func (k keys) inOrder(names ...string) []entry {
	var out []entry
	for name, e := range k {
		if len(names) == 0 || slices.Contains(names, name) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return posOf(a.key).compare(posOf(b.key)) })
	return out
}

// field is one key of a table.
type field[T any] struct {
	name, doc string
	also      []string // what other tools call it, for "did you mean"
	schema    schema
	decode    func(d *decoder, value *yaml.Node, into *T) bool
}

// key makes a field: the value of shape s goes to what at returns. doc says in one line what the
// key means, for editors; also are names by which other tools know it.
func key[T, V any](name, doc string, s shape[V], at func(*T) *V, also ...string) field[T] {
	return field[T]{name, doc, also, s.schema(), func(d *decoder, value *yaml.Node, into *T) bool {
		v, ok := s.decode(d, value)
		*at(into) = v
		return ok
	}}
}

// form returns the table as a form of a value.
func (t table[T]) form() form[T] {
	return form[T]{mapping, "a map", t.schema(), func(d *decoder, n *yaml.Node) (v T, ok bool) {
		keys, ok := keys{}, true
		for _, e := range d.entries(n, "key") {
			keys[e.key.Value] = e
			ok = t.decodeKey(d, e, &v) && ok
		}
		if ok && t.check != nil {
			before := len(d.errs)
			t.check(d, n, keys, &v)
			ok = len(d.errs) == before
		}
		return v, ok
	}}
}

// decodeKey reads one key of the table, or records that it has no such key.
func (t table[T]) decodeKey(d *decoder, e entry, into *T) bool {
	name := e.key.Value
	for _, f := range t.fields {
		if f.name == name {
			defer d.push(name)()
			return f.decode(d, e.value, into)
		}
	}
	if t.open && strings.HasPrefix(name, ignored) {
		return true
	}
	if slices.Contains(t.later, name) {
		d.errorf(posOf(e.key), "not supported yet: %q", name)
		return false
	}
	d.errorf(posOf(e.key), "unknown key %q", name).Suggest = t.nearest(name)
	return false
}

// nearest returns "did you mean" for an unknown key.
func (t table[T]) nearest(name string) string {
	var names []string
	for _, f := range t.fields {
		if slices.Contains(f.also, name) {
			return didYouMean(f.name, []string{f.name})
		}
		names = append(names, f.name)
	}
	return didYouMean(name, names)
}

// schema describes the table as an object without other keys.
func (t table[T]) schema() schema {
	properties := schema{}
	for _, f := range t.fields {
		property := maps.Clone(f.schema)
		property["description"] = f.doc
		properties[f.name] = property
	}
	out := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if t.open {
		out["patternProperties"] = schema{"^" + ignored: schema{}}
	}
	maps.Copy(out, t.facets)
	return out
}

// The shapes that many keys share.

// stringShape is any text but the empty one.
func stringShape() shape[string] {
	return shape[string]{textForm("a string", schema{"pattern": nonBlank}, notEmpty)}
}

// anyStringShape is any text.
func anyStringShape() shape[string] {
	return shape[string]{textForm(`a string ("" for an empty one)`, nil, func(s string) (string, error) { return s, nil })}
}

// wordsShape is blank-separated words, or a list of strings, each taken as it is. There is at least
// one; check accepts each. Patterns are what a schema can say of a word of the string, without ^
// and $, and of an element of the list.
func wordsShape(wordPattern, itemPattern string, check func(string) error) shape[[]string] {
	all := "^" + blank + "*" + wordPattern + "(" + blank + "+" + wordPattern + ")*" + blank + "*$"
	words := textForm("a string", schema{"pattern": all}, func(s string) ([]string, error) {
		var out []string
		for offset, word := range fields(s) {
			if err := check(word); err != nil {
				return nil, &textError{offset: offset, msg: err.Error()}
			}
			out = append(out, word)
		}
		if len(out) == 0 {
			return nil, errEmpty
		}
		return out, nil
	})
	strict := words.decode
	words.decode = func(d *decoder, n *yaml.Node) ([]string, bool) {
		if d.args.values == nil {
			return strict(d, n)
		}
		s, ok := d.text(n)
		return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(blanks, r) }), ok
	}
	word := shape[string]{wordForm(itemPattern, check)}
	return shape[[]string]{words, concatForm("a list of strings", wrapped(word))}
}

// wordForm is one word of a wordsShape as an element of a list.
func wordForm(pattern string, check func(string) error) form[string] {
	return stringForm("a string", schema{"pattern": pattern}, func(s string) error {
		if _, err := notEmpty(s); err != nil {
			return err
		}
		return check(s)
	})
}

// fields yields the blank-separated words of s, each after the byte at which it begins.
func fields(s string) iter.Seq2[int, string] {
	isBlank := func(r rune) bool { return strings.ContainsRune(blanks, r) }
	return func(yield func(int, string) bool) {
		end := 0
		for word := range strings.FieldsFuncSeq(s, isBlank) {
			start := end + strings.Index(s[end:], word)
			end = start + len(word)
			if !yield(start, word) {
				return
			}
		}
	}
}

// boolShape is true or false.
func boolShape() shape[bool] {
	f := textForm("true or false", nil, func(s string) (bool, error) {
		switch s {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return false, fmt.Errorf("expected true or false, found %q", s)
	})
	f.schema = scalarSchema([]string{"boolean", "string"}, schema{"enum": []any{true, false, "true", "false"}})
	return shape[bool]{f}
}

// countShape is a whole number from 0.
func countShape() shape[int] {
	f := textForm("a number", nil, func(s string) (int, error) {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("expected a whole number from 0, found %q", s)
		}
		return int(n), nil
	})
	f.schema = scalarSchema([]string{"integer", "string"}, schema{"minimum": 0, "pattern": "^[0-9]+$"})
	return shape[int]{f}
}

// stringForm is text that check accepts.
func stringForm(want string, facets schema, check func(string) error) form[string] {
	return textForm(want, facets, func(s string) (string, error) { return s, check(s) })
}
