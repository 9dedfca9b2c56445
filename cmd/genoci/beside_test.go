package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"genoci/internal/cache"
	"genoci/internal/layout"
)

// What reads waits for a gc that is running, and finds nothing half removed.
func TestReadersWaitForGC(t *testing.T) {
	if elsewhere(t) {
		return
	}
	dir, state := manyTags(t, 3), filepath.Join(t.TempDir(), "cache")
	t.Setenv("GENOCI_CACHE_DIR", state)
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cache.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	ofLayout := func() (func(), error) {
		gc, err := l.Collect(t.Context(), nil)
		if err != nil {
			return nil, err
		}
		return gc.Close, nil
	}
	tag := "web-2026-01-01_1"
	for _, test := range []struct {
		args    []string
		exclude func() (func(), error)
	}{
		{[]string{"ls"}, ofLayout},
		{[]string{"inspect", "web"}, ofLayout},
		{[]string{"verify"}, ofLayout},
		{[]string{"du"}, ofLayout},
		{[]string{"du"}, c.Exclude},
		{[]string{"log", "web"}, ofLayout},
		{[]string{"log", "web"}, c.Exclude},
		{[]string{"diff", tag, "web"}, ofLayout},
		{[]string{"diff", tag, "web"}, c.Exclude},
		{[]string{"unpack", "web", filepath.Join(t.TempDir(), "root")}, ofLayout},
	} {
		run := func(ctx context.Context) error {
			cmd := newRoot()
			cmd.SetArgs(append(test.args, "--layout", dir))
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			return cmd.ExecuteContext(ctx)
		}
		release, err := test.exclude()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v while gc runs: %v, want it to wait", test.args, err)
		}
		cancel()
		release()
		if err := run(t.Context()); err != nil {
			t.Errorf("%v: %v", test.args, err)
		}
	}
}
