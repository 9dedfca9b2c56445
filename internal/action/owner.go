package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"genoci/internal/imagefs"
	"genoci/internal/layer"
)

// owner is a user and a group as numbers.
type owner struct{ uid, gid int }

// lookupOwner reads USER[:GROUP]: names of the image's own passwd(5) and group(5), or numbers. The
// group of a user without GROUP is that of passwd, or for a number that is not there the number.
func (s *Stage) lookupOwner(ctx context.Context, view layer.View, name string) (*owner, error) {
	user, group, hasGroup := strings.Cut(name, ":")
	uid, primary, err := s.lookupName(ctx, view, "etc/passwd", user, "user")
	if err != nil {
		return nil, err
	}
	o := &owner{uid: uid, gid: primary}
	if hasGroup {
		if o.gid, _, err = s.lookupName(ctx, view, "etc/group", group, "group"); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// lookupName finds a name or number in a file of passwd's form, and returns the numbers in its
// third and fourth field; a number that is not there stands for itself.
func (s *Stage) lookupName(ctx context.Context, view layer.View, file, name, what string) (id, primary int, err error) {
	number, numErr := strconv.ParseUint(name, 10, 31)
	content, err := s.readFile(ctx, view, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	for line := range bytes.Lines(content) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) < 4 {
			continue
		}
		third, err := strconv.Atoi(f[2])
		if err != nil || f[0] != name && (numErr != nil || third != int(number)) {
			continue
		}
		fourth, _ := strconv.Atoi(f[3]) // in group(5) the list of members
		return third, fourth, nil
	}
	if numErr == nil {
		return int(number), int(number), nil
	}
	return 0, 0, fmt.Errorf("chown: the image has no %s %q in /%s", what, name, file)
}

// readFile returns the content of a file of the tree that the step makes, up to maxAccounts.
// Symlinks are followed, inside the tree. view is the tree as it is now; what that does not hold
// the content of is read from the layers below the step. The error wraps fs.ErrNotExist where there
// is no file.
func (s *Stage) readFile(ctx context.Context, view layer.View, path string) ([]byte, error) {
	real, err := layer.Resolve(view, path, true)
	if err != nil {
		return nil, err
	}
	content, err := view.ReadFile(real)
	if !errors.Is(err, fs.ErrNotExist) {
		return content, err
	}
	e, ok, lookErr := view.Lookup(real)
	switch {
	case lookErr != nil:
		return nil, lookErr
	case !ok || e.Type != layer.TypeFile || e.Size == 0:
		return nil, err
	case e.Size > maxAccounts:
		return nil, &fs.PathError{Op: "read", Path: "/" + real, Err: syscall.EFBIG}
	}
	below, err := s.Below(ctx)
	if err != nil {
		return nil, err
	}
	x := &imagefs.Extraction{Store: s.Images, View: below.View, Layers: below.Layers}
	if x.Spool, err = s.tempFile(); err != nil {
		return nil, err
	}
	open, _ := x.Want(e)
	if err := x.Extract(ctx); err != nil {
		return nil, err
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// maxAccounts is the size up to which a file of accounts is read.
const maxAccounts = 16 << 20
