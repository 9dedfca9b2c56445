package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// walk lists folders, several at once. For each file there is one system call, a stat relative to
// its folder; what that says is looked up in Stats at once.
type walk struct {
	ctx     context.Context
	stats   *Stats
	keeps   func(xattr string) bool
	git     bool // modes are as git keeps them
	own     *owned
	warn    func(string)
	source  *Source
	ignored *ignored
	ignore  Globs       // that count for the match
	base    string      // path of the match below the folder of the spec
	missed  atomic.Bool // something in the match was ignored
	today   uint32
	exclude Globs
	free    chan struct{} // takes as many as may list folders at once
}

func newWalk(ctx context.Context, s *Source, exclude []string, warn func(string)) (*walk, error) {
	ignored, err := s.ignored()
	return &walk{
		source: s, ignored: ignored,
		ctx: ctx, stats: s.Stats, keeps: s.Keeps, git: s.GitModes, own: s.owned(), warn: warn, today: day(time.Now()), exclude: NewGlobs(exclude),
		free: make(chan struct{}, 2*runtime.GOMAXPROCS(0)-1),
	}, err
}

// listing is a folder that was listed: what is in it, sorted, up to the first error.
type listing struct {
	nodes []Node
	below []*listing   // of the folders among nodes, in their order
	ways  map[int]bool // those of nodes that are left out where nothing is in them: folders that are excluded, or hold nothing but what the build writes
	own   []string     // warnings of folders that were left out
	err   error
}

// match lists the file or folder at path, which may be a symlink to it.
func (w *walk) match(path string, named bool) (Match, error) {
	m := Match{Name: filepath.Base(path)}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return m, dangling(path, err)
	}
	top, id, err := w.node(unix.AT_FDCWD, real, real, ".")
	if err != nil {
		return m, err
	}
	if top.Mode&fs.ModeSocket != 0 {
		return m, &fs.PathError{Op: "copy", Path: real, Err: errors.New("is a socket, which a layer cannot hold")}
	}
	root := &listing{nodes: []Node{top}}
	if top.Mode.IsDir() {
		if err := w.own.check(real, id); err != nil {
			return m, err
		}
		w.start(path, named)
		content := &listing{}
		root.below = []*listing{content}
		var wg sync.WaitGroup
		w.list(&wg, content, real, "")
		wg.Wait()
	}
	m.Nodes = make([]Node, 0, root.count())
	m.Nodes, err = root.flatten(m.Nodes, w.warn)
	if len(m.Nodes) == 1 && w.missed.Load() {
		if !named && w.ignore.Match(w.base) {
			m.Nodes = nil
		} else {
			w.warn(fmt.Sprintf("%s: %s leaves nothing of it", path, w.ignored.file))
		}
	}
	return m, err
}

// start prepares for what is in the folder at path: named says that it was not a glob that found
// it.
func (w *walk) start(path string, named bool) {
	w.missed.Store(false)
	w.ignore = nil
	if len(w.ignored.globs) == 0 {
		return
	}
	if w.base = w.source.relative(path); w.base == "" {
		return
	}
	w.ignore = w.ignored.globs
	if named {
		w.ignore = w.ignored.below(w.base)
	}
}

// leftOut reports whether the file or folder at a path below the match is left out, and whether, if
// it is a folder, something in it may not be.
func (w *walk) leftOut(rel string) (out, deeper bool) {
	deeper = true
	if w.exclude.Match(rel) {
		out, deeper = true, w.exclude.ExceptsBelow(rel)
	}
	if len(w.ignore) == 0 {
		return out, deeper
	}
	if p := w.base + "/" + rel; w.ignore.Match(p) {
		w.missed.Store(true)
		out, deeper = true, deeper && w.ignore.ExceptsBelow(p)
	}
	return out, deeper
}

