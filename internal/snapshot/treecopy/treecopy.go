// Package treecopy copies trees of files with all that belongs to them, and merges the folders of
// an overlay.
package treecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Options say how the folders of an overlay are to be read. The zero value is right for all other
// folders.
type Options struct {
	// Opaque is the extended attribute that, with the value "y", makes a folder hide those of the
	// same path further down the stack. "": the folders are not an overlay's.
	Opaque string
	// Below are the folders that the copy will stand on, top first. In a folder that is in none of
	// them, a whiteout would be listed by readdir(3), since the kernel looks for whiteouts only
	// where it merges; so it is left out there.
	Below []string
	// Keep reports whether an extended attribute is copied; nil: all are. Opaque is copied in any
	// case.
	Keep func(xattr string) bool
	// Link makes what is no folder, in the first folder of the stack, another name of the file
	// there, in place of a copy.
	Link bool
}

// Copy fills the empty folder dst with what a stack of folders shows, top first: at each path what
// the topmost of them has, and folders merged. An overlay's whiteouts are copied where they are
// needed, so that the copy can take the place of the stack in a longer one. A stack of one is
// simply copied.
//
// Everything about a file is kept but inode number, access and change time: owner, mode, time of
// modification, extended attributes, holes, hard links within a folder of the stack. Blocks are
// shared where the file system can (FICLONE).
func Copy(ctx context.Context, dst string, stack []string, o Options) error {
	root, err := os.Open(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	top := &folder{rel: ".", link: o.Link}
	if err := top.openTop(root, stack, o.Below); err != nil {
		top.close()
		return err
	}
	c := copier{
		options: o,
		root:    int(root.Fd()),
		slots:   make(chan struct{}, 2*runtime.GOMAXPROCS(0)-1),
		links:   map[inode]*link{},
		buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }},
	}
	c.ctx, c.fail = context.WithCancelCause(ctx)
	defer c.fail(nil)
	c.folder(top)
	c.started.Wait()
	if err := context.Cause(c.ctx); err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	return nil
}

// Attributes gives the folder dst what src has: owner, mode, extended attributes, and time of
// modification.
func Attributes(dst, src string, o Options) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Open(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := o.folderAttributes(to, from); err != nil {
		return &fs.PathError{Op: "copy attributes to", Path: dst, Err: err}
	}
	return nil
}

const bufferSize = 128 << 10

// copier copies one tree. Folders are copied by several goroutines at once: by a new one for a
// subfolder while there are slots, else by the one that has come upon it.
type copier struct {
	options Options
	root    int // the copy's root folder
	ctx     context.Context
	fail    context.CancelCauseFunc // of ctx: the first error ends all
	slots   chan struct{}
	started sync.WaitGroup
	buffers sync.Pool   // *[bufferSize]byte
	noClone atomic.Bool // the file system cannot share blocks

	mu    sync.Mutex
	links map[inode]*link
}

// folder is a folder that is being copied.
type folder struct {
	rel    string
	stack  []*os.File // those that are merged
	link   bool       // the first of them is in the first of the whole stack, of which files are linked
	opaque bool       // the copy hides what lies below it
	below  []*os.File // those that the copy will be merged with
	dst    *os.File   // the copy
}

func (f *folder) openTop(dst *os.File, stack, below []string) (err error) {
	if f.stack, err = openAll(stack); err != nil {
		return err
	}
	if f.below, err = openAll(below); err != nil {
		return err
	}
	f.dst, err = openDirAt(int(dst.Fd()), ".")
	return err
}

