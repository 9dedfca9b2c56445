package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"genoci/test/killat"
	"genoci/test/program"
	"genoci/test/strict"
)

// usage is what genoci du --json prints, as far as the tests read it.
type usage struct {
	Images []struct {
		Tags      []string
		Size, Own int64
	}
	Trees []struct {
		Kind, Driver, Name string
		Size, Own          int64
		Tags               []string
	}
	Tagged, Kept int64
}

func (w *workspace) usage() (u usage) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.Run(w.t, "du", "--json")), &u); err != nil {
		w.t.Fatal(err)
	}
	return u
}

// removal is what genoci gc --json prints.
type removal struct {
	DryRun      bool
	Tags, Blobs []string
	Items       []struct {
		Kind, Name, Why string
		Size            int64
	}
	Freed, Left int64
}

func (w *workspace) collect(args ...string) (r removal) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.Run(w.t, append([]string{"gc", "--json"}, args...)...)), &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// spaced is a workspace with a spec whose images differ from version to version, on a base that
// does not.
func spaced(t *testing.T) *workspace { return behave(t, spacedSpec) }

const spacedSpec = `
one: {base: sys, run: ["echo ${{V}} > /version", "dd if=/bin/busybox of=/copy bs=64k count=8"]}
two: {base: one, run: "echo two of ${{V}} > /two"}
`

func (w *workspace) version(v int) { w.t.Helper(); w.build("--arg", "V="+strconv.Itoa(v)) }

// digests returns the digests of tags.
func (w *workspace) digests(tags ...string) string {
	w.t.Helper()
	var all []string
	for _, tag := range tags {
		all = append(all, tag+"="+w.layout.Image(w.t, tag).Digest)
	}
	return strings.Join(all, " ")
}

// diskUsage returns what du(1) says of a path, in bytes.
func (w *workspace) diskUsage(path string) int64 {
	w.t.Helper()
	text, _, _ := strings.Cut(w.Tool(w.t, "du", "-s", "-B1", path), "\t")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func near(a, b int64) bool { return a-b < a/20+8192 && b-a < a/20+8192 }

// du agrees with du(1), gc does what its dry run says and keeps to its limit, and what is built
// afterwards is the same.
func TestSpace(t *testing.T) {
	w := spaced(t)
	for v := range 4 {
		w.version(v)
	}
	want := w.digests("sys", "one", "two")
	u := w.usage()
	if blobs := w.diskUsage("oci/blobs"); !near(u.Tagged, blobs-16384) { // small blobs take a whole block
		t.Errorf("images take %d bytes, du(1) says %d", u.Tagged, blobs)
	}
	if cache := w.diskUsage(".cache"); os.Getuid() == 0 && !near(u.Kept, cache) {
		t.Errorf("all else takes %d bytes, du(1) says %d", u.Kept, cache)
	}
	for _, tree := range u.Trees {
		if tree.Kind != "snapshots" || tree.Own > tree.Size || tree.Size == 0 {
			t.Errorf("tree %+v", tree)
		}
	}

	would := w.collect("--keep", "2", "--dry-run")
	did := w.collect("--keep", "2")
	if len(did.Tags) != 4 || len(did.Items) < 6 || !would.DryRun || did.DryRun {
		t.Errorf("removed %+v", did)
	}
	would.DryRun = false
	a, _ := json.Marshal(would)
	b, _ := json.Marshal(did)
	equal(t, "what gc did, and what its dry run said", string(b), string(a))
	equal(t, "digests after gc", w.digests("sys", "one", "two"), want)
	w.Run(t, "verify")
	if after := w.usage(); after.Kept > u.Kept || !near(after.Kept, did.Left) {
		t.Errorf("%d bytes are kept, gc said %d; before it was %d", after.Kept, did.Left, u.Kept)
	}

	full := w.usage().Kept
	for _, limit := range []int64{full - 1, full / 2, 100_000, 0} {
		text := strconv.FormatInt(limit, 10) + "B"
		would := w.collect("--max-size", text, "--dry-run")
		did := w.collect("--max-size", text)
		equal(t, "items for limit "+text, strconv.Itoa(len(did.Items)), strconv.Itoa(len(would.Items)))
		if got := w.usage().Kept; got > limit {
			t.Errorf("limit %d: du says %d", limit, got)
		}
		if got := w.diskUsage(".cache"); os.Getuid() == 0 && got > limit+4096 { // the folder itself
			t.Errorf("limit %d: du(1) says %d", limit, got)
		}
	}
	w.Run(t, "verify")
	w.version(3)
	equal(t, "digests of a build after gc", w.digests("sys", "one", "two"), want)
	w.nothingLeft()
}

// A step that took long is worth more than a tree, and the tree more than nothing: the next build
// after a moderate limit carries out nothing.
func TestLimitKeepsResults(t *testing.T) {
	w := spaced(t)
	w.version(1)
	u := w.usage()
	var trees int64
	for _, tree := range u.Trees {
		trees += tree.Own
	}
	w.Run(t, "gc", "--max-size", strconv.FormatInt(u.Kept-trees/2, 10)+"B")
	if out := w.build("--arg", "V=1"); strings.Contains(out, " built ") {
		t.Errorf("carried out again:\n%s", out)
	}
}

// The image of a checkout stays until that ends, though no tag names it any more, and clean leaves
// it.
func TestCollectLeavesCheckouts(t *testing.T) {
	w := spaced(t)
	w.version(1)
	w.Run(t, "checkout", "one", "work")
	program.Write(t, w.Dir, "work/by-hand", "kept\n")
	w.Run(t, append([]string{"rm"}, w.layout.TagNames(t)...)...)
	w.Run(t, "gc", "--max-size", "1TB")
	w.Run(t, "clean")
	w.Run(t, "checkin", "new", "--dir", "work")
	equal(t, "by-hand", w.file("new", "by-hand"), "kept\n")
	equal(t, "version", w.file("new", "version"), "1\n")
	w.Run(t, "verify")
	w.Run(t, "gc", "--max-size", "0")
	if u := w.usage(); u.Kept != 0 {
		t.Errorf("%d bytes are kept", u.Kept)
	}
	w.nothingLeft()
}

// Nobody knows what is checked out on storage that is not attached: gc waits until it is.
func TestCollectDetached(t *testing.T) {
	strict.NeedRoot(t)
	w := spaced(t)
	w.Runner = w.With("GENOCI_DRIVER=btrfs", "GENOCI_LOFILE="+filepath.Join(w.Dir, "img"), "GENOCI_BTRFSMOUNT="+filepath.Join(w.Dir, "btrfs"))
	if res := w.Try(t, "storage", "setup", "--size", "1GB"); res.Code == program.Lacking {
		strict.Lack(t, "btrfs", res.Stderr)
	}
	defer w.Run(t, "storage", "unsetup", "--force")
	w.version(1)
	if u := w.usage(); len(u.Trees) == 0 || u.Trees[0].Driver != "btrfs" {
		t.Errorf("trees: %+v", u.Trees)
	}
	w.Run(t, "storage", "detach")
	if res := w.Try(t, "gc"); res.Code != 1 || !strings.Contains(res.Stderr, "img is not attached") || !strings.Contains(res.Stderr, "hint: genoci storage setup ") {
		t.Errorf("exit status %d\n%s", res.Code, res.Stderr)
	}
	if res := w.Try(t, "du"); res.Code != 0 || !strings.Contains(res.Stderr, "img is not attached") {
		t.Errorf("exit status %d\n%s", res.Code, res.Stderr)
	}
	w.Run(t, "storage", "setup")
	w.Run(t, "gc", "--max-size", "0")
	if u := w.usage(); u.Kept != 0 {
		t.Errorf("%d bytes are kept", u.Kept)
	}
}

// gc and clean in a loop do no harm to builds: either waits for the other, or says that it is in
// use.
func TestCollectWhileBuilding(t *testing.T) {
	w := spaced(t)
	w.version(0)
	stop, ended := make(chan struct{}), make(chan int)
	go func() {
		collected := 0
		defer func() { ended <- collected }()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			args := [][]string{{"gc", "--keep", "1", "--max-size", "100kB"}, {"clean"}, {"gc"}}[i%3]
			switch res := w.Try(t, args...); {
			case res.Code == 0:
				collected++
			case res.Code != 1 || !strings.Contains(res.Stderr, "in use"):
				t.Errorf("%q: exit status %d\n%s", args, res.Code, res.Stderr)
			}
		}
	}()
	for v := range 8 {
		// Two at once, of the same targets.
		other := w.Command(t, "build", "--progress", "none", "--arg", "V="+strconv.Itoa(v))
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		if res := w.Try(t, "build", "--progress", "plain", "--arg", "V="+strconv.Itoa(v)); res.Code != 0 {
			t.Errorf("build %d: exit status %d\n%s", v, res.Code, res.Stderr)
		}
		if err := other.Wait(); err != nil {
			t.Errorf("the other build %d: %v", v, err)
		}
	}
	close(stop)
	if n := <-ended; n == 0 {
		t.Error("nothing was ever collected")
	}
	equal(t, "two", w.file("two", "two"), "two of 7\n")
	w.Run(t, "verify")
	w.nothingLeft()
}

