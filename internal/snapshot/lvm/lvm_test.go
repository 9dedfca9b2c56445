package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/sandbox"
	"genoci/internal/sandboxtest"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/snapshottest"
	"genoci/test/strict"
)

// poolVariable names the thin pool of the tests to the processes that they start.
const poolVariable = "GENOCI_TEST_LVM_POOL"

func TestMain(m *testing.M) {
	sandboxtest.Main(func() int { return withPool(m.Run) })
}

// withPool calls run while there is a thin pool in a file, where the machine can have one.
func withPool(run func() int) int {
	if os.Getenv(poolVariable) != "" || sandboxtest.Entered() != nil || check(fileSystems()[0]) != nil {
		return run()
	}
	dir, err := os.MkdirTemp("/var/tmp", "genoci-lvm-")
	if err != nil {
		panic(err)
	}
	l := loopbackIn(dir, fmt.Sprintf("genoci-test-%d", os.Getpid()), 2<<30)
	if _, err := l.Setup(); err != nil {
		panic(err)
	}
	os.Setenv(poolVariable, l.pool().String())
	code := run()
	if err := errors.Join(l.Destroy(), os.RemoveAll(dir)); err != nil {
		fmt.Println(err)
		code = 1
	}
	return code
}

func loopbackIn(dir, group string, size int64) *Loopback {
	return &Loopback{File: filepath.Join(dir, "lvm.img"), Group: group, Pool: "pool", Dir: filepath.Join(dir, "genoci"), Size: size}
}

func open(dir string) (snapshot.Driver, error) {
	d, err := openAs(dir, "")
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openAs(dir, fileSystem string) (*Driver, error) {
	if err := sandboxtest.Entered(); err != nil {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrUnsupported, err)
	}
	v, err := parseVolume(os.Getenv(poolVariable))
	if err != nil { // the machine cannot have one, and Open says why
		v = volume{"genoci-test", "pool"}
	}
	return Open(dir, Options{Group: v.group, Pool: v.name, FileSystem: fileSystem, Outside: sandbox.Outside})
}

// The trees are on volumes, on whatever file system the driver's folder is.
func TestLvm(t *testing.T)      { snapshottest.RunIn(t, "lvm", open, (*testing.T).TempDir) }
func BenchmarkLvm(b *testing.B) { snapshottest.Bench(b, "lvm", open) }

func openDriver(t *testing.T, dir, fileSystem string) *Driver {
	t.Helper()
	d, err := openAs(dir, fileSystem)
	if errors.Is(err, snapshot.ErrUnsupported) {
		strict.Lack(t, "lvm", err.Error())
	}
	strict.Must(t, err)
	return d
}

func newTree(t *testing.T, d *Driver, parent string) snapshot.Tree {
	t.Helper()
	tree, err := d.New(t.Context(), parent)
	strict.Must(t, err)
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// commit commits name: the snapshot parent, with a new file.
func commit(t *testing.T, d *Driver, parent, name string) {
	t.Helper()
	tree := newTree(t, d, parent)
	strict.Must(t, os.WriteFile(filepath.Join(tree.Dir(), name), []byte(name), 0o644), tree.Commit(t.Context(), name))
}

// volumesOf returns the volumes of a store.
func volumesOf(t *testing.T, d *Driver) []string {
	t.Helper()
	lines, err := report("lvs", "lv_name", "--select", "tags="+quote(d.tag), d.pool.group)
	strict.Must(t, err)
	var names []string
	for _, line := range lines {
		names = append(names, line[0])
	}
	return names
}

// wantVolumes wants the store to have as many volumes, each that of a part.
func wantVolumes(t *testing.T, d *Driver, dir string, want int) {
	t.Helper()
	got := volumesOf(t, d)
	if len(got) != want {
		t.Errorf("there are %d volumes, want %d: %q", len(got), want, got)
	}
	for _, name := range got {
		if _, err := os.Stat(filepath.Join(dir, "parts", strings.TrimPrefix(name, prefix))); err != nil {
			t.Errorf("volume %s is nobody's: %v", name, err)
		}
	}
}

// TestLvmSpace: what volumes have in common counts once, also when the one that they have it from
// has gone.
func TestLvmSpace(t *testing.T) {
	d := openDriver(t, t.TempDir(), "")
	const size = 4 << 20
	tree := newTree(t, d, "")
	strict.Must(t, os.WriteFile(filepath.Join(tree.Dir(), "big"), bytes.Repeat([]byte("genoci"), size/6), 0o644), tree.Commit(t.Context(), "base"))
	commit(t, d, "base", "one")
	commit(t, d, "base", "two")
	commit(t, d, "one", "three")
	for _, gone := range []string{"", "base", "one"} {
		if gone != "" {
			strict.Must(t, d.Remove(t.Context(), gone))
		}
		space, err := d.Space(t.Context())
		strict.Must(t, err)
		var all int64
		for _, n := range space.Parts {
			all += n
		}
		if all < size || all > size*3/2 {
			t.Errorf("after %q went, all takes %d bytes, of which there are %d", gone, all, size)
		}
		for _, tree := range space.Trees {
			var n int64
			for _, id := range tree.Parts {
				n += space.Parts[id]
			}
			if n < size {
				t.Errorf("after %q went, %s takes %d bytes", gone, tree.Name, n)
			}
		}
	}
}

// TestLvmVolumes: a volume goes when its part goes, and when the driver's folder was deleted.
func TestLvmVolumes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder, with blanks")
	d := openDriver(t, dir, "")
	commit(t, d, "", "base")
	commit(t, d, "base", "child")
	strict.Must(t, newTree(t, d, "child").Close())
	wantVolumes(t, d, dir, 2)
	v, err := d.View(t.Context(), "child")
	strict.Must(t, err)
	strict.Must(t, v.Close())
	wantVolumes(t, d, dir, 2)
	strict.Must(t, d.Remove(t.Context(), "base"))
	wantVolumes(t, d, dir, 1)

	strict.Must(t, beneath.RemovePath(dir))
	if got := volumesOf(t, d); len(got) != 1 {
		t.Fatalf("the volume of a folder that was deleted: %q", got)
	}
	wantVolumes(t, openDriver(t, dir, ""), dir, 0)
}

