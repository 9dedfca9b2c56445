package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/checkout"
	"genoci/internal/snapshot"
)

// Backing is what root sets up below a storage driver, such as a file system in a file. It shows
// itself that genoci made it, so no record of it could be wrong. A kill at any moment leaves what
// Setup mends.
type Backing interface {
	// Setup makes what is missing, and returns what it did, one line for each thing.
	Setup(ctx context.Context) (done []string, err error)
	// State says what there is.
	State() (State, error)
	// Detach ends all mounts and devices; the content stays.
	Detach() error
	// Destroy detaches and removes it.
	Destroy() error
	// Open opens the driver on it, which has to be set up.
	Open() (snapshot.Driver, error)
	// Flags are the flags with which a storage command, in any folder, is about this backing.
	Flags() []string
}

// State is what there is of a backing. It is a part of what storage status --json prints.
type State struct {
	File     string `json:"file,omitempty"`     // that holds it
	Mount    string `json:"mount,omitempty"`    // the folder where it is mounted
	Pool     string `json:"pool,omitempty"`     // the thin pool in it, GROUP/NAME
	Made     bool   `json:"made"`               // by Setup
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

// Ready reports whether a driver can use it.
func (s State) Ready() bool { return s.Mounted || s.Given }

// DefaultSetup returns the driver that is set up where none is named.
func DefaultSetup() string {
	for _, d := range (Config{}).drivers() {
		if d.backing != nil {
			return d.name
		}
	}
	return ""
}

// Backing returns the backing of the driver of the configuration; for Auto, that of DefaultSetup.
// The error is a *NoSetupError where the driver has none, and a *RootError where the caller may not
// change it.
func (s *Storage) Backing() (Backing, error) {
	name := s.config.Driver
	if s.config.isAuto() {
		name = DefaultSetup()
	}
	for _, d := range s.config.drivers() {
		if d.name != name || d.backing == nil {
			continue
		}
		b, err := d.backing()
		if err == nil {
			err = mayChange(b)
		}
		return b, err
	}
	return nil, &NoSetupError{Driver: name, Other: DefaultSetup()}
}

// mayChange returns an error where the caller may not change b.
func mayChange(b Backing) error {
	if os.Geteuid() == 0 {
		return nil
	}
	s, err := b.State()
	if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, snapshot.ErrUnsupported) {
		return err
	}
	if s.Given && unix.Access(existing(s.Mount), unix.W_OK) == nil {
		return nil
	}
	return &RootError{b}
}

// existing returns the folder, or the first above it that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// Detached returns a backing that was set up and is not attached now, so that nobody knows what is
// kept there; nil for none.
func (s *Storage) Detached() (Backing, State) {
	for _, d := range s.config.drivers() {
		if b, st := d.detached(); b != nil {
			return b, st
		}
	}
	return nil, State{}
}

// detached returns the driver's backing where it was set up and is not attached now; nil for none.
func (d driver) detached() (Backing, State) {
	if d.backing == nil {
		return nil, State{}
	}
	b, err := d.backing()
	if err != nil {
		return nil, State{} // nothing that is set up
	}
	st, err := b.State()
	if err != nil || !st.Made || st.Ready() {
		return nil, State{}
	}
	return b, st
}

// contents is what a storage driver keeps in a backing.
type contents struct {
	snapshots int
	failed    int // trees of steps that failed
	checkouts []*checkout.Checkout
	busy      bool // a command of genoci is using it
}

// contentsOf looks at what is in b, which has to be set up.
func contentsOf(ctx context.Context, b Backing) (c contents, err error) {
	s, err := b.State()
	if err != nil || !s.Ready() {
		return c, err
	}
	if _, err := os.Stat(filepath.Join(s.Mount, dirName, "format")); err != nil {
		return c, nil // no driver has been there yet
	}
	drv, err := b.Open()
	if err != nil {
		return c, err
	}
	names, err := drv.Names(ctx)
	if err != nil {
		return c, err
	}
	c.snapshots = len(names)
	if c.checkouts, err = (checkout.Store{Driver: drv}).List(ctx); err != nil {
		return c, err
	}
	kept, err := drv.Kept(ctx)
	c.failed = len(kept) - len(c.checkouts)
	if err != nil {
		return c, err
	}
	c.busy, err = drv.Busy()
	return c, err
}

// Detach ends all mounts and devices of b. The error is ErrBusy while a command of genoci uses it.
func Detach(ctx context.Context, b Backing) error {
	// What cannot be looked at, as after an error of the disk, is detached all the more.
	if c, err := contentsOf(ctx, b); err == nil && c.busy {
		return ErrBusy
	}
	return b.Detach()
}

// Removal is what Unsetup removes.
type Removal struct {
	State     State
	Dir       string // the driver's folder, which is all that goes where the state is Given
	Snapshots int
	Failed    int // trees of steps that failed
}

// Unsetup removes b with all that is in it, if confirm, which is told what that is, returns nil.
// The error is ErrBusy or a *CheckedOutError where b is in use, and ErrNotSetUp where there is
// nothing. What is only half made goes without a question; then, removed is nil.
func Unsetup(ctx context.Context, b Backing, confirm func(Removal) error) (removed *Removal, err error) {
	s, err := b.State()
	switch {
	case err != nil:
		return nil, err
	case s.Foreign, s.Halfway:
		return nil, b.Destroy() // which refuses, or removes what is left
	case !s.Made && (!s.Given || !isUsed(filepath.Join(s.Mount, dirName))):
		return nil, ErrNotSetUp
	}
	wasReady := s.Ready()
	if !wasReady { // to see whether somebody has a checkout there
		if _, err := b.Setup(ctx); err != nil {
			return nil, err
		}
	}
	c, err := contentsOf(ctx, b)
	r := Removal{State: s, Dir: s.Mount + "/" + dirName, Snapshots: c.snapshots, Failed: c.failed}
	switch {
	case err != nil:
	case len(c.checkouts) > 0:
		err = &CheckedOutError{c.checkouts}
	case c.busy:
		err = ErrBusy
	default:
		err = confirm(r)
	}
	if err != nil {
		if !wasReady {
			err = errors.Join(err, b.Detach())
		}
		return nil, err
	}
	if err := b.Destroy(); err != nil {
		return nil, err
	}
	return &r, nil
}
