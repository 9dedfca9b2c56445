package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/sandbox"
	"genoci/internal/sandboxtest"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/snapshot/snapshottest"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

func TestMain(m *testing.M) { sandboxtest.Main(m.Run) }

func open(dir string) (snapshot.Driver, error) {
	if err := sandboxtest.Entered(); err != nil {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrUnsupported, err)
	}
	// The suite's file systems are mounted in this process's namespace only, which therefore is the
	// outside too.
	outside := func(f func() error) error { return f() }
	return Open(dir, Options{Rootless: sandbox.Rootless(), Outside: outside})
}

func TestOverlay(t *testing.T)      { snapshottest.Run(t, "overlay", open) }
func BenchmarkOverlay(b *testing.B) { snapshottest.Bench(b, "overlay", open) }

func TestPowerCut(t *testing.T) { snapshottest.PowerCut(t, open, "ext4", "xfs", "btrfs") }

// openDriver opens a driver in the folder dir.
func openDriver(t *testing.T, dir string) *Driver {
	t.Helper()
	d, err := open(dir)
	if errors.Is(err, snapshot.ErrUnsupported) {
		strict.Lack(t, "overlay", err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return d.(*Driver)
}

// commit makes a snapshot of what change leaves in a tree.
func commit(t *testing.T, d *Driver, parent, name string, change func(dir string)) {
	t.Helper()
	tree := newTree(t, d, parent)
	change(tree.Dir())
	if err := tree.Commit(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func newTree(t *testing.T, d *Driver, parent string) snapshot.Tree {
	t.Helper()
	tree, err := d.New(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

func makes(t *testing.T, text string) func(dir string) {
	return func(dir string) { treetest.Make(t, dir, text, treetest.NoOwners) }
}

func TestTouched(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "base", makes(t, `
		dir/sub/f file
		emptied/f file
		file/f file
		gone file
		kept file
		kept.d/f file
		opaque/f file
		opaque/sub/f file
		written file
	`))
	tree := newTree(t, d, "base")
	at := func(name string) string { return filepath.Join(tree.Dir(), name) }
	strict.Must(t,
		os.Chmod(at("dir"), 0o700),
		os.Remove(at("emptied/f")),
		os.RemoveAll(at("file")), os.WriteFile(at("file"), nil, 0o644),
		os.Remove(at("gone")),
		os.MkdirAll(at("new/sub"), 0o755), os.WriteFile(at("new/sub/f"), nil, 0o644),
		os.RemoveAll(at("opaque")), os.Mkdir(at("opaque"), 0o755), os.WriteFile(at("opaque/g"), nil, 0o644),
		os.WriteFile(at("written"), []byte("x"), 0o644),
	)
	want := []string{".", "dir", "emptied", "emptied/f", "file", "gone", "new/", "opaque/", "written"}
	for range 2 { // it can be asked twice
		var got []string
		for path, err := range tree.(snapshot.Toucher).Touched(t.Context()) {
			strict.Must(t, err)
			got = append(got, path)
		}
		// Whether a folder is marked opaque that hides nothing is the kernel's affair.
		got = slices.DeleteFunc(got, func(p string) bool { return strings.HasPrefix(p, "new/sub") })
		for i, path := range got {
			if path == "new" {
				got[i] = "new/"
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("touched %q\n   want %q", got, want)
		}
	}
	for range tree.(snapshot.Toucher).Touched(t.Context()) {
		break // stops the walk without an error
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range tree.(snapshot.Toucher).Touched(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after cancelling: %v", err)
		}
	}
	if _, ok := newTree(t, d, "").(snapshot.Toucher); ok {
		t.Error("a tree without a parent says what was touched in it")
	}
}

// TestMayHaveLinks: a whiteout is no file, though the kernel makes all of them links of one.
func TestMayHaveLinks(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "base", makes(t, "a file\n b file\n c/d file"))
	tree := newTree(t, d, "base").(*mounted)
	at := func(name string) string { return filepath.Join(tree.Dir(), name) }
	expect := func(want bool) {
		t.Helper()
		if links, err := mayHaveLinks(tree.diff()); links != want || err != nil {
			t.Errorf("got %v, %v, want %v", links, err, want)
		}
	}
	strict.Must(t, os.Remove(at("a")), os.Remove(at("b")), os.WriteFile(at("c/d"), nil, 0o644))
	expect(false)
	strict.Must(t, os.Link(at("c/d"), at("e")))
	expect(true)
	strict.Must(t, os.Remove(at("e")))
	expect(false)
	for i := range 1000 {
		strict.Must(t, os.WriteFile(at(fmt.Sprint("c/", i)), nil, 0o644))
	}
	expect(true)
}

// TestOptions: nothing is left to the kernel's defaults (traps O1, O2).
func TestOptions(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "base", makes(t, "d/f file\n big file size=100000"))
	tree := newTree(t, d, "base")
	at := func(name string) string { return filepath.Join(tree.Dir(), name) }

	var want error
	if sandbox.Rootless() {
		want = unix.EXDEV
	}
	if err := os.Rename(at("d"), at("e")); !errors.Is(err, want) {
		t.Errorf("rename of the parent's folder: %v, want %v", err, want)
	}
	// With metacopy=on this would leave a file of the right size full of zeros.
	strict.Must(t, os.Chmod(at("big"), 0o600))
	data, err := os.ReadFile(filepath.Join(tree.(*mounted).diff(), "big"))
	strict.Must(t, err)
	if len(data) != 100000 || data[0] == 0 {
		t.Error("a file of which only the mode was changed is not copied up")
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	strict.Must(t, err)
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, tree.Dir()+" ") && !strings.Contains(line, "volatile") {
			t.Errorf("the mount is not volatile: %s", line)
		}
	}
}

// TestRefused: what does not stand for itself is not committed, and not passed over when changes
// are looked for.
func TestRefused(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "base", makes(t, "d/f file"))
	for _, test := range []struct {
		attr, value string
	}{{"redirect", "x/y"}, {"redirect", "/x/../y"}, {"redirect", ".."}, {"redirect", ""}, {"metacopy", ""}, {"whiteout", "y"}, {"opaque", "x"}} {
		tree := newTree(t, d, "base").(*mounted)
		planted := filepath.Join(tree.diff(), "planted")
		strict.Must(t, os.Mkdir(planted, 0o755), unix.Setxattr(planted, string(d.attrs)+test.attr, []byte(test.value), 0))
		want := "planted: overlay attribute " + string(d.attrs) + test.attr
		var err error
		for _, e := range tree.Touched(t.Context()) {
			err = errors.Join(err, e)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Touched: %v, want an error with %q", err, want)
		}
		if err := tree.Commit(t.Context(), "bad"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Commit: %v, want an error with %q", err, want)
		}
	}
	tree := newTree(t, d, "")
	planted := filepath.Join(tree.Dir(), "planted")
	strict.Must(t, os.Mkdir(planted, 0o755), unix.Setxattr(planted, d.attrs.opaque(), []byte("y"), 0))
	if err := tree.Commit(t.Context(), "bad"); err == nil {
		t.Error("an opaque folder was committed in a tree without parent")
	}
	tree = newTree(t, d, "")
	strict.Must(t, unix.Mknod(filepath.Join(tree.Dir(), "planted"), unix.S_IFCHR, 0))
	if err := tree.Commit(t.Context(), "bad"); err == nil {
		t.Error("a whiteout was committed in a tree without parent")
	}
	if d.Has("bad") {
		t.Error("there is a snapshot")
	}
}

// TestRedirects: a folder of the parent is renamed without a copy; what is committed stands for
// itself, and hard links out of the folder stay.
func TestRedirects(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "0", makes(t, "d/old file\n d/sub/f file\n"))
	commit(t, d, "0", "1", makes(t, "d/f file \"f\"\n d/g file <1> \"g\"\n d/h file <1> \"g\"\n d/sub/g file\n other/f file"))
	commit(t, d, "1", "2", func(dir string) {
		strict.Must(t, os.Remove(filepath.Join(dir, "d/old")), os.RemoveAll(filepath.Join(dir, "d/sub")))
	})
	commit(t, d, "2", "base", makes(t, "d/sub/h file"))
	if sandbox.Rootless() { // in user namespaces the kernel makes no redirects: nothing is renamed
		tree := newTree(t, d, "base")
		before := treetest.Dump(t, tree.Dir(), treetest.NoOwners)
		for _, name := range []string{"d", "d/sub", "other"} {
			if err := os.Rename(filepath.Join(tree.Dir(), name), filepath.Join(tree.Dir(), "e")); !errors.Is(err, unix.EXDEV) {
				t.Errorf("rename of %s: %v, want %v", name, err, unix.EXDEV)
			}
		}
		if after := treetest.Dump(t, tree.Dir(), treetest.NoOwners); after != before {
			t.Errorf("after renames that were refused:\n%s, before:\n%s", after, before)
		}
		return
	}
	change := func(dir string) {
		at := func(name string) string { return filepath.Join(dir, name) }
		strict.Must(t, os.Link(at("d/f"), at("link")), os.Rename(at("d"), at("e")), os.Rename(at("e/sub"), at("e/sub2")), os.Rename(at("other"), at("e/other")))
	}
	const want = `e/ dir 0755
e/f file 0644 <1> "f"
e/g file 0644 <2> "g"
e/h file 0644 <2> "g"
e/other/ dir 0755
e/other/f file 0644 ""
e/sub2/ dir 0755
e/sub2/h file 0644 ""
link file 0644 <1> "f"
`
	tree := newTree(t, d, "base").(*mounted)
	change(tree.Dir())
	if _, err := os.Lstat(filepath.Join(tree.diff(), "e/g")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder was copied: %v", err)
	}
	var got []string
	for path, err := range tree.Touched(t.Context()) {
		strict.Must(t, err)
		got = append(got, path)
	}
	if want := []string{".", "d", "e/", "link", "other"}; !slices.Equal(got, want) {
		t.Errorf("touched %q, want %q", got, want)
	}
	if diff := treetest.Diff(want, treetest.Dump(t, tree.Dir(), treetest.NoOwners)); diff != "" {
		t.Errorf("the tree:\n%s", diff)
	}
	before := treetest.Dump(t, tree.Dir(), treetest.Root, treetest.MTimes)

	// It can be kept with its redirects.
	strict.Must(t, tree.Keep(t.Context(), "kept", nil))
	resumed, err := d.Resume(t.Context(), "kept")
	strict.Must(t, err)
	if diff := treetest.Diff(before, treetest.Dump(t, resumed.Dir(), treetest.Root, treetest.MTimes)); diff != "" {
		t.Errorf("resumed:\n%s", diff)
	}
	// A commit that was killed has left half of a folder.
	treetest.Make(t, filepath.Join(tree.part.Dir(), "settled"), "half file", treetest.NoOwners)
	strict.Must(t, resumed.Commit(t.Context(), "moved"))

	v, err := d.View(t.Context(), "moved")
	strict.Must(t, err)
	if diff := treetest.Diff(before, treetest.Dump(t, v.Dir(), treetest.Root, treetest.MTimes)); diff != "" {
		t.Errorf("committed:\n%s", diff)
	}
	strict.Must(t, v.Close())
	for _, part := range newTree(t, d, "moved").(*mounted).part.Lowers() {
		if redirects, err := d.attrs.checkUpper(t.Context(), diff(part)); redirects || err != nil {
			t.Errorf("redirects in a snapshot: %v, %v", redirects, err)
		}
	}
	if left, err := os.ReadDir(tree.part.Dir()); err == nil && slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() == "settled" }) {
		t.Error("what was settled is left")
	}
}

