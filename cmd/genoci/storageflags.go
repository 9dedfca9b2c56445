package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// storageFlags say which storage driver is used, and where the drivers keep their files. Where nobody says so, that is the folder
// of genoci's own state.
type storageFlags struct {
	driver     string
	cacheDir   string // of genoci's own state
	lofile     string
	btrfsmount string
	size       byteSize
	lvbasedir  string
	vg         string
	thinpool   string
	lvfs       string
	lvsize     byteSize // of the file
	thinsize   byteSize // of the thin pool in it
	outlive    bool     // "auto" is to take a driver whose trees can be seen when the process has ended

	flushing chan struct{} // see flushed; nil where the driver was not opened
}

// add adds the flags that choose a driver.
func (s *storageFlags) add(fs *pflag.FlagSet) {
	driverVar(fs, &s.driver)
	s.addHidden(fs)
}

// addHidden adds the flags of the drivers' places, which the storage commands show. Elsewhere they are there for the settings.
func (s *storageFlags) addHidden(fs *pflag.FlagSet) {
	s.addPlaces(fs)
	for _, name := range placeFlags {
		fs.Lookup(name).Hidden = true
	}
}

// placeFlags are what addPlaces adds.
var placeFlags = []string{"lofile", "btrfsmount", "lvbasedir", "vg", "thinpool", "lvfs", "lvsize", "thinsize"}

func (s *storageFlags) addPlaces(fs *pflag.FlagSet) {
	fs.StringVar(&s.lofile, "lofile", "", "`FILE` that holds the storage (default ./btrfs.img, ./lvm.img)")
	fs.StringVar(&s.btrfsmount, "btrfsmount", "", "`DIR` where the btrfs is mounted, or a folder on one that is there (default ./btrfs)")
	fs.StringVar(&s.lvbasedir, "lvbasedir", "", "`DIR` where the driver lvm mounts its volumes (default ./lvm)")
	fs.StringVar(&s.vg, "vg", "", "the volume group `NAME` of the driver lvm, made by setup if there is none (default stacker)")
	fs.StringVar(&s.thinpool, "thinpool", "", "the thin pool `NAME` in it (default ThinDataLV)")
	choiceVar(fs, &s.lvfs, "lvfs", "what is on its new volumes", "ext4", "xfs")
	fs.Var(&s.lvsize, "lvsize", "`SIZE` of the file for the driver lvm, where --size says none")
	fs.Var(&s.thinsize, "thinsize", "`SIZE` of the thin pool in it (default what fits)")
}

// placeArgs returns the flags of addPlaces that matter to who looks at drivers, with their values, as arguments for another process.
func (s *storageFlags) placeArgs() []string {
	var args []string
	for name, value := range map[string]string{
		"lofile": s.lofile, "btrfsmount": s.btrfsmount, "lvbasedir": s.lvbasedir, "vg": s.vg, "thinpool": s.thinpool, "lvfs": s.lvfs,
	} {
		if value != "" {
			args = append(args, "--"+name, value)
		}
	}
	return args
}

// resolve finds the folder of genoci's own state, where --cache-dir did not name one.
func (s *storageFlags) resolve() (err error) {
	s.cacheDir, err = cacheDir(s.cacheDir)
	return err
}

// The original's defaults.
const (
	defaultBtrfsFile  = "btrfs.img"
	defaultBtrfsMount = "btrfs"
)

// storeName is the name of a driver's folder where that is not in the cache.
const storeName = "genoci"

// btrfsDir returns the folder of the driver btrfs, and whether it is one that can be expected to work: someone named a folder for it, storage setup
// made the default one, or the cache folder is on a btrfs anyway.
func (s *storageFlags) btrfsDir() (dir string, expected bool) {
	switch {
	case s.btrfsmount != "":
		return filepath.Join(s.btrfsmount, storeName), true
	case onBtrfs(filepath.Join(defaultBtrfsMount, storeName)):
		return filepath.Join(defaultBtrfsMount, storeName), true
	}
	return filepath.Join(s.cacheDir, "btrfs"), onBtrfs(s.cacheDir)
}

func onBtrfs(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}

// inCache returns where a driver keeps its files that works anywhere.
func (s *storageFlags) inCache(name string) func() (string, bool) {
	return func() (string, bool) { return filepath.Join(s.cacheDir, name), true }
}

// expandHome puts the home folder in the place of a leading "~", as the original did in its settings.
func expandHome(path string) (string, error) {
	if path != "~" && (len(path) < 2 || path[:2] != "~/") {
		return path, nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, path[1:]), err
}
