package layer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
)

// extract runs fill, which puts entries into the folder dir, and completes the folders. fill ends
// early, with any error or none, when x.failed says so.
func extract(dir string, o UnpackOptions, fill func(*extractor) error) error {
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	x := &extractor{
		root:      root,
		nodeMaker: nodeMaker{o},
		folders:   make(map[inode]*unpackedFolder),
		ours:      make(map[string]bool),
		buf:       make([]byte, bufferSize),
	}
	x.makers = newMakers(&x.nodeMaker)
	defer x.leaveParents()
	err = x.start()
	if err == nil {
		err = fill(x)
	}
	if madeErr := x.makers.close(); madeErr != nil {
		err = madeErr // of an entry that came before that of err
	}
	if err != nil {
		return err
	}
	x.leaveParents()
	return x.finish()
}

// extractor is the state of one Unpack or Apply. All is done by one goroutine, in the order of the
// entries, but for regular files that are small and new: makers make those some time later.
// Whatever could find such a file there, or not there, waits for them first (makers.wait): what
// replaces or removes something, links, and names that come again. A path that leads through one is
// found to lead nowhere, and looked up once more then. All else can neither meet nor miss them.
type extractor struct {
	nodeMaker
	root    int // descriptor of the folder
	makers  *makers
	parent  *openFolder // that the last entry went to, held; nil: none
	open    openFolders
	folders map[inode]*unpackedFolder
	ours    map[string]bool // paths that this layer has put something at, and the folders on the way: its whiteouts spare them
	buf     []byte
}

// failed reports whether makers had an error, so that nothing more needs to be put.
func (x *extractor) failed() bool { return x.makers.failed.Load() }

// fileContent is that of one regular file. It is read once, by one of the two methods.
type fileContent interface {
	// writeTo writes it to w.
	writeTo(w io.Writer) error
	// read puts it into b, which has the size that the entry says.
	read(b []byte) error
}

// start makes an empty folder a new root.
func (x *extractor) start() error {
	fd, err := openBelow(x.root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), ".")
	defer d.Close()
	if _, err = d.Readdirnames(1); !errors.Is(err, io.EOF) {
		return err
	}
	f, err := x.newFolder(x.root, ".", impliedFolder("."), false, false)
	if err == nil {
		f.fresh = true
	}
	return err
}

// impliedFolder is a folder that no layer has an entry for.
func impliedFolder(path string) Entry { return Entry{Path: path, Type: TypeDir, Mode: 0o755} }

// put puts an entry into the tree: another name of the file at target if that is given; c is the
// content of a regular file. said is what the archive calls the entry, for errors of makers.
func (x *extractor) put(e Entry, target string, c fileContent, said string) error {
	if e.Type == TypeWhiteout {
		return x.hide(e.Path)
	}
	dir, name := split(e.Path)
	if e.Path == "." {
		if e.Type != TypeDir {
			return unix.EISDIR
		}
		_, err := x.newFolder(x.root, ".", e, false, false)
		return err
	}
	if err := x.enterParent(dir); err != nil {
		return err
	}
	x.claim(e.Path)
	again := x.parent.note(name)
	if target == "" && !again && x.makers.takes(&e) {
		if isNew, err := x.isNew(name); isNew || err != nil {
			if err != nil {
				return err
			}
			return x.makers.add(newFile{in: x.parent, name: name, entry: e, said: said}, c.read)
		}
	}
	if target != "" || again {
		x.makers.wait()
	}
	at := x.parent.fd
	var err error
	switch {
	case target != "":
		return x.link(at, name, target)
	case e.Type == TypeDir:
		return x.mkdir(name, e)
	case e.Type == TypeFile:
		fd, err := x.createFile(name, &e)
		if err != nil {
			return err
		}
		return x.file(fd, x.parent, name, &e, c.writeTo)
	case e.Type == TypeSymlink:
		err = x.replace(at, name, func() error { return unix.Symlinkat(e.Link, at, name) })
	case e.Type == TypeFIFO:
		err = x.replace(at, name, func() error { return unix.Mknodat(at, name, unix.S_IFIFO|0o600, 0) })
	case x.options.Placeholders:
		fd, err := x.createFile(name, &e)
		if err != nil {
			return err
		}
		return x.placeholder(fd, x.parent, name, &e)
	case !x.options.KeepOwner:
		return x.remove(at, name)
	default:
		err = x.replace(at, name, func() error { return mknod(at, name, e) })
	}
	if err != nil {
		return err
	}
	return x.setMetadata(x.parent, name, &e, func() error { return chmodAt(at, name, &e) })
}

