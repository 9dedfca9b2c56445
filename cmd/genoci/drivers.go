package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"genoci/internal/build"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/btrfs"
	"genoci/internal/snapshot/overlay"
	"genoci/internal/snapshot/vfs"
)

// driver is a storage driver.
type driver struct {
	name string
	// dir returns the folder of the driver's files, and whether the driver can be expected to work there: else "auto" does not try it.
	dir  func() (dir string, expected bool)
	open func(dir string) (snapshot.Driver, error)
	fix  string // what the user can do where it does not work
	// backing is what storage setup makes for it. nil: nothing.
	backing func() (backing, error)
	// ends: its trees can only be seen by the process that made them, and those that it starts.
	ends bool
}

// drivers lists all storage drivers, in the order in which "auto" tries them: the fastest first, and last the one that works everywhere.
func (s *storageFlags) drivers() []driver {
	return []driver{
		{
			name: "overlay",
			dir:  s.inCache("overlay"),
			open: func(dir string) (snapshot.Driver, error) {
				o := overlay.Options{Rootless: sandbox.Rootless()}
				if !o.Rootless {
					o.Outside = sandbox.Outside
				}
				return overlay.Open(dir, o)
			},
			fix:  "name a cache folder on a local ext4, xfs or btrfs: --cache-dir DIR",
			ends: sandbox.Rootless(),
		},
		{
			name:    "btrfs",
			dir:     s.btrfsDir,
			open:    func(dir string) (snapshot.Driver, error) { return btrfs.Open(dir) },
			fix:     "as root: genoci storage setup --driver btrfs; or name a folder of yours on a btrfs: GENOCI_BTRFSMOUNT=DIR",
			backing: s.btrfsBacking,
		},
		{
			name:    "lvm",
			dir:     s.lvmDir,
			open:    s.openLvm,
			fix:     "as root: genoci storage setup --driver lvm; or name a thin pool that is there: GENOCI_VG=NAME GENOCI_THINPOOL=NAME",
			backing: s.lvmBacking,
		},
		{
			name: "vfs",
			dir:  s.inCache("vfs"),
			open: func(dir string) (snapshot.Driver, error) { return vfs.Open(dir) },
			fix:  "name a cache folder that can be written: --cache-dir DIR",
		},
	}
}

// opener returns the func that opens the storage driver. For "auto" that is the first that can be expected to work, and does; why an
// earlier one does not is reported as a warning.
func (s *storageFlags) opener(report func(build.Event)) func() (snapshot.Driver, error) {
	return func() (snapshot.Driver, error) {
		opened, failed, err := s.openDriver()
		if err != nil {
			return nil, err
		}
		for _, err := range failed {
			report(build.Event{Time: time.Now(), Kind: build.Warning, Text: fmt.Sprintf("%v; using driver %s", err, opened)})
		}
		return opened, nil
	}
}

// openTelling opens the storage driver, with warnings on w.
func (s *storageFlags) openTelling(w io.Writer) (snapshot.Driver, error) {
	return s.opener(func(e build.Event) { say(w, "warning: %s\n", warning(e)) })()
}

// flush begins to write out what is old in the storage driver. If it fails, or the process is killed, a later one does it.
func (s *storageFlags) flush(opened snapshot.Driver) {
	done := make(chan struct{})
	s.flushing = done
	go func() {
		defer close(done)
		_ = snapshot.FlushOld(opened)
	}()
}

// flushed waits for what flush has begun. It is for the end of a command that opens the storage driver, when its result was told.
func (s *storageFlags) flushed() {
	if s.flushing != nil {
		<-s.flushing
	}
}

// openDriver opens the storage driver, and has it write out what is old. For "auto", failed is why earlier ones do not work.
func (s *storageFlags) openDriver() (opened snapshot.Driver, failed []error, err error) {
	for _, d := range s.drivers() {
		if s.driver != "auto" && s.driver != d.name {
			continue
		}
		dir, expected := d.dir()
		if s.driver == "auto" && (!expected || s.outlive && d.ends) {
			continue
		}
		opened, err := d.openIn(dir)
		if err == nil {
			s.flush(opened)
			return opened, failed, nil
		}
		if b, st := d.detached(); b != nil {
			err = withHint(err, "%s attaches %s", b.command("setup"), quoted(st.File))
		}
		failed = append(failed, err)
	}
	return nil, nil, errors.Join(failed...)
}

// openIn opens the driver with its files in dir.
func (d driver) openIn(dir string) (snapshot.Driver, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	opened, err := d.open(dir)
	if err != nil {
		return nil, fmt.Errorf("driver %s: %w", d.name, err)
	}
	return opened, nil
}
