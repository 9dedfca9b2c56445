// Package store is what storage drivers share: the record of their trees on disk, and the life of
// the data behind it.
package store

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"genoci/internal/beneath"
	"genoci/internal/durable"
)

// Store is what drivers share: the names, locks and removal of the data that they keep in one
// folder.
//
// The data lies in parts. A [Part] is a folder that a driver fills; it may stand on others, its
// lowers, as the upper folder of an overlay does. A snapshot is a name for a part. There is no
// other record, so none can be out of date:
//
//	DIR/format            the driver and the id maps whose files these are
//	DIR/boot              the start of the machine in which parts without the file "synced" were made
//	DIR/lock              flock(2), held for moments while names and parts come and go
//	DIR/settled           its time is that of the last FlushOld
//	DIR/open/ID           for each part that has no name yet, or is about to lose it: what a process that ended early may have left
//	DIR/snapshots/NAME    symlink to the snapshot's part; NAME with a "%" before it where it starts with "." or "%"
//	DIR/kept/NAME         the same for a kept tree
//	DIR/parts/ID/         the driver's files, and
//	DIR/parts/ID/lowers   the IDs of the parts that it stands on, top first; flock(2) is held by the process that uses the part
//	DIR/parts/ID/synced   says that all of the part is on disk
//	DIR/parts/ID/note     of a kept tree: what was said of it when it was kept
//
// Nothing is written out when a snapshot is made, since it could be made again: whatever ends a
// process leaves what it wrote to the kernel. Only when the machine itself was started anew,
// snapshots of which a part is not known to be on disk go. FlushOld marks the parts that have been
// there for a while.
//
// A part is alive while a snapshot or a kept tree names it, while its lock is held, and while it is
// a lower of one that is alive. All others are removed by the next Open that finds a part in
// DIR/open that nobody holds, or by the next Remove.
type Store struct {
	dir   string
	clear func(part string) error
}

// Open opens the store in the folder dir, makes it if there is none, and removes the parts that no
// longer are alive. What cannot be removed is left to the next time. The error wraps
// snapshot.ErrUnsupported where the store holds another kind of data, or files of other ids (see
// user_namespaces(7)), which this process would take for someone else's, and [beneath.ErrElsewhere]
// where one of its folders is a symlink or a mount.
//
// clear, unless it is nil, is called with the folder of each part that is to be removed, before
// that is: it removes what [RemoveAll] would not. The part may be half made, and half removed.
func Open(dir, kind string, clear func(part string) error) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, clear: clear}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := beneath.Check(dir, "snapshots", "kept", "parts", "open"); err != nil {
		return nil, err
	}
	for _, d := range []string{s.snapshots(), s.parts(), s.open()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	err = s.checkFormat(kind)
	if err == nil {
		err = s.checkBoot()
	}
	var left []string
	var held bool
	var dead []*Part
	if err == nil {
		left, held, err = s.leftOpen()
	}
	if err == nil && len(left) > 0 {
		dead, err = s.condemn()
	}
	unlock()
	if err != nil {
		return nil, err
	}
	if bury(dead) == nil && !held {
		s.forgetOpen(left)
	}
	return s, nil
}

func (s *Store) snapshots() string { return filepath.Join(s.dir, "snapshots") }
func (s *Store) parts() string     { return filepath.Join(s.dir, "parts") }
func (s *Store) open() string      { return filepath.Join(s.dir, "open") }
func (s *Store) kept() string      { return filepath.Join(s.dir, "kept") }

func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(context.Background(), f, durable.Exclusive); err != nil {
		return nil, err
	}
	return func() { durable.Unlock(f) }, nil
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
