package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"genoci/internal/durable"
)

// bootID returns what tells this start of the machine from all others (random(4)).
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// checkBoot drops, when the machine was started anew since the store was last opened, the snapshots
// of which a part may have been in memory only. Nothing here has to be durable: a record that is
// lost is that of another start. The store's lock is held.
func (s *Store) checkBoot() error {
	id, err := bootID()
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, "boot")
	switch have, err := os.ReadFile(path); {
	case err == nil && string(have) == id:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := s.dropUnsynced(); err != nil {
		return err
	}
	if err := durable.Replace(path, []byte(id)); !isFull(err) { // else the next one looks again
		return err
	}
	return nil
}

// dropUnsynced drops the names of snapshots and kept trees of which a part is not marked as synced.
func (s *Store) dropUnsynced() error {
	links, err := s.named()
	if err != nil {
		return err
	}
	for _, link := range links {
		ids, err := s.stackBehind(link)
		for _, id := range ids {
			if err == nil {
				_, err = os.Lstat(s.synced(id))
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			if err = s.noteOpen("reboot"); err == nil {
				err = os.Remove(link)
			}
		}
		if err != nil {
			return fmt.Errorf("drop trees that a crash may have damaged: %w", err)
		}
	}
	return nil
}
