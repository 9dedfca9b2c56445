package image

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares JSON, indented, with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, got)
	}
	b.WriteByte('\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// dockerFiles returns the foreign image of testdata.
func dockerFiles(t testing.TB) (manifest, config []byte) {
	t.Helper()
	config, err := os.ReadFile("testdata/docker-config.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/docker-manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.NewReplacer(
		"SIZE", strconv.Itoa(len(config)),
		"DIGEST", digest.FromBytes(config).String(),
	).Replace(string(text))), config
}

func dockerImage(t testing.TB) Image {
	t.Helper()
	img, err := Parse(dockerFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func layer(c string) Layer {
	return Layer{
		Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.Digest("sha256:" + strings.Repeat(c, 64)), Size: 10},
		DiffID:     digest.Digest("sha256:" + strings.Repeat("d", 63) + c),
		CreatedBy:  "genoci " + c,
		Comment:    "step " + c,
	}
}

func TestConfigKeepsForeignFields(t *testing.T) {
	_, config := dockerFiles(t)
	var c Config
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	got, err := encode(c)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "docker-config.golden.json", got)
	var again Config
	if err := json.Unmarshal(got, &again); err != nil {
		t.Fatal(err)
	}
	if second, err := encode(again); err != nil || !bytes.Equal(second, got) {
		t.Errorf("written, read and written again: %v\n%s\nnot\n%s", err, second, got)
	}
}

func TestConfigErrorsNameTheField(t *testing.T) {
	for text, want := range map[string]string{
		`{"config":{"Env":"A=1"}}`:       "config: Env: unexpected string",
		`{"created":"yesterday"}`:        "created: ",
		`{"history":[{"created_by":1}]}`: "history: created_by: unexpected number",
		`[]`:                             "unexpected array",
	} {
		var c Config
		if err := json.Unmarshal([]byte(text), &c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s...", text, err, want)
		}
	}
}

