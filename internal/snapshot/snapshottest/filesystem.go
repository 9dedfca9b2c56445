package snapshottest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/snapshot/mounts"
	"genoci/test/strict"
)

// OnFileSystem runs test with a function that makes folders on a file system of the kind, see
// Mount. Tests on several kinds run at once.
func OnFileSystem(t *testing.T, kind string, test func(t *testing.T, tempDir func(*testing.T) string)) {
	t.Run(kind, func(t *testing.T) {
		t.Parallel()
		test(t, tempDirsIn(Mount(t, kind)))
	})
}

// tempDirsIn returns a function that makes folders in dir, which are removed at the end of a test.
func tempDirsIn(dir string) func(*testing.T) string {
	return func(t *testing.T) string { return tempDir(t, dir) }
}

func tempDir(t testing.TB, dir string) string {
	dir, err := os.MkdirTemp(dir, "") //nolint:usetesting // t.TempDir is not on this file system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := beneath.RemovePath(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Mount returns a folder on a new, small file system of the kind until the end of the test: tmpfs,
// which every user can mount in a namespace, or ext4, xfs or btrfs in a loop device, which takes
// root. For others it is a folder that the environment names, for btrfs GENOCI_TEST_BTRFS. Where
// one cannot be had, the test is skipped; it fails if GENOCI_REQUIRE has the kind's name.
func Mount(t testing.TB, kind string) string {
	if dir := given(t, kind); dir != "" {
		return dir
	}
	mount := filepath.Join(t.TempDir(), "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if kind == "tmpfs" {
		if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1g"); err != nil {
			strict.Lack(t, kind, "mount: "+err.Error())
		}
	} else {
		mountLoop(t, kind, mount)
	}
	t.Cleanup(func() {
		if err := mounts.Unmount(mount); err != nil {
			t.Error(err)
		}
	})
	return mount
}

// given returns a new folder in the one that the environment names for the kind of file system, or
// "".
func given(t testing.TB, kind string) string {
	dir := os.Getenv("GENOCI_TEST_" + strings.ToUpper(kind))
	if dir == "" {
		return ""
	}
	if found := kindOf(t, dir); found != kind {
		t.Fatalf("%s is on %s, not on %s", dir, found, kind)
	}
	return tempDir(t, dir)
}

// kindOf returns the kind of the file system that holds dir, of those that tests tell apart.
func kindOf(t testing.TB, dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	kinds := map[int64]string{
		unix.TMPFS_MAGIC: "tmpfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	}
	if kind := kinds[st.Type]; kind != "" {
		return kind
	}
	return fmt.Sprintf("a file system of type 0x%x", st.Type)
}

// mountLoop mounts a new file system in a file.
func mountLoop(t testing.TB, kind, mount string) {
	image := filepath.Join(t.TempDir(), "image")
	makeLoop(t, kind, image)
	if out, err := exec.Command("mount", "-o", "loop", image, mount).CombinedOutput(); err != nil {
		strict.Lack(t, kind, "mount: "+err.Error()+": "+string(out))
	}
}

// makeLoop makes a new file system in a file.
func makeLoop(t testing.TB, kind, image string) {
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 1<<30); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs."+kind, "-q", image).CombinedOutput(); err != nil {
		strict.Lack(t, kind, "mkfs: "+err.Error()+": "+string(out))
	}
}

// Command runs a program, and returns all that it wrote. Where there is no such program the test is
// skipped, see Lack.
func Command(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		strict.Lack(t, name, err.Error())
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err
}
