package space

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"genoci/internal/checkout"
	"genoci/internal/image"
	"genoci/internal/imagetest"
	"genoci/internal/layout"
	"genoci/internal/snapshot"
)

// keeper is a driver that keeps some trees.
type keeper struct {
	snapshot.Driver
	kept []snapshot.Kept
}

func (k keeper) Kept(context.Context) ([]snapshot.Kept, error) { return k.kept, nil }

// looseImage makes a layout with an image that no tag names.
func looseImage(t *testing.T) (*layout.Layout, image.Image) {
	t.Helper()
	l, err := layout.Create(filepath.Join(t.TempDir(), "oci"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	img, err := imagetest.Write(l, imagetest.Linux)
	if err != nil {
		t.Fatal(err)
	}
	return l, img
}

// What is checked out stays, by whatever path its layout was named.
func TestCollectCheckedOut(t *testing.T) {
	l, img := looseImage(t)
	other := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(l.Dir(), other); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]int{l.Dir(): 0, other: 0, t.TempDir(): 2, "/nowhere": 2} {
		note, err := json.Marshal(checkout.Note{Tag: "web", Image: img.Descriptor.Digest, Layout: dir})
		if err != nil {
			t.Fatal(err)
		}
		drv := keeper{kept: []snapshot.Kept{{Name: "checkout:A", Note: note}}}
		c, err := Collect(t.Context(), Locations{Layout: l, Stores: []Store{{Driver: drv}}}, Keep{}, today)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Blobs) != want {
			t.Errorf("%s: %d blobs go, want %d", dir, len(c.Blobs), want)
		}
		c.Close()
	}
}

// Where nobody can say which images are checked out, none goes.
func TestCollectUnusable(t *testing.T) {
	l, _ := looseImage(t)
	for kept, ends := range map[string]bool{"checkout:A": true, "failed:web": false, "": false} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "kept", kept), 0o755); err != nil {
			t.Fatal(err)
		}
		c, err := Collect(t.Context(), Locations{Layout: l, Stores: []Store{{Dir: dir, Err: errors.New("driver test: broken")}}}, Keep{}, today)
		if err == nil {
			c.Close()
		}
		if ends != (err != nil) || ends && !strings.HasSuffix(err.Error(), dir+": images are checked out there, which have to stay: driver test: broken") {
			t.Errorf("%q is kept: %v", kept, err)
		}
	}
}
