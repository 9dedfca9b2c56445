package oracle

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"genoci/internal/treetest"
	"genoci/test/program"
	"genoci/test/strict"
)

// ways are specs that all make an image of one tree, which tree.tgz holds.
var ways = []struct{ name, spec string }{
	{"as-it-is", "{expand: tree.tgz}"},
	{"rewritten", "{expand: {src: tree.tgz, exclude: [no-such-name]}}"},
	{"composed", "{steps: [{copy: {content: x, dest: /zz/x}}, {expand: tree.tgz}, {remove: /zz}]}"},
	{"executed", "{expand: tree.tgz, run: 'true'}"},
	{"executed-on-it", "{steps: [{expand: tree.tgz, layer: true}, {run: 'echo >/zz; rm /zz; cd /', layer: true}]}"},
	{"zstd", "{expand: {src: tree.tzst}}"},
}

// randomTree returns a tree as text, and the trees of two seeds are different. All of it can be in
// a sound layer.
func randomTree(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	var links []string // of hard links that may get another name
	taken := map[string]bool{}
	folders := []string{""}
	line := func(format string, args ...any) {
		fmt.Fprintf(&b, format+" mtime=%d\n", append(args, 1_500_000_000+r.IntN(1_000_000))...)
	}
	for i := range 120 {
		path := folders[r.IntN(len(folders))] + []string{"a", "b", "long-name-" + strings.Repeat("x", 90), "ü", "with blank"}[r.IntN(5)] + fmt.Sprint(r.IntN(20))
		if taken[path] {
			continue
		}
		taken[path] = true
		name := strings.ReplaceAll(path, " ", `\x20`)
		owner := []string{"0:0", "0:0", "33:33", "1000:50", "60000:60001"}[r.IntN(5)]
		switch r.IntN(9) {
		case 0, 1:
			line("%s/ dir %s %s", name, []string{"0755", "0700", "1777", "2775"}[r.IntN(4)], owner)
			folders = append(folders, path+"/")
		case 2:
			line("%s symlink %s", name, []string{"a1", "/etc/passwd", "../b2", "no/such"}[r.IntN(4)])
		case 3:
			line("%s fifo 0600 %s", name, owner)
		case 4:
			line("%s c 1:%d 0666 %s", name, 1+r.IntN(9), owner)
		case 5:
			if len(links) > 0 {
				line("%s %s", name, links[r.IntN(len(links))])
				break
			}
			fallthrough
		case 6:
			link := fmt.Sprintf("file %s %s <%d> \"linked %d\"", []string{"0644", "4755"}[r.IntN(2)], owner, i, i)
			links = append(links, link)
			line("%s %s", name, link)
		case 7:
			line("%s file 0755 %s size=%d", name, owner, r.IntN(300_000))
		default:
			line("%s file %s %s %q", name, []string{"0644", "0600", "0755"}[r.IntN(3)], owner, strings.Repeat("text\n", r.IntN(5)))
		}
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// sameWays returns a layout of the images of a random tree, made in all ways.
func sameWays(t *testing.T, bin string, seed uint64) judged {
	t.Helper()
	dir := filepath.Join(t.TempDir(), fmt.Sprintf("ways%d", seed))
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	treetest.Make(t, tree, randomTree(seed))
	at := time.Unix(1_500_000_000, 0)
	if err := os.Chtimes(tree, at, at); err != nil {
		t.Fatal(err)
	}
	tar := []string{"-C", tree, "--sort=name", "--numeric-owner", "--format=pax", "--pax-option=delete=atime,delete=ctime"}
	run(t, "tar", append(tar, "-czf", filepath.Join(dir, "tree.tgz"), ".")...)
	run(t, "tar", append(tar, "--zstd", "-cf", filepath.Join(dir, "tree.tzst"), ".")...)
	spec := ""
	for _, w := range ways {
		spec += w.name + ": " + w.spec + "\n"
	}
	program.Write(t, dir, "genoci.yaml", spec)
	genoci := program.In(dir)
	genoci.Bin = bin
	genoci.Run(t, "build", "--progress", "plain")
	byHand := []string{"by-hand-overlay", "by-hand-vfs"}
	for _, tag := range byHand {
		checkIn(t, genoci, tag, strings.TrimPrefix(tag, "by-hand-"), tree, seed)
	}

	j := judged{dir: filepath.Join(dir, "oci"), want: map[string]string{}}
	want := treetest.Dump(t, tree, treetest.MTimes)
	layout := program.Layout(j.dir)
	for _, w := range ways {
		for _, tag := range layout.TagNames(t) {
			if tag == w.name || strings.HasPrefix(tag, w.name+"-20") {
				j.want[tag] = want
			}
		}
	}
	for _, tag := range byHand {
		j.want[tag] = want
	}
	return j
}

// checkIn makes an image of a tree by hand: another random tree, many of whose paths are the same,
// is checked out and removed, and the tree is put there.
func checkIn(t *testing.T, genoci *program.Runner, tag, driver, tree string, seed uint64) {
	t.Helper()
	dir := filepath.Join(genoci.Dir, tag)
	other := filepath.Join(dir, "other")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	treetest.Make(t, other, randomTree(seed+1000))
	run(t, "tar", "-C", other, "--numeric-owner", "-czf", filepath.Join(dir, "other.tgz"), ".")
	program.Write(t, dir, "other.yaml", "other-"+driver+": {expand: other.tgz}\n")
	genoci.Run(t, "build", "-f", filepath.Join(dir, "other.yaml"), "--driver", driver, "--progress", "plain")
	work := filepath.Join(dir, "work")
	genoci.Run(t, "checkout", "--driver", driver, "other-"+driver, work)
	t.Cleanup(func() {
		if t.Failed() {
			_ = genoci.Try(t, "abort", work)
		}
	})
	run(t, "find", work+"/", "-mindepth", "1", "-delete")
	run(t, "cp", "-a", tree+"/.", work+"/")
	genoci.Run(t, "checkin", "--dir", work, tag)
}

// However the layer of a tree comes about, it is the same: byte for byte where genoci writes it.
// The trees are judged with all others.
func TestWays(t *testing.T) {
	strict.NeedRoot(t)
	bin, err := binary()
	if err != nil {
		strict.Lack(t, "genoci", err.Error())
	}
	for seed := range uint64(8) {
		j := sameWays(t, bin, seed)
		layout := program.Layout(j.dir)
		diffIDs := func(tag string) []string { return layout.Image(t, tag).Config.RootFS.DiffIDs }
		for _, w := range []string{"composed", "executed"} {
			if got, want := diffIDs(w), diffIDs("rewritten"); !slices.Equal(got, want) {
				t.Errorf("seed %d: %s is %v, rewritten %v", seed, w, got, want)
			}
		}
		if got, want := diffIDs("by-hand-vfs")[1], diffIDs("by-hand-overlay")[1]; got != want {
			t.Errorf("seed %d: checked in by hand with vfs it is %v, with overlay %v", seed, got, want)
		}
		for _, w := range []string{"executed-on-it", "zstd"} { // what changes nothing adds no layer
			if got, want := diffIDs(w), diffIDs("as-it-is"); !slices.Equal(got, want) {
				t.Errorf("seed %d: %s is %v, as it is %v", seed, w, got, want)
			}
		}
	}
}
