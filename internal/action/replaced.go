package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/layer"
	"genoci/internal/spec"
)

// placed are the files and symlinks that ops of a step put into its tree before packages are
// installed.
type placed struct {
	files []layer.Change
	open  map[string]layer.Opener // of hard link groups, by group
}

// Put notes changes that were put into the tree. later are the actions that come after those which
// made them.
func (s *Stage) Put(changes []layer.Change, later []Action) {
	if installs(later) {
		s.put.add(changes)
	}
}

func (p *placed) add(changes []layer.Change) {
	for _, c := range changes {
		by, ok := c.By.(*spec.Action)
		if !ok || c.Type != layer.TypeFile && c.Type != layer.TypeSymlink {
			continue
		}
		// An archive that is expanded may be the system that packages belong to.
		if _, ok := by.Op.(*spec.Copy); !ok {
			continue
		}
		if c.Group != "" && c.Open != nil {
			if p.open == nil {
				p.open = map[string]layer.Opener{}
			}
			p.open[c.Group] = c.Open
		} else if c.Group != "" {
			c.Open = p.open[c.Group]
		}
		p.files = append(p.files, c)
	}
}

// maxNamed is how many paths a warning names.
const maxNamed = 5

// warnReplaced warns of files that copies of the step put into the tree, and that the installation
// a, begun at that time, replaced or removed.
func (s *Stage) warnReplaced(ctx context.Context, a spec.Action, begin time.Time) error {
	put := &s.put
	if len(put.files) == 0 {
		return nil
	}
	dir, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	lost := map[*spec.Action][]string{}
	var order []*spec.Action
	var left []layer.Change // what is lost is told once
	for _, c := range put.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		same, err := isStill(int(dir.Fd()), c, begin)
		if err != nil {
			return err
		}
		if same {
			left = append(left, c)
			continue
		}
		by := c.By.(*spec.Action)
		if lost[by] == nil {
			order = append(order, by)
		}
		lost[by] = append(lost[by], "/"+c.Path)
	}
	put.files = left
	for _, by := range order {
		paths := lost[by]
		more := ""
		if n := len(paths) - maxNamed; n > 0 {
			paths, more = paths[:maxNamed], fmt.Sprintf(" and %d more", n)
		}
		s.Warn(fmt.Sprintf(
			"%s: %s replaced %s%s, which %s (%s) had put there; in steps, write the copy after the install to keep what is copied",
			s.Place(a), a.Op, strings.Join(paths, ", "), more, by.Op, s.Place(*by)))
	}
	return nil
}

// accounts are files that packages add their users to.
var accounts = []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid"}

// isStill reports whether what was put into the tree with the open root folder is there, whatever
// its mode and owner. Text that was only added at the end counts as there, and so do users that
// packages add. What did not change since begin, by the kernel's record, is not read.
func isStill(root int, c layer.Change, begin time.Time) (bool, error) {
	fd, err := beneath.Open(root, c.Path, unix.O_PATH|unix.O_NOFOLLOW, beneath.NoSymlinks)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP): // a parent may be a symlink now
		return false, nil
	case err != nil:
		return false, &fs.PathError{Op: "open", Path: c.Path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, &fs.PathError{Op: "stat", Path: c.Path, Err: err}
	}
	switch {
	case time.Unix(st.Ctim.Unix()).Before(begin), slices.Contains(accounts, strings.TrimSuffix(c.Path, "-")):
		return true, nil
	case c.Type == layer.TypeSymlink:
		link := make([]byte, len(c.Link)+1)
		n, err := unix.Readlinkat(fd, "", link)
		return err == nil && string(link[:n]) == c.Link, nil
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size < c.Size:
		return false, nil
	case c.Open == nil || c.Size == 0:
		return st.Size == 0, nil
	}
	return beginsWith(fmt.Sprintf("/proc/self/fd/%d", fd), c.Open)
}

// beginsWith reports whether the file of that name begins with what open gives.
func beginsWith(name string, open layer.Opener) (bool, error) {
	is, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer is.Close()
	was, err := open()
	if err != nil {
		return false, err
	}
	defer was.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(was, a)
		if n > 0 {
			if _, err := io.ReadFull(is, b[:n]); err != nil || !bytes.Equal(a[:n], b[:n]) {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}
