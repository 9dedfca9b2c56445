package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// DiffOptions says where to look, and which times are the step's own.
type DiffOptions struct {
	// Touched yields paths that may differ from the base; a removed path too. A path that ends in
	// "/" stands for the folder and everything below it. Every path that differs must be yielded or
	// lie below one that ends in "/". Parents need not be yielded for their times. nil: all of dir
	// is walked, in parallel.
	Touched iter.Seq2[string, error]

	// Since, for the walk: what has a ctime before it is known to be as in the base. Zero:
	// everything is compared. A folder that was moved keeps the ctimes of what is in it; Diff minds
	// that.
	Since time.Time

	// Start is when the step began. What has an mtime that is not older, and that it has neither in
	// the base nor in Given, gets the mtime Epoch; a folder of the base gets its mtime in the base.
	// Zero: times are kept as they are.
	Start time.Time
	Epoch int64            // seconds since 1970
	Given map[string]int64 // by path: mtimes that the step did not make, such as those out of an archive

	// Clamp, unless nil, is the latest mtime (seconds since 1970) that what differs from the base
	// may have.
	Clamp *int64

	// Settle makes dir what Unpack makes of base and changes: it sets the mtimes that Start, Epoch
	// and Clamp decide about, in whole seconds, and removes sockets and the extended attributes
	// that layers do not keep. Without it a folder from which something was only made and removed
	// again would keep the step's time, and be a change when it is next compared.
	Settle bool

	// Strict makes a file name like .wh.x an error, which wraps ErrReserved.
	Strict bool

	// Splits says that what was written to a name of a file may have made that a file of its own.
	// Warn is then told of each name that is one now: nobody can say whether that was meant.
	Splits bool

	// Warn, if set, is told what a layer cannot hold (sockets; without Strict, file names like
	// .wh.x), once a path. It is called by one goroutine at a time.
	Warn func(path, what string)
}

// Diff returns how the tree in the folder dir differs from base, sorted as Pack wants it: parents
// once, no opaque folders, whiteouts for the topmost removed names only, all names of a file where
// one of them changed, in one hard link group. Whatever the driver and the hints, the same two
// trees give the same changes. Files are compared by SHA-256 where type, size, mode, owner, times
// and xattrs are equal.
//
// The tree must be at rest until its files have been read for the last time: the openers of the
// changes read them in dir. No symlink is followed, and a mount below dir is an error.
func Diff(ctx context.Context, dir string, base View, o DiffOptions) ([]Change, error) {
	only, err := touchedNames(o.Touched)
	if err != nil {
		return nil, err
	}
	root, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	w := &walker{dir: folder(dir), root: root, base: base, options: o, delta: delta{base: base}}
	if o.Touched != nil {
		w.options.Since = time.Time{}
	}
	w.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	w.group, w.ctx = errgroup.WithContext(ctx)
	w.group.SetLimit(maxWalkers)
	w.group.Go(func() error { return w.start(only) })
	err = w.group.Wait()
	if err == nil {
		w.ctx = ctx // that of the group has ended
		err = w.links()
	}
	switch {
	case errors.Is(err, ErrReserved): // about what is in the tree, wherever that is
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("diff %s: %w", dir, err)
	}
	return w.delta.finish()
}

// Subtree returns what stands at the canonical path in the folder dir and below it, sorted as Apply
// wants it, with hard links; paths are relative to path, which is ".". The error wraps
// fs.ErrNotExist where there is nothing. What it says of Diff's trees goes for this one.
func Subtree(ctx context.Context, dir, path string, warn func(path, what string)) ([]Change, error) {
	all := func(yield func(string, error) bool) { yield(path+"/", nil) }
	found, err := Diff(ctx, dir, Merge(), DiffOptions{Touched: all, Warn: warn})
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, ch := range found {
		if Below(ch.Path, path) {
			if ch.Group != "" {
				ch.Group = Rel(path, ch.Group)
			}
			ch.Path = Rel(path, ch.Path)
			changes = append(changes, ch)
		}
	}
	if len(changes) == 0 {
		return nil, &fs.PathError{Op: "find", Path: "/" + path, Err: fs.ErrNotExist}
	}
	return changes, nil
}

// maxWalkers bounds the folders that are looked at in one moment. Some more than there are
// processors keep a disk busy.
const maxWalkers = 8

// touched is a tree of names: those that Touched yielded, with the folders on the way to them.
type touched struct {
	names map[string]*touched
	all   bool // everything in the folder
}

