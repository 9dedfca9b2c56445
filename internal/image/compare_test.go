package image

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestCompare(t *testing.T) {
	platform := v1.Platform{OS: "linux", Architecture: "amd64"}
	base := Extend(Image{}, Extension{
		Platform: platform, Author: "A", Created: time.Unix(1, 0),
		Annotations: map[string]string{"a": "1", "b": "2"}, BaseName: "x", BaseDigest: "sha256:1",
		Edit: ConfigEdit{
			Entrypoint: []string{"/a", "b"}, Cmd: []string{"c"}, Env: []string{"PATH=/bin", "A=1", "B="}, User: "1", WorkingDir: "/", StopSignal: "9",
			Labels: map[string]string{"l": "1", "m": "1"}, Volumes: []string{"/v"}, Expose: []string{"80"},
			Healthcheck: &Healthcheck{Test: []string{"CMD", "x"}},
		},
	})
	base.Config.UnknownConfig = map[string]json.RawMessage{"Shell": json.RawMessage(`["sh"]`)}

	if got := Compare(base, base); len(got) > 0 {
		t.Errorf("with itself: %v", got)
	}
	same := Extend(base, Extension{
		Created: time.Unix(2, 0), BaseName: "y", BaseDigest: "sha256:2", CreatedBy: "somebody",
		Edit: ConfigEdit{Env: []string{"B="}},
	})
	if got := Compare(base, same); len(got) > 0 {
		t.Errorf("history and origin are not left out: %v", got)
	}

	other := Extend(base, Extension{
		Author: "B", Annotations: map[string]string{"a": "3", "c": ""},
		Edit: ConfigEdit{
			Entrypoint: []string{"/a b"}, Env: []string{"A=2", "C=3"}, User: "2", WorkingDir: "/w", StopSignal: "15",
			Labels: map[string]string{"l": "2", "n": ""}, Volumes: []string{"/w"}, Expose: []string{"81/udp"},
			Healthcheck: &Healthcheck{Test: []string{"NONE"}},
		},
	})
	other.Config.Architecture = "arm64"
	other.Config.UnknownConfig, other.Config.Unknown = nil, map[string]json.RawMessage{"moby": json.RawMessage("1")}
	want := []Change{
		{"Shell", "", `["sh"]`, nil},
		{"annotations", "a", "1", "3"},
		{"annotations", "c", nil, ""},
		{"author", "", "A", "B"},
		{"cmd", "", []string{"c"}, nil},
		{"entrypoint", "", []string{"/a", "b"}, []string{"/a b"}},
		{"environment", "A", "1", "2"},
		{"environment", "C", nil, "3"},
		{"expose", "81/udp", nil, ""},
		{"healthcheck", "", `{"Test":["CMD","x"]}`, `{"Test":["NONE"]}`},
		{"labels", "l", "1", "2"},
		{"labels", "n", nil, ""},
		{"moby", "", nil, "1"},
		{"platform", "", "linux/amd64", "linux/arm64"},
		{"stop_signal", "", "9", "15"},
		{"user", "", "1", "2"},
		{"volumes", "/w", nil, ""},
		{"working_dir", "", "/", "/w"},
	}
	if diff := cmp.Diff(want, Compare(base, other)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for i := range want {
		want[i].Old, want[i].New = want[i].New, want[i].Old
	}
	if diff := cmp.Diff(want, Compare(other, base)); diff != "" {
		t.Errorf("the other way round, -want +got:\n%s", diff)
	}
}
