package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// job is a command with all that was looked up for it.
type job struct {
	*Cmd
	env      []string
	dir      string
	user     identity
	hostname string
	files    []string // of mountFiles, those that are the command's own
}

// onThread calls f on a thread of its own, which ends with it: f may do what it likes with the
// thread's namespaces, root, working folder and umask.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() != unix.Getpid() {
			result <- f()
			return
		}
		// The main thread cannot end, and is the one that /proc/self shows. While it waits here, it
		// is not taken again.
		err := onThread(f)
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}

// run runs the command. The thread, one of onThread, is in the command's namespaces meanwhile.
func (j *job) run(ctx context.Context) error {
	flags := unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP
	if j.Network == NetworkNone {
		flags |= unix.CLONE_NEWNET
	}
	return inNamespaces(flags, func() error { return j.runInside(ctx) })
}

// inNamespaces calls f in new namespaces of this thread, one of onThread.
func inNamespaces(flags int, f func() error) error {
	const own = "/proc/thread-self/ns/mnt"
	back, err := unix.Open(own, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: own, Err: err}
	}
	defer unix.Close(back)
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	err = f()
	// The mounts go now, and not with the thread at some time later.
	if backErr := unix.Setns(back, unix.CLONE_NEWNS); err == nil && backErr != nil {
		err = os.NewSyscallError("setns", backErr)
	}
	return err
}

// runInside runs the command in the namespaces of the thread.
func (j *job) runInside(ctx context.Context) error {
	init, err := startInit()
	if err != nil {
		return err
	}
	defer init.end()
	s, err := j.stage(init)
	if err != nil {
		return err
	}
	defer s.close()
	p, err := j.start(s)
	if err != nil {
		return err
	}
	err = p.begin(j, s)
	if err == nil {
		signal := unix.SIGTERM
		if j.TTY { // a shell that somebody types into does not listen to SIGTERM
			signal = unix.SIGHUP
		}
		await(ctx, p.cmd.Process.Pid, init, signal, grace)
	}
	init.kill()
	endErr := p.end()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	}
	return endErr
}

