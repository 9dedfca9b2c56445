package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"genoci/test/program"
	"genoci/test/strict"
)

// Four independent chains of seven images on one base, of which each waits and writes a little: 30
// targets.
func chains() string {
	var b strings.Builder
	b.WriteString("sys: {expand: sys.tgz}\nbase: {base: sys, run: mkdir /work}\n")
	for chain := range 4 {
		base := "base"
		for i := range 7 {
			name := fmt.Sprintf("chain%d-%d", chain, i)
			fmt.Fprintf(&b, "%s: {base: %s, run: sleep 0.2 && head -c 1000000 /dev/zero > /work/%s}\n", name, base, name)
			base = name
		}
	}
	return b.String()
}

// Building chains side by side gives the images that building them one after the other gives. The
// times are only told.
func TestParallel(t *testing.T) {
	program.NeedDriver(t, "auto")
	var took []time.Duration
	var images []map[string]string
	for _, jobs := range []string{"1", "4"} {
		w := newWorkspace(t)
		busyboxRoot(w)
		w.write("genoci.yaml", chains())
		start := time.Now()
		w.build("--jobs", jobs)
		took = append(took, time.Since(start))
		digests := make(map[string]string)
		for tag, d := range w.layout.Tags(t) {
			if !dated.MatchString(tag) {
				digests[tag] = d.Digest
			}
		}
		images = append(images, digests)
	}
	if len(images[0]) != 30 {
		t.Errorf("%d images, want 30", len(images[0]))
	}
	if diff := cmp.Diff(images[0], images[1]); diff != "" {
		t.Errorf("digests (-one job, +four):\n%s", diff)
	}
	t.Logf("30 targets in four chains: %.2fs with --jobs 1, %.2fs with --jobs 4: %.1f times as fast",
		took[0].Seconds(), took[1].Seconds(), took[0].Seconds()/took[1].Seconds())
}

// A second build of 50 unchanged targets changes nothing but the dated tags. It starts no other
// process, makes two files at most, and has a budget of system calls on files and descriptors for
// each target.
func TestUnchanged(t *testing.T) {
	const targets, budget = 50, 50 // it takes about 40 for each
	program.NeedDriver(t, "auto")
	strict.Need(t, "strace")
	w := newWorkspace(t)
	busyboxRoot(w)
	var spec strings.Builder
	spec.WriteString("sys: {expand: sys.tgz}\n")
	for i := range targets - 1 {
		w.write(fmt.Sprintf("in/%d/file", i), fmt.Sprintln(i))
		fmt.Fprintf(&spec, "t%d: {base: sys, copy: in/%d /in, run: cat /in/file > /out}\n", i, i)
	}
	w.write("genoci.yaml", spec.String())
	w.build()
	before := w.layout.Tags(t)

	w.build()
	for tag, d := range before {
		if got := w.layout.Tags(t)[tag].Digest; got != d.Digest {
			t.Errorf("%s: %s, was %s", tag, got, d.Digest)
		}
	}

	w.Tool(t, "strace", "-f", "-c", "-o", "trace", "-e", "trace=%file,%desc", program.Path(t), "build", "--progress", "none")
	count := countedCalls(t, filepath.Join(w.Dir, "trace"))
	if n := count["total"]; n == 0 || n > targets*budget {
		t.Errorf("%d system calls for %d unchanged targets, more than %d for each", n, targets, budget)
	}
	if n := count["execve"]; n != 1 {
		t.Errorf("programs were executed %d times, want 1", n)
	}
	if n := count["rename"] + count["renameat"] + count["renameat2"]; n == 0 || n > 2 {
		t.Errorf("%d files were renamed, want 1 or 2", n)
	}
	if t.Failed() {
		t.Log(count)
	}
}

// countedCalls reads the table that strace -c writes: how often each system call was made, and all
// together as "total".
func countedCalls(t *testing.T, path string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for line := range strings.Lines(string(data)) {
		// % time, seconds, usecs/call, calls, errors where there are any, syscall
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if n, err := strconv.Atoi(fields[3]); err == nil {
			count[fields[len(fields)-1]] = n
		}
	}
	return count
}
