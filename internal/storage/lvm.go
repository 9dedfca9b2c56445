package storage

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"

	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/lvm"
)

// The names of the original.
const (
	defaultLVMFile = "lvm.img"
	defaultLVMDir  = "lvm"
	defaultGroup   = "stacker"
	defaultPool    = "ThinDataLV"
)

// lvmFolder returns the folder of the driver lvm. It can be expected to work where somebody named
// it or a volume group, and where Setup made the default one.
func (c Config) lvmFolder() folder {
	made := filepath.Join(defaultLVMDir, dirName)
	switch {
	case c.LVMDir != "":
		return below(c.LVMDir)
	case existing(made) == made:
		return below(defaultLVMDir)
	}
	return folder{dir: filepath.Join(c.CacheDir, "lvm"), expected: c.Group != ""}
}

func (c Config) openLVM(dir string) (snapshot.Driver, error) {
	o := lvm.Options{Group: cmp.Or(c.Group, defaultGroup), Pool: cmp.Or(c.Pool, defaultPool), FileSystem: c.FileSystem}
	if !sandbox.Rootless() {
		o.Outside = sandbox.Outside
	}
	return lvm.Open(dir, o)
}

// thinPool is the backing of the driver lvm: a volume group with a thin pool in a file.
type thinPool struct {
	loopback lvm.Loopback
	base     string
	open     func(dir string) (snapshot.Driver, error)
}

var _ Backing = (*thinPool)(nil)

func (c Config) lvmBacking() (Backing, error) {
	file, err := filepath.Abs(cmp.Or(c.File, defaultLVMFile))
	if err != nil {
		return nil, err
	}
	base, err := filepath.Abs(cmp.Or(c.LVMDir, defaultLVMDir))
	if err != nil {
		return nil, err
	}
	l := lvm.Loopback{
		File: file, Group: cmp.Or(c.Group, defaultGroup), Pool: cmp.Or(c.Pool, defaultPool), Dir: filepath.Join(base, dirName),
		Size: cmp.Or(c.Size, c.FileSize), PoolSize: c.PoolSize,
	}
	return &thinPool{l, base, c.openLVM}, nil
}

// Setup implements Backing.
func (p *thinPool) Setup(context.Context) ([]string, error) {
	done, err := p.loopback.Setup()
	if errors.Is(err, lvm.ErrForeign) {
		err = &Error{Err: err, Remedy: OtherFileOrGroup}
	}
	return done, err
}

// State implements Backing.
func (p *thinPool) State() (State, error) {
	s, err := p.loopback.State()
	return State{
		File: p.loopback.File, Mount: p.base, Pool: p.loopback.Group + "/" + p.loopback.Pool, Made: s.Made, Foreign: s.Foreign,
		Given: s.Given && s.Ready, Halfway: s.Halfway && !s.Made, Device: s.Device, Mounted: s.Made && s.Ready,
		Size: s.Size, Used: s.Used, Free: s.Size - s.Used, Taken: s.Taken, HostFree: s.HostFree,
	}, err
}

// Detach implements Backing.
func (p *thinPool) Detach() error { return volumesBusy(p.loopback.Detach()) }

// Destroy implements Backing.
func (p *thinPool) Destroy() error { return volumesBusy(p.loopback.Destroy()) }

// Open implements Backing.
func (p *thinPool) Open() (snapshot.Driver, error) { return p.open(p.loopback.Dir) }

// volumesBusy adds what the user can do where a volume is in use.
func volumesBusy(err error) error {
	if errors.Is(err, lvm.ErrBusy) {
		return &Error{Err: err, Remedy: CloseVolumes}
	}
	return err
}

// Flags implements Backing.
func (p *thinPool) Flags() []string {
	flags := []string{"--driver", "lvm", "--lofile", p.loopback.File, "--lvbasedir", p.base}
	if p.loopback.Group != defaultGroup || p.loopback.Pool != defaultPool {
		flags = append(flags, "--vg", p.loopback.Group, "--thinpool", p.loopback.Pool)
	}
	return flags
}