// stage sets up what the command sees, but for the process itself.
func (j *job) stage(init *initProcess) (*stage, error) {
	unix.Umask(0)
	if err := unix.Sethostname([]byte(j.hostname)); err != nil {
		return nil, os.NewSyscallError("sethostname", err)
	}
	if j.Network == NetworkNone {
		if err := loopbackUp(); err != nil {
			return nil, fmt.Errorf("bring up lo: %w", err)
		}
	}
	s, err := newStage(j.Root, init.proc)
	if err != nil {
		return nil, err
	}
	if err := s.setUp(j.hostname, j.files, j.Binds); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// process is the process that becomes the command.
type process struct {
	cmd   *exec.Cmd
	calls *calls
	conn  *os.File // at its other end, the process waits for the path to execute
	relay func()   // ends the relay of the terminal, if there is one
}

// calls are what the process does, once it knows the path to execute. It takes on the command's
// credentials only then, so that all before is done with those of this process. Where it is to be
// apart, it goes into a user namespace first, says so by a byte, and has to be given ids.
func (j *job) calls(apart bool) (*calls, error) {
	filter, err := defaultFilter()
	if err != nil {
		return nil, err
	}
	c := &calls{}
	// Descriptors that came from whoever started the program must not reach the command.
	c.add("close_range", unix.SYS_CLOSE_RANGE, callsFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if apart {
		c.add(userCall, unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
		c.add("write", unix.SYS_WRITE, callsFD, c.text(""), 1)
	}
	file := c.wait(callsFD, unix.PathMax)
	c.add("chdir", unix.SYS_CHDIR, c.text(j.dir))
	c.add("umask", unix.SYS_UMASK, 0o022)
	c.forget()
	for fd, std := range []any{j.Stdin, j.Stdout, j.Stderr} {
		if _, given := std.(*os.File); std != nil && !given && !j.TTY { // a pipe that start makes
			c.try("fchown", unix.SYS_FCHOWN, uint64(fd), uint64(j.user.UID), math.MaxUint32)
		}
	}
	c.confine(j.user, filter)
	args, env := c.texts(j.Args), c.texts(j.env)
	// A process that is just being started holds copies of all files that this one has open, up to
	// its exec; a program that was written a moment ago may be among them. So this is tried for a
	// second.
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		c.expect(execCall, unix.ETXTBSY, unix.SYS_EXECVE, file, args, env)
		c.try("nanosleep", unix.SYS_NANOSLEEP, c.words(0, uint64(wait)), 0)
	}
	c.add(execCall, unix.SYS_EXECVE, file, args, env)
	return c, nil
}

// The calls that make a user namespace for the process, and by which it becomes the command.
const (
	userCall = "unshare"
	execCall = "execve"
)

// start starts the process.
func (j *job) start(s *stage) (*process, error) {
	c, err := j.calls(s.sharedProc)
	if err != nil {
		return nil, err
	}
	p := &process{calls: c, relay: func() {}}
	program, err := c.program()
	if err != nil {
		return nil, err
	}
	defer program.Close()
	own, other, err := socketFor(program)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	p.conn = own
	p.cmd = &exec.Cmd{
		Path: procFD(program), Args: j.Args[:1], Env: []string{}, Dir: "/", ExtraFiles: []*os.File{other},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}, // so that it has no hold of this process's terminal
	}
	if j.TTY {
		err = p.startTTY(j, s)
	} else {
		err = p.startPlain(j, s)
	}
	if err != nil {
		own.Close()
		return nil, fmt.Errorf("start: %w", err)
	}
	return p, nil
}

// startPlain starts the process with the files of the command.
func (p *process) startPlain(j *job, s *stage) error {
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = j.Stdin, j.Stdout, j.Stderr
	for fd, std := range []any{j.Stdin, j.Stdout, j.Stderr} {
		name := nodeOf(std)
		if name == "" {
			continue
		}
		node, err := unix.Openat(s.nodes, name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return mountError("/dev/"+name, err)
		}
		f := os.NewFile(uintptr(node), name)
		defer f.Close()
		switch fd {
		case 0:
			p.cmd.Stdin = f
		case 1:
			p.cmd.Stdout = f
		case 2:
			p.cmd.Stderr = f
		}
	}
	// /dev/stdout has to open for a user other than the one who made the pipe, if it may be given
	// away: one that came from outside of the user namespace may not.
	for _, std := range []any{j.Stdin, j.Stdout, j.Stderr} {
		var st unix.Stat_t
		f, ok := std.(*os.File)
		if ok && unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO && int(st.Uid) != j.user.UID {
			_ = unix.Fchown(int(f.Fd()), j.user.UID, -1)
		}
	}
	return p.cmd.Start()
}

// nodeOf returns which node of /dev a command gets for one of its standard files, so that it has no
// hold of the host's; "" for none.
func nodeOf(std any) string {
	f, ok := std.(*os.File)
	if !ok {
		if std == nil {
			return "null"
		}
		return ""
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
		for _, d := range devices {
			if d.major == memoryDevices && st.Rdev == unix.Mkdev(d.major, d.minor) {
				return d.name
			}
		}
	}
	return ""
}

// startTTY starts the process with a terminal.
func (p *process) startTTY(j *job, s *stage) error {
	master, tty, err := s.openTTY(j.user.UID)
	if err != nil {
		return fmt.Errorf("open a terminal: %w", err)
	}
	defer tty.Close()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr.Setctty = true
	if err := p.cmd.Start(); err != nil {
		master.Close()
		return err
	}
	p.relay = j.relay(master)
	return nil
}

// begin puts the process into its root, and lets it become the command.
func (p *process) begin(j *job, s *stage) error {
	resetScore(p.cmd.Process.Pid)
	if s.sharedProc {
		if err := p.giveIDs(); err != nil {
			return err
		}
		j.warn(sharedProcText)
	}
	if err := s.become(); err != nil {
		return err
	}
	if err := s.root.enter(j.dir); err != nil {
		return &os.PathError{Op: "chdir", Path: j.dir, Err: err}
	}
	program := j.Args[0] // with a slash, it is relative to the working folder
	if !strings.Contains(program, "/") {
		var err error
		if program, err = s.root.lookPath(program, j.env); err != nil {
			return err
		}
	}
	if len(program) >= unix.PathMax {
		return &os.PathError{Op: "exec", Path: program, Err: unix.ENAMETOOLONG}
	}
	if _, err := p.conn.Write(append([]byte(program), 0)); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	err := p.failure()
	if errors.Is(err, io.EOF) { // the command has no such file
		return nil
	}
	var call *os.SyscallError
	switch {
	case !errors.As(err, &call) || call.Syscall != execCall:
		return fmt.Errorf("start %s: %w", program, err)
	case unix.Access(program, unix.F_OK) != nil:
		return notFound(program)
	case errors.Is(err, unix.ENOENT):
		// The program is there, so it is what it needs that is missing: the interpreter of a
		// script, or the dynamic loader.
		return fmt.Errorf("exec %s: its interpreter: %w", program, ErrNotFound)
	}
	return &os.PathError{Op: "exec", Path: program, Err: call.Err}
}

// failure returns the error that the process reports, or that of reading it.
func (p *process) failure() error {
	report := make([]byte, reportSize)
	n, err := p.conn.Read(report)
	if err == nil && n > 1 {
		err = p.calls.failure(report[:n])
	}
	return err
}

// giveIDs waits until the process is in a user namespace of its own, and maps all ids of this one
// there, to the same numbers.
func (p *process) giveIDs() error {
	if err := p.failure(); err != nil {
		return lacks{fmt.Sprintf("keep commands apart: %v; this container hides parts of its /proc", err), unmaskProc}
	}
	for _, name := range []string{"uid_map", "gid_map"} {
		text, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name), []byte(identityMap(string(text))), 0); err != nil {
			return err
		}
	}
	return nil
}

// await returns when the child with that pid has ended. It is still to be waited for. When ctx
// ends, its process group gets the signal, and after the grace all that is in the namespaces of
// init is killed.
func await(ctx context.Context, pid int, init *initProcess, signal unix.Signal, grace time.Duration) {
	var mu sync.Mutex
	ended := false
	kill := func(pid int, s unix.Signal) {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			_ = unix.Kill(pid, s)
		}
	}
	stop := context.AfterFunc(ctx, func() {
		kill(-pid, signal)
		time.AfterFunc(grace, func() { kill(init.pid, unix.SIGKILL) })
	})
	defer stop()
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	mu.Lock()
	defer mu.Unlock()
	ended = true
}

// end waits for the process and its output, and returns how it ended. The init process is killed.
func (p *process) end() error {
	p.conn.Close()
	err := p.cmd.Wait()
	p.relay()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		return &ExitError{Code: 128 + int(status.Signal()), Signal: status.Signal()}
	case ok && status.ExitStatus() != 0:
		return &ExitError{Code: status.ExitStatus()}
	}
	return err
}

// enter makes dir the working folder, and makes it where it is missing.
func (r root) enter(dir string) error {
	if err := r.keep(dir, true); err != nil {
		return err
	}
	return unix.Chdir(dir)
}
