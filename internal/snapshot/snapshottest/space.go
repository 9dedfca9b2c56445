package snapshottest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"time"

	"genoci/internal/snapshot"
)

// fill puts a file of so many bytes, which do not compress, into a folder.
func (s *suite) fill(dir, name string, size int) {
	s.Helper()
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for i := range content {
		content[i] ^= byte(i * i >> 7)
	}
	s.must(os.WriteFile(filepath.Join(dir, name), content, 0o644))
}

// space returns what all takes, and what the trees of a name take: all of it, and what would go
// with the tree.
func (s *suite) space() (all int64, of func(name string) (total, own int64)) {
	s.Helper()
	space, err := s.driver.Space(s.Context())
	s.must(err)
	users := map[string]int{}
	for _, t := range space.Trees {
		for _, id := range t.Parts {
			users[id]++
		}
	}
	all = space.Rest
	for _, n := range space.Parts {
		all += n
	}
	return all, func(name string) (total, own int64) {
		i := slices.IndexFunc(space.Trees, func(t snapshot.TreeSpace) bool { return t.Name == name })
		if i < 0 {
			return 0, 0
		}
		for _, id := range space.Trees[i].Parts {
			total += space.Parts[id]
			if users[id] == 1 {
				own += space.Parts[id]
			}
		}
		return total, own
	}
}

// testSpace: it is known what trees take, and what removing one brings.
func testSpace(s *suite) {
	const size = 4 << 20
	t := s.tree("")
	s.fill(t.Dir(), "big", size)
	s.commit(t, "base")
	before := time.Now().Add(-time.Minute)
	t = s.tree("base")
	s.fill(t.Dir(), "small", size/4)
	s.commit(t, "child")
	t = s.tree("child")
	s.fill(t.Dir(), "more", size/4)
	s.must(t.Keep(s.Context(), "work", nil))
	open := s.tree("base")

	all, of := s.space()
	if total, _ := of("base"); total < size || total > 2*size {
		s.Errorf("base takes %d bytes, and has a file of %d", total, size)
	}
	if total, own := of("child"); total < size+size/4 || own > total {
		s.Errorf("child takes %d bytes, %d of its own", total, own)
	}
	if total, own := of("work"); total < size+size/2 || own < size/4 {
		s.Errorf("work takes %d bytes, %d of its own", total, own)
	}
	if total, _ := of(""); total == 0 {
		s.Error("nothing is said of the tree that is open")
	}
	space, err := s.driver.Space(s.Context())
	s.must(err)
	for _, t := range space.Trees {
		if t.Used.Before(before) || t.Used.After(time.Now().Add(time.Minute)) {
			s.Errorf("%q was used at %v", t.Name, t.Used)
		}
		s.equal("kept, of "+t.Name, t.Kept, t.Name == "work")
	}

	s.must(open.Close())
	s.must(s.driver.Drop(s.Context(), "work"))
	s.must(s.driver.Remove(s.Context(), "child"))
	after, of := s.space()
	if all-after < size/2 {
		s.Errorf("%d bytes before, %d after trees of %d went", all, after, size/2)
	}
	if _, own := of("base"); own < size {
		s.Errorf("base has %d bytes of its own", own)
	}
	s.must(s.driver.Remove(s.Context(), "base"))
	if rest, _ := s.space(); rest > size/4 {
		s.Errorf("%d bytes without any tree", rest)
	}
}

// testDiscard: the folder goes when nothing is in it, and not before.
func testDiscard(s *suite) {
	s.snapshot("base", "", "f file")
	s.keep("work", "base", "g file")
	s.must(s.driver.Discard())
	s.must(s.driver.Remove(s.Context(), "base"))
	s.must(s.driver.Discard())
	s.wantKept("work")
	s.must(s.driver.Drop(s.Context(), "work"))
	s.must(s.driver.Discard())
	if _, err := os.Lstat(s.dir); err == nil {
		s.Error("an empty folder is still there")
	}
	s.driver = s.reopen()
	s.snapshot("base", "", "f file")
}
