package layout

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// BenchmarkParseIndex reads an index.json with 1,000 tags.
func BenchmarkParseIndex(b *testing.B) {
	x, err := parseIndex(`{"schemaVersion":2,"manifests":[]}`)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		x.Set(fmt.Sprint("tag", i), v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: int64(i)})
	}
	data, err := x.encode()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	text := string(data)
	for b.Loop() {
		if _, err := parseIndex(text); err != nil {
			b.Fatal(err)
		}
	}
}
