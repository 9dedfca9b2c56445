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

// The work of each command on the layout grows as the number of tags does: with four times as many, what is allocated grows four times, and not sixteen.
func TestCostOfManyTags(t *testing.T) {
	if elsewhere(t) {
		return
	}
	few, many := manyTags(t, 150), manyTags(t, 600)
	t.Setenv("GENOCI_CACHE_DIR", filepath.Join(t.TempDir(), "cache"))
	for _, args := range [][]string{
		{"ls"}, {"ls", "--json"}, {"du"}, {"verify"}, {"log", "web"}, {"inspect", "web"}, {"tag", "web", "other"}, {"rm", "other"}, {"rollback", "web"},
		{"gc", "--dry-run"}, {"gc", "--keep", "2", "--dry-run"}, {"unpack"}, {"gc", "--keep", "2"},
	} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			a, b := allocated(t, few, args), allocated(t, many, args)
			if a < 1<<20 {
				a = 1 << 20 // what does not depend on tags
			}
			if b > 6*a {
				t.Errorf("%d kB for 150 builds, %d kB for 600", a>>10, b>>10)
			}
		})
	}
}

// allocated returns how many bytes a command allocates.
func allocated(t *testing.T, dir string, args []string) uint64 {
	t.Helper()
	cmd := newRoot()
	cmd.SetArgs(append(args, "--layout", dir))
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
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

// elsewhere runs the test in a process of its own, and reports whether this is not that process. Commands that are called in a test's process
// enter a namespace with it, and an ordinary user is root there: what runs after them would be another test.
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
