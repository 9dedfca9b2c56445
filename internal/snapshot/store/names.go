package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/durable"
	"genoci/internal/snapshot"
)

// Has implements snapshot.Driver.
func (s *Store) Has(name string) bool {
	_, err := s.stack(name)
	return err == nil
}

// Names implements snapshot.Driver.
func (s *Store) Names(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.snapshots())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name := unescape(e.Name()); s.Has(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Remove implements snapshot.Driver. Parts that other snapshots or open trees stand on stay until
// the last of them is gone.
func (s *Store) Remove(ctx context.Context, names ...string) error {
	links := make([]string, len(names))
	for i, name := range names {
		link, err := s.link(name)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		links[i] = link
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	const removal = "removal"
	err = s.noteOpen(removal)
	var dead []*Part
	if err == nil {
		dead, err = s.unlink(links)
	}
	unlock()
	if err == nil {
		err = bury(dead)
	}
	if err != nil {
		return fmt.Errorf("remove snapshot %s: %w", strings.Join(names, ", "), err)
	}
	if unlock, err = s.lock(); err != nil {
		return err
	}
	defer unlock()
	if _, held, err := s.leftOpen(); err == nil && !held {
		s.forgetOpen([]string{removal})
	}
	return nil
}

// unlink removes names, durably before any of their data goes: a name that came back after a power
// cut would promise a whole snapshot. The store's lock is held.
func (s *Store) unlink(links []string) ([]*Part, error) {
	removed := 0
	for _, link := range links {
		switch err := os.Remove(link); {
		case err == nil:
			removed++
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if removed == 0 {
		return nil, nil
	}
	if err := durable.SyncDir(s.snapshots()); err != nil {
		return nil, err
	}
	return s.condemn()
}

// link returns the path of the symlink that stands for the snapshot name.
func (s *Store) link(name string) (string, error) { return linkIn(s.snapshots(), name) }

// linkIn returns the path in the folder dir of the symlink for a name; unescape turns its base into
// the name again.
func linkIn(dir, name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("snapshot name %q: %w", name, fs.ErrInvalid)
	}
	if name[0] == '.' || name[0] == '%' {
		name = "%" + name
	}
	return filepath.Join(dir, name), nil
}

func unescape(base string) string { return strings.TrimPrefix(base, "%") }

// stack returns the IDs of the parts of a snapshot, top first. A snapshot of which a part is
// missing does not exist.
func (s *Store) stack(name string) ([]string, error) {
	link, err := s.link(name)
	if err != nil {
		return nil, err
	}
	ids, err := s.stackBehind(link)
	for _, id := range ids {
		if err == nil {
			_, err = os.Lstat(filepath.Join(s.parts(), id))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = snapshot.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", name, err)
	}
	return ids, nil
}

// stackBehind returns the IDs of the parts that a name's symlink leads to, whether they are there
// or not.
func (s *Store) stackBehind(link string) ([]string, error) {
	target, err := os.Readlink(link)
	if err != nil {
		return nil, err
	}
	return s.stackOf(filepath.Base(target))
}

// stackOf returns the ID of a part and those of its lowers.
func (s *Store) stackOf(id string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(s.parts(), id, "lowers"))
	if err != nil {
		return nil, err
	}
	return append([]string{id}, strings.Fields(string(data))...), nil
}

// named returns the symlinks of all snapshots and kept trees.
func (s *Store) named() (links []string, err error) {
	for _, dir := range []string{s.snapshots(), s.kept()} {
		names, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range names {
			links = append(links, filepath.Join(dir, e.Name()))
		}
	}
	return links, nil
}

// touch notes that a snapshot is used. Its time is of use for what to remove first, and for nothing
// else.
func touch(link string) {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, link, now, unix.AT_SYMLINK_NOFOLLOW)
}