// TestBusy: a file that is open for writing could change the snapshot after Commit.
func TestBusy(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "base", makes(t, "f file"))
	tree := newTree(t, d, "base")
	f, err := os.OpenFile(filepath.Join(tree.Dir(), "f"), os.O_WRONLY, 0)
	strict.Must(t, err)
	defer f.Close()
	if err := tree.Commit(t.Context(), "busy"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Commit: %v, want %v", err, unix.EBUSY)
	}
	strict.Must(t, tree.Close())
	if entries, err := os.ReadDir(filepath.Dir(tree.Dir())); err == nil {
		t.Errorf("Close left %v", entries)
	}
}

// TestFlatten: no chain is mounted from more than maxLowers folders, and those at the bottom are
// not copied.
func TestFlatten(t *testing.T) {
	d := openDriver(t, t.TempDir())
	parent := ""
	for i := range 3*maxLowers + 5 {
		name := fmt.Sprint(i)
		commit(t, d, parent, name, func(dir string) {
			makes(t, fmt.Sprintf("f%03d file", i))(dir)
			makes(t, "half file")(filepath.Join(filepath.Dir(dir), "merged")) // as a commit that was killed leaves it
		})
		parent = name
	}
	tree := newTree(t, d, parent).(*mounted)
	lowers := tree.part.Lowers()
	if len(lowers) > maxLowers {
		t.Errorf("the chain has %d folders", len(lowers))
	}
	for i := range keptLowers {
		want := fmt.Sprintf("f%03d file 0644 \"\"\n", i)
		got := treetest.Dump(t, diff(lowers[len(lowers)-1-i]), treetest.NoOwners)
		if diff := treetest.Diff(want, got); diff != "" {
			t.Errorf("folder %d from the bottom:\n%s", i, diff)
		}
	}
}

