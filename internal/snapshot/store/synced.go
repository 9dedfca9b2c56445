package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"genoci/internal/durable"
)

// flushAge is how old a part is when its data is written out: the kernel has done so by itself by
// then (30 s, see vm.dirty_expire_centisecs in Documentation/admin-guide/sysctl/vm.rst), so that it
// costs next to nothing.
const flushAge = time.Minute

// synced is the file that marks a part all of which is on disk.
func (s *Store) synced(id string) string { return filepath.Join(s.parts(), id, "synced") }

func (s *Store) setSynced(id string) error {
	f, err := os.OpenFile(s.synced(id), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// FlushOld implements snapshot.Flusher. It does nothing where one of the store's processes has done
// so within the last minute.
func (s *Store) FlushOld() error {
	if !s.flushDue() {
		return nil
	}
	return s.flushOld()
}

// flushDue reports whether nobody has flushed for a while, and notes that this is to be done now.
func (s *Store) flushDue() bool {
	stamp := filepath.Join(s.dir, "settled")
	if st, err := os.Stat(stamp); err == nil && time.Since(st.ModTime()).Abs() < flushAge {
		return false
	}
	return os.WriteFile(stamp, nil, 0o600) == nil
}

// flushOld writes the parts of snapshots and kept trees out that are older than flushAge, and marks
// them. It is no error that one has gone meanwhile.
func (s *Store) flushOld() error {
	due, err := s.unsynced()
	if err != nil || len(due) == 0 {
		return err
	}
	if err := durable.SyncFileSystem(s.dir); err != nil {
		return err
	}
	for _, id := range due {
		if err := s.setSynced(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unsynced returns the IDs of the parts with a name that flushOld is to mark.
func (s *Store) unsynced() ([]string, error) {
	links, err := s.named()
	if err != nil {
		return nil, err
	}
	var due []string
	for _, link := range links {
		target, err := os.Readlink(link)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		id := filepath.Base(target)
		part, err := os.Lstat(filepath.Join(s.parts(), id, "lowers"))
		if err != nil || time.Since(part.ModTime()) < flushAge {
			continue // the newer the part, the likelier there is much to write
		}
		if _, err := os.Lstat(s.synced(id)); err != nil {
			due = append(due, id)
		}
	}
	return due, nil
}
