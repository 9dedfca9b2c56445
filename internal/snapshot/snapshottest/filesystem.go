package snapshottest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
)

// OnFileSystem runs test with a function that makes folders on a new, small file system of the kind: tmpfs, which
// every user can mount in a namespace, or ext4, xfs or btrfs in a loop device, which takes root. Where one cannot be had, the test
// is skipped; it fails if GENOCI_REQUIRE has the kind's name. Tests on several kinds run at once.
func OnFileSystem(t *testing.T, kind string, test func(t *testing.T, tempDir func(*testing.T) string)) {
	t.Run(kind, func(t *testing.T) {
		t.Parallel()
		mount := filepath.Join(t.TempDir(), "mount")
		if err := os.Mkdir(mount, 0o755); err != nil {
			t.Fatal(err)
		}
		if kind == "tmpfs" {
			if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1g"); err != nil {
				Lack(t, kind, "mount: "+err.Error())
			}
		} else {
			mountLoop(t, kind, mount)
		}
		t.Cleanup(func() {
			if err := snapshot.Unmount(mount); err != nil {
				t.Error(err)
			}
		})
		test(t, func(t *testing.T) string {
			dir, err := os.MkdirTemp(mount, "") //nolint:usetesting // t.TempDir is not on this file system
			if err != nil {
				t.Fatal(err)
			}
			return dir
		})
	})
}

// mountLoop mounts a new file system in a file.
func mountLoop(t *testing.T, kind, mount string) {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 1<<30); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs." + kind, "-q", image}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			Lack(t, kind, strings.Join(command, " ")+": "+err.Error()+": "+string(out))
		}
	}
}
