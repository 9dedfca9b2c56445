package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/sandboxtest"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

func TestMain(m *testing.M) { sandboxtest.Main(m.Run) }

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, "test", nil)
	strict.Must(t, err)
	return s
}

// part makes a part with a file of that name.
func part(t *testing.T, s *Store, parent, file string) *Part {
	t.Helper()
	p, err := s.New(t.Context(), parent)
	strict.Must(t, err)
	strict.Must(t, os.WriteFile(filepath.Join(p.Dir(), file), nil, 0o644))
	return p
}

func wantExist(t *testing.T, path string, want bool) {
	t.Helper()
	if _, err := os.Lstat(path); (err == nil) != want {
		t.Errorf("%s: exists %v, want %v (%v)", path, err == nil, want, err)
	}
}

func TestStoreKeepsLowers(t *testing.T) {
	s := openStore(t, t.TempDir())
	one := part(t, s, "", "f")
	strict.Must(t, one.Commit(t.Context(), "one", nil), one.Close())
	two := part(t, s, "one", "f")
	if lowers := two.Lowers(); len(lowers) != 1 || lowers[0] != one.Dir() {
		t.Errorf("lowers are %q, want %q", lowers, one.Dir())
	}
	strict.Must(t, two.Commit(t.Context(), "two", nil), two.Close())
	strict.Must(t, s.Remove(t.Context(), "one"))
	wantExist(t, one.Dir(), true)
	three := part(t, s, "two", "f")
	if lowers := three.Lowers(); len(lowers) != 2 || lowers[0] != two.Dir() || lowers[1] != one.Dir() {
		t.Errorf("lowers are %q, want %q and %q", lowers, two.Dir(), one.Dir())
	}
	strict.Must(t, s.Remove(t.Context(), "two"))
	wantExist(t, one.Dir(), true) // since three holds it
	strict.Must(t, three.SetLowers([]string{one.Dir()}), s.Remove(t.Context(), "nobody"))
	openStore(t, s.dir)
	wantExist(t, two.Dir(), false)
	wantExist(t, one.Dir(), true)
	strict.Must(t, three.Close())
	openStore(t, s.dir)
	wantExist(t, one.Dir(), false)
	wantExist(t, three.Dir(), false)
}

// TestStoreLost: a snapshot of which a part is missing, since someone cleaned up a cache by hand,
// does not exist, and can be made again.
func TestStoreLost(t *testing.T) {
	s := openStore(t, t.TempDir())
	one := part(t, s, "", "f")
	strict.Must(t, one.Commit(t.Context(), "one", nil), one.Close())
	two := part(t, s, "one", "f")
	strict.Must(t, two.Commit(t.Context(), "two", nil), two.Close())
	strict.Must(t, os.RemoveAll(one.Dir()))
	for _, name := range []string{"one", "two"} {
		if s.Has(name) {
			t.Errorf("snapshot %s is there without its data", name)
		}
		if _, err := s.New(t.Context(), name); !errors.Is(err, snapshot.ErrNotExist) {
			t.Errorf("New(%q): %v, want an error that is %q", name, err, snapshot.ErrNotExist)
		}
	}
	again := part(t, s, "", "f")
	strict.Must(t, again.Commit(t.Context(), "one", nil), again.Close())
	if !s.Has("one") {
		t.Error("the snapshot was not made again")
	}
	strict.Must(t, s.noteOpen("anything")) // what a store is not told of, it sees when it looks through all parts the next time
	s = openStore(t, s.dir)
	wantExist(t, two.Dir(), false)
	wantExist(t, filepath.Join(s.snapshots(), "two"), false)
	wantExist(t, again.Dir(), true)
}

// TestKeptLost: a kept tree of which the data is lost is none; the others are there.
func TestKeptLost(t *testing.T) {
	s := openStore(t, t.TempDir())
	lost, other := part(t, s, "", "f"), part(t, s, "", "f")
	strict.Must(t, lost.Keep(t.Context(), "lost", nil, nil), other.Keep(t.Context(), "other", nil, nil), os.RemoveAll(lost.Dir()))
	all, err := s.Kept(t.Context(), func(part string) (string, bool) { return part, true })
	strict.Must(t, err)
	if len(all) != 1 || all[0].Name != "other" {
		t.Errorf("kept are %+v", all)
	}
	busy, err := s.Busy()
	strict.Must(t, err)
	if busy {
		t.Error("somebody has it")
	}
	strict.Must(t, s.Drop(t.Context(), "lost"))
}

