// Package killat kills a program at a counted moment: right before the n-th of the system calls by
// which it changes files, mounts, locks or devices. A test that draws n from a seed can be
// replayed.
package killat

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

// seedVariable replays the moments of an earlier run.
const seedVariable = "GENOCI_KILL_SEED"

// Moments returns the source of a test's random numbers. Its seed is that of GENOCI_KILL_SEED,
// otherwise a new one, and a test that fails says it.
func Moments(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64N(1e9)
	if s := os.Getenv(seedVariable); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: %s=%d", seedVariable, seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// Result is how a program ended.
type Result struct {
	Changes int  // that it made, or began: the one before which it was killed counts
	Killed  bool // by Run
	Code    int  // exit status; -1 after a signal
}

// Count runs cmd to its end. The test fails unless cmd succeeds, and makes a change.
func Count(t testing.TB, cmd *exec.Cmd) int {
	t.Helper()
	res := Run(t, cmd, 0)
	if res.Code != 0 || res.Changes == 0 {
		t.Fatalf("%s: exit status %d after %d changes", cmd, res.Code, res.Changes)
	}
	return res.Changes
}

// Run runs cmd, which has not been started, and kills it before its n-th change; with 0 it never
// does. Changes of all its threads count, and those of the process that it becomes in a user
// namespace, but not those of other programs that it starts. Output of cmd can only go to files.
// The test is skipped where programs cannot be traced.
func Run(t testing.TB, cmd *exec.Cmd, n int) Result {
	t.Helper()
	// A process is traced by a thread, not by a process (ptrace(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	attr.Ptrace = true
	cmd.SysProcAttr = &attr
	if err := cmd.Start(); errors.Is(err, unix.EPERM) {
		strict.Lack(t, "ptrace", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Release() }()
	r := &run{leader: cmd.Process.Pid, killAt: n, threads: map[int]*thread{}, processes: []int{cmd.Process.Pid}}
	res, err := r.trace()
	if err != nil {
		t.Fatalf("trace %s: %v", cmd, err)
	}
	return res
}

// run is a program that is traced.
type run struct {
	leader    int
	killAt    int
	changes   int
	killed    bool
	code      int
	threads   map[int]*thread // by id: those that are traced, or about to be
	processes []int           // that are killed
}

// thread is a thread that is traced.
type thread struct {
	flags   uint64 // of its last call of clone(2)
	stopped bool   // it waits for the word of its parent's stop whether it is traced
	known   bool   // that word came
}

// options make threads and children traced from their first moment on; all die with the tracer.
const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
	unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// trace follows the program to its end.
func (r *run) trace() (Result, error) {
	var status unix.WaitStatus
	if _, err := wait(r.leader, &status); err != nil {
		return Result{}, err
	}
	if !status.Stopped() {
		return Result{}, errors.New("the program did not start")
	}
	r.threads[r.leader] = &thread{known: true}
	if err := unix.PtraceSetOptions(r.leader, options); err != nil {
		return Result{}, err
	}
	resume(r.leader, 0)
	for {
		pid, err := wait(-1, &status)
		switch {
		case errors.Is(err, unix.ECHILD):
			return Result{r.changes, r.killed, r.code}, nil
		case err != nil:
			return Result{}, err
		case status.Stopped():
			r.stopped(pid, status)
		default:
			delete(r.threads, pid)
			if pid == r.leader {
				r.code = status.ExitStatus() // -1 after a signal
			}
		}
	}
}

// wait waits for a change of one of this thread's tracees, or of any with -1.
func wait(pid int, status *unix.WaitStatus) (int, error) {
	for {
		pid, err := unix.Wait4(pid, status, unix.WALL|unix.WNOTHREAD, nil)
		if !errors.Is(err, unix.EINTR) {
			return pid, err
		}
	}
}

// resume lets a thread go on to its next call, with a signal unless that is 0. One that was killed
// meanwhile cannot.
func resume(pid int, signal unix.Signal) { _ = unix.PtraceSyscall(pid, int(signal)) }

// stopped sees to a thread that has stopped.
func (r *run) stopped(pid int, status unix.WaitStatus) {
	th := r.threads[pid]
	if th == nil || !th.known { // the first stop of a new one
		r.threads[pid] = &thread{stopped: true}
		return
	}
	var signal unix.Signal
	switch s := status.StopSignal(); {
	case s == unix.SIGTRAP|0x80:
		r.call(pid, th)
	case s != unix.SIGTRAP:
		signal = s
	case status.TrapCause() == unix.PTRACE_EVENT_CLONE, status.TrapCause() == unix.PTRACE_EVENT_FORK, status.TrapCause() == unix.PTRACE_EVENT_VFORK:
		r.begun(pid, th)
	}
	resume(pid, signal)
}

// begun decides about what th has started. Other programs are not traced: a set-user-ID program has
// no rights then, and their moments are their own.
func (r *run) begun(pid int, th *thread) {
	msg, err := unix.PtraceGetEventMsg(pid)
	if err != nil {
		return
	}
	child := int(msg)
	first := r.threads[child]
	if th.flags&(unix.CLONE_THREAD|unix.CLONE_NEWUSER) == 0 {
		if first == nil {
			var status unix.WaitStatus
			_, _ = wait(child, &status)
		}
		delete(r.threads, child)
		_ = unix.PtraceDetach(child)
		return
	}
	if th.flags&unix.CLONE_NEWUSER != 0 {
		r.processes = append(r.processes, child)
	}
	if first == nil {
		var status unix.WaitStatus
		_, _ = wait(child, &status)
	}
	r.threads[child] = &thread{known: true}
	resume(child, 0)
}

// call sees to the beginning or the end of a system call.
func (r *run) call(pid int, th *thread) {
	nr, args, ok := entered(pid)
	if !ok {
		return
	}
	switch nr {
	case unix.SYS_CLONE:
		th.flags = args[0]
	case unix.SYS_CLONE3:
		th.flags, _ = peek(pid, args[0])
	}
	if !changes(pid, nr, args) {
		return
	}
	if r.changes++; r.changes == r.killAt {
		r.killed = true
		for _, pid := range r.processes {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
}
