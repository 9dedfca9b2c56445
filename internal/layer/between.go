package layer

import (
	"context"
	"maps"
	"slices"
)

// Attributes are what can be different about two entries of one path.
type Attributes uint16

// The attributes of entries.
const (
	AttrType     Attributes = 1 << iota // then no others are told
	AttrContent                         // of a regular file
	AttrSize                            //
	AttrMode                            //
	AttrOwner                           // user or group
	AttrLink                            // the text of a symlink
	AttrDevice                          // the numbers of a device
	AttrXattrs                          //
	AttrHardLink                        // which other names it has
	AttrTime                            // mtime
)

// Has reports whether all attributes of other are among a.
func (a Attributes) Has(other Attributes) bool { return a&other == other }

// Difference is a path that is not the same in two trees.
type Difference struct {
	// Old and New are what stands there in the first and the second tree; nil: nothing does. Group
	// is the first of all names that the file has in its tree, "" where it has but one.
	Old, New *Entry

	Attributes Attributes // what is different, where both have something there
}

// Path returns the path.
func (d Difference) Path() string {
	if d.New != nil {
		return d.New.Path
	}
	return d.Old.Path
}

// Between returns how the tree b differs from a, in the order of Compare. The lowest shared layers
// are known to be the same in both: what is only theirs is not looked at. Files are compared by the
// digests that the indexes hold. Times are AttrTime only with times; else a path at which nothing
// else is different is left out.
//
// A file has another set of hard links only where two names that both trees have are one file in
// one of them, and two in the other.
func Between(ctx context.Context, a, b *Merged, shared int, times bool) ([]Difference, error) {
	c := &comparison{
		ctx: ctx,
		old: comparedTree{Merged: a}, now: comparedTree{Merged: b},
		above: Merge(slices.Concat(a.layers[shared:], b.layers[shared:])...),
	}
	if !times {
		c.ignored = AttrTime
	}
	if err := c.path(".", false); err != nil {
		return nil, err
	}
	if err := c.hardLinks(); err != nil {
		return nil, err
	}
	return c.found, nil
}

// comparison is the state of one Between.
type comparison struct {
	ctx      context.Context
	old, now comparedTree
	above    *Merged // the layers that are not in both; what this has as a tree means nothing
	ignored  Attributes
	found    []Difference
	linked   []string // paths of files that may have several names in a tree
}

// path compares what is at a path and below. all says that the layers above cannot tell where to
// look.
func (c *comparison) path(path string, all bool) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	old, had, err := c.old.Lookup(path)
	if err != nil {
		return err
	}
	now, has, err := c.now.Lookup(path)
	switch {
	case err != nil:
		return err
	case had && has:
		if differ := attributes(old, now) &^ c.ignored; differ != 0 {
			c.add(Difference{Old: &old, New: &now, Attributes: differ})
		} else {
			c.note(old, now)
		}
	}
	oldDir, nowDir := had && old.Type == TypeDir, has && now.Type == TypeDir
	switch {
	case oldDir && nowDir:
		return c.folder(path, all)
	case had && !has, oldDir:
		err = Walk(c.old, path, func(e Entry) (bool, error) {
			if !has || e.Path != path {
				c.add(Difference{Old: &e})
			}
			return true, c.ctx.Err()
		})
	case has && !had, nowDir:
		err = Walk(c.now, path, func(e Entry) (bool, error) {
			if !had || e.Path != path {
				c.add(Difference{New: &e})
			}
			return true, c.ctx.Err()
		})
	}
	return err
}

