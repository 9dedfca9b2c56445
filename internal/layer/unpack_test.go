package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"genoci/internal/beneath"
	"genoci/internal/treetest"
	"genoci/test/strict"

	"golang.org/x/sys/unix"
)

func unpack(t testing.TB, dir string, members ...member) error {
	t.Helper()
	return Unpack(context.Background(), dir, bytes.NewReader(makeTar(t, members...)), asUser())
}

// dump shows a tree without owners, which differ between those who run the tests.
func dump(t testing.TB, dir string, o ...treetest.Option) string {
	t.Helper()
	return treetest.Dump(t, dir, append(o, treetest.NoOwners)...)
}

// Whatever a layer says, nothing outside the folder is read, made, changed or removed.
func TestUnpackStaysInside(t *testing.T) {
	const outside = `
dir/ dir 0755
dir/victim file 0644 "victim"
secret file 0600 "secret"
`
	tests := []struct {
		name    string
		members []member
		want    string // "": an error, or nothing made
	}{
		{"names with ..", []member{fileMember("../../outside/x", "x"), fileMember("/../y", "y")}, `outside/ dir 0755
outside/x file 0644 "x"
y file 0644 "y"
`},
		{"absolute name", []member{fileMember("OUTSIDE/dir/victim", "x")}, `OUTSIDE/dir/victim file 0644 "x"
`},
		{"below a symlink with ..", []member{linkMember("l", "../outside"), fileMember("l/x", "x")}, `l symlink ../outside
outside/ dir 0755
outside/x file 0644 "x"
`},
		{"below an absolute symlink", []member{linkMember("l", "OUTSIDE"), fileMember("l/secret", "x")}, `l symlink OUTSIDE
OUTSIDE/secret file 0644 "x"
`},
		{"below a symlink to a symlink", []member{linkMember("a", ".."), linkMember("b", "a/../../outside"), dirMember("b/new")}, `a symlink ..
b symlink a/../../outside
outside/ dir 0755
outside/new/ dir 0755
`},
		{"below symlinks that lead nowhere", []member{linkMember("loop", "loop"), fileMember("loop/x", "")}, ""},
		{"file where a symlink is", []member{linkMember("l", "OUTSIDE/secret"), fileMember("l", "x")}, `l file 0644 "x"
`},
		{"folder where a symlink is", []member{linkMember("l", "OUTSIDE/dir"), dirMember("l"), fileMember("l/victim", "x")}, `l/ dir 0755
l/victim file 0644 "x"
`},
		{"hard link to an absolute name", []member{hardMember("h", "OUTSIDE/secret")}, ""},
		{"hard link with ..", []member{hardMember("h", "../outside/secret")}, ""},
		{"hard link to a symlink", []member{linkMember("l", "OUTSIDE/secret"), hardMember("h", "l"), fileMember("h", "x")}, `h file 0644 "x"
l symlink OUTSIDE/secret
`},
		{"hard link below a symlink", []member{linkMember("l", "OUTSIDE"), hardMember("h", "l/secret")}, ""},
		{"whiteout below a symlink", []member{linkMember("l", "OUTSIDE"), fileMember("l/.wh.secret", "")}, "l symlink OUTSIDE\nOUTSIDE/ dir 0755\n"},
		{"whiteout of a symlink", []member{linkMember("dir/l", "OUTSIDE"), fileMember(".wh.dir", "")}, `dir/ dir 0755
dir/l symlink OUTSIDE
`},
		{"whiteout with ..", []member{fileMember("../outside/.wh.secret", "")}, "outside/ dir 0755\n"},
		{"opaque symlink", []member{linkMember("l", "OUTSIDE"), fileMember("l/.wh..wh..opq", "")}, "l symlink OUTSIDE\nOUTSIDE/ dir 0755\n"},
		{"opaque with ..", []member{fileMember("../outside/.wh..wh..opq", "")}, "outside/ dir 0755\n"},
		{"metadata through a symlink", []member{linkMember("l", "OUTSIDE/secret"), linkMember("l", "OUTSIDE/dir")}, "l symlink OUTSIDE/dir\n"},
		{"link into /proc", []member{linkMember("l", "/proc/self/root"), fileMember("l/x", "x")}, `l symlink /proc/self/root
proc/ dir 0755
proc/self/ dir 0755
proc/self/root/ dir 0755
proc/self/root/x file 0644 "x"
`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			top := t.TempDir()
			treetest.Make(t, top+"/outside", outside, treetest.NoOwners)
			strict.Must(t, mkdir(top+"/root", 0o755))
			before := dump(t, top+"/outside", treetest.MTimes, treetest.Root)
			abs := filepath.Join(top, "outside")
			for i := range test.members {
				m := &test.members[i]
				m.Name, m.Linkname = strings.ReplaceAll(m.Name, "OUTSIDE", abs), strings.ReplaceAll(m.Linkname, "OUTSIDE", abs)
			}
			err := unpack(t, top+"/root", test.members...)
			if diff := treetest.Diff(before, dump(t, top+"/outside", treetest.MTimes, treetest.Root)); diff != "" {
				t.Errorf("outside changed:\n%s", diff)
			}
			if left, _ := os.ReadDir(top); len(left) != 2 {
				t.Errorf("beside the folder: %v", left)
			}
			if test.want == "" {
				if names, _ := os.ReadDir(top + "/root"); err == nil && len(names) > 0 {
					t.Errorf("made:\n%s", dump(t, top+"/root"))
				}
				return
			}
			strict.Must(t, err)
			want := t.TempDir()
			treetest.Make(t, want, strings.ReplaceAll(test.want, "OUTSIDE", abs), treetest.NoOwners)
			// Absolute names are relative to the folder.
			wantText(t, dump(t, top+"/root"), dump(t, want))
		})
	}
}

