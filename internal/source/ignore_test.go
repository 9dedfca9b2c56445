package source

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseIgnored(t *testing.T) {
	for _, c := range []struct {
		text    string
		ignores string // of these: what is ignored
		keeps   string
	}{
		{"# comment\n\n  *.log  \n", "a.log", "d/a.log #x"},
		{"\ufeff# comment\n/a\nb/\r\n./c\n", "a a/x b b/x c", "d/a"},
		{"**/*.log", "a.log d/a.log d/e/a.log", "a.logs"},
		{"*\n!src\n!a.txt", "x x/y b.txt", "src src/x a.txt"},
		{"**\n!src\nsrc/*.o", "x x/y src/a.o", "src src/x"},
		{"d\n!d/keep\nd/keep/not", "d d/x d/keep/not", "d/keep d/keep/x"},
		{"d/**", "d/x d/e/f", "d"},
		{"d/*", "d/x d/e/f", "d"},
		{"**.go", "a.go d/a.go", "a.gox"},
		{"foo**", "foo foox foox/y foo/y", "fo d/foo"},
		{"foo**/bar", "foobar foo/bar foox/bar foo/x/bar", "fooxbar bar"},
		{"a**b", "ab a/b ax/b a/x/b", "axb"},
		{"**/d", "d x/d x/d/y", "xd"},
		{"d/**/x", "d/x d/e/x d/e/f/x", "d x"},
		{"[a-c]?", "ax bx", "dx a"},
		{`\#x`, "#x", "x"},
		{"! a\na\n! a", "", "a a/b"},
		{"..\n../x\n.\n/", "", "x a"},
		{"a/../b", "b", "a"},
	} {
		g, err := parseIgnored("f", c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		for _, p := range strings.Fields(c.ignores) {
			if !g.Match(p) {
				t.Errorf("%q does not ignore %s", c.text, p)
			}
		}
		for _, p := range strings.Fields(c.keeps) {
			if g.Match(p) {
				t.Errorf("%q ignores %s", c.text, p)
			}
		}
	}
	for text, want := range map[string]string{
		"a\n\n[b\n": `.dockerignore:3: invalid pattern "[b": a [ is not closed, or the \ at the end escapes nothing`,
		"a\n!\n":    ".dockerignore:2: a pattern must follow \"!\"",
	} {
		if _, err := parseIgnored(".dockerignore", text); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestIgnored(t *testing.T) {
	files := map[string]string{
		"a.log": "", "a.txt": "", "secret": "", "d/a.log": "", "d/b": "", "d/keep.log": "", "out/x": "", "out/sub/keep": "", "mods/m/x": "", "mods/y": "",
	}
	const rules = "**/*.log\n!**/keep.log\nsecret\nout\n!out/sub/keep\nmods\n.*ignore\n"
	for _, c := range []struct{ pattern, want, warned string }{
		{".", "a.txt d d/b d/keep.log out out/sub out/sub/keep", ""},
		{"d", "b keep.log", ""},
		{"*", "a.txt: d: b keep.log out: sub sub/keep", ""},
		{"*.log", "", "everything that matches is excluded"},
		{"**/keep*", "keep.log: keep:", ""},
		{"secret", "secret:", ""},
		{"a.log", "a.log:", ""},
		{"mods", "m m/x y", ""},
		{"out", "sub sub/keep x", ""},
		{"mods/m", "x", ""},
	} {
		s := newSource(t, files)
		name := ".dockerignore"
		if c.pattern == "." {
			if err := os.WriteFile(filepath.Join(s.Dir, name), []byte("*"), 0o644); err != nil {
				t.Fatal(err)
			}
			name = ".genociignore" // which counts then
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(rules), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(s.Dir, "secret"), 0); err != nil {
			t.Fatal(err)
		}
		ms, err := s.List(context.Background(), c.pattern, nil, func(text string) { t.Errorf("%s: %s", c.pattern, text) })
		if err != nil && (c.warned == "" || !strings.Contains(err.Error(), c.warned)) {
			t.Errorf("%s: %v", c.pattern, err)
		}
		var got []string
		for _, m := range ms {
			if IsGlob(c.pattern) || len(m.Nodes) == 1 {
				got = append(got, m.Name+":")
			}
			for _, n := range m.Nodes[1:] {
				got = append(got, n.Rel)
			}
		}
		if d := cmp.Diff(c.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s: %s", c.pattern, d)
		}
	}
	s := newSource(t, map[string]string{"d/x": "", ".dockerignore": "d/*"})
	var warned string
	if _, err := s.List(context.Background(), "d", nil, func(text string) { warned = text }); err != nil || !strings.HasSuffix(warned, "/d: .dockerignore leaves nothing of it") {
		t.Errorf("nothing left: %q, %v", warned, err)
	}
}
