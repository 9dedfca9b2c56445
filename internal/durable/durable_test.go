package durable

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"genoci/test/strict"
)

// A lock keeps others out, of this process too, until Unlock; shared ones go together.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	one, err := LockPath(t.Context(), dir, Shared)
	strict.Must(t, err)
	two, err := TryLockPath(dir, Shared)
	strict.Must(t, err)
	if _, err := TryLockPath(dir, Exclusive); !errors.Is(err, ErrLocked) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	Unlock(one)
	got := make(chan error)
	go func() {
		f, err := LockPath(t.Context(), dir, Exclusive)
		if err == nil {
			Unlock(f)
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("exclusive beside shared: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	Unlock(two)
	strict.Must(t, <-got)
	if _, err := LockPath(t.Context(), filepath.Join(dir, "none"), Shared); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
}

// A wait ends with its context, and what it brings after that is let go.
func TestLockEnds(t *testing.T) {
	dir := t.TempDir()
	held, err := TryLockPath(dir, Exclusive)
	strict.Must(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := LockPath(ctx, dir, Shared); !errors.Is(err, cause) {
		t.Errorf("LockPath: %v", err)
	}
	if _, err := LockWithin(ctx, dir, Shared, time.Hour); !errors.Is(err, cause) {
		t.Errorf("LockWithin: %v", err)
	}
	Unlock(held)
	f, err := LockPath(t.Context(), dir, Exclusive)
	strict.Must(t, err)
	Unlock(f)
}

// LockWithin waits for as long as it is told.
func TestLockWithin(t *testing.T) {
	dir := t.TempDir()
	held, err := TryLockPath(dir, Exclusive)
	strict.Must(t, err)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if _, err := LockWithin(t.Context(), dir, Shared, time.Minute); !errors.Is(err, ErrLocked) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("it took %v", took)
		}
		go func() {
			time.Sleep(time.Second)
			Unlock(held)
		}()
		f, err := LockWithin(t.Context(), dir, Shared, time.Minute)
		strict.Must(t, err)
		Unlock(f)
	})
}

// A child process that has a copy of the descriptor does not keep the lock.
func TestUnlockDespiteChild(t *testing.T) {
	dir := t.TempDir()
	f, err := TryLockPath(dir, Exclusive)
	strict.Must(t, err)
	child := exec.Command("sleep", "60")
	child.ExtraFiles = []*os.File{f}
	strict.Must(t, child.Start())
	defer func() { _, _ = child.Process.Kill(), child.Wait() }()
	Unlock(f)
	f, err = TryLockPath(dir, Exclusive)
	strict.Must(t, err)
	Unlock(f)
}

// Readers see the old content or the new one, however many processes write, and nothing else is
// left.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	a, b := strings.Repeat("a", 100_000), strings.Repeat("b", 100_000)
	strict.Must(t, WriteFile(path, []byte(a), 0o644, SyncName))
	var wg sync.WaitGroup
	for _, text := range []string{a, b, a, b} {
		wg.Go(func() {
			for range 50 {
				if err := WriteFile(path, []byte(text), 0o640, NoSync); err != nil {
					t.Error(err)
				}
				got, err := os.ReadFile(path)
				if s := string(got); err != nil || s != a && s != b {
					t.Errorf("%d bytes, %v", len(s), err)
				}
			}
		})
	}
	wg.Wait()
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	only(t, dir, "f")

	if err := WriteFile(filepath.Join(dir, "none", "f"), nil, 0o600, NoSync); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	strict.Must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "d/x"), nil, 0o644))
	if err := WriteFile(filepath.Join(dir, "d"), []byte(a), 0o600, NoSync); err == nil {
		t.Error("a file took the place of a folder")
	}
	only(t, dir, "d", "f")
}

// Whoever removes temporary files without a lock never takes that of a live process from it.
func TestCreateTempMeetsCleaner(t *testing.T) {
	dir := t.TempDir()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				f, err := TryLockPath(filepath.Join(dir, e.Name()), Exclusive)
				if err != nil || !IsTemp(e.Name()) {
					continue
				}
				_ = os.Remove(f.Name())
				Unlock(f)
			}
		}
	})
	for range 300 {
		f, err := CreateTemp(dir, 0o644)
		strict.Must(t, err)
		if !Linked(f.File) {
			t.Error("it is gone")
		}
		strict.Must(t, f.Drop())
	}
	close(stop)
	wg.Wait()
	only(t, dir)
}

// What a killed process has left is taken by the next one.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	strict.Must(t, os.WriteFile(path+".new", []byte("much more than what is written now"), 0o600), Replace(path, []byte("new")))
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	only(t, dir, "f")
}

func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	strict.Must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the folder has %q, want %q", got, want)
	}
}
