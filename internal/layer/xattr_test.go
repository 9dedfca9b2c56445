package layer

import (
	"bytes"
	"maps"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

func TestKeepXattr(t *testing.T) {
	for name, want := range map[string]bool{
		"security.capability":                 true,
		"system.posix_acl_access":             true,
		"system.posix_acl_default":            true,
		"user.mime_type":                      true,
		"user.overlayed":                      true,
		"user.overlay.opaque":                 false,
		"user.overlay.overlay.opaque":         false,
		"user.genoci.node":                    false,
		"user.":                               false,
		"user.with=sign":                      true,
		"users.x":                             false,
		"trusted.overlay.opaque":              false,
		"trusted.x":                           false,
		"security.selinux":                    false,
		"security.ima":                        false,
		"security.evm":                        false,
		"system.nfs4_acl":                     false,
		"system.posix_acl_access.but_another": false,
		"":                                    false,
	} {
		if got := KeepXattr(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// Names of attributes survive a layer, whatever signs they have; codes are in PAX records only
// where they must be.
func TestXattrRecords(t *testing.T) {
	records := map[string]string{
		"user.plain": "user.plain", "user.a=b": "user.a%3Db", "user.50%": "user.50%", "user.5%=x": "user.5%25%3Dx", "user.a%3Db": "user.a%253Db",
		"user.a%25b": "user.a%2525b", "user.%3d": "user.%3d", "user.=": "user.%3D", "user.==%": "user.%3D%3D%25",
	}
	f := file("f", "content")
	f.Xattrs = map[string]string{}
	for name, record := range records {
		f.Xattrs[name] = "of " + name
		if got := xattrRecord(name); got != paxXattr+record {
			t.Errorf("xattrRecord(%q) = %q, want %q", name, got, paxXattr+record)
		}
	}
	data, packed := mustPack(t, []Change{f})
	indexed, _, err := Index(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for what, toc := range map[string]*TOC{"Pack": packed, "Index": indexed} {
		if e, _, ok := toc.Lookup("f"); !ok || !maps.Equal(e.Xattrs, f.Xattrs) {
			t.Errorf("%s: %v, %v", what, e.Xattrs, ok)
		}
	}
}

func TestXattrsAt(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/file"
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"user.empty":  "",
		"user.binary": "\x00\xff\n",
		"user.large":  strings.Repeat("x", 1000), // more than fits the first buffer
	}
	for name := range 20 { // as does the list of names
		want["user."+strings.Repeat("n", 20+name)] = "x"
	}
	all := maps.Clone(want)
	all["user.overlay.opaque"] = "y"
	all["user.genoci.node"] = "c 1 3"
	for name, value := range all {
		err := unix.Setxattr(path, name, []byte(value), 0)
		if err == unix.ENOTSUP {
			strict.Lack(t, "xattr", "the temporary folder has no user attributes")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	got, node, _, err := xattrsAt(fd, "file")
	if err != nil || !maps.Equal(got, want) || node != "c 1 3" {
		t.Errorf("%q, %q, %v", got, node, err)
	}
	e, err := lookupAt(fd, "file", "file")
	if err != nil || e.Type != TypeChar || e.Major != 1 || e.Minor != 3 || e.Mode != 0o644 {
		t.Errorf("placeholder is %+v, %v", e, err)
	}
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if e, err = lookupAt(fd, "file", "file"); err != nil || e.Type != TypeFile {
		t.Errorf("a file with content is %+v, %v", e, err)
	}
	if got, _, _, err := xattrsAt(fd, "."); got != nil || err != nil {
		t.Errorf("of the folder: %q, %v", got, err)
	}
}

func TestNode(t *testing.T) {
	for _, e := range []Entry{{Type: TypeChar, Major: 1, Minor: 3}, {Type: TypeBlock, Major: 4095, Minor: 1048575}} {
		typ, major, minor, ok := parseNode(formatNode(e))
		if !ok || typ != e.Type || major != e.Major || minor != e.Minor {
			t.Errorf("%+v comes back as %c %d %d %v", e, typ, major, minor, ok)
		}
	}
	for _, s := range []string{"", "c", "c 1", "c 1 3 0666", "p 1 3", "c 4096 0", "c 1 1048576", "c -1 3", "c  1 3", "c 1 x"} {
		if typ, major, minor, ok := parseNode(s); ok {
			t.Errorf("%q is %c %d %d", s, typ, major, minor)
		}
	}
}
