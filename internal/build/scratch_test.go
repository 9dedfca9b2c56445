package build

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
)

// scratch returns the paths of the layers that no tag needed.
func (w *work) scratch() []string {
	w.t.Helper()
	return check(filepath.Glob(filepath.Join(w.layout.Dir(), "blobs/.genoci-layer-*")))(w.t)
}

// counting makes the next builds count the layers that they compress.
func (w *work) counting() *atomic.Int64 {
	var n atomic.Int64
	w.compressing(func() error { n.Add(1); return nil })
	return &n
}

const toolSpec = "tool: {build_only: true, steps: [{copy: {content: A, dest: /a}, layer: true}, {copy: {content: B, dest: /b}}]}\n"

// A layer is compressed when a tag needs it, once, and not before; images are the same as if it had
// always been.
func TestScratchLayers(t *testing.T) {
	const (
		use  = toolSpec + "use: {copy: {from: tool, src: '/*', dest: /d/}}\n"
		base = toolSpec + "on: {base: tool, copy: {content: C, dest: /c}}\n"
		two  = toolSpec + "on: {base: tool, copy: {content: C, dest: /c}}\nsame: {base: tool, copy: {content: D, dest: /d}}\n"
	)
	w := newWork(t, nil)
	compressed := w.counting()
	step := func(name, text, outcomes string, n int64) *Result {
		t.Helper()
		compressed.Store(0)
		res := w.build(text)
		if got := w.outcomes(); got != outcomes || compressed.Load() != n {
			t.Errorf("%s: %s, %d layers compressed; want %s, %d", name, got, compressed.Load(), outcomes, n)
		}
		if p := w.verify(); len(p) > 0 {
			t.Errorf("%s: %v", name, p)
		}
		return res
	}
	same := func(text, tag string) {
		t.Helper()
		other := newWork(t, nil)
		other.build(strings.ReplaceAll(text, "build_only: true, ", ""))
		if got, want := w.image(tag).Descriptor.Digest, other.image(tag).Descriptor.Digest; got != want {
			t.Errorf("%s is %s, with compressed layers %s", tag, got, want)
		}
	}

	res := step("from", use, "tool#1 compose, tool#2 compose, use compose", 1)
	if i := res.Images[0]; i.Target != "tool" || i.Digest != "" || i.Added == 0 || i.Layers != 2 || len(w.scratch()) != 2 {
		t.Errorf("%+v, %d scratch layers", i, len(w.scratch()))
	}
	same(use, "use")
	step("from again", use, "tool#1 cached, tool#2 cached, use cached", 0)
	res = step("as a base", two, "on compose, same compose, tool#1 cached, tool#2 cached", 4)
	if i := res.Images[0]; i.Digest == "" || i.Added == 0 || !i.Cached {
		t.Errorf("as a base: %+v", i)
	}
	same(two, "on")
	same(two, "same")
	step("as a base again", base, "on cached, tool#1 cached, tool#2 cached", 0)
	step("what has blobs needs no scratch layer", use, "tool#1 cached, tool#2 cached, use cached", 0)

	// What no tag needs goes.
	if err := w.layout.Close(); err != nil {
		t.Fatal(err)
	}
	w = newWork(t, nil)
	compressed = w.counting()
	w.build(use)
	w.reopen()
	got := check(w.layout.Collect(t.Context(), nil))(t)
	err := got.Remove(t.Context())
	if got.Close(); err != nil || len(got.Temps) != 2 || len(w.scratch()) != 0 {
		t.Errorf("gc: %+v, %v, left %v", got, err, w.scratch())
	}
	step("after gc", use, "tool#1 cached, tool#2 cached, use cached", 0)

	// A tagged target and one without a tag have a step in common.
	for range 10 {
		w = newWork(t, nil)
		compressed = w.counting()
		w.build(toolSpec + strings.NewReplacer("tool:", "tag:", "build_only: true, ", "").Replace(toolSpec) + "use: {copy: {from: tool, src: /a, dest: /}}\n")
		if n := compressed.Load(); n != 3 {
			t.Errorf("%d layers compressed with a shared step", n)
		}
		if len(w.image("tag").Manifest.Layers) != 2 {
			t.Errorf("tag: %+v", w.image("tag").Manifest)
		}
	}
}

