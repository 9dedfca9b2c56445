package cache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNodes(t *testing.T) {
	c := open(t)
	text := []byte("f 644 5 a\n")
	sum := sha256.Sum256(text)
	if _, err := c.Node(sum); !errors.Is(err, ErrSealed) {
		t.Fatalf("Node before there is a key: %v, want ErrSealed", err)
	}
	if _, err := c.Secret("test"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Node(sum); !errors.Is(err, ErrMiss) {
		t.Fatalf("Node before KeepNode: %v, want ErrMiss", err)
	}
	for range 2 {
		if err := c.KeepNode(sum, text); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Node(sum); err != nil || string(got) != string(text) {
			t.Fatalf("Node = %q, %v", got, err)
		}
	}
	name, err := c.nodeName(sum, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.nodePath(name), []byte("f 644 6 a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Node(sum); !errors.Is(err, ErrMiss) {
		t.Errorf("damaged: Node = %q, %v; want ErrMiss", got, err)
	}
}

func TestInputs(t *testing.T) {
	c := open(t)
	k, err := key(t, map[string]any{"run": "a && b > c"}).With("x")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Inputs(k.String()); !errors.Is(err, ErrMiss) {
		t.Fatalf("before Put: %v, want ErrMiss", err)
	}
	if err := c.Put(k, Entry{DiffID: "sha256:cd"}); err != nil {
		t.Fatal(err)
	}
	if got, about, err := c.Inputs(k.String()); err != nil || string(got) != string(k.node) || string(about) != `"x"` {
		t.Errorf("Inputs = %s, %v; want %s", got, err, k.node)
	}
	if err := os.WriteFile(c.path(k), []byte(`{"key":"other","entry":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _, err := c.Inputs(k.String()); !errors.Is(err, ErrMiss) {
		t.Errorf("damaged: Inputs = %s, %v; want ErrMiss", got, err)
	}
}

func TestLast(t *testing.T) {
	c := open(t)
	k1, k2 := key(t, 1), key(t, 2)
	all := func(string) bool { return true }
	l := c.Last("/spec")
	if got := l.Get("web#1"); got != "" {
		t.Errorf("Get of nothing = %q", got)
	}
	l.Set("web#1", k1)
	l.Set("a target#2", k2)
	if got := l.Get("web#1"); got != "" {
		t.Errorf("Get tells of this build: %q", got)
	}
	if err := l.Save(all); err != nil {
		t.Fatal(err)
	}
	if got := c.Last("/other").Get("web#1"); got != "" {
		t.Errorf("another spec knows %q", got)
	}

	// What another build of the spec does not touch stays, unless the spec no longer has it.
	l = c.Last("/spec")
	if got := l.Get("a target#2"); got != k2.String() {
		t.Errorf("Get = %q, want %q", got, k2)
	}
	l.Set("web#1", k2)
	if err := l.Save(all); err != nil {
		t.Fatal(err)
	}
	l = c.Last("/spec")
	if l.Get("web#1") != k2.String() || l.Get("a target#2") != k2.String() {
		t.Errorf("after the second build: %q, %q", l.Get("web#1"), l.Get("a target#2"))
	}
	if err := l.Save(func(step string) bool { return step == "web#1" }); err != nil {
		t.Fatal(err)
	}
	if l = c.Last("/spec"); l.Get("a target#2") != "" || l.Get("web#1") == "" {
		t.Error("a step that the spec no longer has is not forgotten")
	}
}

// A build that changed nothing writes nothing.
func TestLastIsWrittenForNewsOnly(t *testing.T) {
	c := open(t)
	k := key(t, 1)
	save := func() {
		t.Helper()
		l := c.Last("/spec")
		l.Set("web#1", k)
		if err := l.Save(func(string) bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	save()
	path := c.Last("/spec").path
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	save()
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("written again (%v)", err)
	}
	if err := os.WriteFile(path, []byte("damaged\n\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.Last("/spec").Get("web#1"); got != "" {
		t.Errorf("damaged: Get = %q", got)
	}
}

// What explains keys has bounds: the oldest nodes go, and specs of long ago.
func TestForget(t *testing.T) {
	c := open(t)
	now := time.Now()
	for i := range 5 {
		path := filepath.Join(c.dir, NodesDir, fmt.Sprint(i))
		if err := writeFile(path, nil); err != nil {
			t.Fatal(err)
		}
		at := now.Add(-time.Duration(i) * time.Hour)
		if err := errors.Join(os.Truncate(path, maxNodes/2), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	for name, age := range map[string]time.Duration{"young": 0, "old": 2 * keepLast} {
		path, at := filepath.Join(c.dir, LastDir, name), now.Add(-age)
		if err := errors.Join(writeFile(path, nil), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.forget(now); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"nodes/0": true, "nodes/1": true, "nodes/2": false, "nodes/4": false, "last/young": true, "last/old": false} {
		if _, err := os.Stat(filepath.Join(c.dir, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}
