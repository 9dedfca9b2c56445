package mounts

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/sandboxtest"
	"genoci/test/strict"
)

func TestMain(m *testing.M) { sandboxtest.Main(m.Run) }

func TestBelow(t *testing.T) {
	sandboxtest.NeedMounts(t)
	dir := filepath.Join(t.TempDir(), "a b\n\\040")
	target := filepath.Join(dir, "tree/c d")
	link := filepath.Join(dir, "link")
	strict.Must(t, os.MkdirAll(target, 0o755), os.Mkdir(filepath.Join(dir, "tree2"), 0o755), os.Symlink("tree", link))
	for _, at := range []string{target, filepath.Join(dir, "tree2")} {
		strict.Must(t, unix.Mount(dir, at, "", unix.MS_BIND, ""))
		defer func() { strict.Must(t, Unmount(at)) }()
	}
	for name, want := range map[string]int{filepath.Join(dir, "tree"): 1, link: 1, target: 0, dir: 2, filepath.Join(dir, "none"): 0} {
		if got, err := Below(name); err != nil || len(got) != want {
			t.Errorf("%q: got %q, %v, want %d", name, got, err, want)
		}
	}
}

func TestBindReadOnly(t *testing.T) {
	sandboxtest.NeedMounts(t)
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	strict.Must(t, os.Mkdir(source, 0o755), os.Mkdir(target, 0o755), BindReadOnly(source, target))
	if err := os.WriteFile(filepath.Join(target, "f"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want %v", err, unix.EROFS)
	}
	f, err := os.Open(target)
	strict.Must(t, err)
	defer f.Close()
	if err := Unmount(target); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Unmount of what is in use: %v, want %v", err, unix.EBUSY)
	}
	strict.Must(t, Detach(target), os.WriteFile(filepath.Join(target, "f"), nil, 0o644))
	if err := BindReadOnly(filepath.Join(dir, "nothing"), target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("bind of nothing: %v", err)
	}
}
