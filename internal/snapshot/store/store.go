// Package store is what storage drivers share: the record of their trees on disk, and the life of the data behind it.
package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/durable"
	"genoci/internal/snapshot"
)

// Store is what drivers share: the names, locks and removal of the data that they keep in one folder.
//
// The data lies in parts. A [Part] is a folder that a driver fills; it may stand on others, its lowers, as the upper
// folder of an overlay does. A snapshot is a name for a part. There is no other record, so none can be out of date:
//
//	DIR/format            the driver and the id maps whose files these are
//	DIR/boot              the start of the machine in which parts without the file "synced" were made
//	DIR/lock              flock(2), held for moments while names and parts come and go
//	DIR/settled           its time is that of the last look for parts to be marked as synced
//	DIR/open/ID           for each part that has no name yet, or is about to lose it: what a process that ended early may have left
//	DIR/snapshots/NAME    symlink to the snapshot's part; NAME with a "%" before it where it starts with "." or "%"
//	DIR/kept/NAME         the same for a kept tree
//	DIR/parts/ID/         the driver's files, and
//	DIR/parts/ID/lowers   the IDs of the parts that it stands on, top first; flock(2) is held by the process that uses the part
//	DIR/parts/ID/synced   says that all of the part is on disk
//	DIR/parts/ID/note     of a kept tree: what was said of it when it was kept
//
// Nothing is written out when a snapshot is made, since it could be made again: whatever ends a process leaves what it wrote
// to the kernel. Only when the machine itself was started anew, snapshots of which a part is not known to be on disk go. A store that opens marks
// the parts that have been there for a while.
//
// A part is alive while a snapshot or a kept tree names it, while its lock is held, and while it is a lower of one that is alive.
// All others are removed by the next Open that finds a part in DIR/open that nobody holds, or by the next Remove.
type Store struct {
	dir   string
	clear func(part string) error
}

// Open opens the store in the folder dir, makes it if there is none, and removes the parts that no longer are
// alive. What cannot be removed is left to the next time. The error wraps snapshot.ErrUnsupported where the store holds
// another kind of data, or files of other ids (see user_namespaces(7)), which this process would take for someone else's, and [beneath.ErrElsewhere]
// where one of its folders is a symlink or a mount.
//
// clear, unless it is nil, is called with the folder of each part that is to be removed, before that is: it removes what [RemoveAll] would not.
// The part may be half made, and half removed.
func Open(dir, kind string, clear func(part string) error) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir, clear}
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
		s.forget(left)
	}
	if s.settleDue() {
		go func() { _ = s.settle() }() // if it fails, or the process ends, a later one does it
	}
	return s, nil
}

func (s *Store) snapshots() string { return filepath.Join(s.dir, "snapshots") }
func (s *Store) parts() string     { return filepath.Join(s.dir, "parts") }
func (s *Store) open() string      { return filepath.Join(s.dir, "open") }
func (s *Store) kept() string      { return filepath.Join(s.dir, "kept") }

// leftOpen returns what is in the folder open of parts that nobody holds, and whether some are held: what those stand on may be of
// no use when they end. The store's lock is held.
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

// note notes that a part has no name, before that is so. forget undoes it; where it fails, Open looks through all parts once more.
func (s *Store) note(id string) error {
	return os.WriteFile(filepath.Join(s.open(), id), nil, 0o600)
}

func (s *Store) forget(ids []string) {
	for _, id := range ids {
		_ = os.Remove(filepath.Join(s.open(), id))
	}
}

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

// checkFormat compares the store's format file with what this process would write. One that a crash has left empty, or as zeros, is written
// anew; of the snapshots, checkBoot then drops those that may have been in memory only, too.
func (s *Store) checkFormat(kind string) error {
	want := "genoci snapshots 1\nkind " + kind + "\n"
	for _, name := range []string{"uid_map", "gid_map"} {
		data, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			want += name + " " + strings.Join(strings.Fields(line), " ") + "\n"
		}
	}
	path := filepath.Join(s.dir, "format")
	have, err := os.ReadFile(path)
	if err == nil && len(bytes.Trim(have, "\x00")) == 0 {
		if err := os.Remove(filepath.Join(s.dir, "boot")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err = fs.ErrNotExist
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return durable.Replace(path, []byte(want))
	case err != nil:
		return err
	case string(have) != want:
		return fmt.Errorf("%s holds snapshots of another driver or under other user ids; use another folder, or delete it: %w", s.dir, snapshot.ErrUnsupported)
	}
	return nil
}

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

// Remove implements snapshot.Driver. Parts that other snapshots or open trees stand on stay until the last of them is gone.
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
	err = s.note(removal)
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
		s.forget([]string{removal})
	}
	return nil
}

// unlink removes names, durably before any of their data goes: a name that came back after a power cut
// would promise a whole snapshot. The store's lock is held.
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

// linkIn returns the path in the folder dir of the symlink for a name; unescape turns its base into the name again.
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

// stack returns the IDs of the parts of a snapshot, top first. A snapshot of which a part is missing does not exist.
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

// stackBehind returns the IDs of the parts that a name's symlink leads to, whether they are there or not.
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

// condemn returns the parts that are not alive, locked and without lowers of their own, and drops names
// of which a part is missing. The store's lock is held.
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

// markNamed marks the parts of all snapshots and kept trees that are whole, and drops the names of the others.
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

// bury removes the parts that condemn returned. It needs the store's lock no longer: their own are held.
func bury(dead []*Part) error {
	var errs []error
	for _, p := range dead {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Part is a folder of data that a driver makes or uses. It is held by this process until Close, so that no other takes it
// for left behind.
type Part struct {
	store  *Store
	id     string
	lowers []string // IDs, top first
	held   *os.File // the file "lowers", locked; nil after Close
	named  bool     // Commit gave it a name: Close keeps it
	kept   string   // the symlink that names it as a kept tree, which it was or has become: Close keeps it while that is so
}

// New makes a part that stands on those of the snapshot parent, or on nothing where parent is "". The error wraps
// snapshot.ErrNotExist where there is no such snapshot. The folder holds nothing but the file "lowers".
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
	if err := p.store.note(p.id); err != nil {
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

// Lock returns the open file that holds the part. A process that inherits it holds the part until it ends, whatever becomes of this one.
func (p *Part) Lock() *os.File { return p.held }

// Lowers returns the folders of the parts that this one stands on, top first. They stay as they are until Close.
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

// SetSynced notes that all of the part is on disk, for a part whose next write is that of its name and cannot get to the disk first.
func (p *Part) SetSynced() error { return p.store.setSynced(p.id) }

// writeLowers rewrites the file in place, since it is the one that is locked. It is read under the store's lock,
// or when the part has a name and no longer changes.
func (p *Part) writeLowers() error {
	if err := p.held.Truncate(0); err != nil {
		return err
	}
	_, err := p.held.WriteAt([]byte(strings.Join(p.lowers, "\n")), 0)
	return err
}

// Commit makes the part the snapshot name. Where one of that name exists already, the part
// stays without a name, and nil is returned. Otherwise prepare, unless it is nil, is called first; with it, all writes to the part are at an end.
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
		p.store.forget([]string{p.id})
	}
	return nil
}

// remove removes the part. The file that is locked goes last, and under the store's lock, so that no one who looks
// for parts left behind finds this one without it.
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

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
