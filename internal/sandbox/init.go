package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// initProcess is process 1 of a command's namespaces. Orphans become its children, and when it
// ends, the kernel kills all that is left. It does nothing: what it ignores, its children's ends,
// the kernel takes as waited for.
type initProcess struct {
	pid  int
	conn *os.File // at its other end, the process waits
	proc int      // context of fsopen(2) of a proc that shows the namespaces' processes
}

// initCalls are what the init process does.
func initCalls() *calls {
	const closed = 0 // of the standard files, which it has not; the next one to be opened gets the number
	c := &calls{}
	// What ps(1) shows; it would be the number of the descriptor that was executed.
	c.add("prctl PR_SET_NAME", unix.SYS_PRCTL, unix.PR_SET_NAME, c.text("genoci-init"))
	// A command that runs as root is not to trace the process.
	c.add("prctl PR_SET_DUMPABLE", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	c.add("close_range", unix.SYS_CLOSE_RANGE, callsFD+1, math.MaxUint32, 0)
	const ignore, setSize = 1, 8 // SIG_IGN, and the size of struct sigaction's set in bytes
	c.add("rt_sigaction", unix.SYS_RT_SIGACTION, uint64(unix.SIGCHLD), c.words(ignore, 0, 0, 0), 0, setSize)
	c.add("fsopen", unix.SYS_FSOPEN, c.text("proc"), unix.FSOPEN_CLOEXEC)
	// A struct msghdr (recvmsg(2)), with one byte and the descriptor.
	rights := unix.UnixRights(closed)
	bytes := c.words(c.text("p"), 1)
	message := c.words(0, 0, bytes, 1, c.put(rights), uint64(len(rights)), 0)
	c.add("sendmsg", unix.SYS_SENDMSG, callsFD, message, 0)
	c.add("close", unix.SYS_CLOSE, closed)
	c.wait(callsFD, 1)
	return c
}

// startInit starts the init process in the namespaces of this thread. It is killed when the thread
// ends.
func startInit() (*initProcess, error) {
	pid, conn, err := initCalls().startBare("genoci-init", &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL})
	if err != nil {
		return nil, fmt.Errorf("start in new namespaces: %w", err)
	}
	p := &initProcess{pid: pid, conn: conn, proc: -1}
	if p.proc, err = p.receive(); err != nil {
		p.end()
		return nil, fmt.Errorf("start in new namespaces: %w", err)
	}
	return p, nil
}

// receive receives the descriptor that the process sends, or its failure.
func (p *initProcess) receive() (int, error) {
	report, rights := make([]byte, reportSize), make([]byte, unix.CmsgSpace(4))
	n, rightsLen, _, _, err := unix.Recvmsg(int(p.conn.Fd()), report, rights, unix.MSG_CMSG_CLOEXEC)
	switch {
	case err != nil:
		return -1, os.NewSyscallError("recvmsg", err)
	case n == 0:
		return -1, errors.New("the init process died")
	case rightsLen == 0:
		return -1, initCalls().failure(report[:n])
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rightsLen])
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	return fds[0], nil
}

// kill kills the process, and so all that is in its namespaces.
func (p *initProcess) kill() { _ = unix.Kill(p.pid, unix.SIGKILL) }

// end kills the process, and waits until it is gone.
func (p *initProcess) end() {
	p.kill()
	reap(p.pid)
	unix.Close(p.proc)
	p.conn.Close()
}

// reap waits for a child.
func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// loopbackUp brings up the loopback device of the thread's network namespace (netdevice(7)).
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
