package sandbox

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// openTTY makes a terminal in the devpts of the command, and returns both sides; tty belongs to the
// command's user, as after login(1).
func (s *stage) openTTY(uid int) (master, tty *os.File, err error) {
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Openat(s.nodes, "pts/ptmx", flags, 0)
	if err != nil {
		return nil, nil, err
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	tty, err = peer(fd)
	if err == nil {
		err = unix.Fchown(int(tty.Fd()), uid, -1)
	}
	if err != nil {
		master.Close()
		if tty != nil {
			tty.Close()
		}
		return nil, nil, err
	}
	return master, tty, nil
}

// peer unlocks and opens the other side of a terminal (ioctl_tty(2)).
func peer(master int) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(fd, "/dev/tty"), nil
}

// relay joins the command's terminal with Stdin and Stdout. The function that it returns is to be
// called when the command has ended: it waits for the last output and restores the caller's
// terminal.
func (c *Cmd) relay(master *os.File) (end func()) {
	var output sync.WaitGroup
	output.Go(func() {
		stdout := c.Stdout
		if stdout == nil {
			stdout = io.Discard
		}
		_, _ = io.Copy(stdout, master) // ends by EIO when no process has the terminal open any more
	})
	stdin, ok := c.Stdin.(*os.File)
	if !ok {
		if c.Stdin != nil {
			go feed(master, c.Stdin)
		}
		return func() { output.Wait(); master.Close() }
	}

	restore := makeRaw(int(stdin.Fd()))
	resized := followSize(stdin, master)
	wake, ended, err := os.Pipe()
	var input sync.WaitGroup
	if err == nil {
		input.Go(func() { feed(master, &untilReader{stdin, wake}) })
	}
	return func() {
		output.Wait()
		ended.Close()
		input.Wait()
		wake.Close()
		resized()
		restore()
		master.Close()
	}
}

// endOfInput is what a terminal takes for the end of the input (VEOF, termios(3)).
const endOfInput = 4

// feed copies r to the terminal.
func feed(master *os.File, r io.Reader) {
	if _, err := io.Copy(master, r); err == nil {
		_, _ = master.Write([]byte{endOfInput}) // fails when nobody reads any more
	}
}

// untilReader reads a file until the other one can be read or is at its end. It so never holds a
// byte that comes later.
type untilReader struct{ file, end *os.File }

func (r *untilReader) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(r.file.Fd()), Events: unix.POLLIN}, {Fd: int32(r.end.Fd()), Events: unix.POLLIN}}
	for {
		switch _, err := unix.Poll(fds, -1); {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("poll", err)
		case fds[1].Revents != 0:
			return 0, os.ErrClosed
		case fds[0].Revents != 0:
			return r.file.Read(p)
		}
	}
}

// makeRaw puts a terminal into the raw mode of cfmakeraw(3), and returns how to undo that. It does
// nothing with what is no terminal.
func makeRaw(fd int) (restore func()) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }
}

// followSize gives the terminal to the size of from, now and whenever that changes, until stop is
// called.
func followSize(from, to *os.File) (stop func()) {
	resize := func() error {
		size, err := unix.IoctlGetWinsize(int(from.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			return err
		}
		return unix.IoctlSetWinsize(int(to.Fd()), unix.TIOCSWINSZ, size)
	}
	if err := resize(); errors.Is(err, unix.ENOTTY) {
		return func() {}
	}
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	var following sync.WaitGroup
	following.Go(func() {
		for range changes {
			_ = resize() // fails when the command has ended
		}
	})
	return func() {
		signal.Stop(changes)
		close(changes)
		following.Wait()
	}
}