// Everything replaces everything; only a folder on a folder keeps what is in it.
func TestUnpackReplaces(t *testing.T) {
	before := `
target/kept file 0644 "kept"
x-dir/ dir 0700
x-dir/sub/file file 0644 "old"
x-fifo fifo 0600
x-file file 0600 "old"
x-hard file 0600 <1> "hard"
x-hard2 file 0600 <1> "hard"
x-link symlink target
`
	kinds := []string{"x-dir", "x-fifo", "x-file", "x-hard", "x-link"}
	news := map[string]struct {
		m    member
		want string
	}{
		"dir":  {dirMember("NAME"), "NAME/ dir 0755\n"},
		"file": {fileMember("NAME", "new"), "NAME file 0644 \"new\"\n"},
		"link": {linkMember("NAME", "target"), "NAME symlink target\n"},
		"fifo": {nodeMember(tar.TypeFifo, "NAME", 0, 0), "NAME fifo 0600\n"},
		"hard": {hardMember("NAME", "target/kept"), "NAME file 0644 <1> \"kept\"\n"},
	}
	for _, kind := range kinds {
		for name, n := range news {
			dir := newFolder(t)
			treetest.Make(t, dir, before, treetest.NoOwners)
			m := n.m
			m.Name = strings.ReplaceAll(m.Name, "NAME", kind)
			strict.Must(t, unpack(t, dir, m))
			var want strings.Builder
			for line := range strings.Lines(strings.TrimSpace(before) + "\n") {
				path, _, _ := strings.Cut(line, " ")
				switch {
				case strings.HasPrefix(path, kind+"/sub") && name == "dir" && kind == "x-dir":
					want.WriteString(line)
				case path == kind, path == kind+"/":
					want.WriteString(strings.ReplaceAll(n.want, "NAME", kind))
				case strings.HasPrefix(path, kind+"/"):
				case path == "target/kept" && name == "hard":
					want.WriteString("target/kept file 0644 <1> \"kept\"\n")
				case path == "x-hard2" && kind == "x-hard":
					want.WriteString("x-hard2 file 0600 \"hard\"\n")
				case path == "x-hard2" && name == "hard", path == "x-hard" && name == "hard":
					want.WriteString(strings.ReplaceAll(line, "<1>", "<2>"))
				default:
					want.WriteString(line)
				}
			}
			model := newFolder(t)
			treetest.Make(t, model, want.String(), treetest.NoOwners)
			if diff := treetest.Diff(dump(t, model), dump(t, dir)); diff != "" {
				t.Errorf("%s over %s:\n%s", name, kind, diff)
			}
		}
	}
}

