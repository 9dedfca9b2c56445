package action

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"genoci/internal/cache"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/source"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// copying puts files of the host, of another image, or of the spec itself into the image.
type copying struct {
	at      At
	op      *spec.Copy
	matches []source.Match // on the host
	path    string         // of the host, absolute
	open    bool           // not all digests of matches are known
	listed  [32]byte       // SHA-256 of the manifest of matches; where open is false
}

func copyKind() kind {
	return &kindOf[*spec.Copy, copyNode]{
		word: "copy", new: func(at At, op *spec.Copy) Action { return &copying{at: at, op: op} },
		named: func(n copyNode) string { return toDest(n.Dest) },
		elsewhere: func(was, is copyNode) bool {
			return (was.Copy == "") != (is.Copy == "") || (was.From == "") != (is.From == "") || (was.Content == nil) != (is.Content == nil)
		},
		fields: func() []field[copyNode] {
			return []field[copyNode]{
				modeField("chmod", func(n copyNode) *uint32 { return n.Chmod }),
				valueField("chown", func(n copyNode) string { return n.Chown }),
				{
					name: "content", source: true, same: func(was, is copyNode) bool { return textOf(was.Content) == textOf(is.Content) },
					tell: func(t teller, was, is copyNode) []stepkey.Reason {
						return []stepkey.Reason{t.text("", textOf(was.Content), textOf(is.Content))}
					},
				},
				{name: "src", digest: true, source: true, same: func(was, is copyNode) bool { return was.Copy == is.Copy }, tell: tellFiles},
				valueField("dest", func(n copyNode) string { return n.Dest }),
				sourceField(listField("exclude", func(n copyNode) []string { return n.Exclude })),
				{
					name: "from", digest: true, source: true, same: func(was, is copyNode) bool { return was.From == is.From },
					tell: func(t teller, _, _ copyNode) []stepkey.Reason {
						if t.with.readsUncached(t.of) {
							return nil // told already
						}
						return []stepkey.Reason{t.reason(stepkey.FromChanged)}
					},
				},
				flagField("glob", func(n copyNode) bool { return n.Glob }),
				flagField("parents", func(n copyNode) bool { return n.Parents }),
				sourceField(valueField("src", func(n copyNode) string { return n.Src })),
				valueField("unread", func(n copyNode) string { return n.Unread }),
			}
		},
	}
}

