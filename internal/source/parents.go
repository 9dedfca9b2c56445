package source

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Around returns the folder of which nothing is kept of the path that src is, where a copy keeps
// the folders around what it takes: what stands before "/./", or else the folder of the spec, or
// the root.
func Around(src string) string {
	before, _, ok := strings.Cut(src, "/./")
	switch {
	case ok:
		return before + "/"
	case strings.HasPrefix(src, "/"):
		return "/"
	default:
		return ""
	}
}

// WithParents completes what List found for src by the folders around each match: their names
// become a part of its name.
func (s *Source) WithParents(src string, matches []Match) error {
	root := s.Abs(Around(src))
	for i := range matches {
		m := &matches[i]
		name, err := filepath.Rel(root, m.Path)
		if err != nil {
			return err
		}
		if name == ".." || strings.HasPrefix(name, "../") {
			return fmt.Errorf("%s is not below %s, so parents cannot keep its folders: put /./ into src before those to keep", m.Path, root)
		}
		m.Name = name
		for j := range name {
			if name[j] != '/' {
				continue
			}
			n, err := s.parent(root, name[:j])
			if err != nil {
				return err
			}
			m.Parents = append(m.Parents, n)
		}
	}
	return nil
}

// parent describes the folder called name below root, which may be a symlink to one.
func (s *Source) parent(root, name string) (Node, error) {
	n := Node{Rel: name, Path: filepath.Join(root, name)}
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Stat(n.Path, &st) }); err != nil {
		return n, &fs.PathError{Op: "stat", Path: n.Path, Err: err}
	}
	n.Mode, n.MTime = fileMode(st.Mode), st.Mtim.Sec
	if s.GitModes {
		n.Mode = gitMode(n.Mode)
	}
	return n, nil
}