// folder compares what is in a folder of both trees.
func (c *comparison) folder(path string, all bool) error {
	var names []string
	for _, t := range c.above.layers {
		i, ok := t.search(path)
		all = all || ok && t.covers(i)
	}
	if all {
		both := map[string]bool{}
		for _, tree := range []comparedTree{c.old, c.now} {
			for e, err := range tree.Children(path) {
				if err != nil {
					return err
				}
				both[e.Path] = true
			}
		}
		names = slices.SortedFunc(maps.Keys(both), Compare)
	} else {
		lists := c.above.lists(path)
		for at, ok := c.above.next(lists); ok; at, ok = c.above.next(lists) {
			names = append(names, string(c.above.layers[at.layer].path(at.record)))
		}
	}
	for _, name := range names {
		if err := c.path(name, all); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) add(d Difference) {
	c.found = append(c.found, d)
	for _, e := range []*Entry{d.Old, d.New} {
		if e != nil {
			c.note(*e)
		}
	}
}

// note remembers files that may have several names.
func (c *comparison) note(entries ...Entry) {
	for _, e := range entries {
		if e.Group != "" {
			c.linked = append(c.linked, e.Path)
		}
	}
}

// hardLinks completes what was found with the names that files have.
func (c *comparison) hardLinks() error {
	if len(c.linked) == 0 {
		return nil
	}
	index := make(map[string]int, len(c.found))
	for i, d := range c.found {
		index[d.Path()] = i
	}
	names := map[string]bool{} // of all files that linked is about
	for _, path := range c.linked {
		for _, tree := range []*comparedTree{&c.old, &c.now} {
			of, err := tree.names(path)
			if err != nil {
				return err
			}
			for _, name := range of {
				names[name] = true
			}
		}
	}
	for path := range names {
		if err := c.hardLink(path, index); err != nil {
			return err
		}
	}
	slices.SortFunc(c.found, func(a, b Difference) int { return Compare(a.Path(), b.Path()) })
	return nil
}

// hardLink compares the names of the file at a path. index says where paths are in found.
func (c *comparison) hardLink(path string, index map[string]int) error {
	oldNames, err := c.old.names(path)
	if err != nil {
		return err
	}
	nowNames, err := c.now.names(path)
	if err != nil {
		return err
	}
	i, known := index[path]
	if !known || c.found[i].Old != nil && c.found[i].New != nil {
		was, err := firstIn(oldNames, &c.now)
		if err != nil {
			return err
		}
		is, err := firstIn(nowNames, &c.old)
		if err != nil {
			return err
		}
		switch {
		case was == is && !known:
			return nil
		case !known:
			if i, known, err = c.unlisted(path, index); err != nil || !known {
				return err
			}
		}
		if was != is && !c.found[i].Attributes.Has(AttrType) {
			c.found[i].Attributes |= AttrHardLink
		}
	}
	if old := c.found[i].Old; old != nil {
		old.Group = group(oldNames)
	}
	if now := c.found[i].New; now != nil {
		now.Group = group(nowNames)
	}
	return nil
}

// unlisted adds a path that is the same in both trees but for its hard links.
func (c *comparison) unlisted(path string, index map[string]int) (i int, ok bool, err error) {
	old, had, err := c.old.Lookup(path)
	if err != nil || !had {
		return 0, false, err
	}
	now, has, err := c.now.Lookup(path)
	if err != nil || !has {
		return 0, false, err
	}
	i = len(c.found)
	index[path] = i
	c.found = append(c.found, Difference{Old: &old, New: &now})
	return i, true, nil
}

// firstIn returns the first of the names that other has a file at, too; "" for none.
func firstIn(names []string, other *comparedTree) (string, error) {
	for _, name := range names {
		if e, ok, err := other.Lookup(name); err != nil || ok && e.Type != TypeDir {
			return name, err
		}
	}
	return "", nil
}

// group is Entry.Group of a file with these names.
func group(names []string) string {
	if len(names) < 2 {
		return ""
	}
	return names[0]
}

// comparedTree is a tree that knows all names of its files.
type comparedTree struct {
	*Merged
	groups map[int]map[string][]string // names of hard link groups in the order of Compare, by layer and group; those that the tree does not show too
}

// names returns all names that the file at a path has in the tree, in the order of Compare; none
// where there is nothing.
func (t *comparedTree) names(path string) ([]string, error) {
	e, at, ok, err := t.lookup(path, len(t.layers))
	if err != nil || !ok {
		return nil, err
	}
	if e.Group == "" {
		return []string{path}, nil
	}
	var names []string
	for _, name := range t.groupsOf(at.layer)[e.Group] {
		_, there, ok, err := t.lookup(name, len(t.layers))
		if err != nil {
			return nil, err
		}
		if ok && there.layer == at.layer && string(t.layers[at.layer].path(there.record)) == name {
			names = append(names, name)
		}
	}
	return names, nil
}

// groupsOf returns the hard link groups of a layer.
func (t *comparedTree) groupsOf(layer int) map[string][]string {
	if g := t.groups[layer]; g != nil {
		return g
	}
	if t.groups == nil {
		t.groups = map[int]map[string][]string{}
	}
	g := map[string][]string{}
	toc := t.layers[layer]
	for i := range toc.Len() {
		if name := toc.field(i, recGroupLen); len(name) > 0 {
			g[string(name)] = append(g[string(name)], string(toc.path(i)))
		}
	}
	t.groups[layer] = g
	return g
}

// attributes returns in what two entries differ, hard links aside.
func attributes(a, b Entry) (differ Attributes) {
	a, b = canonical(a), canonical(b)
	if a.Type != b.Type {
		return AttrType
	}
	set := func(attr Attributes, same bool) {
		if !same {
			differ |= attr
		}
	}
	set(AttrContent, a.Digest == b.Digest)
	set(AttrSize, a.Size == b.Size)
	set(AttrMode, a.Mode == b.Mode)
	set(AttrOwner, a.UID == b.UID && a.GID == b.GID)
	set(AttrLink, a.Link == b.Link)
	set(AttrDevice, a.Major == b.Major && a.Minor == b.Minor)
	set(AttrXattrs, maps.Equal(a.Xattrs, b.Xattrs))
	set(AttrTime, a.MTime == b.MTime)
	return differ
}
