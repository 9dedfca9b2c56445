package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// extract runs fill, which puts entries into the folder dir, and completes the folders.
func extract(dir string, o UnpackOptions, fill func(*extractor) error) error {
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	x := &extractor{
		root:    root,
		options: o,
		parent:  parentFolder{fd: -1},
		folders: make(map[inode]*unpackedFolder),
		ours:    make(map[string]bool),
		buf:     make([]byte, bufferSize),
	}
	defer x.leaveParent()
	if err := x.start(); err != nil {
		return err
	}
	if err := fill(x); err != nil {
		return err
	}
	return x.finish()
}

// extractor is the state of one Unpack or Apply.
type extractor struct {
	root    int // descriptor of the folder
	options UnpackOptions
	parent  parentFolder
	folders map[inode]*unpackedFolder
	ours    map[string]bool // paths that this layer has put something at, and the folders on the way: its whiteouts spare them
	buf     []byte
}

// parentFolder is the folder that the last entry went to, open.
type parentFolder struct {
	path     string
	fd       int  // O_PATH; -1: none
	inherits bool // files that are made in it get ACLs from it
}

// unpackedFolder is a folder that gets its metadata last: filling it changes its times, and may need permissions that it does not give.
type unpackedFolder struct {
	path  string
	entry *Entry              // nil: the layer has none for it, and it goes back to what it was
	mode  uint32              // without entry: the mode that it had
	mtime unix.StatxTimestamp // and its time
}

// start makes an empty folder a new root.
func (x *extractor) start() error {
	fd, err := openBelow(x.root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), ".")
	defer d.Close()
	if _, err = d.Readdirnames(1); errors.Is(err, io.EOF) {
		return x.newFolder(x.root, ".", impliedFolder("."))
	}
	return err
}

// impliedFolder is a folder that no layer has an entry for.
func impliedFolder(path string) Entry { return Entry{Path: path, Type: TypeDir, Mode: 0o755} }

// put puts an entry into the tree: another name of the file at target if that is given; content writes that of a regular file.
func (x *extractor) put(e Entry, target string, content func(io.Writer) error) error {
	if e.Type == TypeWhiteout {
		return x.hide(e.Path)
	}
	dir, name := split(e.Path)
	if e.Path == "." {
		if e.Type != TypeDir {
			return unix.EISDIR
		}
		return x.newFolder(x.root, ".", e)
	}
	if err := x.enterParent(dir); err != nil {
		return err
	}
	x.claim(e.Path)
	at := x.parent.fd
	var err error
	switch {
	case target != "":
		return x.link(at, name, target)
	case e.Type == TypeDir:
		return x.mkdir(at, name, e)
	case e.Type == TypeFile:
		return x.file(at, name, e, content)
	case e.Type == TypeSymlink:
		err = x.replace(at, name, func() error { return unix.Symlinkat(e.Link, at, name) })
	case e.Type == TypeFIFO:
		err = x.replace(at, name, func() error { return unix.Mknodat(at, name, unix.S_IFIFO|0o600, 0) })
	case x.options.Placeholders:
		return x.file(at, name, e, func(io.Writer) error { return nil })
	case !x.options.KeepOwner:
		return x.remove(at, name)
	default:
		err = x.replace(at, name, func() error { return mknod(at, name, e) })
	}
	if err != nil {
		return err
	}
	return x.setMetadata(at, name, e, func() error { return chmodAt(at, name, e) })
}

func mknod(fd int, name string, e Entry) error {
	mode := uint32(unix.S_IFCHR)
	if e.Type == TypeBlock {
		mode = unix.S_IFBLK
	}
	return unix.Mknodat(fd, name, mode|0o600, int(unix.Mkdev(e.Major, e.Minor)))
}

// claim notes that the layer itself has something at path.
func (x *extractor) claim(path string) {
	for ; !x.ours[path]; path, _ = split(path) {
		x.ours[path] = true
	}
}

// replace runs create, which makes name in the folder fd and fails with EEXIST where something is; that is removed then.
func (x *extractor) replace(fd int, name string, create func() error) error {
	err := create()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := x.remove(fd, name); err != nil {
		return err
	}
	return create()
}

// remove removes name from the folder fd. If that is a folder, or a symlink to one, it may have led to
// the open parent: then this is looked up anew for the next entry.
func (x *extractor) remove(fd int, name string) error {
	st, err := statAt(fd, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		x.parent.path = ""
	}
	return removeAt(fd, name)
}

