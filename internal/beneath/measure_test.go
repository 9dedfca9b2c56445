package beneath

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/treetest"
)

// A file with several names counts once, and content that is counted apart does not; what is behind
// a symlink or a mount is elsewhere.
func TestDiskUsage(t *testing.T) {
	dir := t.TempDir()
	treetest.Make(t, dir, `
		outside/ dir
		tree/sub/mnt/ dir
		tree/link symlink ../outside
	`, treetest.NoOwners)
	content := bytes.Repeat([]byte("x"), 1<<20)
	for _, name := range []string{"outside/big", "tree/sub/big"} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(dir+"/tree/sub/big", dir+"/tree/again"); err != nil {
		t.Fatal(err)
	}
	usage := func(apart func(int, string, *unix.Stat_t) (bool, error)) int64 {
		t.Helper()
		n, err := DiskUsage(t.Context(), dir+"/tree", apart)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	check := func(when string) {
		t.Helper()
		if n := usage(nil); n < 1<<20 || n >= 2<<20 {
			t.Errorf("%s: %d bytes", when, n)
		}
	}
	check("plain")
	if n := usage(func(int, string, *unix.Stat_t) (bool, error) { return true, nil }); n >= 1<<20 {
		t.Errorf("with content apart: %d bytes", n)
	}
	if n, err := DiskUsage(t.Context(), dir+"/none/at/all", nil); n != 0 || err != nil {
		t.Errorf("what is not there: %d, %v", n, err)
	}
	mount(t, dir+"/outside", dir+"/tree/sub/mnt")
	check("with a mount")
}
