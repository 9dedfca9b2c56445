package main

import (
	"errors"
	"io"

	"github.com/spf13/pflag"

	"genoci/internal/cache"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/space"
	"genoci/internal/storage"
)

// storageFlags say where genoci keeps things: images in the layout, its own state in the cache
// folder, and trees with the storage drivers.
type storageFlags struct {
	layout                 string
	config                 storage.Config
	size, lvsize, thinsize byteSize

	drivers *storage.Storage // of the flags; nil before resolve
}

// addLayout adds the flag that names the layout.
func (f *storageFlags) addLayout(fs *pflag.FlagSet) { layoutVar(fs, &f.layout) }

// addDriver adds the flags that choose a driver.
func (f *storageFlags) addDriver(fs *pflag.FlagSet) { driverVar(fs, &f.config.Driver) }

// addState adds the flags that say where genoci's own state and the drivers' files are.
func (f *storageFlags) addState(fs *pflag.FlagSet) {
	cacheDirVar(fs, &f.config.CacheDir)
	f.addHidden(fs)
}

// addHidden adds the drivers' own flags, which only the storage commands show. Elsewhere they are
// there for the settings.
func (f *storageFlags) addHidden(fs *pflag.FlagSet) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.addDriverOwn(own)
	own.VisitAll(func(flag *pflag.Flag) { flag.Hidden = true })
	fs.AddFlagSet(own)
}

// addDriverOwn adds the drivers' own flags.
func (f *storageFlags) addDriverOwn(fs *pflag.FlagSet) {
	c := &f.config
	fs.StringVar(&c.File, "lofile", "", "`FILE` that holds the storage (default ./btrfs.img, ./lvm.img)")
	fs.StringVar(&c.BtrfsMount, "btrfsmount", "", "`DIR` where the btrfs is mounted, or a folder on one that is there (default ./btrfs)")
	fs.StringVar(&c.LVMDir, "lvbasedir", "", "`DIR` where the driver lvm mounts its volumes (default ./lvm)")
	fs.StringVar(&c.Group, "vg", "", "the volume group `NAME` of the driver lvm, made by setup if there is none (default stacker)")
	fs.StringVar(&c.Pool, "thinpool", "", "the thin pool `NAME` in it (default ThinDataLV)")
	choiceVar(fs, &c.FileSystem, "lvfs", "what is on its new volumes", "ext4", "xfs")
	fs.Var(&f.lvsize, "lvsize", "`SIZE` of the file for the driver lvm, where --size says none")
	fs.Var(&f.thinsize, "thinsize", "`SIZE` of the thin pool in it (default what fits)")
}

// resolve finds the folder of genoci's own state, where --cache-dir did not name one.
func (f *storageFlags) resolve() (err error) {
	if f.config.CacheDir, err = cacheDir(f.config.CacheDir); err == nil {
		f.drivers = f.unresolved()
	}
	return err
}

// unresolved returns the drivers for a command that looks at nothing in the cache folder.
func (f *storageFlags) unresolved() *storage.Storage {
	c := f.config
	c.Size, c.FileSize, c.PoolSize = f.size.bytes, f.lvsize.bytes, f.thinsize.bytes
	return storage.New(c)
}

// flushed is for the end of a command that opens the storage driver, after its result was printed.
func (f *storageFlags) flushed() {
	if f.drivers != nil {
		f.drivers.Flushed()
	}
}

// enter brings the process to where trees can be looked at, and opens the cache. The program may
// begin anew in it.
func (f *storageFlags) enter() (*cache.Cache, error) {
	if err := sandbox.Enter(); err != nil {
		return nil, err
	}
	if err := f.resolve(); err != nil {
		return nil, err
	}
	return openCache(f.config.CacheDir)
}

// open opens the storage driver. It prints on w why earlier ones do not work.
func (f *storageFlags) open(w io.Writer) (snapshot.Driver, error) {
	opened, err := f.drivers.Open()
	if err != nil {
		return nil, err
	}
	for _, text := range passedOver(opened) {
		say(w, "warning: %s\n", text)
	}
	return opened.Driver, nil
}

// openKeeping opens all drivers that have kept trees. It prints on w which of them cannot be
// opened.
func (f *storageFlags) openKeeping(w io.Writer) ([]snapshot.Driver, error) {
	folders, err := f.drivers.Keeping()
	if err != nil {
		return nil, err
	}
	var all []snapshot.Driver
	for _, folder := range folders {
		drv, err := folder.Open()
		if err != nil {
			say(w, "warning: %v\n", err)
			continue
		}
		all = append(all, drv)
	}
	return all, nil
}

// locations opens the cache, the folders of the drivers, and the layout, which may be missing
// unless it is needed. It is due to be closed.
func (f *storageFlags) locations(needLayout bool) (space.Locations, error) {
	p, err := f.stateLocations()
	if err != nil {
		return p, err
	}
	p.Layout, err = layout.Open(f.layout)
	if errors.Is(err, layout.ErrNotExist) && !needLayout {
		return p, nil
	}
	return p, noLayout(err)
}

// stateLocations opens the cache and the folders of the drivers. Where a driver has one, the
// program enters the namespace in which that can be read, and may begin anew for it.
func (f *storageFlags) stateLocations() (space.Locations, error) {
	if err := f.resolve(); err != nil {
		return space.Locations{}, err
	}
	p := space.Locations{Drivers: storage.Names()}
	folders, err := f.drivers.Folders()
	if err != nil {
		return p, err
	}
	var entered error // why there is no namespace
	if len(folders) > 0 {
		entered = sandbox.Enter()
	}
	for _, folder := range folders {
		s := space.Store{Name: folder.Driver, Dir: folder.Dir, Err: entered}
		if entered == nil {
			s.Driver, s.Err = folder.Open()
		}
		p.Stores = append(p.Stores, s)
	}
	p.Cache, err = openCache(f.config.CacheDir)
	return p, err
}

// tellUnusable says on w what could not be looked at.
func (f *storageFlags) tellUnusable(w io.Writer, p space.Locations, inv *space.Inventory) {
	f.tellDetached(w)
	for _, s := range p.Stores {
		if s.Err != nil {
			say(w, "warning: %v; %s is left as it is\n", s.Err, s.Dir)
		}
	}
	for _, err := range inv.Unsure {
		say(w, "warning: %v; what that may need stays\n", err)
	}
}

// tellDetached says on w which storage is not attached.
func (f *storageFlags) tellDetached(w io.Writer) {
	if b, st := f.drivers.Detached(); b != nil {
		say(w, "note: the storage in %s is not attached, and what is in it not looked at; %s attaches it\n", st.File, storageCommand("setup", b))
	}
}

// passedOver says why drivers that come before the open one do not work.
func passedOver(opened storage.Opened) []string {
	var texts []string
	for _, err := range opened.Failed {
		texts = append(texts, err.Error()+"; using driver "+opened.Driver.String())
	}
	return texts
}
