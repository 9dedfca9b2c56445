package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMatchPath(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"*.txt", "a.txt", true},
		{"*.txt", "d/a.txt", false},
		{"d/*", "d/a", true},
		{"d/*", "d/a/b", false},
		{"**/a", "a", true},
		{"**/a", "x/y/a", true},
		{"x/**/a", "x/a", true},
		{"x/**", "x", true},
		{"x/**", "x/y/z", true},
		{"x/**/z/*.c", "x/1/2/z/q.c", true},
		{"[a-c]?", "b1", true},
		{"[a-c]?", "d1", false},
		{"/usr/./lib/*", "usr/lib/x", true},
		{"[", "[", false},
		{"*", ".hidden", true},
	} {
		if got := MatchPath(c.pattern, c.path); got != c.want {
			t.Errorf("MatchPath(%q, %q) = %v", c.pattern, c.path, got)
		}
	}
}

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"*.o", "a/b/c.o", true},
		{"node_modules", "x/node_modules/y/z.js", true},
		{"node_modules/", "x/node_modules/y", true},
		{"a/b", "x/a/b", false},
		{"a/b", "a/b/c", true},
		{"/a", "a", true},
		{"**/b/*", "x/b/c/d", true},
		{"c", "ab/cd", false},
	} {
		if got := NewGlobs([]string{"never", c.pattern}).Match(c.path); got != c.want {
			t.Errorf("%q, %q: %v", c.pattern, c.path, got)
		}
	}
}

// The last pattern that matches decides, and a folder may be left out but for what is excepted in
// it.
func TestExceptions(t *testing.T) {
	for _, c := range []struct {
		patterns, path string
		match, below   bool
	}{
		{"h/* !h/keep", "h/keep", false, false},
		{"h/* !h/keep", "h/other", true, false},
		{"h/* !h/keep", "h", false, true},
		{"h !h/keep", "h", true, true},
		{"h !h/keep", "h/keep", false, false},
		{"h !h/keep", "h/keep/in/it", false, false},
		{"h !h/a/b", "h/a", true, true},
		{"h !h/a/b", "h/b", true, false},
		{"* !*.go", "d", true, true},
		{"* !*.go", "d/a.go", false, true},
		{"* !*.go *_test.go", "d/a_test.go", true, true},
		{"* !/d/**/x", "d/1/2", true, true},
		{"* !/d/**/x", "d/1/2/x", false, true},
		{"* !/d/**/x", "e", true, false},
		{"*.bak !keep", "keep/a.bak", false, true},
		{"!a a", "a", true, true},
		{`\!a`, "!a", true, false},
		{"a", "a", true, false},
	} {
		g := NewGlobs(strings.Fields(c.patterns))
		if match, below := g.Match(c.path), g.ExceptsBelow(c.path); match != c.match || below != c.below {
			t.Errorf("%q, %q: match %v, except below %v", c.patterns, c.path, match, below)
		}
	}
}

// newSource returns a source on a folder that holds files, by path; names that end in / are
// folders.
func newSource(t *testing.T, files map[string]string) *Source {
	t.Helper()
	dir, state := t.TempDir(), t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(p, 0o755)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stats, err := OpenStats(filepath.Join(state, "stats"))
	if err != nil {
		t.Fatal(err)
	}
	return &Source{Dir: dir, Stats: stats, Downloads: state}
}

