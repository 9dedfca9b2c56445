package btrfs

import (
	"os"
	"path/filepath"
	"testing"

	"genoci/internal/snapshot/snapshottest"
	"genoci/test/strict"
)

// TestTemplate: what is written without mkfs.btrfs is a btrfs without any fault, and two of them
// are not the same one.
func TestTemplate(t *testing.T) {
	dir := t.TempDir()
	ids := map[string]bool{}
	for _, name := range []string{"one", "two"} {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		strict.Must(t, err, writeTemplate(f))
		ours, err := isOurs(f)
		strict.Must(t, err, f.Close())
		if !ours {
			t.Error("its label does not say who made it")
		}
		check(t, path)
		data, err := os.ReadFile(path)
		strict.Must(t, err)
		ids[string(data[superOffset+32:superOffset+48])] = true
	}
	if len(ids) != 2 {
		t.Error("both have one UUID")
	}
}

// check has btrfs-progs look for faults in a btrfs that is not mounted.
func check(t *testing.T, path string) {
	t.Helper()
	out, err := snapshottest.Command(t, "btrfs", "check", path)
	if err != nil {
		t.Errorf("btrfs check: %v\n%s", err, out)
	}
}
