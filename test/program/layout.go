package program

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Layout is an OCI image layout, read with the standard library.
type Layout string

// Image is what a tag stands for.
type Image struct {
	Digest   string // of the manifest
	Manifest struct {
		Layers      []Descriptor
		Config      Descriptor
		Annotations map[string]string
	}
	Config struct {
		Created, Author string
		Config          struct {
			User         string
			Env          []string
			Entrypoint   []string
			Cmd          []string
			WorkingDir   string
			StopSignal   string
			Labels       map[string]string
			Volumes      map[string]any
			ExposedPorts map[string]any
			Healthcheck  *struct {
				Test              []string
				Interval, Timeout time.Duration
				Retries           int
			}
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
		History []struct {
			Created, Comment string
			CreatedBy        string `json:"created_by"`
			EmptyLayer       bool   `json:"empty_layer"`
		}
	}
}

// Descriptor is what image-spec's descriptor.md says, as far as tests need it.
type Descriptor struct {
	MediaType, Digest string
	Size              int64
	Annotations       map[string]string
}

const refName = "org.opencontainers.image.ref.name"

// Tags returns what each tag stands for, by name.
func (l Layout) Tags(t testing.TB) map[string]Descriptor {
	t.Helper()
	var index struct{ Manifests []Descriptor }
	l.decode(t, "index.json", &index)
	tags := make(map[string]Descriptor)
	for _, d := range index.Manifests {
		if name := d.Annotations[refName]; name != "" {
			if _, twice := tags[name]; twice {
				t.Errorf("tag %s stands twice in index.json", name)
			}
			tags[name] = d
		}
	}
	return tags
}

// TagNames returns the names of all tags, sorted.
func (l Layout) TagNames(t testing.TB) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(l.Tags(t)))
}

// Image reads the image that tag stands for.
func (l Layout) Image(t testing.TB, tag string) Image {
	t.Helper()
	d, ok := l.Tags(t)[tag]
	if !ok {
		t.Fatalf("no tag %s in %v", tag, l.TagNames(t))
	}
	img := Image{Digest: d.Digest}
	l.decode(t, blob(d), &img.Manifest)
	l.decode(t, blob(img.Manifest.Config), &img.Config)
	return img
}

func blob(d Descriptor) string {
	return filepath.Join("blobs", strings.Replace(d.Digest, ":", "/", 1))
}

func (l Layout) decode(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(string(l), name))
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Layer lists the gzip layer as one line an entry: type and mode, owner, time, and path, then what
// a link points to, or the first 12 digits of a file's SHA-256. It checks digest and DiffID on the
// way.
func (l Layout) Layer(t testing.TB, img Image, i int) []string {
	t.Helper()
	lines, err := l.Entries(img, i)
	if err != nil {
		t.Fatalf("layer %d: %v", i, err)
	}
	return lines
}

// Entries is Layer, with an error where the layer cannot be read.
func (l Layout) Entries(img Image, i int) ([]string, error) {
	d, diffID := img.Manifest.Layers[i], img.Config.RootFS.DiffIDs[i]
	f, err := os.Open(filepath.Join(string(l), blob(d)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	compressed, plain := sha256.New(), sha256.New()
	zr, err := gzip.NewReader(io.TeeReader(f, compressed))
	if err != nil {
		return nil, err
	}
	r := io.TeeReader(zr, plain)
	lines, err := entries(tar.NewReader(r))
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return lines, errors.Join(same("digest", compressed, d.Digest), same("DiffID", plain, diffID))
}

func same(what string, got hash.Hash, want string) error {
	if s := "sha256:" + hex.EncodeToString(got.Sum(nil)); s != want {
		return fmt.Errorf("%s is %s, and not %s", what, s, want)
	}
	return nil
}

func entries(tr *tar.Reader) ([]string, error) {
	var lines []string
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		line := fmt.Sprintf("%s %d:%d %s %s", kind(h), h.Uid, h.Gid, h.ModTime.UTC().Format("2006-01-02T15:04:05"), h.Name)
		switch h.Typeflag {
		case tar.TypeSymlink, tar.TypeLink:
			line += " -> " + h.Linkname
		case tar.TypeReg:
			sum := sha256.New()
			if _, err := io.Copy(sum, tr); err != nil {
				return nil, err
			}
			line += " " + hex.EncodeToString(sum.Sum(nil))[:12]
		}
		lines = append(lines, line)
	}
}

func kind(h *tar.Header) string {
	names := map[byte]string{tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeLink: "link",
		tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo"}
	return fmt.Sprintf("%s %04o", names[h.Typeflag], h.Mode&0o7777)
}
