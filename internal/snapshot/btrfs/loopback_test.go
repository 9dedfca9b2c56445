package btrfs

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/sandbox"
	"genoci/internal/sandboxtest"
	"genoci/internal/snapshot/loop"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/snapshot/snapshottest"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

// needRoot skips what only root can do, where loop devices are.
func needRoot(t *testing.T) {
	t.Helper()
	if sandboxtest.Entered() != nil || sandbox.Rootless() {
		strict.Lack(t, "root", "a file is mounted by root only")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		strict.Lack(t, "loop", err.Error())
	}
}

// loopback returns a loopback in a folder, not set up, that is gone when the test ends.
func loopback(t *testing.T, dir string, size int64) *Loopback {
	t.Helper()
	l := &Loopback{File: filepath.Join(dir, "file"), Mount: filepath.Join(dir, "mount"), Size: size}
	t.Cleanup(func() { strict.Must(t, l.Destroy()) })
	return l
}

func setUp(t *testing.T, l *Loopback) []string {
	t.Helper()
	done, err := l.Setup(t.Context())
	strict.Must(t, err)
	return done
}

// detach detaches l, and waits for the end of its device: other tests may have processes with
// copies of all mounts.
func detach(t *testing.T, l *Loopback) {
	t.Helper()
	strict.Must(t, l.Detach())
	for range 6000 {
		devices, err := loop.Devices(l.File)
		strict.Must(t, err)
		if len(devices) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s is still attached", l.File)
}

func stateOf(t *testing.T, l *Loopback) State {
	t.Helper()
	s, err := l.State()
	strict.Must(t, err)
	return s
}

// TestLoopbackSuite: the driver passes the suite on a btrfs that no mkfs.btrfs has made.
func TestLoopbackSuite(t *testing.T) {
	needRoot(t)
	snapshottest.RunIn(t, "btrfs", open, func(t *testing.T) string {
		l := loopback(t, t.TempDir(), 2<<30)
		setUp(t, l)
		return l.Mount
	})
}

// TestLoopback: what is there is left alone, what is missing is made, and what was not made by
// Setup is neither used nor removed.
func TestLoopback(t *testing.T) {
	needRoot(t)
	l := loopback(t, t.TempDir(), 1<<30)
	if s := stateOf(t, l); s.Made || s.Foreign || s.Mounted || s.Device != "" {
		t.Errorf("before: %+v", s)
	}
	if done := setUp(t, l); len(done) != 3 {
		t.Errorf("done: %q", done)
	}
	s := stateOf(t, l)
	if !s.Made || !s.Mounted || s.Device == "" || s.Size != 1<<30 || s.Taken > 16<<20 {
		t.Errorf("set up: %+v", s)
	}
	if done := setUp(t, l); len(done) != 0 {
		t.Errorf("done again: %q", done)
	}
	strict.Must(t, os.WriteFile(filepath.Join(l.Mount, "mine"), []byte("x"), 0o600))

	l.Size = 2 << 30
	setUp(t, l)
	if s := stateOf(t, l); s.Size != 2<<30 {
		t.Errorf("made larger: %+v", s)
	}
	l.Size = 1 << 30
	if _, err := l.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot become smaller") {
		t.Errorf("made smaller: %v", err)
	}
	l.Size = 0

	held, err := os.Open(l.Dir())
	strict.Must(t, err)
	if err := l.Destroy(); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "btrfs.test (process ") {
		t.Errorf("removed while in use: %v", err)
	}
	strict.Must(t, held.Close())
	detach(t, l)
	strict.Must(t, l.Detach())
	if s := stateOf(t, l); !s.Made || s.Mounted || s.Device != "" {
		t.Errorf("detached: %+v", s)
	}
	check(t, l.File)
	setUp(t, l)
	if _, err := os.Stat(filepath.Join(l.Mount, "mine")); err != nil {
		t.Errorf("after it was attached again: %v", err)
	}
	strict.Must(t, l.Destroy(), l.Destroy())
	if _, err := os.Stat(l.File); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// TestForeign: files and mounts of others are refused, and stay.
