package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/durable"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/loop"
	"genoci/internal/snapshot/mounts"
)

// Loopback is a btrfs in a file. There is no record of it: the label in its superblock says that
// Setup made it, and the kernel whether it is mounted. Its methods take root, and are to be called
// in the mount namespace in which it is to be seen. A kill at any moment leaves what Setup mends
// when it is called again.
type Loopback struct {
	File  string // that holds it, absolute
	Mount string // the folder where it is mounted, absolute; or one on a btrfs that is there, where no file is needed
	Size  int64  // in bytes, as large as it may become: the file is sparse. 0: as it is, or DefaultSize
}

const blockSize = 4096 // of loop devices

// DefaultSize is the size of a new loopback.
const DefaultSize = 20 << 30

var (
	// ErrForeign is wrapped where the file, or what is mounted, was not made by Setup.
	ErrForeign = errors.New("not made by genoci storage setup")
	// ErrGone is wrapped where somebody has removed the file while it was mounted.
	ErrGone = errors.New("removed while it was mounted")
	// ErrBusy is wrapped where the loopback is in use.
	ErrBusy = errors.New("in use")
)

// Dir is the driver's folder.
func (l *Loopback) Dir() string { return filepath.Join(l.Mount, "genoci") }

// State is what there is of a loopback.
type State struct {
	Made    bool   // the file is there, and holds a btrfs that Setup made
	Foreign bool   // the file is there, and does not
	Device  string // the loop device that it is; "" if it is none
	Mounted bool   // where it is to be
	Given   bool   // no file is needed: the folder is on another btrfs
	Gone    bool   // somebody has removed the file while it was mounted: what is in it is lost when that ends

	Size     int64 // of the btrfs, if it is mounted, else of the file
	Used     int64 // of its size
	Free     int64
	Taken    int64 // by the file, of the file system that holds it
	HostFree int64 // left there
	ReadOnly bool  // the kernel ended writing, after an error
}

// State looks at what there is.
func (l *Loopback) State() (s State, err error) {
	info, err := os.Stat(l.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if s.Device, err = l.removed(); err != nil {
			return s, err
		}
		s.Gone = s.Device != ""
		s.Made, s.Given = s.Gone, !s.Gone && isOnBtrfs(l.Mount)
	case err != nil:
		return s, err
	default:
		if err := l.lookAtFile(&s, info); err != nil {
			return s, err
		}
	}
	m, err := mountAt(l.Mount)
	if err != nil {
		return s, err
	}
	s.Mounted = m != nil && s.Device != "" && m.source == s.Device
	if s.Mounted || s.Given {
		err = l.lookAtMount(&s)
	}
	return s, err
}

// removed returns the device that is mounted, where its file is ours and has been removed, ""
// otherwise.
func (l *Loopback) removed() (string, error) {
	m, err := mountAt(l.Mount)
	if m == nil || err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(l.File))
	if errors.Is(err, fs.ErrNotExist) {
		dir = filepath.Dir(l.File)
	} else if err != nil {
		return "", err
	}
	if loop.File(m.source) != filepath.Join(dir, filepath.Base(l.File))+" (deleted)" {
		return "", nil
	}
	f, err := os.Open(m.source)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if ours, err := isOurs(f); !ours || err != nil {
		return "", err
	}
	return m.source, nil
}

func (l *Loopback) lookAtFile(s *State, info os.FileInfo) error {
	f, err := os.OpenFile(l.File, os.O_RDONLY|unix.O_NONBLOCK, 0) // a fifo is opened at once, too
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return wrapPath("fstat", l.File, err)
	}
	if info.Mode().IsRegular() && st.Uid == 0 { // what another user can write to, as a file in /tmp may be, is not mounted
		if s.Made, err = isOurs(f); err != nil {
			return err
		}
	}
	s.Foreign = !s.Made
	s.Size = info.Size()
	s.Taken = st.Blocks * 512
	var host unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &host); err != nil {
		return wrapPath("fstatfs", l.File, err)
	}
	s.HostFree = int64(host.Bavail) * host.Bsize
	devices, err := loop.Devices(l.File)
	if len(devices) > 0 {
		s.Device = devices[0]
	}
	return err
}

func (l *Loopback) lookAtMount(s *State) error {
	there := existing(l.Mount)
	var st unix.Statfs_t
	if err := unix.Statfs(there, &st); err != nil {
		return wrapPath("statfs", there, err)
	}
	s.Size, s.Free = int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	s.Used = s.Size - int64(st.Bfree)*st.Bsize
	s.ReadOnly = isWriteProtected(there)
	return nil
}

