package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A layer puts a file anew under the names that it lists, and leaves other names to the file that
// they have below. So all names of a file are listed or none, and those of a file that is not
// listed have to be names of one file in the base, too.

// linkedName is a name of a file that has several in the new tree, or had them in the base.
type linkedName struct {
	change Change
	file   inode
	nlink  uint32
	sought bool // no hint named it
}

// link notes a name that was compared.
func (w *walker) link(ch Change, st *unix.Statx_t) {
	w.linking.Lock()
	defer w.linking.Unlock()
	if w.linked == nil {
		w.linked = map[string]*linkedName{}
	}
	w.linked[ch.Path] = &linkedName{change: ch, file: inodeOf(st), nlink: st.Nlink}
}

// links lists the names that have to be listed along with others. It is for when all else was
// compared. It costs a look into the indexes of those layers that have the files, and only where
// files with several names were compared or removed.
func (w *walker) links() error {
	m, ok := w.base.(*Merged)
	// Hints name where a file was changed, and that name may be gone.
	hinted := w.options.Touched != nil
	if !ok || len(w.linked) == 0 && !w.options.Splits && !hinted {
		return nil
	}
	l := &linker{walker: w, tree: comparedTree{Merged: m}, asked: map[string]bool{}, below: map[string]string{}}
	if err := l.find(slices.Sorted(maps.Keys(w.linked))); err != nil {
		return err
	}
	if hinted || l.incomplete() {
		removed, err := l.removed()
		if err == nil {
			err = l.find(removed)
		}
		if err != nil {
			return err
		}
	}
	return l.list()
}

// linker is the state of links.
type linker struct {
	*walker
	tree  comparedTree      // the base
	asked map[string]bool   // paths whose names in the base are known
	below map[string]string // by path, the first name that the file there has in the base
}

