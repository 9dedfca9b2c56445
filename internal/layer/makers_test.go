package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"genoci/internal/treetest"
	"genoci/test/strict"

	"golang.org/x/sys/unix"
)

// unpackSo is Unpack with something done after each entry.
func unpackSo(dir string, data []byte, after func(*makers)) error {
	return extract(dir, asUser(), func(x *extractor) error {
		s := newScanner(context.Background(), bytes.NewReader(data), defaultLimits)
		for {
			h, err := s.next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				err = x.header(h, tarContent{s})
			}
			if err != nil {
				return err
			}
			after(x.makers)
		}
	})
}

// The tree is the same whenever the makers get to the files: at once, some time, or when somebody
// waits for them. Names come several times, as things of all kinds, also below symlinks.
func TestUnpackOrder(t *testing.T) {
	tame := []string{"a", "b", "a/b", "b/a", "a/b/c", "a/b-", "b/a/c", "c/d/e", "s", "s/a", "a/s", "a/s/b"}
	unpacked := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 3))
		names := [][]string{tame, names}[seed%2]
		var script []byte
		for range 2 + r.IntN(10) {
			kind := byte(r.IntN(8))
			if r.IntN(2) == 0 {
				kind = 0
			}
			script = append(script, kind, byte(r.IntN(len(names))), byte(r.IntN(len(names))), byte(r.IntN(256)))
		}
		lower, upper := scriptedTar(t, script[:len(script)/8*4], names), scriptedTar(t, script[len(script)/8*4:], names)

		var want, wantErr string
		for i, after := range []func(*makers){(*makers).wait, (*makers).flush, func(*makers) {}} {
			dir := newFolder(t)
			err := unpackSo(dir, lower, after)
			if err == nil {
				err = unpackSo(dir, upper, after)
			}
			if err != nil { // how far it came may differ
				if i == 0 {
					wantErr = err.Error()
				}
				if !strings.HasSuffix(err.Error(), wantErr) { // makers know the name
					t.Errorf("%d:\n%s%s%d: %v, want %s", seed, tarNames(t, lower), tarNames(t, upper), i, err, wantErr)
				}
				continue
			}
			unpacked++
			got := dump(t, dir, treetest.MTimes, treetest.Root)
			if i == 0 {
				want = got
			}
			if diff := treetest.Diff(want, got); diff != "" || wantErr != "" {
				t.Errorf("%d:\n%s\n%s\n%d:\n%s, want error %q", seed, tarNames(t, lower), tarNames(t, upper), i, diff, wantErr)
			}
		}
	}
	if unpacked < 200 {
		t.Errorf("only %d had no error", unpacked)
	}
}

// More folders than stay open, more content than fits into the batches, files larger than one.
func TestUnpackMany(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	text := random(3 * batchSize)
	want := make(map[string][]byte)
	var members []member
	for round := range 3 {
		for i := range 3 * maxOpenFolders {
			for j := range 1 + r.IntN(2*batchFiles/10) {
				size := r.IntN(1000)
				if r.IntN(40) == 0 {
					size = r.IntN(len(text))
				}
				name := fmt.Sprintf("%d/%d-%d", i, round, j)
				want[name] = text[r.IntN(len(text)-size):][:size]
				members = append(members, fileMember(name, string(want[name])))
			}
		}
	}
	dir := newFolder(t)
	strict.Must(t, unpack(t, dir, members...))
	for name, text := range want {
		if got, err := os.ReadFile(dir + "/" + name); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(text))
		}
	}
}

// The error is that of the first entry that could not be put, and nothing stays open or runs on
// behind it.
func TestUnpackFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := func(name string) member {
			return fileMember(name, "x").with(func(h *tar.Header) { h.PAXRecords = map[string]string{paxXattr + accessACL: "no ACL"} })
		}
		var before, behind []member
		for i := range 3 * batchFiles {
			before = append(before, fileMember(fmt.Sprintf("d/%d", i), "x"))
			behind = append(behind, fileMember(fmt.Sprintf("%d/x", i), "x"))
		}
		bad := []member{refused("d/first"), refused("d/second"), {tar.Header{Typeflag: 'Z', Name: "z"}, ""}}
		descriptors := func() int {
			names, err := os.ReadDir("/proc/self/fd")
			strict.Must(t, err)
			return len(names)
		}
		had := descriptors()
		for name, members := range map[string][]member{
			"together": slices.Concat(before, bad, behind),
			"apart":    slices.Concat(before, bad[:1], behind, bad[1:]),
			"alone":    bad,
			"at last":  slices.Concat(before, behind, bad[:1]),
		} {
			err := unpack(t, newFolder(t), members...)
			if want := "unpack d/first: setxattr " + accessACL; err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		}
		strict.Must(t, unpack(t, newFolder(t), slices.Concat(before, behind)...))
		if n := descriptors(); n != had {
			t.Errorf("%d descriptors, %d before", n, had)
		}
	})
}

// Zeros in large files take neither time nor room, and are read as they were.
func TestUnpackZeros(t *testing.T) {
	zeros := strings.Repeat("\x00", 8<<20)
	for name, text := range map[string]string{
		"all": zeros, "begin": zeros + "x", "end": "x" + zeros, "middle": "x" + zeros + "x" + zeros[:5000] + "x",
	} {
		dir := newFolder(t)
		strict.Must(t, unpack(t, dir, fileMember("f", text)))
		if got, err := os.ReadFile(dir + "/f"); err != nil || string(got) != text {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(text))
		}
		var st unix.Stat_t
		strict.Must(t, unix.Stat(dir+"/f", &st))
		if st.Blocks*512 > 1<<20 {
			t.Errorf("%s: takes %d bytes", name, st.Blocks*512)
		}
	}
}

// Files belong to whom their entries say also where a folder hands down its group.
func TestUnpackSetgid(t *testing.T) {
	strict.NeedRoot(t)
	owned := func(m member, mode int64, gid int) member {
		return m.with(func(h *tar.Header) { h.Mode, h.Gid = mode, gid })
	}
	dir := newFolder(t)
	strict.Must(t, unpack(t, dir, owned(dirMember("d"), 0o2755, 50)))
	strict.Must(t, unpack(t, dir, owned(fileMember("d/root", ""), 0o644, 0), owned(fileMember("d/group", ""), 0o644, 50), owned(linkMember("d/link", "x"), 0o777, 0),
		owned(dirMember("d/new"), 0o755, 0), owned(fileMember("d/new/root", ""), 0o644, 0), owned(fileMember("d/new/group", ""), 0o640, 50),
		fileMember("d/implied/root", ""), owned(dirMember("d/new/setgid"), 0o2755, 7), owned(fileMember("d/new/setgid/root", ""), 0o600, 0)))
	wantText(t, treetest.Dump(t, dir), `d/ dir 2755 0:50
d/group file 0644 0:50 ""
d/implied/ dir 0755 0:0
d/implied/root file 0644 0:0 ""
d/link symlink x
d/new/ dir 0755 0:0
d/new/group file 0640 0:50 ""
d/new/root file 0644 0:0 ""
d/new/setgid/ dir 2755 0:7
d/new/setgid/root file 0600 0:0 ""
d/root file 0644 0:0 ""
`)
}
