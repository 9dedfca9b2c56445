package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
)

// ErrNotFound is wrapped where a program, or the interpreter of a script, does not exist in the
// root filesystem.
var ErrNotFound = errors.New("not found in the image")

// DefaultPath is the PATH of a command whose Env has none. It is also the PATH by which its program
// is then looked up.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxLinks is how many symbolic links a path may run through, as in the kernel
// (path_resolution(7)).
const maxLinks = 40

// root is an open root filesystem. Its methods resolve every path inside it, as after chroot(2):
// absolute links and ".." stay in it (openat2(2), RESOLVE_IN_ROOT). Paths may begin with a slash or
// not.
type root struct{ fd int }

func openRoot(dir string) (root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return root{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return root{fd}, nil
}

func (r root) close() { unix.Close(r.fd) }

// open opens name; flags are those of open(2), lead is beneath.InRoot or InRootNoLinks. The magic
// links of /proc are never followed.
func (r root) open(name string, flags int, lead uint64) (int, error) {
	return beneath.Open(r.fd, name, flags, lead)
}

// openFile opens a regular file for reading; a missing one is an error that wraps fs.ErrNotExist.
// It never blocks on a fifo.
func (r root) openFile(name string) (*os.File, error) {
	fd, err := r.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, beneath.InRoot)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	return f, nil
}

// isProgram reports whether name is a regular file that somebody may execute.
func (r root) isProgram(name string) bool {
	fd, err := r.open(name, unix.O_PATH, beneath.InRoot)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0
}

// made is a file or folder that root.ensure made. The parent folder is held open, since it can be
// renamed while a command runs.
type made struct {
	parent int
	name   string
	dir    bool
	dev    uint64
	ino    uint64
}

// ensure makes what is missing of name: folders (0755 root), and as the last element a folder or an
// empty file (0644 root). A symbolic link that leads to something missing is followed, and what it
// leads to is made. The modification times of the parents stay as they are. It returns what it
// made, parents first, also along with an error.
func (r root) ensure(name string, dir bool) ([]made, error) {
	if fd, err := r.open(name, unix.O_PATH, beneath.InRoot); err == nil {
		unix.Close(fd)
		return nil, nil
	}
	var news []made
	err := r.walk(name, func(parent int, elem string, there, last bool) error {
		if there {
			return unix.Close(parent)
		}
		m, err := makeIn(parent, elem, dir || !last)
		if err != nil {
			unix.Close(parent)
			return err
		}
		news = append(news, m)
		return nil
	})
	return news, err
}

// keep makes what is missing of name, as ensure does, for as long as the tree is there.
func (r root) keep(name string, dir bool) error {
	news, err := r.ensure(name, dir)
	for _, m := range news {
		unix.Close(m.parent)
	}
	return err
}

// walk calls visit for each element of name that is not a symbolic link, whether it is there or
// not; links are followed. The folder parent is visit's to close.
func (r root) walk(name string, visit func(parent int, elem string, there, last bool) error) error {
	cur, rest, links := "/", elements(name), 0
	for len(rest) > 0 {
		elem := rest[0]
		rest = rest[1:]
		if elem == ".." {
			cur = path.Dir(cur)
			continue
		}
		// cur has no symbolic link in it, for each was followed below.
		parent, err := r.open(cur, unix.O_PATH|unix.O_DIRECTORY, beneath.InRootNoLinks)
		if err != nil {
			return err
		}
		link, err := readlinkat(parent, elem)
		switch {
		case err == nil:
			unix.Close(parent)
			if links++; links > maxLinks {
				return unix.ELOOP
			}
			if path.IsAbs(link) {
				cur = "/"
			}
			rest = append(elements(link), rest...)
			continue
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL): // missing; or there, and not a symbolic link
			if err := visit(parent, elem, errors.Is(err, unix.EINVAL), len(rest) == 0); err != nil {
				return err
			}
		default:
			unix.Close(parent)
			return err
		}
		cur = path.Join(cur, elem)
	}
	return nil
}

// elements cuts a path into its elements, without the empty ones and "."; ".." means something only
// after its predecessors were resolved.
func elements(name string) []string {
	var elems []string
	for elem := range strings.SplitSeq(name, "/") {
		if elem != "" && elem != "." {
			elems = append(elems, elem)
		}
	}
	return elems
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// covered reports whether name is, or would have to be made, in something that was mounted in the
// root filesystem: by a HostCmd, for example. Nothing is put there, and what is there is what the
// command shall see.
func (r root) covered(name string, own uint64) bool {
	if fd, err := r.open(name, unix.O_PATH, beneath.InRoot); err == nil {
		defer unix.Close(fd)
		return mountID(fd) != own
	}
	covered := false
	_ = r.walk(name, func(parent int, _ string, there, _ bool) error { // it ends at the first element that is missing
		covered = covered || !there && mountID(parent) != own
		return unix.Close(parent)
	})
	return covered
}

// mountID identifies the mount that fd is open in.
func mountID(fd int) uint64 {
	var st unix.Statx_t
	_ = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) // it fails for no open descriptor
	return st.Mnt_id
}

