package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"genoci/internal/beneath"
)

// While somebody uses the cache nobody can exclude others; while somebody has excluded them, users
// wait.
func TestUseAndExclude(t *testing.T) {
	c := open(t)
	done1, err1 := c.Use(t.Context())
	done2, err2 := c.Use(t.Context())
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	done1()
	if _, err := c.Exclude(); !errors.Is(err, ErrInUse) {
		t.Errorf("Exclude while it is used: %v", err)
	}
	done2()
	done, err := c.Exclude()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Use(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Use while others are excluded: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, done)
	if done, err = c.Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	done()
}

func TestStored(t *testing.T) {
	c := open(t)
	k := key(t, "k")
	want := Entry{DiffID: "sha256:cd", Chain: "sha256:ef", Seconds: 1.5, Blobs: map[string]Blob{"gzip": {Size: 1}}}
	if err := c.Put(k, want); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(c.Root(), StepsDir, "ab", "cd.json")
	if err := writeFile(damaged, []byte("{")); err != nil {
		t.Fatal(err)
	}
	n := 0
	for s, err := range c.Stored() {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if fits := s.Chain == want.Chain && s.Seconds == want.Seconds && s.Path == c.path(k); !fits && (s.Path != damaged || s.DiffID != "") {
			t.Errorf("%+v", s)
		}
	}
	if n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

// An entry that is used is younger than one that is not; within a day nothing is written for it.
func TestGetMarksUse(t *testing.T) {
	c := open(t)
	k := key(t, "k")
	if err := c.Put(k, Entry{}); err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{time.Hour, 48 * time.Hour} {
		then := time.Now().Add(-age)
		if err := os.Chtimes(c.path(k), then, then); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(k); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(c.path(k))
		if err != nil {
			t.Fatal(err)
		}
		if marked, due := time.Since(fi.ModTime()) < time.Minute, age > 24*time.Hour; marked != due {
			t.Errorf("after %v: marked %v", age, marked)
		}
	}
}

func TestAddLayout(t *testing.T) {
	c := open(t)
	for range 2 {
		if err := c.AddLayout("/a/layout"); err != nil {
			t.Fatal(err)
		}
	}
	files, err := c.files(LayoutsDir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if dir, err := LayoutAt(files[0].path); err != nil || dir != "/a/layout" {
		t.Errorf("%q, %v", dir, err)
	}
}

// What is behind a symlink in the place of one of the cache's folders is not the cache's: builds
// use it, and nothing is removed from it.
func TestFollowsNoLink(t *testing.T) {
	for _, kind := range Folders() {
		t.Run(kind, func(t *testing.T) {
			c := open(t)
			outside := t.TempDir()
			theirs := filepath.Join(outside, "theirs")
			old := time.Now().Add(-2 * keepLast)
			if err := errors.Join(os.Mkdir(theirs, 0o755), os.Chtimes(theirs, old, old), os.Symlink(outside, filepath.Join(c.Root(), kind))); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Exclude(); !errors.Is(err, beneath.ErrElsewhere) {
				t.Errorf("Exclude: %v", err)
			}
			last := c.Last("spec")
			last.Set("step", key(t, "k"))
			if err := last.Save(func(string) bool { return true }); err != nil {
				t.Error(err)
			}
			_, remove, err := c.TempDir()
			if err != nil {
				t.Fatal(err)
			}
			if err := remove(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(theirs); err != nil {
				t.Error(err)
			}
		})
	}
}
