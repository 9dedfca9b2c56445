package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
)

// Discard implements snapshot.Driver.
func (s *Store) Discard() error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, dir := range []string{s.parts(), s.snapshots(), s.kept()} {
		if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	records := []string{"open", "snapshots", "kept", "kept.new", "parts", "probed", "boot", "boot.new", "settled", "format.new", "format", "lock"}
	for _, name := range records {
		if err := beneath.RemovePath(filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	err = os.Remove(s.dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) { // somebody else's files, or a mount point
		return nil
	}
	return err
}
