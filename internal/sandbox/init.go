package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// job is what Run tells the init process of a command, as JSON on their socket. After it, the
// socket carries stopByte, or its end when Run's process has died.
type job struct {
	Root     string
	Args     []string
	Env      []string
	Dir      string
	User     identity
	Hostname string
	Loopback bool // bring up the loopback device of a new network namespace
	Binds    []Bind
	Filter   []byte // seccomp program, in the form that the kernel reads
	TTY      bool
}

// report is what the init process tells Run, once, as JSON on their socket.
type report struct {
	Failure  string        // what could not be set up; "" where the command was started
	Errno    syscall.Errno // the cause of Failure, or 0
	NotFound bool          // Failure is that of ErrNotFound
	Code     int           // exit status of the command
	Signal   syscall.Signal
}

// stopByte asks the init process to send SIGTERM to the command.
const stopByte = 's'

// runInit is the life of the init process: it sets up the namespaces that it was started in, runs
// the command as its child, reaps what is orphaned, and reports how the command ended. When it
// exits, the kernel kills what is left in its pid namespace. It returns its own exit status.
func runInit(fd int) int {
	// The main thread keeps its credentials, and with them its parent-death signal; the thread that
	// starts the command takes on those of the command.
	runtime.LockOSThread()
	conn := os.NewFile(uintptr(fd), "socket")
	started := make(chan int)
	var err error
	go func() {
		var pid int
		pid, err = prepareInit(conn)
		started <- pid
	}()
	switch pid := <-started; {
	case errors.Is(err, errNoJob):
		return 1
	case err != nil:
		return send(conn, failure(err))
	default:
		return send(conn, reap(pid))
	}
}

// errNoJob says that Run gave up, or died.
var errNoJob = errors.New("no job")

// prepareInit reads the job and starts the command.
func prepareInit(conn *os.File) (pid int, err error) {
	// What ps(1) shows; it would be the number of the descriptor that was executed.
	_ = os.WriteFile("/proc/self/comm", []byte("genoci-init"), 0)
	// Without this, a command that runs as root could trace the thread that started it, and so
	// reach this process's memory.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	// Descriptors that came from whoever started the program must not reach the command.
	if err := unix.CloseRange(3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("close_range", err)
	}
	// Commands tell the process 1 of a whole system things by signals. The Go runtime would end
	// this one by them.
	signal.Notify(make(chan os.Signal, 1),
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR)
	in := json.NewDecoder(conn)
	var j job
	if err := in.Decode(&j); err != nil {
		return 0, errNoJob
	}
	pid, err = j.start(conn)
	if err == nil {
		go obey(io.MultiReader(in.Buffered(), conn), pid)
	}
	return pid, err
}

func send(conn *os.File, r report) int {
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return 1
	}
	return 0
}

func failure(err error) report {
	r := report{Failure: err.Error(), NotFound: errors.Is(err, ErrNotFound)}
	errors.As(err, &r.Errno)
	return r
}

// obey waits for what Run has to say.
func obey(conn io.Reader, pid int) {
	buf := make([]byte, 16)
	for {
		n, err := conn.Read(buf)
		if bytes.IndexByte(buf[:n], stopByte) >= 0 {
			_ = unix.Kill(-pid, unix.SIGTERM) // a command that has ended needs none
		}
		if err != nil {
			os.Exit(1)
		}
	}
}

// reap waits for all children, until the one called pid ends.
func reap(pid int) report {
	for {
		var status unix.WaitStatus
		switch done, err := unix.Wait4(-1, &status, 0, nil); {
		case err == unix.EINTR, err == nil && done != pid:
		case err != nil:
			return failure(os.NewSyscallError("wait4", err))
		case status.Signaled():
			return report{Code: 128 + int(status.Signal()), Signal: status.Signal()}
		default:
			return report{Code: status.ExitStatus()}
		}
	}
}

// start sets everything up and starts the command.
func (j *job) start(conn *os.File) (int, error) {
	unix.Umask(0)
	if err := unix.Sethostname([]byte(j.Hostname)); err != nil {
		return 0, os.NewSyscallError("sethostname", err)
	}
	if j.Loopback {
		if err := loopbackUp(); err != nil {
			return 0, fmt.Errorf("bring up lo: %w", err)
		}
	}
	s, err := newStage(j.Root)
	if err != nil {
		return 0, err
	}
	if err := s.setUp(j.Hostname, j.Binds); err != nil {
		return 0, err
	}
	if err := s.become(); err != nil {
		return 0, err
	}
	if err := s.root.enter(j.Dir); err != nil {
		return 0, &os.PathError{Op: "chdir", Path: j.Dir, Err: err}
	}
	program, err := s.root.program(j.Args[0], j.Env)
	if err != nil {
		return 0, err
	}
	files, sys, err := j.stdio(conn)
	if err != nil {
		return 0, err
	}
	unix.Umask(0o022)
	pid, err := j.fork(program, &syscall.ProcAttr{Env: j.Env, Files: files, Sys: sys})
	if errors.Is(err, unix.ENOENT) {
		// The program is there, so it is what it needs that is missing: the interpreter of a
		// script, or the dynamic loader.
		return 0, fmt.Errorf("exec %s: its interpreter: %w", program, ErrNotFound)
	}
	if err != nil {
		return 0, &os.PathError{Op: "exec", Path: program, Err: err}
	}
	return pid, nil
}

// enter makes dir the working folder, and makes it where it is missing.
func (r root) enter(dir string) error {
	if _, err := r.ensure(dir, true); err != nil {
		return err
	}
	return unix.Chdir(dir)
}

// program returns the path to be executed for name; one with a slash is relative to the working
// folder.
func (r root) program(name string, env []string) (string, error) {
	if !strings.Contains(name, "/") {
		return r.lookPath(name, env)
	}
	if err := unix.Access(name, unix.F_OK); err != nil {
		return "", notFound(name)
	}
	return name, nil
}

// stdio returns the standard files of the command and how it is started: in a session of its own,
// so that it has no hold of the terminal of Run's process.
func (j *job) stdio(conn *os.File) ([]uintptr, *syscall.SysProcAttr, error) {
	files := []uintptr{0, 1, 2}
	sys := &syscall.SysProcAttr{Setsid: true}
	if j.TTY {
		tty, err := openTTY(conn, j.User.UID)
		if err != nil {
			return nil, nil, fmt.Errorf("open a terminal: %w", err)
		}
		sys.Setctty = true
		return []uintptr{tty, tty, tty}, sys, nil
	}
	// /dev/stdout has to open for a user other than the one who made the pipe, if it may be given
	// away: one that came from outside of the user namespace may not.
	for _, fd := range files {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO && int(st.Uid) != j.User.UID {
			_ = unix.Fchown(int(fd), j.User.UID, -1)
		}
	}
	return files, sys, nil
}

// fork starts the program from this thread, which has to take on the command's credentials for
// that. It saves a second copy of this program: what is set for a thread alone (credentials,
// capabilities, seccomp filter) is inherited by the processes that it starts. The thread ends with
// the goroutine.
func (j *job) fork(program string, attr *syscall.ProcAttr) (int, error) {
	runtime.LockOSThread()
	if err := confine(j.User, j.Filter); err != nil {
		return 0, err
	}
	return syscall.ForkExec(program, j.Args, attr)
}

// loopbackUp brings up the loopback device of the process's network namespace (netdevice(7)).
func loopbackUp() error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, lo)
}