// skip reports whether the match of a glob at path, or a folder on the way to some, is left out.
func (w *walk) skip(path string, d fs.DirEntry) bool {
	if rel := w.source.relative(path); rel != "" && rel != "." && w.ignored.globs.Match(rel) && !(d.IsDir() && w.ignored.globs.ExceptsBelow(rel)) {
		return true
	}
	if !d.IsDir() || len(w.own.folders) == 0 {
		return false
	}
	key, _ := identify(path)
	own, ok := w.own.folders[key]
	if ok {
		w.warn(own.leftOut(path))
	}
	return ok
}

// count returns how many nodes are in the listing and below.
func (l *listing) count() int {
	n := len(l.nodes)
	for _, b := range l.below {
		n += b.count()
	}
	return n
}

// flatten appends all nodes, a folder before its content, without sockets, and without folders that
// are only ways to nothing. The error is the first in this order.
func (l *listing) flatten(all []Node, warn func(string)) ([]Node, error) {
	for _, text := range l.own {
		warn(text)
	}
	below := l.below
	for i := range l.nodes {
		n := &l.nodes[i]
		if n.Mode&fs.ModeSocket != 0 {
			warn(fmt.Sprintf("%s: a layer cannot hold a socket", n.Path))
			continue
		}
		all = append(all, *n)
		if n.Mode.IsDir() {
			var err error
			before := len(all)
			if all, err = below[0].flatten(all, warn); err != nil {
				return nil, err
			}
			if l.ways[i] && len(all) == before {
				all = all[:before-1]
			}
			below = below[1:]
		}
	}
	return all, l.err
}

// list fills l with the content of the folder at path, and of all below it; rel is its path below
// the match, with a slash at its end unless it is the match itself. What wg waits for is still
// filled when list returns.
func (w *walk) list(wg *sync.WaitGroup, l *listing, path, rel string) {
	if l.err = w.ctx.Err(); l.err != nil {
		return
	}
	if l.err = w.read(l, path, rel); l.err != nil && len(l.nodes) == 0 {
		return
	}
	for i := range l.nodes {
		if l.nodes[i].Mode.IsDir() {
			l.below = append(l.below, &listing{})
		}
	}
	below := l.below
	for i := range l.nodes {
		n := &l.nodes[i]
		if !n.Mode.IsDir() {
			continue
		}
		sub := below[0]
		below = below[1:]
		select {
		case w.free <- struct{}{}:
			wg.Go(func() {
				w.list(wg, sub, n.Path, n.Rel+"/")
				<-w.free
			})
		default:
			w.list(wg, sub, n.Path, n.Rel+"/")
		}
	}
}

// read fills l.nodes with what is in the folder itself.
func (w *walk) read(l *listing, path, rel string) error {
	fd, err := open(unix.AT_FDCWD, path, unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	paths := joinAll(path, names)
	root := len(strings.TrimSuffix(path, "/")) + 1 - len(rel) // where names below the match begin
	l.nodes = make([]Node, 0, len(names))
	for i, name := range names {
		rel := paths[i][root:]
		out, deeper := w.leftOut(rel)
		if out && !(deeper && isDir(fd, name)) {
			continue
		}
		n, id, err := w.node(fd, name, paths[i], rel)
		if err != nil {
			return err
		}
		if n.Mode.IsDir() {
			if own, ok := w.own.folders[id]; ok {
				l.own = append(l.own, own.leftOut(n.Path))
				continue
			}
			if out || w.own.above[id] {
				if l.ways == nil {
					l.ways = map[int]bool{}
				}
				l.ways[len(l.nodes)] = true
			}
		}
		l.nodes = append(l.nodes, n)
	}
	return nil
}

// node describes the file that is called name in the folder fd. path is its absolute path, rel that
// below the match. id is that of a folder.
func (w *walk) node(fd int, name, path, rel string) (n Node, id statKey, err error) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return n, id, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	n = Node{Rel: rel, Path: path, Mode: fileMode(st.Mode), MTime: st.Mtim.Sec}
	if w.git {
		n.Mode = gitMode(n.Mode)
	}
	switch n.Mode.Type() {
	case 0:
		n.Size = st.Size
		if st.Nlink > 1 {
			n.Inode = fmt.Sprintf("%d:%d", st.Dev, st.Ino)
		}
		err = w.file(&n, &st, fd, name)
	case fs.ModeSymlink:
		n.Link, err = readLink(fd, name, path)
	case fs.ModeDir:
		id, _ = statOf(&st)
		if rel != "." {
			n.Xattrs, err = xattrs(fd, name, path, w.keeps)
		}
	case fs.ModeNamedPipe, fs.ModeSocket:
	default:
		err = &fs.PathError{Op: "copy", Path: path, Err: fmt.Errorf("is %s", kind(n.Mode))}
	}
	return n, id, err
}

