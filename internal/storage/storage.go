// Package storage knows the storage drivers of this machine: where each of them keeps its files,
// whether it works, and what root sets up for it. It opens the one that a build or a checkout
// takes.
//
// A new driver is a line in the list of drivers.go. All that others ask of a driver, it declares
// there.
package storage

import (
	"errors"

	"genoci/internal/snapshot"
)

// Auto is the driver that stands for the first one that works.
const Auto = "auto"

// Config says which driver is wanted, and where the drivers keep their files. Where it names no
// folder, the drivers use the cache folder; what root sets up is in the working folder.
type Config struct {
	Driver   string // one of Names, or Auto; "" is Auto
	CacheDir string // genoci's own state

	File string // holds what root sets up, for the drivers btrfs and lvm; "": btrfs.img or lvm.img
	Size int64  // of that file at most; 0: as it is, or a default

	BtrfsMount string // where the btrfs is mounted, or a folder on one that exists; "": btrfs

	LVMDir     string // where the driver lvm mounts its volumes; "": lvm
	Group      string // the volume group; "": stacker
	Pool       string // the thin pool; "": ThinDataLV
	FileSystem string // on new volumes
	FileSize   int64  // of the file for lvm, where Size is 0
	PoolSize   int64  // of the thin pool in it; 0: what fits
}

// isAuto reports whether no driver is named.
func (c Config) isAuto() bool { return c.Driver == "" || c.Driver == Auto }

// Names returns the names of all drivers, in the order in which Auto tries them.
func Names() []string {
	var names []string
	for _, d := range (Config{}).drivers() {
		names = append(names, d.name)
	}
	return names
}

// Storage is the storage drivers of one configuration.
type Storage struct {
	config   Config
	flushing chan struct{} // closed when the open driver has written out what is old; nil where none was opened
}

// New returns the storage drivers of a configuration. It touches nothing.
func New(c Config) *Storage { return &Storage{config: c} }

// Opened is a storage driver that is open.
type Opened struct {
	Driver snapshot.Driver
	Failed []error // for Auto: why earlier drivers do not work
	// Private are drivers that were left out, since their trees could only be seen by this process.
	Private []string
}

// Open opens the driver of the configuration, and begins to write out what is old in it: Flushed
// waits for that. For Auto it is the first that can be expected to work, and does.
func (s *Storage) Open() (Opened, error) { return s.open(false) }

// OpenShared is Open for trees that other processes are to see: for Auto, it leaves out drivers
// whose trees only this process can see.
func (s *Storage) OpenShared() (Opened, error) { return s.open(true) }

func (s *Storage) open(shared bool) (Opened, error) {
	var opened Opened
	for _, d := range s.config.drivers() {
		if !s.config.isAuto() && s.config.Driver != d.name {
			continue
		}
		f := d.folder()
		if s.config.isAuto() && shared && d.private {
			opened.Private = append(opened.Private, d.name)
			continue
		}
		if s.config.isAuto() && !f.expected {
			continue
		}
		drv, err := d.openIn(f.dir)
		if err == nil {
			opened.Driver = drv
			s.flush(drv)
			return opened, nil
		}
		if b, st := d.detached(); b != nil {
			err = &Error{Err: err, Remedy: Attach, Backing: b, File: st.File}
		}
		opened.Failed = append(opened.Failed, err)
	}
	return Opened{}, errors.Join(opened.Failed...)
}

// flush begins to write out what is old in a driver. If it fails, or the process is killed, a later
// one does it.
func (s *Storage) flush(drv snapshot.Driver) {
	done := make(chan struct{})
	s.flushing = done
	go func() {
		defer close(done)
		_ = snapshot.FlushOld(drv)
	}()
}

// Flushed waits until the open driver has written out what is old. It is for the end of a command,
// after its result was printed.
func (s *Storage) Flushed() {
	if s.flushing != nil {
		<-s.flushing
	}
}

// SetUpFolder returns the folder that somebody has set up for a driver; "" where the driver keeps
// its files in the cache.
func (s *Storage) SetUpFolder(driver string) string {
	for _, d := range s.config.drivers() {
		if d.name == driver {
			return d.folder().setUp
		}
	}
	return ""
}
