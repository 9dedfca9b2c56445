package oracle

import (
	"context"
	"io"
	"testing"

	containerd "github.com/containerd/containerd/v2/pkg/archive"
	moby "github.com/moby/go-archive"
	podman "go.podman.io/storage/pkg/archive"

	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

// applier unpacks a layer's uncompressed tar on top of what is in dir.
type applier struct {
	name  string
	apply func(dir string, tar io.Reader) error
}

func appliers() []applier {
	ctx := context.Background()
	return []applier{
		{"genoci", func(dir string, tar io.Reader) error {
			return layer.Unpack(ctx, dir, tar, layer.UnpackOptions{KeepOwner: true})
		}},
		{"containerd", func(dir string, tar io.Reader) error {
			_, err := containerd.Apply(ctx, dir, tar)
			return err
		}},
		{"docker", func(dir string, tar io.Reader) error {
			_, err := moby.UnpackLayer(dir, tar, nil)
			return err
		}},
		{"podman", func(dir string, tar io.Reader) error {
			_, err := podman.UnpackLayer(dir, tar, nil)
			return err
		}},
	}
}

// Every tool unpacks the same tree, down to the modification times.
func TestTrees(t *testing.T) {
	strict.NeedRoot(t)
	eachImage(t, func(t *testing.T, j judged, tag string, img image.Image) {
		want, known := j.want[tag]
		for _, a := range appliers() {
			dir := t.TempDir()
			err := eachLayer(t, j.dir, img, func(tar io.Reader) error { return a.apply(dir, tar) })
			if err != nil {
				t.Errorf("%s: %v", a.name, err)
				continue
			}
			got := treetest.Dump(t, dir, treetest.MTimes)
			if !known { // genoci comes first: the others are held against it
				want, known = got, true
			}
			if diff := treetest.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", a.name, diff)
			}
		}
	})
}
