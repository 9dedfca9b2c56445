package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/btrfs"
)

// backing is what root sets up below a storage driver, such as a file system in a file. It says itself that genoci made it, so there is
// no record that could be wrong. A kill at any moment leaves what setup mends.
type backing interface {
	// setup makes what is missing, and returns what it did, a line each.
	setup(ctx context.Context) (done []string, err error)
	// state says what there is.
	state() (backingState, error)
	// detach ends all mounts and devices; what is kept stays.
	detach() error
	// destroy detaches and removes it.
	destroy() error
	// open opens the driver on it, which has to be set up.
	open() (snapshot.Driver, error)
	// command is the storage command that does the same from any folder: "setup --driver btrfs ...".
	command(verb string) string
}

// backingState is what there is of a backing. It is a part of what storage status --json prints.
type backingState struct {
	File     string `json:"file,omitempty"`     // that holds it
	Mount    string `json:"mount,omitempty"`    // the folder where it is mounted
	Pool     string `json:"pool,omitempty"`     // the thin pool in it, GROUP/NAME
	Made     bool   `json:"made"`               // by setup
	Foreign  bool   `json:"foreign,omitempty"`  // something else is there, which genoci leaves alone
	Halfway  bool   `json:"halfway,omitempty"`  // a process was killed that was making or removing it
	Removed  bool   `json:"removed,omitempty"`  // somebody has removed the file while it was mounted
	Given    bool   `json:"given,omitempty"`    // the folder is on storage that needs no setup
	Device   string `json:"device,omitempty"`   // it is attached as
	Mounted  bool   `json:"mounted"`            // and can be used
	Size     int64  `json:"size,omitempty"`     // in bytes, at most
	Used     int64  `json:"used,omitempty"`     // of it
	Free     int64  `json:"free,omitempty"`     // in it
	Taken    int64  `json:"taken,omitempty"`    // by the file, of the file system that holds it
	HostFree int64  `json:"hostFree,omitempty"` // left there
	ReadOnly bool   `json:"readOnly,omitempty"` // the kernel ended writing, after an error
}

// ready reports whether a driver can use it.
func (s backingState) ready() bool { return s.Mounted || s.Given }

// lines says the state in words.
func (s backingState) lines() []string {
	var lines []string
	switch {
	case s.Foreign && s.Pool != "":
		lines = append(lines, fmt.Sprintf("%s or the volume group of %s is there, and was not made by genoci storage setup", s.File, s.Pool))
	case s.Foreign:
		lines = append(lines, s.File+" was not made by genoci storage setup")
	case s.Given && s.Pool != "":
		lines = append(lines, "the thin pool "+s.Pool+" serves as it is: nothing to set up")
	case s.Given:
		lines = append(lines, s.Mount+" is on a file system that serves as it is: nothing to set up")
	case s.Halfway:
		lines = append(lines, s.File+" is half made, or half removed; genoci storage setup makes it anew, unsetup removes what is left")
	case !s.Made:
		lines = append(lines, "not set up; it would be in "+s.File+", at "+s.Mount)
	case s.Removed:
		lines = append(lines, fmt.Sprintf("at %s (%s), but %s was removed: all in it is lost when that ends; genoci storage unsetup does it", s.Mount, s.Device, s.File))
	case s.Mounted && s.Pool != "":
		lines = append(lines, fmt.Sprintf("in %s (%s), as the thin pool %s", s.File, s.Device, s.Pool))
	case s.Mounted:
		lines = append(lines, fmt.Sprintf("in %s, at %s (%s)", s.File, s.Mount, s.Device))
	case s.Device != "" && s.Pool != "":
		lines = append(lines, fmt.Sprintf("in %s, attached as %s, but the thin pool %s is not active; genoci storage setup does that", s.File, s.Device, s.Pool))
	case s.Device != "":
		lines = append(lines, fmt.Sprintf("in %s, attached as %s, but not mounted at %s; genoci storage setup does that", s.File, s.Device, s.Mount))
	default:
		lines = append(lines, fmt.Sprintf("in %s, detached; genoci storage setup attaches it", s.File))
	}
	if s.ready() {
		lines = append(lines, fmt.Sprintf("%s, %s used, %s free", size(s.Size), size(s.Used), size(s.Free)))
	}
	if s.Made && !s.Removed {
		lines = append(lines, fmt.Sprintf("the file takes %s, and %s are left beside it", size(s.Taken), size(s.HostFree)))
	}
	if s.ReadOnly {
		lines = append(lines, "the kernel writes nothing to it any more, after an error (dmesg says which); genoci storage detach and then setup bring it back")
	}
	return lines
}

// loopback is the backing of the driver btrfs.
type loopback struct{ btrfs.Loopback }

var _ backing = (*loopback)(nil)