func TestUnpackWhiteouts(t *testing.T) {
	const before = `
a/ dir 0755
a/b/ dir 0755
a/b/c file 0644 "lower"
a/b/d file 0644 "lower"
a/e file 0644 "lower"
link symlink a
`
	tests := []struct {
		name    string
		members []member
		want    string
	}{
		{"file", []member{fileMember("a/.wh.e", "")}, "a/\na/b/\na/b/c\na/b/d\nlink\n"},
		{"folder", []member{fileMember("a/.wh.b", "")}, "a/\na/e\nlink\n"},
		{"symlink", []member{fileMember(".wh.link", "")}, "a/\na/b/\na/b/c\na/b/d\na/e\n"},
		{"through a symlink", []member{fileMember("link/.wh.b", "")}, "a/\na/e\nlink\n"},
		{"nothing there", []member{fileMember("a/.wh.x", "")}, "a/\na/b/\na/b/c\na/b/d\na/e\nlink\n"},
		{"no folder there", []member{fileMember("no/such/.wh.x", ""), fileMember("nor/.wh..wh..opq", "")}, "a/\na/b/\na/b/c\na/b/d\na/e\nlink\nno/\nno/such/\nnor/\n"},
		{"opaque before", []member{dirMember("a"), fileMember("a/.wh..wh..opq", ""), fileMember("a/new", "")}, "a/\na/new\nlink\n"},
		{"opaque behind", []member{dirMember("a"), fileMember("a/b/new", ""), fileMember("a/.wh..wh..opq", "")}, "a/\na/b/\na/b/new\nlink\n"},
		{"opaque root", []member{fileMember(".wh..wh..opq", ""), fileMember("new", "")}, "new\n"},
		{"the layer's own file", []member{fileMember("a/e", "own"), fileMember("a/.wh.e", "")}, "a/\na/b/\na/b/c\na/b/d\na/e\nlink\n"},
		{"the layer's own folder", []member{fileMember("a/b/d", "own"), fileMember("a/.wh.b", "")}, "a/\na/b/\na/b/d\na/e\nlink\n"},
		{"the layer's own symlink", []member{linkMember("own", "a"), fileMember(".wh.own", "")}, "a/\na/b/\na/b/c\na/b/d\na/e\nlink\nown\n"},
		{"notes of AUFS", []member{fileMember(".wh..wh.plnk", ""), fileMember(".wh..wh.aufs", "")}, "a/\na/b/\na/b/c\na/b/d\na/e\nlink\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := newFolder(t)
			treetest.Make(t, dir, before, treetest.NoOwners)
			strict.Must(t, unpack(t, dir, test.members...))
			var got strings.Builder
			for line := range strings.Lines(dump(t, dir)) {
				path, _, _ := strings.Cut(line, " ")
				got.WriteString(path + "\n")
			}
			wantText(t, got.String(), test.want)
		})
	}
}

