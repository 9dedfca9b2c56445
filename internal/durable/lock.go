// Package durable writes files in one step, and locks files and folders, so that neither a crash
// nor another process sees half of a change. It never removes what it has not made itself.
package durable

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Mode says who may have a lock at the same time.
type Mode int

// The modes of flock(2).
const (
	Shared    Mode = unix.LOCK_SH // any number of those who want it shared
	Exclusive Mode = unix.LOCK_EX // nobody else
)

// ErrLocked is wrapped where somebody else has a lock: another process, or another part of this
// one.
const ErrLocked = unix.EWOULDBLOCK

// TryLock locks an open file or folder without waiting. The lock ends when f is closed, or with the
// process, unless a child process has a copy of the descriptor (see Unlock). Each opening of a path
// has a lock of its own. The error wraps ErrLocked.
func TryLock(f *os.File, mode Mode) error {
	return pathError("lock", f.Name(), flock(f, int(mode)|unix.LOCK_NB))
}

// Lock is TryLock, but waits for the lock until ctx ends; the error then wraps the cause. When it
// fails, f is closed.
func Lock(ctx context.Context, f *os.File, mode Mode) error {
	err := flock(f, int(mode)|unix.LOCK_NB)
	if errors.Is(err, ErrLocked) {
		return wait(ctx, f, mode)
	}
	if err != nil {
		f.Close()
	}
	return pathError("lock", f.Name(), err)
}

// wait waits for a lock that somebody has.
func wait(ctx context.Context, f *os.File, mode Mode) error {
	var err error
	done := make(chan struct{})
	go func() {
		err = flock(f, int(mode))
		close(done)
	}()
	select {
	case <-done:
		if err != nil {
			f.Close()
		}
		return pathError("lock", f.Name(), err)
	case <-ctx.Done():
		go func() { // flock(2) cannot be called off: what it still brings is let go
			<-done
			Unlock(f)
		}()
		return pathError("lock", f.Name(), context.Cause(ctx))
	}
}

// TryLockPath opens the file or folder at path, and locks it without waiting, as TryLock does.
// Unlock ends that.
func TryLockPath(path string, mode Mode) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := TryLock(f, mode); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// LockPath is TryLockPath, but waits for the lock until ctx ends.
func LockPath(ctx context.Context, path string, mode Mode) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := Lock(ctx, f, mode); err != nil {
		return nil, err
	}
	return f, nil
}

// LockWithin is LockPath, but gives up after d: the error then wraps ErrLocked.
func LockWithin(ctx context.Context, path string, mode Mode, d time.Duration) (*os.File, error) {
	const pause = 10 * time.Millisecond
	for end := time.Now().Add(d); ; {
		f, err := TryLockPath(path, mode)
		if !errors.Is(err, ErrLocked) || time.Now().After(end) {
			return f, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, pathError("lock", path, context.Cause(ctx))
		}
	}
}

// Unlock ends the lock of f at once, and closes it. Closing alone would leave the lock to a child
// process that is just being started, until that executes its program. Nothing was written through
// f, and nobody could act on an error.
func Unlock(f *os.File) {
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

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
