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
	outlive    bool // "auto" is to take a driver whose trees can be seen when the process has ended
}

// add adds the flags that choose a driver.
func (s *storageFlags) add(fs *pflag.FlagSet) {
	driverVar(fs, &s.driver)
	s.addHidden(fs)
}

// addHidden adds the flags of the drivers' places, which the storage commands show. Elsewhere they are there for the settings.
func (s *storageFlags) addHidden(fs *pflag.FlagSet) {
	s.addPlaces(fs)
	for _, name := range []string{"lofile", "btrfsmount"} {
		fs.Lookup(name).Hidden = true
	}
}

func (s *storageFlags) addPlaces(fs *pflag.FlagSet) {
	fs.StringVar(&s.lofile, "lofile", "", "`FILE` that holds the storage (default ./btrfs.img)")
	fs.StringVar(&s.btrfsmount, "btrfsmount", "", "`DIR` where the btrfs is mounted, or a folder on one that is there (default ./btrfs)")
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
