package layout

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func TestVerified(t *testing.T) {
	const text = "some content"
	desc := func(d digest.Digest, size int64) v1.Descriptor { return v1.Descriptor{Digest: d, Size: size} }
	sha256, sha512 := digest.FromString(text), digest.SHA512.FromString(text)
	broken := errors.New("broken disk")
	for _, test := range []struct {
		name string
		r    io.Reader
		desc v1.Descriptor
		want string // the error; "": none
	}{
		{"good", strings.NewReader(text), desc(sha256, 12), ""},
		{"good sha512", strings.NewReader(text), desc(sha512, 12), ""},
		{"byte by byte", iotest.OneByteReader(strings.NewReader(text)), desc(sha256, 12), ""},
		{"EOF with the data", iotest.DataErrReader(strings.NewReader(text)), desc(sha256, 12), ""},
		{"other content", strings.NewReader("same content"), desc(sha256, 12), "blob " + sha256.String() + ": content has the digest " + digest.FromString("same content").String()},
		{"short", strings.NewReader(text[:5]), desc(sha256, 12), "blob " + sha256.String() + ": 7 of its 12 bytes are missing"},
		{"long", strings.NewReader(text + "!"), desc(sha256, 12), "blob " + sha256.String() + ": longer than 12 bytes, its size in the manifest"},
		{"long, byte by byte", iotest.OneByteReader(strings.NewReader(text + "!")), desc(sha256, 12), "blob " + sha256.String() + ": longer than 12 bytes, its size in the manifest"},
		{"read error", io.MultiReader(strings.NewReader(text[:5]), iotest.ErrReader(broken)), desc(sha256, 12), "broken disk"},
		{"no digest", strings.NewReader(text), desc("", 12), `blob "": invalid checksum digest format`},
		{"unknown algorithm", strings.NewReader(text), desc("crc32:00", 12), `blob "crc32:00": unsupported digest algorithm`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Verified(test.r, test.desc)
			got, err := io.ReadAll(r)
			if test.want == "" && (err != nil || string(got) != text) {
				t.Errorf("%q, %v", got, err)
			}
			if test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if int64(len(got)) > test.desc.Size {
				t.Errorf("%q is more than %d bytes", got, test.desc.Size)
			}
			if n, again := r.Read(make([]byte, 1)); n != 0 || again == nil {
				t.Errorf("read after the end: %d, %v", n, again)
			}
		})
	}
}

func TestBlobWriter(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // more than the buffer
	w, err := l.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	for part := content; len(part) > 0; part = part[min(len(part), 33_333):] {
		if _, err := w.Write(part[:min(len(part), 33_333)]); err != nil {
			t.Fatal(err)
		}
	}
	desc, err := w.Commit("type")
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Descriptor{MediaType: "type", Digest: digest.FromBytes(content), Size: int64(len(content))}
	if desc.Digest != want.Digest || desc.Size != want.Size || desc.MediaType != want.MediaType {
		t.Errorf("%v, want %v", desc, want)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Errorf("Close after Commit: %v", err)
	}
	if _, err := w.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Commit: error %v", err)
	}
	if _, err := w.Commit(""); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit after Commit: error %v", err)
	}
	f, err := l.Blob(desc.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(Verified(f, desc)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	noTemps(t, l)
}

// temps returns the temporary files that are in the layout.
func temps(l *Layout) []string {
	var all []string
	for _, pattern := range []string{".genoci-*", "blobs/.genoci-*", "blobs/sha256/.*"} {
		found, err := filepath.Glob(l.path(pattern))
		if err != nil {
			panic(err)
		}
		all = append(all, found...)
	}
	return all
}

func noTemps(t *testing.T, l *Layout) {
	t.Helper()
	if left := temps(l); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestBlobIsThereAlready(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	path := blobOf(l, []byte("blob"))
	inode := func() uint64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	put := func() {
		t.Helper()
		if _, err := writeBlob(l, "", []byte("blob")); err != nil {
			t.Fatal(err)
		}
		noTemps(t, l)
	}
	put()
	first := inode()
	put()
	if inode() != first {
		t.Error("a blob that was there was replaced")
	}
	if err := os.Truncate(path, 0); err != nil { // as after a power cut, by a tool that does not sync
		t.Fatal(err)
	}
	put()
	if got, err := os.ReadFile(path); err != nil || string(got) != "blob" {
		t.Errorf("a truncated blob was not mended: %q, %v", got, err)
	}
}

func TestDroppedBlobLeavesNothing(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	w, err := l.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("dropped")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	noTemps(t, l)
	for desc := range l.Blobs() {
		t.Errorf("blob %v", desc)
	}
}

func TestBlobErrors(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	absent := digest.FromString("absent")
	if _, err := l.Blob(absent); !errors.Is(err, ErrNotExist) || err.Error() != "blob "+absent.String()+": does not exist" {
		t.Errorf("absent: error %v", err)
	}
	for _, d := range []digest.Digest{"", "sha256:../../index.json", "sha256:" + digest.Digest(strings.Repeat("A", 64)), "../x:y"} {
		if f, err := l.Blob(d); err == nil {
			t.Errorf("%s was opened: %s", d, f.Name())
		}
		if l.Has(v1.Descriptor{Digest: d}) {
			t.Errorf("Has %q", d)
		}
	}
	fifo := digest.FromString("fifo")
	if err := unix.Mkfifo(l.path("blobs", "sha256", fifo.Encoded()), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Blob(fifo); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("fifo: error %v", err)
	}
	if l.Has(v1.Descriptor{Digest: fifo}) {
		t.Error("Has a fifo")
	}
}

// Blobs may be links into a store that several layouts share.
func TestSymlinkedBlob(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"), "tag")
	store := t.TempDir()
	for desc, err := range l.Blobs() {
		if err != nil {
			t.Fatal(err)
		}
		path, err := l.blobPath(desc.Digest)
		if err != nil {
			t.Fatal(err)
		}
		stored := filepath.Join(store, desc.Digest.Encoded())
		if err := errors.Join(os.Rename(path, stored), os.Symlink(stored, path)); err != nil {
			t.Fatal(err)
		}
	}
	sound(t, l, "tag")
}