// find compares all names of the files that the base has at the paths, where that was not done.
func (l *linker) find(paths []string) error {
	listed := l.listed()
	for _, path := range paths {
		if l.asked[path] {
			continue
		}
		names, err := l.tree.namesAcross(path)
		if err != nil {
			return err
		}
		for _, name := range names {
			l.asked[name], l.below[name] = true, names[0]
			if l.linked[name] != nil || listed[name] {
				continue
			}
			if err := l.compareName(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareName compares what is now at a path at which the base has a file.
func (l *linker) compareName(path string) error {
	dir, name := split(path)
	fd, err := openBelow(l.root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := statAt(fd, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	case isDir(&st), isMount(&st), st.Mode&unix.S_IFMT == unix.S_IFSOCK: // compared, as another thing than it was
		return nil
	}
	base, ok, err := l.base.Lookup(path)
	if err != nil || !ok {
		return err
	}
	base.Group = l.below[path] // it had several names, and may have one now
	if err := l.compare(fd, name, path, &st, base, true); err != nil {
		return err
	}
	l.linked[path].sought = true
	return nil
}

// incomplete reports whether a file has names that are not known.
func (l *linker) incomplete() bool {
	for _, names := range l.files() {
		if int(l.linked[names[0]].nlink) > len(names) {
			return true
		}
	}
	return false
}

// files returns the names of each file in the new tree, in the order of Compare.
func (l *linker) files() map[inode][]string {
	files := map[inode][]string{}
	for _, path := range slices.SortedFunc(maps.Keys(l.linked), Compare) {
		n := l.linked[path]
		files[n.file] = append(files[n.file], path)
	}
	return files
}

// removed returns the names of files with several of them that the base has, and that the new tree
// has no more, or has something else at.
func (l *linker) removed() ([]string, error) {
	var names []string
	across := sync.OnceValues(l.tree.linkedAcross)
	for _, ch := range l.delta.changes {
		if ch.Parent {
			continue
		}
		err := Walk(l.base, ch.Path, func(e Entry) (bool, error) {
			several := e.Group != ""
			if !several && e.Type != TypeDir {
				linked, err := across()
				if err != nil {
					return false, err
				}
				several = linked[e.Path]
			}
			if several {
				names = append(names, e.Path)
			}
			return ch.Type != TypeDir, l.ctx.Err()
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return names, nil
}

// listed returns the paths that are listed so far.
func (l *linker) listed() map[string]bool {
	listed := make(map[string]bool, len(l.delta.changes))
	for _, ch := range l.delta.changes {
		listed[ch.Path] = true
	}
	return listed
}

// list lists what is not and has to be.
func (l *linker) list() error {
	listed, files := l.listed(), l.files()
	paths := slices.SortedFunc(maps.Keys(l.linked), Compare)
	stays := map[string]inode{} // by the first name in the base: the file that its names are left to
	whole := func(want func(path string) bool) {
		for _, path := range paths {
			if names := files[l.linked[path].file]; !listed[path] && slices.ContainsFunc(names, want) {
				for _, name := range names {
					if !listed[name] {
						listed[name] = true
						n := l.linked[name]
						l.delta.changes = append(l.delta.changes, linkedChange{Change: Change{Entry: canonical(n.change.Entry), Open: n.change.Open}, file: n.file})
					}
				}
			}
		}
	}
	whole(func(path string) bool { return listed[path] })
	whole(func(path string) bool { // names of two files of the base
		return l.below[path] != l.below[files[l.linked[path].file][0]]
	})
	whole(func(path string) bool { // one of several files that were one
		n := l.linked[path]
		first, ok := stays[l.below[path]]
		if !ok {
			stays[l.below[path]] = n.file
		}
		return ok && first != n.file
	})
	if l.options.Splits {
		l.warnOfSplits(paths, listed)
		if err := l.warnOfRenamed(); err != nil {
			return err
		}
	}
	if !l.options.Settle {
		return nil
	}
	for _, names := range files {
		// Those that are not listed, too: to open a file for writing is enough for an overlay to
		// copy it up. Where names split, that would split them. A name may be the last one that is
		// left.
		if len(names) > 1 && (listed[names[0]] || !l.options.Splits) || listed[names[0]] && l.linked[names[0]].sought {
			if err := l.settleNames(names); err != nil {
				return err
			}
		}
	}
	return nil
}

// warnOfSplits tells of names that are listed, and that no longer are names of the file that they
// were names of in the base.
func (l *linker) warnOfSplits(paths []string, listed map[string]bool) {
	for _, path := range paths {
		var others []string
		for _, other := range paths {
			if below := l.below[path]; below != "" && l.below[other] == below && l.linked[other].file != l.linked[path].file {
				others = append(others, other)
			}
		}
		if listed[path] && len(others) > 0 {
			l.warn(path, "was one file with "+strings.Join(others, ", ")+" in the base, and is a file of its own now: "+
				"with this driver, what is written to one name of a file does not reach the others")
		}
	}
}

// warnOfRenamed tells of new files that look as a file of the base did under a name that is gone,
// while other names of that are left: to rename one name copies the file as writing does. Nothing
// is left of the name in a file that was written to as well.
func (l *linker) warnOfRenamed() error {
	type looks struct {
		mode     uint32
		uid, gid int
		size     int64
		mtime    int64
	}
	of := func(e Entry) looks { return looks{e.Mode, e.UID, e.GID, e.Size, e.MTime} }
	renamed := map[looks]string{} // new names
	for _, ch := range l.delta.changes {
		if ch.Type != TypeFile || ch.Parent || ch.file != nil {
			continue
		}
		if _, ok, err := l.base.Lookup(ch.Path); err != nil || ok {
			if err != nil {
				return err
			}
			continue
		}
		renamed[of(ch.Entry)] = ch.Path
	}
	if len(renamed) == 0 {
		return nil
	}
	gone, err := l.removed()
	if err != nil {
		return err
	}
	for _, path := range gone {
		e, ok, err := l.base.Lookup(path)
		if err != nil {
			return err
		}
		name := renamed[of(e)]
		if !ok || name == "" || e.Type != TypeFile || l.linked[path] != nil {
			continue
		}
		names, err := l.tree.namesAcross(path)
		if err == nil {
			err = l.find(names)
		}
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return l.linked[name] == nil })
		if len(names) > 0 {
			l.warn(name, "looks like "+path+", which was one file with "+strings.Join(names, ", ")+" in the base, and is a file of its own now: "+
				"with this driver, what is renamed does not stay one file with its other names")
		}
	}
	return nil
}

// settleNames sets the time of a file by each of its names. An overlay whose kernel keeps them
// together puts a name into the upper folder only when something is done by it.
func (l *linker) settleNames(names []string) error {
	at := unix.Timespec{Sec: l.linked[names[0]].change.MTime}
	for _, path := range names {
		dir, name := split(path)
		fd, err := openBelow(l.root, dir, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			err = unix.UtimesNanoAt(fd, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
			unix.Close(fd)
		}
		if err != nil {
			return &fs.PathError{Op: "settle", Path: path, Err: fmt.Errorf("set time: %w", err)}
		}
	}
	return nil
}

// origin identifies a file of a chain: the layer that has it, and the first of its names there.
type origin struct {
	layer int
	first string
}

// origin returns that of the file at a place.
func (m *Merged) origin(at place) origin {
	toc := m.layers[at.layer]
	if first := toc.field(at.record, recGroupLen); len(first) > 0 {
		return origin{at.layer, string(first)}
	}
	return origin{at.layer, string(toc.path(at.record))}
}

// namesAcross is names with the hard links that higher layers have to the file, as foreign layers
// may. In the tree that is unpacked from the layers these are names of it, too.
func (t *comparedTree) namesAcross(path string) ([]string, error) {
	_, at, ok, err := t.lookup(path, len(t.layers))
	if err != nil || !ok {
		return nil, err
	}
	of := t.origin(at)
	across, err := t.linksTo(of)
	if err != nil {
		return nil, err
	}
	if len(across) == 0 {
		return t.names(path)
	}
	var names []string
	for _, name := range slices.Concat([]string{of.first}, t.groupsOf(of.layer)[of.first], across) {
		_, there, ok, err := t.lookup(name, len(t.layers))
		if err != nil {
			return nil, err
		}
		if ok && t.origin(there) == of {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, Compare)
	return slices.Compact(names), nil
}

// linkedAcross returns the paths at which the chain has a file that a higher layer gives another
// name, or that has such a name.
func (m *Merged) linkedAcross() (map[string]bool, error) {
	var linked map[string]bool
	for n, toc := range m.layers {
		for _, i := range toc.lowerLinks() {
			e := toc.entry(i)
			_, at, ok, err := m.target(e.Link, n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Path, err)
			}
			if !ok {
				continue
			}
			if linked == nil {
				linked = map[string]bool{}
			}
			linked[e.Path], linked[m.origin(at).first] = true, true
		}
	}
	return linked, nil
}

// linksTo returns the names that the layers above a file's own give it.
func (m *Merged) linksTo(of origin) ([]string, error) {
	var names []string
	for n := of.layer + 1; n < len(m.layers); n++ {
		for _, i := range m.layers[n].lowerLinks() {
			e := m.layers[n].entry(i)
			_, at, ok, err := m.target(e.Link, n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Path, err)
			}
			if ok && m.origin(at) == of {
				names = append(names, e.Path)
			}
		}
	}
	return names, nil
}