// TestKeptCommitted: what a tree that was kept stood on goes with the next look, when it no longer
// needs that.
func TestKeptCommitted(t *testing.T) {
	s := openStore(t, t.TempDir())
	below := part(t, s, "", "f")
	strict.Must(t, below.Commit(t.Context(), "below", nil), below.Close())
	kept := part(t, s, "below", "f")
	strict.Must(t, kept.Keep(t.Context(), "kept", nil, nil), s.Remove(t.Context(), "below"))
	openStore(t, s.dir)
	wantExist(t, below.Dir(), true)
	p, err := s.Resume(t.Context(), "kept")
	strict.Must(t, err, p.SetLowers(nil), p.Commit(t.Context(), "name", nil), p.Close())
	openStore(t, s.dir)
	wantExist(t, below.Dir(), false)
	wantExist(t, p.Dir(), true)
	if left, err := os.ReadDir(s.open()); err != nil || len(left) > 0 {
		t.Errorf("%v is noted, %v", left, err)
	}
}

// TestDiscardHalfway: what a process left that was killed while it kept a tree is no reason to
// leave the folder.
func TestDiscardHalfway(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "store"))
	strict.Must(t, os.Symlink("../parts/GONE", filepath.Join(s.dir, "kept.new")), s.Discard())
	wantExist(t, s.dir, false)
}

// TestStoreCrash: what a process leaves behind that dies while it makes or removes a part is
// removed.
func TestStoreCrash(t *testing.T) {
	s := openStore(t, t.TempDir())
	strict.Must(t,
		os.MkdirAll(filepath.Join(s.parts(), "EMPTY"), 0o700),
		os.MkdirAll(filepath.Join(s.parts(), "FULL", "d", "e"), 0o700),
		os.WriteFile(filepath.Join(s.parts(), "FULL", "lowers"), []byte("EMPTY"), 0o600),
		os.WriteFile(filepath.Join(s.dir, "format.new"), []byte("gen"), 0o600),
		s.noteOpen("FULL"),
	)
	openStore(t, s.dir)
	for _, id := range []string{"EMPTY", "FULL"} {
		wantExist(t, filepath.Join(s.parts(), id), false)
	}
}

// TestStoreReboot: what was only in memory when the machine went down cannot be trusted; what
// flushOld has written out can.
func TestStoreReboot(t *testing.T) {
	s := openStore(t, t.TempDir())
	one := part(t, s, "", "f")
	strict.Must(t, one.Commit(t.Context(), "one", nil), one.Close())
	longAgo := time.Now().Add(-2 * flushAge)
	strict.Must(t, os.Chtimes(filepath.Join(one.Dir(), "lowers"), longAgo, longAgo), s.flushOld())
	two := part(t, s, "one", "f")
	strict.Must(t, two.Commit(t.Context(), "two", nil), two.Close(), s.flushOld())
	wantExist(t, s.synced(one.id), true)
	wantExist(t, s.synced(two.id), false) // it is too new

	synced, unsynced, settled := part(t, s, "one", "f"), part(t, s, "one", "f"), part(t, s, "one", "f")
	strict.Must(t, synced.Keep(t.Context(), "synced", nil, nil))
	strict.Must(t, unsynced.KeepUnsynced(t.Context(), "unsynced", nil, nil), settled.KeepUnsynced(t.Context(), "settled", nil, nil))
	strict.Must(t, os.Chtimes(filepath.Join(settled.Dir(), "lowers"), longAgo, longAgo), s.flushOld())

	openStore(t, s.dir)
	if !s.Has("one") || !s.Has("two") {
		t.Error("a snapshot is gone, though the machine was up all the time")
	}
	wantExist(t, unsynced.Dir(), true)
	for _, boot := range []string{"another", ""} {
		strict.Must(t, os.WriteFile(filepath.Join(s.dir, "boot"), []byte(boot), 0o600))
		openStore(t, s.dir)
		if !s.Has("one") || s.Has("two") {
			t.Errorf("boot %q: one is there: %v, want true; two: %v, want false", boot, s.Has("one"), s.Has("two"))
		}
		wantExist(t, two.Dir(), false)
		wantExist(t, synced.Dir(), true)
		wantExist(t, unsynced.Dir(), false)
		wantExist(t, settled.Dir(), true)
	}
}

