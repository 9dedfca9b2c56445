package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// item is a file, folder or other entry that a copy puts into the image: Path is below the match.
type item struct {
	layer.Change
	inode string // what hard links have in common; ""
}

// match is one thing that the source of a copy names: itself, then what is in it.
type match struct {
	name  string
	items []item
}

// copy puts files of the host, of another image, or of the spec itself into the image.
func (s *step) copy(ctx context.Context, c *layer.Composer, op *spec.Copy, in *input) error {
	cp := &copying{op: op, c: c, epoch: s.n.epoch, realTimes: s.RealTimes, owner: &owner{}, first: map[string]string{}}
	var err error
	if op.Chown != "" {
		if cp.owner, err = lookupOwner(c, op.Chown); err != nil {
			return err
		}
	}
	var matches []match
	switch {
	case op.Content != nil:
		matches = []match{literal(*op.Content)}
	case op.From != "":
		matches, err = s.imageMatches(ctx, op)
	default:
		matches = hostMatches(in.matches)
	}
	if err != nil {
		return err
	}
	return cp.all(ctx, matches)
}

// literal is a file with the given content.
func literal(content string) match {
	f := layer.Change{Entry: layer.Entry{
		Path: ".", Type: layer.TypeFile, Mode: 0o644, Size: int64(len(content)), Digest: sha256.Sum256([]byte(content)),
	}}
	if content != "" {
		f.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
	}
	return match{name: "content", items: []item{{Change: f}}}
}

// hostMatches makes items of what the host has.
func hostMatches(found []source.Match) []match {
	matches := make([]match, len(found))
	for i, m := range found {
		matches[i] = match{name: m.Name, items: make([]item, len(m.Nodes))}
		for j := range m.Nodes {
			matches[i].items[j] = hostItem(&m.Nodes[j])
		}
	}
	return matches
}

func hostItem(n *source.Node) item {
	it := item{inode: n.Inode, Change: layer.Change{Entry: layer.Entry{
		Path: n.Rel, Mode: modeBits(n.Mode), Size: n.Size, Link: n.Link, MTime: n.MTime, Xattrs: n.Xattrs,
	}}}
	switch n.Mode.Type() {
	case fs.ModeDir:
		it.Type = layer.TypeDir
	case fs.ModeSymlink:
		it.Type, it.Mode = layer.TypeSymlink, 0o777
	case fs.ModeNamedPipe:
		it.Type = layer.TypeFIFO
	default:
		it.Type, it.Digest = layer.TypeFile, n.Digest
		if !n.Known() {
			it.Origin = n // whose digest is learned when the layer is made
		}
		if n.Size > 0 {
			it.Open = n.Open
		}
	}
	return it
}

// copying is a copy on its way into the image.
type copying struct {
	op        *spec.Copy
	c         *layer.Composer
	owner     *owner
	epoch     int64
	realTimes bool
	first     map[string]string // where the first name of a hard linked file was put
}