// Folders that a layer has something in but no entry for are as Merge says: those of lower layers
// unchanged, new ones 0755 of 1970, and so is the root of an empty tree. A folder is emptied of
// what lower layers have in it once. A layer of some kilobytes may have many files in a folder and
// make it opaque many times: to go through it each time took hours.
func TestUnpackHidesOnce(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755), os.WriteFile(filepath.Join(dir, "d/lower"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	err := extract(dir, UnpackOptions{}, func(x *extractor) error {
		for _, path := range []string{"d", "d/sub"} {
			if err := x.put(Entry{Path: path, Type: TypeDir, Mode: 0o755}, "", nil, path); err != nil {
				return err
			}
		}
		if err := x.hideChildren("d"); err != nil {
			return err
		}
		// It would be removed by whoever looked at it.
		for _, name := range []string{"d/late", "d/sub/late"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
				return err
			}
		}
		return errors.Join(x.hideChildren("d"), x.hideChildren("d/sub"), x.whiteout(".", "d"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := dump(t, dir, treetest.NoOwners), "d/ dir 0755\nd/late file 0644 \"\"\nd/sub/ dir 0755\nd/sub/late file 0644 \"\"\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUnpackImpliedFolders(t *testing.T) {
	dir := newFolder(t)
	strict.Must(t, os.Chmod(dir, 0o700))
	strict.Must(t, unpack(t, dir, dirMember("old").with(func(h *tar.Header) { h.Mode = 0o711 }), linkMember("dangling", "made/of/links")))
	strict.Must(t, unpack(t, dir, fileMember("old/new/deep/x", ""), fileMember("dangling/y", ""), fileMember(".wh.gone", "")))
	wantText(t, dump(t, dir, treetest.MTimes, treetest.Root), `./ dir 0755 mtime=0
dangling symlink made/of/links mtime=100
made/ dir 0755 mtime=0
made/of/ dir 0755 mtime=0
made/of/links/ dir 0755 mtime=0
made/of/links/y file 0644 "" mtime=100
old/ dir 0711 mtime=100
old/new/ dir 0755 mtime=0
old/new/deep/ dir 0755 mtime=0
old/new/deep/x file 0644 "" mtime=100
`)
	strict.Must(t, unpack(t, dir, dirMember(".").with(func(h *tar.Header) { h.Mode, h.ModTime, h.Format = 0o750, time.Unix(5, 5e8), tar.FormatPAX })))
	if got := dump(t, dir, treetest.MTimes, treetest.Root); !strings.HasPrefix(got, "./ dir 0750 mtime=5\n") {
		t.Errorf("the root's own entry:\n%s", got)
	}
}

// The umask has no say, and times are whole seconds.
func TestUnpackUmask(t *testing.T) {
	dir := newFolder(t)
	old := unix.Umask(0o777)
	err := unpack(t, dir, dirMember("d"), fileMember("d/f", "x").with(func(h *tar.Header) { h.Mode, h.ModTime, h.Format = 0o666, time.Unix(-7, 5e8), tar.FormatPAX }),
		nodeMember(tar.TypeFifo, "p", 0, 0).with(func(h *tar.Header) { h.Mode = 0o622 }), fileMember("implied/f", ""))
	unix.Umask(old)
	strict.Must(t, err)
	wantText(t, dump(t, dir, treetest.MTimes), `d/ dir 0755 mtime=100
d/f file 0666 "x" mtime=-7
implied/ dir 0755 mtime=0
implied/f file 0644 "" mtime=100
p fifo 0622 mtime=100
`)
}

// Owner, mode and capabilities: none of them clears another.
func TestUnpackOwners(t *testing.T) {
	strict.NeedRoot(t)
	dir := newFolder(t)
	capability := "\x01\x00\x00\x02\x00\x04" + strings.Repeat("\x00", 14)
	ping := fileMember("ping", "ELF").with(func(h *tar.Header) {
		h.Mode, h.Uid, h.Gid = 0o6755, 33, 1000
		h.PAXRecords = map[string]string{paxXattr + "security.capability": capability, paxXattr + "user.x": "y", paxXattr + "trusted.x": "no", paxXattr + "security.selinux": "no"}
	})
	strict.Must(t, unpack(t, dir, ping, hardMember("ping2", "ping"), dirMember("d").with(func(h *tar.Header) { h.Mode, h.Gid = 0o2775, 50 }), fileMember("d/f", ""),
		linkMember("l", "x").with(func(h *tar.Header) { h.Uid = 7 }), nodeMember(tar.TypeChar, "null", 1, 3).with(func(h *tar.Header) { h.Uid = 8 }), nodeMember(tar.TypeBlock, "sda", 8, 1)))
	wantText(t, treetest.Dump(t, dir), `d/ dir 2775 0:50
d/f file 0644 0:0 ""
l symlink 7:0 x
null c 1:3 0600 8:0
ping file 6755 33:1000 <1> "ELF" security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" user.x="y"
ping2 file 6755 33:1000 <1> "ELF" security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" user.x="y"
sda b 8:1 0600 0:0
`)
}

func TestUnpackPlaceholders(t *testing.T) {
	dir := newFolder(t)
	data := makeTar(t, nodeMember(tar.TypeChar, "null", 1, 3), nodeMember(tar.TypeBlock, "sda", 8, 1), hardMember("null2", "null"))
	o := asUser()
	o.Placeholders = true
	err := Unpack(context.Background(), dir, bytes.NewReader(data), o)
	if errors.Is(err, unix.ENOTSUP) {
		strict.Lack(t, "xattr", "the temporary folder has no user attributes")
	}
	strict.Must(t, err)
	if got := dump(t, dir); strings.Contains(got, " c ") || strings.Contains(got, " b ") || !strings.Contains(got, `user.genoci.node="b 8 1"`) {
		t.Errorf("real devices:\n%s", got)
	}
	wantText(t, listing(t, mustDiff(t, dir, Merge(), DiffOptions{Start: time.Unix(200, 0)})), `./ dir 0755 0:0
null char 0600 0:0 1:3 mtime=100
null2 = null
sda block 0600 0:0 8:1 mtime=100
`)
}

// An ordinary user gets all that needs no privilege, also below folders that forbid it.
func TestUnpackOrdinary(t *testing.T) {
	dir := newFolder(t)
	o := UnpackOptions{}
	readonly := func(mode int64) func(*tar.Header) {
		return func(h *tar.Header) { h.Mode, h.Uid, h.Gid = mode, 4711, 4711 }
	}
	lower := makeTar(t, dirMember("ro").with(readonly(0o555)), dirMember("ro/none").with(readonly(0)), fileMember("ro/none/f", "1").with(readonly(0o400)),
		nodeMember(tar.TypeChar, "null", 1, 3), fileMember("cap", "x").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{paxXattr + "security.capability": "\x01\x00\x00\x02\x00\x04" + strings.Repeat("\x00", 14)}
		}), fileMember("was", ""), fileMember("attr", "").with(func(h *tar.Header) {
			h.Mode, h.PAXRecords = 0o400, map[string]string{paxXattr + "user.x": "y"}
		}))
	strict.Must(t, Unpack(context.Background(), dir, bytes.NewReader(lower), o))
	upper := makeTar(t, fileMember("ro/none/new/g", "2"), fileMember("ro/none/.wh.f", ""), nodeMember(tar.TypeChar, "was", 1, 3))
	strict.Must(t, Unpack(context.Background(), dir, bytes.NewReader(upper), o))
	for path, want := range map[string]os.FileMode{"ro": 0o555, "ro/none": 0} {
		info, err := os.Lstat(dir + "/" + path)
		strict.Must(t, err)
		if info.Mode().Perm() != want || info.ModTime().Unix() != 100 {
			t.Errorf("%s: %v %v", path, info.Mode(), info.ModTime())
		}
	}
	strict.Must(t, os.Chmod(dir+"/ro/none", 0o700))
	wantText(t, dump(t, dir), `attr file 0400 "" user.x="y"
cap file 0644 "x"
ro/ dir 0555
ro/none/ dir 0700
ro/none/new/ dir 0755
ro/none/new/g file 0644 "2"
`)
	var st unix.Stat_t
	strict.Must(t, unix.Lstat(dir+"/cap", &st))
	if int(st.Uid) != os.Geteuid() {
		t.Errorf("owned by %d", st.Uid)
	}
}

// What a folder's default ACL would give to new files is not in their entries.
func TestUnpackDefaultACL(t *testing.T) {
	dir := newFolder(t)
	acl := aclOf(aclEntry{1, 7}, aclEntry{2, 7, 99}, aclEntry{4, 5}, aclEntry{16, 7}, aclEntry{32, 5})
	withACL := dirMember("d").with(func(h *tar.Header) { h.PAXRecords = map[string]string{paxXattr + defaultACL: acl} })
	err := unpack(t, dir, withACL, fileMember("d/same-layer", ""))
	if errors.Is(err, unix.ENOTSUP) {
		strict.Lack(t, "acl", "the temporary folder has no ACLs")
	}
	strict.Must(t, err)
	strict.Must(t, unpack(t, dir, fileMember("d/f", ""), dirMember("d/sub"), fileMember("d/sub/f", ""), linkMember("d/l", "x"), nodeMember(tar.TypeFifo, "d/p", 0, 0), fileMember("d/implied/f", "")))
	for e, err := range Dir(dir).Children("d") {
		strict.Must(t, err)
		if len(e.Xattrs) > 0 {
			t.Errorf("%s inherited %q", e.Path, e.Xattrs)
		}
		if e.Type == TypeFile && e.Mode != 0o644 {
			t.Errorf("%s has the mode %04o", e.Path, e.Mode)
		}
	}
	// An entry without the ACL takes it away.
	strict.Must(t, unpack(t, dir, dirMember("d")))
	if e, _, err := Dir(dir).Lookup("d"); err != nil || len(e.Xattrs) > 0 || e.Mode != 0o755 {
		t.Errorf("%+v, %v", e, err)
	}
}

type aclEntry []uint32 // tag, permissions, and who where it matters

// aclOf writes an ACL as the kernel keeps it in an extended attribute (linux/posix_acl_xattr.h).
func aclOf(entries ...aclEntry) string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		who := uint32(1<<32 - 1)
		if len(e) == 3 {
			who = e[2]
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, who)
	}
	return string(b)
}