// touchedNames reads all hints. It returns nil for none, which stands for all names.
func touchedNames(paths iter.Seq2[string, error]) (*touched, error) {
	if paths == nil {
		return nil, nil
	}
	root := &touched{}
	for path, err := range paths {
		if err != nil {
			return nil, err
		}
		clean, all := strings.CutSuffix(path, "/")
		if canonical, err := cleanPath(clean); err != nil || canonical != clean {
			return nil, &fs.PathError{Op: "diff", Path: path, Err: fs.ErrInvalid}
		}
		t := root
		if clean != "." {
			for name := range strings.SplitSeq(clean, "/") {
				t = t.child(name)
			}
		}
		t.all = t.all || all
	}
	return root, nil
}

func (t *touched) child(name string) *touched {
	c := t.names[name]
	if c == nil {
		if t.names == nil {
			t.names = make(map[string]*touched)
		}
		c = &touched{}
		t.names[name] = c
	}
	return c
}

// walker is the state of one Diff.
type walker struct {
	dir     folder
	root    int // descriptor of dir
	base    View
	options DiffOptions
	delta   delta
	buffers sync.Pool // of *[]byte, for reading content

	ctx   context.Context
	group *errgroup.Group

	warning sync.Mutex

	linking sync.Mutex
	linked  map[string]*linkedName // by path
}

// visit is a folder that is to be looked through.
type visit struct {
	path   string
	only   *touched // names to look at; nil: all
	inBase bool     // the base has a folder here
	fresh  bool     // names may have been added to it or removed from it since the base
	moved  bool     // it may have been moved here, so that the ctimes of what is in it say nothing
}

// start compares the root folder itself, and goes through the tree.
func (w *walker) start(only *touched) error {
	st, err := statAt(w.root, ".")
	if err != nil {
		return err
	}
	base, ok, err := w.base.Lookup(".")
	if err != nil {
		return err
	}
	if err := w.compare(w.root, ".", ".", &st, base, ok); err != nil {
		return err
	}
	if only != nil && only.all {
		only = nil
	}
	return w.folder(visit{path: ".", only: only, inBase: ok && base.Type == TypeDir, fresh: w.since(&st)})
}

// since reports whether what st belongs to may have changed since the base.
func (w *walker) since(st *unix.Statx_t) bool {
	return w.options.Since.IsZero() || !timeOf(st.Ctime).Before(w.options.Since)
}

func timeOf(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// folder looks through one folder and then, with other goroutines where some are free, through the
// folders in it.
func (w *walker) folder(v visit) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	below, err := w.names(v)
	if err != nil {
		return err
	}
	for _, b := range below {
		work := func() error { return w.folder(b) }
		if !w.group.TryGo(work) {
			if err := work(); err != nil {
				return err
			}
		}
	}
	return nil
}

// names compares the names in a folder, and returns the folders among them that are to be looked
// through.
func (w *walker) names(v visit) (below []visit, err error) {
	fd, err := openBelow(w.root, v.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), v.path)
	defer d.Close()
	names, err := v.names(d)
	if err != nil {
		return nil, err
	}
	base, err := w.baseNames(v)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		found, next, err := w.name(fd, v, name, base)
		if err != nil {
			return nil, err
		}
		if found {
			delete(base, name)
		}
		if next != nil {
			below = append(below, *next)
		}
	}
	for name := range base {
		w.delta.remove(join(v.path, name))
	}
	return below, nil
}

// names returns the names in the folder d that are to be looked at.
func (v visit) names(d *os.File) ([]string, error) {
	if v.only != nil {
		return slices.Collect(maps.Keys(v.only.names)), nil
	}
	return d.Readdirnames(-1)
}

// baseNames returns what the base has of the names that are to be looked at. It returns nil where
// no name can have been added or removed: the base is then looked at only for what has changed.
func (w *walker) baseNames(v visit) (map[string]Entry, error) {
	names := make(map[string]Entry)
	switch {
	case !v.inBase:
	case v.only != nil:
		for name := range v.only.names {
			e, ok, err := w.base.Lookup(join(v.path, name))
			if err != nil {
				return nil, err
			}
			if ok {
				names[name] = e
			}
		}
	case v.fresh || v.moved:
		for e, err := range w.base.Children(v.path) {
			if err != nil {
				return nil, err
			}
			_, name := split(e.Path)
			names[name] = e
		}
	default:
		return nil, nil
	}
	return names, nil
}