// TestFlattenMarks: a merged folder hides what its parts hid, and has no whiteouts where the kernel
// would list them.
func TestFlattenMarks(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "0", makes(t, "a/f file\n b/f file\n c/f file\n d/f file\n e/f file"))
	parent := "0"
	next := func(change func(dir string)) {
		name := parent + "+"
		commit(t, d, parent, name, change)
		parent = name
	}
	remove := func(names ...string) func(string) {
		return func(dir string) {
			for _, name := range names {
				strict.Must(t, os.RemoveAll(filepath.Join(dir, name)))
			}
		}
	}
	for range keptLowers - 1 {
		next(makes(t, ""))
	}
	next(remove("a", "b", "c/f"))           // whiteouts, of a folder and of a file
	next(makes(t, "a/g file\n n/x/y file")) // a folder in place of a whiteout, in another layer
	next(remove("n/x/y"))                   // a whiteout in a folder that no folder below the merged ones has
	next(remove("d"))                       //
	next(makes(t, "d file"))                // a file in place of a folder
	next(remove("d"))                       //
	next(makes(t, "d/h file"))              // and a folder in place of the file
	next(remove("e"))                       //
	next(makes(t, "e/e file\n e/f/g file")) // opaque
	for len(newTree(t, d, parent).(*mounted).part.Lowers()) != keptLowers+1 {
		next(makes(t, ""))
	}
	const want = `a/ dir 0755
a/g file 0644 ""
c/ dir 0755
d/ dir 0755
d/h file 0644 ""
e/ dir 0755
e/e file 0644 ""
e/f/ dir 0755
e/f/g file 0644 ""
n/ dir 0755
n/x/ dir 0755
`
	if diff := treetest.Diff(want, treetest.Dump(t, newTree(t, d, parent).Dir(), treetest.NoOwners)); diff != "" {
		t.Error(diff)
	}
}

