package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"genoci/internal/layer"
	"genoci/internal/plan"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/vfs"
	"genoci/internal/spec"
)

// failedTrees returns the names of the trees that failed steps left, sorted.
func (w *work) failedTrees() []string {
	w.t.Helper()
	drv := check(w.driver())(w.t)
	var names []string
	for _, k := range check(drv.Kept(w.t.Context()))(w.t) {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	return names
}

func (w *work) wantFailedTrees(want ...string) {
	w.t.Helper()
	if got := w.failedTrees(); !slices.Equal(got, want) {
		w.t.Errorf("kept trees %q, want %q", got, want)
	}
}

// openFailed opens what the failed step of a target left until the end of the test, with the
// content of one of its files, "" where it is not there.
func (w *work) openFailed(target, file string) (content string, note *FailedNote) {
	w.t.Helper()
	tree, note, err := OpenFailed(w.t.Context(), check(w.driver())(w.t), target)
	if err != nil {
		w.t.Fatal(err)
	}
	defer tree.Close()
	data, err := os.ReadFile(filepath.Join(tree.Dir(), file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(data), note
}

// What a failed step left is kept, with all that a command in it needs, until the target is built.
func TestFailedKept(t *testing.T) {
	t.Setenv("http_proxy", "http://me:secret@proxy.example")
	forDrivers(t, map[string]string{"file": "F"}, func(t *testing.T, w *work) {
		const good = rootSpec + "bad:\n  base: root\n  environment: {A: '1'}\n  build_env: {B: '2'}\n  steps:\n" +
			"    - {run: echo one >/one, layer: true}\n    - copy: file /data/\n"
		const failing = "    - run: {script: echo two >/two; exit 7, user: app, workdir: /data, network: none, env: {C: '3'}}\n"
		_, err := w.try(good + "    - run: busybox chmod 777 /\n" + failing)
		var failure *StepError
		if !errors.As(err, &failure) || failure.Kept != "bad@failed" {
			t.Fatalf("error %+v", err)
		}
		w.wantFailedTrees("failed:bad")
		for file, want := range map[string]string{"one": "one\n", "two": "two\n", "data/file": "F", "data/a": "A", ".genoci/bin/sh": "", "proc/version": ""} {
			if got, _ := w.openFailed("bad", file); got != want {
				t.Errorf("%s: %q, want %q", file, got, want)
			}
		}
		_, n := w.openFailed("bad", "one")
		if n.Target != "bad" || n.Step != "bad#2" || n.Spec != filepath.Join(w.dir, "genoci.yaml") || n.Line != 10 || n.Exit != 7 ||
			n.Error != "exit status 7" || !strings.HasPrefix(n.Op, "run echo two") || n.Base != "root" || len(n.Layers) != 2 || n.Time.IsZero() {
			t.Errorf("note %+v", n)
		}
		s := n.Setting
		if s.User != "app" || s.Dir != "/data" || s.Network != "none" || !slices.Equal(s.Args, []string{"/bin/sh", "-e", "-c", "echo two >/two; exit 7"}) {
			t.Errorf("setting %+v", s)
		}
		want := []string{"PATH=" + sandbox.DefaultPath, "A=1", "SOURCE_DATE_EPOCH=315532800", "B=2", "C=3"}
		if !slices.Equal(s.Env, want) {
			t.Errorf("environment %q, want %q", s.Env, want)
		}

		// The newest only; and a spec of another name says nothing about it.
		if _, err := w.try(good + "    - run: echo newer >/two; exit 8\n"); err == nil {
			t.Error("no error")
		}
		w.wantFailedTrees("failed:bad")
		if got, _ := w.openFailed("bad", "two"); got != "newer\n" {
			t.Errorf("the newest has %q", got)
		}
		other := check(spec.Parse(filepath.Join(w.dir, "other.yaml"), []byte(rootSpec+"bad: {base: root, run: 'true'}\n"), spec.Options{}))(t)
		b, _ := w.builder(good)
		check(b.Build(t.Context(), check(plan.New(other, nil, nil))(t)))(t)
		w.wantFailedTrees("failed:bad")

		// While somebody looks into it, it stays.
		tree, _, err := OpenFailed(t.Context(), check(w.driver())(t), "bad")
		if err != nil {
			t.Fatal(err)
		}
		w.build(good + "    - run: echo good >/two\n")
		w.wantFailedTrees("failed:bad")
		if err := tree.Close(); err != nil {
			t.Fatal(err)
		}
		w.build(good + "    - run: echo better >/two\n")
		w.wantFailedTrees()
		if _, _, err := OpenFailed(t.Context(), check(w.driver())(t), "bad"); !errors.Is(err, snapshot.ErrNotExist) {
			t.Errorf("OpenFailed: %v", err)
		}
	})
}

// Whatever of a step that is executed fails, its tree is kept.
func TestFailedKeptOps(t *testing.T) {
	cases := []struct{ ops, file string }{
		{"run: 'echo 1 >/mark; no-such-command'", "mark"},
		{"pre: echo 1 >%ROOT%/mark; exit 1\n  run: 'true'", "mark"},
		{"run: echo 1 >/mark\n  post: exit 1", "mark"},
		{"steps: [{run: echo 1 >/mark}, {expand: noarchive}]", "mark"},
		{"steps: [{run: echo 1 >/mark}, {copy: {src: noarchive, dest: /data/a/b}}]", "mark"},
		{"steps: [{run: echo 1 >/mark}, {install: {packages: [none]}}]", "mark"},
	}
	forDrivers(t, map[string]string{"noarchive": "text"}, func(t *testing.T, w *work) {
		w.build(rootSpec)
		for i, c := range cases {
			name := "t" + string(rune('0'+i))
			_, err := w.try(rootSpec + name + ":\n  base: root\n  " + c.ops + "\n")
			var failure *StepError
			if !errors.As(err, &failure) || failure.Kept != name+"@failed" {
				t.Errorf("%s: error %+v", c.ops, err)
				continue
			}
			if got, _ := w.openFailed(name, c.file); got != "1\n" {
				t.Errorf("%s: %q", c.ops, got)
			}
		}
	})
}

// What another target's failure ends is not kept. (TestCancel: nor is what the user ends.)
func TestFailedNotKept(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(pipe, 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := w.try(rootSpec + "bad: {base: root, pre: 'read x <" + pipe + "', run: exit 1}\n" +
			"slow: {base: root, pre: 'echo x >" + pipe + "', run: exec busybox sleep 3600}\n")
		if err == nil {
			t.Error("no error")
		}
		w.wantFailedTrees("failed:bad")
	})
}

// A tree that cannot be kept is a warning beside the error of the step.
func TestFailedCannotBeKept(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		open := w.driver
		w.driver = func() (snapshot.Driver, error) {
			drv, err := open()
			return stingy{drv}, err
		}
		_, err := w.try(rootSpec + "bad: {base: root, run: exit 7}\n")
		var failure *StepError
		var exit *sandbox.ExitError
		if !errors.As(err, &failure) || failure.Kept != "" || !errors.As(err, &exit) || exit.Code != 7 || errors.Is(err, unix.ENOSPC) {
			t.Errorf("error %+v", err)
		}
		warned := slices.ContainsFunc(w.events, func(e Event) bool {
			return e.Kind == Warning && e.Target == "bad" && e.Text == "what the step left is not kept: "+unix.ENOSPC.Error()
		})
		if !warned {
			t.Errorf("no warning: %+v", w.events)
		}
		w.driver = open
		w.wantFailedTrees()
	})
}

