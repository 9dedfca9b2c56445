package main

import (
	"archive/tar"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// TestSuite carries out all jobs of genoci and the limits on tiny inputs, without a disk of their
// own, and writes the docs from what came of it.
func TestSuite(t *testing.T) {
	s := testSuite(t)
	for _, sc := range scenarios() {
		if strings.HasSuffix(sc.id, "big") || slices.ContainsFunc(s.scenarios, func(other scenario) bool { return other.job == sc.job }) {
			continue
		}
		if sc.input = "bb"; sc.job == copyIn {
			sc.input = "many"
		}
		s.scenarios = append(s.scenarios, sc)
	}
	r := &report{Machine: describeMachine(), Versions: map[string]string{}}
	r.addVersions(t.Context(), s.tools)
	if err := s.run(t.Context(), func(o outcome) error { r.add(o); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, o := range r.Outcomes {
		for _, res := range o.Results {
			if res.Failed != "" || len(res.Samples) == 0 {
				t.Errorf("%s, %s: %d results; %s", o.ID, res.Tool, len(res.Samples), res.Failed)
			}
		}
	}
	for _, c := range curves() {
		at, err := s.growTo(t.Context(), c, 3)
		if err != nil {
			t.Fatalf("%s: %v", c.title, err)
		}
		r.Growth = append(r.Growth, growth{Name: c.name, Points: []point{at, {2000, 2 * at.Wall, at.CPU, at.Memory}}})
	}
	for _, st := range storages() {
		if st.driver != "overlay" && !strings.HasSuffix(st.name, "ext4") {
			continue // they take a loop device
		}
		at, err := s.measureDriver(t.Context(), st, 3, "bb")
		if err != nil {
			t.Fatalf("%s: %v", st.name, err)
		}
		if at.Make <= 0 || at.Commit <= 0 || at.Calls <= 0 || at.Walk <= 0 || at.Chain <= 0 {
			t.Errorf("%s: %+v", st.name, at)
		}
		r.Drivers = append(r.Drivers, at)
	}
	checkDocs(t, r)
}

// testSuite returns a suite without scenarios, on a temporary folder.
func testSuite(t *testing.T) *suite {
	t.Helper()
	require(t, "root", os.Getuid() == 0)
	busybox, err := exec.LookPath("busybox")
	require(t, "busybox", err == nil)
	genociDir := t.TempDir()
	if bin := os.Getenv("GENOCI_BIN"); bin != "" {
		err = os.Symlink(bin, filepath.Join(genociDir, "genoci"))
	} else {
		build := exec.Command("go", "build", "-o", genociDir, "./cmd/genoci")
		build.Dir = ".."
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", genociDir+":"+os.Getenv("PATH"))
	bench := filepath.Join(genociDir, "bench")
	if out, err := exec.Command("go", "build", "-o", bench, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := &suite{
		tools: []*tool{genoci(), limits()}, runs: 1, slow: 60,
		corpus: t.TempDir(), disk: t.TempDir(), bench: bench, say: t.Logf,
	}
	writeInputs(t, s.corpus, busybox)
	return s
}

// require skips a test where something is not there, and fails it where GENOCI_REQUIRE names that.
func require(t *testing.T, what string, have bool) {
	t.Helper()
	switch {
	case have:
	case slices.Contains(strings.Split(os.Getenv("GENOCI_REQUIRE"), ","), what):
		t.Fatalf("no %s", what)
	default:
		t.Skipf("no %s", what)
	}
}

// writeInputs makes bb.tar.gz, bb.tar.zst and many.
func writeInputs(t *testing.T, dir, busybox string) {
	t.Helper()
	if err := writeFiles(filepath.Join(dir, "many"), 20); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{".gz", ".zst"} {
		f, err := os.Create(filepath.Join(dir, "bb.tar"+suffix))
		if err != nil {
			t.Fatal(err)
		}
		var zw io.WriteCloser = gzip.NewWriter(f)
		if suffix == ".zst" {
			if zw, err = zstd.NewWriter(f); err != nil {
				t.Fatal(err)
			}
		}
		tw := tar.NewWriter(zw)
		err = errors.Join(err,
			tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755}),
			tw.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}))
		_, werr := tw.Write(program)
		for _, applet := range []string{"sh", "sleep", "dd"} {
			werr = errors.Join(werr, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox"}))
		}
		if err := errors.Join(err, werr, tw.Close(), zw.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// checkDocs writes the docs of a report, and looks whether they have what they should.
func checkDocs(t *testing.T, r *report) {
	t.Helper()
	dir := t.TempDir()
	results := filepath.Join(dir, "results.json")
	if err := r.write(results); err != nil {
		t.Fatal(err)
	}
	read, err := readReport(results)
	if err != nil {
		t.Fatal(err)
	}
	if err := read.docs(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range r.Outcomes {
		if !strings.Contains(string(text), "\n| "+o.ID+" | ") {
			t.Errorf("benchmarks.md has no row for %s", o.ID)
		}
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(pictures) != 1+len(curves()) {
		t.Errorf("pictures: %q, %v", pictures, err)
	}
	for _, name := range pictures {
		data, err := os.ReadFile(name)
		if err == nil {
			err = xml.Unmarshal(data, new(struct{}))
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(string(text), "("+filepath.Base(name)+")") {
			t.Errorf("benchmarks.md does not show %s", filepath.Base(name))
		}
	}
}

// TestJudge states what a verdict says.
func TestJudge(t *testing.T) {
	took := func(tool string, k kind, seconds ...float64) result {
		r := result{Tool: tool, Kind: k}
		for _, s := range seconds {
			r.Samples = append(r.Samples, sample{Wall: s})
		}
		return r
	}
	r := &report{Outcomes: []outcome{
		{ID: "S1 deb", Results: []result{
			took("genoci", product, 0.5, 0.75, 9), took("umoci", peer, 5), took("umoci raw", peer, 3, 2, 4),
			took("buildah", peer), took("GNU tar", yardstick, 0.1), took("limit", yardstick, 0.625),
		}},
		{ID: "S3 deb", Results: []result{took("genoci", product, 0.02)}},
		{ID: "S3 big", Results: []result{took("genoci", product, 0.025), took("BuildKit", peer, 0.25)}},
	}}
	var got []string
	for _, v := range r.verdicts() {
		got = append(got, strings.Join([]string{v.ID(), v.OfLimit(), v.Wanted(), v.BestPeer(), v.Lead()}, " | "))
	}
	want := []string{
		"S1 deb | 1.20 × | 1.2 × 625 ms = 750 ms ✓ | umoci raw 3.00 s | 4.0 × of 5 × ✗",
		"S3 deb | – | 30 ms ✓ | – | –",
		"S3 big | – | 30 ms ✓; 1.2 × S3 deb ✗ | BuildKit 250 ms | 10.0 × of 6 × ✓",
	}
	if !slices.Equal(got, want) {
		t.Errorf("verdicts:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestData looks for slips in the tables of scenarios and tools.
func TestData(t *testing.T) {
	all := map[string]*tool{}
	for _, tl := range tools() {
		all[tl.name] = tl
		for j, w := range tl.jobs {
			if _, ok := tl.jobs[w.after]; w.after != "" && !ok {
				t.Errorf("%s: %s goes on from %s, which it cannot do", tl.name, j, w.after)
			}
		}
	}
	done := map[string]bool{"": true}
	for _, sc := range scenarios() {
		w, ok := all["genoci"].jobs[sc.job]
		if !ok || w.check == nil {
			t.Errorf("%s: genoci has no commands for it, or no check", sc.id)
		}
		if sc.atMost.seconds == 0 {
			if tl := all[sc.atMost.tool]; tl == nil || tl.jobs[sc.job].timed == nil {
				t.Errorf("%s: the limit %q does not do it", sc.id, sc.atMost.tool)
			}
		}
		if !done[sc.near.scenario] {
			t.Errorf("%s: stands before %s", sc.id, sc.near.scenario)
		}
		done[sc.id] = true
	}
}

// TestWrongResult holds that a tool which does not do its job counts as failed.
func TestWrongResult(t *testing.T) {
	s := &suite{runs: 1, corpus: t.TempDir(), disk: t.TempDir(), say: t.Logf}
	s.tools = []*tool{
		{name: "lazy", jobs: map[job]work{expand: {timed: []string{"true"}, check: imageHas("oci", "x", "file")}}},
		{name: "absent", needs: []string{"no-such-program"}, jobs: map[job]work{expand: {}}},
		{name: "broken", jobs: map[job]work{expand: {timed: []string{"echo no luck; exit 3"}}}},
	}
	s.scenarios = []scenario{{id: "S1 deb", job: expand, input: "x"}}
	var failed []string
	err := s.run(context.Background(), func(o outcome) error {
		for _, r := range o.Results {
			failed = append(failed, r.Failed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"wrong result: ", "not installed: [no-such-program]", "exit status 3: no luck"} {
		if !strings.Contains(failed[i], want) {
			t.Errorf("failed: %q; want %q", failed[i], want)
		}
	}
	if left, err := os.ReadDir(s.disk); err != nil || len(left) > 0 {
		t.Errorf("left on the disk: %v, %v", left, err)
	}
}