func TestExtend(t *testing.T) {
	epoch := time.Date(1980, 1, 1, 1, 0, 0, 0, time.FixedZone("CET", 3600))
	linux := v1.Platform{Architecture: "amd64", OS: "linux"}
	noHistory := dockerImage(t)
	noHistory.Config.History = nil
	for name, test := range map[string]struct {
		base Image
		e    Extension
	}{
		"empty-base": {Image{}, Extension{
			Layers: []Layer{layer("1")}, Created: epoch, Platform: linux, Author: "me <me@example.com>",
			Annotations: map[string]string{"b": "2", "a": "1"},
			Edit:        ConfigEdit{Entrypoint: []string{"/bin/true"}, Env: []string{"A=1", "B=2", "A=3"}},
		}},
		"docker-base": {dockerImage(t), Extension{
			Layers: []Layer{layer("1"), layer("2")}, Created: epoch, Platform: linux, // the base's own wins
			Annotations: map[string]string{"com.example.kept": "changed"},
			BaseName:    "debian", BaseDigest: digest.Digest("sha256:" + strings.Repeat("e", 64)),
			CreatedBy: "ENTRYPOINT /new",
			Edit: ConfigEdit{
				Entrypoint: []string{"/new"}, Env: []string{"NEW=1", "PATH=/p"}, User: "root",
				WorkingDir: "/w", StopSignal: "SIGINT", Labels: map[string]string{"a": "one", "c": "3"},
				Volumes: []string{"/data"}, Expose: []string{"80", "53/UDP", "443/tcp"},
				Healthcheck: &Healthcheck{Test: []string{"NONE"}},
			},
		}},
		"base-without-history": {noHistory, Extension{Layers: []Layer{layer("1")}, Created: epoch}},
		"config-only":          {dockerImage(t), Extension{Created: epoch, CreatedBy: "USER nobody", Edit: ConfigEdit{User: "nobody", Cmd: []string{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := json.Marshal(test.base)
			if err != nil {
				t.Fatal(err)
			}
			img := Extend(test.base, test.e)
			config, manifest, desc, err := Marshal(img)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "extend-"+name+".config.json", config)
			golden(t, "extend-"+name+".manifest.json", manifest)
			if want := describe(v1.MediaTypeImageManifest, manifest); !cmp.Equal(desc, want) {
				t.Errorf("descriptor %v, want %v", desc, want)
			}
			if after, err := json.Marshal(test.base); err != nil || !bytes.Equal(after, before) {
				t.Errorf("Extend changed its base: %v\n%s\nwas\n%s", err, after, before)
			}
			again, err := Parse(manifest, config)
			if err != nil {
				t.Fatalf("what was written cannot be read: %v", err)
			}
			if again.Descriptor.Digest != desc.Digest || len(again.Manifest.Layers) != len(img.Manifest.Layers) {
				t.Errorf("read back: %v", again)
			}
		})
	}
}

// One image end to end: whatever changes these bytes changes every digest that genoci makes.
func TestMarshalBytes(t *testing.T) {
	img := Extend(Image{}, Extension{
		Layers: []Layer{layer("1")}, Created: time.Unix(315532800, 0), Platform: v1.Platform{OS: "linux", Architecture: "amd64"},
	})
	config, manifest, desc, err := Marshal(img)
	if err != nil {
		t.Fatal(err)
	}
	wantConfig := `{"created":"1980-01-01T00:00:00Z","architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` +
		strings.Repeat("d", 63) + `1"]},"history":[{"created":"1980-01-01T00:00:00Z","created_by":"genoci 1","comment":"step 1"}]}`
	if string(config) != wantConfig {
		t.Errorf("config:\n%s\nwant\n%s", config, wantConfig)
	}
	wantManifest := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` +
		digest.FromString(wantConfig).String() + `","size":` + strconv.Itoa(len(wantConfig)) +
		`},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:` + strings.Repeat("1", 64) + `","size":10}]}`
	if string(manifest) != wantManifest {
		t.Errorf("manifest:\n%s\nwant\n%s", manifest, wantManifest)
	}
	if desc.Digest != digest.FromString(wantManifest) {
		t.Errorf("digest %s", desc.Digest)
	}
}

func TestMarshalRefuses(t *testing.T) {
	good := Extend(Image{}, Extension{Layers: []Layer{layer("1")}, Platform: v1.Platform{OS: "linux", Architecture: "amd64"}})
	for want, spoil := range map[string]func(*Image){
		"config: architecture and os must be set":                                func(i *Image) { i.Config.OS = "" },
		"config: rootfs.diff_ids: 0 entries, but the manifest has 1 layers":      func(i *Image) { i.Config.RootFS.DiffIDs = nil },
		`manifest: layers[0]: digest "": invalid checksum digest format`:         func(i *Image) { i.Manifest.Layers = []v1.Descriptor{{MediaType: "x"}} },
		`config: rootfs.diff_ids[0]: "sha256:0": invalid checksum digest length`: func(i *Image) { i.Config.RootFS.DiffIDs = []digest.Digest{"sha256:0"} },
		"config: history: 0 entries with a layer, but the manifest has 1 layers": func(i *Image) { i.Config.History = []v1.History{{EmptyLayer: true}} },
		`manifest: an artifact (application/vnd.example), not an image`:          func(i *Image) { i.Manifest.Config.MediaType = "application/vnd.example" },
	} {
		img := good
		spoil(&img)
		if _, _, _, err := Marshal(img); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	manifest, config := dockerFiles(t)
	for _, test := range []struct{ name, old, new, want string }{
		{"not JSON", `"schemaVersion"`, `schemaVersion`, "manifest: invalid character 's' looking for beginning of object key string"},
		{"cut off", "\n}\n", "", "manifest: unexpected end of JSON input"},
		{"schema 1", `"schemaVersion": 2`, `"schemaVersion": 1`, "manifest: docker schema 1 is not supported"},
		{"version", `"schemaVersion": 2`, `"schemaVersion": 3`, "manifest: schemaVersion is 3, not 2"},
		{"index", "distribution.manifest.v2", "distribution.manifest.list.v2", `manifest: "application/vnd.docker.distribution.manifest.list.v2+json" is not the media type of a manifest`},
		{"list", `"layers": [`, `"layers": 1, "x": [`, "manifest: layers: unexpected number"},
		{"ambiguous", `"layers": [`, `"manifests": [], "layers": [`, "manifest: it has the field manifests, which belongs to an index"},
		{"artifact", "docker.container.image", "cncf.helm.config", `manifest: an artifact (application/vnd.cncf.helm.config.v1+json), not an image`},
		{"layer digest", "aaaaaaaa\"", "AAAAAAAA\"", `manifest: layers[0]: digest "sha256:` + strings.Repeat("a", 56) + `AAAAAAAA": invalid checksum digest format`},
		{"layer size", `"size": 200`, `"size": -1`, "manifest: layers[1]: size is -1"},
		{"layer type", "application/vnd.docker.image.rootfs.diff.tar.gzip", "", "manifest: layers[0]: mediaType is missing"},
		{"config size", `"size": ` + strconv.Itoa(len(config)), `"size": 7`, "config: size is " + strconv.Itoa(len(config)) + ", not 7 as the manifest says"},
		{"config algorithm", `"digest": "sha256:` + digest.FromBytes(config).Encoded(), `"digest": "blake3:` + digest.FromBytes(config).Encoded(), `config: digest "blake3:` + digest.FromBytes(config).Encoded() + `": unsupported digest algorithm`},
	} {
		t.Run(test.name, func(t *testing.T) {
			spoilt := strings.Replace(string(manifest), test.old, test.new, 1)
			if spoilt == string(manifest) {
				t.Fatalf("the manifest has no %q", test.old)
			}
			if _, err := Parse([]byte(spoilt), config); err == nil || err.Error() != test.want {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
		})
	}
	if _, err := Parse(manifest, bytes.Replace(config, []byte("arm"), []byte("mra"), 1)); err == nil || !strings.HasPrefix(err.Error(), "config: digest is sha256:") {
		t.Errorf("changed config: error %v", err)
	}
}

func TestParseCounts(t *testing.T) {
	manifest, config := dockerFiles(t)
	for old, test := range map[string]struct{ new, want string }{
		`"empty_layer": true`: {`"empty_layer": false`, "config: history: 3 entries with a layer, but the manifest has 2 layers"},
		`"type": "layers"`:    {`"type": "layerz"`, `config: rootfs.type is "layerz", not "layers"`},
		"\",\n      \"sha256:2222222222222222222222222222222222222222222222222222222222222222": {"", "config: rootfs.diff_ids: 1 entries, but the manifest has 2 layers"},
	} {
		changed := strings.Replace(string(config), old, test.new, 1)
		m := strings.NewReplacer(
			digest.FromBytes(config).String(), digest.FromString(changed).String(),
			`"size": `+strconv.Itoa(len(config)), `"size": `+strconv.Itoa(len(changed)),
		).Replace(string(manifest))
		if _, err := Parse([]byte(m), []byte(changed)); err == nil || err.Error() != test.want {
			t.Errorf("error %v, want %s", err, test.want)
		}
	}
}

// A config of which tools read different things is none: package json takes a name in any case, and
// merges what stands there twice.
func TestAmbiguousConfig(t *testing.T) {
	for text, want := range map[string]string{
		`{"config":{"User":"a"},"Config":{"User":"b"}}`:    `field "Config" twice`,
		`{"config":{"Env":["A=1"]},"config":{"User":"b"}}`: `field "config" twice`,
		`{"config":{"Env":["A=1"],"env":["A=2"]}}`:         `config: field "env" twice`,
		`{"config":{"env":["A=2"]}}`:                       `config: some tools read the field "env" as "Env"`,
		`{"oſ":"linux"}`:                                   `some tools read the field "oſ" as "os"`,
		`{"x":1,"X":2}`:                                    `field "X" twice`,
		`{"config":[]}`:                                    "config: unexpected array",
		`{"config":null,"x":{"y":1,"Y":2}}`:                "",
	} {
		var c Config
		if got := errorText(Unmarshal([]byte(text), &c)); got != want {
			t.Errorf("%s: error %q, want %q", text, got, want)
		}
	}
}

// Of many names, each is looked up.
func TestManyMembers(t *testing.T) {
	var b strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&b, ",%q:0", strconv.Itoa(i))
	}
	begun := time.Now()
	members, err := Members([]byte("{" + b.String()[1:] + "}"))
	if err != nil || len(members) != 200_000 {
		t.Errorf("%d members, %v", len(members), err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestParseIndex(t *testing.T) {
	entry := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:` + strings.Repeat("a", 64) + `"}`
	for text, want := range map[string]string{
		`{"schemaVersion":2,"manifests":[` + entry + `]}`:                                       "",
		`{"schemaVersion":2}`:                                                                   "",
		`{"schemaVersion":2,"mediaType":"` + dockerList + `"}`:                                  "",
		`{"schemaVersion":2,"mediaType":"text/plain"}`:                                          `index: "text/plain" is not the media type of an index`,
		`{"manifests":[]}`:                                                                      "index: schemaVersion is 0, not 2",
		`{"schemaVersion":2,"layers":[]}`:                                                       "index: it has the field config or layers, which belongs to a manifest",
		`{"schemaVersion":2,"manifests":[` + entry + `,{}]}`:                                    "index: manifests[1]: mediaType is missing",
		`{"schemaVersion":2,"manifests":[{"mediaType":"a"}]}`:                                   `index: manifests[0]: digest "": invalid checksum digest format`,
		strings.Replace(`{"schemaVersion":2,"manifests":[`+entry+`]}`, "sha256:", "blake3:", 1): "", // may be read by others
	} {
		_, err := ParseIndex([]byte(text))
		if got := errorText(err); got != want {
			t.Errorf("%s: error %q, want %q", text, got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestMediaType(t *testing.T) {
	for text, want := range map[string]string{
		`{"mediaType":"a/b"}`: "a/b",
		`{"manifests":[]}`:    v1.MediaTypeImageIndex,
		`{"layers":[]}`:       v1.MediaTypeImageManifest,
		`{}`:                  "",
		"\x1f\x8b":            "",
	} {
		if got := MediaType([]byte(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// The two ways to set variables differ where a name comes twice, or stands without a value.
func TestSetEnv(t *testing.T) {
	for _, test := range []struct{ env, vars, want, first string }{
		{"", "A=1", "A=1", "A=1"},
		{"A=1 B=2", "", "A=1 B=2", "A=1 B=2"},
		{"A=1 B=2 C=3", "B=x", "A=1 B=x C=3", "A=1 B=x C=3"},
		{"A=1 B=2 A=3", "A=x", "A=x B=2", "A=x B=2 A=3"},
		{"A=1", "B=x C=y B=z", "A=1 B=z C=y", "A=1 B=z C=y"},
		{"AB=1", "A=2", "AB=1 A=2", "AB=1 A=2"},
		{"A", "A=", "A=", "A A="},
	} {
		env := strings.Fields(test.env)
		kept := strings.Join(env, " ")
		got := strings.Join(SetEnv(env, strings.Fields(test.vars)), " ")
		first := strings.Join(SetFirstEnv(env, strings.Fields(test.vars)), " ")
		if got != test.want || first != test.first || strings.Join(env, " ") != kept {
			t.Errorf("%q with %q: %q, want %q; keeping %q, want %q; the base's is now %q", test.env, test.vars, got, test.want, first, test.first, env)
		}
	}
}

// The expected values are those of printf '%s %s' "$CHAIN" "$DIFFID" | sha256sum.
func TestChainIDs(t *testing.T) {
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	want := []digest.Digest{a, "sha256:51c0c8ace48498d6f5fee6b0592cc06f2da0f3cbe09c5a34a97dce85c3889676", "sha256:2fce7f8ce91bcf0a1428b36e1024639fdbd9469eea762dba98aa749631885106"}
	if got := ChainIDs([]digest.Digest{a, b, c}); !cmp.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := ChainIDs(nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestMatch(t *testing.T) {
	all := []string{
		"windows/amd64", "linux/amd64", "linux/amd64/v3", "linux/arm/v5", "linux/arm/v7", "linux/arm/v6",
		"linux/arm64/v8", "linux/riscv64/rva20", "linux/amd64", "unknown/unknown", "",
	}
	var manifests []v1.Descriptor
	for i, text := range all {
		d := v1.Descriptor{Size: int64(i)}
		if text != "" {
			p := platform(text)
			d.Platform = &p
		}
		manifests = append(manifests, d)
	}
	for want, index := range map[string]int{
		"linux/amd64":         1,
		"linux/x86_64":        1,
		"linux/amd64/v2":      1,
		"linux/amd64/v4":      2,
		"linux/arm":           4,
		"linux/arm/v6":        5,
		"linux/arm/v8":        4,
		"linux/arm64":         6,
		"linux/aarch64":       6,
		"linux/riscv64":       -1,
		"linux/riscv64/rva20": 7,
		"linux/s390x":         -1,
		"freebsd/amd64":       -1,
		"windows/amd64":       0,
	} {
		got, ok := Match(manifests, platform(want))
		if ok != (index >= 0) || ok && got.Size != int64(index) {
			t.Errorf("%s: %t, %s; want entry %d", want, ok, all[got.Size], index)
		}
	}
	old := v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.1"}
	if Runs(platform("windows/amd64"), old) || !Runs(old, platform("windows/amd64")) {
		t.Error("os.version is not compared, or where it is not asked for")
	}
}

func platform(text string) v1.Platform {
	parts := append(strings.Split(text, "/"), "")
	return v1.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

func TestFormatPlatform(t *testing.T) {
	for _, text := range []string{"linux/amd64", "linux/arm/v7"} {
		if got := FormatPlatform(platform(text)); got != text {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// What Parse takes, Extend and Marshal can write, and Parse takes again, as the same image.
func FuzzParse(f *testing.F) {
	manifest, config := dockerFiles(f)
	f.Add(manifest, config)
	f.Add([]byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}`), []byte(`{"rootfs":{"type":"layers"}}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		// The fuzzer cannot guess the digest of the config.
		var m v1.Manifest
		if json.Unmarshal(manifest, &m) == nil {
			old := m.Config
			m.Config = describe(old.MediaType, config)
			if repaired, err := json.Marshal(m); err == nil {
				manifest = repaired
			}
		}
		base, err := Parse(manifest, config)
		if err != nil {
			return
		}
		img := Extend(base, Extension{
			Layers: []Layer{layer("1")}, Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, CreatedBy: "x",
			Edit: ConfigEdit{Env: []string{"A=1"}},
		})
		c1, m1, desc, err := Marshal(img)
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := Parse(m1, c1)
		if err != nil {
			t.Fatalf("cannot be read again: %v\n%s\n%s", err, m1, c1)
		}
		c2, m2, _, err := Marshal(again)
		if err != nil || !bytes.Equal(c1, c2) || !bytes.Equal(m1, m2) || again.Descriptor.Digest != desc.Digest {
			t.Fatalf("not the same when read and written again: %v\n%s\n%s", err, c1, c2)
		}
	})
}