// TestLvmRest: volumes that nobody uses are put to rest when there are many, and wake up.
func TestLvmRest(t *testing.T) {
	d := openDriver(t, t.TempDir(), "")
	d.maxActive = 2
	parent := ""
	for i := range 4 {
		name := fmt.Sprint(i)
		commit(t, d, parent, name)
		parent = name
	}
	active := 0
	for _, name := range volumesOf(t, d) {
		if _, err := os.Stat(volume{d.pool.group, name}.device()); err == nil {
			active++
		}
	}
	if active > 2 {
		t.Errorf("%d volumes are active", active)
	}
	for _, name := range []string{"0", "3"} {
		v, err := d.View(t.Context(), name)
		strict.Must(t, err)
		_, err = os.Stat(filepath.Join(v.Dir(), name))
		strict.Must(t, err, v.Close())
		strict.Must(t, newTree(t, d, name).Close())
	}
}

// TestLvmXFS: xfs refuses to mount two file systems of one name, as snapshots are.
func TestLvmXFS(t *testing.T) {
	if _, err := findCommand("mkfs.xfs"); err != nil {
		strict.Lack(t, "lvm", err.Error())
	}
	d := openDriver(t, t.TempDir(), "xfs")
	commit(t, d, "", "base")
	one, two := newTree(t, d, "base"), newTree(t, d, "base")
	v, err := d.View(t.Context(), "base")
	strict.Must(t, err)
	strict.Must(t, v.Close(), one.Commit(t.Context(), "one"))
	strict.Must(t, two.Keep(t.Context(), "two", nil))
	_, err = d.Show(t.Context(), "two")
	strict.Must(t, err)
	again, err := d.Resume(t.Context(), "two")
	strict.Must(t, err)
	_, err = os.Stat(filepath.Join(again.Dir(), "base"))
	strict.Must(t, err, again.Close(), d.Hide(t.Context(), "two"), d.Drop(t.Context(), "two"))
}

// TestLvmFull: what does not fit into the pool is not committed, and what was committed stays.
func TestLvmFull(t *testing.T) {
	openDriver(t, t.TempDir(), "") // so that it is skipped where there cannot be one
	dir := t.TempDir()
	l := loopbackIn(dir, fmt.Sprintf("genoci-full-%d", os.Getpid()), 256<<20)
	_, err := l.Setup()
	strict.Must(t, err)
	defer func() { strict.Must(t, l.Destroy()) }()
	d, err := Open(l.Dir, Options{Group: l.Group, Pool: l.Pool})
	strict.Must(t, err)
	commit(t, d, "", "base")

	// Each file fits into the file system of a tree; two do not fit into the pool.
	large := make([]byte, 96<<20)
	for i := range large {
		large[i] = byte(i)
	}
	first, tree := newTree(t, d, "base"), newTree(t, d, "base")
	strict.Must(t, os.WriteFile(filepath.Join(first.Dir(), "large"), large, 0o644), first.Commit(t.Context(), "first"))
	strict.Must(t, os.WriteFile(filepath.Join(tree.Dir(), "large"), large, 0o644))
	err = tree.Commit(t.Context(), "large")
	if err == nil || !strings.Contains(err.Error(), "is full (data 100%") || !strings.Contains(err.Error(), "genoci gc") {
		t.Errorf("commit of more than fits: %v", err)
	}
	strict.Must(t, tree.Close())
	if d.Has("large") {
		t.Error("it is a snapshot")
	}
	commit(t, d, "base", "small")
	v, err := d.View(t.Context(), "small")
	strict.Must(t, err)
	for _, name := range []string{"base", "small"} {
		data, err := os.ReadFile(filepath.Join(v.Dir(), name))
		strict.Must(t, err)
		if string(data) != name {
			t.Errorf("%s holds %q", name, data)
		}
	}
	strict.Must(t, v.Close())
}

// TestLvmOpenFiles: a tree in which a file is open for writing is not committed.
func TestLvmOpenFiles(t *testing.T) {
	d := openDriver(t, t.TempDir(), "")
	tree := newTree(t, d, "")
	f, err := os.Create(filepath.Join(tree.Dir(), "f"))
	strict.Must(t, err)
	if err := tree.Commit(t.Context(), "open"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("commit with a file that is open: %v", err)
	}
	strict.Must(t, f.Close(), tree.Commit(t.Context(), "closed"))
}

// TestLvmMissing: what is lacking is named, with what helps.
func TestLvmMissing(t *testing.T) {
	openDriver(t, t.TempDir(), "")
	_, err := Open(t.TempDir(), Options{Group: "nobody", Pool: "pool"})
	if !errors.Is(err, snapshot.ErrUnsupported) || !strings.Contains(err.Error(), `Volume group "nobody" not found`) ||
		!strings.Contains(err.Error(), "genoci storage setup --driver lvm") {
		t.Errorf("Open without a pool: %v", err)
	}
}