// all places the matches: as DEST, or into DEST where that is a folder, ends in a slash, or has to hold several.
func (cp *copying) all(ctx context.Context, matches []match) error {
	dest := clean(cp.op.Dest)
	real, err := cp.c.Resolve(dest, true)
	if err != nil {
		return err
	}
	e, exists, err := cp.c.Lookup(real)
	if err != nil {
		return err
	}
	isDir := exists && e.Type == layer.TypeDir
	into := isDir || dest == "." || strings.HasSuffix(cp.op.Dest, "/") || len(matches) > 1
	if into && exists && !isDir {
		return fmt.Errorf("%s is no folder in the image", cp.op.Dest)
	}
	if isDir {
		dest = real
	}
	if into && cp.op.Content != nil {
		return fmt.Errorf("content needs the name of a file as dest, %s is a folder", cp.op.Dest)
	}
	for _, m := range matches {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch top := m.items[0]; {
		case top.Type == layer.TypeDir:
			err = cp.content(ctx, m, dest)
		case into && m.name == "":
			err = fmt.Errorf("the path of the URL does not end in the name of a file, and dest is a folder: write the name there, as in %s", path.Join(cp.op.Dest, "file"))
		case into:
			err = cp.put(top, path.Join(dest, m.name))
		default:
			err = cp.put(top, dest)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// content puts what is in the folder m into the folder dest. Folders that the image has already stay as they are.
func (cp *copying) content(ctx context.Context, m match, dest string) error {
	top := m.items[0]
	top.Mode = 0o755
	if err := cp.folder(top, dest); err != nil {
		return err
	}
	for _, it := range m.items[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := path.Join(dest, it.Path)
		var err error
		if it.Type == layer.TypeDir {
			err = cp.folder(it, to)
		} else {
			err = cp.put(it, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// folder makes a folder unless there is one, or a symlink to one.
func (cp *copying) folder(it item, dest string) error {
	real, err := cp.c.Resolve(dest, true)
	if err != nil {
		return err
	}
	if e, ok, err := cp.c.Lookup(real); err != nil || ok && e.Type == layer.TypeDir {
		return err
	}
	return cp.put(it, dest)
}

func (cp *copying) put(it item, dest string) error {
	if first, ok := cp.first[it.inode]; ok && it.inode != "" {
		return cp.c.Link(dest, first, it.Open)
	}
	ch := it.Change
	ch.Path = dest
	ch.UID, ch.GID = cp.owner.uid, cp.owner.gid
	if !cp.realTimes {
		ch.MTime = cp.epoch
	}
	if m := cp.op.Chmod; m != nil && ch.Type != layer.TypeSymlink {
		ch.Mode = *m
		if ch.Type == layer.TypeDir {
			ch.Mode |= (*m & 0o444) >> 2 // a folder that may be read may be entered
		}
	}
	if it.inode != "" {
		cp.first[it.inode] = dest
	}
	return cp.c.Put(ch)
}

// imageMatches finds what a copy reads from another image. The content that is needed comes out of
// the image's layers, each of which is read once, into a temporary file.
func (s *step) imageMatches(ctx context.Context, op *spec.Copy) ([]match, error) {
	img, err := s.fromImage(s.nodes, s.n, op.From)
	if err != nil {
		return nil, err
	}
	view, err := s.view(ctx, stackOf(img))
	if err != nil {
		return nil, err
	}
	paths, err := viewMatches(view, op.Src)
	if err != nil {
		return nil, err
	}
	spool, err := s.tempFile()
	if err != nil {
		return nil, err
	}
	x := &imagefs.Extraction{Store: s.images(), View: view, Layers: img.Manifest.Layers, Spool: spool}
	exclude := source.NewGlobs(op.Exclude)
	var matches []match
	for _, p := range paths {
		m := match{name: path.Base(p)}
		var way []item // folders around what is next that are excluded, and come along with what is excepted in them
		err := layer.Walk(view, p, func(e layer.Entry) (bool, error) {
			it := item{Change: layer.Change{Entry: e}}
			it.Path, it.Group = layer.Rel(p, e.Path), ""
			for len(way) > 0 && !strings.HasPrefix(it.Path, way[len(way)-1].Path+"/") {
				way = way[:len(way)-1]
			}
			if it.Path != "." && exclude.Match(it.Path) {
				way = append(way, it)
				return exclude.ExceptsBelow(it.Path), nil
			}
			it.Open, it.inode = x.Want(e)
			m.items = append(append(m.items, way...), it)
			way = nil
			return true, nil
		})
		if err != nil {
			return nil, err
		}
		matches = append(matches, m)
	}
	return matches, x.Extract(ctx)
}

// viewMatches returns the paths of a tree that match a path or glob: at least one. A symlink that is named
// itself is followed.
func viewMatches(view layer.View, pattern string) ([]string, error) {
	if p := clean(pattern); !source.IsGlob(pattern) {
		real, err := layer.Resolve(view, p, true)
		if err != nil {
			return nil, err
		}
		if _, ok, err := view.Lookup(real); err != nil {
			return nil, err
		} else if !ok {
			return nil, &fs.PathError{Op: "find", Path: "/" + p, Err: fs.ErrNotExist}
		}
		return []string{real}, nil
	}
	found, err := globView(view, pattern)
	if err == nil && len(found) == 0 {
		err = &fs.PathError{Op: "match", Path: pattern, Err: fs.ErrNotExist}
	}
	return found, err
}

// globView returns the paths of a tree that match a glob, each as it is named there. What is below a
// match is not looked at.
func globView(view layer.View, pattern string) ([]string, error) {
	if err := source.CheckGlob(pattern); err != nil {
		return nil, err
	}
	start := clean(pattern)
	for source.IsGlob(start) {
		start = path.Dir(start)
	}
	var found []string
	err := layer.Walk(view, start, func(e layer.Entry) (bool, error) {
		if e.Path != "." && source.MatchPath(pattern, e.Path) {
			found = append(found, e.Path)
			return false, nil
		}
		return true, nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return found, err
}

// keepXattr reports whether a copy takes an extended attribute of a file of the host along: all that layers keep but POSIX ACLs, which
// name users of the host, as its owner does.
func keepXattr(name string) bool { return layer.KeepXattr(name) && !strings.HasPrefix(name, "system.") }

// modeBits are the permissions of a file as an Entry has them.
func modeBits(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}