// file makes a regular file, or the placeholder of a device.
func (x *extractor) file(fd int, name string, e Entry, content func(io.Writer) error) error {
	var f *os.File
	err := x.replace(fd, name, func() error {
		file, err := unix.Openat(fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			f = os.NewFile(uintptr(file), e.Path)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = x.fill(f, fd, name, e, content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// fill gives the new file f, called name in the folder fd, its content and metadata.
func (x *extractor) fill(f *os.File, fd int, name string, e Entry, content func(io.Writer) error) error {
	// Only Write of the file is shown, so that copies go through our large buffer.
	if err := content(struct{ io.Writer }{f}); err != nil {
		return err
	}
	if e.Type != TypeFile {
		if err := unix.Fsetxattr(int(f.Fd()), nodeXattr, []byte(formatNode(e)), 0); err != nil {
			return fmt.Errorf("setxattr %s: %w", nodeXattr, err)
		}
	}
	return x.setMetadata(fd, name, e, func() error { return unix.Fchmod(int(f.Fd()), e.Mode) })
}

// mkdir makes a folder, or takes the one that is there.
func (x *extractor) mkdir(fd int, name string, e Entry) error {
	err := x.replace(fd, name, func() error {
		err := unix.Mkdirat(fd, name, 0o700)
		if err != unix.EEXIST {
			return err
		}
		if st, statErr := statAt(fd, name); statErr != nil || !isDir(&st) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	return x.newFolder(fd, name, e)
}

// newFolder notes the metadata that the folder is to have in the end.
func (x *extractor) newFolder(fd int, name string, e Entry) error {
	st, err := statAt(fd, name)
	if err != nil {
		return err
	}
	x.folders[inodeOf(&st)] = &unpackedFolder{path: e.Path, entry: &e}
	return nil
}

// link makes name in the folder fd another name of a file of this or a lower layer. Metadata is that of the first name.
func (x *extractor) link(fd int, name, target string) error {
	dir, base := split(target)
	from, err := openInside(x.root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("link to %s: %w", target, err)
	}
	defer unix.Close(from)
	if err := x.linkAt(from, base, fd, name); err != nil {
		return fmt.Errorf("link to %s: %w", target, err)
	}
	return nil
}

func (x *extractor) linkAt(from int, target string, fd int, name string) error {
	have, err := statAt(from, target)
	if err != nil {
		return err
	}
	if isDir(&have) {
		return unix.EISDIR
	}
	if there, err := statAt(fd, name); err == nil && inodeOf(&there) == inodeOf(&have) {
		return nil
	}
	return x.replace(fd, name, func() error { return unix.Linkat(from, target, fd, name, 0) })
}

// hide applies the whiteout of path: what lower layers have there goes. Like other entries it needs folders around it.
func (x *extractor) hide(path string) error {
	dir, name := split(path)
	if err := x.enterParent(dir); err != nil {
		return err
	}
	x.claim(dir)
	if !x.ours[path] {
		return x.remove(x.parent.fd, name)
	}
	st, err := statAt(x.parent.fd, name)
	if err != nil || !isDir(&st) {
		return err
	}
	return x.hideChildren(path)
}

// hideChildren removes what lower layers have in the folder at path.
func (x *extractor) hideChildren(path string) error {
	if err := x.enterParent(path); err != nil {
		return err
	}
	x.claim(path)
	fd, err := openBelow(x.parent.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), path)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := x.hide(join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// setMetadata sets owner, extended attributes, mode and time of what is no folder, in the order in which one does not clear
// or forbid another: a new owner clears capabilities and setuid, and user attributes want a writable file. chmod sets the mode.
func (x *extractor) setMetadata(fd int, name string, e Entry, chmod func() error) error {
	if x.options.KeepOwner {
		if err := unix.Fchownat(fd, name, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("chown %d:%d: %w", e.UID, e.GID, err)
		}
	}
	if err := x.setXattrs(fd, name, e, !x.parent.inherits); err != nil {
		return err
	}
	if err := chmod(); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	t := unix.Timespec{Sec: e.MTime}
	if err := unix.UtimesNanoAt(fd, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// setXattrs gives name in the folder fd the extended attributes of its entry; clean says that it can have no others.
func (x *extractor) setXattrs(fd int, name string, e Entry, clean bool) error {
	path := procPath(fd, name)
	if !clean {
		have, _, err := xattrsAt(fd, name)
		if err != nil {
			return err
		}
		for attr := range have {
			if _, keep := e.Xattrs[attr]; keep || !x.maySet(attr) {
				continue
			}
			if err := unix.Lremovexattr(path, attr); err != nil {
				return fmt.Errorf("removexattr %s: %w", attr, err)
			}
		}
	}
	for attr, value := range e.Xattrs {
		if !KeepXattr(attr) || !x.maySet(attr) {
			continue
		}
		if err := unix.Lsetxattr(path, attr, []byte(value), 0); err != nil {
			return fmt.Errorf("setxattr %s: %w", attr, err)
		}
	}
	return nil
}

// maySet reports whether the process is expected to be able to set the extended attribute.
func (x *extractor) maySet(attr string) bool { return x.options.KeepOwner || !privilegedXattr(attr) }

// chmodAt sets the mode of name in the folder fd. Symlinks have none of their own.
func chmodAt(fd int, name string, e Entry) error {
	if e.Type == TypeSymlink {
		return nil
	}
	file, err := openBelow(fd, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	return chmodFD(file, e.Mode)
}

// enterParent opens the folder at path, which the next entry goes to, and makes it if it is missing.
func (x *extractor) enterParent(path string) error {
	err := x.enterExisting(path)
	if errors.Is(err, unix.ENOENT) || !x.options.KeepOwner && errors.Is(err, unix.EACCES) {
		if err := x.mkdirAll(path); err != nil {
			return err
		}
		return x.enterExisting(path)
	}
	return err
}

// enterExisting opens the folder at path.
func (x *extractor) enterExisting(path string) error {
	if x.parent.fd >= 0 && x.parent.path == path {
		return nil
	}
	x.leaveParent()
	fd, err := openInside(x.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	x.parent = parentFolder{path: path, fd: fd}
	if err := x.visit(fd, path); err != nil {
		return err
	}
	n, err := unix.Lgetxattr(procPath(fd, "."), defaultACL, nil)
	x.parent.inherits = err == nil && n > 0
	return nil
}

func (x *extractor) leaveParent() {
	if x.parent.fd >= 0 {
		unix.Close(x.parent.fd)
	}
	x.parent = parentFolder{fd: -1}
}

// visit notes how the folder fd is before anything is changed in it, and makes sure that it can be.
func (x *extractor) visit(fd int, path string) error {
	st, err := statFD(fd)
	if err != nil {
		return err
	}
	if x.folders[inodeOf(&st)] == nil {
		x.folders[inodeOf(&st)] = &unpackedFolder{path: path, mode: uint32(st.Mode) & 0o7777, mtime: st.Mtime}
	}
	if !x.options.KeepOwner {
		makeAccessible(fd)
	}
	return nil
}

// mkdirAll makes the folder at path, of which some part is missing or cannot be entered. Links that lead
// to what is missing are followed, as Composer.Resolve does.
func (x *extractor) mkdirAll(path string) error {
	path, err := resolve(path, true, x.readlink)
	if err != nil {
		return err
	}
	dir := "."
	for name := range strings.SplitSeq(path, "/") {
		if err := x.mkdirImplied(dir, name); err != nil {
			return err
		}
		dir = join(dir, name)
	}
	return nil
}

// mkdirImplied makes a folder in the folder at the canonical path dir, unless something is there.
func (x *extractor) mkdirImplied(dir, name string) error {
	fd, err := x.openVisited(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch err := unix.Mkdirat(fd, name, 0o700); err {
	case nil:
		return x.newFolder(fd, name, impliedFolder(join(dir, name)))
	case unix.EEXIST:
		return nil
	default:
		return err
	}
}

// readlink returns the text of the symlink at the canonical path, or "" where there is none.
func (x *extractor) readlink(path string) (string, error) {
	dir, name := split(path)
	fd, err := x.openVisited(dir)
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	link, err := readlinkAt(fd, name)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // no symlink
		return "", nil
	}
	return link, err
}

// openVisited opens the folder at the canonical path to change something in it.
func (x *extractor) openVisited(path string) (int, error) {
	fd, err := openBelow(x.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	if err := x.visit(fd, path); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// finish gives the folders their metadata, each before those around it.
func (x *extractor) finish() error {
	x.leaveParent()
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
	return x.setFolderMetadata(fd, *f.entry)
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

// setFolderMetadata is setMetadata for the folder fd.
func (x *extractor) setFolderMetadata(fd int, e Entry) error {
	if x.options.KeepOwner {
		if err := unix.Fchownat(fd, "", e.UID, e.GID, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("chown %d:%d: %w", e.UID, e.GID, err)
		}
	} else {
		makeAccessible(fd)
	}
	if err := x.setXattrs(fd, ".", e, false); err != nil {
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
