package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"genoci/test/program"
	"genoci/test/strict"
)

// Four independent chains of seven images on one base, of which each waits and writes a little: 30 targets.
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

// Building chains side by side gives the images that building them one after the other gives. The times are only told.
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

var calls = regexp.MustCompile(`(?m)^100\.00 +\S+ +\S+ +(\d+)`)

// A second build of 50 unchanged targets changes nothing but the dated tags.
func TestUnchanged(t *testing.T) {
	program.NeedDriver(t, "auto")
	w := newWorkspace(t)
	busyboxRoot(w)
	var spec strings.Builder
	spec.WriteString("sys: {expand: sys.tgz}\n")
	for i := range 49 {
		w.write(fmt.Sprintf("in/%d/file", i), fmt.Sprintln(i))
		fmt.Fprintf(&spec, "t%d: {base: sys, copy: in/%d /in, run: cat /in/file > /out}\n", i, i)
	}
	w.write("genoci.yaml", spec.String())
	w.build()
	before := w.layout.Tags(t)

	start := time.Now()
	w.build()
	took := time.Since(start)
	for tag, d := range before {
		if got := w.layout.Tags(t)[tag].Digest; got != d.Digest {
			t.Errorf("%s: %s, was %s", tag, got, d.Digest)
		}
	}
	t.Logf("50 unchanged targets: %.0f ms", took.Seconds()*1000)

	strict.Need(t, "strace")
	w.Tool(t, "strace", "-f", "-c", "-o", "trace", program.Path(t), "build", "--progress", "none")
	data, err := os.ReadFile(filepath.Join(w.Dir, "trace"))
	if err != nil {
		t.Fatal(err)
	}
	m := calls.FindSubmatch(data)
	if m == nil {
		t.Fatalf("no total in\n%s", data)
	}
	t.Logf("50 unchanged targets: %s system calls", m[1])
}