func (s *storageFlags) btrfsBacking() (backing, error) {
	l := &loopback{btrfs.Loopback{Size: s.size.bytes}}
	for _, p := range []struct {
		path            *string
		given, default_ string
	}{{&l.File, s.lofile, defaultBtrfsFile}, {&l.Mount, s.btrfsmount, defaultBtrfsMount}} {
		path := p.given
		if path == "" {
			path = p.default_
		}
		var err error
		if *p.path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *loopback) setup(ctx context.Context) ([]string, error) {
	done, err := l.Setup(ctx)
	if errors.Is(err, btrfs.ErrForeign) {
		err = withHint(err, "name another file or folder: --lofile FILE, --btrfsmount DIR")
	}
	return done, gone(err)
}

// gone says how storage ends whose file somebody has removed.
func gone(err error) error {
	if errors.Is(err, btrfs.ErrGone) {
		return withHint(err, "all in it is lost when the mount ends; genoci storage unsetup does that")
	}
	return err
}

func (l *loopback) state() (backingState, error) {
	s, err := l.State()
	return backingState{
		File: l.File, Mount: l.Mount, Made: s.Made, Foreign: s.Foreign, Given: s.Given, Device: s.Device, Mounted: s.Mounted,
		Size: s.Size, Used: s.Used, Free: s.Free, Taken: s.Taken, HostFree: s.HostFree, ReadOnly: s.ReadOnly, Removed: s.Gone,
	}, err
}

func (l *loopback) detach() error                  { return gone(l.Detach()) }
func (l *loopback) destroy() error                 { return l.Destroy() }
func (l *loopback) open() (snapshot.Driver, error) { return btrfs.Open(l.Dir()) }

func (l *loopback) command(verb string) string {
	return words([]string{"genoci", "storage", verb, "--driver", "btrfs", "--lofile", l.File, "--btrfsmount", l.Mount})
}

// mayBeUser returns an error where the caller is not root, for whom b cannot be changed; and what root would have to type.
func mayBeUser(b backing, verb string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	s, err := b.state()
	if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, snapshot.ErrUnsupported) {
		return err
	}
	if s.Given && unix.Access(existingFolder(s.Mount), unix.W_OK) == nil {
		return nil
	}
	return withHint(lackingf("storage %s: only root mounts a file system that outlives the process", verb),
		"as root: %s; a folder of yours on a btrfs needs no setup: GENOCI_BTRFSMOUNT=DIR", b.command(verb))
}

// existingFolder returns the folder, or the first above it that is there.
func existingFolder(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// detached returns the driver's storage where it was set up and is not attached now; nil for none.
func (d driver) detached() (backing, backingState) {
	if d.backing == nil {
		return nil, backingState{}
	}
	b, err := d.backing()
	if err != nil {
		return nil, backingState{} // nothing that is set up
	}
	st, err := b.state()
	if err != nil || !st.Made || st.ready() {
		return nil, backingState{}
	}
	return b, st
}

// detached returns storage that was set up and is not attached now, so that nobody knows what is kept there; nil for none.
func (s *storageFlags) detached() (backing, backingState) {
	for _, d := range s.drivers() {
		if b, st := d.detached(); b != nil {
			return b, st
		}
	}
	return nil, backingState{}
}

// tellDetached says on w which storage is not attached.
func (s *storageFlags) tellDetached(w io.Writer) {
	if b, st := s.detached(); b != nil {
		say(w, "note: the storage in %s is not attached, and what is in it not looked at; %s attaches it\n", st.File, b.command("setup"))
	}
}

// contents is what a storage driver keeps in a backing.
type contents struct {
	snapshots int
	failed    int      // trees of steps that failed
	checkouts []string // where
	busy      bool     // a command of genoci is using it
}

// contentsOf looks at what is in b, which has to be set up.
func contentsOf(ctx context.Context, b backing) (c contents, err error) {
	s, err := b.state()
	if err != nil || !s.ready() {
		return c, err
	}
	if _, err := os.Stat(filepath.Join(s.Mount, "genoci/format")); err != nil {
		return c, nil // no driver has been there yet
	}
	drv, err := b.open()
	if err != nil {
		return c, err
	}
	names, err := drv.Names(ctx)
	if err != nil {
		return c, err
	}
	c.snapshots = len(names)
	checkouts, err := deskOf(drv).List(ctx)
	if err != nil {
		return c, err
	}
	for _, o := range checkouts {
		c.checkouts = append(c.checkouts, fmt.Sprintf("%s (%s)", quoted(o.Dir), o.Tag))
	}
	kept, err := drv.Kept(ctx)
	c.failed = len(kept) - len(checkouts)
	if err != nil {
		return c, err
	}
	c.busy, err = drv.Busy()
	return c, err
}

// checkIdle returns an error while a command uses the storage.
func (c contents) checkIdle(verb string) error {
	if !c.busy {
		return nil
	}
	return withHint(fmt.Errorf("storage %s: a command of genoci is using it", verb), "try again when it has ended")
}

// checkUnused returns an error that names what would be lost.
func (c contents) checkUnused(verb string) error {
	if len(c.checkouts) == 0 {
		return c.checkIdle(verb)
	}
	return withHint(fmt.Errorf("storage %s: %s in it: %s", verb, plural(len(c.checkouts), "checkout"), strings.Join(c.checkouts, ", ")),
		"genoci checkin keeps what was changed in a checkout, genoci abort drops it")
}
