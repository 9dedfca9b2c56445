package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inside is the variable that tells the program that it runs in namespaces of its own.
const inside = "GENOCI_BENCH_INSIDE"

// enter starts the program again in a mount and a process namespace of its own, and returns its
// exit code. Whatever happens to the program in there, its processes and mounts end with it:
// nothing can be left behind.
func enter() (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start in namespaces: %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	removeCgroups()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// removeCgroups removes the control groups that BuildKit leaves, unless a process is in them.
func removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup/buildkit/*", "/sys/fs/cgroup/buildkit", "/sys/fs/cgroup/*/buildkit/*", "/sys/fs/cgroup/*/buildkit"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			_ = unix.Rmdir(name)
		}
	}
}

// privateMounts makes mounts stay in the namespace, and shows it its own processes. What tools keep
// for the whole machine, however they are told to work in a place, is kept in memory.
func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, name := range []string{"/run", "/var/lib/containers"} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", name, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", name, err)
		}
	}
	return os.Mkdir("/run/lock", 0o755)
}

// mountPoint is where the disk is mounted, in the program's own namespace only. It is short, since
// paths of sockets are limited.
const mountPoint = "/mnt"

// mountDisk makes a file system of size bytes and mounts it: ext4 with a journal and everything
// laid out beforehand, on a loop device with direct I/O, so that no cache but that of the file
// system itself plays a part. The file has no name, and the device goes with its last user.
func mountDisk(ctx context.Context, folder string, size int64) error {
	file, err := os.OpenFile(folder, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return fmt.Errorf("disk in %s: %w", folder, err)
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		return err
	}
	loop, err := attach(file)
	if err != nil {
		return err
	}
	defer loop.Close()
	// 3 million inodes: the growth of S3 goes up to a million files.
	mkfs := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-N", "3000000", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop.Name())
	if out, err := mkfs.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	if err := unix.Mount(loop.Name(), mountPoint, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", loop.Name(), err)
	}
	return nil
}

// attach returns a loop device whose content is file, and which detaches itself when nobody has it
// open or mounted any more.
func attach(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
		switch err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); {
		case err == nil:
			return loop, nil
		case !errors.Is(err, unix.EBUSY): // EBUSY: somebody else was faster
			loop.Close()
			return nil, fmt.Errorf("attach %s: %w", loop.Name(), err)
		}
		loop.Close()
	}
}

// settle writes out what earlier work has left in the disk's caches, so that it does not weigh on
// what is timed next.
func settle(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// trim returns unused blocks to the file system that holds the disk's file. If that is not possible,
// the file keeps its size.
func trim(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	const fitrim = 0xc0185879 // FITRIM of linux/fs.h: _IOWR('X', 121, struct fstrim_range)
	all := struct{ start, length, least uint64 }{length: math.MaxUint64}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, f.Fd(), fitrim, uintptr(unsafe.Pointer(&all)))
}

// removeAll removes a folder and whatever a tool has mounted in it.
func removeAll(dir string) error {
	// A tool may mount again and again, and over its own mounts.
	for {
		mounts, err := mountsBelow(dir)
		if err != nil {
			return err
		}
		if len(mounts) == 0 {
			return os.RemoveAll(dir)
		}
		for _, name := range mounts {
			if err := unix.Unmount(name, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", name, err)
			}
		}
	}
}

// mountsBelow returns the mount points below a folder, the newest first.
func mountsBelow(dir string) ([]string, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var mounts []string
	for line := range strings.Lines(string(info)) {
		// proc_pid_mountinfo(5): the fifth field is the mount point. Those of the places need no
		// unquoting.
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			mounts = append(mounts, fields[4])
		}
	}
	slices.Reverse(mounts)
	return mounts, nil
}

// warm reads a file, or all files of a folder, so that they are in the page cache.
func warm(name string) error {
	buf := make([]byte, 1<<20)
	return filepath.WalkDir(name, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		for {
			if n, err := f.Read(buf); n == 0 || err != nil {
				return nil
			}
		}
	})
}
