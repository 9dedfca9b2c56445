package build

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/stepkey"
	"genoci/test/strict"
)

// pretend lets the cache know all steps of a spec, as if each had been carried out and had changed
// nothing.
func (w *work) pretend(text string) {
	w.t.Helper()
	b, p := w.builder(text)
	err := b.init(p)
	nodes := newNodes(p)
	for _, img := range p.Images {
		n := nodes[img]
		if err == nil {
			err = b.begin(w.t.Context(), n)
		}
		for _, s := range img.Steps {
			st := b.step(n, s)
			if err == nil {
				_, err = st.resolve(w.t.Context())
			}
			if err == nil {
				err = st.complete(w.t.Context())
			}
			if err == nil {
				err = st.computeKey()
			}
			if err == nil {
				err = st.remember(nil)
			}
		}
		n.early = image.Extend(n.base.img, extension(n))
	}
	if err == nil {
		err = b.saveLast(p)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// explain returns the outcome of each step of a spec, with the reasons below it.
func (w *work) explain(text string) string {
	w.t.Helper()
	b, p := w.builder(text)
	all := check(b.Explain(w.t.Context(), p))(w.t)
	var out strings.Builder
	for _, img := range p.Images {
		for _, s := range img.Steps {
			fmt.Fprintf(&out, "%s %s\n", s.Name(), all[s].Prospect.Outcome)
			for _, r := range all[s].Reasons {
				fmt.Fprintf(&out, "  [%s] %s\n", r.Kind(), r)
				for _, line := range r.Lines {
					fmt.Fprintf(&out, "    %s\n", line)
				}
			}
		}
	}
	return out.String()
}

// What a copy takes from the host, one thing changed at a time.
func TestExplainCopy(t *testing.T) {
	const text = "a:\n  base: empty\n  copy: src /src\n"
	for name, c := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"nothing": {func(string) error { return nil }, ""},
		"content": {func(dir string) error { return os.WriteFile(dir+"/main.c", []byte("MAIN"), 0o644) }, "src/main.c changed (content)"},
		"size":    {func(dir string) error { return os.WriteFile(dir+"/main.c", []byte("main()"), 0o644) }, "src/main.c changed (size 4 -> 6)"},
		"mode":    {func(dir string) error { return os.Chmod(dir+"/main.c", 0o755) }, "src/main.c changed (mode 644 -> 755)"},
		"both": {func(dir string) error {
			if err := os.WriteFile(dir+"/main.c", []byte("main()"), 0o644); err != nil {
				return err
			}
			return os.Chmod(dir+"/main.c", 0o700)
		}, "src/main.c changed (size 4 -> 6, mode 644 -> 700)"},
		"extended attributes": {func(dir string) error { return unix.Setxattr(dir+"/main.c", "user.note", []byte("new"), 0) },
			"src/main.c changed (extended attributes)"},
		"mode of a folder": {func(dir string) error { return os.Chmod(dir+"/lib", 0o700) }, "src/lib changed (mode 755 -> 700)"},
		"renamed":          {func(dir string) error { return os.Rename(dir+"/main.c", dir+"/lib/start.c") }, "renamed: src/main.c -> src/lib/start.c"},
		"added":            {func(dir string) error { return os.WriteFile(dir+"/new.c", []byte("new"), 0o644) }, "+ src/new.c"},
		"added folder": {func(dir string) error {
			if err := os.MkdirAll(dir+"/new/deep", 0o755); err != nil {
				return err
			}
			return os.WriteFile(dir+"/new/deep/x", []byte("x"), 0o644)
		}, "+ src/new/ and 2 more in it"},
		"removed":        {func(dir string) error { return os.Remove(dir + "/lib/two.c") }, "- src/lib/two.c"},
		"removed folder": {func(dir string) error { return os.RemoveAll(dir + "/lib") }, "- src/lib/ and 2 more in it"},
		"symlink": {func(dir string) error {
			if err := os.Remove(dir + "/link"); err != nil {
				return err
			}
			return os.Symlink("lib", dir+"/link")
		}, "src/link changed (link main.c -> lib)"},
		"type": {func(dir string) error {
			if err := os.Remove(dir + "/link"); err != nil {
				return err
			}
			return os.WriteFile(dir+"/link", []byte("x"), 0o644)
		}, "src/link changed (type symlink -> file)"},
		"hard link": {func(dir string) error {
			if err := os.Remove(dir + "/main.c"); err != nil {
				return err
			}
			return os.Link(dir+"/lib/one.c", dir+"/main.c")
		}, "src/main.c changed (type file -> hard link)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t, map[string]string{"src/main.c": "main", "src/lib/one.c": "one", "src/lib/two.c": "two"})
			dir := filepath.Join(w.dir, "src")
			if err := os.Symlink("main.c", dir+"/link"); err != nil {
				t.Fatal(err)
			}
			w.build(text)
			err := c.change(dir)
			if errors.Is(err, unix.ENOTSUP) {
				strict.Lack(t, "xattr", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := "a cached\n"
			if c.want != "" {
				want = "a compose\n  [input] copy src /src: " + c.want + "\n"
			}
			if d := cmp.Diff(want, w.explain(text)); d != "" {
				t.Error(d)
			}
		})
	}
}

// What the spec says, one thing changed at a time.
func TestExplainSpec(t *testing.T) {
	const before = `a:
  base: empty
  build_env: {TOKEN: s3cret-one, MODE: fast}
  steps:
    - copy: {content: "one\ntwo\n", dest: /etc/motd}
    - run: |
        set -e
        cd /src
        make
        make install
    - run: {script: build.sh, args: [all]}
    - install: {packages: [curl, vim]}
    - remove: [/tmp/a, /tmp/b]
    - copy: {src: f, dest: /f, chmod: "0644"}
`
	for name, c := range map[string]struct{ old, now, want string }{
		"a line":         {"make\n", "make -j4\n", "  [action] run set -e …: line 3 changed\n    - make\n    + make -j4\n"},
		"a new line":     {"cd /src\n", "cd /src\n        ./configure\n", "  [action] run set -e …: line 3 added\n    + ./configure\n"},
		"a line less":    {"        make install\n", "", "  [action] run set -e …: line 4 removed\n    - make install\n"},
		"several lines":  {"cd /src\n        make\n        make install\n", "cd /source\n        make\n        make check\n", "  [action] run set -e …: lines 2, 4 changed\n    - cd /src\n    + cd /source\n    - make install\n    + make check\n"},
		"an argument":    {"args: [all]", "args: [all, check]", "  [action] run build.sh all check: args changed\n    + check\n"},
		"content":        {`two\n`, `three\n`, "  [action] copy (content) /etc/motd: line 2 changed\n    - two\n    + three\n"},
		"packages":       {"curl, vim", "vim, wget", "  [action] install vim wget: packages changed\n    - curl\n    + wget\n"},
		"a mode":         {"0644", "0600", "  [action] copy f /f: chmod changed: 0644 -> 0600\n"},
		"a destination":  {"dest: /f", "dest: /g", "  [action] copy f /g: dest changed: /f -> /g\n"},
		"a path":         {"/tmp/b", "/tmp/c", "  [action] remove /tmp/a /tmp/c: paths changed\n    - /tmp/b\n    + /tmp/c\n"},
		"an action more": {"    - remove:", "    - run: echo new\n    - remove:", "  [action] run echo new: is new\n"},
		"an action less": {"    - install: {packages: [curl, vim]}\n", "", "  [action] install curl vim is no longer there\n"},
		"another source": {"{src: f, dest: /f, chmod: \"0644\"}", "{content: f, dest: /f, chmod: \"0644\"}", "  [action] copy (content) /f: what is copied comes from elsewhere\n"},
		"another action": {"    - install: {packages: [curl, vim]}\n", "    - copy: f /h\n", "  [action] copy f /h: is new\n  [action] install curl vim is no longer there\n"},
		"a secret":       {"s3cret-one", "s3cret-two", "  [environment] environment TOKEN changed\n"},
		"variables":      {", MODE: fast", ", NEW: x", "  [environment] environment NEW added\n  [environment] environment MODE removed\n"},
		"the epoch":      {"  base: empty\n", "  base: empty\n  created: 2020-01-01T00:00:00Z\n", "  [environment] environment SOURCE_DATE_EPOCH changed\n  [setting] epoch changed: 315532800 -> 1577836800\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t, map[string]string{"f": "f", "build.sh": "#!/bin/sh\necho one\n"})
			w.pretend(before)
			if got := w.explain(before); got != "a cached\n" {
				t.Fatalf("unchanged: %s", got)
			}
			now := strings.Replace(before, c.old, c.now, 1)
			if now == before {
				t.Fatal("the test changes nothing")
			}
			if d := cmp.Diff("a execute\n"+c.want, w.explain(now)); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("a script of the host", func(t *testing.T) {
		w := newWork(t, map[string]string{"f": "f", "build.sh": "#!/bin/sh\necho one\n"})
		w.pretend(before)
		w.write("build.sh", "#!/bin/sh\necho two\n")
		want := "a execute\n  [input] run build.sh all: build.sh: line 2 changed\n    - echo one\n    + echo two\n"
		if d := cmp.Diff(want, w.explain(before)); d != "" {
			t.Error(d)
		}
	})
}

// Values of variables stand neither in what is told nor anywhere in the cache.
func TestExplainKeepsSecrets(t *testing.T) {
	w := newWork(t, nil)
	const text = "a:\n  base: empty\n  build_env: {TOKEN: s3cret-one}\n  run: {script: echo x, env: {KEY: s3cret-two}}\n"
	w.pretend(text)
	got := w.explain(strings.ReplaceAll(text, "s3cret", "t0ken"))
	want := "a execute\n  [environment] run echo x: environment KEY changed\n  [environment] environment TOKEN changed\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	dir := check(w.cache.Dir("."))(t)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if strings.Contains(string(b), "s3cret") {
			t.Errorf("%s holds a secret", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A step is told from what it stands on, and what stands on it from what is known without it.
func TestExplainBases(t *testing.T) {
	w := newWork(t, map[string]string{"one": "1", "two": "2"})
	const text = `base:
  base: empty
  copy: one /one
mid:
  base: base
  steps:
    - copy: two /two
      layer: true
    - remove: /one
top:
  base: empty
  copy: {from: base, src: /one, dest: /three}
`
	if d := cmp.Diff(`base compose
  [new] never built before
mid#1 compose
  [new] never built before
mid#2 compose
  [new] never built before
top compose
  [new] never built before
`, w.explain(text)); d != "" {
		t.Error(d)
	}
	w.build(text)
	if d := cmp.Diff("base cached\nmid#1 cached\nmid#2 cached\ntop cached\n", w.explain(text)); d != "" {
		t.Error(d)
	}
	w.write("one", "one")
	w.write("two", "two")
	if d := cmp.Diff(`base compose
  [input] copy one /one: one changed (size 1 -> 3)
mid#1 compose
  [input] copy two /two: two changed (size 1 -> 3)
  [base] base "base" is not cached (see its own reasons)
mid#2 compose
  [base] the step before it is not cached (see its own reasons)
top compose
  [from] copy base:/one /three: the image that it copies from is not cached (see its own reasons)
`, w.explain(text)); d != "" {
		t.Error(d)
	}
	w.build(text, "base")
	if d := cmp.Diff(`base cached
mid#1 compose
  [input] copy two /two: two changed (size 1 -> 3)
  [base] base "base" changed
mid#2 compose
  [base] the step before it is not cached (see its own reasons)
top compose
  [from] copy base:/one /three: the image that it copies from changed
`, w.explain(text)); d != "" {
		t.Error(d)
	}
	// A base that is changed back is cached, and what stands on it too.
	w.write("one", "1")
	w.write("two", "2")
	if d := cmp.Diff("base cached\nmid#1 cached\nmid#2 cached\ntop cached\n", w.explain(text)); d != "" {
		t.Error(d)
	}
}

// What is compared is the last build, also where that found the step in the cache.
func TestExplainComparesWithTheLastBuild(t *testing.T) {
	w := newWork(t, map[string]string{"f": "1"})
	const text = "a:\n  base: empty\n  copy: f /f\n"
	w.build(text)
	w.write("f", "22")
	w.build(text)
	w.write("f", "1")
	w.build(text)
	w.write("f", "333")
	if d := cmp.Diff("a compose\n  [input] copy f /f: f changed (size 1 -> 3)\n", w.explain(text)); d != "" {
		t.Error(d)
	}
}

// What is lost is told as lost.
func TestExplainLosses(t *testing.T) {
	const text = "a:\n  base: empty\n  copy: f /f\n"
	for name, c := range map[string]struct {
		lose func(w *work)
		want string
	}{
		"the blob": {func(w *work) {
			desc := w.image("a").Manifest.Layers[0]
			if err := os.Remove(filepath.Join(w.layout.Dir(), "blobs/sha256", desc.Digest.Encoded())); err != nil {
				w.t.Fatal(err)
			}
		}, "[lost] the layer's blob is gone from the layout"},
		"the entry": {func(w *work) { w.dropCache("steps") }, "[lost] the cache entry is gone"},
		"the entry, and a change": {func(w *work) {
			w.dropCache("steps")
			w.write("f", "2")
		}, "[lost] the cache entry of the last build is gone"},
		"the list of files": {func(w *work) {
			w.dropCache("nodes")
			w.write("f", "2")
		}, "[input] copy f /f: files changed; what they were is no longer in the cache"},
		"everything": {func(w *work) {
			for _, kind := range []string{"steps", "nodes", "last"} {
				w.dropCache(kind)
			}
		}, "[new] never built before"},
		"compression": {func(w *work) {
			w.change = func(b *Builder) { b.Compression, b.Recompress = check(layer.CompressionByName("zstd"))(w.t), true }
		}, "[compression] compression changed: " + layer.Compressions[0].ID + " -> " + check(layer.CompressionByName("zstd"))(t).ID},
		"no cache": {func(w *work) { w.change = func(b *Builder) { b.NoCache = true } }, "[no-cache] --no-cache carries out every step"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t, map[string]string{"f": "1"})
			w.build(text)
			c.lose(w)
			if d := cmp.Diff("a compose\n  "+c.want+"\n", w.explain(text)); d != "" {
				t.Error(d)
			}
		})
	}
}

// A file of last keys that is damaged is as none.
func TestLastDamaged(t *testing.T) {
	w := newWork(t, nil)
	w.build("t: {copy: {content: a, dest: /f}}\n")
	last := check(filepath.Glob(filepath.Join(w.cache.Root(), cache.LastDir, "*")))(t)
	if len(last) != 1 {
		t.Fatalf("files %v", last)
	}
	if err := os.WriteFile(last[0], []byte(strings.Repeat("0", 64)+" t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.build("t: {copy: {content: b, dest: /f}}\n")
	if b := check(os.ReadFile(last[0]))(t); !strings.HasSuffix(string(b), " t#1\n") {
		t.Errorf("the file has %q", b)
	}
}

func (w *work) dropCache(kind string) {
	w.t.Helper()
	if err := os.RemoveAll(check(w.cache.Dir(kind))(w.t)); err != nil {
		w.t.Fatal(err)
	}
}

func TestExplainHooks(t *testing.T) {
	w := newWork(t, nil)
	if d := cmp.Diff("a execute\n  [hooks] hooks are never cached\n", w.explain("a:\n  base: empty\n  pre: 'true'\n")); d != "" {
		t.Error(d)
	}
}

// A build says why before it carries out a step, if it is to.
func TestWhy(t *testing.T) {
	w := newWork(t, map[string]string{"d/f": "1", "d/g": "1"})
	const text = "a:\n  base: empty\n  copy: d /\nb:\n  base: a\n  copy: {content: x, dest: /x}\n"
	why := func() string {
		var all []string
		for _, e := range w.events {
			if e.Kind == StepStarted {
				all = append(all, e.Step+": "+stepkey.InALine(e.Why))
			}
		}
		return strings.Join(all, "\n")
	}
	w.build(text)
	if d := cmp.Diff("a: \nb: ", why()); d != "" {
		t.Error(d)
	}
	w.change = func(b *Builder) { b.Why, b.Jobs = true, 1 }
	w.write("d/f", "22")
	w.write("d/g", "333")
	w.build(text)
	if d := cmp.Diff("a: copy d /: d/f changed (size 1 -> 2), and 1 more\nb: base \"a\" changed", why()); d != "" {
		t.Error(d)
	}
	w.build(strings.Replace(text, "content: x", "content: y", 1))
	if d := cmp.Diff("b: copy (content) /x: line 1 changed: - x / + y", why()); d != "" {
		t.Error(d)
	}
	w.build(text)
	if d := cmp.Diff("", why()); d != "" {
		t.Error(d)
	}
}

// A build that changed nothing writes nothing into the cache.
func TestNothingChangedWritesNothing(t *testing.T) {
	w := newWork(t, map[string]string{"d/f": "1"})
	const text = "a:\n  base: empty\n  copy: d /\n"
	list := func() map[string]string {
		files := map[string]string{}
		dir := check(w.cache.Dir("."))(t)
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			files[p] = fmt.Sprint(fi.ModTime(), fi.Size())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	w.build(text)
	w.build(text)
	before := list()
	w.build(text)
	if d := cmp.Diff(before, list()); d != "" {
		t.Error(d)
	}
}
