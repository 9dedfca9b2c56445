package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"

	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/lvm"
)

// The original's names.
const (
	defaultLvmFile = "lvm.img"
	defaultLvmBase = "lvm"
	defaultGroup   = "stacker"
	defaultPool    = "ThinDataLV"
)

// lvmDir returns the folder of the driver lvm, and whether it can be expected to work: someone named it or a volume group, or storage setup made
// the default one.
func (s *storageFlags) lvmDir() (dir string, expected bool) {
	made := filepath.Join(defaultLvmBase, "genoci")
	switch {
	case s.lvbasedir != "":
		return filepath.Join(s.lvbasedir, "genoci"), true
	case existingFolder(made) == made:
		return made, true
	}
	return filepath.Join(s.cacheDir, "lvm"), s.vg != ""
}

func (s *storageFlags) openLvm(dir string) (snapshot.Driver, error) {
	o := lvm.Options{Group: cmp.Or(s.vg, defaultGroup), Pool: cmp.Or(s.thinpool, defaultPool), FileSystem: s.lvfs}
	if !sandbox.Rootless() {
		o.Outside = sandbox.Outside
	}
	return lvm.Open(dir, o)
}

// thinPool is the backing of the driver lvm.
type thinPool struct {
	lvm.Loopback
	base   string
	opener func(dir string) (snapshot.Driver, error)
}

var _ backing = (*thinPool)(nil)

func (s *storageFlags) lvmBacking() (backing, error) {
	file, err := filepath.Abs(cmp.Or(s.lofile, defaultLvmFile))
	if err != nil {
		return nil, err
	}
	base, err := filepath.Abs(cmp.Or(s.lvbasedir, defaultLvmBase))
	if err != nil {
		return nil, err
	}
	l := lvm.Loopback{
		File: file, Group: cmp.Or(s.vg, defaultGroup), Pool: cmp.Or(s.thinpool, defaultPool), Dir: filepath.Join(base, "genoci"),
		Size: cmp.Or(s.size.bytes, s.lvsize.bytes), PoolSize: s.thinsize.bytes,
	}
	return &thinPool{l, base, s.openLvm}, nil
}

func (p *thinPool) setup(context.Context) ([]string, error) {
	done, err := p.Setup()
	if errors.Is(err, lvm.ErrForeign) {
		err = withHint(err, "name another file or volume group: --lofile FILE, --vg NAME; or a thin pool that the group has: --thinpool NAME")
	}
	return done, err
}

func (p *thinPool) state() (backingState, error) {
	s, err := p.State()
	return backingState{
		File: p.File, Mount: p.base, Pool: p.Group + "/" + p.Pool, Made: s.Made, Foreign: s.Foreign, Given: s.Given && s.Ready, Halfway: s.Halfway && !s.Made,
		Device: s.Device, Mounted: s.Made && s.Ready, Size: s.Size, Used: s.Used, Free: s.Size - s.Used, Taken: s.Taken, HostFree: s.HostFree,
	}, err
}

func (p *thinPool) detach() error                  { return lvmBusy(p.Detach()) }
func (p *thinPool) destroy() error                 { return lvmBusy(p.Destroy()) }
func (p *thinPool) open() (snapshot.Driver, error) { return p.opener(p.Dir) }

// lvmBusy says what is likely to use a volume.
func lvmBusy(err error) error {
	if errors.Is(err, lvm.ErrBusy) {
		return withHint(err, "genoci status lists the checkouts; a build that goes on uses volumes, too")
	}
	return err
}

func (p *thinPool) command(verb string) string {
	args := []string{"genoci", "storage", verb, "--driver", "lvm", "--lofile", p.File, "--lvbasedir", p.base}
	if p.Group != defaultGroup || p.Pool != defaultPool {
		args = append(args, "--vg", p.Group, "--thinpool", p.Pool)
	}
	return words(args)
}
