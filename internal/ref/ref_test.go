package ref

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

const sum = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Ref
		as   string // what String makes of it; "": the text
	}{
		{text: "debian", want: Ref{Tag: "debian"}},
		{text: "debian:12", want: Ref{Tag: "debian:12"}},
		{text: "a b", want: Ref{Tag: "a b"}},
		{text: "ocix:a:b", want: Ref{Tag: "ocix:a:b"}},
		{text: "oci", want: Ref{Tag: "oci"}},
		{text: "oci:dir", want: Ref{Transport: OCI, Path: "dir"}},
		{text: "oci:../a/dir:tag", want: Ref{Transport: OCI, Path: "../a/dir", Tag: "tag"}},
		{text: "oci:dir:busybox:1.36", want: Ref{Transport: OCI, Path: "dir", Tag: "busybox:1.36"}},
		{text: "oci:dir:t" + sum, want: Ref{Transport: OCI, Path: "dir", Tag: "t", Digest: digest.Digest(sum[1:])}},
		{text: "oci:dir" + sum, want: Ref{Transport: OCI, Path: "dir", Digest: digest.Digest(sum[1:])}},
		{text: "oci:a@b:t", want: Ref{Transport: OCI, Path: "a@b", Tag: "t"}},
		{text: "oci-archive:f.tar:v1", want: Ref{Transport: OCIArchive, Path: "f.tar", Tag: "v1"}},
		{text: "docker-archive:f.tar", want: Ref{Transport: DockerArchive, Path: "f.tar"}},
		{
			text: "docker-archive:f.tar:app:v1", as: "docker-archive:f.tar:docker.io/library/app:v1",
			want: Ref{Transport: DockerArchive, Path: "f.tar", Name: "docker.io/library/app", Tag: "v1"},
		},
		{text: "dir:/a:b", want: Ref{Transport: Dir, Path: "/a:b"}},
		{
			text: "docker://debian", as: "docker://docker.io/library/debian",
			want: Ref{Transport: Docker, Name: "docker.io/library/debian"},
		},
		{
			text: "docker://localhost:5000/a/b:t" + sum,
			want: Ref{Transport: Docker, Name: "localhost:5000/a/b", Tag: "t", Digest: digest.Digest(sum[1:])},
		},
		{
			text: "docker-daemon:app:v1", as: "docker-daemon:docker.io/library/app:v1",
			want: Ref{Transport: DockerDaemon, Name: "docker.io/library/app", Tag: "v1"},
		},
		{
			text: "containers-storage:quay.io/app",
			want: Ref{Transport: ContainersStorage, Name: "quay.io/app"},
		},
	} {
		got, err := Parse(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.text, got, err, tt.want)
			continue
		}
		if tt.as == "" {
			tt.as = tt.text
		}
		if s := got.String(); s != tt.as {
			t.Errorf("Parse(%q).String() = %q, want %q", tt.text, s, tt.as)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                     `invalid image "": the name must be one line of text`,
		"a\nb":                 `invalid image "a\nb": the name must be one line of text`,
		"oci:":                 `invalid image "oci:": a part is missing: expected oci:DIR[:TAG][@DIGEST]`,
		"oci::t":               `a part is missing`,
		"oci:d:":               `a part is missing`,
		"oci://h/x:t":          `the folder must not begin with "//"`,
		"oci:d@sha256:12":      `digest sha256:12: invalid checksum digest length: expected oci:DIR[:TAG][@DIGEST]`,
		"docker:debian":        `a part is missing: expected docker://HOST/REPOSITORY[:TAG][@DIGEST]`,
		"docker://Debian":      `the name of a repository must be lowercase: expected docker://`,
		"docker-archive:f:A B": `invalid name of a repository`,
		"dir:":                 `a part is missing: expected dir:DIR`,
		"https://host/x":       `invalid image "https://host/x": unknown transport "https"`,
	} {
		_, err := Parse(text)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %s", text, err, want)
		}
	}
}

// What is printed is parsed to the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"oci:d:t" + sum, "docker://a/b:c", "docker-archive:f:a:b", "docker-daemon:" + sum[1:], "dir:x", "oci-archive:f", "x:y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Errorf("%q is %+v, printed %q, which is %+v, %v", s, r, r.String(), again, err)
		}
	})
}
