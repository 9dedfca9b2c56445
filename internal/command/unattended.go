package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrQuestion says that a package asked a question, which nobody answers.
var ErrQuestion = errors.New("a package asked a question, and nobody can answer it")

// maxAsking is how long a command may go on asking, in a row of seconds in each of which it does.
const maxAsking = 5

// RunUnattended is Run for a command that may ask questions: of packages, or of those who install
// them. The end of its standard input is all the answer that it gets. An error wraps ErrQuestion
// where the command failed after it had asked, or asks over and over.
func (c *Command) RunUnattended(ctx context.Context) error {
	in, err := openEmptyInput()
	if err != nil {
		return err
	}
	defer in.file.Close()
	c.Cmd.Stdin = in.file
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if in.insisted(ctx) {
			cancel(ErrQuestion)
		}
	}()
	err = c.Run(ctx)
	cancel(nil)
	<-done
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), ErrQuestion):
		return fmt.Errorf("%w, over and over", ErrQuestion)
	case in.wasRead() || slices.ContainsFunc(c.out.Tail(), func(line string) bool { return strings.Contains(line, "/dev/tty") }):
		return fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	return err
}

// emptyInput is a file without content that tells when it was read last: as /dev/null, but for
// that.
type emptyInput struct {
	file *os.File
	made unix.Timespec
}

func openEmptyInput() (*emptyInput, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	in := &emptyInput{file: os.NewFile(uintptr(fd), "stdin")}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		in.file.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	// Whatever the clock says, a time of reading is another one.
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), make([]unix.Timespec, 2), 0); err != nil {
		in.file.Close()
		return nil, os.NewSyscallError("utimensat", err)
	}
	in.made = in.lastRead()
	return in, nil
}

// lastRead returns the time at which the file was read last.
func (in *emptyInput) lastRead() unix.Timespec {
	var st unix.Stat_t
	if err := unix.Fstat(int(in.file.Fd()), &st); err != nil {
		return in.made
	}
	return st.Atim
}

func (in *emptyInput) wasRead() bool { return in.lastRead() != in.made }

// insisted waits until the file was read again in each of maxAsking seconds one after the other,
// and returns true; or false when ctx ends.
func (in *emptyInput) insisted(ctx context.Context) bool {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := in.made
	for seconds := 0; seconds < maxAsking; {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		now := in.lastRead()
		if seconds++; now == last {
			seconds = 0
		}
		last = now
	}
	return true
}
