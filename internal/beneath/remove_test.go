package beneath

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/treetest"
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
			if err := unix.Mount(outside, at, "", unix.MS_BIND, ""); err != nil {
				if slices.Contains(strings.Split(os.Getenv("GENOCI_REQUIRE"), ","), "mount") {
					t.Fatal(err)
				}
				t.Skipf("mounts: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
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
