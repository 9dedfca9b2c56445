package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// leftOpen returns what is in the folder open of parts that nobody holds, and whether some are
// held: what those stand on may be of no use when they end. The store's lock is held.
func (s *Store) leftOpen() (left []string, held bool, err error) {
	entries, err := os.ReadDir(s.open())
	if err != nil {
		return nil, false, err
	}
	for _, e := range entries {
		p := &Part{store: s, id: e.Name()}
		free := true
		if _, err := os.Lstat(p.Dir()); err == nil {
			if free, err = p.tryHold(); err != nil {
				return nil, false, err
			}
			p.release()
		}
		if free {
			left = append(left, e.Name())
		}
		held = held || !free
	}
	return left, held, nil
}

// Busy implements snapshot.Driver.
func (s *Store) Busy() (bool, error) {
	unlock, err := s.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	_, held, err := s.leftOpen()
	if err != nil || held {
		return held, err
	}
	kept, err := os.ReadDir(s.kept())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, e := range kept {
		k, err := s.keptAt(filepath.Join(s.kept(), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a name whose data is lost
		}
		if err != nil || k.Held {
			return k.Held, err
		}
	}
	return false, err
}

// noteOpen notes that a part has no name, before that is so. forgetOpen undoes it; where it fails,
// Open looks through all parts once more.
func (s *Store) noteOpen(id string) error {
	return os.WriteFile(filepath.Join(s.open(), id), nil, 0o600)
}

func (s *Store) forgetOpen(ids []string) {
	for _, id := range ids {
		_ = os.Remove(filepath.Join(s.open(), id))
	}
}

// condemn returns the parts that are not alive, locked and without lowers of their own, and drops
// names of which a part is missing. The store's lock is held.
func (s *Store) condemn() (dead []*Part, err error) {
	entries, err := os.ReadDir(s.parts())
	if err != nil {
		return nil, err
	}
	alive := make(map[string]bool, len(entries)) // of all parts
	for _, e := range entries {
		alive[e.Name()] = false
	}
	if err := s.markNamed(alive); err != nil {
		return nil, err
	}
	var unheld []*Part
	defer func() {
		for _, p := range unheld {
			if err != nil || alive[p.id] {
				p.release()
			}
		}
	}()
	for _, e := range entries {
		if alive[e.Name()] {
			continue
		}
		p := &Part{store: s, id: e.Name()}
		free, err := p.tryHold()
		if err != nil {
			return nil, err
		}
		if free {
			unheld = append(unheld, p)
			continue
		}
		ids, err := s.stackOf(p.id)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			alive[id] = true
		}
	}
	for _, p := range unheld {
		if alive[p.id] {
			continue
		}
		if err := p.held.Truncate(0); err != nil {
			return nil, err
		}
		dead = append(dead, p)
	}
	return dead, nil
}

// markNamed marks the parts of all snapshots and kept trees that are whole, and drops the names of
// the others.
func (s *Store) markNamed(alive map[string]bool) error {
	links, err := s.named()
	if err != nil {
		return err
	}
	for _, link := range links {
		ids, err := s.stackBehind(link)
		whole := err == nil
		for _, id := range ids {
			_, there := alive[id]
			whole = whole && there
		}
		switch {
		case whole:
			for _, id := range ids {
				alive[id] = true
			}
		case err == nil || errors.Is(err, fs.ErrNotExist):
			err = os.Remove(link)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bury removes the parts that condemn returned. It needs the store's lock no longer: their own are
// held.
func bury(dead []*Part) error {
	var errs []error
	for _, p := range dead {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
