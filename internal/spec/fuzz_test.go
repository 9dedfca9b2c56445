package spec

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// FuzzParse wants an answer to any bytes: a spec that fits the contract and that the schema accepts
// too, or errors that point into the file, in order, and can be printed.
func FuzzParse(f *testing.F) {
	for _, w := range wrongSpecs(f) {
		f.Add([]byte(w.yaml))
	}
	for _, example := range docExamples(f) {
		f.Add([]byte(example))
	}
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("dir/f.yaml", data, Options{})
		if err == nil {
			checkSpec(t, s)
			if err := schema.Validate(plain(data)); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
			return
		}
		var errs Errors
		if !errors.As(err, &errs) || len(errs) == 0 {
			t.Fatalf("error is %#v, not Errors", err)
		}
		last := Pos{}
		for _, e := range errs {
			checkError(t, e, data)
			if e.Pos.compare(last) < 0 {
				t.Errorf("%v comes after %v", e.Pos, last)
			}
			last = e.Pos
		}
	})
}

// checkError wants e to point into the file data, or one column behind a line of it.
func checkError(t *testing.T, e *Error, data []byte) {
	lines := splitLines(string(data))
	if len(lines) == 0 {
		lines = []string{""}
	}
	p := e.Pos
	if p.Line < 1 || p.Line > len(lines) || p.Col < 1 || p.Col > utf8.RuneCountInString(lines[p.Line-1])+1 {
		t.Errorf("%v is outside of the file", p)
	}
	if text := e.Error(); text == "" || e.Msg == "" || !utf8.ValidString(text) {
		t.Errorf("error text %q", text)
	}
}

// plain returns a spec that is right as the values of JSON, with every scalar as text.
func plain(data []byte) any {
	d := &decoder{spec: &Spec{}}
	var value func(n *yaml.Node) any
	value = func(n *yaml.Node) any {
		n = follow(n)
		switch kindOf(n) {
		case mapping:
			m := map[string]any{}
			for _, e := range d.entries(n, "key") {
				m[e.key.Value] = value(e.value)
			}
			return m
		case list:
			l := []any{}
			for _, c := range n.Content {
				l = append(l, value(c))
			}
			return l
		case text:
			return n.Value
		}
		return nil
	}
	return value(d.parse(strings.TrimPrefix(string(data), byteOrderMark)))
}

// checkSpec wants what users of a Spec rely on.
func checkSpec(t *testing.T, s *Spec) {
	if s.File != "dir/f.yaml" || s.Dir != "dir" || len(s.Targets) == 0 {
		t.Errorf("spec %+v", s)
	}
	names := map[string]bool{}
	for _, target := range s.Targets {
		if err := checkName("target", target.Name); err != nil || names[target.Name] || target.Base == "" {
			t.Errorf("target %+v: %v", target, err)
		}
		names[target.Name] = true
		for _, a := range target.Actions {
			if a.Pos == (Pos{}) || a.Op.String() == "" {
				t.Errorf("target %q: action %+v", target.Name, a)
			}
			if op, ok := a.Op.(*Copy); ok && (op.Dest == "" || (op.Src == "") == (op.Content == nil)) {
				t.Errorf("target %q: %+v", target.Name, op)
			}
		}
	}
}