// TestFlushOld: what has been there for a while is marked, once in a while.
func TestFlushOld(t *testing.T) {
	s := openStore(t, t.TempDir())
	longAgo := time.Now().Add(-2 * flushAge)
	old := func(name string) *Part {
		p := part(t, s, "", "f")
		strict.Must(t, p.Commit(t.Context(), name, nil), p.Close(), os.Chtimes(filepath.Join(p.Dir(), "lowers"), longAgo, longAgo))
		return p
	}
	one := old("one")
	late := part(t, s, "", "f")
	strict.Must(t, late.Commit(t.Context(), "late", nil), late.Close())
	wantExist(t, s.synced(one.id), false) // opening the store has not begun anything
	strict.Must(t, s.FlushOld())
	wantExist(t, s.synced(one.id), true)
	wantExist(t, s.synced(late.id), false)

	two := old("two")
	strict.Must(t, s.FlushOld())
	wantExist(t, s.synced(two.id), false)
	strict.Must(t, os.Chtimes(filepath.Join(s.dir, "settled"), longAgo, longAgo), s.FlushOld())
	wantExist(t, s.synced(two.id), true)
}

func TestStoreFormat(t *testing.T) {
	dir := t.TempDir()
	openStore(t, dir)
	openStore(t, dir)
	_, err := Open(dir, "other", nil)
	if !errors.Is(err, snapshot.ErrUnsupported) {
		t.Errorf("another driver: %v, want an error that is %q", err, snapshot.ErrUnsupported)
	}
	data, err := os.ReadFile(filepath.Join(dir, "format"))
	strict.Must(t, err)
	strict.Must(t, os.WriteFile(filepath.Join(dir, "format"), []byte(strings.Replace(string(data), "uid_map", "uid_map 7 7 7\nuid_map", 1)), 0o600))
	if _, err := Open(dir, "test", nil); !errors.Is(err, snapshot.ErrUnsupported) {
		t.Errorf("other ids: %v, want an error that is %q", err, snapshot.ErrUnsupported)
	}
}

// TestStoreFormatLost: a crash that leaves nothing of the format file takes with it what was in
// memory only, and nothing else.
func TestStoreFormatLost(t *testing.T) {
	for _, left := range []string{"", "\x00\x00\x00"} {
		dir := t.TempDir()
		s := openStore(t, dir)
		unsynced, synced := part(t, s, "", "f"), part(t, s, "", "f")
		strict.Must(t, unsynced.KeepUnsynced(t.Context(), "unsynced", nil, nil), synced.Keep(t.Context(), "synced", nil, nil))
		strict.Must(t, os.WriteFile(filepath.Join(dir, "format"), []byte(left), 0o600))
		openStore(t, dir)
		wantExist(t, unsynced.Dir(), false)
		wantExist(t, synced.Dir(), true)
		openStore(t, dir)
	}
}

func TestCommitFails(t *testing.T) {
	s := openStore(t, t.TempDir())
	p := part(t, s, "", "f")
	failure := errors.New("not ready")
	if err := p.Commit(t.Context(), "name", func() error { return failure }); !errors.Is(err, failure) {
		t.Errorf("Commit: %v, want %v", err, failure)
	}
	if s.Has("name") {
		t.Error("there is a snapshot of it")
	}
	strict.Must(t, p.Close())
	wantExist(t, p.Dir(), false)
}

// TestCommitLate: the name that another build takes while this one prepares stays the other's.
func TestCommitLate(t *testing.T) {
	s := openStore(t, t.TempDir())
	first, late := part(t, s, "", "first"), part(t, s, "", "late")
	strict.Must(t, late.Commit(t.Context(), "name", func() error { return first.Commit(t.Context(), "name", nil) }))
	strict.Must(t, first.Close(), late.Close())
	wantExist(t, filepath.Join(s.snapshots(), "name", "first"), true)
	wantExist(t, late.Dir(), false)
}

func TestRemoveAll(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	strict.Must(t, os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "kept"), nil, 0o644))
	tree := filepath.Join(dir, "tree")
	strict.Must(t, os.Mkdir(tree, 0o755), os.Symlink(outside, filepath.Join(tree, "link")))
	treetest.Make(t, tree, `
		d/e/f file
		locked/ dir 0000
		readonly/d/f file 0000
		readonly/d/ dir 0500
		readonly/ dir 0500
		fifo fifo
	`)
	strict.Must(t, beneath.RemovePath(tree))
	wantExist(t, tree, false)
	wantExist(t, filepath.Join(outside, "kept"), true)
	strict.Must(t, beneath.RemovePath(tree), beneath.RemovePath(filepath.Join(tree, "below", "nothing")))

	link := filepath.Join(dir, "link")
	strict.Must(t, os.Symlink(outside, link), beneath.RemovePath(link))
	wantExist(t, link, false)
	wantExist(t, filepath.Join(outside, "kept"), true)
}