func TestUnpackErrors(t *testing.T) {
	whole := makeTar(t, fileMember("f", strings.Repeat("x", 2000)))
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"below a file", makeTar(t, fileMember("f", ""), fileMember("f/x", "")), "unpack f/x: open f: not a directory"},
		{"root is no folder", makeTar(t, fileMember(".", "")), "unpack .: is a directory"},
		{"whiteout below a file", makeTar(t, fileMember("f", ""), fileMember("f/.wh.x", "")), "unpack f/.wh.x: open f: not a directory"},
		{"whiteout of nothing", makeTar(t, fileMember("a/.wh.", "")), "unpack a/.wh.: whiteout without a name"},
		{"whiteout of the folder itself", makeTar(t, fileMember("a/b", ""), fileMember("a/.wh..", "")), "unpack a/.wh..: whiteout without a name"},
		{"whiteout of the folder around", makeTar(t, fileMember("a/b", ""), fileMember("a/.wh...", "")), "unpack a/.wh...: whiteout without a name"},
		{"below a whiteout", makeTar(t, fileMember(".wh.a/b", "")), "unpack .wh.a/b: below a whiteout"},
		{"hard link to nothing", makeTar(t, hardMember("h", "none")), "unpack h: link to none: no such file or directory"},
		{"hard link to a folder", makeTar(t, dirMember("d"), hardMember("h", "d")), "unpack h: link to d: is a directory"},
		{"hard link to itself", makeTar(t, hardMember("h", "h")), "unpack h: link to h: no such file or directory"},
		{"unknown type", makeTar(t, member{tar.Header{Typeflag: 'Z', Name: "z"}, ""}), "unpack z: entry of unknown type 'Z'"},
		{"cut off", whole[:1024], "unpack f: unexpected EOF"},
		{"no tar", []byte(strings.Repeat("no tar", 200)), "unpack: not a tar archive"},
	}
	for _, test := range tests {
		err := Unpack(context.Background(), newFolder(t), bytes.NewReader(test.data), asUser())
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Unpack(ctx, newFolder(t), bytes.NewReader(whole), asUser()); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := Unpack(context.Background(), t.TempDir()+"/none", bytes.NewReader(whole), asUser()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if err := Apply(context.Background(), newFolder(t), []Change{{Entry: Entry{Path: "f", Type: TypeFile, Size: 3}, Open: opening("1234")}}, asUser()); !errors.Is(err, errChanged) {
		t.Errorf("changed content: %v", err)
	}
}

// Bytes behind the end of the archive belong to the layer's digest: they are read.
func TestUnpackDrains(t *testing.T) {
	data := append(makeTar(t, fileMember("f", "x")), make([]byte, 10240)...)
	r := bytes.NewReader(data)
	strict.Must(t, Unpack(context.Background(), newFolder(t), struct{ io.Reader }{r}, asUser()))
	if r.Len() != 0 {
		t.Errorf("%d bytes were not read", r.Len())
	}
}

// What is mounted in the tree is neither replaced nor removed.
func TestUnpackMount(t *testing.T) {
	withMount(t, func(dir string) {
		for _, m := range []member{fileMember("mnt", ""), fileMember(".wh.mnt", ""), fileMember(".wh..wh..opq", "")} {
			if err := unpack(t, dir, m); !errors.Is(err, unix.EBUSY) {
				t.Errorf("%s: %v", m.Name, err)
			}
		}
		if _, err := os.Stat(dir + "/mnt/inside"); err != nil {
			t.Error(err)
		}
	})
}

// Nothing outside the folder changes, whatever the tar. Data that is no tar is taken for a script
// of one, see scriptedTar.
func FuzzUnpack(f *testing.F) {
	f.Add(makeTar(f, fileMember("../../outside/x", "x"), linkMember("l", "../outside"), fileMember("l/x", "x")))
	f.Add(makeTar(f, dirMember("d"), fileMember("d/.wh..wh..opq", ""), fileMember("d/f", "x"), hardMember("h", "d/f"), fileMember(".wh.h", "")))
	f.Add(makeTar(f, dirMember(".").with(func(h *tar.Header) { h.Mode = 0 }), nodeMember(tar.TypeFifo, "p", 0, 0), fileMember("a/b/c", ""), fileMember("a", "")))
	f.Add([]byte("\x02\x00\x07\x00\x01\x00\x09\x00\x05\x00\x09\x00\x06\x00\x08\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 512 {
			data = scriptedTar(t, data, names)
		}
		if bytes.Contains(data, []byte(paxXattr)) {
			t.Skip("extended attributes may be refused by the file system")
		}
		top := t.TempDir()
		root := top + "/root"
		strict.Must(t, mkdir(root, 0o755), mkdir(top+"/outside", 0o755), write(top+"/outside/secret", "secret"))
		before := dump(t, top+"/outside", treetest.MTimes, treetest.Root)
		defer func() { strict.Must(t, beneath.RemovePath(root)) }()
		for range 2 { // the second time on what the first has left
			_ = Unpack(context.Background(), root, bytes.NewReader(data), UnpackOptions{})
		}
		if diff := treetest.Diff(before, dump(t, top+"/outside", treetest.MTimes, treetest.Root)); diff != "" {
			t.Errorf("outside changed:\n%s", diff)
		}
		if left, _ := os.ReadDir(top); len(left) != 2 {
			t.Errorf("beside the folder: %v", left)
		}
	})
}

