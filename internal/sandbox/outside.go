package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// outside is where Enter has come from: its mount namespace, and the root folder there.
var outside struct {
	known     bool
	namespace int // nsfs
	root      int // O_PATH
}

// rememberOutside notes where the process is, before Enter leaves.
func rememberOutside() error {
	namespace, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/thread-self/ns/mnt", Err: err}
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(namespace)
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	outside.known, outside.namespace, outside.root = true, namespace, root
	return nil
}

// Outside calls f on a thread in the mount namespace that the program was started in, where mounts
// stay when the process ends. The working folder there is the root; f is not to start anything, and
// to use absolute paths only. The error wraps ErrUnsupported for an ordinary user, who can mount
// nothing there.
func Outside(f func() error) error {
	if !outside.known {
		if entered || os.Geteuid() != 0 {
			return fmt.Errorf("%w: only mounts of root outlive the process", ErrUnsupported)
		}
		return f()
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Setns(outside.namespace, unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("setns", err)
		}
		if err := unix.Fchdir(outside.root); err != nil {
			return os.NewSyscallError("fchdir", err)
		}
		if err := unix.Chroot("."); err != nil {
			return os.NewSyscallError("chroot", err)
		}
		return f()
	})
}