// gc removes what no tag reaches.
func (w *work) gc() {
	w.t.Helper()
	w.reopen()
	c := check(w.layout.Collect(w.t.Context(), nil))(w.t)
	defer c.Close()
	if err := c.Remove(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// buildAsForeseen builds a spec, and makes sure that Forecast and Explain tell what becomes of each
// step.
func (w *work) buildAsForeseen(text string) {
	w.t.Helper()
	b, p := w.builder(text)
	foreseen, _, err := b.Forecast(w.t.Context(), p)
	if err != nil {
		w.t.Fatal(err)
	}
	explained := check(b.Explain(w.t.Context(), p))(w.t)
	check(b.Build(w.t.Context(), p))(w.t)
	for s, o := range foreseen {
		if e := w.event(StepDone, s.Name()); e.Outcome != o.Outcome || explained[s].Prospect != o || (o.Outcome == Cached) != (explained[s].Reasons == nil) {
			w.t.Errorf("%s is %s, foreseen %s, explained %+v", s.Name(), e.Outcome, o.Outcome, explained[s])
		}
	}
	if p := w.verify(); len(p) > 0 {
		w.t.Error(p)
	}
}

// event returns the first event of the kind about a step.
func (w *work) event(kind Kind, step string) Event {
	for _, e := range w.events {
		if e.Kind == kind && e.Step == step {
			return e
		}
	}
	return Event{}
}

// What gc took of images without tags is made again where a step is carried out that needs it, and
// not before.
func TestSpareImages(t *testing.T) {
	const (
		stages = "lib: {build_only: true, copy: {content: L, dest: /l}}\n" +
			"a: {build_only: true, base: lib, steps: [{copy: {content: A, dest: /a}, layer: true}, {copy: {content: B, dest: /b}}]}\n" +
			"b: {build_only: true, steps: [{copy: {from: a, src: /a, dest: /c}}]}\n" +
			"zip: {build_only: true, expand: z}\n" +
			"alone: {build_only: true, copy: {content: alone, dest: /x}}\n"
		web   = "web: {steps: [{copy: {from: a, src: /b, dest: /}, layer: true}, {copy: {from: zip, src: /z, dest: /}, layer: true}, {copy: {content: W, dest: /w}}]}\n"
		other = "other: {copy: {from: b, src: /c, dest: /}}\n"
	)
	all := func(but string) string {
		var s []string
		for _, step := range []string{"a#1", "a#2", "alone", "b", "lib", "other", "web#1", "web#2", "web#3", "zip"} {
			how := "cached"
			if slices.Contains(strings.Fields(but), step) {
				how = "compose"
			}
			s = append(s, step+" "+how)
		}
		return strings.Join(s, ", ")
	}
	files := map[string]string{"z": archive("z=Z")}
	for name, c := range map[string]struct{ text, made string }{
		"nothing changed":            {stages + web + other, ""},
		"the last step changed":      {stages + strings.ReplaceAll(web, "W", "V") + other, "web#3"},
		"a step that copies changed": {stages + strings.ReplaceAll(web, "/z, dest: /", "/z, dest: /y") + other, "zip web#2 web#3"},
		"all of one changed":         {stages + strings.ReplaceAll(web, "/b, dest: /", "/b, dest: /y") + other, "lib a#1 a#2 zip web#1 web#2 web#3"},
		"the other changed":          {stages + web + strings.ReplaceAll(other, "dest: /", "dest: /y"), "lib a#1 a#2 b other"},
		"a stage changed":            {strings.ReplaceAll(stages, "B", "C") + web + other, "lib a#1 a#2 b web#1 web#2 web#3 zip other"},
		"a stage alone changed":      {strings.ReplaceAll(stages, "alone,", "Alone,") + web + other, "alone"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t, files)
			w.build(stages + web + other)
			w.gc()
			if len(w.scratch()) != 0 {
				t.Errorf("left %v", w.scratch())
			}
			if name == "a stage changed" { // what stands on it may turn out to be the same
				w.build(c.text)
			} else {
				w.buildAsForeseen(c.text)
				if got := w.outcomes(); got != all(c.made) {
					t.Errorf("got  %s\nwant %s", got, all(c.made))
				}
			}
			again := newWork(t, files)
			again.build(c.text)
			for _, tag := range []string{"web", "other"} {
				if got, want := w.image(tag).Descriptor.Digest, again.image(tag).Descriptor.Digest; got != want {
					t.Errorf("%s is %s, from nothing %s", tag, got, want)
				}
			}
			w.gc()
			w.buildAsForeseen(c.text)
			if got := w.outcomes(); got != all("") {
				t.Errorf("again: %s", got)
			}
		})
	}

	// A layer that is needed by a tag is no longer spare.
	w := newWork(t, files)
	w.build(stages + web + other)
	w.gc()
	w.buildAsForeseen(stages + web + other + "on: {base: alone, copy: {content: x, dest: /y}}\n")
	if e := w.event(StepDone, "alone"); e.Outcome != Compose {
		t.Errorf("alone: %s", e.Outcome)
	}
}

