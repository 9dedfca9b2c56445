package layer

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// unpackedFolder is a folder that gets its metadata last: filling it changes its times, and may
// need permissions that it does not give.
type unpackedFolder struct {
	path  string
	entry *Entry              // nil: the layer has none for it, and it goes back to what it was
	mode  uint32              // without entry: the mode that it had
	mtime unix.StatxTimestamp // and its time

	made     bool            // it was made here
	uid, gid int             // if so: its owner until it gets that of its entry, who is also that of what is made in it
	plain    bool            // if so: it has no attributes yet
	fresh    bool            // it was empty, so that names has all that is in it
	hidden   bool            // nothing of lower layers is in it any more, nor in the folders in it
	names    map[string]bool // what was put in it; some may be gone again, or not be there before the makers have made them
	visited  bool            // inherits is known
	inherits bool            // files that are made in it get ACLs from it
}

// note says that something is put at name, and returns whether that may be there already.
func (f *unpackedFolder) note(name string) (again bool) {
	if f.names == nil {
		f.names = make(map[string]bool)
	}
	again = f.names[name]
	f.names[name] = true
	return again
}

// gives reports whether what is made in the folder belongs to the owner of e without being told.
func (f *unpackedFolder) gives(e *Entry) bool { return f.made && f.uid == e.UID && f.gid == e.GID }

// openFolder is a folder that entries go to. It is open as long as somebody holds it.
type openFolder struct {
	*unpackedFolder
	fd      int // O_PATH
	holders atomic.Int32
	used    int // when it was, for openFolders
}

func (o *openFolder) hold() { o.holders.Add(1) }

func (o *openFolder) release() {
	if o.holders.Add(-1) == 0 {
		unix.Close(o.fd)
	}
}

// maxOpenFolders is how many folders are kept open: enough for the way back up from the deepest
// usual folder.
const maxOpenFolders = 32

// openFolders are the folders that the last entries went to, by the paths that these were under. A
// path may lead through symlinks.
type openFolders struct {
	open map[string]*openFolder
	uses int
}

// get returns the folder at path if it is open, or nil. It stays open until the next add or flush,
// and for who holds it.
func (c *openFolders) get(path string) *openFolder {
	o := c.open[path]
	if o != nil {
		c.uses++
		o.used = c.uses
	}
	return o
}

// add keeps the folder at path open, and closes the one that was not used for the longest time when
// there are many.
func (c *openFolders) add(path string, o *openFolder) {
	if len(c.open) == maxOpenFolders {
		oldest := ""
		for p, o := range c.open {
			if oldest == "" || o.used < c.open[oldest].used {
				oldest = p
			}
		}
		c.open[oldest].release()
		delete(c.open, oldest)
	}
	if c.open == nil {
		c.open = make(map[string]*openFolder)
	}
	o.hold()
	c.uses++
	o.used = c.uses
	c.open[path] = o
}

// flush closes all of them: paths may lead elsewhere from now on.
func (c *openFolders) flush() {
	for _, o := range c.open {
		o.release()
	}
	clear(c.open)
}

// visit notes how the folder fd at path is before anything is changed in it, and makes sure that it
// can be.
func (x *extractor) visit(fd int, path string) (*unpackedFolder, error) {
	st, err := statFD(fd)
	if err != nil {
		return nil, err
	}
	id := inodeOf(&st)
	f := x.folders[id]
	if f == nil {
		f = &unpackedFolder{path: path, mode: uint32(st.Mode) & 0o7777, mtime: st.Mtime}
		x.folders[id] = f
	}
	if !x.options.KeepOwner && st.Mode&0o700 != 0o700 {
		makeAccessible(fd)
	}
	if !f.visited && !f.plain {
		n, err := unix.Lgetxattr(procPath(fd, "."), defaultACL, nil)
		f.inherits = err == nil && n > 0
	}
	f.visited = true
	return f, nil
}

// newFolder notes the metadata that the folder called name in the folder fd is to have in the end.
// plain is for a folder that was made just now: whether it has no attributes.
func (x *extractor) newFolder(fd int, name string, e Entry, made, plain bool) (*unpackedFolder, error) {
	st, err := statAt(fd, name)
	if err != nil {
		return nil, err
	}
	id := inodeOf(&st)
	f := x.folders[id]
	if f == nil || made { // another folder that had the number is gone
		f = &unpackedFolder{made: made, uid: int(st.Uid), gid: int(st.Gid), plain: plain, fresh: made}
		x.folders[id] = f
	}
	if e.Path == "." && x.options.KeepRoot {
		e = Entry{Path: ".", Type: TypeDir, Mode: uint32(st.Mode) & 0o7777, UID: int(st.Uid), GID: int(st.Gid), MTime: e.MTime}
	}
	f.path, f.entry = e.Path, &e
	return f, nil
}

// finish gives the folders their metadata, each before those around it.
func (x *extractor) finish() error {
	ids := slices.SortedFunc(maps.Keys(x.folders), func(a, b inode) int {
		return -Compare(x.folders[a].path, x.folders[b].path)
	})
	for _, id := range ids {
		f := x.folders[id]
		if err := x.finishFolder(id, f); err != nil {
			return &fs.PathError{Op: "unpack", Path: f.path, Err: err}
		}
	}
	return nil
}

// finishFolder gives a folder its metadata, or back those that it had. It may be gone by now.
func (x *extractor) finishFolder(id inode, f *unpackedFolder) error {
	fd, err := openInside(x.root, f.path, unix.O_PATH|unix.O_DIRECTORY)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := statFD(fd)
	switch {
	case err != nil || inodeOf(&st) != id:
		return err
	case f.entry == nil:
		return f.restore(fd, &st)
	}
	return x.setFolderMetadata(fd, f)
}

// restore gives the folder fd, which is now as st says, its mode and time back.
func (f *unpackedFolder) restore(fd int, st *unix.Statx_t) error {
	if uint32(st.Mode)&0o7777 != f.mode {
		if err := chmodFD(fd, f.mode); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if st.Mtime == f.mtime {
		return nil
	}
	return setTimesFD(fd, unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Sec: f.mtime.Sec, Nsec: int64(f.mtime.Nsec)})
}

// setFolderMetadata gives the folder fd the metadata of its entry.
func (x *extractor) setFolderMetadata(fd int, f *unpackedFolder) error {
	e := f.entry
	if !x.options.KeepOwner {
		makeAccessible(fd)
	} else if !f.gives(e) {
		if err := unix.Fchownat(fd, "", e.UID, e.GID, unix.AT_EMPTY_PATH); err != nil {
			return &OwnerError{e.UID, e.GID, err}
		}
	}
	if err := x.setXattrs(fd, ".", e, f.plain); err != nil {
		return err
	}
	if err := chmodFD(fd, e.Mode); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	t := unix.Timespec{Sec: e.MTime}
	return setTimesFD(fd, t, t)
}

// setTimesFD sets the times of what the O_PATH descriptor fd stands for.
func setTimesFD(fd int, atime, mtime unix.Timespec) error {
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), []unix.Timespec{atime, mtime}, 0); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// makeAccessible tries to give the owner of the folder that the O_PATH descriptor fd stands for all
// permissions in it, where they lack. Where that does not help, what is tried next fails.
func makeAccessible(fd int) {
	st, err := statFD(fd)
	if err == nil && st.Mode&0o700 != 0o700 {
		_ = chmodFD(fd, uint32(st.Mode)&0o7777|0o700)
	}
}

// chmodFD is fchmod(2) for O_PATH descriptors, which that call does not take.
func chmodFD(fd int, mode uint32) error {
	return unix.Chmod(fdPath(fd), mode)
}
