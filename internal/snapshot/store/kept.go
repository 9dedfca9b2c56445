package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"genoci/internal/durable"
	"genoci/internal/snapshot"

	"golang.org/x/sys/unix"
)

// keptLink returns the path of the symlink that stands for the kept tree name.
func (s *Store) keptLink(name string) (string, error) { return linkIn(s.kept(), name) }

// Keep gives the part to the name, with a note, and releases it: it stays until someone resumes it
// and does not keep it, or drops it. Where the name has another part, that one goes. All of the
// part is then on disk, and so is all that it stands on: what a person changed by hand cannot be
// made again. prepare is as in Commit.
func (p *Part) Keep(ctx context.Context, name string, note []byte, prepare func() error) error {
	return p.keep(ctx, name, note, prepare, true)
}

// KeepUnsynced is Keep for what can be lost: none of it need be on disk.
func (p *Part) KeepUnsynced(ctx context.Context, name string, note []byte, prepare func() error) error {
	return p.keep(ctx, name, note, prepare, false)
}

func (p *Part) keep(ctx context.Context, name string, note []byte, prepare func() error, synced bool) error {
	if p.held == nil {
		return &fs.PathError{Op: "keep", Path: p.Dir(), Err: fs.ErrClosed}
	}
	link, err := p.store.keptLink(name)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && prepare != nil {
		err = prepare()
	}
	if err == nil {
		err = p.writeNote(note)
	}
	if err == nil && synced {
		err = p.sync()
	}
	if err == nil {
		err = p.keepAs(link)
	}
	if err == nil && synced {
		err = durable.SyncFileSystem(p.Dir()) // of btrfs a folder alone may be synced, and the name then be there without the marks
	}
	if err != nil {
		return err
	}
	return p.Close()
}

// writeNote writes the part's note.
func (p *Part) writeNote(note []byte) error {
	return durable.Replace(p.noteFile(), note)
}

// sync writes all of the file system to the disk, and marks the part and what it stands on.
func (p *Part) sync() error {
	if err := durable.SyncFileSystem(p.Dir()); err != nil {
		return err
	}
	for _, id := range append([]string{p.id}, p.lowers...) {
		if err := os.WriteFile(p.store.synced(id), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (p *Part) noteFile() string { return filepath.Join(p.Dir(), "note") }

// keepAs makes the name that the symlink stands for that of this part.
func (p *Part) keepAs(link string) error {
	unlock, err := p.store.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if old, err := os.Readlink(link); err == nil && filepath.Base(old) != p.id {
		if err := p.store.noteOpen(filepath.Base(old)); err != nil { // it is about to lose its name
			return err
		}
	}
	if err := os.MkdirAll(p.store.kept(), 0o700); err != nil {
		return err
	}
	temp := filepath.Join(p.store.dir, "kept.new") // the store is locked
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Join("..", "parts", p.id), temp); err != nil {
		return err
	}
	if err := os.Rename(temp, link); err != nil {
		return err
	}
	if p.kept != link { // the name that it was resumed by, if any
		if err := p.unkeep(); err != nil {
			return err
		}
	}
	p.kept = link
	return nil
}

// isKept reports whether the name under which the part was kept or resumed still is its own.
func (p *Part) isKept() bool {
	if p.kept == "" {
		return false
	}
	target, err := os.Readlink(p.kept)
	return err == nil && filepath.Base(target) == p.id
}

// unkeep takes the part's kept name away. The store's lock is held.
func (p *Part) unkeep() error {
	if !p.isKept() {
		return nil
	}
	if err := p.store.noteOpen(p.id); err != nil {
		return err
	}
	if err := os.Remove(p.kept); err != nil {
		return err
	}
	return durable.SyncDir(p.store.kept())
}

// Resume takes the kept tree name to go on with it. The error wraps snapshot.ErrNotExist where
// there is none, and snapshot.ErrHeld where a process has it.
func (s *Store) Resume(ctx context.Context, name string) (*Part, error) {
	link, err := s.keptLink(name)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	ids, err := s.stackBehind(link)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = snapshot.ErrNotExist
		}
		return nil, fmt.Errorf("kept tree %s: %w", name, err)
	}
	p := &Part{store: s, id: ids[0], lowers: ids[1:], kept: link}
	free, err := p.tryHold()
	if err == nil && !free {
		err = snapshot.ErrHeld
	}
	if err != nil {
		return nil, fmt.Errorf("kept tree %s: %w", name, err)
	}
	return p, nil
}

// drop removes the kept tree that the part is, and what nothing else stands on.
func (p *Part) drop() error {
	defer p.release()
	unlock, err := p.store.lock()
	if err != nil {
		return err
	}
	var dead []*Part
	err = p.unkeep()
	p.release() // so that it is found with those that nobody holds
	if err == nil {
		dead, err = p.store.condemn()
	}
	unlock()
	if err == nil {
		err = bury(dead)
	}
	if err == nil {
		p.store.forgetOpen([]string{p.id})
	}
	return err
}

// Drop implements snapshot.Driver for trees that are always shown.
func (s *Store) Drop(ctx context.Context, name string) error {
	return s.DropHidden(ctx, name, func(string) (bool, error) { return false, nil })
}

// DropHidden is Drop for trees that are shown by a mount: shown reports whether that of the tree in
// a part's folder is.
func (s *Store) DropHidden(ctx context.Context, name string, shown func(part string) (bool, error)) error {
	p, err := s.Resume(ctx, name)
	if errors.Is(err, snapshot.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	is, err := shown(p.Dir())
	if err == nil && is {
		err = unix.EBUSY
	}
	if err != nil {
		return errors.Join(fmt.Errorf("drop kept tree %s: %w", name, err), p.Close())
	}
	return p.drop()
}

// Kept returns all kept trees in no particular order. at returns the root folder of the tree in a
// part's folder, and whether it is shown.
func (s *Store) Kept(ctx context.Context, at func(part string) (dir string, shown bool)) ([]snapshot.Kept, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(s.kept())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []snapshot.Kept
	for _, e := range entries {
		k, err := s.keptAt(filepath.Join(s.kept(), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a name whose data is lost
		}
		if err != nil {
			return nil, err
		}
		k.Name = unescape(e.Name())
		k.Dir, k.Shown = at(k.Dir)
		all = append(all, k)
	}
	return all, nil
}

// KeptNames returns the names of the kept trees in a driver's folder, as a quick look tells them:
// for one who does not know yet whether to open the driver. A folder that is not there has none.
func KeptNames(dir string) ([]string, error) {
	s := &Store{dir: dir}
	entries, err := os.ReadDir(s.kept())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, unescape(e.Name()))
	}
	return names, err
}

// keptAt returns what is known of a kept tree; Dir is the folder of its part.
func (s *Store) keptAt(link string) (snapshot.Kept, error) {
	target, err := os.Readlink(link)
	if err != nil {
		return snapshot.Kept{}, err
	}
	p := &Part{store: s, id: filepath.Base(target)}
	k := snapshot.Kept{Dir: p.Dir()}
	if k.Note, err = os.ReadFile(p.noteFile()); err != nil {
		return k, err
	}
	if st, err := os.Stat(p.noteFile()); err == nil {
		k.Since = st.ModTime()
	}
	free, err := p.tryHold()
	p.release()
	k.Held = !free
	return k, err
}