// createFile makes an empty file in the parent.
func (x *extractor) createFile(name string, e *Entry) (fd int, err error) {
	err = x.replace(x.parent.fd, name, func() (err error) {
		fd, err = x.create(x.parent, name, e)
		return err
	})
	return fd, err
}

// isNew reports whether nothing is at a name in the parent that was not noted before.
func (x *extractor) isNew(name string) (bool, error) {
	if x.parent.fresh {
		return true, nil
	}
	_, err := statAt(x.parent.fd, name)
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	return false, err
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

// replace runs create, which makes name in the folder fd and fails with EEXIST where something is;
// that is removed then.
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

// remove removes name from the folder fd. If that is a folder, or a symlink to one, it may have led
// to folders that are open: then these are looked up anew for the next entry.
func (x *extractor) remove(fd int, name string) error {
	st, err := statAt(fd, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		x.makers.wait()
		x.open.flush()
	}
	return beneath.RemoveAt(fd, name)
}

// mkdir makes a folder in the parent, or takes the one that is there.
func (x *extractor) mkdir(name string, e Entry) error {
	at, made := x.parent.fd, false
	err := x.replace(at, name, func() error {
		err := unix.Mkdirat(at, name, 0o700)
		made = err == nil
		if err != unix.EEXIST {
			return err
		}
		if st, statErr := statAt(at, name); statErr != nil || !isDir(&st) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = x.newFolder(at, name, e, made, made && !x.parent.inherits)
	return err
}

// link makes name in the folder fd another name of a file of this or a lower layer. Metadata is
// that of the first name.
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

// hide applies the whiteout of path: what lower layers have there goes. Like other entries it needs
// folders around it.
func (x *extractor) hide(path string) error {
	x.makers.wait()
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

// hideChildren removes what lower layers have in the folder at path. What makers are about to put
// there is the layer's own.
func (x *extractor) hideChildren(path string) error {
	if err := x.enterParent(path); err != nil {
		return err
	}
	x.claim(path)
	folder := x.parent.unpackedFolder
	if folder.hidden {
		return nil // and what came since is the layer's own
	}
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
	folder.hidden = true
	return nil
}

// enterParent opens the folder at path, which the next entry goes to, and makes it if it is
// missing.
func (x *extractor) enterParent(path string) error {
	err := x.enterExisting(path)
	if err == nil {
		return nil
	}
	x.makers.wait() // the path may lead through a file that was not there
	err = x.enterExisting(path)
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
	o := x.open.get(path)
	if o == nil {
		fd, err := openInside(x.root, path, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		f, err := x.visit(fd, path)
		if err != nil {
			unix.Close(fd)
			return err
		}
		o = &openFolder{unpackedFolder: f, fd: fd}
		x.open.add(path, o)
	}
	o.hold()
	if x.parent != nil {
		x.parent.release()
	}
	x.parent = o
	return nil
}

// leaveParents closes all folders that are open for entries.
func (x *extractor) leaveParents() {
	if x.parent != nil {
		x.parent.release()
		x.parent = nil
	}
	x.open.flush()
}

// mkdirAll makes the folder at path, of which some part is missing or cannot be entered. Links that
// lead to what is missing are followed, as Composer.Resolve does.
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
	fd, in, err := x.openVisited(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	in.note(name)
	switch err := unix.Mkdirat(fd, name, 0o700); err {
	case nil:
		_, err := x.newFolder(fd, name, impliedFolder(join(dir, name)), true, !in.inherits)
		return err
	case unix.EEXIST:
		return nil
	default:
		return err
	}
}

// readlink returns the text of the symlink at the canonical path, or "" where there is none.
func (x *extractor) readlink(path string) (string, error) {
	dir, name := split(path)
	fd, _, err := x.openVisited(dir)
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
func (x *extractor) openVisited(path string) (int, *unpackedFolder, error) {
	fd, err := openBelow(x.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, nil, err
	}
	f, err := x.visit(fd, path)
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, f, nil
}