// Whenever gc or clean is killed, the tags that are there are whole, the next build gives the same
// images, and the next gc ends the work.
func TestCollectKilled(t *testing.T) {
	t.Run("auto", func(t *testing.T) {
		w := spaced(t)
		testCollectKilled(w, 9)
		w.nothingLeft()
	})
	t.Run("btrfs", func(t *testing.T) {
		s := newStorage(t)
		s.Run(t, "storage", "setup")
		busyboxRoot(s.workspace)
		s.write("genoci.yaml", "sys: {expand: sys.tgz}\n"+spacedSpec)
		testCollectKilled(s.workspace, 9)
		s.checkTruth()
		s.Run(t, "storage", "unsetup", "--force")
		s.checkTruth()
	})
}

// testCollectKilled kills gc and clean, so often.
func testCollectKilled(w *workspace, rounds int) {
	t := w.t
	t.Helper()
	w.version(1)
	want := w.digests("sys", "one", "two")
	rng := killat.Moments(t)
	all := [][]string{{"gc", "--keep", "1", "--max-size", "0"}, {"clean"}, {"gc", "--keep", "1"}}
	var changes []int
	for _, args := range all {
		w.version(2)
		w.version(1)
		changes = append(changes, w.changes(args...))
	}
	for i := range rounds {
		w.version(2)
		w.version(1)
		w.killed(1+rng.IntN(changes[i%len(all)]), all[i%len(all)]...)
		w.Run(t, "verify")
		equal(t, "digests after a kill", w.digests("sys", "one", "two"), want)
		w.version(1)
		equal(t, "digests of a build after a kill", w.digests("sys", "one", "two"), want)
	}
	w.Run(t, "gc", "--max-size", "0")
	if u := w.usage(); u.Kept != 0 {
		t.Errorf("%d bytes are kept", u.Kept)
	}
}