// names are what scriptedTar makes names and targets of in FuzzUnpack: all that could lead outside.
var names = []string{"a", "b", "a/b", "b/a", ".", "..", "../outside", "../outside/secret", "a/../../outside", "/.", "a/secret", "/proc/self/cwd", "a/b/c", "a/.", "a/..x"}

// scriptedTar makes a tar of which four bytes each of script say an entry: kind, name, target and
// metadata.
func scriptedTar(t testing.TB, script []byte, names []string) []byte {
	var members []member
	for ; len(script) >= 4; script = script[4:] {
		name, target, meta := names[int(script[1])%len(names)], names[int(script[2])%len(names)], script[3]
		dir, base := filepath.Split(name)
		var m member
		switch script[0] % 8 {
		case 0, 1:
			m = fileMember(name, strings.Repeat("x", int(meta%3)))
		case 2:
			m = dirMember(name)
		case 3:
			m = linkMember(name, target)
		case 4:
			m = hardMember(name, target)
		case 5:
			m = nodeMember(tar.TypeFifo, name, 0, 0)
		case 6:
			m = fileMember(dir+".wh."+base, "")
		case 7:
			m = fileMember(name+"/.wh..wh..opq", "")
		}
		members = append(members, m.with(func(h *tar.Header) {
			h.Mode ^= int64(meta>>2) & 0o55
			h.ModTime = time.Unix(int64(meta), 0)
		}))
	}
	return makeTar(t, members...)
}