// TestRemoveAllDeep: no depth is too deep, neither for the length of paths nor for the number of
// open files.
func TestRemoveAllDeep(t *testing.T) {
	var limit unix.Rlimit
	strict.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	lower := limit
	lower.Cur = min(limit.Cur, 512)
	strict.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &lower))
	defer func() { strict.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()

	tree := filepath.Join(t.TempDir(), "tree")
	strict.Must(t, os.Mkdir(tree, 0o755))
	fd, err := unix.Open(tree, unix.O_PATH, 0)
	strict.Must(t, err)
	for range 1500 {
		strict.Must(t, unix.Mkdirat(fd, "deep", 0o755), unix.Mknodat(fd, "file", unix.S_IFREG|0o644, 0))
		next, err := unix.Openat(fd, "deep", unix.O_PATH, 0)
		strict.Must(t, err, unix.Close(fd))
		fd = next
	}
	strict.Must(t, unix.Close(fd))
	strict.Must(t, beneath.RemovePath(tree))
	wantExist(t, tree, false)
}

// TestRemoveAllMounts: a mount is never crossed, not even one of the same file system.
func TestRemoveAllMounts(t *testing.T) {
	sandboxtest.NeedMounts(t)
	dir := t.TempDir()
	outside, tree := filepath.Join(dir, "outside"), filepath.Join(dir, "tree")
	for _, name := range []string{"dir", "file"} {
		treetest.Make(t, outside, "kept file", treetest.NoOwners)
		strict.Must(t, os.MkdirAll(filepath.Join(tree, "dir"), 0o755), os.WriteFile(filepath.Join(tree, "file"), nil, 0o644))
		source, target := outside, filepath.Join(tree, name)
		if name == "file" {
			source = filepath.Join(outside, "kept")
		}
		strict.Must(t, unix.Mount(source, target, "", unix.MS_BIND, ""))
		if err := beneath.RemovePath(tree); !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EBUSY) {
			t.Errorf("RemoveAll: %v, want %v or %v", err, unix.EXDEV, unix.EBUSY)
		}
		strict.Must(t, mounts.Unmount(target))
		wantExist(t, filepath.Join(outside, "kept"), true)
		strict.Must(t, beneath.RemovePath(tree), beneath.RemovePath(outside))
	}
}

// TestProbe: what was found out is not tried again, until the machine starts anew or the file
// system is another.
func TestProbe(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	tries := 0
	probe := func(wantTries int) {
		t.Helper()
		result, err := s.Probe(func(part string) (string, error) {
			tries++
			return "it works", os.WriteFile(filepath.Join(part, "tried"), nil, 0o600)
		})
		strict.Must(t, err)
		if result != "it works" || tries != wantTries {
			t.Errorf("%q after %d tries, want %d", result, tries, wantTries)
		}
	}
	probe(1)
	probe(1)
	note := filepath.Join(dir, "probed")
	data, err := os.ReadFile(note)
	strict.Must(t, err)
	_, device, _ := strings.Cut(string(data), "\n")
	for i, other := range []string{"", string(data[:len(data)-1]), "boot another\n" + device, strings.Replace(string(data), "device ", "device 1", 1)} {
		strict.Must(t, os.WriteFile(note, []byte(other), 0o600))
		probe(i + 2)
	}
	probe(5)
	if _, err := s.Probe(func(string) (string, error) { return "", nil }); err != nil {
		t.Errorf("a try that would fail was made: %v", err)
	}
	strict.Must(t, os.Remove(note))
	broken := errors.New("broken")
	for range 2 {
		if _, err := s.Probe(func(string) (string, error) { return "", broken }); !errors.Is(err, broken) {
			t.Errorf("Probe: %v, want %v, each time", err, broken)
		}
	}
	if entries, err := os.ReadDir(s.parts()); err != nil || len(entries) > 0 {
		t.Errorf("%d parts are left, %v", len(entries), err)
	}
}

