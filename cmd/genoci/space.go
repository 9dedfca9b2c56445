package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"genoci/internal/layout"
	"genoci/internal/sandbox"
	"genoci/internal/space"
)

// spaceFlags are the flags of the commands that look after disk space: where genoci keeps things.
type spaceFlags struct {
	storageFlags
	layout string
}

func (f *spaceFlags) add(fs *pflag.FlagSet) {
	layoutVar(fs, &f.layout)
	f.addTrees(fs)
}

// addTrees adds those of what is not the layout.
func (f *spaceFlags) addTrees(fs *pflag.FlagSet) {
	cacheDirVar(fs, &f.cacheDir)
	f.addHidden(fs)
}

// places opens all places, as trees does, and the layout, which may be missing unless it is needed. It is due to be closed.
func (f *spaceFlags) places(needLayout bool) (space.Places, error) {
	p, err := f.trees()
	if err != nil {
		return p, err
	}
	p.Layout, err = layout.Open(f.layout)
	if errors.Is(err, layout.ErrNotExist) && !needLayout {
		return p, nil
	}
	return p, noLayout(err)
}

// trees opens the cache and the folders of the drivers. Where a driver has one, the program enters the namespace in which that can be read, and may
// begin anew for it.
func (f *spaceFlags) trees() (space.Places, error) {
	if err := f.resolve(); err != nil {
		return space.Places{}, err
	}
	var p space.Places
	var entered error // why there is no namespace
	for _, d := range f.drivers() {
		p.Drivers = append(p.Drivers, d.name)
		dirs, err := d.stores(f.cacheDir)
		if err != nil {
			return p, err
		}
		for _, dir := range dirs {
			if len(p.Stores) == 0 {
				entered = sandbox.Enter()
			}
			s := space.Store{Name: d.name, Dir: dir, Err: entered}
			if entered == nil {
				s.Driver, s.Err = d.openIn(dir)
			}
			p.Stores = append(p.Stores, s)
		}
	}
	var err error
	p.Cache, err = openCache(f.cacheDir)
	return p, err
}

// stores returns the folders in which the driver keeps things: the one that it would be opened in, and that in the cache, in which it was before somebody
// named another.
func (d driver) stores(cacheDir string) ([]string, error) {
	now, _ := d.dir()
	now, err := filepath.Abs(now)
	if err != nil {
		return nil, err
	}
	dirs := []string{now}
	if before := filepath.Join(cacheDir, d.name); before != now {
		dirs = append(dirs, before)
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return !hasStore(dir) }), nil
}

// hasStore reports whether a driver has begun to keep things in the folder.
func hasStore(dir string) bool {
	entries, err := os.ReadDir(dir)
	return len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// tellUnusable says on w what could not be looked at.
func (f *spaceFlags) tellUnusable(w io.Writer, p space.Places, inv *space.Inventory) {
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

// byteSize is a flag that takes a size with a unit.
type byteSize struct {
	bytes int64
	set   bool
}

func (b *byteSize) Type() string { return "SIZE" }
func (b *byteSize) String() string {
	if !b.set {
		return ""
	}
	return size(b.bytes)
}

func (b *byteSize) Set(s string) (err error) {
	b.bytes, err = parseSize(s)
	b.set = err == nil
	return err
}

// limit returns the number, or nil where there is none.
func (b *byteSize) limit() *int64 {
	if !b.set {
		return nil
	}
	return &b.bytes
}

// parseSize reads a size: "1500 B", "1.5 kB", "20GB", "20G", "1GiB". Units are decimal, those with an i binary. Only 0 needs no
// unit: whoever writes "--max-size 5" rarely means five bytes, and LVM reads a bare number as mebibytes.
func parseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "BbiIkKmMgGtT ")
	unit := strings.ToLower(strings.TrimSpace(s[len(number):]))
	factors := map[string]float64{
		"": 1, "b": 1,
		"k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
		"ki": 1 << 10, "kib": 1 << 10, "mi": 1 << 20, "mib": 1 << 20, "gi": 1 << 30, "gib": 1 << 30, "ti": 1 << 40, "tib": 1 << 40,
	}
	factor, ok := factors[unit]
	var n float64
	if ok {
		_, err := fmt.Sscanf(number+"\n", "%g\n", &n)
		ok = err == nil
	}
	if ok = ok && n >= 0 && n*factor < 1<<62; !ok {
		return 0, fmt.Errorf("%q is not a size, as in 500MB, 20GB, 1GiB", s)
	}
	if unit == "" && n != 0 {
		return 0, fmt.Errorf("%q needs a unit: write %sGB for gigabytes, %sMB for megabytes, %sB for bytes", s, s, s, s)
	}
	return int64(n * factor), nil
}
