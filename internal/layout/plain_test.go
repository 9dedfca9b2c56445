package layout

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// sameListed checks that the short ways read a manifest, and a config, as package json does, where
// they take it.
func sameListed(t *testing.T, data []byte) (manifest, config bool) {
	t.Helper()
	m, manifest := plainManifest(data)
	if manifest {
		var want v1.Manifest
		if err := json.Unmarshal(data, &want); err != nil || !cmp.Equal(want, m) {
			t.Errorf("manifest %s: error %v\n%s", data, err, cmp.Diff(want, m))
		}
		var wantListed listed
		short, _ := list(data)
		if err := json.Unmarshal(data, &wantListed); err != nil || !cmp.Equal(wantListed, short) {
			t.Errorf("manifest %s: error %v\n%s", data, err, cmp.Diff(wantListed, short))
		}
	}
	if diffIDs, ok := plainDiffIDs(data); ok {
		var want struct {
			RootFS v1.RootFS `json:"rootfs"`
		}
		if err := json.Unmarshal(data, &want); err != nil || !slices.Equal(want.RootFS.DiffIDs, diffIDs) {
			t.Errorf("config %s: error %v\n%s", data, err, cmp.Diff(want.RootFS.DiffIDs, diffIDs))
		}
	}
	created, config := plainCreated(data)
	if config {
		var want struct{ Created *time.Time }
		if err := json.Unmarshal(data, &want); err != nil || !cmp.Equal(want.Created, created) {
			t.Errorf("config %s: created %v, error %v, want %v", data, created, err, want.Created)
		}
	}
	return manifest, config
}

// What genoci writes is read in the short way.
func TestPlainImage(t *testing.T) {
	day := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var img image.Image
	img.Config.Platform = image.Host()
	img.Config.Created = &day
	img.Config.Config.Env = []string{"A=<\"ä\"\t\\>", "B="}
	img.Config.Config.Labels = map[string]string{"created": "never"}
	img.Config.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}}
	img.Config.History = []v1.History{{Created: &day, CreatedBy: "x", EmptyLayer: true}, {CreatedBy: "y"}, {CreatedBy: "z"}}
	for _, text := range []string{"a", "b"} {
		d := digest.FromString(text)
		img.Manifest.Layers = append(img.Manifest.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: d, Size: 7})
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, d)
	}
	img.Manifest.Annotations = map[string]string{"k": "v"}
	config, manifest, _, err := image.Marshal(img)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := sameListed(t, config); !ok {
		t.Errorf("config not taken: %s", config)
	}
	if diffIDs, ok := plainDiffIDs(config); !ok || len(diffIDs) != 2 {
		t.Errorf("DiffIDs %v not taken: %s", diffIDs, config)
	}
	if ok, _ := sameListed(t, manifest); !ok {
		t.Errorf("manifest not taken: %s", manifest)
	}
}

func TestPlainCreated(t *testing.T) {
	for text, plain := range map[string]bool{
		`{}`:                                 true,
		`{"created":null}`:                   true,
		`{"created":"2026-01-02T03:04:05Z"}`: true,
		`{"a":[1,true,{"created":0}],"created":"2026-01-02T03:04:05.6+01:00","b":""}`: true,
		`{"CREATED":"2026-01-02T03:04:05Z"}`:                                          false,
		`{"created":null,"created":"2026-01-02T03:04:05Z"}`:                           false,
		`{"created":"2026-01-02T03:04:05Z","Created":null}`:                           false,
		`{"cre\u0061ted":"2026-01-02T03:04:05Z"}`:                                     false,
		`{"created":"2026"}`:                                                          false,
		`{"created":"2026-01-02T03:04:05\u005a"}`:                                     false,
		`{"created":7}`:                       false,
		`{"created":"2026-01-02T03:04:05Z"`:   false,
		`{"created":"2026-01-02T03:04:05Z"}}`: false,
		`{"created":"2026-01-02T03:04:05Z",}`: false,
		`{"a":01}`:                            false,
		`{"a":1.5}`:                           false,
		`{"a":"\x"}`:                          false,
		"{\"a\":\"\n\"}":                      false,
		`{"a" :1}`:                            false,
		`{"a":[1,]}`:                          false,
		`{"a":[,1]}`:                          false,
		`{"a"}`:                               false,
		`{"a":}`:                              false,
		`{"a":"\`:                             false,
		`[]`:                                  false,
		`null`:                                false,
		``:                                    false,
		`{"a":nul}`:                           false,
		"{\"a\":\"\xff\u00e4\"}":              true,
		`{"a":` + strings.Repeat("[", 10) + strings.Repeat("]", 10) + `}`:       true,
		`{"a":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + `}`: false,
	} {
		if _, ok := sameListed(t, []byte(text)); ok != plain {
			t.Errorf("%.100s: taken: %v, want %v", text, ok, plain)
		}
	}
}

// What the short ways take of others' blobs, they read as package json does.
func FuzzPlainImage(f *testing.F) {
	files, err := filepath.Glob("testdata/*/blobs/sha256/*")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		f.Add([]byte(readFile(f, file)))
	}
	f.Add([]byte(`{"created":"2026-01-02T03:04:05Z","a":[{"b":"\"\\\n"},1,null,true,false,{},[]]}`))
	sum := digest.FromString("x").String()
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"a/b","config":{"mediaType":"c","digest":"` + sum + `","size":1},"layers":[{"mediaType":"d","digest":"` + sum +
		`","size":2,"annotations":{"k":"v"}}],"annotations":{"k":"v"}}`))
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":["` + sum + `"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) { sameListed(t, data) })
}
