package cache

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	c.SealAt(filepath.Join(t.TempDir(), "state", "secret"))
	return c
}

func key(t *testing.T, node any) Key {
	t.Helper()
	k, err := NewKey(node)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPutGet(t *testing.T) {
	c := open(t)
	k := key(t, map[string]any{"run": "true", "parent": "sha256:ab"})
	if _, err := c.Get(k); !errors.Is(err, ErrMiss) {
		t.Fatalf("Get before Put: %v, want ErrMiss", err)
	}
	want := Entry{DiffID: "sha256:cd", Blobs: map[string]Blob{"gzip": {MediaType: "m", Digest: "sha256:ef", Size: 7}}}
	if err := c.Put(k, want); err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(key(t, map[string]any{"parent": "sha256:ab", "run": "true"}))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := c.Get(key(t, map[string]any{"run": "true", "parent": "sha256:ac"})); !errors.Is(err, ErrMiss) {
		t.Errorf("Get of another key: %v, want ErrMiss", err)
	}
}

func TestPutKeepsOtherCompressions(t *testing.T) {
	c := open(t)
	k := key(t, "k")
	for _, e := range []Entry{
		{DiffID: "sha256:cd", Blobs: map[string]Blob{"gzip": {Size: 1}}},
		{DiffID: "sha256:cd", Blobs: map[string]Blob{"zstd": {Size: 2}}},
	} {
		if err := c.Put(k, e); err != nil {
			t.Fatal(err)
		}
	}
	if e, _ := c.Get(k); len(e.Blobs) != 2 {
		t.Errorf("blobs %v, want gzip and zstd", e.Blobs)
	}
	if err := c.Put(k, Entry{DiffID: "sha256:00", Blobs: map[string]Blob{"none": {Size: 3}}}); err != nil {
		t.Fatal(err)
	}
	if e, _ := c.Get(k); len(e.Blobs) != 1 {
		t.Errorf("blobs %v of another result, want none alone", e.Blobs)
	}
}

// What a crash or a hand leaves in the cache is a miss, never an answer.
func TestDamagedEntryIsAMiss(t *testing.T) {
	c := open(t)
	k := key(t, "k")
	if err := c.Put(k, Entry{DiffID: "sha256:cd", Blobs: map[string]Blob{"gzip": {Size: 1}}}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(c.path(k))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty":         {},
		"cut off":       whole[:len(whole)/2],
		"zeros":         make([]byte, len(whole)),
		"of other key":  []byte(`{"key":"other","entry":{"diffID":"sha256:11"}}`),
		"of no key":     []byte(`{"entry":{}}`),
		"not an object": []byte(`[]`),
	} {
		if err := os.WriteFile(c.path(k), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := c.Get(k); !errors.Is(err, ErrMiss) {
			t.Errorf("%s: Get = %v, %v; want ErrMiss", name, e, err)
		}
	}
}

func TestTempHasNoName(t *testing.T) {
	c := open(t)
	f, err := c.Temp()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir, _ := c.Dir("tmp")
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

// FuzzKey: different parts give different keys, wherever one part ends and the next begins.
func FuzzKey(f *testing.F) {
	f.Add("a", "b", "ab", "")
	f.Add("a\x00", "b", "a", "\x00b")
	f.Add("\xff", "", "\xfe", "")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		k1, err1 := NewKey([][]byte{[]byte(a), []byte(b)})
		k2, err2 := NewKey([][]byte{[]byte(c), []byte(d)})
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if same := a == c && b == d; same != (k1.String() == k2.String()) {
			t.Errorf("keys of %q and %q: equal is %v", []string{a, b}, []string{c, d}, !same)
		}
	})
}
