package mounts

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/sandbox"
)

// enterErr is why there is no mount namespace of our own.
var enterErr error

func TestMain(m *testing.M) {
	sandbox.Init()
	enterErr = sandbox.Enter()
	os.Exit(m.Run())
}

func needMounts(t *testing.T) {
	t.Helper()
	if enterErr == nil {
		return
	}
	if strings.Contains(","+os.Getenv("GENOCI_REQUIRE")+",", ",userns,") {
		t.Fatal(enterErr)
	}
	t.Skipf("cannot mount: %v", enterErr)
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestBelow(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(t.TempDir(), "a b\n\\040")
	target := filepath.Join(dir, "tree/c d")
	link := filepath.Join(dir, "link")
	must(t, os.MkdirAll(target, 0o755), os.Mkdir(filepath.Join(dir, "tree2"), 0o755), os.Symlink("tree", link))
	for _, at := range []string{target, filepath.Join(dir, "tree2")} {
		must(t, unix.Mount(dir, at, "", unix.MS_BIND, ""))
		defer func() { must(t, Unmount(at)) }()
	}
	for name, want := range map[string]int{filepath.Join(dir, "tree"): 1, link: 1, target: 0, dir: 2, filepath.Join(dir, "none"): 0} {
		if got, err := Below(name); err != nil || len(got) != want {
			t.Errorf("%q: got %q, %v, want %d", name, got, err, want)
		}
	}
}

func TestBindReadOnly(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	must(t, os.Mkdir(source, 0o755), os.Mkdir(target, 0o755), BindReadOnly(source, target))
	if err := os.WriteFile(filepath.Join(target, "f"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want %v", err, unix.EROFS)
	}
	f, err := os.Open(target)
	must(t, err)
	defer f.Close()
	if err := Unmount(target); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Unmount of what is in use: %v, want %v", err, unix.EBUSY)
	}
	must(t, Detach(target), os.WriteFile(filepath.Join(target, "f"), nil, 0o644))
	if err := BindReadOnly(filepath.Join(dir, "nothing"), target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("bind of nothing: %v", err)
	}
}
