package storage

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/btrfs"
)

// The names of the original.
const (
	defaultBtrfsFile  = "btrfs.img"
	defaultBtrfsMount = "btrfs"
)

// btrfsFolder returns the folder of the driver btrfs. It can be expected to work where somebody
// named a folder for it, where Setup made the default one, and where the cache folder is on a btrfs
// anyway.
func (c Config) btrfsFolder() folder {
	switch {
	case c.BtrfsMount != "":
		return below(c.BtrfsMount)
	case onBtrfs(filepath.Join(defaultBtrfsMount, dirName)):
		return below(defaultBtrfsMount)
	}
	return folder{dir: filepath.Join(c.CacheDir, "btrfs"), expected: onBtrfs(c.CacheDir)}
}

func onBtrfs(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}

// loopback is the backing of the driver btrfs: a btrfs in a file.
type loopback struct{ loopback btrfs.Loopback }

var _ Backing = (*loopback)(nil)

func (c Config) btrfsBacking() (Backing, error) {
	file, err := filepath.Abs(cmp.Or(c.File, defaultBtrfsFile))
	if err != nil {
		return nil, err
	}
	mount, err := filepath.Abs(cmp.Or(c.BtrfsMount, defaultBtrfsMount))
	if err != nil {
		return nil, err
	}
	return &loopback{btrfs.Loopback{File: file, Mount: mount, Size: c.Size}}, nil
}

// Setup implements Backing.
func (l *loopback) Setup(ctx context.Context) ([]string, error) {
	done, err := l.loopback.Setup(ctx)
	if errors.Is(err, btrfs.ErrForeign) {
		err = &Error{Err: err, Remedy: OtherFileOrFolder}
	}
	return done, gone(err)
}

// gone adds what the user can do where somebody has removed the file.
func gone(err error) error {
	if errors.Is(err, btrfs.ErrGone) {
		return &Error{Err: err, Remedy: GiveUp}
	}
	return err
}

// State implements Backing.
func (l *loopback) State() (State, error) {
	s, err := l.loopback.State()
	return State{
		File: l.loopback.File, Mount: l.loopback.Mount, Made: s.Made, Foreign: s.Foreign, Given: s.Given, Device: s.Device,
		Mounted: s.Mounted, Size: s.Size, Used: s.Used, Free: s.Free, Taken: s.Taken, HostFree: s.HostFree,
		ReadOnly: s.ReadOnly, Removed: s.Gone,
	}, err
}

// Detach implements Backing.
func (l *loopback) Detach() error { return gone(l.loopback.Detach()) }

// Destroy implements Backing.
func (l *loopback) Destroy() error { return l.loopback.Destroy() }

// Open implements Backing.
func (l *loopback) Open() (snapshot.Driver, error) { return openBtrfs(l.loopback.Dir()) }

// Flags implements Backing.
func (l *loopback) Flags() []string {
	return []string{"--driver", "btrfs", "--lofile", l.loopback.File, "--btrfsmount", l.loopback.Mount}
}
