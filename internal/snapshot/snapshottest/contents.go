package snapshottest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/treetest"
)

func testEmpty(s *suite) {
	t := s.tree("")
	if !filepath.IsAbs(t.Dir()) {
		s.Errorf("Dir() is %s, which is not absolute", t.Dir())
	}
	s.equalTrees("a new tree", "./ dir 0755\n", treetest.Dump(s, t.Dir(), treetest.Root, treetest.NoOwners))
	s.commit(t, "empty")
	s.wantTreeOf("empty", "")
	s.wantTree("a tree of the empty snapshot", s.tree("empty").Dir(), "")
}

// testChanges: what was changed in a tree is what its snapshot holds, and what the trees made from
// that hold; and the parent is as it was.
func testChanges(s *suite) {
	for _, test := range []struct{ name, base, change, want string }{{
		name:   "nothing",
		base:   `f file "x"`,
		change: ``,
		want: `
			f file 0644 "x"`,
	}, {
		name:   "new files and folders",
		base:   `d/old file "x"`,
		change: "d/new file 0600 \"y\"\n d/e/f/ dir 0700\n g file \"z\"",
		want: `
			d/ dir 0755
			d/e/ dir 0755
			d/e/f/ dir 0700
			d/new file 0600 "y"
			d/old file 0644 "x"
			g file 0644 "z"`,
	}, {
		name:   "written, appended, changed in mode",
		base:   "a file \"1\"\n b file \"1\"\n c file \"1\"\n d/ dir 0755",
		change: "rm a\n a file \"2\"\n append b 2\n chmod 4711 c\n chmod 1777 d",
		want: `
			a file 0644 "2"
			b file 0644 "12"
			c file 4711 "1"
			d/ dir 1777`,
	}, {
		name:   "removed",
		base:   "a file\n d/e/f file\n d/g file\n l symlink a",
		change: "rm a\n rm d/e\n rm l",
		want: `
			d/ dir 0755
			d/g file 0644 ""`,
	}, {
		name:   "everything removed",
		base:   "a file\n d/e/f file",
		change: "rm a\n rm d",
		want:   ``,
	}, {
		name:   "a folder removed and made again",
		base:   "d/a file\n d/e/b file",
		change: "rm d\n d/c file\n d/e/ dir",
		want: `
			d/ dir 0755
			d/c file 0644 ""
			d/e/ dir 0755`,
	}, {
		name:   "other types",
		base:   "a/x file\n b file\n c/x file\n d symlink b\n e symlink a\n f file",
		change: "rm a\n a file\n rm b\n b/y file\n rm c\n c symlink b\n rm d\n d/z file\n rm e\n e file\n rm f\n f fifo 0600",
		want: `
			a file 0644 ""
			b/ dir 0755
			b/y file 0644 ""
			c symlink b
			d/ dir 0755
			d/z file 0644 ""
			e file 0644 ""
			f fifo 0600`,
	}, {
		name:   "renamed files",
		base:   "a file \"1\"\n b file \"2\"\n d/c file \"3\"\n l symlink a",
		change: "mv a x\n mv b d/c\n mv l d/l",
		want: `
			d/ dir 0755
			d/c file 0644 "2"
			d/l symlink a
			x file 0644 "1"`,
	}, {
		name:   "renamed folders",
		base:   "d/e/f file \"1\"\n d/g file\n d/h file 0600\n n/ dir 0700\n x/y/z file\n x/z file",
		change: "mv d n/m\n append n/m/e/f 2\n rm n/m/g\n n/m/new file\n d/other file\n rm n/m/h\n n/m/h/i file\n mv x w\n mv w v\n chmod 0711 v/y",
		want: `
			d/ dir 0755
			d/other file 0644 ""
			n/ dir 0700
			n/m/ dir 0755
			n/m/e/ dir 0755
			n/m/e/f file 0644 "12"
			n/m/h/ dir 0755
			n/m/h/i file 0644 ""
			n/m/new file 0644 ""
			v/ dir 0755
			v/y/ dir 0711
			v/y/z file 0644 ""
			v/z file 0644 ""`,
	}, {
		name:   "folders renamed out of and into renamed ones",
		base:   "a/b/c/f file \"f\"\n a/b/g file\n a/h file\n i/j/k file \"k\"\n i/l file",
		change: "mv a x\n mv x/b y\n mv y/c x/b\n mv i x/b/i\n mv x/b/i/j x/j\n rm x/h\n a/ dir 0700\n mv y a/b",
		want: `
			a/ dir 0700
			a/b/ dir 0755
			a/b/g file 0644 ""
			x/ dir 0755
			x/b/ dir 0755
			x/b/f file 0644 "f"
			x/b/i/ dir 0755
			x/b/i/l file 0644 ""
			x/j/ dir 0755
			x/j/k file 0644 "k"`,
	}, {
		name:   "folders that change places",
		base:   "a/1 file\n b/2 file\n c/ dir",
		change: "mv a t\n mv b a\n mv t b\n mv b c\n c/3 file",
		want: `
			a/ dir 0755
			a/2 file 0644 ""
			c/ dir 0755
			c/1 file 0644 ""
			c/3 file 0644 ""`,
	}, {
		name:   "a new folder renamed over a removed one",
		base:   "d/a file\n d/b file",
		change: "rm d\n n/c file\n mv n d",
		want: `
			d/ dir 0755
			d/c file 0644 ""`,
	}, {
		name:   "hard links",
		base:   "a file <1> \"1\"\n b file <1> \"1\"\n c file \"2\"",
		change: "rm b\n ln c d\n e file <2> \"3\"\n f file <2> \"3\"",
		want: `
			a file 0644 "1"
			c file 0644 <1> "2"
			d file 0644 <1> "2"
			e file 0644 <2> "3"
			f file 0644 <2> "3"`,
	}, {
		name:   "a hard link kept",
		base:   "a file <1> \"1\"\n d/b file <1> \"1\"\n l symlink <2> x\n d/m symlink <2> x",
		change: "c file",
		want: `
			a file 0644 <1> "1"
			c file 0644 ""
			d/ dir 0755
			d/b file 0644 <1> "1"
			d/m symlink <2> x
			l symlink <2> x`,
	}, {
		name:   "odd names",
		base:   `"\n" file "1"` + "\n" + `" a" file "2"` + "\n" + `"\xff\xfe" file` + "\n" + `".wh.x" file` + "\n" + `"..." file` + "\n" + `"a:b,c=d\\" file`,
		change: "rm ...\n" + `"*" file`,
		want: `
			"\n" file 0644 "1"
			" a" file 0644 "2"
			* file 0644 ""
			.wh.x file 0644 ""
			a:b,c=d\ file 0644 ""
			"\xff\xfe" file 0644 ""`,
	}, {
		name:   "long names",
		base:   strings.Repeat("n", 255) + " file",
		change: "rm " + strings.Repeat("n", 255) + "\n" + strings.Repeat("m", 255) + "/" + strings.Repeat("o", 255) + " file",
		want: `
			` + strings.Repeat("m", 255) + `/ dir 0755
			` + strings.Repeat("m", 255) + "/" + strings.Repeat("o", 255) + ` file 0644 ""`,
	}} {
		s.Logf("%s", test.name)
		want := ""
		for line := range strings.Lines(test.want) {
			if line = strings.TrimLeft(line, "\t\n"); line != "" {
				want += strings.TrimSuffix(line, "\n") + "\n"
			}
		}
		base, changed := test.name+", base", test.name+", changed"
		s.snapshot(base, "", test.base)
		before := s.dumpOf(base)
		t := s.tree(base)
		s.equalTrees("a new tree", before, s.dump(t.Dir()))
		s.change(t.Dir(), test.change)
		s.touched(t) // only then hard links are to be seen as such
		s.wantTree("the tree", t.Dir(), want)
		after := s.dump(t.Dir())
		s.commit(t, changed)
		s.equalTrees("the snapshot of the tree", after, s.dumpOf(changed))
		s.equalTrees("a tree of the snapshot", after, s.dump(s.tree(changed).Dir()))
		s.equalTrees("the parent", before, s.dumpOf(base))
	}
}

