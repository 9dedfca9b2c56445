package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rawHead is a header, byte by byte as a test wants it. Fields that are not set are those of a file
// of ustar format.
type rawHead struct {
	name, link, prefix, magic string
	flag                      byte
	mode, size                int64
	content                   string // with zeros behind it up to a whole block
}

func (b rawHead) bytes() string {
	var h [tarBlock]byte
	copy(h[:100], b.name)
	if b.mode == 0 {
		b.mode = 0o755
	}
	if b.size == 0 {
		b.size = int64(len(b.content))
	}
	putOctal(h[100:107], b.mode)
	putOctal(h[108:115], 0)
	putOctal(h[116:123], 0)
	putOctal(h[124:135], b.size)
	putOctal(h[136:147], 1e9)
	h[156] = b.flag
	copy(h[157:257], b.link)
	if b.magic == "" {
		b.magic = "ustar\x0000"
	}
	copy(h[257:], b.magic)
	if b.flag == tar.TypeChar {
		putOctal(h[329:336], 1)
		putOctal(h[337:344], 3)
	}
	copy(h[345:], b.prefix)
	putSum(&h)
	return string(h[:]) + b.content + strings.Repeat("\x00", padding(int64(len(b.content))))
}

func headerFile(name string) string {
	return rawHead{name: name, flag: tar.TypeReg, content: "hello\n"}.bytes()
}

// paxHeader is a header with records, in pairs of key and value, as they are.
func paxHeader(flag byte, records ...string) string {
	var b strings.Builder
	for i := 0; i < len(records); i += 2 {
		rest := " " + records[i] + "=" + records[i+1] + "\n"
		n := len(rest)
		for n != len(rest)+len(fmt.Sprint(n)) {
			n = len(rest) + len(fmt.Sprint(n))
		}
		fmt.Fprint(&b, n, rest)
	}
	return rawHead{name: "records", flag: flag, content: b.String()}.bytes()
}

func longHeader(flag byte, name string) string {
	return rawHead{name: "././@LongLink", flag: flag, magic: gnuMagic, content: name + "\x00"}.bytes()
}

