package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/durable"
	"genoci/internal/image"
)

func TestVerifyCounts(t *testing.T) {
	l := open(t, "two-tags")
	var size int64
	for desc, err := range l.Blobs() {
		if err != nil {
			t.Fatal(err)
		}
		size += desc.Size
	}
	blobs, bytes, err := l.Verify(t.Context(), nil, func(p Problem) { t.Error(p) })
	if err != nil || blobs != 4 || bytes != size {
		t.Errorf("%d blobs, %d bytes, %v; want 4, %d", blobs, bytes, err, size)
	}
}

func TestVerifyEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := open(t, "two-tags").Verify(ctx, gunzip, func(p Problem) { t.Error(p) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Many broken blobs are all reported, each once, and never two at a time.
func TestVerifyReportsOneAtATime(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	const n = 50
	for i := range n {
		blob := digest.FromString(fmt.Sprint(i))
		if err := durable.WriteFile(l.path("blobs", "sha256", blob.Encoded()), []byte("broken"), 0o644, durable.SyncName); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[digest.Digest]int{} // the race detector watches
	if _, _, err := l.Verify(t.Context(), gunzip, func(p Problem) { seen[p.Digest]++ }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != n {
		t.Errorf("%d problems, want %d", len(seen), n)
	}
	for d, times := range seen {
		if times != 1 {
			t.Errorf("%s was reported %d times", d, times)
		}
	}
}

func TestVerifyDiffIDs(t *testing.T) {
	content := tarOf("file", "content")
	right, wrong := digest.FromBytes(content), digest.FromString("wrong")
	right512 := digest.SHA512.FromBytes(content)
	for _, test := range []struct {
		name      string
		mediaType string
		blob      []byte
		diffIDs   []digest.Digest // one image each
		want      string
	}{
		{"right", v1.MediaTypeImageLayerGzip, gzipped(content), []digest.Digest{right}, ""},
		{"right sha512", v1.MediaTypeImageLayerGzip, gzipped(content), []digest.Digest{right512}, ""},
		{"two algorithms", v1.MediaTypeImageLayerGzip, gzipped(content), []digest.Digest{right, right512}, ""},
		{"uncompressed", v1.MediaTypeImageLayer, content, []digest.Digest{right}, ""},
		{"wrong", v1.MediaTypeImageLayerGzip, gzipped(content), []digest.Digest{wrong}, "layer: DiffID is " + right.String() + ", but the config says " + wrong.String()},
		{"images disagree", v1.MediaTypeImageLayerGzip, gzipped(content), []digest.Digest{right, wrong}, "layer: DiffID is " + right.String() + ", but the config says " + wrong.String()},
		{"not compressed", v1.MediaTypeImageLayerGzip, content, []digest.Digest{right}, "decompress layer: gzip: invalid header"},
		{"cut off", v1.MediaTypeImageLayerGzip, gzipped(content)[:30], []digest.Digest{right}, "decompress layer: unexpected EOF"},
		{"encrypted", v1.MediaTypeImageLayerGzip + "+encrypted", []byte("?"), []digest.Digest{right}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := create(t, filepath.Join(t.TempDir(), "oci"))
			desc, err := writeBlob(l, test.mediaType, test.blob)
			if err != nil {
				t.Fatal(err)
			}
			for i, diffID := range test.diffIDs {
				img, err := l.WriteImage(image.Extend(image.Image{}, image.Extension{
					Platform: linux, Layers: []image.Layer{{Descriptor: desc, DiffID: diffID}},
				}))
				if err != nil {
					t.Fatal(err)
				}
				err = l.Update(t.Context(), func(x *Index) error { x.Set(fmt.Sprint("tag", i), img.Descriptor); return nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			want := ""
			if test.want != "" {
				want = fmt.Sprintf("tag %q: ", fmt.Sprint("tag", max(0, slices.Index(test.diffIDs, wrong)))) + test.want
			}
			if got := strings.Join(problems(t, l), "\n"); got != want {
				t.Errorf("problems:\n%s\nwant:\n%s", got, want)
			}
			_, _, err = l.Verify(t.Context(), nil, func(p Problem) { t.Errorf("without a decompressor: %v", p) })
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A broken blob is reported as that, not as what its decompressor says of it.
func TestVerifyDigestComesFirst(t *testing.T) {
	l := open(t, "wrong-digest")
	broken := func(string, io.Reader) (io.ReadCloser, error) { return nil, errors.New("no such layer") }
	var got []string
	_, _, err := l.Verify(t.Context(), broken, func(p Problem) {
		if p.Tag != "" {
			got = append(got, p.Err.Error())
		}
	})
	if err != nil || len(got) != 1 || !strings.Contains(got[0], "content has the digest") {
		t.Errorf("%q, %v", got, err)
	}
}

// Sizes that no blob has are errors, whatever names the blob.
func TestVerifySizes(t *testing.T) {
	for _, size := range []int64{-5, -1, math.MaxInt64} {
		l := create(t, filepath.Join(t.TempDir(), "oci"))
		config, err := writeBlob(l, v1.MediaTypeImageConfig, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[]}`, config.MediaType, config.Digest, size)
		manifest, err := writeBlob(l, v1.MediaTypeImageManifest, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Update(t.Context(), func(x *Index) error { x.Set("tag", manifest); return nil }); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`tag "tag": blob %s: size is 2, but the blob that names it says %d`, config.Digest, size)
		if got := problems(t, l); !slices.Contains(got, want) {
			t.Errorf("size %d: problems %q, want %q", size, got, want)
		}
		index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, manifest.MediaType, manifest.Digest, size)
		desc, err := writeBlob(l, v1.MediaTypeImageIndex, []byte(index))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Update(t.Context(), func(x *Index) error { x.Set("index", desc); return nil }); err != nil {
			t.Fatal(err)
		}
		if got := problems(t, l); len(got) < 2 {
			t.Errorf("size %d in an index: problems %q", size, got)
		}
		if _, err := io.ReadAll(Verified(strings.NewReader("{}"), v1.Descriptor{Digest: config.Digest, Size: size})); err == nil {
			t.Errorf("size %d: verified", size)
		}
	}
}

// Images that name one blob are each held against it: one that is right hides none that is wrong,
// whichever comes first.
func TestVerifyMediaTypesThatContradict(t *testing.T) {
	content := tarOf("file", "content")
	for _, order := range [][]string{{v1.MediaTypeImageLayerGzip, v1.MediaTypeImageLayer}, {v1.MediaTypeImageLayer, v1.MediaTypeImageLayerGzip}} {
		l := create(t, filepath.Join(t.TempDir(), "oci"))
		want := ""
		for i, mediaType := range order {
			desc, err := writeBlob(l, mediaType, gzipped(content))
			if err != nil {
				t.Fatal(err)
			}
			img, err := l.WriteImage(image.Extend(image.Image{}, image.Extension{
				Platform: linux, Layers: []image.Layer{{Descriptor: desc, DiffID: digest.FromBytes(content)}},
			}))
			if err != nil {
				t.Fatal(err)
			}
			tag := fmt.Sprint("tag", i)
			if mediaType == v1.MediaTypeImageLayer {
				want = fmt.Sprintf("tag %q: layer: DiffID is ", tag)
			}
			if err := l.Update(t.Context(), func(x *Index) error { x.Set(tag, img.Descriptor); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if got := problems(t, l); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("problems %q, want one that begins with %q", got, want)
		}
	}
}
