package build

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot/snapshottest"
	"genoci/test/strict"
)

// onSharing runs a test in a work whose folders are all on one file system that can share blocks,
// of each kind that there is.
func onSharing(t *testing.T, test func(t *testing.T, w *work, tempDir func(*testing.T) string)) {
	if !sandbox.Inside() {
		strict.Lack(t, "mount", "no namespace")
	}
	for _, kind := range []string{"btrfs", "xfs"} {
		snapshottest.OnFileSystem(t, kind, func(t *testing.T, tempDir func(*testing.T) string) {
			w := newWork(t, nil)
			w.dir = tempDir(t)
			w.layout = check(layout.Create(filepath.Join(tempDir(t), "oci")))(t)
			t.Cleanup(func() { w.layout.Close() })
			w.cache = check(cache.Open(tempDir(t)))(t)
			test(t, w, tempDir)
		})
	}
}

// bulky returns an archive with a file of n random bytes, which differ from seed to seed.
func bulky(seed byte, n int) string {
	content := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(content)
	return archive("d/", "d/f="+string(content))
}

// sharesAll reports whether all blocks of a file belong to another file too.
func sharesAll(t *testing.T, path string) bool {
	t.Helper()
	f := check(os.Open(path))(t)
	defer f.Close()
	type extent struct { // struct fiemap_extent of linux/fiemap.h
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
	var m struct { // struct fiemap
		start, length               uint64
		flags, mapped, count, spare uint32
		extents                     [256]extent
	}
	const ioctlFiemap, sync, shared = 0xc020660b, 1, 0x2000
	m.length, m.flags, m.count = 1<<62, sync, uint32(len(m.extents))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlFiemap, uintptr(unsafe.Pointer(&m))); errno != 0 {
		t.Fatal(errno)
	}
	for _, e := range m.extents[:m.mapped] {
		if e.flags&shared == 0 {
			return false
		}
	}
	return m.mapped > 0
}

func (w *work) blobPath(d digest.Digest) string {
	return filepath.Join(w.layout.Dir(), "blobs", "sha256", d.Encoded())
}

// Where the file system can share blocks, a layer that is an archive, or one of another layout,
// takes no room on disk; the image is the same as elsewhere.
func TestLayersShareBlocks(t *testing.T) {
	onSharing(t, func(t *testing.T, w *work, tempDir func(*testing.T) string) {
		a := bulky(1, 4<<20)
		server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { io.WriteString(out, bulky(2, 4<<20)) }))
		defer server.Close()
		const text = "a: {expand: a.tgz}\n"
		url := "b: {expand: '" + server.URL + "/b.tgz'}\n"
		w.write("a.tgz", a)
		w.build(text + url)
		for _, tag := range []string{"a", "b"} {
			if layer := w.image(tag).Manifest.Layers[0].Digest; !sharesAll(t, w.blobPath(layer)) {
				t.Errorf("the layer of %s has blocks of its own", tag)
			}
		}
		w.write("copy.tgz", a)
		if sharesAll(t, filepath.Join(w.dir, "copy.tgz")) {
			t.Fatal("so has any file")
		}
		images := map[string]image.Image{"a": w.image("a"), "b": w.image("b")}
		if p := w.verify(); len(p) > 0 {
			t.Error(p)
		}

		other := newWork(t, nil)
		other.layout = check(layout.Create(filepath.Join(tempDir(t), "oci")))(t)
		defer other.layout.Close()
		other.build("t: {base: 'oci:" + w.layout.Dir() + ":a', copy: {content: T, dest: /t}}\n")
		if layer := other.image("t").Manifest.Layers[0].Digest; !sharesAll(t, other.blobPath(layer)) {
			t.Error("the layer of a base in another layout has blocks of its own")
		}
		if p := other.verify(); len(p) > 0 {
			t.Error(p)
		}

		elsewhere := newWork(t, map[string]string{"a.tgz": a})
		elsewhere.build(text + url)
		for tag, img := range images {
			if got := elsewhere.image(tag); got.Descriptor.Digest != img.Descriptor.Digest {
				t.Errorf("%s is %s, on another file system %s", tag, img.Descriptor.Digest, got.Descriptor.Digest)
			}
		}
	})
}

// An archive that changes while it is read becomes no blob with a wrong name, whether it can be
// shared or not.
func TestArchiveChangesWhileRead(t *testing.T) {
	one, two := bulky(1, 1<<20), bulky(2, 1<<20)
	if len(one) != len(two) {
		t.Fatal("the archives differ in length")
	}
	try := func(t *testing.T, w *work) {
		w.write("a.tgz", one)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			f, err := os.OpenFile(filepath.Join(w.dir, "a.tgz"), os.O_WRONLY, 0)
			for i := 0; err == nil; i++ {
				select {
				case <-stop:
					if err := f.Close(); err != nil {
						t.Error(err)
					}
					return
				default:
					content := one
					if i%2 == 0 {
						content = two
					}
					at := i * 4096 % len(content)
					_, err = f.WriteAt([]byte(content[at:]), int64(at))
				}
			}
			t.Error(err)
		}()
		made := 0
		for range 20 {
			_, err := w.try("t: {expand: a.tgz}\n")
			switch {
			case err == nil:
				made++
			case !strings.Contains(err.Error(), "changed while it was read") && !strings.Contains(err.Error(), "gzip"):
				t.Errorf("error %v", err)
			}
		}
		close(stop)
		<-stopped
		if p := w.verify(); len(p) > 0 {
			t.Error(p)
		}
		for _, f := range check(os.ReadDir(filepath.Join(w.layout.Dir(), "blobs/sha256")))(t) {
			content := check(os.ReadFile(filepath.Join(w.layout.Dir(), "blobs/sha256", f.Name())))(t)
			if got := digest.FromBytes(content).Encoded(); got != f.Name() {
				t.Errorf("the blob %s has the digest %s", f.Name(), got)
			}
		}
		t.Logf("%d of 20 builds came through", made)
	}
	t.Run("copied", func(t *testing.T) { try(t, newWork(t, nil)) })
	onSharing(t, func(t *testing.T, w *work, tempDir func(*testing.T) string) {
		try(t, w)

		// What is written to the file once it was cloned does not reach the blob.
		path := filepath.Join(tempDir(t), "f")
		for _, content := range []string{one, ""} {
			if err := os.WriteFile(path, []byte(one), 0o644); err != nil {
				t.Fatal(err)
			}
			src := check(os.OpenFile(path, os.O_RDWR, 0))(t)
			blob := check(w.layout.NewBlob())(t)
			r := check(blob.Clone(src))(t)
			if r == nil {
				t.Fatal("it cannot be cloned")
			}
			if _, err := blob.Commit("x/y"); err == nil || !strings.Contains(err.Error(), "were not read") {
				t.Errorf("Commit of a clone that was not read: %v", err)
			}
			if content == "" {
				content = two
			}
			_, err := src.WriteAt([]byte(two), 0)
			if err := errors.Join(err, src.Truncate(int64(len(content)/2)), src.Sync(), src.Close()); err != nil {
				t.Fatal(err)
			}
			if n := check(io.Copy(io.Discard, r))(t); n != int64(len(one)) {
				t.Errorf("%d bytes read, want %d", n, len(one))
			}
			desc := check(blob.Commit("x/y"))(t)
			stored := check(os.ReadFile(w.blobPath(desc.Digest)))(t)
			if desc.Digest != digest.FromString(one) || string(stored) != one {
				t.Errorf("the blob %+v is not what was cloned", desc)
			}
			if err := blob.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
