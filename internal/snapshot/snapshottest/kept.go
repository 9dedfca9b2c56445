package snapshottest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
)

// keep keeps parent, changed by script, as name.
func (s *suite) keep(name, parent, script string) {
	s.Helper()
	t := s.tree(parent)
	s.change(t.Dir(), script)
	s.must(t.Keep(s.Context(), name, []byte("note of "+name)))
}

// resume goes on with a kept tree until the end of the test.
func (s *suite) resume(name string) snapshot.Tree {
	s.Helper()
	t, err := s.driver.Resume(s.Context(), name)
	s.must(err)
	s.closeAtEnd(t)
	return t
}

// wantKept compares the names of all kept trees, and their notes.
func (s *suite) wantKept(want ...string) {
	s.Helper()
	all, err := s.driver.Kept(s.Context())
	s.must(err)
	var got []string
	for _, k := range all {
		got = append(got, k.Name)
		s.equal("the note", string(k.Note), "note of "+k.Name)
		if age := time.Since(k.Since); age < -time.Minute || age > time.Hour {
			s.Errorf("%s was kept %v ago", k.Name, age)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.Errorf("kept are %q, want %q", got, want)
	}
}

// kept returns what the driver says of one kept tree.
func (s *suite) kept(name string) snapshot.Kept {
	s.Helper()
	all, err := s.driver.Kept(s.Context())
	s.must(err)
	for _, k := range all {
		if k.Name == name {
			return k
		}
	}
	s.Fatalf("%s is not kept", name)
	return snapshot.Kept{}
}

// testKeep: a kept tree stays as it is, can be gone on with, given back, and committed.
func testKeep(s *suite) {
	s.wantKept()
	s.snapshot("base", "", `f file "x"`)
	for _, parent := range []string{"", "base"} {
		below := ""
		if parent != "" {
			below = oneFile
		}
		t := s.tree(parent)
		s.change(t.Dir(), `g file "1"`)
		s.must(t.Keep(s.Context(), "work", []byte("note of work")))
		s.is("Commit after Keep", t.Commit(s.Context(), "late"), fs.ErrClosed)
		s.is("Keep after Keep", t.Keep(s.Context(), "late", nil), fs.ErrClosed)
		s.must(t.Close())

		s.driver = s.reopen()
		s.wantKept("work")
		if s.driver.Has("work") {
			s.Error("it is a snapshot")
		}
		t = s.resume("work")
		s.wantTree("the kept tree", t.Dir(), below+"g file 0644 \"1\"\n")
		s.change(t.Dir(), `append g 2`)
		s.must(t.Close())
		s.is("Commit after Close", t.Commit(s.Context(), "late"), fs.ErrClosed)

		s.driver = s.reopen()
		t = s.resume("work")
		s.wantTree("the tree that was given back", t.Dir(), below+"g file 0644 \"12\"\n")
		s.commit(t, "child of "+parent)
		s.wantKept()
		s.wantTreeOf("child of "+parent, below+"g file 0644 \"12\"\n")
	}
	s.driver = s.reopen()
	s.wantNames("base", "child of ", "child of base")
	s.wantKept()
}

// testKeepUnsynced: a tree that was kept without a wait is kept as any other.
func testKeepUnsynced(s *suite) {
	s.snapshot("base", "", `f file "x"`)
	for parent, below := range map[string]string{"": "", "base": oneFile} {
		t := s.tree(parent)
		s.change(t.Dir(), `g file "1"`)
		s.must(snapshot.KeepUnsynced(s.Context(), t, "work", []byte("note of work")))
		s.is("Commit after Keep", t.Commit(s.Context(), "late"), fs.ErrClosed)
		s.driver = s.reopen()
		s.wantKept("work")
		again := s.resume("work")
		s.wantTree("the kept tree", again.Dir(), below+"g file 0644 \"1\"\n")
		s.must(again.Close())
		s.must(s.driver.Drop(s.Context(), "work"))
	}
	s.is("Keep", snapshot.KeepUnsynced(s.Context(), s.tree("base"), "a/b", nil), fs.ErrInvalid)
}

// testKeepAgain: a name has the tree that was kept last, under any name, and the others are gone.
func testKeepAgain(s *suite) {
	s.snapshot("base", "", `f file "x"`)
	s.keep("work", "base", `first file`)
	s.keep("work", "", `second file`)
	s.driver = s.reopen()
	s.wantKept("work")
	s.wantGone("first", "another tree was kept under the name")
	s.wantTree("the kept tree", s.resume("work").Dir(), "second file 0644 \"\"\n")

	for _, name := range []string{"failed:a b", ".", "%", "checkout:1"} {
		s.keep(name, "base", `third file`)
		s.must(s.driver.Drop(s.Context(), name))
		s.must(s.driver.Drop(s.Context(), name))
	}
	s.wantKept("work")
	s.wantGone("third", "it was dropped")
	_, err := s.driver.Resume(s.Context(), "nobody")
	s.is("Resume", err, snapshot.ErrNotExist)
	_, err = s.driver.Show(s.Context(), "nobody")
	s.is("Show", err, snapshot.ErrNotExist)
	s.is("Hide", s.driver.Hide(s.Context(), "nobody"), snapshot.ErrNotExist)
	for _, name := range []string{"", "a/b"} {
		s.is("Keep", s.tree("base").Keep(s.Context(), name, nil), fs.ErrInvalid)
	}
	v := s.view("base")
	s.is("Keep of a view", v.Keep(s.Context(), "view", nil), unix.EROFS)

	// Two that become one snapshot.
	s.keep("one", "base", `same1 file`)
	s.keep("two", "base", `same2 file`)
	s.commit(s.resume("one"), "same")
	s.commit(s.resume("two"), "same")
	s.wantKept("work")
	s.wantGone("same2", "there was one already")
}

// testKeepAlone: a kept tree stays whole without the snapshots that it was made from.
func testKeepAlone(s *suite) {
	s.snapshot("one", "", "unique1 file")
	s.snapshot("two", "one", "unique2 file")
	s.keep("work", "two", "rm unique1\n unique3 file")
	for _, name := range []string{"one", "two"} {
		s.must(s.driver.Remove(s.Context(), name))
	}
	s.driver = s.reopen()
	t := s.resume("work")
	s.wantTree("the kept tree", t.Dir(), "unique2 file 0644 \"\"\nunique3 file 0644 \"\"\n")
	s.must(t.Close())
	s.must(s.driver.Drop(s.Context(), "work"))
	for _, name := range []string{"unique1", "unique2", "unique3"} {
		s.wantGone(name, "nothing has it")
	}
}

// testHeld: only one has a kept tree at a time.
func testHeld(s *suite) {
	s.keep("work", "", `f file "x"`)
	t := s.resume("work")
	if !s.kept("work").Held {
		s.Error("the tree that was resumed is not held")
	}
	_, err := s.driver.Resume(s.Context(), "work")
	s.is("Resume", err, snapshot.ErrHeld)
	s.is("Drop", s.driver.Drop(s.Context(), "work"), snapshot.ErrHeld)
	_, err = s.reopen().Resume(s.Context(), "work")
	s.is("Resume by another", err, snapshot.ErrHeld)
	s.must(t.Close())
	if s.kept("work").Held {
		s.Error("the tree that was given back is held")
	}
	s.must(s.resume("work").Keep(s.Context(), "other", []byte("note of other")))
	s.wantKept("other")
	s.wantTree("the tree of another name", s.resume("other").Dir(), oneFile)
}

// testKeepTouched: what was touched before a tree was kept is touched afterwards.
func testKeepTouched(s *suite) {
	s.snapshot("base", "", "d/f file\n e/f file\n gone file\n h file")
	before := s.dumpOf("base")
	s.keep("work", "base", "append d/f x\n rm gone\n ln h i")
	t := s.resume("work")
	s.change(t.Dir(), "new file")
	after := s.dump(t.Dir())
	if touched := s.touched(t); touched != nil {
		CheckTouched(s, before, after, touched)
	}
}

// helpResume goes on with a kept tree until its input ends.
func helpResume(s *suite) {
	t := s.resume("work")
	s.change(t.Dir(), "helper file")
	fmt.Println("resumed")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// testKeepKill: a kept tree outlives a process that is killed while it has it.
func testKeepKill(s *suite) {
	s.snapshot("base", "", `f file "x"`)
	s.keep("work", "base", "")
	other := s.start("resume")
	other.waitFor(s, "resumed")
	_, err := s.driver.Resume(s.Context(), "work")
	s.is("Resume", err, snapshot.ErrHeld)
	s.must(other.cmd.Process.Kill())
	_ = other.cmd.Wait()
	s.driver = s.reopen()
	s.wantKept("work")
	s.wantTree("the kept tree", s.resume("work").Dir(), oneFile+"helper file 0644 \"\"\n")
}

// testShow: a tree that is shown can be changed without the driver, and what was changed stays.
func testShow(s *suite) {
	s.snapshot("base", "", `f file "x"`)
	for _, parent := range []string{"", "base"} {
		s.keep("work", parent, `g file "1"`)
		dir, err := s.driver.Show(s.Context(), "work")
		if errors.Is(err, snapshot.ErrUnsupported) {
			if s.kept("work").Shown {
				s.Error("it is shown")
			}
			continue
		}
		s.must(err)
		again, err := s.driver.Show(s.Context(), "work")
		s.must(err)
		k := s.kept("work")
		if again != dir || k.Dir != dir || !k.Shown {
			s.Errorf("shown at %s, then at %s, and %+v", dir, again, k)
		}
		t := s.resume("work")
		s.change(t.Dir(), `append g 2`)
		s.must(t.Close())
		s.must(s.driver.Hide(s.Context(), "work"))
		s.must(s.driver.Hide(s.Context(), "work"))
		t = s.resume("work")
		got, err := os.ReadFile(filepath.Join(t.Dir(), "g"))
		s.must(err)
		s.equal("the content", string(got), "12")
		s.commit(t, "child of "+parent)
	}
}