// testAttributes: everything about a file survives Commit and New, on files that the tree leaves
// alone and on those that it changes.
func testAttributes(s *suite) {
	text := `./ dir 0711 user.root="r" mtime=1400000000.5
		d/ dir 2750 user.dir="" mtime=1500000000.123456789
		d/f file 6755 "x" user.a="1" user.b="\x00\xff" mtime=1600000000.000000001
		d/old file 0444 "" mtime=-1
		d/sock socket 0640
		fifo fifo 0620 mtime=1
		l symlink d/f mtime=1700000000.25
		locked/ dir 0500 mtime=2
	`
	deep := strings.Repeat("deep/", 200)
	text += deep + " dir mtime=3\n"
	if s.mayChown() {
		text += `owned/ dir 0755 33:33 mtime=4
			owned/f file 4755 1:2 "x"
			owned/l symlink 1000:1000 x
			owned/cap file 0755 33:0 "\x7fELF" security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
			owned/acl/ dir 0770 0:0 system.posix_acl_default="\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x00\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"
			owned/acl/f file 0640
		`
	}
	if s.mayMknod() {
		text += "null c 1:3 0666\n disk b 259:300 0660\n"
	}
	first := s.tree("")
	var opts []treetest.Option
	if !s.mayChown() {
		opts = append(opts, treetest.NoOwners)
	}
	treetest.Make(s, first.Dir(), text, opts...)
	want := s.dump(first.Dir())
	s.commit(first, "one")
	s.equalTrees("the first snapshot", want, s.dumpOf("one"))

	// On an overlay this has all of them copied up.
	second := s.tree("one")
	s.equalTrees("a tree of it", want, s.dump(second.Dir()))
	s.must(os.Chmod(filepath.Join(second.Dir(), "locked"), 0o501))
	s.must(os.Chmod(filepath.Join(second.Dir(), "locked"), 0o500))
	s.change(second.Dir(), "chmod 6755 d/f\n chmod 0620 fifo\n chmod 0444 d/old")
	s.equalTrees("the tree after changes that change nothing", want, s.dump(second.Dir()))
	s.commit(second, "two")
	s.equalTrees("the second snapshot", want, s.dumpOf("two"))
}