// isWriteProtected reports whether nothing can be written at path, though its mount is not
// read-only.
func isWriteProtected(path string) bool { return unix.Access(path, unix.W_OK) == unix.EROFS }

// Setup makes what is missing of the loopback, and returns what it did, a line each.
func (l *Loopback) Setup(ctx context.Context) (done []string, err error) {
	if info, err := os.Stat(l.Mount); err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "set up", Path: l.Mount, Err: unix.ENOTDIR}
	}
	if err := os.MkdirAll(filepath.Dir(l.File), 0o755); err != nil {
		return nil, err
	}
	unlock, err := l.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	l.Size = (l.Size + blockSize - 1) / blockSize * blockSize
	for _, step := range []func() (string, error){l.makeFile, l.mount, l.resize, l.makeDir} {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		what, err := step()
		if what != "" {
			done = append(done, what)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// lock keeps others from setting up or ending the same loopback meanwhile.
func (l *Loopback) lock() (unlock func(), err error) {
	const patience = time.Minute // any process may lock a folder
	f, err := durable.LockWithin(context.Background(), filepath.Dir(l.File), durable.Exclusive, patience)
	if err != nil {
		return nil, err
	}
	return func() { durable.Unlock(f) }, nil
}

// makeFile makes the file if there is none: under another name, until it is whole.
func (l *Loopback) makeFile() (string, error) {
	s, err := l.State()
	if s.Gone {
		return "", &fs.PathError{Op: "set up", Path: l.File, Err: ErrGone}
	}
	if err != nil || s.Made || s.Given {
		return "", err
	}
	if s.Foreign {
		return "", &fs.PathError{Op: "set up", Path: l.File, Err: ErrForeign}
	}
	size := l.Size
	if size == 0 {
		size = DefaultSize
	}
	if size < templateSize {
		return "", fmt.Errorf("set up %s: a btrfs needs at least %d MB", l.File, templateSize/1000_000)
	}
	temp := filepath.Join(filepath.Dir(l.File), "."+filepath.Base(l.File)+".genoci-new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // a killed process left it
		return "", err
	}
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err = writeTemplate(f); err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = wrapPath("rename", temp, unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, l.File, unix.RENAME_NOREPLACE))
	}
	if err != nil {
		_ = os.Remove(temp)
		return "", err
	}
	return fmt.Sprintf("made %s, of %d MB at most", l.File, size/1000_000), durable.SyncDir(filepath.Dir(l.File))
}

// mount makes the file a device, and mounts that. The device ends with the mount, so that a process
// that is killed in between leaves nothing.
func (l *Loopback) mount() (string, error) {
	s, err := l.State()
	if err != nil || s.Mounted || s.Given {
		return "", err
	}
	if m, err := mountAt(l.Mount); err != nil || m != nil {
		if m != nil {
			err = &fs.PathError{Op: "mount", Path: l.Mount, Err: fmt.Errorf("%s is mounted there: %w", m.source, ErrForeign)}
		}
		return "", err
	}
	if err := os.MkdirAll(l.Mount, 0o755); err != nil {
		return "", err
	}
	device, err := loop.Attach(l.File, true)
	if err != nil {
		return "", err
	}
	defer device.Close()
	// What is removed is to be free for the file system below. Users may remove the subvolumes that
	// are theirs.
	err = unix.Mount(device.Name(), l.Mount, "btrfs", unix.MS_NOATIME, "discard=async,user_subvol_rm_allowed")
	if errors.Is(err, unix.ENODEV) {
		return "", fmt.Errorf("mount %s: %w: the kernel has no btrfs; modprobe btrfs", l.File, snapshot.ErrUnsupported)
	}
	if err != nil {
		return "", wrapPath("mount", l.File, err)
	}
	return fmt.Sprintf("mounted it at %s", l.Mount), nil
}

// resize makes the file, the device and the btrfs as large as they are to be.
func (l *Loopback) resize() (string, error) {
	s, err := l.State()
	if err != nil || !s.Mounted {
		return "", err
	}
	info, err := os.Stat(l.File)
	if err != nil {
		return "", err
	}
	var done string
	switch {
	case l.Size != 0 && l.Size < info.Size():
		return "", fmt.Errorf("set up %s: it already has %d MB, and cannot become smaller", l.File, info.Size()/1000_000)
	case l.Size > info.Size():
		if err := os.Truncate(l.File, l.Size); err != nil {
			return "", err
		}
		done = fmt.Sprintf("made it larger: %d MB", l.Size/1000_000)
	}
	device, err := os.OpenFile(s.Device, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer device.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return "", wrapPath("resize", s.Device, err)
	}
	top, err := os.Open(l.Mount)
	if err != nil {
		return "", err
	}
	defer top.Close()
	return done, wrapPath("resize", l.Mount, resizeToDevice(int(top.Fd())))
}