// TestPaths: no character and no length of the driver's path matters (trap O11).
func TestPaths(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `a:b,c\d e`, strings.Repeat("long", 60), strings.Repeat("long", 60))
	d := openDriver(t, dir)
	commit(t, d, "", "one", makes(t, "f file"))
	commit(t, d, "one", "two", makes(t, "g file"))
	v, err := d.View(t.Context(), "two")
	strict.Must(t, err)
	if want, got := "f file 0644 \"\"\ng file 0644 \"\"\n", treetest.Dump(t, v.Dir(), treetest.NoOwners); got != want {
		t.Errorf("got:\n%s", got)
	}
	strict.Must(t, v.Close())
}

// TestMountOld: what is mounted by fsopen(2) can be mounted by mount(2), for kernels before 6.7.
func TestMountOld(t *testing.T) {
	openDriver(t, t.TempDir())
	dir := t.TempDir()
	for _, name := range []string{"work", "upper", "root"} {
		strict.Must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	o := overlay{upper: filepath.Join(dir, "upper"), work: filepath.Join(dir, "work")}
	want := ""
	for i := range maxLowers {
		lower := filepath.Join(dir, fmt.Sprint("lower", i))
		treetest.Make(t, lower, fmt.Sprintf("f%02d file", i), treetest.NoOwners)
		o.lowers = append(o.lowers, lower)
		want += fmt.Sprintf("f%02d file 0644 \"\"\n", i)
	}
	opened, err := o.open()
	strict.Must(t, err)
	defer opened.close()
	root := filepath.Join(dir, "root")
	attrs := rootAttributes
	if sandbox.Rootless() {
		attrs = rootlessAttributes
	}
	strict.Must(t, mountOld(opened.lowers, opened.options(attrs), root))
	defer func() { strict.Must(t, mounts.Unmount(root)) }()
	if diff := treetest.Diff(want, treetest.Dump(t, root, treetest.NoOwners)); diff != "" {
		t.Error(diff)
	}
}

// TestOnOverlay: an overlay cannot be the upper folder of another (trap O10).
func TestOnOverlay(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "base", makes(t, "f file"))
	dir := filepath.Join(newTree(t, d, "base").Dir(), "dir")
	_, err := open(dir)
	if !errors.Is(err, snapshot.ErrUnsupported) {
		t.Fatalf("Open: %v, want an error that is %q", err, snapshot.ErrUnsupported)
	}
	for _, part := range []string{"overlay in " + dir + " (itself on an overlay", "not supported as upperdir", "tmpfs, or the driver vfs"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q:\n%v", part, err)
		}
	}
}

// TestOtherAttributes: what root's overlay has written, the rootless one would not understand.
func TestOtherAttributes(t *testing.T) {
	dir := t.TempDir()
	openDriver(t, dir)
	_, err := Open(dir, Options{Rootless: !sandbox.Rootless()})
	if !errors.Is(err, snapshot.ErrUnsupported) {
		t.Errorf("Open: %v, want an error that is %q", err, snapshot.ErrUnsupported)
	}
}

