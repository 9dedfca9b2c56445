package treetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"genoci/test/strict"
)

// ordinary is a tree that every user can make; its lines are as Dump writes them, without owners.
const ordinary = `./ dir 0711
a file 0644 <1> "one\n"
b/ dir 1777
b/c file 0644 <1> "one\n"
b/d file 4755 "" user.test="\x00\xff"
"b/with space" file 0600 "\"quoted\""
big file 0644 size=70000 sha256:a6cbbf749635
"d\xffe" symlink "1:2"
empty/ dir 0500
fifo fifo 0620
link symlink ../no/such=thing
`

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	Make(t, dir, ordinary, NoOwners)
	if diff := Diff(ordinary, Dump(t, dir, NoOwners, Root)); diff != "" {
		t.Errorf("made and dumped again:\n%s", diff)
	}
	if want := strings.Join(strings.SplitAfter(ordinary, "\n")[1:], ""); Dump(t, dir, NoOwners) != want {
		t.Error("without Root, the dump still has a line for the root folder, or lacks others")
	}
}

func TestOwnersAndDevices(t *testing.T) {
	strict.NeedRoot(t) // it gives files away and makes devices
	const text = `bin/ dir 0755 3:4
bin/ping file 4755 0:5 "x"
char c 1:3 0666 0:0
disk b 259:300 0600 0:6
link symlink 1:2 target
link2 symlink target
sock socket 0600 7:8
`
	dir := t.TempDir()
	Make(t, dir, text)
	if diff := Diff(text, Dump(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestTimes(t *testing.T) {
	const text = `d/ dir 0755 mtime=1600000000
d/f file 0644 "" mtime=-1.5
d/l symlink f mtime=1700000000.000000001
`
	dir := t.TempDir()
	Make(t, dir, text, NoOwners)
	if diff := Diff(text, Dump(t, dir, NoOwners, MTimes)); diff != "" {
		t.Error(diff)
	}
	fi, err := os.Lstat(filepath.Join(dir, "d/l"))
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Unix(1700000000, 1); !fi.ModTime().Equal(want) {
		t.Errorf("mtime is %v, want %v", fi.ModTime(), want)
	}
}

func TestDefaults(t *testing.T) {
	dir := t.TempDir()
	Make(t, dir, `
		# a comment
		f file
		deep/down/ dir
	`)
	const want = "deep/ dir 0755\ndeep/down/ dir 0755\nf file 0644 \"\"\n"
	if diff := Diff(want, Dump(t, dir, NoOwners)); diff != "" {
		t.Error(diff)
	}
}

func TestDiff(t *testing.T) {
	a := "a file 0644 \"\"\nb file 0644 \"\"\nc file 0644 \"\"\n"
	b := "a file 0644 \"\"\nb file 0755 \"\"\nd file 0644 \"\"\n"
	const want = "-b file 0644 \"\"\n+b file 0755 \"\"\n-c file 0644 \"\"\n+d file 0644 \"\"\n"
	if got := Diff(a, b); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if got := Diff(a, a); got != "" {
		t.Errorf("equal trees differ:\n%s", got)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		`f`:                  `tree line "f": a path and a type are needed`,
		`f flie`:             `tree line "f flie": unknown type "flie"`,
		`f dir`:              `tree line "f dir": folders, and only they, end in a slash`,
		`f/ file`:            `tree line "f/ file": folders, and only they, end in a slash`,
		`f file "x`:          `tree line "f file \"x": no end of quotes: "x`,
		`f file 0999`:        `tree line "f file 0999": "0999": strconv.ParseUint: parsing "0999": invalid syntax`,
		`f file sha256:00`:   `tree line "f file sha256:00": sha256:00 is not the sum of what size=0 stands for`,
		`f c`:                `tree line "f c": device numbers are needed`,
		`f file mtime=today`: `tree line "f file mtime=today": "mtime=today": strconv.ParseInt: parsing "today": invalid syntax`,
	} {
		if _, err := parse(text); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}
