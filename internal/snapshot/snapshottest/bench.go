package snapshottest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"genoci/internal/snapshot"
	"genoci/test/strict"
)

// Bench measures New, one new file, and Commit, on snapshots of 100 to 100,000 files. The file
// system is that of b.TempDir, or for a driver that names the kinds that it is for (see Run), one
// of the first kind.
func Bench(b *testing.B, name string, open Opener, only ...string) {
	for _, files := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("files=%d", files), func(b *testing.B) {
			dir := b.TempDir()
			if len(only) > 0 {
				dir = filepath.Join(Mount(b, only[0]), "bench")
			}
			d, err := open(dir)
			if errors.Is(err, snapshot.ErrUnsupported) {
				strict.Lack(b, name, err.Error())
			}
			if err == nil {
				err = commitBase(b, d, files)
			}
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				if err := commitOne(b, d, fmt.Sprintf("child %d", i)); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := d.Remove(b.Context(), fmt.Sprintf("child %d", i)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// commitBase commits a snapshot of so many files of 1000 bytes, 100 in a folder.
func commitBase(b *testing.B, d snapshot.Driver, files int) error {
	t, err := d.New(b.Context(), "")
	if err != nil {
		return err
	}
	defer t.Close()
	content := make([]byte, 1000)
	for i := range files {
		dir := filepath.Join(t.Dir(), fmt.Sprintf("d%d/e%d", i/10_000, i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), content, 0o644); err != nil {
			return err
		}
	}
	return t.Commit(b.Context(), "base")
}

func commitOne(b *testing.B, d snapshot.Driver, name string) error {
	t, err := d.New(b.Context(), "base")
	if err != nil {
		return err
	}
	defer t.Close()
	if err := os.WriteFile(filepath.Join(t.Dir(), "new"), nil, 0o644); err != nil {
		return err
	}
	return t.Commit(b.Context(), name)
}
