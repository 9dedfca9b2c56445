package layout

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock opens the file or folder at path and locks it; how is unix.LOCK_SH or LOCK_EX. With LOCK_NB the error wraps
// unix.EWOULDBLOCK where someone else has it, else lock waits until ctx ends. Each lock has an open file description of its
// own, so that it holds against the goroutines of this process too.
func lock(ctx context.Context, path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err = flock(f, how|unix.LOCK_NB); err == nil {
		return f, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) || how&unix.LOCK_NB != 0 {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	done := make(chan struct{})
	go func() {
		err = flock(f, how)
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		go func() { // flock(2) cannot be called off: what it still brings is let go
			<-done
			unlock(f)
		}()
		return nil, &os.PathError{Op: "lock", Path: path, Err: context.Cause(ctx)}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// unlock releases a lock at once, even if a child process that is just being started still has a copy of the descriptor.
// Nothing was written through it, and nobody could act on an error.
func unlock(f *os.File) {
	_ = flock(f, unix.LOCK_UN)
	f.Close()
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