func openAll(dirs []string) (files []*os.File, err error) {
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func (f *folder) close() {
	for _, file := range slices.Concat(f.stack, f.below, []*os.File{f.dst}) {
		_ = file.Close() // nil where opening failed: ErrInvalid
	}
}

// folder copies what is in f, and closes it.
func (c *copier) folder(f *folder) {
	defer f.close()
	subfolders, err := c.entries(f)
	if err == nil {
		// As soon as all names in f itself exist: what is made later lies deeper, and does not
		// change f's time.
		err = c.options.folderAttributes(f.dst, f.stack[0])
	}
	if err == nil && f.opaque {
		err = unix.Fsetxattr(int(f.dst.Fd()), c.options.Opaque, []byte("y"), 0)
	}
	if err != nil {
		c.fail(fmt.Errorf("%s: %w", f.rel, err))
		return
	}
	for _, name := range subfolders {
		sub, err := c.open(f, name)
		if err != nil {
			sub.close()
			c.fail(fmt.Errorf("%s: %w", sub.rel, err))
			return
		}
		select {
		case c.slots <- struct{}{}:
			c.started.Go(func() {
				defer func() { <-c.slots }()
				c.folder(sub)
			})
		default:
			c.folder(sub)
		}
	}
}

// entries copies the files in f, makes the folders, and returns the names of these.
func (c *copier) entries(f *folder) (subfolders []string, err error) {
	seen := map[string]bool{}
	for _, src := range f.stack {
		names, err := src.Readdirnames(-1)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			if err := c.ctx.Err(); err != nil {
				return nil, err
			}
			e := entry{src: int(src.Fd()), dst: int(f.dst.Fd()), name: name}
			if err := c.entry(&e, f); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if e.isDir() {
				subfolders = append(subfolders, name)
			}
		}
	}
	return subfolders, nil
}

// open opens the folder name in f, in each folder down to the first that hides what is below it.
func (c *copier) open(f *folder, name string) (*folder, error) {
	sub := &folder{rel: f.rel + "/" + name}
	var err error
	if sub.stack, sub.opaque, err = c.options.openEach(f.stack, name); err != nil {
		return sub, err
	}
	if !sub.opaque {
		if sub.below, _, err = c.options.openEach(f.below, name); err != nil {
			return sub, err
		}
	}
	var st unix.Stat_t
	sub.link = f.link && unix.Fstatat(int(f.stack[0].Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	sub.dst, err = openDirAt(int(f.dst.Fd()), name)
	return sub, err
}

// openEach opens the folder name in each of dirs, down to the first that hides what is below it.
func (o *Options) openEach(dirs []*os.File, name string) (opened []*os.File, hidden bool, err error) {
	for _, dir := range dirs {
		sub, err := openDirAt(int(dir.Fd()), name)
		switch {
		case err == nil:
			opened = append(opened, sub)
			if o.isOpaque(sub) {
				return opened, true, nil
			}
		case errors.Is(err, unix.ENOENT):
		case errors.Is(err, unix.ENOTDIR):
			return opened, true, nil
		default:
			return opened, false, err
		}
	}
	return opened, false, nil
}

func openDirAt(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (o *Options) isOpaque(dir *os.File) bool {
	if o.Opaque == "" {
		return false
	}
	var value [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), o.Opaque, value[:])
	return err == nil && string(value[:n]) == "y"
}

func (o *Options) folderAttributes(dst, src *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if err := o.attributes(int(dst.Fd()), int(src.Fd()), &st); err != nil {
		return err
	}
	return setTime(int(dst.Fd()), ".", &st)
}

type inode struct{ dev, ino uint64 }

// link is a file with several names. The goroutine that meets it first copies it, the others wait.
type link struct {
	mu   sync.Mutex
	path string // the copy's first name, relative to the root; "" until it is there
}

// linked copies e, or makes another name of its copy if there is one.
func (c *copier) linked(e *entry, path string) error {
	id := inode{e.st.Dev, e.st.Ino}
	c.mu.Lock()
	l := c.links[id]
	if l == nil {
		l = &link{}
		c.links[id] = l
	}
	c.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path != "" {
		return unix.Linkat(c.root, l.path, e.dst, e.name, 0)
	}
	if err := c.file(e); err != nil {
		return err
	}
	l.path = path
	return nil
}
