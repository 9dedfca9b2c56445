package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var update = flag.Bool("update", false, "make the golden layouts of testdata anew, and their reports")

// goldens are the layouts of testdata: what is special about each, as a function that makes it in
// an empty folder.
var goldens = map[string]func(l *Layout) error{
	// Git keeps no empty folder, so that there is no blobs either.
	"empty": func(l *Layout) error { return os.RemoveAll(l.path("blobs")) },

	"two-tags": func(l *Layout) error {
		if err := addImage(l, "one", "shared"); err != nil {
			return err
		}
		if err := addImage(l, "two", "shared"); err != nil {
			return err
		}
		_, err := writeBlob(l, "", []byte("garbage\n"))
		return err
	},

	"nested-index": func(l *Layout) error {
		amd, err := writeImage(l, "amd64", linux)
		if err != nil {
			return err
		}
		arm, err := writeImage(l, "arm64", v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"})
		if err != nil {
			return err
		}
		amd.Platform = &linux // arm's platform is known from its config only
		inner, err := writeJSON(l, v1.MediaTypeImageIndex, v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{amd, arm}})
		if err != nil {
			return err
		}
		outer, err := writeJSON(l, v1.MediaTypeImageIndex, v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{inner}})
		if err != nil {
			return err
		}
		return l.Update(context.Background(), func(x *Index) error { x.Set("multi", outer); return nil })
	},

	"missing-blob": func(l *Layout) error {
		if err := addImage(l, "broken", "broken"); err != nil {
			return err
		}
		return os.Remove(blobOf(l, gzipped(tarOf("file", "broken"))))
	},

	"wrong-digest": func(l *Layout) error {
		if err := addImage(l, "broken", "broken"); err != nil {
			return err
		}
		unnamed := blobOf(l, []byte("what nothing names"))
		return errors.Join(
			os.WriteFile(blobOf(l, gzipped(tarOf("file", "broken"))), gzipped(tarOf("file", "brokEn")), 0o644),
			os.WriteFile(unnamed, []byte("something else"), 0o644),
		)
	},

	"duplicate-name": func(l *Layout) error {
		if err := errors.Join(addImage(l, "twice", "first"), addImage(l, "second", "second")); err != nil {
			return err
		}
		return edit(l, `"second"`, `"twice"`)
	},

	// As other tools write it: fields and annotations that genoci does not know, pretty-printed, an
	// entry without a name.
	"foreign-fields": func(l *Layout) error {
		if err := errors.Join(addImage(l, "ours", "ours"), addImage(l, "theirs", "theirs")); err != nil {
			return err
		}
		return errors.Join(
			edit(l, `"annotations":{"org.opencontainers.image.ref.name":"theirs"}`,
				"\n    \"x-first\" : 1.50,\"annotations\": {\"com.example\": \"<&>\" }, \"x-last\": [ 1e3 ]\n  "),
			edit(l, `{"schemaVersion"`, "{\n  \"x-top\" : {\"b\":1, \"a\":2},\n  \"annotations\": {\"k\":\"v\"},\n  \"schemaVersion\""),
		)
	},

	"docker-schema2": func(l *Layout) error {
		content := tarOf("file", "docker")
		layer, err := writeBlob(l, "application/vnd.docker.image.rootfs.diff.tar.gzip", gzipped(content))
		if err != nil {
			return err
		}
		foreign := v1.Descriptor{
			MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: digest.FromString("elsewhere"), Size: 9,
			URLs: []string{"https://example.com/layer"},
		}
		config, err := writeBlob(l, "application/vnd.docker.container.image.v1+json", fmt.Appendf(nil,
			`{"architecture":"amd64","os":"linux","docker_version":"1","rootfs":{"type":"layers","diff_ids":[%q,%q]}}`,
			digest.FromString("elsewhere uncompressed"), digest.FromBytes(content)))
		if err != nil {
			return err
		}
		const mediaType = "application/vnd.docker.distribution.manifest.v2+json"
		manifest, err := writeJSON(l, mediaType, v1.Manifest{MediaType: mediaType, Config: config, Layers: []v1.Descriptor{foreign, layer}})
		if err != nil {
			return err
		}
		return l.Update(context.Background(), func(x *Index) error { x.Set("docker", manifest); return nil })
	},

	// A signature as others attach it: an entry without a name, whose subject is an image that has
	// lost its tag.
	"referrer": func(l *Layout) error {
		subject, err := writeImage(l, "signed", linux)
		if err != nil {
			return err
		}
		empty, err := writeBlob(l, v1.MediaTypeEmptyJSON, []byte("{}"))
		if err != nil {
			return err
		}
		signature, err := writeBlob(l, "application/vnd.example.signature", []byte("signed\n"))
		if err != nil {
			return err
		}
		artifact, err := writeJSON(l, v1.MediaTypeImageManifest, v1.Manifest{
			MediaType: v1.MediaTypeImageManifest, ArtifactType: "application/vnd.example.signature",
			Config: empty, Layers: []v1.Descriptor{signature}, Subject: &subject,
		})
		if err != nil {
			return err
		}
		if err := l.Update(context.Background(), func(x *Index) error { x.Set("gone", artifact); return nil }); err != nil {
			return err
		}
		return edit(l, `,"annotations":{"org.opencontainers.image.ref.name":"gone"}`, "")
	},

	"unknown-type": func(l *Layout) error {
		blob, err := writeBlob(l, "application/vnd.example.thing", []byte("thing\n"))
		if err != nil {
			return err
		}
		return l.Update(context.Background(), func(x *Index) error { x.Set("thing", blob); return nil })
	},

	"wrong-diffid": func(l *Layout) error {
		layer, err := writeBlob(l, v1.MediaTypeImageLayerGzip, gzipped(tarOf("file", "content")))
		if err != nil {
			return err
		}
		config, err := writeBlob(l, v1.MediaTypeImageConfig, fmt.Appendf(nil,
			`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, digest.FromString("other content")))
		if err != nil {
			return err
		}
		manifest, err := writeJSON(l, v1.MediaTypeImageManifest, v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: config, Layers: []v1.Descriptor{layer}})
		if err != nil {
			return err
		}
		return l.Update(context.Background(), func(x *Index) error { x.Set("lies", manifest); return nil })
	},

	"cut-off-index": func(l *Layout) error {
		if err := addImage(l, "lost", "lost"); err != nil {
			return err
		}
		return edit(l, `"}}]}`, "")
	},

	"broken-manifest": func(l *Layout) error {
		blob, err := writeBlob(l, v1.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"layers":{}}`))
		if err != nil {
			return err
		}
		if _, err := writeBlob(l, "", []byte("what the manifest might have meant\n")); err != nil {
			return err
		}
		return l.Update(context.Background(), func(x *Index) error { x.Set("broken", blob); return nil })
	},
}

// writeJSON stores a manifest or an index.
func writeJSON(l *Layout, mediaType string, blob any) (v1.Descriptor, error) {
	data, err := json.Marshal(blob)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return writeBlob(l, mediaType, bytes.Replace(data, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1))
}

// blobOf returns the path of the blob with the content.
func blobOf(l *Layout, content []byte) string {
	path, err := l.blobPath(digest.FromBytes(content))
	if err != nil {
		panic(err)
	}
	return path
}

// edit changes the text of index.json.
func edit(l *Layout, old, text string) error {
	data, err := os.ReadFile(l.path("index.json"))
	if err != nil {
		return err
	}
	if !bytes.Contains(data, []byte(old)) {
		return fmt.Errorf("index.json has no %s:\n%s", old, data)
	}
	return os.WriteFile(l.path("index.json"), bytes.Replace(data, []byte(old), []byte(text), 1), 0o644)
}

// open returns a copy of a golden layout.
func open(t testing.TB, name string) *Layout {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Each golden layout is read in every way, and the answers held against testdata/NAME.txt.
func TestGolden(t *testing.T) {
	for name, make := range goldens {
		t.Run(name, func(t *testing.T) {
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.RemoveAll(golden); err != nil {
					t.Fatal(err)
				}
				l, err := Create(golden)
				if err != nil {
					t.Fatal(err)
				}
				if err := make(l); err != nil {
					t.Fatal(err)
				}
			}
			l := open(t, name)
			got := strings.ReplaceAll(report(t, l), l.Dir(), "DIR")
			if *update {
				if err := os.WriteFile(golden+".txt", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// report returns what the methods of a Layout say.
func report(t *testing.T, l *Layout) string {
	var b strings.Builder
	tags, err := l.Tags()
	fmt.Fprintf(&b, "tags: %s\n", outcome(len(tags), err))
	for _, tag := range tags {
		fmt.Fprintf(&b, "tag %s: %s\n", tag.Name, tag.Descriptor.Digest)
		for _, p := range []v1.Platform{linux, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "s390x"}} {
			img, err := l.Image(tag.Name, p)
			fmt.Fprintf(&b, "  %s: %s\n", p.Architecture, outcome(img.Descriptor.Digest, err))
		}
	}
	blobs, _, err := l.Verify(t.Context(), gunzip, func(Problem) {})
	fmt.Fprintf(&b, "verify: %s\n", outcome(fmt.Sprintf("%d blobs", blobs), err))
	for _, line := range problems(t, l) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	collected, err := collect(t.Context(), l, false)
	fmt.Fprintf(&b, "gc: %s\n", outcome(fmt.Sprintf("%d bytes", collected.Bytes()), err))
	for _, blob := range collected.Blobs {
		fmt.Fprintf(&b, "  %s %d\n", blob.Digest, blob.Size)
	}
	return b.String()
}

func outcome(value any, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(value)
}