// TestFull: a store in a full file system can be opened, and what is in it removed, also after a
// restart of the machine.
func TestFull(t *testing.T) {
	sandboxtest.NeedMounts(t)
	dir := t.TempDir()
	strict.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	defer func() { strict.Must(t, mounts.Unmount(dir)) }()
	s := openStore(t, dir)
	p := part(t, s, "", "f")
	strict.Must(t, p.Commit(t.Context(), "name", nil), p.Close(), s.setSynced(p.id), os.WriteFile(filepath.Join(dir, "boot"), []byte("another"), 0o600))
	if err := os.WriteFile(filepath.Join(p.Dir(), "f"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	result, err := s.Probe(func(part string) (string, error) {
		return "", fmt.Errorf("%w: %w", snapshot.ErrUnsupported, os.WriteFile(filepath.Join(part, "f"), []byte("x"), 0o600))
	})
	if result != "" || err != nil {
		t.Errorf("Probe: %q, %v", result, err)
	}
	if !s.Has("name") {
		t.Error("the snapshot is gone")
	}
	strict.Must(t, s.Remove(t.Context(), "name"))
	wantExist(t, p.Dir(), false)
}

// TestClear: the driver removes what RemoveAll would not, in every way that a part goes, half made
// ones too.
func TestClear(t *testing.T) {
	dir := t.TempDir()
	cleared := map[string]int{}
	open := func() *Store {
		s, err := Open(dir, "test", func(part string) error {
			cleared[filepath.Base(part)]++
			_, err := os.Lstat(part)
			return err
		})
		strict.Must(t, err)
		return s
	}
	s := open()
	dropped := part(t, s, "", "f")
	strict.Must(t, dropped.Close())
	removed := part(t, s, "", "f")
	strict.Must(t, removed.Commit(t.Context(), "name", nil), removed.Close(), s.Remove(t.Context(), "name"))
	left := part(t, s, "", "f")
	left.release()
	half := filepath.Join(s.parts(), "HALF")
	strict.Must(t, os.Mkdir(half, 0o700))
	open()
	for _, id := range []string{dropped.id, removed.id, left.id, "HALF"} {
		if cleared[id] != 1 {
			t.Errorf("part %s was cleared %d times", id, cleared[id])
		}
	}
	if len(cleared) != 4 {
		t.Errorf("cleared: %v", cleared)
	}
	if entries, err := os.ReadDir(s.parts()); err != nil || len(entries) > 0 {
		t.Errorf("%d parts are left, %v", len(entries), err)
	}
}

// Many parts are measured at once, and many snapshots removed.
func TestStoreOfManyParts(t *testing.T) {
	s := openStore(t, t.TempDir())
	var names []string
	for i := range 200 {
		p := part(t, s, "", "f")
		names = append(names, fmt.Sprint(i))
		strict.Must(t, p.Commit(t.Context(), names[i], nil), p.Close())
	}
	space, err := s.Space(t.Context())
	strict.Must(t, err)
	if len(space.Trees) != len(names) || len(space.Parts) != len(names) {
		t.Errorf("%d trees of %d parts, want %d", len(space.Trees), len(space.Parts), len(names))
	}
	for id, n := range space.Parts {
		if n == 0 {
			t.Errorf("part %s is empty", id)
		}
	}
	strict.Must(t, s.Remove(t.Context(), append(names[1:], "none")...))
	left, err := s.Names(t.Context())
	strict.Must(t, err)
	if len(left) != 1 || left[0] != names[0] {
		t.Errorf("left are %q", left)
	}
	if parts, err := os.ReadDir(s.parts()); err != nil || len(parts) != 1 {
		t.Errorf("%d parts are left (%v)", len(parts), err)
	}
}

// TestOpenStoreFollowsNoLink: a folder of the store that is a symlink may lead to what is somebody
// else's.
func TestOpenStoreFollowsNoLink(t *testing.T) {
	for _, name := range []string{"parts", "snapshots", "kept", "open"} {
		dir, outside := t.TempDir(), t.TempDir()
		openStore(t, dir)
		theirs := filepath.Join(outside, "theirs")
		strict.Must(t, os.RemoveAll(filepath.Join(dir, name)), os.MkdirAll(theirs, 0o755), os.Symlink(outside, filepath.Join(dir, name)))
		if _, err := Open(dir, "test", nil); !errors.Is(err, beneath.ErrElsewhere) {
			t.Errorf("%s: %v, want %v", name, err, beneath.ErrElsewhere)
		}
		wantExist(t, theirs, true)
	}

	dir, outside := t.TempDir(), t.TempDir()
	s := openStore(t, dir)
	theirs := filepath.Join(outside, "theirs")
	strict.Must(t, os.MkdirAll(theirs, 0o755), os.Symlink(outside, filepath.Join(s.parts(), "part")), s.noteOpen("part"))
	if _, err := Open(dir, "test", nil); !errors.Is(err, beneath.ErrElsewhere) {
		t.Errorf("a part: %v, want %v", err, beneath.ErrElsewhere)
	}
	wantExist(t, theirs, true)
	wantExist(t, filepath.Join(outside, "lowers"), false)
}
