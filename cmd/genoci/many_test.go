package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
	"genoci/internal/layout"
)

// The work of each command on the layout grows as the number of tags does: with four times as many,
// what is allocated and read grows four times, and not sixteen. Ls reads two blobs of each image,
// each at once.
func TestCostOfManyTags(t *testing.T) {
	if elsewhere(t) {
		return
	}
	const n = 150
	few, many := manyTags(t, n), manyTags(t, 4*n)
	t.Setenv("GENOCI_CACHE_DIR", filepath.Join(t.TempDir(), "cache"))
	for _, args := range [][]string{
		{"ls"}, {"ls", "--json"}, {"du"}, {"verify"}, {"log", "web"}, {"inspect", "web"}, {"tag", "web", "other"}, {"rm", "other"}, {"rollback", "web"},
		{"gc", "--dry-run"}, {"gc", "--keep", "2", "--dry-run"}, {"unpack"}, {"gc", "--keep", "2"},
	} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			a, b := costOf(t, few, args), costOf(t, many, args)
			if b.allocated > 6*max(a.allocated, 1<<20) || b.reads > 6*max(a.reads, 200) || b.bytes > 6*max(a.bytes, 100<<10) { // what does not depend on tags
				t.Errorf("%+v for %d builds, %+v for %d", a, n, b, 4*n)
			}
			if more := b.reads - a.reads; args[0] == "ls" && more > 2*3*n+n/2 {
				t.Errorf("%d reads for %d further images", more, 3*n)
			}
		})
	}
}

// cost is what a command takes.
type cost struct {
	allocated int // bytes
	reads     int // system calls
	bytes     int // that they read
}

// costOf runs a command on the layout in dir.
func costOf(t *testing.T, dir string, args []string) cost {
	t.Helper()
	cmd := newRoot()
	cmd.SetArgs(append(args, "--layout", dir))
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	before := used(t)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	after := used(t)
	return cost{after.allocated - before.allocated, after.reads - before.reads, after.bytes - before.bytes}
}

// used returns what this process has taken so far.
func used(t *testing.T) (c cost) {
	t.Helper()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	io, err := os.ReadFile("/proc/self/io") // proc_pid_io(5)
	if err == nil {
		_, err = fmt.Sscanf(string(io), "rchar: %d\nwchar: %d\nsyscr: %d\n", &c.bytes, new(int), &c.reads)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.allocated = int(mem.TotalAlloc)
	return c
}

// manyTags makes a layout of n dated builds, each another image.
func manyTags(t *testing.T, n int) string {
	t.Helper()
	l, err := layout.Create(filepath.Join(t.TempDir(), "oci"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	images := make([]v1.Descriptor, n)
	for i := range images {
		var img image.Image
		img.Config.Platform = image.Host()
		img.Config.Author = fmt.Sprint(i)
		if img, err = l.WriteImage(img); err != nil {
			t.Fatal(err)
		}
		images[i] = img.Descriptor
	}
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	err = l.Update(t.Context(), func(x *layout.Index) error {
		for i, desc := range images {
			x.Set(layout.Dated{Name: "web", Date: day.AddDate(0, 0, i).Format(time.DateOnly), N: 1}.String(), desc)
		}
		x.Set("web", images[n-1])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l.Dir()
}

// elsewhere runs the test in a process of its own, and reports whether this is not that process.
// Commands that are called in a test's process enter a namespace with it, and an ordinary user is
// root there: what runs after them would be another test.
func elsewhere(t *testing.T) bool {
	t.Helper()
	const mark = "GENOCI_TEST_ELSEWHERE"
	if os.Getenv(mark) == t.Name() {
		return false
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return true
}
