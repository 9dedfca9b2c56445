package layout

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParseDated(t *testing.T) {
	for tag, want := range map[string]Dated{
		"web-2026-11-26_1":              {"web", "2026-11-26", 1},
		"a-b_c-2026-11-26_12":           {"a-b_c", "2026-11-26", 12},
		"web-2026-11-26_1-2027-01-01_2": {"web-2026-11-26_1", "2027-01-01", 2},
	} {
		if got, ok := ParseDated(tag); !ok || got != want || got.String() != tag {
			t.Errorf("%s: got %+v, %v", tag, got, ok)
		}
	}
	for _, tag := range []string{
		"", "web", "_1", "2026-11-26_1", "-2026-11-26_1", "web-2026-11-26", "web-2026-11-26_", "web-2026-11-26_01", "web-2026-11-26_+1",
		"web-2026-11-26_-1", "web-2026-13-26_1", "web.2026-11-26_1", "web-2026-11-26_1x",
	} {
		if got, ok := ParseDated(tag); ok {
			t.Errorf("%s: got %+v", tag, got)
		}
	}
}

func TestNextDated(t *testing.T) {
	day := time.Date(2026, 11, 26, 23, 0, 0, 0, time.UTC)
	var tags []Tag
	for _, name := range []string{"web", "web-2026-11-26_2", "web-2026-11-26_10", "web-2026-11-25_30", "api-2026-11-26_x"} {
		tags = append(tags, Tag{Name: name})
	}
	next := NextDated(tags, day)
	for name, want := range map[string]string{"web": "web-2026-11-26_11", "api": "api-2026-11-26_1"} {
		if got := next(name).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestBuilds(t *testing.T) {
	var tags []Tag
	for i, name := range []string{
		"web", "web-2026-11-26_2", "web-2026-11-26_10", "api-2026-11-26_3", "web-2027-01-01_1", "web-2025-12-31_9", "web-x-2026-11-26_1", "web-2026-11-26_2",
	} {
		tags = append(tags, Tag{Name: name, Descriptor: v1.Descriptor{Size: int64(i)}})
	}
	var got []string
	for _, b := range Builds(tags, "web") {
		got = append(got, fmt.Sprint(b, " ", b.Descriptor.Size))
	}
	want := []string{"web-2027-01-01_1 4", "web-2026-11-26_10 2", "web-2026-11-26_2 1", "web-2025-12-31_9 5"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := Builds(tags, "none"); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}