func TestForeign(t *testing.T) {
	needRoot(t)
	l := loopback(t, t.TempDir(), 1<<30)
	for _, content := range []string{"", "short", strings.Repeat("long", 1<<20)} {
		strict.Must(t, os.WriteFile(l.File, []byte(content), 0o600))
		if _, err := l.Setup(t.Context()); !errors.Is(err, ErrForeign) {
			t.Errorf("set up on a file of %d bytes: %v", len(content), err)
		}
		if err := l.Destroy(); !errors.Is(err, ErrForeign) {
			t.Errorf("removed a file of %d bytes: %v", len(content), err)
		}
		if data, err := os.ReadFile(l.File); err != nil || string(data) != content {
			t.Errorf("the file was changed: %v", err)
		}
	}
	strict.Must(t, os.Remove(l.File), unix.Mkfifo(l.File, 0o600))
	if _, err := l.Setup(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("set up on a fifo: %v", err)
	}
	strict.Must(t, os.Remove(l.File), os.WriteFile(l.File, nil, 0o600), os.Truncate(l.File, 1<<30))
	if out, err := snapshottest.Command(t, "mkfs.btrfs", "-q", "-L", "other", l.File); err != nil {
		t.Fatal(err, out)
	}
	if err := l.Destroy(); !errors.Is(err, ErrForeign) {
		t.Errorf("removed another btrfs: %v", err)
	}
	strict.Must(t, os.Mkdir(l.Mount, 0o755))
	if out, err := snapshottest.Command(t, "mount", "-o", "loop", l.File, l.Mount); err != nil {
		t.Fatal(err, out)
	}
	strict.Must(t, l.Detach())
	if m, err := mountAt(l.Mount); m == nil || err != nil {
		t.Errorf("unmounted another btrfs: %v", err)
	}
	strict.Must(t, mounts.Unmount(l.Mount), os.Remove(l.File), unix.Mount("other", l.Mount, "tmpfs", 0, ""))
	if _, err := l.Setup(t.Context()); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "other is mounted there") {
		t.Errorf("set up over another mount: %v", err)
	}
	strict.Must(t, l.Destroy(), mounts.Unmount(l.Mount))
}

// TestHostileFolder: in a folder where anybody may make files, as /tmp, nothing is written through
// a link, nor a file mounted that is somebody else's.
func TestHostileFolder(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	l := loopback(t, dir, 1<<30)
	victim := filepath.Join(dir, "victim")
	strict.Must(t, os.WriteFile(victim, []byte("x"), 0o600), os.Symlink(victim, filepath.Join(dir, ".file.genoci-new")))
	setUp(t, l)
	if data, err := os.ReadFile(victim); err != nil || string(data) != "x" {
		t.Errorf("the target of a link was written to: %v", err)
	}
	detach(t, l)
	strict.Must(t, os.Chown(l.File, 1, 1))
	if _, err := l.Setup(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("set up what a user may write to: %v", err)
	}
	strict.Must(t, os.Chown(l.File, 0, 0))
}

