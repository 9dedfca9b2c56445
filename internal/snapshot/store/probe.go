package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe calls try with an empty folder, in which it finds out what the file system can do, and
// returns what that returns, some words. These are noted down, so that it is not tried again on the
// same file system before the next start of the machine. Where there is no space to try anything it
// returns "": what is there is to be removed.
func (s *Store) Probe(try func(dir string) (string, error)) (result string, err error) {
	note := filepath.Join(s.dir, "probed")
	now, err := s.circumstances()
	if err != nil {
		return "", err
	}
	if before, err := os.ReadFile(note); err == nil {
		if result, ok := strings.CutPrefix(string(before), now); ok && strings.HasSuffix(result, "\n") { // half of it is not taken for the whole
			return strings.TrimSuffix(result, "\n"), nil
		}
	}
	if result, err = s.tryIn(try); err == nil {
		err = os.WriteFile(note, []byte(now+result+"\n"), 0o600)
	}
	if isFull(err) {
		return "", nil
	}
	return result, err
}

func (s *Store) tryIn(try func(dir string) (string, error)) (result string, err error) {
	part, err := s.New(context.Background(), "")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, part.Close()) }()
	return try(part.Dir())
}

// isFull reports whether an error is that the file system has no space, or its user may take none.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// circumstances returns what decides about the outcome of a probe: this start of the machine, and
// the file system.
func (s *Store) circumstances() (string, error) {
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err != nil {
		return "", wrapPath("stat", s.dir, err)
	}
	return fmt.Sprintf("boot %s\ndevice %d:%d\n", boot, unix.Major(st.Dev), unix.Minor(st.Dev)), nil
}
