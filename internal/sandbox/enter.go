package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Enter returns nil when the process is in a mount namespace of genoci's own, whose mounts no other
// process sees. It returns an error only where no such namespace can be had; the error says what
// the machine lacks and how to mend it, and wraps ErrUnsupported.
//
// For root, also in a container, the process moves there. Where that cannot be, and for others,
// Enter does not return: it starts the program again, with the same arguments, environment,
// standard files and terminal.
//
// For others than root that is a child of this process, in a user namespace where it is root and
// has the caller's whole ranges of subordinate ids (subuid(5)). Enter then passes signals on to it,
// waits, and exits as it did: with its exit status, or killed by the same signal. When this process
// is killed, so is the child. It keeps the caller's supplementary groups, so that it can reach what
// the caller can.
//
// The program may begin anew: call Enter before anything is read from standard input or a pipe, and
// before anything is written. It may have to leave the working folder for a moment: nothing else
// may need that meanwhile.
func Enter() error {
	switch {
	case entered:
		return nil
	case os.Geteuid() == 0:
		return enterAsRoot()
	default:
		return enterAsUser()
	}
}

// enterAsRoot moves the process into a new mount namespace. Where it cannot take all of its threads
// there, it executes the program in its place.
func enterAsRoot() error {
	dir, dirErr := os.Getwd()
	if err := rememberOutside(); err != nil {
		return err
	}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return noMountNamespace(err)
		}
		if err := receiveMounts(); err != nil {
			return err
		}
		if err := cmp.Or(dirErr, moveThreads(dir)); err != nil {
			return execAgain()
		}
		return nil
	})
	if err != nil {
		return err
	}
	entered = true
	return os.Chdir(dir)
}

// standpoint returns where the root and the working folder of this thread are.
func standpoint() (at [2]spot, err error) {
	for i, name := range []string{"/", "."} {
		var st unix.Statx_t
		const mask = unix.STATX_INO | unix.STATX_MNT_ID
		if err := unix.Statx(unix.AT_FDCWD, name, 0, mask, &st); err != nil {
			return at, &os.PathError{Op: "statx", Path: name, Err: err}
		}
		at[i] = spot{st.Mnt_id, st.Ino}
	}
	return at, nil
}

// spot is a folder in a mount.
type spot struct{ mount, inode uint64 }

// moveThreads brings all threads to the mount namespace that this one has made; their working
// folder is then the root. It fails, with no other thread moved, where the process has another root
// than the namespace, as in a chroot, or dir is no path to its working folder.
func moveThreads(dir string) error {
	before, err := standpoint()
	if err != nil {
		return err
	}
	// A thread that shares its root and working folder with others may not join a mount namespace,
	// but it may join two kinds of namespaces of a process at once (setns(2)): a process is needed.
	var c calls
	c.wait(callsFD, 1)
	pidfd := -1
	pid, conn, err := c.startBare("genoci-enter", &syscall.SysProcAttr{PidFD: &pidfd})
	if err != nil {
		return err
	}
	defer reap(pid)
	defer conn.Close() // which ends it
	defer unix.Close(pidfd)
	const kinds = unix.CLONE_NEWNS | unix.CLONE_NEWUTS
	var after [2]spot
	err = onThread(func() error { // to see where it would lead
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Setns(pidfd, kinds); err != nil {
			return os.NewSyscallError("setns", err)
		}
		if err := unix.Chdir(dir); err != nil {
			return &os.PathError{Op: "chdir", Path: dir, Err: err}
		}
		after, err = standpoint()
		return err
	})
	if err != nil {
		return err
	}
	if before != after {
		return errors.New("the root or working folder is another one")
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_SETNS, uintptr(pidfd), kinds, 0); errno != 0 {
		return os.NewSyscallError("setns", errno)
	}
	return nil
}

// execAgain executes the program in place of this process, in the mount namespace of this thread.
func execAgain() error {
	ns, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/thread-self/ns/mnt", Err: err}
	}
	for _, fd := range []int{outside.namespace, outside.root} { // the copy uses them too
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	err = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), roleVariable(roleRoot, ns, outside.namespace, outside.root)))
	return &os.PathError{Op: "exec", Path: "/proc/self/exe", Err: err}
}

func noMountNamespace(err error) error {
	return lacks{
		what: "no mount namespaces: " + err.Error(),
		fix:  "give the container CAP_SYS_ADMIN (docker run --privileged)",
	}
}

// receiveMounts lets what the host mounts and unmounts be seen in the process's mount namespace,
// but nothing the other way.
func receiveMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return &os.PathError{Op: "make slave", Path: "/", Err: err}
	}
	return nil
}

