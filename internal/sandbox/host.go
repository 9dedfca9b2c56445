package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HostCmd is a command that runs on the host: it sees the host's files, devices, users and network.
type HostCmd struct {
	Args   []string  // the program, looked up by PATH where it has no slash, and its arguments
	Env    []string  // K=V, all of it
	Dir    string    // working folder
	Output io.Writer // of its standard output and its standard error; standard input is /dev/null
}

// hostGrace is the time that a HostCmd has, after SIGTERM, to end by itself when its context has
// ended.
const hostGrace = 5 * time.Second

// Run runs the command and waits for it, in a new pid namespace: what it started and left running
// is killed when it ends, daemons too, and all of it when this process dies. Nothing else on the
// host is signaled. The command's /proc shows the processes of that namespace, where the kernel
// allows a new one.
//
// It is also in a mount namespace of its own. What it mounts is seen by this process too, and what
// it unmounts goes there too, if the mounts of this process are shared, as ShowTree makes them.
//
// When ctx ends, the command's process group gets SIGTERM, and all is killed at the latest five
// seconds later; the error is then that of ctx. The error is an *exec.ExitError when the command
// ran and failed. It needs the privileges that Enter gives.
func (c *HostCmd) Run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	probeRuntime()
	return unsupported(onThread(func() error {
		return inNamespaces(unix.CLONE_NEWNS|unix.CLONE_NEWPID, func() error { return c.runInside(ctx) })
	}))
}

// runInside runs the command in the namespaces of the thread.
func (c *HostCmd) runInside(ctx context.Context) error {
	init, err := startInit()
	if err != nil {
		return err
	}
	defer init.end()
	if err := mountOwnProc(init.proc); err != nil {
		return mountError(procDir, err)
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.Env, c.Dir, c.Output, c.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = hostGrace // a process elsewhere on the host may have been given the output
	if err := startUnignoring(cmd); err != nil {
		return err
	}
	await(ctx, cmd.Process.Pid, init, unix.SIGTERM, hostGrace)
	init.kill()
	switch err := cmd.Wait(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, exec.ErrWaitDelay):
		return nil
	default:
		return err
	}
}

// startUnignoring starts a command with the default dispositions of signals. What is ignored here
// stays ignored over execve(2), and what is handled does not. Where this process was started with
// signals ignored, the Go runtime leaves SIGHUP and SIGINT so (nohup(1); package os/signal), and
// the two that C libraries keep for threads.
func startUnignoring(cmd *exec.Cmd) error {
	const thread1, thread2 = 32, 33 // of no use to Go: they get their default for good
	for _, s := range []uintptr{thread1, thread2} {
		var byDefault [4]uint64 // the kernel's struct sigaction
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0); errno != 0 {
			return os.NewSyscallError("rt_sigaction", errno)
		}
	}
	handled := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(handled, s)
		}
	}
	defer signal.Stop(handled)
	return cmd.Start()
}

const procDir = "/proc"

// mountOwnProc mounts, in the mount namespace of this thread only, the proc of a pid namespace.
// Where the kernel refuses a new proc in a user namespace, since the host's own is partly covered,
// that one stays.
func mountOwnProc(proc int) error {
	if err := unix.Mount("", procDir, "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	tree, err := makeFS(proc, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, option{"source", "proc"})
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return attach(tree, unix.AT_FDCWD, procDir)
}

// TreeView shows a tree to commands of the host.
type TreeView struct {
	dir, at string
	below   *os.File // the tree without what is mounted in it by the commands; nil before there is a mount at dir
	shown   bool     // there is a mount at at
}

// The folders of a TreeView.
const (
	viewRoot   = "root"
	viewChroot = "chroot"
)

// ShowTree shows the tree in the folder dir at a second place, the empty folder at, which becomes a
// mount. Both are absolute paths. What a HostCmd mounts in the tree is seen in dir as well, and is
// gone after Close.
//
// All mounts of this process become shared with the mount namespaces that it makes; what is mounted
// outside is received as before.
//
// The error wraps ErrUnsupported where the kernel is too old (Linux 5.14 is needed).
func ShowTree(dir, at string) (*TreeView, error) {
	v := &TreeView{dir: dir, at: at}
	if err := v.show(); err != nil {
		return nil, errors.Join(&os.PathError{Op: "show", Path: dir, Err: err}, v.Close())
	}
	return v, nil
}

// Root is the path of a view in which no symbolic link is followed (MOUNT_ATTR_NOSYMFOLLOW,
// mount_setattr(2)), so that no link of the tree leads to a file of the host.
func (v *TreeView) Root() string { return v.at + "/" + viewRoot }

// Chroot is the path of a view for chroot(2): a process whose root it is follows the tree's links,
// inside the tree. Others follow them to the host.
func (v *TreeView) Chroot() string { return v.at + "/" + viewChroot }

// Extra is the path of a folder for what else the commands are to find there. It goes with the
// view.
func (v *TreeView) Extra() string { return v.at }

// Below is a path of the tree, for this process, without what HostCmds have mounted in it.
func (v *TreeView) Below() string { return procFD(v.below) }

func (v *TreeView) show() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	below, err := unix.Open(v.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// What is mounted in the tree is mounted in this mount, and goes with it. It shares mounts with
	// the views alone.
	if err := cover(unix.AT_FDCWD, v.dir, unix.AT_FDCWD, v.dir, 0); err != nil {
		unix.Close(below)
		return err
	}
	v.below = os.NewFile(uintptr(below), v.dir)
	around, err := newFS("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, option{"mode", "755"}, option{"size", "1m"})
	if err != nil {
		return err
	}
	defer unix.Close(around)
	if err := attach(around, unix.AT_FDCWD, v.at); err != nil {
		return err
	}
	v.shown = true
	if err := v.view(around, viewChroot, 0); err != nil {
		return err
	}
	err = v.view(around, viewRoot, unix.MOUNT_ATTR_NOSYMFOLLOW)
	if errors.Is(err, unix.EINVAL) {
		return lacks{"the kernel cannot mount with nosymfollow", "hooks need Linux 5.14 or later"}
	}
	return err
}

// view mounts the tree on a new folder.
func (v *TreeView) view(around int, name string, attrs uint64) error {
	if err := unix.Mkdirat(around, name, 0o755); err != nil {
		return err
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, v.dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: attrs}); err != nil {
		return err
	}
	return attach(tree, around, name)
}

// Close ends the view, and all that was mounted in the tree meanwhile.
func (v *TreeView) Close() error {
	var errs []error
	detach := func(path string) {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			errs = append(errs, &os.PathError{Op: "unmount", Path: path, Err: err})
		}
	}
	if v.shown {
		detach(v.at)
	}
	if v.below != nil {
		detach(v.dir)
		errs = append(errs, v.below.Close())
	}
	v.shown, v.below = false, nil
	return errors.Join(errs...)
}
