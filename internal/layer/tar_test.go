package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// member is an entry of a tar that a test writes. Fields that are not set get what most entries
// have.
type member struct {
	tar.Header
	body string
}

// fileMember, dirMember, linkMember, hardMember and nodeMember make members.
func fileMember(name, body string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}
func dirMember(name string) member {
	return member{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}, ""}
}
func linkMember(name, to string) member {
	return member{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, ""}
}
func hardMember(name, to string) member {
	return member{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}, ""}
}
func nodeMember(flag byte, name string, major, minor int64) member {
	return member{tar.Header{Typeflag: flag, Name: name, Devmajor: major, Devminor: minor, Mode: 0o600}, ""}
}

// with changes the header of a member.
func (m member) with(change func(*tar.Header)) member {
	change(&m.Header)
	return m
}

// makeTar writes members as a tar.
func makeTar(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		m.Size = int64(len(m.body))
		if m.ModTime.IsZero() && m.Typeflag != tar.TypeXGlobalHeader {
			m.ModTime = time.Unix(100, 0)
		}
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// describeEntry writes an entry as one line: path, type and mode, then what is not as makeTar has
// it.
func describeEntry(e Entry) string {
	b := new(strings.Builder)
	fmt.Fprintf(b, "%s %s", e.Path, map[Type]string{
		TypeFile: "file", TypeSymlink: "symlink", TypeChar: "char", TypeBlock: "block",
		TypeDir: "dir", TypeFIFO: "fifo", TypeWhiteout: "whiteout",
	}[e.Type])
	if e.Type != TypeWhiteout && !isLowerLink(e) {
		fmt.Fprintf(b, " %#o", e.Mode)
	}
	if e.UID != 0 || e.GID != 0 {
		fmt.Fprintf(b, " %d:%d", e.UID, e.GID)
	}
	if e.Type == TypeFile && e.Link == "" {
		fmt.Fprintf(b, " %d %x", e.Size, e.Digest[:2])
	}
	if e.Type == TypeChar || e.Type == TypeBlock {
		fmt.Fprintf(b, " %d,%d", e.Major, e.Minor)
	}
	if e.MTime != 100 && e.Type != TypeWhiteout && !isLowerLink(e) && !e.Implied {
		fmt.Fprintf(b, " @%d", e.MTime)
	}
	if e.Link != "" {
		fmt.Fprintf(b, " -> %s", e.Link)
	}
	if e.Group != "" {
		fmt.Fprintf(b, " group %s", e.Group)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		fmt.Fprintf(b, " %s=%q", name, e.Xattrs[name])
	}
	if e.Opaque {
		b.WriteString(" opaque")
	}
	if e.Implied {
		b.WriteString(" implied")
	}
	return b.String()
}

// describeTOC lists the entries of a TOC.
func describeTOC(t *TOC) string {
	b := new(strings.Builder)
	for e := range t.All() {
		b.WriteString(describeEntry(e) + "\n")
	}
	return b.String()
}

// describeView lists all that is in a view, as its Children give it. Each entry has to be what
// Lookup gives, too.
func describeView(t testing.TB, v View) string {
	t.Helper()
	b := new(strings.Builder)
	var walk func(e Entry)
	walk = func(e Entry) {
		b.WriteString(describeEntry(e) + "\n")
		for child, err := range v.Children(e.Path) {
			if err != nil {
				t.Fatal(err)
			}
			if looked, ok, err := v.Lookup(child.Path); err != nil || !ok || describeEntry(looked) != describeEntry(child) {
				t.Fatalf("Lookup gives %q, %v, %v where Children gives %q", describeEntry(looked), ok, err, describeEntry(child))
			}
			walk(child)
		}
	}
	root, ok, err := v.Lookup(".")
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		walk(root)
	}
	return b.String()
}

// joinLines joins lines, for comparing with what the describe functions give.
func joinLines(lines ...string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// sizeAndSum is how describeEntry shows the digest of content.
func sizeAndSum(content string) string {
	s := sha256.Sum256([]byte(content))
	return fmt.Sprintf("%d %x", len(content), s[:2])
}