// name compares one name in the folder fd. It reports whether something is there that a layer can
// hold, and if that is a folder that is to be looked through, returns it.
func (w *walker) name(fd int, v visit, name string, names map[string]Entry) (found bool, below *visit, err error) {
	path := join(v.path, name)
	st, err := statAt(fd, name)
	switch {
	case v.only != nil && errors.Is(err, unix.ENOENT):
		return false, nil, nil
	case err != nil:
		return false, nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	case isMount(&st):
		return false, nil, &fs.PathError{Op: "stat", Path: path, Err: errMount}
	case hasWhiteout(name):
		if w.options.Strict {
			return false, nil, &fs.PathError{Op: "put into the layer", Path: "/" + path, Err: ErrReserved}
		}
		w.warn(path, ErrReserved.Error())
		return false, nil, nil
	case st.Mode&unix.S_IFMT == unix.S_IFSOCK:
		w.warn(path, "a layer cannot hold a socket")
		if w.options.Settle {
			err = unlinkQuietly(fd, name)
		}
		if err != nil {
			err = &fs.PathError{Op: "remove socket", Path: path, Err: err}
		}
		return false, nil, err
	}
	base, inBase := names[name]
	changed := v.moved || w.since(&st) || names != nil && !inBase
	if names == nil {
		inBase = true
		if changed {
			if base, inBase, err = w.base.Lookup(path); err != nil {
				return false, nil, err
			}
		}
	}
	if changed {
		if err := w.compare(fd, name, path, &st, base, inBase); err != nil {
			return false, nil, err
		}
	}
	if !isDir(&st) {
		return true, nil, nil
	}
	next := visit{
		path:   path,
		inBase: inBase && (!changed || base.Type == TypeDir),
		fresh:  w.since(&st),
		moved:  v.moved || v.fresh && w.since(&st),
	}
	if v.only != nil {
		t := v.only.names[name]
		switch {
		case t.all:
		case len(t.names) == 0:
			return true, nil, nil
		default:
			next.only = t
		}
	}
	return true, &next, nil
}

var errMount = errors.New("something is mounted here")

// compare compares what st was taken of, called name in the folder fd, with the base.
func (w *walker) compare(fd int, name, path string, st *unix.Statx_t, base Entry, inBase bool) error {
	e, others, err := entryAt(fd, name, path, st)
	if err != nil {
		return err
	}
	e.MTime = clampMTime(e.MTime)
	if w.inStep(st, e, base, inBase) {
		e.MTime = w.options.Epoch
		if inBase && base.Type == TypeDir && e.Type == TypeDir {
			e.MTime = base.MTime
		}
	}
	if c := w.options.Clamp; c != nil && e.MTime > *c && (!inBase || e.MTime != base.MTime) {
		e.MTime = *c
	}
	if w.options.Settle {
		if err := settle(fd, name, e, others, st); err != nil {
			return &fs.PathError{Op: "settle", Path: path, Err: err}
		}
	}
	ch := Change{Entry: e}
	if e.Type == TypeFile && e.Size > 0 {
		ch.Open = w.dir.opener(path)
	}
	var file any
	if st.Nlink > 1 && !isDir(st) {
		file = inodeOf(st)
	}
	if file != nil || inBase && base.Group != "" && !isDir(st) {
		w.link(ch, st)
	}
	return w.delta.put(ch, file, base, inBase, func() ([32]byte, error) { return w.digest(fd, name, path) })
}

// inStep reports whether the mtime of e, which st was taken of, is the step's own. That of what was
// in the base, or came out of an archive, may be later than the step, too.
func (w *walker) inStep(st *unix.Statx_t, e, base Entry, inBase bool) bool {
	if w.options.Start.IsZero() || timeOf(st.Mtime).Before(w.options.Start) {
		return false
	}
	if st.Mtime.Nsec != 0 {
		return true
	}
	given, ok := w.options.Given[e.Path]
	return !(ok && given == e.MTime) && !(inBase && base.Type == e.Type && base.MTime == e.MTime)
}

// settle makes what is called name in the folder fd, and st was taken of, as Unpack makes it of the
// entry e: without the extended attributes others. It follows no symlink.
func settle(fd int, name string, e Entry, others []string, st *unix.Statx_t) error {
	if err := removeXattrs(fd, name, others); err != nil {
		return err
	}
	if st.Mtime.Sec == e.MTime && st.Mtime.Nsec == 0 {
		return nil
	}
	at := unix.Timespec{Sec: e.MTime}
	if err := unix.UtimesNanoAt(fd, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// unlinkQuietly removes a name in the folder fd, whose times stay.
func unlinkQuietly(fd int, name string) error {
	st, err := statFD(fd)
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(fd, name, 0); err != nil {
		return err
	}
	times := []unix.Timespec{{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)}, {Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)}}
	return unix.UtimesNanoAt(fd, ".", times, 0)
}

// digest returns the SHA-256 of the regular file called name in the folder fd.
func (w *walker) digest(fd int, name, path string) (sum [32]byte, err error) {
	file, err := openBelow(fd, name, unix.O_RDONLY)
	if err != nil {
		return sum, err
	}
	f := os.NewFile(uintptr(file), path)
	defer f.Close()
	buf := w.buffers.Get().(*[]byte)
	defer w.buffers.Put(buf)
	return sumOf(w.ctx, f, *buf)
}

func (w *walker) warn(path, what string) {
	if w.options.Warn == nil {
		return
	}
	w.warning.Lock()
	defer w.warning.Unlock()
	w.options.Warn(path, what)
}