func (l *Loopback) makeDir() (string, error) {
	_, err := os.Stat(l.Dir())
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(l.Dir(), 0o700); err != nil {
		return "", err
	}
	return "made " + l.Dir(), nil
}

// Detach unmounts the loopback, which ends its device. What is not attached stays so, and what
// Setup has not made as it is. The error wraps ErrBusy where it is in use.
func (l *Loopback) Detach() error {
	if s, err := l.State(); err == nil && s.Gone {
		return &fs.PathError{Op: "detach", Path: l.File, Err: ErrGone}
	}
	return l.ending(l.detach)
}

// ending calls f, which ends what Setup began, with the lock. Where there is not even the folder of
// the file, there is nothing to end but what is mounted nevertheless.
func (l *Loopback) ending(f func() error) error {
	unlock, err := l.lock()
	if errors.Is(err, fs.ErrNotExist) {
		if s, err := l.State(); err != nil || !s.Gone {
			return err
		}
		return f()
	}
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

func (l *Loopback) detach() error {
	s, err := l.State()
	if err != nil || !s.Made {
		return err
	}
	if s.Mounted {
		err := mounts.Unmount(l.Mount)
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("unmount %s: %w%s", l.Mount, ErrBusy, users(l.Mount))
		}
		if err != nil {
			return err
		}
	}
	if s.Device == "" || s.Gone {
		return nil
	}
	if !s.Mounted { // by hand, perhaps, and so without an end
		return loop.Detach(s.Device)
	}
	// The device ends in a moment; or when processes end that were started with mounts of their own
	// while it was mounted, as builds on other storage.
	for range 100 {
		devices, err := loop.Devices(l.File)
		if err != nil || !slices.Contains(devices, s.Device) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// Destroy detaches the loopback, and removes its file. Where the folder is on another btrfs, it
// removes the driver's folder there.
func (l *Loopback) Destroy() error { return l.ending(l.destroy) }

func (l *Loopback) destroy() error {
	s, err := l.State()
	switch {
	case err != nil:
		return err
	case s.Foreign:
		return &fs.PathError{Op: "remove", Path: l.File, Err: ErrForeign}
	case s.Given:
		return l.destroyDir()
	case !s.Made:
		return nil
	}
	if err := l.detach(); err != nil || s.Gone {
		return err
	}
	return os.Remove(l.File)
}

// destroyDir removes the driver's folder, if it is one.
func (l *Loopback) destroyDir() error {
	if _, err := os.Stat(filepath.Join(l.Dir(), "format")); errors.Is(err, fs.ErrNotExist) {
		err := os.Remove(l.Dir()) // nothing was kept in it yet
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	parts, err := filepath.Glob(filepath.Join(l.Dir(), "parts/*"))
	for _, part := range parts {
		if err == nil {
			err = beneath.Check(l.Dir(), filepath.Join("parts", filepath.Base(part)))
		}
		if err == nil {
			err = clear(part) // what a process that was killed left read-only cannot be removed file by file
		}
	}
	if err != nil {
		return err
	}
	return beneath.RemovePath(l.Dir())
}

// mounted is a mount.
type mounted struct{ source string }

// mountAt returns what is mounted at the folder dir, the topmost, or nil.
func mountAt(dir string) (*mounted, error) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found *mounted
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line) // proc(5): the options end with "-", then come type and source
		end := slices.Index(fields, "-")
		if end < 5 || len(fields) < end+3 || unescape(fields[4]) != dir {
			continue
		}
		found = &mounted{unescape(fields[end+2])}
	}
	return found, nil
}

// unescape reads a field of mountinfo: blanks are octal numbers there.
func unescape(field string) string {
	var b strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+3 < len(field) {
			if n, err := strconv.ParseUint(field[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(field[i])
	}
	return b.String()
}

// existing returns the folder, or the first above it that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func isOnBtrfs(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(existing(dir), &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}

// users says which processes have something open below dir, or stand there.
func users(dir string) string {
	var found []string
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is right
	for _, cwd := range links {
		process := filepath.Dir(cwd)
		if uses(process, dir) {
			name, _ := os.ReadFile(filepath.Join(process, "comm")) // it may have ended
			found = append(found, fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process)))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return " by " + strings.Join(found, ", ")
}

func uses(process, dir string) bool {
	links, _ := filepath.Glob(process + "/fd/*") // the pattern is right
	for _, link := range append(links, process+"/cwd", process+"/root") {
		target, err := os.Readlink(link)
		if err == nil && (target == dir || strings.HasPrefix(target, dir+"/")) {
			return true
		}
	}
	return false
}
