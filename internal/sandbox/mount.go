package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
)

// All mounts are made by file descriptor: a tree that is mounted nowhere yet (fsmount(2),
// open_tree(2)) is moved onto an open mount point (move_mount(2)). So no path of an image is ever
// resolved by mount(2), and no option string has to be escaped. Only the files of a proc, of which
// there are many, are covered by name: coverAll.

// option is an option of a file system, without a value where it is a flag.
type option struct{ key, value string }

// newFS makes a mount of a new file system of that type, mounted nowhere yet. attrs are MOUNT_ATTR_
// flags.
func newFS(fstype string, attrs int, options ...option) (int, error) {
	fsfd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fsfd)
	return makeFS(fsfd, attrs, append(options, option{"source", fstype})...)
}

// makeFS is newFS for a context of fsopen(2).
func makeFS(fsfd, attrs int, options ...option) (int, error) {
	for _, o := range options {
		var err error
		if o.value == "" {
			err = unix.FsconfigSetFlag(fsfd, o.key)
		} else {
			err = unix.FsconfigSetString(fsfd, o.key, o.value)
		}
		if err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return -1, err
	}
	return unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attrs)
}

// clone makes a copy of the mounts at and below name in dir, mounted nowhere yet, that differs by
// attrs (MOUNT_ATTR_ flags). What is mounted in the one from now on is not mounted in the other.
func clone(dir int, name string, attrs uint64) (int, error) {
	fd, err := unix.OpenTree(dir, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, err
	}
	attr := unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// attach mounts the tree onto name in dir, without following a symbolic link.
func attach(tree, dir int, name string) error {
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH
	if name == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	return unix.MoveMount(tree, "", dir, name, flags)
}

// stage is where the mount namespace of a command is set up, before its root becomes the root of
// the process.
type stage struct {
	dir     string // the root filesystem's path on the host
	root    root   // the copy of it that is mounted over dir
	private int    // a tmpfs mounted below root, so that nothing but descriptors leads to it
	nodes   int    // the new /dev; 0 before there is one
	proc    int    // context of fsopen(2) of the command's proc; it is the caller's

	sharedProc bool // the kernel allows no proc but the caller's
}

// close closes the descriptors. The mounts stay.
func (s *stage) close() {
	s.root.close()
	unix.Close(s.private)
	if s.nodes > 0 {
		unix.Close(s.nodes)
	}
}

// newStage makes the whole mount namespace private, and mounts over dir first a tmpfs and then a
// copy of dir.
func newStage(dir string, proc int) (*stage, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, &os.PathError{Op: "make private", Path: "/", Err: err}
	}
	// No device node that a command makes shall open: nothing but the nodes of /dev is on a mount
	// with devices.
	tree, err := clone(unix.AT_FDCWD, dir, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, mountError(dir, err)
	}
	// A folder of a TreeView that a HostCmd has bound in the tree is one of the tree for the
	// command: its links are followed.
	_ = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_NOSYMFOLLOW})
	private, err := newFS("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC,
		option{"mode", "755"}, option{"size", "16m"})
	if err != nil {
		unix.Close(tree)
		return nil, mountError(dir, err)
	}
	s := &stage{dir: dir, root: root{tree}, private: private, proc: proc}
	if err := errors.Join(attach(private, unix.AT_FDCWD, dir), attach(tree, unix.AT_FDCWD, dir)); err != nil {
		s.close()
		return nil, mountError(dir, err)
	}
	return s, nil
}

func mountError(name string, err error) error {
	return &os.PathError{Op: "mount", Path: name, Err: err}
}

// mount mounts the tree on the mount point name of the root filesystem.
func (s *stage) mount(tree int, name string, lead uint64) error {
	point, err := s.root.open(name, unix.O_PATH, lead)
	if err != nil {
		return err
	}
	defer unix.Close(point)
	// The kernel has only EINVAL to say about this.
	switch treeDir, pointDir := isDir(tree), isDir(point); {
	case treeDir && !pointDir:
		return unix.ENOTDIR
	case !treeDir && pointDir:
		return unix.EISDIR
	}
	return attach(tree, point, "")
}

