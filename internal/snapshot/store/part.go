package store

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/durable"
)

// Part is a folder of data that a driver makes or uses. It is held by this process until Close, so
// that no other takes it for left behind.
type Part struct {
	store  *Store
	id     string
	lowers []string // IDs, top first
	held   *os.File // the file "lowers", locked; nil after Close
	named  bool     // Commit gave it a name: Close keeps it
	kept   string   // the symlink that names it as a kept tree, which it was or has become: Close keeps it while that is so
}

// New makes a part that stands on those of the snapshot parent, or on nothing where parent is "".
// The error wraps snapshot.ErrNotExist where there is no such snapshot. The folder holds nothing
// but the file "lowers".
func (s *Store) New(ctx context.Context, parent string) (*Part, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	p := &Part{store: s, id: rand.Text()}
	err = p.make(parent)
	unlock()
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// make makes the part's folder, and holds it. The store's lock is held.
func (p *Part) make(parent string) (err error) {
	if parent != "" {
		if p.lowers, err = p.store.stack(parent); err != nil {
			return err
		}
		if link, err := p.store.link(parent); err == nil {
			touch(link)
		}
	}
	if err := p.store.noteOpen(p.id); err != nil {
		return err
	}
	if err := os.Mkdir(p.Dir(), 0o700); err != nil {
		return err
	}
	if _, err := p.tryHold(); err != nil {
		return err
	}
	if err := p.writeLowers(); err != nil {
		return err
	}
	return dropDefaultACL(p.Dir())
}

// Dir returns the absolute path of the part's folder.
func (p *Part) Dir() string { return filepath.Join(p.store.parts(), p.id) }

// Lock returns the open file that holds the part. A process that inherits it holds the part until
// it ends, whatever becomes of this one.
func (p *Part) Lock() *os.File { return p.held }

// Lowers returns the folders of the parts that this one stands on, top first. They stay as they are
// until Close.
func (p *Part) Lowers() []string {
	dirs := make([]string, len(p.lowers))
	for i, id := range p.lowers {
		dirs[i] = filepath.Join(p.store.parts(), id)
	}
	return dirs
}

// SetLowers makes the part stand on others, or on none.
func (p *Part) SetLowers(dirs []string) error {
	p.lowers = nil
	for _, dir := range dirs {
		p.lowers = append(p.lowers, filepath.Base(dir))
	}
	unlock, err := p.store.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return p.writeLowers()
}

// SetSynced notes that all of the part is on disk, for a part whose next write is that of its name
// and cannot get to the disk first.
func (p *Part) SetSynced() error { return p.store.setSynced(p.id) }

// writeLowers rewrites the file in place, since it is the one that is locked. It is read under the
// store's lock, or when the part has a name and no longer changes.
func (p *Part) writeLowers() error {
	if err := p.held.Truncate(0); err != nil {
		return err
	}
	_, err := p.held.WriteAt([]byte(strings.Join(p.lowers, "\n")), 0)
	return err
}

// Commit makes the part the snapshot name. Where one of that name exists already, the part stays
// without a name, and nil is returned. Otherwise prepare, unless it is nil, is called first; with
// it, all writes to the part are at an end.
func (p *Part) Commit(ctx context.Context, name string, prepare func() error) error {
	if p.held == nil {
		return &fs.PathError{Op: "commit", Path: p.Dir(), Err: fs.ErrClosed}
	}
	link, err := p.store.link(name)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if !p.store.Has(name) {
		if prepare != nil {
			err = prepare()
		}
		if err == nil && p.kept != "" { // it is marked as synced since it was kept, and has changed
			err = p.sync()
		}
		if err != nil {
			return err
		}
	}
	return p.linkAs(name, link)
}

func (p *Part) linkAs(name, link string) error {
	unlock, err := p.store.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if p.store.Has(name) {
		return p.unkeep()
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) { // a name whose parts are lost
		return err
	}
	if err := os.Symlink(filepath.Join("..", "parts", p.id), link); err != nil {
		return err
	}
	p.named = true
	return p.unkeep()
}

// Close releases the part, and removes it if it has no name. Further calls do nothing.
func (p *Part) Close() error {
	if p.held == nil {
		return nil
	}
	defer p.release()
	isKept := p.isKept()
	if !p.named && !isKept {
		if err := p.remove(); err != nil {
			return err
		}
	}
	if p.kept == "" || isKept { // else the next Open looks what it stood on
		p.store.forgetOpen([]string{p.id})
	}
	return nil
}

// remove removes the part. The file that is locked goes last, and under the store's lock, so that
// no one who looks for parts left behind finds this one without it.
func (p *Part) remove() error {
	if err := p.check(); err != nil {
		return err
	}
	if clear := p.store.clear; clear != nil {
		if err := clear(p.Dir()); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(p.Dir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "lowers" {
			continue
		}
		if err := beneath.RemoveAll(p.store.dir, filepath.Join("parts", p.id, e.Name())); err != nil {
			return err
		}
	}
	unlock, err := p.store.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return beneath.RemoveAll(p.store.dir, filepath.Join("parts", p.id))
}

// check returns an error where the part is not a folder of the store's own.
func (p *Part) check() error { return beneath.Check(p.store.dir, filepath.Join("parts", p.id)) }

// tryHold locks the part, if no one holds it.
func (p *Part) tryHold() (bool, error) {
	if err := p.check(); err != nil {
		return false, err
	}
	f, err := os.OpenFile(filepath.Join(p.Dir(), "lowers"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	err = durable.TryLock(f, durable.Exclusive)
	if err == nil {
		p.held = f
		return true, nil
	}
	_ = f.Close()
	if errors.Is(err, durable.ErrLocked) {
		return false, nil
	}
	return false, err
}

func (p *Part) release() {
	if p.held != nil {
		durable.Unlock(p.held)
		p.held = nil
	}
}

// dropDefaultACL frees a new folder of a default ACL, which what is made in it would inherit.
func dropDefaultACL(dir string) error {
	err := unix.Removexattr(dir, "system.posix_acl_default")
	if err == unix.ENODATA || err == unix.ENOTSUP {
		return nil
	}
	return wrapPath("removexattr", dir, err)
}
