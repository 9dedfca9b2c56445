package layer

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

const composeBase = `
./ dir 0755 0:0
bin symlink usr/bin
etc/ dir 0755 0:0
etc/motd file 0644 0:0 "hello"
etc/self symlink /etc
lib symlink /usr/lib
root/ dir 0700 0:0
root/a file 0644 0:0 <1> "linked"
root/b file 0644 0:0 <1> "linked"
tmp/ dir 1777 0:0
usr/ dir 0755 0:0
usr/bin/ dir 0755 0:0
usr/bin/tool file 04755 0:0 "tool"
usr/lib/ dir 0755 0:0
usr/lib/deep/ dir 0755 0:0
usr/lib/deep/x file 0644 0:0 "x"
usr/lib/deep/y file 0644 0:0 "y"
usr/new symlink fresh/place
`

func TestCompose(t *testing.T) {
	folder := func(path string, mode uint32) Change {
		return Change{Entry: Entry{Path: path, Type: TypeDir, Mode: mode}}
	}
	link := func(path, text string) Change { return Change{Entry: Entry{Path: path, Type: TypeSymlink, Link: text}} }
	mine := func(ch Change) Change { // owned as the base is
		ch.UID, ch.GID = os.Getuid(), os.Getgid()
		return ch
	}
	put := func(chs ...Change) func(*Composer) error {
		return func(c *Composer) error {
			for _, ch := range chs {
				if err := c.Put(ch); err != nil {
					return err
				}
			}
			return nil
		}
	}
	remove := func(paths ...string) func(*Composer) error {
		return func(c *Composer) error {
			for _, p := range paths {
				if err := c.Remove(p); err != nil {
					return err
				}
			}
			return nil
		}
	}
	tests := []struct {
		name  string
		empty bool // no base at all
		do    []func(*Composer) error
		want  string
	}{
		{name: "nothing", want: ""},
		{name: "nothing on nothing", empty: true, want: ""},
		{
			name: "first layer has a root", empty: true,
			do: []func(*Composer) error{put(file("a/b", "x"))},
			want: `./ dir 0755 0:0 mtime=7
a/ dir 0755 0:0 mtime=7
a/b file 0644 0:0 "x"
`,
		},
		{
			name: "root that was put", empty: true,
			do: []func(*Composer) error{put(folder(".", 0o700), file("a", "x"))},
			want: `./ dir 0700 0:0
a file 0644 0:0 "x"
`,
		},
		{name: "root alone on nothing is every empty tree", empty: true, do: []func(*Composer) error{put(folder(".", 0o755))}, want: ""},
		{
			name: "parents keep the metadata of the base",
			do:   []func(*Composer) error{put(file("root/new", "x"), file("tmp/new", "y"))},
			want: `./ parent
root/ parent
root/new file 0644 0:0 "x"
tmp/ parent
tmp/new file 0644 0:0 "y"
`,
		},
		{
			name: "below symlinked folders",
			do:   []func(*Composer) error{put(file("lib/new.so", "x"), file("/bin/../bin/new", "y"), file("etc/self/self/z", "z"))},
			want: `./ parent
etc/ parent
etc/z file 0644 0:0 "z"
usr/ parent
usr/bin/ parent
usr/bin/new file 0644 0:0 "y"
usr/lib/ parent
usr/lib/new.so file 0644 0:0 "x"
`,
		},
		{
			name: "below a symlink that leads nowhere yet",
			do:   []func(*Composer) error{put(file("usr/new/x", "x"))},
			want: `./ parent
usr/ parent
usr/fresh/ dir 0755 0:0 mtime=7
usr/fresh/place/ dir 0755 0:0 mtime=7
usr/fresh/place/x file 0644 0:0 "x"
`,
		},
		{
			name: "a symlink at the path itself is replaced",
			do:   []func(*Composer) error{put(folder("lib", 0o755), file("lib/x", "x"))},
			want: `./ parent
lib/ dir 0755 0:0
lib/x file 0644 0:0 "x"
`,
		},
		{
			name: "as in the base",
			do:   []func(*Composer) error{put(mine(file("etc/motd", "hello")), mine(link("bin", "usr/bin")), mine(folder("etc", 0o755)))},
			want: "",
		},
		{
			name: "same size, other content",
			do:   []func(*Composer) error{put(file("etc/motd", "hallo"))},
			want: `./ parent
etc/ parent
etc/motd file 0644 0:0 "hallo"
`,
		},
		{
			name: "file over folder comes without whiteouts",
			do:   []func(*Composer) error{put(file("usr/lib", "x"))},
			want: `./ parent
usr/ parent
usr/lib file 0644 0:0 "x"
`,
		},
		{
			name: "folder over file",
			do:   []func(*Composer) error{put(folder("etc/motd", 0o711), file("etc/motd/x", "x"))},
			want: `./ parent
etc/ parent
etc/motd/ dir 0711 0:0
etc/motd/x file 0644 0:0 "x"
`,
		},
		{
			name: "folder over folder keeps what is in it",
			do:   []func(*Composer) error{put(folder("usr/lib/deep", 0o711))},
			want: `./ parent
usr/ parent
usr/lib/ parent
usr/lib/deep/ dir 0711 0:0
`,
		},
		{
			name: "only the topmost removed name",
			do:   []func(*Composer) error{remove("usr/lib/deep/x", "usr/lib", "no/such", "etc/motd/below", "usr/none")},
			want: `./ parent
usr/ parent
usr/.wh.lib
`,
		},
		{
			name: "removed through a symlinked folder, and the link itself",
			do:   []func(*Composer) error{remove("lib/deep", "bin")},
			want: `./ parent
.wh.bin
usr/ parent
usr/lib/ parent
usr/lib/.wh.deep
`,
		},
		{
			name: "removed and made again",
			do:   []func(*Composer) error{remove("usr/lib/deep"), put(file("usr/lib/deep/y", "new"), file("usr/lib/deep/a", "a"))},
			want: `./ parent
usr/ parent
usr/lib/ parent
usr/lib/deep/ dir 0755 0:0 mtime=7
usr/lib/deep/.wh.x
usr/lib/deep/a file 0644 0:0 "a"
usr/lib/deep/y file 0644 0:0 "new"
`,
		},
		{
			name: "made and removed in the same step",
			do:   []func(*Composer) error{put(file("etc/new/x", "x")), remove("etc/new")},
			want: "",
		},
		{
			name: "twice at one path",
			do:   []func(*Composer) error{put(file("etc/new", "1"), file("etc/new", "2"))},
			want: `./ parent
etc/ parent
etc/new file 0644 0:0 "2"
`,
		},
		{
			name: "hard links",
			do: []func(*Composer) error{put(file("etc/z", "z")), func(c *Composer) error {
				return errors.Join(c.Link("etc/a", "etc/z", nil), c.Link("bin/q", "etc/a", nil))
			}},
			want: `./ parent
etc/ parent
etc/a file 0644 0:0 "z"
etc/z = etc/a
usr/ parent
usr/bin/ parent
usr/bin/q = etc/a
`,
		},
		{
			name: "hard link to a file of the base carries its content, and all its names",
			do: []func(*Composer) error{func(c *Composer) error {
				return c.Link("etc/tool", "bin/tool", opening("tool"))
			}},
			want: `./ parent
etc/ parent
etc/tool file 4755 0:0 "tool"
usr/ parent
usr/bin/ parent
usr/bin/tool = etc/tool
`,
		},
		{
			name: "two hard links to a file of the base",
			do: []func(*Composer) error{func(c *Composer) error {
				return errors.Join(c.Link("etc/t1", "bin/tool", opening("tool")), c.Link("etc/t2", "bin/tool", opening("tool")))
			}},
			want: `./ parent
etc/ parent
etc/t1 file 4755 0:0 "tool"
etc/t2 = etc/t1
usr/ parent
usr/bin/ parent
usr/bin/tool = etc/t1
`,
		},
		{
			name: "a name put anew leaves its group",
			do: []func(*Composer) error{
				put(file("etc/a", "old")),
				func(c *Composer) error { return c.Link("etc/b", "etc/a", nil) },
				put(file("etc/a", "new")),
				func(c *Composer) error { return c.Link("etc/c", "etc/a", nil) },
			},
			want: `./ parent
etc/ parent
etc/a file 0644 0:0 "new"
etc/b file 0644 0:0 "old"
etc/c = etc/a
`,
		},
		{
			name: "a group of the base is broken by one of its names",
			do:   []func(*Composer) error{put(file("root/a", "single"))},
			want: `./ parent
root/ parent
root/a file 0644 0:0 "single"
`,
		},
		{
			name: "a hard link in place of the folder around its target",
			do: []func(*Composer) error{put(file("d/f", "x")), func(c *Composer) error {
				return c.Link("d", "d/f", nil)
			}},
			want: `./ parent
d file 0644 0:0 "x"
`,
		},
		{
			name: "folders that are there stay",
			do: []func(*Composer) error{func(c *Composer) error {
				return errors.Join(c.MkdirAll("tmp", 0, 0), c.MkdirAll("/lib/deep", 0, 0), c.MkdirAll("bin", 0, 0), c.MkdirAll("/", 0, 0))
			}},
			want: "",
		},
		{
			name: "only what layers keep",
			do: []func(*Composer) error{put(Change{Entry: Entry{
				Path: "etc/x", Type: TypeFIFO, Mode: 0o100644, Size: 3, Link: "no", Group: "no", Major: 1, Opaque: true,
				Xattrs: map[string]string{"user.a": "1", "trusted.a": "2", "security.selinux": "3"},
			}})},
			want: `./ parent
etc/ parent
etc/x fifo 0644 0:0
`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			view := Merge()
			if !test.empty {
				_, view = makeBase(t, composeBase)
			}
			c := NewComposer(view, 7)
			for _, do := range test.do {
				if err := do(c); err != nil {
					t.Fatal(err)
				}
			}
			changes, err := c.Changes()
			if err != nil {
				t.Fatal(err)
			}
			wantText(t, listing(t, changes), test.want)
		})
	}
}

