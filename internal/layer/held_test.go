package layer

import (
	"bytes"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// acl makes the text of a POSIX ACL of triples of tag, permissions and id.
func acl(n ...int) string {
	var entries []aclEntry
	for i := 0; i < len(n); i += 3 {
		entries = append(entries, aclEntry{uint32(n[i]), uint32(n[i+1]), uint32(n[i+2])})
	}
	return aclOf(entries...)
}

// What is composed is what it would be if it had gone through a tree; or both are an error.
func TestHeld(t *testing.T) {
	const v2, v3 = "\x01\x00\x00\x02" + "\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x01\x00\x00\x03" + "\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	file := func(mode uint32, mtime int64, xattrs ...string) Entry {
		e := Entry{Path: "x", Type: TypeFile, Mode: mode, MTime: mtime}
		for i := 0; i < len(xattrs); i += 2 {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[xattrs[i]] = xattrs[i+1]
		}
		return e
	}
	as := func(typ Type, e Entry) Entry {
		e.Type = typ
		if typ == TypeSymlink {
			e.Link = "y"
		}
		return e
	}
	long := file(0o644, 1)
	long.Path = strings.Repeat("d/", maxHeldPath/2) + "xx"
	full := acl(aclUserObj, 7, -1, aclUser, 4, 33, aclGroupObj, 5, -1, aclMask, 7, -1, aclOther, 1, -1)
	for name, c := range map[string]struct {
		entry Entry
		err   string
	}{
		"before all times":            {file(0o644, -99999999999999), ""},
		"beyond nanoseconds":          {file(0o644, 9223372037), ""},
		"behind all times":            {file(0o644, 99999999999999), ""},
		"the last time":               {file(0o644, maxMTime), ""},
		"the first time":              {file(0o644, minMTime), ""},
		"1969":                        {file(0o644, -1), ""},
		"folder, before all times":    {as(TypeDir, file(0o755, -1<<62)), ""},
		"symlink, behind all times":   {as(TypeSymlink, file(0o777, 1<<62)), ""},
		"set-user-id on a symlink":    {as(TypeSymlink, file(0o4755, 1)), ""},
		"path for no folder":          {long, "the path has 3842 bytes"},
		"whiteout device":             {as(TypeChar, file(0o644, 1)), "the device 0:0"},
		"attribute of a symlink":      {as(TypeSymlink, file(0o777, 1, "user.a", "b")), ""},
		"attribute of a fifo":         {as(TypeFIFO, file(0o644, 1, "user.a", "b")), ""},
		"attribute of a folder":       {as(TypeDir, file(0o1755, 1, "user.a", "b")), ""},
		"garbage as an ACL":           {file(0o644, 1, accessACL, "garbage"), "invalid access control list"},
		"ACL in the wrong order":      {file(0o644, 1, accessACL, acl(aclOther, 1, -1, aclUserObj, 7, -1, aclGroupObj, 5, -1)), "invalid access control list"},
		"ACL without a mask":          {file(0o644, 1, accessACL, acl(aclUserObj, 7, -1, aclUser, 4, 33, aclGroupObj, 5, -1, aclOther, 1, -1)), "invalid access control list"},
		"ACL of nobody":               {file(0o644, 1, accessACL, acl(aclUserObj, 7, -1, aclUser, 4, -1, aclGroupObj, 5, -1, aclMask, 7, -1, aclOther, 1, -1)), "invalid access control list"},
		"ACL that is the mode":        {file(0o640, 1, accessACL, acl(aclUserObj, 7, -1, aclGroupObj, 5, -1, aclOther, 1, -1)), ""},
		"empty ACL":                   {file(0o640, 1, accessACL, acl()), ""},
		"ACL against the mode":        {file(0o640, 1, accessACL, full), ""},
		"ACL with ids of owners":      {file(0o640, 1, accessACL, acl(aclUserObj, 7, 5, aclGroupObj, 5, 5, aclGroup, 1, 7, aclMask, 7, 5, aclOther, 1, 5)), ""},
		"ACL of a symlink":            {as(TypeSymlink, file(0o777, 1, accessACL, full)), ""},
		"ACL of a folder":             {as(TypeDir, file(0o2750, 1, accessACL, full, defaultACL, full)), ""},
		"default ACL of a file":       {file(0o644, 1, defaultACL, full), ""},
		"short default ACL":           {as(TypeDir, file(0o755, 1, defaultACL, acl(aclUserObj, 7, -1, aclGroupObj, 5, -1, aclOther, 1, -1))), ""},
		"capabilities":                {file(0o755, 1, capabilityXattr, v2), ""},
		"capabilities of user 0":      {file(0o755, 1, capabilityXattr, v3+"\x00\x00\x00\x00"), ""},
		"garbage as capabilities":     {file(0o755, 1, capabilityXattr, "garbage"), "invalid file capabilities"},
		"capabilities of revision 1":  {file(0o755, 1, capabilityXattr, "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"), "invalid file capabilities"},
		"attribute that fits nowhere": {file(0o644, 1, "user.a", strings.Repeat("x", 60000)), "filesystems such as ext4 hold"},
		"attributes that do not fit":  {file(0o644, 1, "user.a", strings.Repeat("x", 2000), "user.b", strings.Repeat("x", 2100)), "filesystems such as ext4 hold"},
		"attribute that just fits":    {file(0o644, 1, "user.a", strings.Repeat("x", maxXattrs-xattrSize-4)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			composer := NewComposer(Merge(), 0)
			err := composer.Put(Change{Entry: c.entry})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if isHeld(&c.entry) && holdable(&c.entry) == nil {
					t.Error("and yet it would be a sound layer")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			changes, err := composer.Changes()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			options := UnpackOptions{KeepOwner: unix.Geteuid() == 0, Placeholders: unix.Geteuid() != 0}
			if !options.KeepOwner && c.entry.Xattrs[capabilityXattr] != "" {
				return // which only root may set
			}
			if err := Apply(t.Context(), dir, changes, options); err != nil {
				t.Fatal(err)
			}
			executed, err := Diff(t.Context(), dir, Merge(), DiffOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range executed {
				executed[i].UID, executed[i].GID, executed[i].Open = 0, 0, nil
			}
			if d := cmp.Diff(changes, executed); d != "" {
				t.Errorf("-composed +executed:\n%s", d)
			}
			want := c.entry
			if got := changes[len(changes)-1]; isHeld(&want) != (want.MTime == got.MTime && maps.Equal(want.Xattrs, got.Xattrs)) {
				t.Errorf("%+v became %+v", want, got)
			}
		})
	}
}

// A file has no more names than a file system can give it, whether or not the archive is the layer.
func TestManyNames(t *testing.T) {
	c := NewComposer(Merge(), 0)
	if err := c.Put(Change{Entry: Entry{Path: "f", Type: TypeFile}}); err != nil {
		t.Fatal(err)
	}
	members := []member{fileMember("f", "")}
	for i := range maxNames {
		name := "l" + strings.Repeat("x", i%100) + "-" + string(rune('a'+i%26)) + strings.Repeat("y", i/26%100) + "-" + strings.Repeat("z", i/2600)
		members = append(members, hardMember(name, "f"))
		err := c.Link(name, "f", nil)
		if last := i == maxNames-1; (err != nil) != last {
			t.Fatalf("name %d: %v", i+2, err)
		}
	}
	for n, want := range map[int]bool{maxNames: true, maxNames + 1: false} {
		_, _, err := Sound(t.Context(), io.Reader(bytes.NewReader(makeTar(t, members[:n]...))), nil)
		if (err == nil) != want {
			t.Errorf("%d names: %v", n, err)
		}
	}
}