// enterAsUser runs the program in a new user and mount namespace, and exits as it does.
func enterAsUser() error {
	// The parent-death signal of the child comes when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 16)
	for _, s := range passedOn {
		if !signal.Ignored(s) { // as by nohup(1): then it is ignored in the inner process too
			signal.Notify(signals, s)
		}
	}
	inner, err := startAsUser(roleUser)
	if err != nil {
		signal.Stop(signals)
		return err
	}
	go func() {
		for s := range signals {
			if s := s.(syscall.Signal); !fromTerminal(s) {
				_ = inner.Process.Signal(s) // it fails when the process has ended, which is waited for
			}
		}
	}()
	if err := inner.Wait(); inner.ProcessState == nil {
		return fmt.Errorf("wait: %w", err)
	}
	exitLike(inner.ProcessState.Sys().(syscall.WaitStatus))
	return nil
}

// passedOn are the signals that the outer process passes on to the inner one.
var passedOn = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2}

// fromTerminal reports whether the signal is one that a terminal sends to its whole foreground
// process group, of which this process is one: the inner process then has it already.
func fromTerminal(s syscall.Signal) bool {
	if s != unix.SIGINT && s != unix.SIGQUIT {
		return false
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitLike ends this process as another one ended.
func exitLike(status syscall.WaitStatus) {
	if !status.Signaled() {
		os.Exit(status.ExitStatus())
	}
	switch s := status.Signal(); s {
	case unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGKILL:
		signal.Reset(s)
		if unix.Kill(unix.Getpid(), s) == nil {
			select {} // the signal comes
		}
	}
	// Other signals would have the Go runtime print its stacks.
	os.Exit(128 + int(status.Signal()))
}

// startAsUser starts the program in a new user and mount namespace, in that role, and returns when
// it is root there.
func startAsUser(role string) (*exec.Cmd, error) {
	ids, err := callerIDs()
	if err != nil {
		return nil, err
	}
	own, other, err := socketPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	// The child's end is inherited under its own number: whatever else the caller has open stays as
	// it is.
	if _, err := unix.FcntlInt(other.Fd(), unix.F_SETFD, 0); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	cmd := &exec.Cmd{
		Path:   "/proc/self/exe",
		Args:   os.Args,
		Env:    append(os.Environ(), roleVariable(role, int(other.Fd()))),
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			Pdeathsig:  unix.SIGKILL,
			// Its user id means nothing yet in its namespace, so that it would lose all
			// capabilities by execve(2) but for these.
			AmbientCaps: allCapabilities(),
		},
	}
	err = cmd.Start()
	other.Close()
	if err != nil {
		return nil, diagnoseUserNamespace(err)
	}
	if err := mapIDsFromOutside(cmd.Process.Pid, ids, own); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	return cmd, nil
}

// allCapabilities are those that the kernel knows.
func allCapabilities() []uintptr {
	_, known := boundingSet()
	caps := make([]uintptr, known)
	for i := range caps {
		caps[i] = uintptr(i)
	}
	return caps
}

// mapIDsFromOutside gives the process its ids, tells it so, and reads its answer.
func mapIDsFromOutside(pid int, ids identityMaps, conn *os.File) error {
	if err := ids.write(pid); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "%d\n", os.Getpid()); err != nil {
		return fmt.Errorf("enter a user namespace: %w", err)
	}
	if err := unix.Shutdown(int(conn.Fd()), unix.SHUT_WR); err != nil {
		return os.NewSyscallError("shutdown", err)
	}
	answer, err := io.ReadAll(conn)
	switch {
	case err != nil:
		return fmt.Errorf("enter a user namespace: %w", err)
	case len(answer) == 0:
		return errors.New("enter a user namespace: the process in it died")
	case string(answer) != becameRoot:
		return diagnoseUserNamespace(errors.New(string(answer)))
	}
	return nil
}

// becameRoot is the answer of a process that is root in its user namespace; any other is an error.
const becameRoot = "ok"

// awaitIDs makes the process root in the user namespace that it was started in, once the process at
// the other end of the socket has given it ids. Where that fails, it says why, and ends.
func awaitIDs(fd int) {
	conn := os.NewFile(uintptr(fd), "socket")
	defer conn.Close()
	var parent int
	if _, err := fmt.Fscan(conn, &parent); err != nil {
		os.Exit(1) // the outer process gave up, and says why
	}
	answer := becameRoot
	err := becomeRoot(parent)
	if err != nil {
		answer = err.Error()
	}
	if _, writeErr := io.WriteString(conn, answer); err != nil || writeErr != nil {
		os.Exit(1)
	}
}

// becomeRoot takes on user 0 of the user namespace, and what comes with it.
func becomeRoot(parent int) error {
	if err := syscall.Setresgid(0, 0, 0); err != nil {
		return os.NewSyscallError("setresgid", err)
	}
	if err := syscall.Setresuid(0, 0, 0); err != nil {
		return os.NewSyscallError("setresuid", err)
	}
	// The change of user made /proc/self belong to another, and took away the parent-death signal.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_PDEATHSIG", err)
	}
	if os.Getppid() != parent {
		return errors.New("the outer process died")
	}
	return receiveMounts()
}

// lacks is an error about something that the machine lacks, with the way to mend it.
type lacks struct{ what, fix string }

func (e lacks) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("%s; %s", e.what, e.fix), "; ")
}

func (e lacks) Unwrap() error { return ErrUnsupported }