func TestComposeErrors(t *testing.T) {
	_, base := makeBase(t, composeBase+"loop symlink loop\n")
	tests := []struct {
		name string
		do   func(*Composer) error
		is   error
	}{
		{"parent is a file", func(c *Composer) error { return c.Put(file("etc/motd/x", "")) }, syscall.ENOTDIR},
		{"folder where a file is", func(c *Composer) error { return c.MkdirAll("etc/motd", 0, 0) }, syscall.ENOTDIR},
		{"loop", func(c *Composer) error { return c.Put(file("loop/x", "")) }, syscall.ELOOP},
		{"no target", func(c *Composer) error { return c.Link("x", "none", nil) }, fs.ErrNotExist},
		{"no target below a file", func(c *Composer) error { return c.Link("x", "etc/motd/none", nil) }, fs.ErrNotExist},
		{"folder as target", func(c *Composer) error { return c.Link("x", "etc", nil) }, syscall.EISDIR},
		{"target without content", func(c *Composer) error { return c.Link("x", "etc/motd", nil) }, errNoContent},
		{"root is no folder", func(c *Composer) error { return c.Put(file("/", "")) }, syscall.EISDIR},
		{"root removed", func(c *Composer) error { return c.Remove("/etc/..") }, syscall.EBUSY},
		{"whiteout as a name", func(c *Composer) error { return c.Put(file("etc/.wh.x", "")) }, ErrReserved},
		{"whiteout as a folder", func(c *Composer) error { return c.Put(file(".wh.x/y", "")) }, ErrReserved},
		{"whiteout as a new folder", func(c *Composer) error { return c.MkdirAll("etc/.wh..wh..opq", 0, 0) }, ErrReserved},
		{"whiteout as a link", func(c *Composer) error { return c.Link(".wh.x", "etc/motd", opening("hello")) }, ErrReserved},
	}
	for _, test := range tests {
		c := NewComposer(base, 0)
		if err := test.do(c); !errors.Is(err, test.is) {
			t.Errorf("%s: %v, want %v", test.name, err, test.is)
		}
		if changes, err := c.Changes(); err != nil || len(changes) != 0 {
			t.Errorf("%s: the refused operation left\n%s%v", test.name, listing(t, changes), err)
		}
	}
}