// file completes the description of a regular file by what stat(2) does not say. Where it is all
// known, the file is not looked at.
func (w *walk) file(n *Node, st *unix.Stat_t, fd int, name string) (err error) {
	known, ok := w.stats.lookup(st, w.today)
	if ok && (known.bare || w.keeps == nil) {
		n.Digest = known.sum
		return nil
	}
	if n.Xattrs, err = xattrs(fd, name, n.Path, w.keeps); err != nil {
		return err
	}
	if ok {
		n.Digest = known.sum
		if known.bare = n.Xattrs == nil; known.bare {
			k, _ := statOf(st)
			w.stats.learn(k, known)
		}
		return nil
	}
	unknown := *st
	n.stat = &unknown
	if n.Size == 0 {
		return checkEmpty(fd, name, n.Path)
	}
	return nil
}

// isDir reports whether name in the folder fd is a folder.
func isDir(fd int, name string) bool {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// checkEmpty returns an error for a file with content whose size is 0, as those of /proc have it:
// nobody would read it.
func checkEmpty(dir int, name, path string) error {
	fd, err := open(dir, name, unix.O_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	n := 0
	err = ignoringEINTR(func() (err error) {
		n, err = unix.Read(fd, make([]byte, 1))
		return err
	})
	switch {
	case err != nil:
		return &fs.PathError{Op: "read", Path: path, Err: err}
	case n > 0:
		return falseSize(path)
	}
	return nil
}

// falseSize is the error of a file that does not hold as many bytes as stat(2) says.
func falseSize(path string) error {
	return &fs.PathError{Op: "read", Path: path, Err: errors.New("its size does not fit its content, as with files of /proc and /sys: copy it to an ordinary file first")}
}

// readLink returns the text of a symlink.
func readLink(fd int, name, path string) (string, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		var n int
		err := ignoringEINTR(func() (err error) {
			n, err = unix.Readlinkat(fd, name, b)
			return err
		})
		if err != nil {
			return "", &fs.PathError{Op: "readlink", Path: path, Err: err}
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

// open opens a file or folder for reading. A fifo does not wait.
func open(dir int, path string, flags int) (fd int, err error) {
	err = ignoringEINTR(func() (err error) {
		fd, err = unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|flags, 0)
		return err
	})
	return fd, err
}

// ignoringEINTR repeats a system call that a signal interrupted.
func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// joinAll returns the paths of names in a folder. They share their memory.
func joinAll(dir string, names []string) []string {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	size := 0
	for _, name := range names {
		size += len(prefix) + len(name)
	}
	var b strings.Builder
	b.Grow(size)
	for _, name := range names {
		b.WriteString(prefix)
		b.WriteString(name)
	}
	all := b.String()
	paths := make([]string, len(names))
	for i, name := range names {
		n := len(prefix) + len(name)
		paths[i], all = all[:n], all[n:]
	}
	return paths
}

// gitMode returns a mode as git keeps it: whether a file may be run by its owner.
func gitMode(m fs.FileMode) fs.FileMode {
	if m.IsDir() || m.IsRegular() && m&0o100 != 0 {
		return m.Type() | 0o755
	}
	return m.Type() | 0o644
}

// fileMode returns a mode of stat(2) as package fs has it.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	if mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}
