package action

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"genoci/internal/cache"
	"genoci/internal/layer"
	"genoci/internal/plan"
	"genoci/internal/source"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// expand puts the entries of an archive into the image.
type expand struct {
	at      At
	op      *spec.Expand
	archive source.File
}

func expandKind() kind {
	return &kindOf[*spec.Expand, expandNode]{
		word: "expand", new: func(at At, op *spec.Expand) Action { return &expand{at: at, op: op} },
		named: func(n expandNode) string { return toDest(n.Dest) },
		fields: func() []field[expandNode] {
			return []field[expandNode]{
				valueField("chown", func(n expandNode) string { return n.Chown }),
				valueField("dest", func(n expandNode) string { return n.Dest }),
				listField("exclude", func(n expandNode) []string { return n.Exclude }),
				{
					name: "expand", digest: true, same: func(was, is expandNode) bool { return was.Expand == is.Expand },
					tell: func(t teller, was, is expandNode) []stepkey.Reason {
						return []stepkey.Reason{t.input(stepkey.ArchiveChanged, inputOf(t.of.At().Action.Op), was.Expand, is.Expand)}
					},
				},
				listField("include", func(n expandNode) []string { return n.Include }),
				valueField("onto", func(n expandNode) string { return n.Onto }),
				valueField("strip_components", func(n expandNode) string { return orEmpty(n.Strip) }),
				valueField("unread", func(n expandNode) string { return n.Unread }),
			}
		},
	}
}

// expandNode is the part of an expand in a key.
type expandNode struct {
	Expand  string
	Unread  string   `json:",omitempty"` // in place of Expand: the path, where the content is not known
	Dest    string   `json:",omitempty"`
	Strip   int      `json:",omitempty"`
	Include []string `json:",omitempty"`
	Exclude []string `json:",omitempty"`
	Chown   string   `json:",omitempty"`
	Onto    string   `json:",omitempty"` // why it is not the layer as it is, where there is nothing below
}

// At implements Action.
func (x *expand) At() At { return x.at }

// Node implements Action.
func (x *expand) Node(g Ground) (any, error) {
	node := expandNode{
		Expand: x.archive.String(), Dest: x.op.Dest, Strip: x.op.StripComponents,
		Include: x.op.Include, Exclude: x.op.Exclude, Chown: x.op.Chown,
	}
	if x.Unread() {
		node.Expand, node.Unread = "", strconv.QuoteToASCII(x.archive.Path)
	}
	if g.Empty && onSomething(x.at.Step) {
		node.Onto = stepkey.KeyedOnSomething
	}
	return node, nil
}

// Written implements Action.
func (x *expand) Written(of any) any {
	node, written := of.(expandNode), spec.Shown(x.op).(*spec.Expand)
	node.Dest, node.Strip, node.Include, node.Exclude, node.Chown = written.Dest, written.StripComponents, written.Include, written.Exclude, written.Chown
	return node
}

// Names implements Reader.
func (x *expand) Names(src *source.Source) ([]string, func(string) ([]string, error)) {
	return localNames(x.at.Action, false), src.Find
}

// Find implements Reader. An archive that may be the layer as it is is read only once: its digest
// stays unknown.
func (x *expand) Find(ctx context.Context, h Host) (err error) {
	if Passable(x.at.Step) && !source.IsURL(x.op.Src) && x.op.Checksum == "" {
		x.archive, err = h.Source.Peek(x.op.Src)
		return err
	}
	x.archive, err = h.Source.File(ctx, x.op.Src, x.op.Checksum)
	return err
}

// Unread implements Reader.
func (x *expand) Unread() bool { return x.archive.Path != "" && !x.archive.Known() }

// Complete implements Reader.
func (x *expand) Complete(ctx context.Context, h Host) error {
	if !x.Unread() {
		return nil
	}
	return h.Source.Complete(ctx, &x.archive)
}

// Keep implements Reader.
func (x *expand) Keep(*cache.Cache, Host) error { return nil }

