package beneath

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DiskUsage returns how many bytes of disk are taken by what is at path and below, folders
// included, as du(1) counts: a file with several names once, nothing that is mounted there, and
// what lies deeper than some hundred folders not at all. What is not there takes none. The content
// of a file for which apart returns true is not counted; apart may be nil.
func DiskUsage(ctx context.Context, path string, apart func(parent int, name string, st *unix.Stat_t) (bool, error)) (int64, error) {
	u := usage{ctx: ctx, seen: map[inode]bool{}, apart: apart}
	parent, err := openRoot(filepath.Dir(path))
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(parent)
	if err := u.add(parent, filepath.Base(path), 0); err != nil {
		return 0, wrapPath("measure", path, err)
	}
	return u.bytes, nil
}

type inode struct{ dev, ino uint64 }

// usage adds up blocks.
type usage struct {
	ctx   context.Context
	bytes int64
	seen  map[inode]bool // files with several names
	apart func(parent int, name string, st *unix.Stat_t) (bool, error)
}

// add counts name in the folder parent.
func (u *usage) add(parent int, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return u.folder(parent, name, &st, depth)
	}
	if st.Nlink > 1 {
		id := inode{dev: uint64(st.Dev), ino: st.Ino}
		if u.seen[id] {
			return nil
		}
		u.seen[id] = true
	}
	if u.apart != nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > 0 {
		if apart, err := u.apart(parent, name, &st); apart || err != nil {
			return err
		}
	}
	u.bytes += st.Blocks * 512
	return nil
}

// maxUsageDepth is how deep DiskUsage looks: each level costs an open folder.
const maxUsageDepth = 400

func (u *usage) folder(parent int, name string, st *unix.Stat_t, depth int) error {
	if err := u.ctx.Err(); err != nil || depth == maxUsageDepth {
		return err
	}
	fd, err := Open(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, OnMount)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	u.bytes += st.Blocks * 512
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := u.add(int(dir.Fd()), name, depth+1); err != nil {
			return err
		}
	}
	return nil
}