// A stage that gives something else each time is the same for all that copy from it in one build,
// also where it was foreseen that only some do so again.
func TestSpareChanges(t *testing.T) {
	const text = rootSpec +
		"lot: {base: root, build_only: true, run: 'busybox cat /proc/sys/kernel/random/uuid >/u'}\n" +
		"more: {base: root, build_only: true, run: 'busybox cat /proc/sys/kernel/random/uuid >/m'}\n" +
		"one: {base: root, copy: [{from: lot, src: /u, dest: /}, {from: more, src: /m, dest: /}]}\n"
	two := "two: {base: root, copy: {from: lot, src: /u, dest: /}}\n"
	forDrivers(t, nil, func(t *testing.T, w *work) {
		w.build(text + two)
		before := w.list("one", 1)
		w.gc()
		w.build(text + two)
		if got := w.list("one", 1); got != before {
			t.Errorf("nothing changed, and one is\n%s\nit was\n%s", got, before)
		}
		w.build(text + strings.ReplaceAll(two, "dest: /", "dest: /v"))
		u := func(tag, path string) string {
			for line := range strings.Lines(w.list(tag, 1)) {
				if strings.HasPrefix(line, path+" ") {
					return line[strings.LastIndex(line, " "):]
				}
			}
			t.Fatalf("%s has no %s:\n%s", tag, path, w.list(tag, 1))
			return ""
		}
		if a, b := u("one", "u"), u("two", "v"); a != b {
			t.Errorf("one has %s, two has %s", a, b)
		}
		if p := w.verify(); len(p) > 0 {
			t.Error(p)
		}
	})
}

// reopen ends the use of the layout.
func (w *work) reopen() {
	w.t.Helper()
	dir := w.layout.Dir()
	if err := w.layout.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.layout = check(layout.Open(dir))(w.t)
}

// A scratch layer that is damaged is made again if the machine was started since; else reading it
// is an error.
func TestScratchDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		text, outcomes, err string
		mtime               time.Time
		damage              func(b []byte) []byte
	}{
		"before the start": {
			text: "use: {copy: {from: tool, src: /b, dest: /x}}\n", outcomes: "tool#1 cached, tool#2 compose, use compose", mtime: time.Unix(1e9, 0),
			damage: func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("B"), []byte("X")) },
		},
		"short": {
			text: "use: {copy: {from: tool, src: /b, dest: /x}}\n", outcomes: "tool#1 compose, tool#2 compose, use compose", mtime: time.Now(),
			damage: func(b []byte) []byte { return b[:len(b)-512] },
		},
		"sound, from before the start": {
			text: "use: {copy: {from: tool, src: /b, dest: /x}}\n", outcomes: "tool#1 cached, tool#2 cached, use compose", mtime: time.Unix(1e9, 0),
			damage: func(b []byte) []byte { return b },
		},
		"copied from": {
			text: "use: {copy: {from: tool, src: /b, dest: /x}}\n", err: "b: the content is not what the index of its layer says", mtime: time.Now(),
			damage: func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("B"), []byte("X")) },
		},
		"compressed": {
			text: "use: {base: tool, copy: {content: x, dest: /x}}\n", err: "content has the digest", mtime: time.Now(),
			damage: func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("B"), []byte("X")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t, nil)
			w.build(toolSpec)
			for _, path := range w.scratch() {
				content := c.damage(check(os.ReadFile(path))(t))
				if err := os.WriteFile(path, content, 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(path, c.mtime, c.mtime); err != nil {
					t.Fatal(err)
				}
			}
			_, err := w.try(toolSpec + c.text)
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want %s", err, c.err)
			case c.err == "" && (err != nil || w.outcomes() != c.outcomes):
				t.Errorf("%s, %v, want %s", w.outcomes(), err, c.outcomes)
			}
			if p := w.verify(); len(p) > 0 {
				t.Error(p)
			}
		})
	}
}