func isDir(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// setUp mounts all that a command sees beside its root filesystem. files are those of /etc that are
// its own.
func (s *stage) setUp(hostname string, files []string, binds []Bind) error {
	// What an image links to below /proc or /dev from these files is then covered, not written
	// over.
	for _, f := range etcFiles(hostname) {
		if !slices.Contains(files, f.name) {
			continue
		}
		if err := s.mountText(f.name, f.text); err != nil {
			return mountError(f.name, err)
		}
	}
	if err := s.mountDev(); err != nil {
		return err
	}
	const inert = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	newProc := func(attrs int) (int, error) { return makeFS(s.proc, attrs, option{"source", "proc"}) }
	var err error
	if s.sharedProc, err = s.mountKernel("/proc", inert, newProc, maskedProc, readonlyProc); err != nil {
		return err
	}
	newSys := func(attrs int) (int, error) { return newFS("sysfs", attrs) }
	if _, err := s.mountKernel("/sys", inert|unix.MOUNT_ATTR_RDONLY, newSys, maskedSys, nil); err != nil {
		return err
	}
	for _, b := range binds {
		if err := s.bind(b); err != nil {
			return mountError(b.Dest, err)
		}
	}
	return nil
}

// mountText mounts a file with that text. Writing to it changes neither the host nor the root
// filesystem.
func (s *stage) mountText(name, text string) error {
	base := path.Base(name)
	fd, err := unix.Openat(s.private, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	tree, err := clone(s.private, base, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return s.mount(tree, name, beneath.InRoot)
}

// The paths below /proc and /sys that no command may see, or may write, are those of moby
// (daemon/pkg/oci, DefaultLinuxSpec).
var (
	maskedProc = []string{
		"acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats",
	}
	readonlyProc = []string{"bus", "fs", "irq", "sys", "sysrq-trigger"} // for root, it is all but the processes: see guarded
	maskedSys    = []string{"devices/virtual/powercap", "firmware"}
)

// mountKernel mounts a new proc or a new, read-only sysfs, made by newTree. The kernel refuses that
// in a user namespace where the host's own is partly covered (proc), or where the network namespace
// is another's (sysfs); the host's is bound then, and shared is true.
func (s *stage) mountKernel(dir string, attrs int, newTree func(attrs int) (int, error), masked, readonly []string) (shared bool, err error) {
	tree, err := newTree(attrs)
	if shared = errors.Is(err, unix.EPERM); shared {
		tree, err = clone(unix.AT_FDCWD, dir, uint64(attrs))
	}
	if err != nil {
		return shared, mountError(dir, err)
	}
	defer unix.Close(tree)
	if err := s.mount(tree, dir, beneath.InRootNoLinks); err != nil {
		return shared, mountError(dir, err)
	}
	locked := tree
	if readonly != nil {
		if locked, err = s.lockedCopy(tree); err != nil {
			return shared, mountError(dir, err)
		}
		defer unix.Close(locked)
	}
	for _, name := range masked {
		if err := s.mask(tree, name); err != nil {
			return shared, &os.PathError{Op: "mask", Path: path.Join(dir, name), Err: err}
		}
	}
	if readonly != nil && !Rootless() {
		if readonly, err = guarded(tree, masked); err != nil {
			return shared, mountError(dir, err)
		}
	}
	if err := coverAll(locked, tree, readonly); err != nil {
		return shared, &os.PathError{Op: "make read-only", Path: dir, Err: err}
	}
	return shared, nil
}

// coverAll mounts copies of what is called names in the folder from over what is called so in the
// folder to, if it exists. There are some forty of them for each command, so it takes one system
// call for each: mount(2), with the folder to as the root of this thread, and from as its working
// folder. The names are the kernel's.
func coverAll(from, to int, names []string) (err error) {
	if len(names) == 0 {
		return nil
	}
	const folder = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	root, err := unix.Open("/", folder, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	here, err := unix.Open(".", folder, 0)
	if err != nil {
		return err
	}
	defer unix.Close(here)
	if err := enterRoot(to, from); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, enterRoot(root, here)) }()
	for _, name := range names {
		if err := unix.Mount(name, "/"+name, "", unix.MS_BIND|unix.MS_REC, ""); err != nil && err != unix.ENOENT {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// enterRoot makes the folder root the root of this thread, and dir its working folder.
func enterRoot(root, dir int) error {
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Fchdir(dir)
}

// lockedCopy makes a read-only copy of a mounted tree, of which copies of its files are read-only.
// It is mounted, where nothing but its descriptor leads to: the kernel makes copies of nothing
// else.
func (s *stage) lockedCopy(tree int) (int, error) {
	locked, err := clone(tree, "", unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, err
	}
	const name = "locked"
	if err = unix.Mkdirat(s.private, name, 0o700); err == nil {
		err = attach(locked, s.private, name)
	}
	if err != nil {
		unix.Close(locked)
		return -1, err
	}
	return locked, nil
}

// What is said where the kernel allows no new proc, and what mends that.
const (
	sharedProcText = "this container hides parts of its /proc, so that the kernel allows no other: commands see the container's processes with their arguments," +
		" but neither their files, memory and environment nor those of other commands"
	unmaskProc = "start the container with an unmasked /proc (docker run --security-opt systempaths=unconfined, podman run --security-opt unmask=ALL, procMount: Unmasked)"
)

// guarded returns what there is at the top of a proc, but for processes, links and what is masked.
// These files belong to root of the first user namespace, and what is done to their mode and owner
// in one proc is done in all (fs/proc/generic.c of the kernel).
func guarded(tree int, masked []string) ([]string, error) {
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "/proc")
	defer f.Close()
	entries, err := f.ReadDir(-1)
	var names []string
	for _, e := range entries {
		name := e.Name()
		if process := name[0] >= '0' && name[0] <= '9'; !process && e.Type()&os.ModeSymlink == 0 && !slices.Contains(masked, name) {
			names = append(names, name)
		}
	}
	return names, err
}

// cover mounts a copy of from over to, if from exists.
func cover(fromDir int, from string, toDir int, to string, attrs uint64) error {
	tree, err := clone(fromDir, from, attrs)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return attach(tree, toDir, to)
}

// emptyDir is the name of an empty folder in stage.private.
const emptyDir = "empty"

// mask covers a folder by an empty one and a file by /dev/null.
func (s *stage) mask(dir int, name string) error {
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return cover(s.nodes, "null", dir, name, 0)
	}
	if err := unix.Mkdirat(s.private, emptyDir, 0o555); err != nil && err != unix.EEXIST {
		return err
	}
	return cover(s.private, emptyDir, dir, name, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
}

// devices are the device nodes of /dev, with their numbers (Documentation/admin-guide/devices.txt
// of the kernel).
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// memoryDevices is the major number of the device nodes that are the same for everybody.
const memoryDevices = 1

// devLinks are the symbolic links of /dev.
var devLinks = [][2]string{
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
}

// mountDev mounts a new /dev.
func (s *stage) mountDev() error {
	var err error
	s.nodes, err = newFS("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, option{"mode", "755"}, option{"size", "64m"})
	if err != nil {
		return mountError("/dev", err)
	}
	if err := s.mount(s.nodes, "/dev", beneath.InRootNoLinks); err != nil {
		return mountError("/dev", err)
	}
	for _, l := range devLinks {
		if err := unix.Symlinkat(l[1], s.nodes, l[0]); err != nil {
			return &os.LinkError{Op: "symlink", Old: l[1], New: "/dev/" + l[0], Err: err}
		}
	}
	for _, d := range devices {
		if err := s.mountNode(d.name, unix.Mkdev(d.major, d.minor)); err != nil {
			return mountError("/dev/"+d.name, err)
		}
	}
	const nosuid, noexec = unix.MOUNT_ATTR_NOSUID, unix.MOUNT_ATTR_NOEXEC
	if err := s.mountPTS(); err != nil {
		return mountError("/dev/pts", err)
	}
	shm, err := newFS("tmpfs", nosuid|noexec|unix.MOUNT_ATTR_NODEV, option{"mode", "1777"}, option{"size", "64m"})
	if err := s.mountNew(shm, err, "shm"); err != nil {
		return mountError("/dev/shm", err)
	}
	mqueue, err := newFS("mqueue", nosuid|noexec|unix.MOUNT_ATTR_NODEV)
	if errors.Is(err, unix.ENODEV) {
		return nil // a kernel without POSIX message queues
	}
	if err := s.mountNew(mqueue, err, "mqueue"); err != nil {
		return mountError("/dev/mqueue", err)
	}
	return nil
}

// mountNew mounts the tree on a new folder of /dev, unless the tree could not be made.
func (s *stage) mountNew(tree int, err error, name string) error {
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := unix.Mkdirat(s.nodes, name, 0o755); err != nil {
		return err
	}
	return attach(tree, s.nodes, name)
}

// mountPTS mounts a devpts of its own; group 5 is tty, unless the user namespace has no such group.
func (s *stage) mountPTS() error {
	options := []option{{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}
	const attrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	pts, err := newFS("devpts", attrs, append(options, option{"gid", "5"})...)
	if errors.Is(err, unix.EINVAL) {
		pts, err = newFS("devpts", attrs, options...)
	}
	return s.mountNew(pts, err, "pts")
}

// mountNode mounts a device node: a new one, or the host's where none can be made, as in a user
// namespace. The host's is read-only, which keeps its mode, owner, times and attributes as they
// are; devices are written to on a read-only mount as on any other.
func (s *stage) mountNode(name string, dev uint64) error {
	const attrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	var node int
	err := unix.Mknodat(s.private, name, unix.S_IFCHR|0o666, int(dev))
	switch {
	case err == nil:
		node, err = clone(s.private, name, attrs)
	case errors.Is(err, unix.EPERM):
		node, err = clone(unix.AT_FDCWD, "/dev/"+name, attrs|unix.MOUNT_ATTR_RDONLY)
	}
	if err != nil {
		return err
	}
	defer unix.Close(node)
	if err := unix.Mknodat(s.nodes, name, unix.S_IFREG|0o666, 0); err != nil {
		return err
	}
	return attach(node, s.nodes, name)
}

// bind mounts a file or folder of the host. Its mount point was made by Run, unless it is in /dev,
// which only exists now.
func (s *stage) bind(b Bind) error {
	var st unix.Stat_t
	if err := unix.Stat(b.Source, &st); err != nil {
		return err
	}
	var attrs uint64
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		attrs |= unix.MOUNT_ATTR_NODEV
	}
	if !b.Writable {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	tree, err := clone(unix.AT_FDCWD, b.Source, attrs)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if strings.HasPrefix(path.Clean(b.Dest), "/dev/") {
		if err := s.root.keep(b.Dest, st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
			return err
		}
	}
	return s.mount(tree, b.Dest, beneath.InRoot)
}

// become makes the stage's root the root of the process, and drops the host's mounts.
func (s *stage) become() error {
	if err := unix.Fchdir(s.root.fd); err != nil {
		return err
	}
	// The new root takes the place of the old one, which lands on top of it and is then detached
	// (pivot_root(2), NOTES).
	if err := unix.PivotRoot(".", "."); err != nil {
		return &os.PathError{Op: "pivot_root", Path: s.dir, Err: err}
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return &os.PathError{Op: "unmount", Path: "the host's root", Err: err}
	}
	return unix.Chdir("/")
}
