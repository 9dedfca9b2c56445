package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/spec"
)

func parse(t *testing.T, text string) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("dir/genoci.yaml", []byte(text), spec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dump shows a plan, a line an image: its base, its steps with their ops and hooks, and where it
// copies from.
func dump(p *Plan) string {
	var b strings.Builder
	for _, img := range p.Images {
		fmt.Fprintf(&b, "%s on %s:", img, img.Base)
		for _, s := range img.Steps {
			fmt.Fprintf(&b, " %s(", s.Name())
			for _, h := range s.Pre {
				fmt.Fprintf(&b, "pre %s; ", h.Script)
			}
			for i, a := range s.Ops {
				if i > 0 {
					b.WriteString("; ")
				}
				b.WriteString(a.Op.String())
			}
			for _, h := range s.Post {
				fmt.Fprintf(&b, "; post %s", h.Script)
			}
			b.WriteString(")")
			if s.Executes() {
				b.WriteString("!")
			}
		}
		for _, f := range img.From {
			fmt.Fprintf(&b, " from %s", f)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		name, text, targets, tags, want string
	}{
		{"in any order, bases first", "c: {base: b, run: x}\nb: {base: a, copy: x /y}\na: {expand: r.tgz}\n", "", "",
			"a on empty: a(expand r.tgz)\nb on a: b(copy x /y)\nc on b: c(run x)!\n"},
		{"only what is needed", "a: {copy: x /y}\nb: {base: a}\nc: {base: a}\n", "c", "", "a on empty: a(copy x /y)\nc on a:\n"},
		{"target before tag", "a: {base: b}\nb: {}\n", "", "b", "b on empty:\na on b:\n"},
		{"tag", "a: {base: b-2026-11-23_1}\n", "", "b b-2026-11-23_1", "a on b-2026-11-23_1:\n"},
		{"other layout", "a: {base: 'oci:../other:dir:v1'}\n", "", "", "a on oci:../other:dir:v1:\n"},
		{"from", "a: {copy: {from: b, src: /x, dest: /y}}\nb: {copy: x /x}\n", "a", "", "b on empty: b(copy x /x)\na on empty: a(copy b:/x /y) from b\n"},
		{"actions in their order", "a: {remove: /r, run: x, copy: c /c, expand: e.tgz, install: i.deb, pre: p, post: q}\n", "", "",
			"a on empty: a(pre p; expand e.tgz; copy c /c; install i.deb; run x; remove /r; post q)!\n"},
		{"layers", "a: {pre: p, steps: [{copy: a /a}, {run: x, layer: true}, {copy: b /b, layer: true}, {remove: /c}], post: q}\n", "", "",
			"a on empty: a#1(pre p; copy a /a; run x)! a#2(copy b /b) a#3(remove /c; post q)!\n"},
		{"hooks alone", "a: {pre: p}\n", "", "", "a on empty: a(pre p; )!\n"},
		{"config alone", "a: {labels: {x: y}}\n", "", "", "a on empty:\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := New(parse(t, c.text), strings.Fields(c.targets), strings.Fields(c.tags))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, dump(p)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown base", "debian: {}\na: {base: debain}\n", `dir/genoci.yaml:2:11: target "a": base "debain" is neither a target of this file nor a tag of the layout
    a: {base: debain}
              ^ did you mean "debian"?`},
		{"image of a registry", "a: {base: 'debian:12'}\n", `dir/genoci.yaml:1:11: target "a": base "debian:12" is neither a target of this file nor a tag of the layout
    a: {base: 'debian:12'}
              ^ an image of a registry is copied first: skopeo copy docker://debian:12 oci:images:debian-12; its base is then oci:images:debian-12`},
		{"ring", "a: {base: b}\nb: {base: c}\nc: {copy: {from: a, src: /x, dest: /y}}\n", `dir/genoci.yaml:3:11: target "c": circular dependency between targets: a needs b needs c needs a
    c: {copy: {from: a, src: /x, dest: /y}}
              ^`},
		{"itself", "a: {base: a}\n", `dir/genoci.yaml:1:11: target "a": it depends on itself
    a: {base: a}
              ^`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(parse(t, c.text), nil, []string{"some-tag"})
			var errs spec.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error %T %v", err, err)
			}
			if d := cmp.Diff(c.want, err.Error()); d != "" {
				t.Error(d)
			}
		})
	}
}

// All errors come at once, in the order of the file; what stands on a broken target adds none.
func TestAllErrors(t *testing.T) {
	_, err := New(parse(t, "z: {base: y}\ny: {base: none1}\nx: {base: none2}\nw: {base: w}\n"), nil, nil)
	var errs spec.Errors
	if !errors.As(err, &errs) || len(errs) != 3 || errs[0].Target != "y" || errs[1].Target != "x" || errs[2].Target != "w" {
		t.Errorf("errors:\n%v", err)
	}
}

func TestLocalName(t *testing.T) {
	for name, want := range map[string]string{
		"alpine": "oci:images:alpine", "debian:12": "oci:images:debian-12", "localhost:5000/a/b:v1": "oci:images:b-v1",
		"ghcr.io/x/go@sha256:" + strings.Repeat("a", 64): "oci:images:go",
		"go:1.22@sha256:" + strings.Repeat("a", 64):      "oci:images:go-1.22",
		"Web": "", "web:": "", "a/": "",
	} {
		if got := localName(name); got != want {
			t.Errorf("localName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestUnknownTarget(t *testing.T) {
	_, err := New(parse(t, "debian: {}\n"), []string{"debain"}, nil)
	if err == nil || err.Error() != `no target "debain" in dir/genoci.yaml; did you mean "debian"?` {
		t.Errorf("error %v", err)
	}
}