// An archive becomes the same layer whether a tag needed it from the start or only later.
func TestScratchArchives(t *testing.T) {
	zipped := archive("d/", "d/f=F")
	plain := string(check(io.ReadAll(check(gzip.NewReader(strings.NewReader(zipped)))(t)))(t))
	zstd := check(layer.CompressionByName("zstd"))(t)
	for name, content := range map[string]string{"gzip": zipped, "none": plain} {
		for _, recompress := range []bool{false, true} {
			files := map[string]string{"a": content}
			change := func(recompress bool) func(*Builder) {
				return func(b *Builder) {
					if recompress {
						b.Compression, b.Recompress = zstd, true
					}
				}
			}
			w := newWork(t, files)
			w.change = change(recompress)
			w.build("tool: {build_only: true, expand: a}\nuse: {copy: {from: tool, src: /d, dest: /}}\n")
			if got, want := len(w.scratch()), map[string]int{"none": 1}[name]; got != want {
				t.Errorf("%s, recompress %v: %d scratch layers, want %d", name, recompress, got, want)
			}
			for _, later := range []bool{recompress, !recompress} {
				w.change = change(later)
				w.build("tool: {build_only: true, expand: a}\non: {base: tool, copy: {content: x, dest: /x}}\n")
				other := newWork(t, files)
				other.change = change(later)
				other.build("tool: {expand: a}\non: {base: tool, copy: {content: x, dest: /x}}\n")
				if got, want := w.image("on").Descriptor.Digest, other.image("on").Descriptor.Digest; got != want {
					t.Errorf("%s, recompress %v, then %v: %s, want %s", name, recompress, later, got, want)
				}
				if p := w.verify(); len(p) > 0 {
					t.Error(p)
				}
			}
		}
	}
}

// Steps that run something: what is copied from their scratch layers, and what stands on them.
func TestScratchExecuted(t *testing.T) {
	const text = rootSpec + "builder: {base: root, build_only: true, run: 'busybox mkdir /out; busybox cp /bin/busybox /out/a; busybox ln /out/a /out/b; busybox rm /hard1'}\n"
	const use = "use: {copy: {from: builder, src: /out, dest: /x/}}\n"
	const on = "on: {base: builder, run: 'test -e /out/a; ! test -e /hard1; busybox touch /on'}\n"
	forDrivers(t, nil, func(t *testing.T, w *work) {
		compressed := w.counting()
		change := w.change
		w.change = func(b *Builder) { change(b); b.Rootless = sandbox.Rootless() }
		w.build(text + use)
		if len(w.scratch()) != 1 || compressed.Load() != 1 {
			t.Errorf("%d scratch layers, %d compressed", len(w.scratch()), compressed.Load())
		}
		// The tree is made again from the scratch layer.
		drv := check(w.driver())(t)
		for name := range slices.Values(check(drv.Names(t.Context()))(t)) {
			if err := drv.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		w.build(text + on)
		if got := w.outcomes(); got != "builder cached, on execute, root cached" {
			t.Error(got)
		}
		digests := []string{w.image("use").Descriptor.Digest.String(), w.image("on").Descriptor.Digest.String()}
		w.change = func(b *Builder) { change(b); b.Rootless, b.NoCache = sandbox.Rootless(), true }
		w.build(strings.ReplaceAll(text, "build_only: true, ", "") + use + on)
		if again := []string{w.image("use").Descriptor.Digest.String(), w.image("on").Descriptor.Digest.String()}; !slices.Equal(again, digests) {
			t.Errorf("%v, with compressed layers %v", digests, again)
		}
		if p := w.verify(); len(p) > 0 {
			t.Error(p)
		}
	})
}
