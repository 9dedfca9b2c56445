package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// Network is what a command sees of the network.
type Network string

// The networks.
const (
	NetworkHost Network = "host" // the host's own
	NetworkNone Network = "none" // a new namespace with only a loopback device, up
)

// Bind is a file or folder of the host that a command sees in its root filesystem. Device nodes in
// a bound folder do not open; a bound device node does.
type Bind struct {
	Source   string // absolute path on the host
	Dest     string // absolute path inside; resolved inside the root, made where missing, and removed afterwards
	Writable bool
}

// Cmd is a command to be run in a root filesystem. The zero value of each field but Root and Args
// is useful.
type Cmd struct {
	Root     string   // absolute path of the root filesystem
	Args     []string // the program, looked up inside by PATH of Env where it has no slash, and its arguments
	Env      []string // K=V; nothing is inherited. PATH is DefaultPath and HOME the user's where they are missing
	Dir      string   // working folder inside; "" is /; made (0755 root) when it is missing
	User     string   // "", "name", "uid", "name:group", "uid:gid", looked up in the image; "" is root
	Hostname string   // "" is genoci
	Network  Network  // "" is host
	Binds    []Bind

	// TTY gives the command a terminal of its own as its standard files and controlling terminal.
	// Stdin, if it is a terminal, is raw meanwhile, and its size is passed on. Stderr is not used.
	TTY bool

	// Warn, if there is one, is told what of the promises of Run this machine does not allow, each
	// time.
	Warn func(text string)

	Stdin          io.Reader // nil: /dev/null. Run also waits for its end, unless it is an *os.File
	Stdout, Stderr io.Writer // nil: dropped
}

// ExitError is the error of a command that ran and failed.
type ExitError struct {
	Code   int       // exit status, or 128+N for signal N
	Signal os.Signal // nil when it exited
}

func (e *ExitError) Error() string {
	if e.Signal != nil {
		return fmt.Sprintf("killed by signal: %v", e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// defaultHostname is the hostname of a command that has none.
const defaultHostname = "genoci"

// grace is the time that a command has, after SIGTERM, to end by itself when its context has ended.
const grace = 2 * time.Second

// Run runs the command and waits for it, in new mount, pid, uts and ipc namespaces: fresh /proc and
// /dev (with shm, pts), /sys read-only, /etc/resolv.conf, /etc/hosts and /etc/hostname of its own,
// the default capabilities and seccomp filter of moby, umask 022, and a session of its own. Device
// nodes other than those of /dev do not open. Resource limits, signals, priority and the like are
// the same whatever the caller's are, as far as the kernel lets them be raised. Nothing of the host
// can be changed but by writable Binds.
//
// When ctx ends, the command gets SIGTERM (with TTY, SIGHUP), and what it started is killed at the
// latest two seconds later; the error is then that of ctx. Everything that is left when the command
// itself ends is killed too, and all of it when this process dies. Mount points that were missing
// are removed afterwards.
//
// The error is an *ExitError when the command ran and failed. It wraps ErrNotFound when the
// program, or the interpreter that it names, does not exist, and ErrUnsupported when the kernel
// lacks what is needed.
//
// It needs the privileges that Enter gives. Several commands may run at the same time, each in a
// root of its own.
func (c *Cmd) Run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	texts := slices.Concat(c.Args, c.Env, []string{c.Dir})
	if len(c.Args) == 0 || !filepath.IsAbs(c.Root) || slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, "\x00") }) {
		return fmt.Errorf("run %q in %q: %w", c.Args, c.Root, unix.EINVAL)
	}
	probeRuntime()
	go func() { _, _ = defaultFilter() }() // takes a millisecond, once
	j, points, err := c.prepare()
	if err == nil {
		err = onThread(func() error { return j.run(ctx) })
	}
	if removeErr := points.remove(); err == nil {
		err = removeErr
	}
	return unsupported(err)
}

// probeRuntime makes the first call of its kind, which tries something in a child process: that is
// not to become one of a command's namespaces.
func probeRuntime() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Release()
	}
}

func (c *Cmd) warn(text string) {
	if c.Warn != nil {
		c.Warn(text)
	}
}

// unsupported adds ErrUnsupported to an error of a kernel that is too old.
func unsupported(err error) error {
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: %w", err, ErrUnsupported)
	}
	return err
}

// prepare makes the mount points that are missing, and looks up what the command needs. The mount
// points are returned also along with an error.
func (c *Cmd) prepare() (*job, mountPoints, error) {
	r, err := openRoot(c.Root)
	if err != nil {
		return nil, nil, err
	}
	defer r.close()
	points, files, err := c.makeMountPoints(r)
	if err != nil {
		return nil, points, err
	}
	u, err := r.lookupUser(c.User)
	if err != nil {
		return nil, points, err
	}
	hostname := c.Hostname
	if hostname == "" {
		hostname = defaultHostname
	}
	return &job{
		Cmd:      c,
		env:      defaultEnv(c.Env, u.Home),
		dir:      path.Join("/", c.Dir),
		user:     identity{UID: u.Uid, GID: u.Gid, Groups: u.Sgids},
		hostname: hostname,
		files:    files,
	}, points, nil
}

// mountFolders and mountFiles are the mount points of every command.
func mountFolders() []string { return []string{"/proc", "/sys", "/dev"} }
func mountFiles() []string   { return []string{resolvConf, hostsFile, nameFile} }

// makeMountPoints makes the mount points that are missing. What a killed process has left is as if
// it was made. files are those of mountFiles that are to be mounted.
func (c *Cmd) makeMountPoints(r root) (points mountPoints, files []string, err error) {
	ensure := func(name string, dir bool) error {
		points = append(points, r.left(name)...)
		news, err := r.ensure(name, dir)
		points = append(points, news...)
		for _, m := range news {
			err = cmp.Or(err, m.mark())
		}
		if err != nil {
			return &os.PathError{Op: "make mount point", Path: name, Err: err}
		}
		return nil
	}
	for _, dir := range mountFolders() {
		if err := ensure(dir, true); err != nil {
			return points, nil, err
		}
	}
	own := mountID(r.fd)
	for _, file := range mountFiles() {
		if r.covered(file, own) {
			continue
		}
		if err := ensure(file, false); err != nil {
			return points, nil, err
		}
		files = append(files, file)
	}
	for _, b := range c.Binds {
		if !filepath.IsAbs(b.Source) || !path.IsAbs(b.Dest) {
			return points, nil, fmt.Errorf("bind %s to %s: not absolute paths", b.Source, b.Dest)
		}
		info, err := os.Stat(b.Source)
		if err != nil {
			return points, nil, fmt.Errorf("bind: %w", err)
		}
		if err := ensure(b.Dest, info.IsDir()); err != nil {
			return points, nil, err
		}
	}
	return points, files, nil
}

// lookupUser finds a user, in the form of Cmd.User, in the accounts of the image.
func (r root) lookupUser(name string) (*user.ExecUser, error) {
	passwd, group := r.accounts("/etc/passwd"), r.accounts("/etc/group")
	defer passwd.Close()
	defer group.Close()
	u, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	return u, nil
}

// defaultEnv adds to env what every command finds in it.
func defaultEnv(env []string, home string) []string {
	env = slices.Clip(env)
	if _, ok := lookupEnv(env, "PATH"); !ok {
		env = append(env, "PATH="+DefaultPath)
	}
	if _, ok := lookupEnv(env, "HOME"); !ok {
		env = append(env, "HOME="+home)
	}
	return env
}

// socketPair makes two connected sockets of that type.
func socketPair(kind int) (own, other *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}
