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

	"genoci/internal/layer"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// expand puts the entries of an archive into the image. A folder of the archive goes into a symlink
// to a folder that the image has at its place, so that an archive with lib/ does not break a base in
// which /lib is a symlink.
func (s *step) expand(ctx context.Context, c *layer.Composer, op *spec.Expand, in *input) error {
	a, err := s.readArchive(ctx, &in.archive)
	if err != nil {
		return err
	}
	if a.Behind >= 0 {
		where := fmt.Sprintf("byte %d", a.Behind)
		if a.Compression.Name != "none" {
			where += " (after " + a.Compression.Name + ")"
		}
		s.report(Event{Kind: Warning, Target: s.n.String(), Step: s.Name(), Text: fmt.Sprintf("%s: something stands at %s, behind the end of the archive, and is left out", op, where)})
	}
	x := &expansion{
		op: op, c: c, clamp: s.SourceEpoch, include: source.NewGlobs(op.Include), exclude: source.NewGlobs(op.Exclude),
		originals: map[string]layer.Change{}, placed: map[string]string{}, ways: map[string]layer.Change{},
	}
	if op.Chown != "" {
		if x.owner, err = s.lookupOwner(ctx, c, op.Chown); err != nil {
			return err
		}
	}
	for _, e := range a.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := x.entry(e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	if x.entries == 0 && len(a.Entries) > 0 {
		return errors.New("no entry is left of the archive (strip_components, include, exclude)")
	}
	return nil
}

// readArchive reads the archive to its end, where its digest is checked, or learned.
func (s *step) readArchive(ctx context.Context, f *source.File) (*layer.Archive, error) {
	file, err := s.src.Take(f)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	spool, err := s.Cache.Temp()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	in := layer.TeeAhead(s.reading(ctx, file, file), sum)
	defer in.Close()
	a, err := layer.ReadArchive(ctx, in, spool)
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, a)
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	return a, file.Done([32]byte(sum.Sum(nil)))
}

// expansion is an archive on its way into the image.
type expansion struct {
	op      *spec.Expand
	c       *layer.Composer
	owner   *owner // nil: the archive's
	clamp   *int64 // SOURCE_DATE_EPOCH
	entries int

	include, exclude source.Globs

	originals map[string]layer.Change // files of the archive by their names there, for hard links
	placed    map[string]string       // where files stand in the image, by their names in the archive
	ways      map[string]layer.Change // folders that are excluded, and come along with what is excepted in them, by their places in the image
}

func (x *expansion) entry(e layer.ArchiveEntry) error {
	if e.HardLink == "" {
		x.originals[e.Path] = e.Change
	}
	name, ok := x.name(e.Path)
	if !ok {
		return nil
	}
	dest := clean(path.Join("/", x.op.Dest, name))
	if x.exclude.Match(name) {
		if e.Type == layer.TypeDir && x.exclude.ExceptsBelow(name) {
			x.ways[dest] = e.Change
		}
		return nil
	}
	x.entries++
	if err := x.around(dest); err != nil {
		return err
	}
	if e.HardLink != "" {
		return x.link(e, dest)
	}
	if e.Type == layer.TypeDir {
		return x.folder(e.Change, dest)
	}
	return x.put(e.Path, e.Change, dest)
}

// name returns the name of an entry without the leading folders that are dropped, and whether it is included.
func (x *expansion) name(name string) (string, bool) {
	if n := x.op.StripComponents; n > 0 {
		parts := strings.Split(name, "/")
		if name == "." || len(parts) <= n {
			return "", false
		}
		name = strings.Join(parts[n:], "/")
	}
	return name, len(x.include) == 0 || x.include.Match(name)
}

// around makes the excluded folders around dest, which is not excluded, the outermost first.
func (x *expansion) around(dest string) error {
	if len(x.ways) == 0 {
		return nil
	}
	dir := path.Dir(dest)
	if dir == "." {
		return nil
	}
	if err := x.around(dir); err != nil {
		return err
	}
	ch, ok := x.ways[dir]
	delete(x.ways, dir)
	if !ok {
		return nil
	}
	return x.folder(ch, dir)
}

func (x *expansion) folder(ch layer.Change, dest string) error {
	to, err := x.c.Resolve(dest, true)
	if err != nil {
		return err
	}
	at, err := x.c.Resolve(dest, false)
	if err != nil {
		return err
	}
	if to != at {
		switch e, ok, err := x.c.Lookup(to); {
		case err != nil || ok && e.Type == layer.TypeDir:
			return err
		case !ok:
			dest = to
		}
	}
	return x.put(ch.Path, ch, dest)
}

func (x *expansion) put(name string, ch layer.Change, dest string) error {
	ch.Path = dest
	if x.owner != nil {
		ch.UID, ch.GID = x.owner.uid, x.owner.gid
	}
	if x.clamp != nil {
		ch.MTime = min(ch.MTime, *x.clamp)
	}
	x.placed[name] = dest
	if err := x.parents(dest); err != nil {
		return err
	}
	return x.c.Put(ch)
}

// parents makes the folders around dest that neither the image nor the archive has. They belong to whom chown names.
func (x *expansion) parents(dest string) error {
	if x.owner == nil {
		return nil
	}
	return x.c.MkdirAll(path.Dir(dest), x.owner.uid, x.owner.gid)
}

// link makes dest another name of a file of the archive. Where that file was left out of the image,
// the first of its other names takes its place.
func (x *expansion) link(e layer.ArchiveEntry, dest string) error {
	original, ok := x.originals[e.HardLink]
	if to, placed := x.placed[e.HardLink]; placed {
		if err := x.parents(dest); err != nil {
			return err
		}
		return x.c.Link(dest, to, original.Open)
	}
	if ok {
		return x.put(e.HardLink, original, dest)
	}
	return &fs.PathError{Op: "link to", Path: e.HardLink, Err: errors.New("is not in the archive before this entry")}
}

// clean makes a path of an image canonical: relative, "." for the root.
func clean(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		return "."
	}
	return p
}