func dump(ms []Match) string {
	var b strings.Builder
	for _, m := range ms {
		fmt.Fprintf(&b, "%s:\n", m.Name)
		for _, n := range m.Nodes {
			fmt.Fprintf(&b, "  %s %v", n.Rel, n.Mode.Type())
			if n.Mode.IsRegular() {
				fmt.Fprintf(&b, " %d %x", n.Size, n.Digest[:4])
			}
			if n.Link != "" {
				fmt.Fprintf(&b, " -> %s", n.Link)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestMatch(t *testing.T) {
	s := newSource(t, map[string]string{
		"a.txt": "a", "b.txt": "b", "conf/x.conf": "x", "conf/sub/y.conf": "y", "conf/sub/y.o": "o", "conf/empty/": "",
		"odd[1]": "odd",
	})
	if err := os.Symlink("x.conf", filepath.Join(s.Dir, "conf/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("conf", filepath.Join(s.Dir, "aka")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ pattern, exclude, want string }{
		{"a.txt", "", "a.txt:\n  . ---------- 1 ca978112\n"},
		{"*.txt", "", "a.txt:\n  . ---------- 1 ca978112\nb.txt:\n  . ---------- 1 3e23e816\n"},
		{"conf", "*.o", "conf:\n  . d---------\n  empty d---------\n  link L--------- -> x.conf\n  sub d---------\n  sub/y.conf ---------- 1 a1fce436\n  x.conf ---------- 1 2d711642\n"},
		{"aka", "conf/sub", ""},
		{"aka/x*", "", "x.conf:\n  . ---------- 1 2d711642\n"},
		{"**/y.*", "", "y.conf:\n  . ---------- 1 a1fce436\ny.o:\n  . ---------- 1 65c74c15\n"},
		{"odd[1]", "", "odd[1]:\n  . ---------- 3 " + fmt.Sprintf("%.4x", sha256.Sum256([]byte("odd"))) + "\n"},
	} {
		ms, err := match(s, context.Background(), c.pattern, []string{c.exclude}, nil)
		if err != nil {
			t.Fatalf("%s: %v", c.pattern, err)
		}
		if c.want == "" { // a symlink that is named itself is followed
			if ms[0].Name != "aka" || !ms[0].Nodes[0].Mode.IsDir() {
				t.Errorf("%s: %s", c.pattern, dump(ms))
			}
			continue
		}
		if d := cmp.Diff(c.want, dump(ms)); d != "" {
			t.Errorf("%s: %s", c.pattern, d)
		}
	}
	for _, pattern := range []string{"nothing", "*.none", "dir/[*"} {
		if _, err := match(s, context.Background(), pattern, nil, nil); err == nil {
			t.Errorf("%s: no error", pattern)
		}
	}
}

// Only what a spec says is a pattern, not the name of the folder that the spec is in.
func TestGlobInOddFolder(t *testing.T) {
	s := newSource(t, map[string]string{"odd[1]*/a.txt": "", "odd[1]*/sub/b.txt": "", "odd1/a.txt": ""})
	outer := s.Dir
	s.Dir = filepath.Join(outer, "odd[1]*")
	for pattern, want := range map[string]string{
		"*.txt":            "odd[1]*/a.txt",
		"./*.txt":          "odd[1]*/a.txt",
		"**/*.txt":         "odd[1]*/a.txt odd[1]*/sub/b.txt",
		"s*/b.txt":         "odd[1]*/sub/b.txt",
		"sub/**":           "odd[1]*/sub/",
		"*/../a.txt":       "odd[1]*/a.txt",
		"../odd1/*":        "odd1/a.txt",
		outer + "/odd1/a*": "odd1/a.txt",
		outer + "/*1/a*":   "odd1/a.txt",
	} {
		found, err := s.Find(pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		if got := strings.ReplaceAll(strings.Join(found, " "), outer+"/", ""); got != want {
			t.Errorf("%s: %s, want %s", pattern, got, want)
		}
	}
	t.Chdir(s.Dir)
	for _, dir := range []string{".", "./", "", "sub/.."} {
		s.Dir = dir
		for pattern, want := range map[string]string{"*.txt": "a.txt", "[s]ub/*": "sub/b.txt", "sub/*": "sub/b.txt", "../odd1/*": "../odd1/a.txt"} {
			if found, err := s.Find(pattern); err != nil || strings.Join(found, " ") != want {
				t.Errorf("%s in %q: %q, %v, want %s", pattern, dir, found, err, want)
			}
		}
	}
	if found, err := s.Find("/tm[p]"); err != nil || len(found) != 1 || found[0] != "/tmp" {
		t.Errorf("in the root: %q, %v", found, err)
	}
}

func TestMatchSkipsSocketsKeepsHardLinks(t *testing.T) {
	s := newSource(t, map[string]string{"d/one": "1"})
	if err := os.Link(filepath.Join(s.Dir, "d/one"), filepath.Join(s.Dir, "d/two")); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(s.Dir, "d/s")
	makeSocket(t, sock)
	var warned []string
	ms, err := match(s, context.Background(), "d", nil, func(text string) { warned = append(warned, text) })
	if err != nil {
		t.Fatal(err)
	}
	if len(warned) != 1 || warned[0] != sock+": a layer cannot hold a socket" {
		t.Errorf("warned of %v, want the socket", warned)
	}
	n := ms[0].Nodes
	if len(n) != 3 || n[1].Inode == "" || n[1].Inode != n[2].Inode {
		t.Errorf("nodes %+v, want a folder and two names of one file", n)
	}
}

func makeSocket(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

// A socket that is named itself, by a glob or through a link, cannot be copied.
func TestSocketIsNoSource(t *testing.T) {
	s := newSource(t, map[string]string{"file": "1"})
	makeSocket(t, filepath.Join(s.Dir, "s"))
	if err := os.Symlink("s", filepath.Join(s.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"s", "link", "?", "*"} {
		if ms, err := match(s, context.Background(), pattern, nil, nil); err == nil || !strings.HasSuffix(err.Error(), "/s: is a socket, which a layer cannot hold") {
			t.Errorf("copy %s: %v, %v", pattern, ms, err)
		}
	}
}

// What is not as long as it says would else be cut off without a word: files of /proc have no size,
// those of /sys one that is too large.
func TestFalseSize(t *testing.T) {
	s := newSource(t, nil)
	const want = ": its size does not fit its content"
	for _, path := range []string{"/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		ctx := context.Background()
		if _, err := os.Stat(path); err != nil {
			t.Log("not on this machine: ", path)
			continue
		}
		if _, err := match(s, ctx, path, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("copy %s: %v", path, err)
		}
		if _, err := s.File(ctx, path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("read %s: %v", path, err)
		}
		ms, err := s.List(ctx, path, nil, nil)
		if err == nil { // as a copy reads it that learns the digest meanwhile
			var r io.ReadCloser
			if r, err = ms[0].Nodes[0].Open(); err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("copy and learn %s: %v", path, err)
		}
	}
}

func TestFile(t *testing.T) {
	s := newSource(t, map[string]string{"f": "content", "d/": ""})
	sum := "sha256:" + fmt.Sprintf("%x", sha256.Sum256([]byte("content")))
	f, err := s.File(context.Background(), "f", sum)
	if err != nil || f.String() != sum {
		t.Errorf("File = %v, %v", f, err)
	}
	if _, err = s.File(context.Background(), "f", "sha256:00"); err == nil || !strings.Contains(err.Error(), "checksum is "+sum) {
		t.Errorf("wrong checksum: %v", err)
	}
	if _, err = s.File(context.Background(), "d", ""); err == nil || !strings.Contains(err.Error(), "is a folder, not a file") {
		t.Errorf("folder: %v", err)
	}
	if _, err = s.File(context.Background(), "none", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestPackages(t *testing.T) {
	s := newSource(t, map[string]string{
		"b.deb": "B", "a.deb": "A", "c.rpm": "C", "d/2.rpm": "2", "d/1.deb": "1", "d/Packages": "", "d/deeper/3.deb": "", "e/README": "", "f.deb/": "",
	})
	for pattern, want := range map[string]string{
		"[ab].deb": "a.deb b.deb", "a.deb": "a.deb", "d/": "1.deb 2.rpm", "d": "1.deb 2.rpm", "[de]": "1.deb 2.rpm", "?.*": "a.deb b.deb c.rpm", "d/*.rpm": "2.rpm",
	} {
		got, err := s.Packages(context.Background(), pattern)
		var names []string
		for _, f := range got {
			names = append(names, f.Name)
		}
		if strings.Join(names, " ") != want || err != nil {
			t.Errorf("%s: %q, %v; want %s", pattern, names, err, want)
		}
	}
	for _, pattern := range []string{"*.apk", "e/", "f.deb", "none.deb", "none/"} {
		if _, err := s.Packages(context.Background(), pattern); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

// Content that changes between digesting and use must never get into a build.
func TestOpenNoticesChange(t *testing.T) {
	s := newSource(t, map[string]string{"f": "content"})
	for _, now := range []string{"another", "content and more", "con", ""} {
		p := filepath.Join(s.Dir, "f")
		if err := os.WriteFile(p, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := s.File(context.Background(), "f", "")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadAll(r); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("now %q: %v", now, err)
		}
		r.Close()
	}
}

// statOnce describes the file at path as it is now.
func statOnce(t *testing.T, path string) *unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return &st
}

func TestStats(t *testing.T) {
	dir := t.TempDir()
	p, state := filepath.Join(dir, "f"), filepath.Join(dir, "stats")
	if err := os.WriteFile(p, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	fi, sum := statOnce(t, p), sha256.Sum256([]byte("1"))
	s, err := OpenStats(state)
	if err != nil {
		t.Fatal(err)
	}

	s.put(fi, sum, false, time.Now())
	if _, ok := s.get(fi, day(time.Now())); ok {
		t.Error("a file that was just written is remembered")
	}
	later := time.Now().Add(time.Hour)
	s.put(fi, sum, false, later)
	for i := range 500 {
		other := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(other, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		s.put(statOnce(t, other), sha256.Sum256([]byte{byte(i)}), false, later)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenStats(state); err != nil {
		t.Fatal(err)
	}
	if got, ok := s.get(fi, day(later)); !ok || got != sum {
		t.Errorf("after Save: %x, %v", got, ok)
	}
	for i := range 500 {
		if got, ok := s.get(statOnce(t, filepath.Join(dir, fmt.Sprint(i))), day(later)); !ok || got != sha256.Sum256([]byte{byte(i)}) {
			t.Fatalf("file %d: %x, %v", i, got, ok)
		}
	}

	// Same size, and mtime set back as a deceiver would: the ctime tells.
	if err := os.WriteFile(p, []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(p, time.Unix(fi.Mtim.Unix()), time.Unix(fi.Mtim.Unix())); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.get(statOnce(t, p), day(later)); ok {
		t.Error("a changed file has its old digest")
	}
}

func TestStatsDamaged(t *testing.T) {
	dir := t.TempDir()
	p, state := filepath.Join(dir, "f"), filepath.Join(dir, "stats")
	if err := os.WriteFile(p, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, _ := OpenStats(state)
	st, later := statOnce(t, p), time.Now().Add(time.Hour)
	s.put(st, sha256.Sum256([]byte("1")), false, later)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := append([]byte(nil), whole...)
		damaged[i] ^= 1
		for _, b := range [][]byte{damaged, whole[:i]} {
			s := &Stats{old: statsRecords(b)}
			if _, ok := s.get(st, day(later)); ok {
				t.Fatalf("byte %d of %d damaged or missing: the record is taken", i, len(whole))
			}
		}
	}
}

// What is learned is merged with what was there; what is damaged, or was not asked for in a long
// time, goes.
func TestStatsMerge(t *testing.T) {
	file := func(ino uint64) *unix.Stat_t { return &unix.Stat_t{Dev: 1, Ino: ino, Size: int64(ino)} }
	sum := func(i uint64) [32]byte { return [32]byte{byte(i), byte(i >> 8)} }
	path := filepath.Join(t.TempDir(), "stats")
	open := func() *Stats {
		t.Helper()
		s, err := OpenStats(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	now := time.Now()
	s := open()
	for i := uint64(10); i < 1000; i += 2 {
		s.put(file(i), sum(i), false, now)
	}
	s.put(file(500), sum(500), false, now.Add(-2*keepDays*24*time.Hour))
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(statsMagic)+45*statsRecord] ^= 0xff // of file 100, which now seems to be far behind
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}

	s = open()
	for _, i := range []uint64{1, 11, 300, 5000} {
		s.put(file(i), sum(i+1), false, now)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s = open()
	for i := range uint64(6000) {
		want, known := sum(i), i >= 10 && i < 1000 && i%2 == 0 && i != 100 && i != 500
		if i == 1 || i == 11 || i == 300 || i == 5000 {
			want, known = sum(i+1), true
		}
		if got, ok := s.get(file(i), day(now)); ok != known || known && got != want {
			t.Fatalf("file %d: %x, %v; want it known: %v", i, got, ok, known)
		}
	}
	if got, ok := s.get(&unix.Stat_t{Dev: 1, Ino: 300, Size: 300, Ctim: unix.Timespec{Nsec: 1}}, day(now)); ok {
		t.Errorf("of a changed file: %x", got)
	}
}

func TestFetch(t *testing.T) {
	body, gets, sent := "first", 0, 0
	fail := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gets++
		if fail > 0 {
			fail--
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/none") {
			http.NotFound(w, r)
			return
		}
		tag := fmt.Sprintf("%q", body)
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent++
		io.WriteString(w, body)
	}))
	defer srv.Close()
	s := newSource(t, nil)
	get := func(checksum string) string {
		t.Helper()
		f, err := s.File(context.Background(), srv.URL+"/dir/a.deb", checksum)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name != "a.deb" {
			t.Errorf("name %q", f.Name)
		}
		b, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := get("") + get(""); got != "firstfirst" || sent != 1 {
		t.Errorf("two gets: %q, body sent %d times", got, sent)
	}
	body = "second"
	if got := get(""); got != "second" {
		t.Errorf("after a change: %q", got)
	}
	before := gets
	if got := get(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("first")))); got != "first" || gets != before {
		t.Errorf("by checksum: %q with %d requests", got, gets-before)
	}
	if _, err := s.File(context.Background(), srv.URL+"/x", "sha256:"+strings.Repeat("0", 64)); err == nil || !strings.Contains(err.Error(), "checksum is sha256:") {
		t.Errorf("wrong checksum: %v", err)
	}
	if _, err := s.File(context.Background(), srv.URL+"/none", ""); err == nil || !strings.Contains(err.Error(), "404 Not Found") {
		t.Errorf("missing: %v", err)
	}
	fail = 1
	if got := get(""); got != "second" {
		t.Errorf("after one bad answer: %q", got)
	}
}

// What is stored and hashed are the bytes of the file, as curl and wget get them, also from a
// server that says of a .tar.gz that gzip is how it was packed for the way.
func TestFetchTakesBytesAsTheyAre(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, "content")
	z.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("asked for the encoding %s", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(b.Bytes())
	}))
	defer srv.Close()
	f, err := newSource(t, nil).File(t.Context(), srv.URL+"/a.tar.gz", fmt.Sprintf("sha256:%x", sha256.Sum256(b.Bytes())))
	if err != nil || f.Size != int64(b.Len()) {
		t.Errorf("%d bytes of %d, %v", f.Size, b.Len(), err)
	}
}

// A download that is cut off is an error, and leaves nothing that a later one could take for whole.
func TestFetchCutOff(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "only this")
	}))
	defer srv.Close()
	s := newSource(t, nil)
	if f, err := s.File(context.Background(), srv.URL+"/x", ""); err == nil {
		t.Fatalf("got %v", f)
	}
	left, err := os.ReadDir(s.Downloads)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestTake: the digest of a file comes from whoever reads it, unless the file changed meanwhile.
func TestTake(t *testing.T) {
	dir := t.TempDir()
	stats, err := OpenStats(filepath.Join(dir, "stats"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Source{Dir: dir, Stats: stats}
	path := filepath.Join(dir, "f")
	sum := sha256.Sum256([]byte("content"))
	take := func(between func()) (File, error) {
		if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		longAgo := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, longAgo, longAgo); err != nil {
			t.Fatal(err)
		}
		f, err := s.Peek("f")
		if err != nil || f.Known() {
			t.Fatalf("Peek: known %v, %v", f.Known(), err)
		}
		taking, err := s.Take(&f)
		if err != nil {
			t.Fatal(err)
		}
		defer taking.Close()
		if _, err := io.Copy(io.Discard, taking); err != nil {
			t.Fatal(err)
		}
		between()
		err = taking.Done(sum)
		return f, err
	}
	if f, err := take(func() {}); err != nil || f.Digest != sum {
		t.Errorf("digest %x, %v", f.Digest, err)
	}
	for name, change := range map[string]func(){
		"longer":   func() { appendTo(t, path) },
		"new time": func() { _ = os.Chtimes(path, time.Now(), time.Now()) },
	} {
		if f, err := take(change); err == nil || f.Known() {
			t.Errorf("%s: digest %x, %v", name, f.Digest, err)
		}
	}
	f := File{Name: "f", Path: path, Size: 7, Digest: sha256.Sum256([]byte("another"))}
	taking, err := s.Take(&f)
	if err != nil {
		t.Fatal(err)
	}
	defer taking.Close()
	if err := taking.Done(sum); err == nil {
		t.Error("content that is not what was known before was taken")
	}
}

func appendTo(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("more")
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// match lists what a copy reads, with all digests.
func match(s *Source, ctx context.Context, pattern string, exclude []string, skipped func(string)) ([]Match, error) {
	matches, err := s.List(ctx, pattern, exclude, skipped)
	if err != nil {
		return nil, err
	}
	return matches, s.Digest(ctx, matches)
}

// What URLs gave is known by its content, with all the URLs, and by when it was used last.
func TestDownloads(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := "same"
		if r.URL.Path == "/other" {
			body = "other"
		}
		tag := fmt.Sprintf("%q", body)
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, body)
	}))
	defer srv.Close()
	s := newSource(t, nil)
	sum := sha256.Sum256([]byte("same"))
	checksum := fmt.Sprintf("sha256:%x", sum)
	get := func(path, checksum string) {
		t.Helper()
		if _, err := s.File(t.Context(), srv.URL+path, checksum); err != nil {
			t.Fatal(err)
		}
	}
	get("/one", "")
	get("/two", "")
	get("/other", "")
	if err := os.WriteFile(filepath.Join(s.Downloads, "stats"), nil, 0o600); err != nil { // no download
		t.Fatal(err)
	}
	same := func() Download {
		t.Helper()
		all, err := Downloads(s.Downloads)
		if err != nil || len(all) != 2 {
			t.Fatalf("%v, %v, want two", all, err)
		}
		for _, d := range all {
			if len(d.URLs) == 2 && len(d.Files) == 3 && filepath.Base(d.Files[0]) == checksum[len("sha256:"):] {
				return d
			}
		}
		t.Fatalf("%v: none with two URLs and three files", all)
		return Download{}
	}
	for _, use := range []struct{ path, checksum string }{{"/one", ""}, {"/two", checksum}} {
		old := time.Now().Add(-time.Hour)
		for _, f := range same().Files {
			if err := os.Chtimes(f, old, old); err != nil {
				t.Fatal(err)
			}
		}
		if age := time.Since(same().Used); age < 59*time.Minute {
			t.Errorf("used %v ago", age)
		}
		get(use.path, use.checksum)
		if age := time.Since(same().Used); age > time.Minute {
			t.Errorf("after the use of %s: used %v ago", use.path, age)
		}
	}
	if all, err := Downloads(filepath.Join(t.TempDir(), "none")); err != nil || len(all) != 0 {
		t.Errorf("of no folder: %v, %v", all, err)
	}
}
