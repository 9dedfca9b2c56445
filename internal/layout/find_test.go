package layout

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// Names of folders and of tags may hold colons, as in what "skopeo copy ... oci:img:busybox:0.1.1"
// writes.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	abs := func(name string) string { return filepath.Join(dir, name) }
	img := create(t, abs("img"), "busybox:0.1.1", "plain")
	create(t, abs("a:b"), "v1", "c:d")
	of := func(tag string) string {
		i, err := img.Image(tag, linux)
		if err != nil {
			t.Fatal(err)
		}
		return i.Descriptor.Digest.String()
	}
	for ref, want := range map[string]string{
		"img:busybox:0.1.1":                     of("busybox:0.1.1"),
		"img:plain":                             of("plain"),
		"img@" + of("plain"):                    of("plain"),
		"img:plain@" + of("plain"):              of("plain"),
		"img:busybox:0.1.1@" + of("plain"):      "is " + of("busybox:0.1.1") + ", not " + of("plain"),
		"img:none":                              `tag "none" does not exist`,
		"img@sha256:" + strings.Repeat("0", 64): "does not exist",
		"img@sha256:12":                         "digest sha256:12: ",
		"a:b:v1":                                "",
		"a:b:c:d":                               "",
		"a:x:v1":                                "/a: does not exist",
		"img":                                   `"img" is not an image of a layout`,
		":x":                                    `":x" is not an image of a layout`,
		"img:":                                  `"img:" is not an image of a layout`,
		"":                                      `"" is not an image of a layout`,
	} {
		l, i, err := Find(ref, abs, linux)
		switch {
		case err != nil:
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", ref, err, want)
			}
			if strings.Contains(want, "does not exist") && !errors.Is(err, ErrNotExist) {
				t.Errorf("%s: error %v is not ErrNotExist", ref, err)
			}
		case want != "" && i.Descriptor.Digest.String() != want:
			t.Errorf("%s: %s, want %s", ref, i.Descriptor.Digest, want)
		default:
			l.Close()
		}
	}
}