// sourceField returns a field that says where something comes from.
func sourceField[N any](f field[N]) field[N] {
	f.source = true
	return f
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// tellFiles tells how what a copy took from the host differs from what it takes now.
func tellFiles(t teller, was, _ copyNode) []stepkey.Reason {
	c := t.of.(*copying)
	old, err := t.with.node(was.Copy)
	if err != nil {
		r := t.reason(stepkey.FilesForgotten)
		r.Path = inputOf(c.op)
		return []stepkey.Reason{r}
	}
	var now bytes.Buffer
	_ = writeManifest(&now, c.matches, t.with.RealTimes) // a buffer does not fail
	d := treeChange{old: parseManifest(old), now: parseManifest(now.Bytes()), name: c.shownName}
	all := d.reasons()
	for i := range all {
		all[i].Op, all[i].Pos = c.op.String(), c.at.Action.Pos
	}
	if len(all) == 0 {
		all = append(all, t.named(stepkey.InputRenamed, inputOf(c.op)))
	}
	return all
}

// shownName returns the path of a line of a manifest as it is shown.
func (c *copying) shownName(l listed) string {
	src := c.op.Src
	switch {
	case source.IsURL(src):
		return inputOf(c.op)
	case l.kind == aroundMatch:
		return path.Join(source.Around(src), l.path)
	case c.op.Parents:
		return path.Join(source.Around(src), l.match, l.path)
	case source.IsGlob(src):
		return path.Join(l.match, l.path)
	}
	return path.Join(src, l.path)
}

// copyNode is the part of a copy in a key.
type copyNode struct {
	Copy    string        `json:",omitempty"` // digest of the manifest of what the host has
	Unread  string        `json:",omitempty"` // in place of Copy: the path, where not all content is known
	Content *string       `json:",omitempty"`
	From    digest.Digest `json:",omitempty"` // chain ID of the other image
	Src     string        `json:",omitempty"` // in the other image
	Exclude []string      `json:",omitempty"` // with From or Unread: the manifest has only what is left
	Dest    string
	Glob    bool    `json:",omitempty"` // Src is a glob, and Dest a folder
	Parents bool    `json:",omitempty"`
	Chown   string  `json:",omitempty"`
	Chmod   *uint32 `json:",omitempty"`
}

// At implements Action.
func (c *copying) At() At { return c.at }

// Node implements Action.
func (c *copying) Node(g Ground) (any, error) {
	op := c.op
	node := copyNode{Content: op.Content, Dest: op.Dest, Parents: op.Parents, Chown: op.Chown, Chmod: op.Chmod}
	switch {
	case op.From != "":
		chain, err := g.Chain(op.From)
		if err != nil {
			return nil, err
		}
		node.From, node.Src, node.Exclude = chain, op.Src, op.Exclude
	case op.Content == nil:
		node.Glob = c.matches[0].Glob
		if c.open {
			node.Unread, node.Exclude = strconv.QuoteToASCII(c.path), op.Exclude
		} else {
			node.Copy = fmt.Sprintf("sha256:%x", c.listed)
		}
	}
	return node, nil
}

// Written implements Action.
func (c *copying) Written(of any) any {
	node, written := of.(copyNode), spec.Shown(c.op).(*spec.Copy)
	node.Content, node.Dest, node.Chown, node.Chmod = written.Content, written.Dest, written.Chown, written.Chmod
	if node.Src != "" {
		node.Src = written.Src
	}
	if node.Exclude != nil {
		node.Exclude = written.Exclude
	}
	return node
}

// Names implements Reader.
func (c *copying) Names(src *source.Source) ([]string, func(string) ([]string, error)) {
	return localNames(c.at.Action, true), src.Find
}

// Find implements Reader.
func (c *copying) Find(ctx context.Context, h Host) error {
	if c.op.From != "" || c.op.Content != nil {
		return nil
	}
	c.path = h.Source.Abs(c.op.Src)
	var err error
	c.matches, err = c.copied(ctx, h)
	for _, m := range c.matches {
		c.open = c.open || slices.ContainsFunc(m.Nodes, func(n source.Node) bool { return !n.Known() })
	}
	if !c.open {
		c.listed = manifestSum(c.matches, h.RealTimes)
	}
	return err
}

// copied returns what the copy reads from outside.
func (c *copying) copied(ctx context.Context, h Host) ([]source.Match, error) {
	if !source.IsURL(c.op.Src) {
		matches, err := h.Source.List(ctx, c.op.Src, c.op.Exclude, func(text string) { h.Warn(fmt.Sprintf("%s: %s", c.op, text)) })
		if err == nil && c.op.Parents {
			err = h.Source.WithParents(c.op.Src, matches)
		}
		return matches, err
	}
	m, err := h.Source.Download(ctx, c.op.Src, c.op.Checksum)
	return []source.Match{m}, err
}

// Unread implements Reader.
func (c *copying) Unread() bool { return c.open }

// Complete implements Reader.
func (c *copying) Complete(ctx context.Context, h Host) error {
	if !c.open {
		return nil
	}
	if err := h.Source.Digest(ctx, c.matches); err != nil {
		return err
	}
	c.open, c.listed = false, manifestSum(c.matches, h.RealTimes)
	return nil
}

// Keep implements Reader.
func (c *copying) Keep(to *cache.Cache, h Host) error {
	if c.matches == nil {
		return nil
	}
	var text bytes.Buffer
	if err := writeManifest(&text, c.matches, h.RealTimes); err != nil {
		return err
	}
	return to.KeepNode(c.listed, text.Bytes())
}

// Compose implements Composer.
func (c *copying) Compose(ctx context.Context, s *Stage, to *layer.Composer) error {
	p := &placing{op: c.op, c: to, epoch: s.Epoch, realTimes: s.RealTimes, first: map[string]string{}, named: map[string]string{}}
	var err error
	if c.op.Chown != "" {
		if p.owner, err = s.lookupOwner(ctx, to, c.op.Chown); err != nil {
			return err
		}
	}
	var matches []match
	switch {
	case c.op.Content != nil:
		matches = []match{literal(*c.op.Content)}
	case c.op.From != "":
		matches, err = s.imageMatches(ctx, c.op)
	default:
		matches = hostMatches(c.matches)
	}
	if err != nil {
		return err
	}
	return p.all(ctx, matches)
}

// item is a file, folder or other entry that a copy puts into the image: Path is below the match.
type item struct {
	change layer.Change
	inode  string // what hard links have in common; ""
}

// match is one thing that the source of a copy names: itself, then what is in it.
type match struct {
	name  string // as it is named, also where it is a symlink that is followed
	glob  bool   // found by a glob, of which DEST is always a folder
	items []item

	parents []item // folders around it that come along, outermost first; their names are a part of name
}

// literal is a file with the given content.
func literal(content string) match {
	f := layer.Change{Entry: layer.Entry{
		Path: ".", Type: layer.TypeFile, Mode: 0o644, Size: int64(len(content)), Digest: sha256.Sum256([]byte(content)),
	}}
	if content != "" {
		f.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
	}
	return match{name: "content", items: []item{{change: f}}}
}

// hostMatches makes items of what the host has.
func hostMatches(found []source.Match) []match {
	matches := make([]match, len(found))
	for i, m := range found {
		matches[i] = match{name: m.Name, glob: m.Glob, items: make([]item, len(m.Nodes))}
		for j := range m.Nodes {
			matches[i].items[j] = hostItem(&m.Nodes[j])
		}
		for j := range m.Parents {
			matches[i].parents = append(matches[i].parents, hostItem(&m.Parents[j]))
		}
	}
	return matches
}

func hostItem(n *source.Node) item {
	it := item{inode: n.Inode, change: layer.Change{Entry: layer.Entry{
		Path: n.Rel, Mode: modeBits(n.Mode), Size: n.Size, Link: n.Link, MTime: n.MTime, Xattrs: n.Xattrs,
	}}}
	switch n.Mode.Type() {
	case fs.ModeDir:
		it.change.Type = layer.TypeDir
	case fs.ModeSymlink:
		it.change.Type, it.change.Mode = layer.TypeSymlink, 0o777
	case fs.ModeNamedPipe:
		it.change.Type = layer.TypeFIFO
	default:
		it.change.Type, it.change.Digest = layer.TypeFile, n.Digest
		if !n.Known() {
			it.change.Origin = n // whose digest is learned when the layer is made
		}
		if n.Size > 0 {
			it.change.Open = n.Open
		}
	}
	return it
}

// placing is a copy on its way into the image.
type placing struct {
	op        *spec.Copy
	c         *layer.Composer
	owner     *owner // nil: that of the image it comes from, or root
	epoch     int64
	realTimes bool
	first     map[string]string // where the first name of a hard linked file was put
	named     map[string]string // what first has at a place
}

// all places the matches: as DEST, or into DEST where that is a folder, ends as one, or has to hold
// what a glob matches. Symlinks of the image at DEST are followed, also where they lead to nothing
// yet.
func (cp *placing) all(ctx context.Context, matches []match) error {
	dest, err := cp.c.Resolve(clean(cp.op.Dest), true)
	if err != nil {
		return err
	}
	e, exists, err := cp.c.Lookup(dest)
	if err != nil {
		return err
	}
	isDir := exists && e.Type == layer.TypeDir
	into := isDir || dest == "." || spec.IsFolder(cp.op.Dest) || matches[0].glob || cp.op.Parents
	if into && cp.op.Content != nil {
		return fmt.Errorf("content needs the name of a file as dest, %s is a folder", cp.op.Dest)
	}
	for _, m := range matches {
		if err := ctx.Err(); err != nil {
			return err
		}
		top := m.items[0]
		if exists && !isDir && (into || top.change.Type == layer.TypeDir) {
			return cp.notFolder(m, dest)
		}
		for _, it := range m.parents {
			if err := cp.folder(it, path.Join(dest, it.change.Path)); err != nil {
				return err
			}
		}
		switch {
		case top.change.Type == layer.TypeDir && cp.op.Parents && m.name != ".":
			err = cp.content(ctx, m, path.Join(dest, m.name))
		case top.change.Type == layer.TypeDir:
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

// notFolder is the error where a match is to go into a folder and there is something else at dest.
func (cp *placing) notFolder(m match, dest string) error {
	what := m.name
	switch {
	case m.items[0].change.Type == layer.TypeDir:
		what += " is a folder"
	case m.glob:
		what += " goes into a folder, as all that a glob matches"
	default:
		what += " goes into a folder, since the destination ends as one"
	}
	return fmt.Errorf("%s, and /%s is a file in the image", what, dest)
}

// content puts what is in the folder m into the folder dest. Folders that the image has already
// stay as they are.
func (cp *placing) content(ctx context.Context, m match, dest string) error {
	top := m.items[0]
	if !cp.op.Parents || m.name == "." {
		top.change.Mode, top.change.UID, top.change.GID = 0o755, 0, 0
	}
	if err := cp.folder(top, dest); err != nil {
		return err
	}
	for _, it := range m.items[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := path.Join(dest, it.change.Path)
		var err error
		if it.change.Type == layer.TypeDir {
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

// folder makes a folder unless there is one. A symlink is followed.
func (cp *placing) folder(it item, dest string) error {
	real, err := cp.c.Resolve(dest, true)
	if err != nil {
		return err
	}
	e, ok, err := cp.c.Lookup(real)
	switch {
	case err != nil:
		return err
	case ok && e.Type != layer.TypeDir:
		return fmt.Errorf("%s is a folder, and /%s is a file in the image", it.change.Path, real)
	case ok:
		return nil
	}
	return cp.put(it, real)
}

// put puts anything but a folder into the place of what is at dest, and a folder where nothing is.
func (cp *placing) put(it item, dest string) error {
	dest, err := cp.c.Resolve(dest, false)
	if err != nil {
		return err
	}
	var parents owner
	if cp.owner != nil {
		parents = *cp.owner
	}
	if err := cp.c.MkdirAll(path.Dir(dest), parents.uid, parents.gid); err != nil {
		return err
	}
	if it.change.Type != layer.TypeDir {
		if e, ok, err := cp.c.Lookup(dest); err != nil {
			return err
		} else if ok && e.Type == layer.TypeDir {
			return fmt.Errorf("%s is a file, and /%s is a folder in the image", path.Base(dest), dest)
		}
	}
	if inode := cp.named[dest]; inode != it.inode { // another file takes its place
		delete(cp.first, inode)
		delete(cp.named, dest)
	}
	if first, ok := cp.first[it.inode]; ok && it.inode != "" {
		return cp.c.Link(dest, first, it.change.Open)
	}
	ch := it.change
	ch.Path = dest
	if cp.owner != nil {
		ch.UID, ch.GID = cp.owner.uid, cp.owner.gid
	}
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
		cp.first[it.inode], cp.named[dest] = dest, it.inode
	}
	return cp.c.Put(ch)
}

// imageMatches finds what a copy reads from another image. The content that is needed comes out of
// the image's layers, each of which is read once, into a temporary file.
func (s *Stage) imageMatches(ctx context.Context, op *spec.Copy) ([]match, error) {
	from, err := s.From(ctx, op.From)
	if err != nil {
		return nil, err
	}
	view := from.View
	paths, glob, err := viewMatches(view, op.Src)
	if err != nil {
		return nil, err
	}
	spool, err := s.tempFile()
	if err != nil {
		return nil, err
	}
	x := &imagefs.Extraction{Store: s.Images, View: view, Layers: from.Layers, Spool: spool}
	exclude := source.NewGlobs(op.Exclude)
	var matches []match
	for _, named := range paths {
		p, err := follow(view, named)
		if err != nil {
			return nil, err
		}
		m := match{name: path.Base(named), glob: glob}
		if op.Parents {
			if m.name, m.parents, err = imageParents(view, op.Src, named); err != nil {
				return nil, err
			}
		}
		var way []item // folders around what is next that are excluded, and come along with what is excepted in them
		err = layer.Walk(view, p, func(e layer.Entry) (bool, error) {
			it := item{change: layer.Change{Entry: e}}
			it.change.Path, it.change.Group = layer.Rel(p, e.Path), ""
			for len(way) > 0 && !strings.HasPrefix(it.change.Path, way[len(way)-1].change.Path+"/") {
				way = way[:len(way)-1]
			}
			if it.change.Path != "." && exclude.Match(it.change.Path) {
				way = append(way, it)
				return exclude.ExceptsBelow(it.change.Path), nil
			}
			it.change.Open, it.inode = x.Want(e)
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

// imageParents returns the path of a match of src below the folder of which nothing is kept, and
// the folders on it.
func imageParents(view layer.View, src, named string) (name string, parents []item, err error) {
	root := clean(source.Around(src))
	if !layer.Below(named, root) {
		return "", nil, fmt.Errorf("/%s is not below /%s, so parents cannot keep its folders: put /./ into src before those to keep", named, root)
	}
	name = layer.Rel(root, named)
	for i := range name {
		if name[i] != '/' {
			continue
		}
		real, err := follow(view, path.Join(root, name[:i]))
		if err != nil {
			return "", nil, err
		}
		e, _, err := view.Lookup(real)
		if err != nil {
			return "", nil, err
		}
		it := item{change: layer.Change{Entry: e}}
		it.change.Path = name[:i]
		parents = append(parents, it)
	}
	return name, parents, nil
}

// viewMatches returns the paths of a tree that match a path or glob, each as it is named: at least
// one. A path that has pattern characters in it and exists means itself.
func viewMatches(view layer.View, pattern string) (paths []string, glob bool, err error) {
	p := clean(pattern)
	real, err := layer.Resolve(view, p, false)
	if err != nil {
		return nil, false, err
	}
	if _, ok, err := view.Lookup(real); err != nil || ok || !source.IsGlob(pattern) {
		return []string{p}, false, err
	}
	found, err := globView(view, pattern)
	if err == nil && len(found) == 0 {
		err = &fs.PathError{Op: "match", Path: pattern, Err: fs.ErrNotExist}
	}
	return found, true, err
}

// follow returns the canonical path of what stands at a path of a tree, or where a symlink there
// leads.
func follow(view layer.View, p string) (string, error) {
	real, err := layer.Resolve(view, p, true)
	if err != nil {
		return "", err
	}
	if _, ok, err := view.Lookup(real); err != nil || ok {
		return real, err
	}
	at, err := layer.Resolve(view, p, false)
	if err != nil {
		return "", err
	}
	if e, ok, err := view.Lookup(at); err != nil || ok {
		return "", cmp.Or(err, fmt.Errorf("/%s is a symlink to %s, where the image has nothing", p, e.Link))
	}
	return "", &fs.PathError{Op: "find", Path: "/" + p, Err: fs.ErrNotExist}
}

// globView returns the paths of a tree that match a glob, each as it is named there. Symlinks are
// followed before the first element with a pattern in it. What is below a match is not looked at.
func globView(view layer.View, pattern string) ([]string, error) {
	if err := source.CheckGlob(pattern); err != nil {
		return nil, err
	}
	start, rest := clean(pattern), ""
	for source.IsGlob(start) {
		rest = path.Join(path.Base(start), rest)
		start = path.Dir(start)
	}
	start, err := layer.Resolve(view, start, true)
	if err != nil {
		return nil, err
	}
	var found []string
	err = layer.Walk(view, start, func(e layer.Entry) (bool, error) {
		rel := layer.Rel(start, e.Path)
		if rel != "." && source.MatchPath(rest, rel) {
			found = append(found, e.Path)
			return false, nil
		}
		return source.MatchBelow(rest, rel), nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return found, err
}

// KeepXattr reports whether a copy takes an extended attribute of a file of the host along: all
// that layers keep but POSIX ACLs, which name users of the host, as its owner does.
func KeepXattr(name string) bool { return layer.KeepXattr(name) && !strings.HasPrefix(name, "system.") }

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
