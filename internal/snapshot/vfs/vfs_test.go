package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/sandboxtest"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/snapshottest"
)

func TestMain(m *testing.M) { sandboxtest.Main(m.Run) }

func open(dir string) (snapshot.Driver, error) {
	if err := sandboxtest.Entered(); err != nil {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrUnsupported, err)
	}
	return Open(dir)
}

func TestVfs(t *testing.T)      { snapshottest.Run(t, "vfs", open) }
func BenchmarkVfs(b *testing.B) { snapshottest.Bench(b, "vfs", open) }

func TestPowerCut(t *testing.T) { snapshottest.PowerCut(t, open, "ext4", "xfs", "btrfs") }

// TestReflink: where the driver says so, a copy takes no space for content.
func TestReflink(t *testing.T) {
	for kind, want := range map[string]bool{"tmpfs": false, "ext4": false, "xfs": true, "btrfs": true} {
		snapshottest.OnFileSystem(t, kind, func(t *testing.T, tempDir func(*testing.T) string) {
			d, err := Open(tempDir(t))
			if err != nil {
				t.Fatal(err)
			}
			if d.Copies() == want {
				t.Errorf("Copies() is %v on %s", d.Copies(), kind)
			}
			if os.Getenv("GENOCI_TEST_"+strings.ToUpper(kind)) != "" {
				return // what is free there depends on other tests too
			}
			const size = 32 << 20
			if used := usedByCopy(t, d, size); want && used > size/4 || !want && used < size {
				t.Errorf("the copy of a file of %d bytes takes %d", size, used)
			}
			checkSpace(t, d, size)
		})
	}
}

// checkSpace checks what the driver says of two trees that have a file of so many bytes in common,
// if it could share its blocks.
func checkSpace(t *testing.T, d *Driver, size int64) {
	t.Helper()
	space, err := d.Space(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var total, own int64
	for _, n := range space.Parts {
		total += n
	}
	for _, tree := range space.Trees {
		own += space.Parts[tree.Parts[0]]
	}
	if !d.Copies() && (total > size+size/4 || total < size || own > size/4) || d.Copies() && (total < 2*size || own != total) {
		t.Errorf("two trees take %d bytes, of which %d are shared by none", total, own)
	}
}

// usedByCopy returns by how much the free space shrinks when a tree is made of a snapshot with one
// file of so many bytes.
func usedByCopy(t *testing.T, d *Driver, size int) int64 {
	first, err := d.New(t.Context(), "")
	if err == nil {
		err = os.WriteFile(filepath.Join(first.Dir(), "big"), bytes.Repeat([]byte("x"), size), 0o644)
	}
	if err == nil {
		err = first.Commit(t.Context(), "base")
	}
	if err != nil {
		t.Fatal(err)
	}
	before := free(t, d)
	child, err := d.New(t.Context(), "base")
	if err == nil {
		err = child.Commit(t.Context(), "child") // with which the file system is synced
	}
	if err != nil {
		t.Fatal(err)
	}
	return before - free(t, d)
}

// free returns the free bytes of the file system of the driver's snapshots.
func free(t *testing.T, d *Driver) int64 {
	v, err := d.View(t.Context(), "base")
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := errors.Join(unix.Statfs(v.Dir(), &st), v.Close()); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * st.Bsize
}

// TestIndependent: a tree does not keep its parent's data.
func TestIndependent(t *testing.T) {
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.New(t.Context(), "")
	if err == nil {
		err = first.Commit(t.Context(), "base")
	}
	if err != nil {
		t.Fatal(err)
	}
	child, err := d.New(t.Context(), "base")
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if err := d.Remove(t.Context(), "base"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(first.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the parent's folder is still there (%v), though the tree is a copy", err)
	}
}