// testSparse: holes stay holes.
func testSparse(s *suite) {
	const size = 8 << 20
	t := s.tree("")
	f, err := os.Create(filepath.Join(t.Dir(), "sparse"))
	s.must(err)
	for _, offset := range []int64{0, 3 << 20, size - 1} {
		_, err := f.WriteAt([]byte("x"), offset)
		s.must(err)
	}
	s.must(f.Truncate(size + 10))
	s.must(f.Close())
	want := s.dump(t.Dir())
	s.commit(t, "one")
	child := s.tree("one")
	s.equalTrees("the tree", want, s.dump(child.Dir()))
	var st unix.Stat_t
	s.must(unix.Stat(filepath.Join(child.Dir(), "sparse"), &st))
	if allocated := st.Blocks * 512; allocated > size/4 {
		s.Errorf("a file of %d bytes with 3 that are not zero takes %d", st.Size, allocated)
	}
}

// testLongChain: a hundred snapshots, or fifteen in short mode, each made from the one before by a
// few random changes, are what the same changes make of a plain folder.
func testLongChain(s *suite) {
	plain := s.TempDir()
	r := newRandom(s)
	parent, levels := "", 100
	if testing.Short() {
		levels = 15
	}
	for i := range levels {
		name := fmt.Sprintf("level %d", i)
		t := s.tree(parent)
		r.change(5, plain, t.Dir())
		s.wantTree(name, t.Dir(), treetest.Dump(s, plain, treetest.NoOwners))
		want := s.dump(t.Dir())
		s.commit(t, name)
		s.equalTrees("snapshot "+name, want, s.dumpOf(name))
		if s.Failed() {
			return
		}
		parent = name
	}
	// The top needs none of the names below.
	for i := range levels - 1 {
		s.must(s.driver.Remove(s.Context(), fmt.Sprintf("level %d", i)))
	}
	s.wantTreeOf(parent, treetest.Dump(s, plain, treetest.NoOwners))
	s.driver = s.reopen()
	s.wantTreeOf(parent, treetest.Dump(s, plain, treetest.NoOwners))
}
