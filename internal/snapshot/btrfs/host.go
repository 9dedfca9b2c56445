package btrfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot/loop"
)

// host is the file that holds a btrfs in a loop device. It is sparse as a rule, so that a full file
// system below is met by what is written to a btrfs that has space. The kernel then writes nothing
// more to the btrfs.
type host struct{ file string }

// reserve is how much has to be free below before a tree is made: for what the btrfs itself writes.
const reserve = 32 << 20

// findHost returns the host of the btrfs that holds the folder dir; its file is "" where that is in
// no loop device.
func findHost(dir string) (host, error) {
	f, err := openDir(dir)
	if err != nil {
		return host{}, err
	}
	defer f.Close()
	device, err := firstDevice(int(f.Fd()))
	if err != nil {
		return host{}, nil // with several devices, the first may be gone
	}
	return host{loop.File(device)}, nil
}

// left returns how much can be written to the file: what is free below it, or if that is less, what
// it does not have yet.
func (h host) left() (left, missing int64, err error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := unix.Stat(h.file, &st); err != nil {
		return 0, 0, wrapPath("stat", h.file, err)
	}
	if err := unix.Statfs(h.file, &fs); err != nil {
		return 0, 0, wrapPath("statfs", h.file, err)
	}
	return int64(fs.Bavail) * fs.Bsize, max(0, st.Size-st.Blocks*512), nil
}

// ErrStopped is wrapped where the kernel writes nothing to the btrfs any more, after an error. What
// was committed is there again when it is mounted anew.
var ErrStopped = errors.New("the kernel has stopped writing to this btrfs")

// full returns an error where there is no space for what has to be written to the file.
func (h host) full() error {
	if h.file == "" {
		return nil
	}
	left, missing, err := h.left()
	if err != nil || left >= min(reserve, missing) { // an error: it is in another mount namespace
		return nil
	}
	return fmt.Errorf("%w on the filesystem of %s (%d MB)", unix.ENOSPC, h.file, left/1000_000)
}

// explain adds to an error of the driver what is known of its cause: dir is on the btrfs.
func (h host) explain(dir string, err error) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EIO) {
		return err
	}
	if full := h.full(); full != nil {
		err = fmt.Errorf("%w: %w", err, full)
	}
	if isWriteProtected(dir) {
		err = fmt.Errorf("%w; %w", err, ErrStopped)
	}
	return err
}

// explainAt is explain where the host is not known yet.
func explainAt(dir string, err error) error {
	h, hostErr := findHost(dir)
	if hostErr != nil {
		return err
	}
	return h.explain(dir, err)
}
