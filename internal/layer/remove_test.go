package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRemoveAll(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.MkdirAll(outside+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(tree+"/a/b/c", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"", "/a", "/a/b"} {
		for i := range 3 {
			if err := os.WriteFile(fmt.Sprint(tree, d, "/file", i), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(fmt.Sprint(tree, d, "/dir", i, "/x"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(outside, tree+d+"/link"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(tree, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir + "/link", tree + "/", tree, dir + "/none/x", dir + "/outside/sub/x"} {
		if err := RemoveAll(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	t.Chdir(outside)
	for _, path := range []string{"", ".", "..", "/", "//", "sub/../.."} {
		if err := RemoveAll(path); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v", path, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "outside" {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(outside + "/sub"); err != nil {
		t.Errorf("a symlink was followed: %v", err)
	}
}

// Trees may be deeper than a path can be long, and than files can be open.
func TestRemoveAllDeep(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	makeDeep(t, top, 250)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit), unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: limit.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
	if err := RemoveAll(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

// makeDeep makes folders n deep, with names of 20 bytes and a file beside each.
func makeDeep(t testing.TB, top string, n int) {
	t.Helper()
	if err := os.Mkdir(top, 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := openRoot(top)
	for range n {
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Repeat("d", 20)
		if err := errors.Join(unix.Mkdirat(fd, name, 0o700), unix.Mknodat(fd, "file", unix.S_IFREG|0o600, 0)); err != nil {
			t.Fatal(err)
		}
		next, openErr := openBelow(fd, name, unix.O_PATH|unix.O_DIRECTORY)
		unix.Close(fd)
		fd, err = next, openErr
	}
	unix.Close(fd)
}

// Folders without permissions are removed by their owner.
func TestRemoveAllForbidden(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []os.FileMode{0, 0o400, 0o500, 0o100} {
		top := filepath.Join(dir, "top")
		if err := os.MkdirAll(top+"/a/b", 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{top + "/a/b", top + "/a", top} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := RemoveAll(top); err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

// A mount stays, with all that is in it.
func TestRemoveAllMount(t *testing.T) {
	withMount(t, func(dir string) {
		for _, path := range []string{dir, dir + "/mnt"} {
			if err := RemoveAll(path); !errors.Is(err, unix.EBUSY) {
				t.Errorf("%s: %v", path, err)
			}
		}
		if _, err := os.Stat(dir + "/mnt/inside"); err != nil {
			t.Error(err)
		}
	})
}

// withMount runs do with a folder that has a mount below it, in "mnt", with a file "inside". The mount is in a mount namespace of its own, which
// the path of the folder leads into.
func withMount(t *testing.T, do func(dir string)) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/tree/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with its last descriptor
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", dir+"/tree/mnt", "tmpfs", 0, ""); err != nil {
				return err
			}
			if err := os.WriteFile(dir+"/tree/mnt/inside", nil, 0o600); err != nil {
				return err
			}
			fd, err := openRoot(dir)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			do(procPath(fd, "tree"))
			return nil
		}()
	}()
	if err := <-done; err != nil {
		require(t, "mount", false, "cannot mount: "+err.Error())
	}
}
