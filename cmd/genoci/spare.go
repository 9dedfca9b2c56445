package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
)

// cacheHint is what the user can do about a cache folder that cannot be written.
const cacheHint = "make space there, or name a folder that can be written: --cache-dir DIR, or GENOCI_CACHE_DIR"

// sparingly runs run, which uses the cache folder *dir. Where that cannot be written, because its
// disk is full, or because it is read-only or somebody else's, it says so on messages, and runs run
// once more with an empty folder for temporary files in its place.
func sparingly(messages io.Writer, dir *string, run func() error) error {
	err := run()
	cause := unwritable(err, *dir)
	if cause == nil {
		return err
	}
	spare, tempErr := os.MkdirTemp("", "genoci-cache-")
	if tempErr != nil {
		return err
	}
	say(messages, "warning: %v; going on without the cache\n", cause)
	given := *dir
	*dir = spare
	err = run()
	*dir = given
	return errors.Join(err, beneath.RemovePath(spare))
}

// withSpareCache makes a command run sparingly. It must only read until it has used the cache.
func withSpareCache(cmd *cobra.Command, dir *string) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return sparingly(cmd.ErrOrStderr(), dir, func() error { return run(cmd, args) })
	}
	return cmd
}

// unwritable returns the error of the system, in err, that says why the cache folder cannot be
// written, or nil.
func unwritable(err error, given string) error {
	dir, dirErr := cacheDir(given)
	if err == nil || dirErr != nil {
		return nil
	}
	for _, e := range joined(err) {
		path, ok := errors.AsType[*fs.PathError](e)
		if !ok || path.Path != dir && !strings.HasPrefix(path.Path, dir+string(filepath.Separator)) {
			continue
		}
		for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES} {
			if errors.Is(path, errno) {
				return path
			}
		}
	}
	return nil
}

// hintWritable adds cacheHint to each of the errors that err is joined from, if it says that the
// cache folder cannot be written.
func hintWritable(err error, given string) error {
	if unwritable(err, given) == nil {
		return err
	}
	failures := joined(err)
	for i, e := range failures {
		if unwritable(e, given) != nil {
			failures[i] = withHint(e, cacheHint)
			if stepError(e) == nil { // nothing has begun
				failures[i] = withHint(lackingf("%w", e), cacheHint)
			}
		}
	}
	return errors.Join(failures...)
}