// What Index and Merge say of foreign layers is what Unpack makes of them. Links below which
// other entries lie are left out: a view takes paths as they are written.
func TestMergeEqualsUnpack(t *testing.T) {
	names := []string{"a", "b", "a/b", "b/a", ".", "a/b/c", "a/b-", "b/a/c", "b/a/d", "c/d/e"}
	links := []string{"s", "a/s", "a/b/s"}
	strict.NeedRoot(t)
	compared := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		dir := newFolder(t)
		var tocs []*TOC
		var script strings.Builder
		for range 1 + r.IntN(3) {
			var members []byte
			for range r.IntN(12) {
				kind, name := byte(r.IntN(8)), byte(r.IntN(len(names)))
				if kind == 3 {
					name = byte(len(names) + r.IntN(len(links)))
				}
				members = append(members, kind, name, byte(r.IntN(len(names))), byte(r.IntN(256)))
			}
			// A file that stays: an empty folder would be a new root for the next layer.
			members = append(members, 0, byte(len(names)+len(links)), 0, 0)
			data := scriptedTar(t, members, slices.Concat(names, links, []string{"stays"}))
			fmt.Fprintf(&script, "%s\n", tarNames(t, data))
			toc, _, err := Index(context.Background(), bytes.NewReader(data))
			if err == nil {
				err = Unpack(context.Background(), dir, bytes.NewReader(data), asUser())
			}
			if err != nil {
				tocs = nil
				break
			}
			tocs = append(tocs, toc)
		}
		if len(tocs) == 0 {
			continue
		}
		compared++
		view, tree := Merge(tocs...), Dir(dir)
		if diff := treetest.Diff(describe(t, view), describe(t, tree)); diff != "" {
			t.Errorf("%d:\n%sthe index says, and the tree has:\n%s", seed, &script, diff)
		}
		if found := mustDiff(t, dir, view, DiffOptions{}); len(found) > 0 {
			t.Errorf("%d:\n%sdifferences:\n%s", seed, &script, listing(t, found))
		}
	}
	if compared < 25 {
		t.Errorf("only %d cases had no error", compared)
	}
}

func tarNames(t *testing.T, data []byte) string {
	var b strings.Builder
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return b.String()
		}
		strict.Must(t, err)
		fmt.Fprintf(&b, "%c %s %s %o %d; ", h.Typeflag, h.Name, h.Linkname, h.Mode, h.ModTime.Unix())
	}
}
