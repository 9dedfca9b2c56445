package main

import (
	"fmt"
	"time"

	"genoci/internal/build"
	"genoci/internal/cache"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/overlay"
	"genoci/internal/snapshot/vfs"
)

// driver is a storage driver.
type driver struct {
	name string
	open func(dir string) (snapshot.Driver, error) // nil: not supported yet, known by name only
}

// drivers lists all storage drivers, in the order in which "auto" tries them.
func drivers() []driver {
	return []driver{
		{"overlay", func(dir string) (snapshot.Driver, error) {
			o := overlay.Options{Rootless: sandbox.Rootless()}
			if !o.Rootless {
				o.Outside = sandbox.Outside
			}
			return overlay.Open(dir, o)
		}},
		{"vfs", func(dir string) (snapshot.Driver, error) { return vfs.Open(dir) }},
		{"btrfs", nil},
		{"lvm", nil},
	}
}

// checkDriver returns an error when name is a driver that does not exist yet.
func checkDriver(name string) error {
	for _, d := range drivers() {
		if d.name == name && d.open == nil {
			return withHint(lackingf("driver %s: not supported yet", name), "use --driver auto")
		}
	}
	return nil
}

// driverOpener returns the func that opens the storage driver called name, with its files in the cache. For "auto" that is the
// first that works in the cache's file system; why an earlier one does not is reported as a warning.
func driverOpener(name string, c *cache.Cache, report func(build.Event)) func() (snapshot.Driver, error) {
	return func() (snapshot.Driver, error) {
		var last error
		for _, d := range drivers() {
			if d.open == nil || name != "auto" && name != d.name {
				continue
			}
			if last != nil {
				report(build.Event{
					Time: time.Now(), Kind: build.Warning,
					Text: fmt.Sprintf("%v; using driver %s", last, d.name),
				})
			}
			opened, err := openDriver(d, c)
			if err == nil || name != "auto" {
				return opened, err
			}
			last = err
		}
		return nil, last
	}
}

// openDriver opens d in its folder of the cache.
func openDriver(d driver, c *cache.Cache) (snapshot.Driver, error) {
	dir, err := c.Dir(d.name)
	if err != nil {
		return nil, err
	}
	return openDriverIn(d, dir)
}

// openDriverIn opens d in the folder dir.
func openDriverIn(d driver, dir string) (snapshot.Driver, error) {
	opened, err := d.open(dir)
	if err != nil {
		return nil, fmt.Errorf("driver %s: %w", d.name, err)
	}
	return opened, nil
}
