package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
)

// View returns the snapshot name as a read-only tree, which mount has to show in the folder dir
// from the part's lowers. The part has no data of its own.
func (s *Store) View(ctx context.Context, name string, mount func(p *Part, dir string) error) (snapshot.Tree, error) {
	if _, err := s.link(name); err != nil {
		return nil, err
	}
	p, err := s.New(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &view{part: p, dir: filepath.Join(p.Dir(), "root")}
	err = os.Mkdir(v.dir, 0o700)
	if err == nil {
		err = mount(p, v.dir)
	}
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	return v, nil
}

type view struct {
	part   *Part
	dir    string
	closed bool
}

var _ snapshot.Tree = (*view)(nil)

func (v *view) Dir() string { return v.dir }

func (v *view) Commit(context.Context, string) error {
	return &fs.PathError{Op: "commit", Path: v.dir, Err: unix.EROFS}
}

func (v *view) Keep(context.Context, string, []byte) error {
	return &fs.PathError{Op: "keep", Path: v.dir, Err: unix.EROFS}
}

func (v *view) Close() error {
	if v.closed {
		return nil
	}
	v.closed = true
	return errors.Join(mounts.Detach(v.dir), v.part.Close())
}