func TestComposerView(t *testing.T) {
	_, base := makeBase(t, composeBase)
	c := NewComposer(base, 0)
	for _, err := range []error{
		c.Put(file("etc/passwd", "root:x:0:0\n")),
		c.Put(file("etc/a", "")),
		c.Remove("etc/self"),
		c.Remove("root"),
		c.Put(file("root/only", "1")),
		c.Put(Change{Entry: Entry{Path: "usr/bin", Type: TypeWhiteout}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	children := func(path string) string {
		var names []string
		for e, err := range c.Children(path) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, e.Path)
		}
		return strings.Join(names, " ")
	}
	for path, want := range map[string]string{
		".":            "bin etc lib root tmp usr",
		"etc":          "etc/a etc/motd etc/passwd",
		"root":         "root/only",
		"usr":          "usr/lib usr/new",
		"usr/lib/deep": "usr/lib/deep/x usr/lib/deep/y",
		"etc/motd":     "",
		"usr/bin":      "",
		"none":         "",
	} {
		if got := children(path); got != want {
			t.Errorf("children of %s: %s, want %s", path, got, want)
		}
	}
	for path, want := range map[string]bool{
		".": true, "etc/a": true, "etc/self": false, "root/a": false, "root/only": true, "usr/bin": false, "usr/bin/tool": false,
		"usr/lib/deep/x": true, "etc/a/x": false,
	} {
		if _, ok, err := c.Lookup(path); ok != want || err != nil {
			t.Errorf("lookup of %s: %v, %v", path, ok, err)
		}
	}
	if b, err := c.ReadFile("etc/passwd"); string(b) != "root:x:0:0\n" || err != nil {
		t.Errorf("etc/passwd: %q, %v", b, err)
	}
	for _, path := range []string{"root/a", "etc", "none/x", "etc/motd"} { // the base does not keep etc/motd
		if b, err := c.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
}

func TestResolve(t *testing.T) {
	_, base := makeBase(t, composeBase)
	c := NewComposer(base, 0)
	tests := []struct {
		path string
		last bool
		want string
	}{
		{"", true, "."},
		{"/", true, "."},
		{"../../x", true, "x"},
		{"lib", false, "lib"},
		{"lib", true, "usr/lib"},
		{"lib/", false, "lib"},
		{"lib/.", false, "usr/lib"},
		{"lib/../x", true, "usr/x"},
		{"//lib//deep/./x", false, "usr/lib/deep/x"},
		{"etc/self/self/motd", true, "etc/motd"},
		{"usr/new", true, "usr/fresh/place"},
		{"none/../x", true, "x"},
		{"etc/motd/x", true, "etc/motd/x"},
	}
	for _, test := range tests {
		if got, err := c.Resolve(test.path, test.last); got != test.want || err != nil {
			t.Errorf("Resolve(%q, %v) = %q, %v; want %q", test.path, test.last, got, err, test.want)
		}
	}
}
