package beneath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/treetest"
	"genoci/test/strict"
)

// What is behind a symlink or a mount beneath the folder stays, whatever is called so.
func TestElsewhere(t *testing.T) {
	for name, swap := range map[string]func(t *testing.T, outside, at string){
		"symlink": func(t *testing.T, outside, at string) {
			if err := os.Symlink(outside, at); err != nil {
				t.Fatal(err)
			}
		},
		"relative symlink inside": func(t *testing.T, _, at string) {
			if err := os.Symlink("own", at); err != nil {
				t.Fatal(err)
			}
		},
		"mount": func(t *testing.T, outside, at string) {
			if err := os.Mkdir(at, 0o755); err != nil {
				t.Fatal(err)
			}
			mount(t, outside, at)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			outside, root := filepath.Join(dir, "outside"), filepath.Join(dir, "root")
			treetest.Make(t, dir, `
				outside/sub/file file
				root/own/sub/file file
			`, treetest.NoOwners)
			swap(t, outside, filepath.Join(root, "swapped"))
			for what, err := range map[string]error{
				"Check":                  Check(root, "own", "swapped"),
				"Check of what is in it": Check(root, "swapped/sub"),
				"Remove":                 Remove(root, "swapped/sub/file"),
				"RemoveAll":              RemoveAll(root, "swapped/sub"),
				"RemoveAll of a file":    RemoveAll(root, "swapped/sub/file"),
			} {
				if !errors.Is(err, ErrElsewhere) {
					t.Errorf("%s: %v, want %v", what, err, ErrElsewhere)
				}
			}
			for _, file := range []string{outside + "/sub/file", root + "/own/sub/file"} {
				if _, err := os.Stat(file); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(Check(root, "own", "missing"), Remove(root, "own/sub/file"), RemoveAll(root, "own"), RemoveAll(root, "own/more")); err != nil {
				t.Errorf("what is beneath: %v", err)
			}
		})
	}
}

// The folder itself may be a symlink: somebody has named it so.
func TestRootThroughSymlink(t *testing.T) {
	dir := t.TempDir()
	treetest.Make(t, dir, `
		real/sub/file file
		real/link symlink sub
	`, treetest.NoOwners)
	root := filepath.Join(dir, "named")
	if err := os.Symlink("real", root); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Check(root, "sub"), Remove(root, "link"), RemoveAll(root, "sub")); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := Remove(root, "sub"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

// What a path is called, it is removed, and no symlink is followed.
func TestRemovePath(t *testing.T) {
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
		if err := RemovePath(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	t.Chdir(outside)
	for _, path := range []string{"", ".", "..", "/", "//", "sub/../.."} {
		if err := RemovePath(path); !errors.Is(err, unix.EINVAL) {
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
func TestRemovePathDeep(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	var limit unix.Rlimit
	err := errors.Join(os.Mkdir(top, 0o700), unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	fd, openErr := openRoot(top)
	for range 250 {
		if err = errors.Join(err, openErr); err != nil {
			t.Fatal(err)
		}
		name := strings.Repeat("d", 20)
		err = errors.Join(unix.Mkdirat(fd, name, 0o700), unix.Mknodat(fd, "file", unix.S_IFREG|0o600, 0))
		next, nextErr := Open(fd, name, unix.O_PATH|unix.O_DIRECTORY, NoSymlinks)
		unix.Close(fd)
		fd, openErr = next, nextErr
	}
	unix.Close(fd)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	if err := RemovePath(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

// Folders without permissions are removed by their owner.
func TestRemovePathForbidden(t *testing.T) {
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
		if err := RemovePath(top); err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

// A mount stays, with all that is in it, and the error says where it is.
func TestRemovePathMount(t *testing.T) {
	dir := t.TempDir()
	treetest.Make(t, dir, `
		outside/inside file
		tree/a/mnt/ dir
	`, treetest.NoOwners)
	at := dir + "/tree/a/mnt"
	mount(t, dir+"/outside", at)
	for _, path := range []string{dir + "/tree", at} {
		if err := RemovePath(path); !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s: %v", path, err)
		} else if path != at && !strings.Contains(err.Error(), "tree: a/mnt: ") {
			t.Errorf("%v", err)
		}
	}
	if _, err := os.Stat(at + "/inside"); err != nil {
		t.Error(err)
	}
}

// mount mounts a folder on another, or skips the test.
func mount(t *testing.T, from, at string) {
	t.Helper()
	if err := unix.Mount(from, at, "", unix.MS_BIND, ""); err != nil {
		strict.Lack(t, "mount", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
}
