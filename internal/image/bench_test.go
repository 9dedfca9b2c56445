package image

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// BenchmarkMarshal writes an image of 20 layers.
func BenchmarkMarshal(b *testing.B) {
	img := Image{Config: Config{Image: v1.Image{Platform: v1.Platform{Architecture: "amd64", OS: "linux"}}}}
	img.Config.Config.Env = []string{"PATH=/usr/bin:/bin"}
	for i := range 20 {
		id := digest.FromString(fmt.Sprint(i))
		img.Manifest.Layers = append(img.Manifest.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: id, Size: 1000})
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, id)
		img.Config.History = append(img.Config.History, v1.History{CreatedBy: "run: echo x > /file", Comment: "genoci"})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := Marshal(img); err != nil {
			b.Fatal(err)
		}
	}
}