// TestEscapedAttributes: attributes in the image that look like the overlay's own stay the image's,
// also when chains are flattened.
func TestEscapedAttributes(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "0", makes(t, "f file"))
	tree := newTree(t, d, "0")
	attr := string(d.attrs) + "mine"
	strict.Must(t, os.Mkdir(filepath.Join(tree.Dir(), "d"), 0o755))
	if err := unix.Setxattr(filepath.Join(tree.Dir(), "d"), attr, []byte("x"), 0); err != nil {
		t.Skipf("no escapes (Linux 6.7): %v", err)
	}
	strict.Must(t, tree.Commit(t.Context(), "1"))
	for i := 1; i <= maxLowers; i++ {
		commit(t, d, fmt.Sprint(i), fmt.Sprint(i+1), makes(t, fmt.Sprintf("f%d file", i)))
	}
	value := make([]byte, 10)
	n, err := unix.Getxattr(filepath.Join(newTree(t, d, fmt.Sprint(maxLowers+1)).Dir(), "d"), attr, value)
	if err != nil || string(value[:n]) != "x" {
		t.Errorf("%s is %q, %v", attr, value[:max(n, 0)], err)
	}
}

// TestStrayFiles: what somebody has put where a kept tree was mounted is not hidden by its next
// mount, and not deleted after that.
func TestStrayFiles(t *testing.T) {
	d := openDriver(t, t.TempDir())
	commit(t, d, "", "base", makes(t, "f file"))
	tree := newTree(t, d, "base")
	strict.Must(t, tree.Keep(t.Context(), "work", nil))
	makes(t, "stray file")(tree.Dir()) // as after a restart of the machine
	if _, err := d.Resume(t.Context(), "work"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("Resume: %v, want %v", err, unix.ENOTEMPTY)
	}
	strict.Must(t, os.Remove(filepath.Join(tree.Dir(), "stray")))
	resumed, err := d.Resume(t.Context(), "work")
	strict.Must(t, err, resumed.Commit(t.Context(), "child"))
}

// TestShowOutside: a tree that is shown is seen where the process came from, and stays when nobody
// of this process knows of it.
func TestShowOutside(t *testing.T) {
	if err := sandbox.Outside(func() error { return nil }); err != nil || sandboxtest.Entered() != nil {
		strict.Lack(t, "root", fmt.Sprint(err, sandboxtest.Entered()))
	}
	dir := t.TempDir()
	outside := Options{Outside: sandbox.Outside}
	d, err := Open(dir, outside)
	strict.Must(t, err)
	commit(t, d, "", "base", makes(t, "f file"))
	tree := newTree(t, d, "base")
	makes(t, "g file")(tree.Dir())
	strict.Must(t, tree.Keep(t.Context(), "work", nil))
	shown, err := d.Show(t.Context(), "work")
	strict.Must(t, err)
	t.Cleanup(func() {
		_ = sandbox.Outside(func() error { return mounts.Detach(shown) }) // where the test failed
	})

	var busy *os.File
	strict.Must(t, sandbox.Outside(func() (err error) {
		busy, err = os.Create(filepath.Join(shown, "h"))
		return err
	}))
	if err := d.Hide(t.Context(), "work"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Hide while a file is open: %v", err)
	}
	strict.Must(t, busy.Close())

	d, err = Open(dir, outside)
	strict.Must(t, err)
	resumed, err := d.Resume(t.Context(), "work")
	strict.Must(t, err)
	for _, name := range []string{"f", "g", "h"} {
		if _, err := os.Stat(filepath.Join(resumed.Dir(), name)); err != nil {
			t.Errorf("not seen here: %v", err)
		}
	}
	if err := resumed.Commit(t.Context(), "child"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Commit while it is shown: %v", err)
	}
	strict.Must(t, resumed.Close())
	if err := d.Drop(t.Context(), "work"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Drop while it is shown: %v", err)
	}
	strict.Must(t, d.Hide(t.Context(), "work"))
	strict.Must(t, sandbox.Outside(func() error {
		here, err := mounts.IsMountpoint(shown)
		if here {
			return errors.New("still mounted")
		}
		return err
	}))
	resumed, err = d.Resume(t.Context(), "work")
	strict.Must(t, err)
	defer resumed.Close()
	touched := map[string]bool{}
	for p, err := range resumed.(snapshot.Toucher).Touched(t.Context()) {
		strict.Must(t, err)
		touched[p] = true
	}
	if !touched["g"] || !touched["h"] {
		t.Errorf("touched are %v", touched)
	}
	strict.Must(t, resumed.Commit(t.Context(), "child"))
}
