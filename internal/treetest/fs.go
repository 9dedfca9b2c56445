package treetest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Make builds the tree that text describes in the folder dir. Missing parents are made with mode
// 0755. Modes do not depend on the umask; owners are set where the text has them, unless NoOwners
// is given. A file with "size=N" is filled with N bytes that are always the same. What cannot be
// made ends the test.
func Make(t testing.TB, dir, text string, opts ...Option) {
	t.Helper()
	nodes, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	m := maker{dir: dir, owners: !slices.Contains(opts, NoOwners), groups: map[string]string{}}
	for _, n := range nodes {
		if err := m.make(n); err != nil {
			t.Fatal(err)
		}
	}
	// Folders last, deepest first: what is made in them changes their times, and their modes may
	// forbid it.
	for _, n := range slices.Backward(nodes) {
		if n.typ != typeDir {
			continue
		}
		if err := m.setAttributes(n); err != nil {
			t.Fatal(err)
		}
	}
}

// maker builds one tree.
type maker struct {
	dir    string
	owners bool
	groups map[string]string // hard link group -> the name that was made first
}

func (m *maker) make(n *node) error {
	name := filepath.Join(m.dir, n.path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if first, ok := m.groups[n.group]; ok && n.group != "" {
		return os.Link(first, name)
	}
	if err := makeNode(n, name); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	if n.group != "" {
		m.groups[n.group] = name
	}
	if n.typ == typeDir {
		return nil
	}
	return m.setAttributes(n)
}

func makeNode(n *node, name string) error {
	device := int(unix.Mkdev(n.major, n.minor))
	switch n.typ {
	case typeDir:
		return os.MkdirAll(name, 0o755)
	case typeFile:
		return writeNew(name, n.content)
	case typeSymlink:
		return os.Symlink(n.link, name)
	case typeFIFO:
		return unix.Mknod(name, unix.S_IFIFO|0o600, 0)
	case typeSocket:
		return unix.Mknod(name, unix.S_IFSOCK|0o600, 0)
	case typeChar:
		return unix.Mknod(name, unix.S_IFCHR|0o600, device)
	default:
		return unix.Mknod(name, unix.S_IFBLK|0o600, device)
	}
}

func writeNew(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// setAttributes sets owner, mode, extended attributes and time, in this order: chown(2) clears
// set-id bits and capabilities.
func (m *maker) setAttributes(n *node) error {
	name := filepath.Join(m.dir, n.path)
	if m.owners && n.uid >= 0 {
		if err := os.Lchown(name, n.uid, n.gid); err != nil {
			return err
		}
	}
	if n.typ != typeSymlink {
		if err := unix.Chmod(name, n.mode); err != nil {
			return fmt.Errorf("chmod %s: %w", name, err)
		}
	}
	for key, value := range n.xattrs {
		if err := unix.Lsetxattr(name, key, []byte(value), 0); err != nil {
			return fmt.Errorf("setxattr %s %s: %w", name, key, err)
		}
	}
	if n.mtime.IsZero() {
		return nil
	}
	ts, err := unix.TimeToTimespec(n.mtime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// Dump returns the tree in the folder dir as text. Names that are hard links of each other, within
// the tree, share a group: <1> is the first that the walk meets. What cannot be read ends the test.
func Dump(t testing.TB, dir string, opts ...Option) string {
	t.Helper()
	d := dumper{names: map[inode]int{}, groups: map[inode]string{}}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return d.add(dir, name)
	})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, n := range d.nodes {
		if n.path == "." && !slices.Contains(opts, Root) {
			continue
		}
		if slices.Contains(opts, NoOwners) {
			n.uid, n.gid = -1, -1
		}
		if !slices.Contains(opts, MTimes) {
			n.mtime = time.Time{}
		}
		n.group = d.group(n)
		fmt.Fprintln(&out, n.String())
	}
	return out.String()
}

type inode struct{ dev, ino uint64 }

// dumper collects the nodes of a tree; which of them are hard links is known at the end.
type dumper struct {
	nodes  []*dumped
	names  map[inode]int    // how many names of an inode the tree has
	groups map[inode]string // numbers of the groups so far
}

type dumped struct {
	node
	inode inode
}

func (d *dumper) add(dir, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		return err
	}
	n := &dumped{inode: inode{uint64(st.Dev), st.Ino}}
	n.node = node{
		path: rel, typ: typeOf(st.Mode), mode: st.Mode & 0o7777, uid: int(st.Uid), gid: int(st.Gid),
		mtime: time.Unix(st.Mtim.Unix()),
	}
	d.nodes = append(d.nodes, n)
	if n.typ != typeDir {
		d.names[n.inode]++
	}
	if n.xattrs, err = readXattrs(name); err != nil {
		return err
	}
	switch n.typ {
	case typeFile:
		return n.readContent(name)
	case typeSymlink:
		n.link, err = os.Readlink(name)
	case typeChar, typeBlock:
		n.major, n.minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	return err
}

// group returns the number of n's hard link group, or "" where it has only this name in the tree.
func (d *dumper) group(n *dumped) string {
	if d.names[n.inode] < 2 {
		return ""
	}
	if d.groups[n.inode] == "" {
		d.groups[n.inode] = strconv.Itoa(len(d.groups) + 1)
	}
	return d.groups[n.inode]
}

func typeOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return typeDir
	case unix.S_IFLNK:
		return typeSymlink
	case unix.S_IFIFO:
		return typeFIFO
	case unix.S_IFSOCK:
		return typeSocket
	case unix.S_IFCHR:
		return typeChar
	case unix.S_IFBLK:
		return typeBlock
	default:
		return typeFile
	}
}

func (n *node) readContent(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if len(data) <= inline {
		n.content = string(data)
		return nil
	}
	n.size, n.sum = int64(len(data)), shortSum(string(data))
	return nil
}

// readXattrs returns the extended attributes of name but for the label that SELinux gives every
// file.
func readXattrs(name string) (map[string]string, error) {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	size, err := unix.Llistxattr(name, list)
	if err == unix.ENOTSUP || size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	xattrs := map[string]string{}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if key == "security.selinux" {
			continue
		}
		size, err := unix.Lgetxattr(name, key, value)
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr", Path: name + " " + key, Err: err}
		}
		xattrs[key] = string(value[:size])
	}
	return xattrs, nil
}