// stingy is a driver that keeps nothing.
type stingy struct{ snapshot.Driver }

func (d stingy) New(ctx context.Context, parent string) (snapshot.Tree, error) {
	t, err := d.Driver.New(ctx, parent)
	return stingyTree{t}, err
}

type stingyTree struct{ snapshot.Tree }

func (stingyTree) Keep(context.Context, string, []byte) error { return unix.ENOSPC }

// Where no driver could be opened, nothing is looked for in one.
func TestNoDriverNoFailed(t *testing.T) {
	w := newWork(t, nil)
	w.driver = func() (snapshot.Driver, error) { return (*vfs.Driver)(nil), unix.ENOTSUP }
	if _, err := w.try("good: {copy: {content: A, dest: /a}}\nbad: {base: good, run: 'true'}\n"); !errors.Is(err, unix.ENOTSUP) {
		t.Errorf("error %v", err)
	}
}

// What a failed step left can be compared with what it began with, though layers of its own build
// never got into the layout.
func TestFailedDiff(t *testing.T) {
	forDrivers(t, map[string]string{"file": "F"}, func(t *testing.T, w *work) {
		w.build(rootSpec)
		running := make(chan struct{})
		w.onEvent = func(e Event) {
			if e.Kind == OpStarted && e.Target == "bad" && strings.HasPrefix(e.Text, "run ") {
				close(running)
			}
		}
		w.compressing(func() error {
			<-running
			return errors.New("the disk is full")
		})
		_, err := w.try(rootSpec + "bad:\n  base: root\n  steps:\n    - {copy: file /one, layer: true}\n" +
			"    - run: echo two >/two; rm /one; busybox chmod 700 /data; exit 3\n")
		if err == nil {
			t.Fatal("no error")
		}
		tree, n, err := OpenFailed(t.Context(), check(w.driver())(t), "bad")
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		b, _ := w.builder(rootSpec)
		var tocs []*layer.TOC
		for _, id := range n.Layers {
			tocs = append(tocs, check(b.images().TOC(t.Context(), id, func(context.Context) (v1.Descriptor, error) {
				return v1.Descriptor{}, errors.New("its index was not kept")
			}))(t))
		}
		if len(tocs) != 2 {
			t.Fatalf("%d layers", len(tocs))
		}
		var got []string
		for _, ch := range check(DiffFailed(t.Context(), layer.Merge(tocs...), tree, nil))(t) {
			if !ch.Parent && ch.Path != "." {
				got = append(got, string(ch.Type)+" "+ch.Path)
			}
		}
		slices.Sort(got)
		if want := []string{"0 two", "5 data", "w one"}; !slices.Equal(got, want) {
			t.Errorf("differences %q, want %q", got, want)
		}
	})
}