// TestOnExisting: on a btrfs that is there, no file is made.
func TestOnExisting(t *testing.T) {
	snapshottest.OnFileSystem(t, "btrfs", func(t *testing.T, tempDir func(*testing.T) string) {
		l := loopback(t, tempDir(t), 0)
		setUp(t, l)
		if s := stateOf(t, l); !s.Given || s.Made || s.Mounted {
			t.Errorf("%+v", s)
		}
		d, err := open(l.Dir())
		strict.Must(t, err)
		commit(t, d.(*Driver), "", "base", makes(t, "f file"))
		strict.Must(t, os.WriteFile(filepath.Join(l.Mount, "mine"), nil, 0o600), l.Detach(), l.Destroy())
		if _, err := os.Stat(filepath.Join(l.Mount, "mine")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(l.Dir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the driver's folder is still there: %v", err)
		}
	})
}

// TestSideBySide: two loopbacks are used at once, set up by several at once, and have no fault
// afterwards.
func TestSideBySide(t *testing.T) {
	needRoot(t)
	var both []*Loopback
	for range 2 {
		l := loopback(t, t.TempDir(), 4<<30)
		both = append(both, l)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := l.Setup(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if devices, err := loop.Devices(l.File); err != nil || len(devices) != 1 {
			t.Errorf("devices of %s: %v, %v", l.File, devices, err)
		}
	}
	block := make([]byte, 1<<20)
	for i := range 200 {
		rand.Read(block)
		for _, l := range both {
			f, err := os.OpenFile(filepath.Join(l.Mount, "big"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			strict.Must(t, err)
			_, err = f.Write(block[:len(block)-i])
			strict.Must(t, err, f.Close())
		}
	}
	for _, l := range both {
		detach(t, l)
		check(t, l.File)
		setUp(t, l)
		strict.Must(t, os.Remove(filepath.Join(l.Mount, "big")))
	}
}

// TestHostFull: the file system that holds the file is full while the btrfs has space. That is
// told, and what was committed is there again when there is space.
func TestHostFull(t *testing.T) {
	needRoot(t)
	below := small(t, 300<<20)
	l := loopback(t, below, 2<<30)
	setUp(t, l)
	d, err := Open(l.Dir())
	strict.Must(t, err)
	commit(t, d, "", "base", makes(t, `f file size=5000000`))
	commit(t, d, "base", "child", makes(t, `g file size=5000000`))
	want := dumpOf(t, d, "child")

	tree := newTree(t, d, "child")
	f, err := os.Create(filepath.Join(tree.Dir(), "big"))
	strict.Must(t, err)
	block := make([]byte, 1<<20)
	for range 400 { // it fits into the btrfs
		rand.Read(block)
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	_ = f.Close() // what was lost is told by Commit
	err = tree.Commit(t.Context(), "full")
	if err == nil || !strings.Contains(err.Error(), "no space left on device on the filesystem of "+l.File+" (") {
		t.Errorf("commit: %v", err)
	}
	t.Logf("commit: %v", err)
	_ = tree.Close() // nothing can be removed where nothing can be written
	if _, err = d.New(t.Context(), "child"); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), l.File) {
		t.Errorf("new: %v", err)
	}
	t.Logf("new: %v", err)

	strict.Must(t, os.Remove(filepath.Join(below, "ballast")))
	detach(t, l)
	setUp(t, l)
	d, err = Open(l.Dir())
	strict.Must(t, err)
	if diff := treetest.Diff(want, dumpOf(t, d, "child")); diff != "" {
		t.Errorf("what was committed (- before, + after):\n%s", diff)
	}
	if d.Has("full") {
		t.Error("what could not be committed is there")
	}
	commit(t, d, "child", "next", makes(t, "h file"))
	detach(t, l)
	check(t, l.File)
}

// small mounts an ext4 of so many bytes, of which a file called ballast takes a bit.
func small(t *testing.T, size int64) string {
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	strict.Must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, size), os.Mkdir(mount, 0o755))
	if out, err := snapshottest.Command(t, "mkfs.ext4", "-q", "-m", "0", "-b", "4096", image); err != nil {
		t.Fatal(err, out)
	}
	device, err := loop.Attach(image, true)
	strict.Must(t, err, unix.Mount(device.Name(), mount, "ext4", 0, ""), device.Close())
	t.Cleanup(func() { strict.Must(t, mounts.Unmount(mount)) })
	strict.Must(t, os.WriteFile(filepath.Join(mount, "ballast"), make([]byte, 100<<20), 0o600))
	return mount
}

func dumpOf(t *testing.T, d *Driver, name string) string {
	t.Helper()
	view, err := d.View(t.Context(), name)
	strict.Must(t, err)
	defer view.Close()
	return treetest.Dump(t, view.Dir(), treetest.MTimes)
}