// makeIn makes a folder or an empty file in parent, which then belongs to the result.
func makeIn(parent int, name string, dir bool) (made, error) {
	m := made{parent: parent, name: name, dir: dir}
	err := keepTimes(parent, func() error {
		mode, make := uint32(0o644), func() error { return unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0) }
		if dir {
			mode, make = 0o755, func() error { return unix.Mkdirat(parent, name, 0o755) }
		}
		if err := make(); err != nil {
			return err
		}
		// Neither the umask nor a set-group-id parent shall matter.
		return errors.Join(unix.Fchownat(parent, name, 0, 0, unix.AT_SYMLINK_NOFOLLOW), unix.Fchmodat(parent, name, mode, 0))
	})
	if err != nil {
		return m, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return m, err
	}
	m.dev, m.ino = st.Dev, st.Ino
	return m, nil
}

// remove removes what ensure made, unless it was replaced, or filled, by somebody else. What stays
// is as if that had made it.
func (m made) remove() error {
	defer unix.Close(m.parent)
	var st unix.Stat_t
	err := unix.Fstatat(m.parent, m.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && (st.Dev != m.dev || st.Ino != m.ino || !m.dir && st.Size > 0) {
		return nil
	}
	marked := err == nil && isLeft(&st)
	if err == nil {
		flags := 0
		if m.dir {
			flags = unix.AT_REMOVEDIR
		}
		err = keepTimes(m.parent, func() error { return unix.Unlinkat(m.parent, m.name, flags) })
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		err = nil
		if marked {
			now := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}
			err = unix.UtimesNanoAt(m.parent, m.name, now, unix.AT_SYMLINK_NOFOLLOW)
		}
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: m.name, Err: err}
	}
	return nil
}

// keepTimes calls change and then gives the folder the access and modification times that it had
// before.
func keepTimes(dir int, change func() error) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// While a command runs, the mount points that were made for it have this modification time, by
// which those are known that a killed process has left.
const (
	leftSeconds     = 1
	leftNanoseconds = 746_101_115
)

// mark gives what ensure made that time.
func (m made) mark() error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: leftSeconds, Nsec: leftNanoseconds}}
	return unix.UtimesNanoAt(m.parent, m.name, times, unix.AT_SYMLINK_NOFOLLOW)
}

func isLeft(st *unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return st.Mtim.Sec == leftSeconds && st.Mtim.Nsec == leftNanoseconds && (kind == unix.S_IFDIR || kind == unix.S_IFREG && st.Size == 0)
}

// left returns what a killed process has left of the mount point name, parents first.
func (r root) left(name string) []made {
	fd, err := r.open(name, unix.O_PATH, beneath.InRoot)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	unix.Close(fd)
	if err != nil || !isLeft(&st) {
		return nil
	}
	var all []made
	_ = r.walk(name, func(parent int, elem string, there, _ bool) error { // what cannot be looked at is not ours
		var st unix.Stat_t
		if err := unix.Fstatat(parent, elem, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || !isLeft(&st) {
			return unix.Close(parent)
		}
		all = append(all, made{parent, elem, st.Mode&unix.S_IFMT == unix.S_IFDIR, st.Dev, st.Ino})
		return nil
	})
	return all
}

// RemoveLeft removes the mount points that a command has left in the root filesystem dir when its
// process was killed; also those at dests, which are Dest of its Binds.
func RemoveLeft(dir string, dests ...string) error {
	r, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer r.close()
	var points mountPoints
	for _, name := range slices.Concat(mountFolders(), mountFiles(), dests) {
		points = append(points, r.left(name)...)
	}
	return points.remove()
}

// mountPoints are the mount points that were missing in a root filesystem.
type mountPoints []made

// remove removes them again, last made first.
func (p mountPoints) remove() error {
	var errs []error
	for i := len(p) - 1; i >= 0; i-- {
		errs = append(errs, p[i].remove())
	}
	return errors.Join(errs...)
}

// LookPath returns the path, inside the root filesystem at root, of the program called name. A name
// without a slash is looked up by the PATH in env, or DefaultPath; elements of it that are not
// absolute are passed over. The error wraps ErrNotFound where there is no such program: a regular
// file that somebody may execute.
func LookPath(root, name string, env []string) (string, error) {
	r, err := openRoot(root)
	if err != nil {
		return "", err
	}
	defer r.close()
	return r.lookPath(name, env)
}

func (r root) lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if file := path.Join("/", name); r.isProgram(file) {
			return file, nil
		}
		return "", notFound(name)
	}
	list, ok := lookupEnv(env, "PATH")
	if !ok {
		list = DefaultPath
	}
	for dir := range strings.SplitSeq(list, ":") {
		if file := path.Join(dir, name); path.IsAbs(dir) && name != "" && r.isProgram(file) {
			return file, nil
		}
	}
	return "", notFound(name)
}

func notFound(program string) error { return fmt.Errorf("exec: %q: %w", program, ErrNotFound) }

// lookupEnv returns the value of key in a list of K=V; the last one counts.
func lookupEnv(env []string, key string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(env[i], "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}

// maxAccounts is how much is read of an image's /etc/passwd and /etc/group.
const maxAccounts = 16 << 20

// accounts opens one of the account files of the root filesystem; without it, the image has no
// accounts.
func (r root) accounts(name string) io.ReadCloser {
	f, err := r.openFile(name)
	if err != nil {
		return io.NopCloser(strings.NewReader(""))
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, maxAccounts), f}
}
