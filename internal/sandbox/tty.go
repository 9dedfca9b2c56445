package sandbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// openTTY makes a terminal in the devpts of the command, sends the master side over conn, and
// returns the other side, which belongs to the command's user as after login(1).
func openTTY(conn *os.File, uid int) (uintptr, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return 0, err
	}
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	tty, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return 0, errno
	}
	if err := unix.Fchown(int(tty), uid, -1); err != nil {
		return 0, err
	}
	return tty, unix.Sendmsg(int(conn.Fd()), []byte{0}, unix.UnixRights(master), nil, 0)
}

// receiveTTY returns what openTTY sent. Where the init process failed before that, it returns no
// terminal. What follows on the connection is to be read from the reader.
func receiveTTY(conn *os.File) (*os.File, io.Reader, error) {
	first, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(int(conn.Fd()), first, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, os.NewSyscallError("recvmsg", err)
	}
	if oobn == 0 {
		return nil, io.MultiReader(bytes.NewReader(first[:n]), conn), nil
	}
	messages, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err != nil {
		return nil, nil, os.NewSyscallError("recvmsg", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, nil, os.NewSyscallError("recvmsg", err)
	}
	return os.NewFile(uintptr(fds[0]), "/dev/ptmx"), conn, nil
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
