package rootfs

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/durable"
)

// unfinished is a folder beside a destination, in which a copy is made that nobody is to see before
// it is whole. It holds a file with the folder's own name, which is locked until the copy is done:
// so a later get knows what one left that was killed. No image can have a file of that name, and
// nobody else can give a folder of the user's one that belongs to the user.
type unfinished struct {
	dir  string
	mark *os.File
}

// unfinishedPrefix begins the names of such folders.
const unfinishedPrefix = ".genoci-get-"

// newUnfinished makes one in the folder parent, and removes those there that killed processes left.
func newUnfinished(parent string) (*unfinished, error) {
	removeUnfinished(parent)
	for {
		u := &unfinished{dir: filepath.Join(parent, unfinishedPrefix+rand.Text())}
		if err := os.Mkdir(u.dir, 0o700); err != nil {
			return nil, err
		}
		switch err := u.lock(); {
		case err == nil:
			return u, nil
		case errors.Is(err, durable.ErrLocked): // somebody removes it
			u.mark.Close()
		default:
			return nil, errors.Join(err, u.remove())
		}
	}
}

// lock makes the mark. The error wraps durable.ErrLocked where another process came between, which
// took the folder for a dead one.
func (u *unfinished) lock() (err error) {
	if u.mark, err = os.OpenFile(u.markName(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return err
	}
	if err = durable.TryLock(u.mark, durable.Exclusive); err == nil && !durable.Linked(u.mark) {
		err = &os.PathError{Op: "lock", Path: u.mark.Name(), Err: durable.ErrLocked}
	}
	return err
}

func (u *unfinished) markName() string { return filepath.Join(u.dir, filepath.Base(u.dir)) }

// unmark removes the mark, so that the folder itself can become the copy.
func (u *unfinished) unmark() error { return os.Remove(u.markName()) }

// remove removes what is left of the folder.
func (u *unfinished) remove() error {
	err := beneath.RemovePath(u.dir)
	if u.mark != nil {
		u.mark.Close()
	}
	return err
}

// removeUnfinished removes what processes of the same user left in the folder parent that were
// killed. What cannot be removed stays for another time.
func removeUnfinished(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinishedPrefix) || !e.IsDir() {
			continue
		}
		u := unfinished{dir: filepath.Join(parent, e.Name())}
		if u.mark, err = os.OpenFile(u.markName(), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(int(u.mark.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && int(st.Uid) == os.Geteuid() &&
			durable.TryLock(u.mark, durable.Exclusive) == nil {
			_ = beneath.RemovePath(u.dir)
		}
		u.mark.Close()
	}
}