// Archive returns the archive of a step that does nothing but expand it as it is, on nothing; nil
// for other steps.
func Archive(s *plan.Step, actions []Action) *source.File {
	if !Passable(s) {
		return nil
	}
	return &actions[0].(*expand).archive
}

// Passable reports whether a step does nothing but expand an archive as it is, on nothing.
func Passable(s *plan.Step) bool {
	if len(s.Ops) != 1 {
		return false
	}
	op, ok := s.Ops[0].Op.(*spec.Expand)
	return ok && Hindrance(s, op) == stepkey.NoHindrance
}

// Hindrance says why the archive that op expands cannot be the layer of the step s as it is,
// whatever it holds.
func Hindrance(s *plan.Step, op *spec.Expand) stepkey.Hindrance {
	switch {
	case onSomething(s):
		return stepkey.OnSomething
	case s.Hooked():
		return stepkey.WithHooks
	case len(s.Ops) != 1:
		return stepkey.WithOthers
	case clean(op.Dest) != ".":
		return stepkey.OtherDest
	case op.StripComponents != 0:
		return stepkey.StripComponents
	case len(op.Include)+len(op.Exclude) != 0:
		return stepkey.Globs
	case op.Chown != "":
		return stepkey.OtherOwner
	}
	return stepkey.NoHindrance
}

// ArchiveOf says what becomes of the archive that an action of a step expands; known is what is
// known of that where it may be the layer.
func ArchiveOf(s *plan.Step, a spec.Action, known stepkey.Archive) stepkey.Archive {
	op, ok := a.Op.(*spec.Expand)
	if !ok {
		return stepkey.Archive{}
	}
	if h := Hindrance(s, op); h != stepkey.NoHindrance {
		return stepkey.Archive{Fate: stepkey.Rewritten, Hindrance: h}
	}
	if known.Fate == stepkey.NoArchive {
		known.Fate = stepkey.IfSound
	}
	return known
}

// onSomething reports whether a step stands on another one or on a base, which may have no layers.
func onSomething(s *plan.Step) bool { return s.Image.Base.Kind != plan.Empty || s.Index > 0 }

// Compose implements Composer. A folder of the archive goes into a symlink to a folder that the
// image has at its place, so that an archive with lib/ does not break a base in which /lib is a
// symlink.
func (x *expand) Compose(ctx context.Context, s *Stage, c *layer.Composer) error {
	a, err := s.readArchive(ctx, &x.archive)
	if err != nil {
		return err
	}
	if a.Behind >= 0 {
		where := fmt.Sprintf("byte %d", a.Behind)
		if a.Compression.Name != "none" {
			where += " (after " + a.Compression.Name + ")"
		}
		s.Warn(fmt.Sprintf("%s: something stands at %s, behind the end of the archive, and is left out", x.op, where))
	}
	to := &expansion{
		op: x.op, c: c, clamp: s.Clamp, include: source.NewGlobs(x.op.Include), exclude: source.NewGlobs(x.op.Exclude),
		originals: map[string]layer.Change{}, placed: map[string]string{}, ways: map[string]layer.Change{},
	}
	if x.op.Chown != "" {
		if to.owner, err = s.lookupOwner(ctx, c, x.op.Chown); err != nil {
			return err
		}
	}
	for _, e := range a.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := to.entry(e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	if to.entries == 0 && len(a.Entries) > 0 {
		return errors.New("no entry is left of the archive (strip_components, include, exclude)")
	}
	return nil
}

// readArchive reads the archive to its end, where its digest is checked, or learned.
func (s *Stage) readArchive(ctx context.Context, f *source.File) (*layer.Archive, error) {
	file, err := s.Source.Take(f)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	spool, err := s.Cache.Temp()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	in := layer.TeeAhead(s.Progress(ctx, "expand", file.Size(), file), sum)
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

// name returns the name of an entry without the leading folders that are dropped, and whether it is
// included.
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

// parents makes the folders around dest that neither the image nor the archive has. They belong to
// whom chown names.
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

// toDest names an action by where it puts something.
func toDest(dest string) string {
	if dest == "" {
		return ""
	}
	return "to " + dest
}

// orEmpty returns a number as text, "" for 0.
func orEmpty(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