// What two tools could read in different ways is not taken as it is. It is read as GNU tar reads
// it, or it is an error.
func TestHeads(t *testing.T) {
	x, g := byte(tar.TypeXHeader), byte(tar.TypeXGlobalHeader)
	file := headerFile
	symlink := rawHead{name: "s", flag: tar.TypeSymlink, link: "h"}.bytes()
	const end = tarBlock * 2
	for _, c := range []struct {
		name    string
		tar     string
		unsound string // "" is sound
		err     string // of ReadArchive; "" is read as GNU tar reads it
	}{
		{name: "plain", tar: file("a")},
		{name: "long name", tar: longHeader('L', "long") + file("h")},
		{name: "long link", tar: longHeader('K', "long") + symlink},
		{name: "records", tar: paxHeader(x, "path", "long", "mtime", "1000000000", "uid", "0", "comment", "c", "SCHILY.ino", "5") + file("h")},
		{name: "prefix", tar: rawHead{name: "pre", flag: tar.TypeDir}.bytes() + rawHead{name: "a", prefix: "pre", flag: tar.TypeReg}.bytes()},
		{name: "v7", tar: rawHead{name: "d/", magic: "\x00"}.bytes() + rawHead{name: "d/a", magic: "\x00", content: "x"}.bytes()},
		{name: "not UTF-8", tar: file("caf\xe9")},
		{name: "not UTF-8, said so", tar: paxHeader(x, "hdrcharset", "BINARY", "path", "\xff") + file("h")},
		{name: "mode with the type", tar: rawHead{name: "a", flag: tar.TypeReg, mode: 0o100644}.bytes()},
		{name: "padding that is not zero", tar: rawHead{name: "a", flag: tar.TypeReg, size: 3, content: "abc" + strings.Repeat("Z", 509)}.bytes()},

		{name: "mode of another type", tar: rawHead{name: "a", flag: tar.TypeReg, mode: 0o040755}.bytes(), unsound: "its mode says another type"},
		{name: "long name, then path", tar: longHeader('L', "long") + paxHeader(x, "path", "pax") + file("h"), unsound: "a name of GNU tar and one of POSIX"},
		{name: "path, then long name", tar: paxHeader(x, "path", "pax") + longHeader('L', "long") + file("h"), unsound: "a name of GNU tar and one of POSIX"},
		{name: "long link and linkpath", tar: longHeader('K', "long") + paxHeader(x, "linkpath", "pax") + symlink, unsound: "a name of GNU tar and one of POSIX"},
		{name: "long name, records", tar: longHeader('L', "long") + paxHeader(x, "mtime", "1000000000") + file("h")},
		{name: "two long names", tar: longHeader('L', "one") + longHeader('L', "two") + file("h"), unsound: "several headers of one kind"},
		{name: "two headers with records", tar: paxHeader(x, "path", "one") + paxHeader(x, "gid", "6") + file("h"), unsound: "several headers of one kind"},
		{name: "two records of a key", tar: paxHeader(x, "path", "one", "path", "two") + file("h"), unsound: "a PAX record twice"},
		{name: "no path", tar: paxHeader(x, "path", "") + file("h"), unsound: "path is empty", err: "h: its PAX record path is empty"},
		{name: "no linkpath", tar: paxHeader(x, "linkpath", "") + symlink, unsound: "linkpath is empty", err: "s: its PAX record linkpath is empty"},
		{name: "no linkpath for a file", tar: paxHeader(x, "linkpath", "") + file("h"), unsound: "linkpath is empty"},
		{name: "path taken back", tar: paxHeader(x, "path", "one", "path", "") + file("h"), unsound: "path is empty", err: "h: its PAX record path is empty"},
		{name: "empty attribute", tar: paxHeader(x, "SCHILY.xattr.user.a", "") + file("h"), unsound: "SCHILY.xattr.user.a is empty"},
		{name: "empty long name", tar: longHeader('L', "") + file("h"), unsound: "its long name is empty", err: "h: its long name is empty"},
		{name: "size in records", tar: paxHeader(x, "size", "1024") + rawHead{name: "h", flag: tar.TypeReg}.bytes() + strings.Repeat("x", 1024) + file("next"), unsound: "different sizes"},
		{name: "size taken away", tar: paxHeader(x, "size", "0") + rawHead{name: "h", flag: tar.TypeReg, size: 512}.bytes() + file("next"), unsound: "different sizes"},
		{name: "comment for all", tar: paxHeader(g, "comment", "0123") + file("a"), unsound: "a global header"},
		{name: "owners for all", tar: paxHeader(g, "uid", "33") + file("a") + paxHeader(g, "gid", "34") + file("b"), unsound: "a global header"},
		{name: "attribute for all", tar: paxHeader(g, "SCHILY.xattr.user.a", "b") + file("a"), unsound: "a global header"},
		{name: "path for all", tar: paxHeader(g, "path", "glob") + file("a") + file("b"), unsound: "gives all entries one path", err: "gives all entries one path"},
		{name: "linkpath for all", tar: paxHeader(g, "linkpath", "glob") + symlink, unsound: "gives all entries one linkpath", err: "gives all entries one linkpath"},
		{name: "size for all", tar: paxHeader(g, "size", "0") + file("a"), unsound: "gives all entries one size", err: "gives all entries one size"},
		{name: "global header within", tar: paxHeader(x, "path", "one") + paxHeader(g, "gid", "34") + file("h"), unsound: "between an entry and its own header", err: "between an entry and its own header"},
		{name: "name of nothing", tar: file("a") + longHeader('L', "zz"), unsound: "without the entry"},
		{name: "records of nothing", tar: file("a") + paxHeader(x, "path", "zz"), unsound: "without the entry"},
		{name: "file with a slash", tar: rawHead{name: "d/", flag: tar.TypeReg}.bytes() + file("d/x"), unsound: "the name of a file ends in /"},
		{name: "path with a slash", tar: paxHeader(x, "path", "d/") + rawHead{name: "h", flag: tar.TypeReg}.bytes() + file("d/x"), unsound: "the name of a file ends in /"},
		{name: "content with a slash", tar: file("d/"), unsound: "ends in / like that of a folder", err: "d/: its name ends in / like that of a folder, but it has content"},
		{name: "content with a slash in v7", tar: rawHead{name: "d/", magic: "\x00", content: "x"}.bytes(), unsound: "ends in / like that of a folder", err: "ends in / like that of a folder"},
		{name: "symlink with a slash", tar: rawHead{name: "s/", flag: tar.TypeSymlink, link: "h"}.bytes(), unsound: "it is not a folder"},
		{name: "symlink with a size", tar: rawHead{name: "s", flag: tar.TypeSymlink, link: "h", size: 512}.bytes() + file("a"), unsound: "it has no content, but a size"},
		{name: "contiguous file", tar: rawHead{name: "a", flag: tar.TypeCont, content: "x"}.bytes(), unsound: `is of the type '7'`},
		{name: "folder of a dump", tar: rawHead{name: "d", flag: gnuDumpDir, content: "Yfile\x00\x00"}.bytes() + file("d/file"), unsound: "has no content, but a size"},
		{name: "part of a volume", tar: rawHead{name: "a", flag: 'M'}.bytes(), unsound: "unknown type 'M'", err: "unknown type 'M'"},
		{name: "records of Sun", tar: paxHeader('X', "path", "sun") + file("h"), unsound: "unknown type 'X'", err: "unknown type 'X'"},
		{name: "prefix of GNU tar", tar: rawHead{name: "a", prefix: "pre", magic: gnuMagic, flag: tar.TypeReg}.bytes(), unsound: "its name has a prefix", err: "pre/a: its name has a prefix, but headers of GNU tar have none"},
		{name: "coded attribute", tar: paxHeader(x, "SCHILY.xattr.user.c%25d", "v") + file("h"), unsound: "user.c%25d, in which some tools take % for the start of a code"},
		{name: "flags of BSD", tar: paxHeader(x, "SCHILY.fflags", "immutable") + file("h"), unsound: "SCHILY.fflags, which tools for images do not read"},
		{name: "device in records", tar: paxHeader(x, "SCHILY.devmajor", "5") + rawHead{name: "c", flag: tar.TypeChar}.bytes(), unsound: "SCHILY.devmajor"},
		{name: "character set", tar: paxHeader(x, "hdrcharset", "ISO-8859-1") + file("h"), unsound: "the character set ISO-8859-1"},
		{name: "unknown sparse", tar: paxHeader(x, "GNU.sparse.major", "2", "GNU.sparse.minor", "0", "GNU.sparse.name", "sp", "GNU.sparse.realsize", "1024") + file("h"), unsound: "unknown format", err: "sparse file of an unknown format"},
		{name: "sparse without a map", tar: paxHeader(x, "GNU.sparse.name", "sp") + file("h"), unsound: "unknown format", err: "sparse file of an unknown format"},
		{name: "another archive", tar: file("a") + strings.Repeat("\x00", end) + file("b"), unsound: "another archive begins at byte 2048", err: "another archive begins at byte 2048, after the end of the first one"},
		{name: "another archive behind padding", tar: file("a") + strings.Repeat("\x00", 10240-1024) + file("b"), unsound: "another archive begins at byte 10240", err: "another archive begins at byte 10240, after the end of the first one"},
		{name: "another archive behind junk", tar: file("a") + strings.Repeat("\x00", end) + strings.Repeat("j", 512) + file("b"), unsound: "another archive begins at byte 2560", err: "another archive begins at byte 2560"},
		{name: "junk", tar: file("a") + strings.Repeat("\x00", end+3) + "junk", unsound: "something stands at byte 2051, behind its end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := []byte(c.tar + strings.Repeat("\x00", end))
			_, _, err := Sound(t.Context(), bytes.NewReader(data), nil)
			if (err == nil) != (c.unsound == "") || err != nil && !strings.Contains(err.Error(), c.unsound) {
				t.Errorf("Sound: %v, want %q", err, c.unsound)
			}
			if err != nil && c.err == "" && !errors.Is(err, ErrUnsound) {
				t.Errorf("Sound: %v is not ErrUnsound", err)
			}
			a, err := readArchive(t, data)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("ReadArchive: %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range a.Entries {
				if e.Type == TypeChar { // not everybody may make one
					continue
				}
				got = append(got, said(e.Path, e.Type == TypeDir, e.Type == TypeFile, e.Size, e.Link))
			}
			slices.Sort(got)
			if want := readByTar(t, data); !slices.Equal(got, want) {
				t.Errorf("read as\n%q, by GNU tar as\n%q", got, want)
			}
		})
	}
}

// said is what TestHeads compares of an entry.
func said(path string, isDir, isFile bool, size int64, link string) string {
	switch {
	case isDir:
		return path + "/"
	case isFile:
		return fmt.Sprint(path, " ", size)
	default:
		return path + " -> " + link
	}
}

// readByTar unpacks an archive with GNU tar.
func readByTar(t *testing.T, data []byte) (names []string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("tar", "-x", "--no-same-owner", "-C", dir)
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "Cannot mknod") {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || d.Type()&fs.ModeDevice != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link, _ := os.Readlink(path)
		rel, err := filepath.Rel(dir, path)
		names = append(names, said(rel, d.IsDir(), info.Mode().IsRegular(), info.Size(), link))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}
