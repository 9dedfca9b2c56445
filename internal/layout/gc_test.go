package layout

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/beneath"
)

func TestGC(t *testing.T) {
	ctx := t.Context()
	l := create(t, filepath.Join(t.TempDir(), "oci"), "kept", "removed")
	if err := l.Update(ctx, func(x *Index) error { x.Remove("removed"); return nil }); err != nil {
		t.Fatal(err)
	}
	foreign := l.path("blobs", "sha256", "README") // no blob: left alone
	if err := os.WriteFile(foreign, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	would, err := collect(ctx, l, true)
	if err != nil || len(would.Blobs) != 3 { // layer, config, manifest
		t.Fatalf("%v, %v", would, err)
	}
	var size int64
	for _, blob := range would.Blobs {
		size += blob.Size
		if !l.Has(blob) {
			t.Errorf("a dry run removed %v", blob)
		}
	}
	did, err := collect(ctx, l, false)
	if err != nil || len(did.Blobs) != 3 || did.Bytes() != size || would.Bytes() != size {
		t.Errorf("%v, %v; the dry run said %v", did, err, would)
	}
	for _, blob := range did.Blobs {
		if l.Has(blob) {
			t.Errorf("%v is still there", blob)
		}
	}
	sound(t, l, "kept")
	if again, err := collect(ctx, l, false); err != nil || len(again.Blobs) != 0 {
		t.Errorf("a second run: %v, %v", again, err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
}

func TestGCOfTemporaryFiles(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	live, err := l.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	dead := []string{l.path("blobs", ".genoci-dead"), l.path(".genoci-dead")}
	for _, name := range dead {
		if err := os.WriteFile(name, []byte("half a bl"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := collect(t.Context(), l, false)
	if err != nil || len(got.Temps) != 2 || got.Bytes() != 18 {
		t.Errorf("%+v, %v, want 2 of 18 bytes", got, err)
	}
	for _, name := range dead {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if _, err := live.Write([]byte("whole blob")); err != nil {
		t.Fatal(err)
	}
	if desc, err := live.Commit(""); err != nil || !l.Has(desc) {
		t.Errorf("the blob that was being written: %v, %v", desc, err)
	}
}

// A manifest that cannot be understood may name anything: nothing is removed.
func TestGCRemovesNothingOnError(t *testing.T) {
	for name, spoil := range map[string]func(l *Layout) error{
		"index.json": func(l *Layout) error { return os.WriteFile(l.path("index.json"), []byte("{"), 0o644) },
		"manifest": func(l *Layout) error {
			img, err := l.Image("tag", linux)
			if err != nil {
				return err
			}
			path, err := l.blobPath(img.Descriptor.Digest)
			if err != nil {
				return err
			}
			return os.Truncate(path, img.Descriptor.Size-1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := create(t, filepath.Join(t.TempDir(), "oci"), "tag")
			garbage, err := writeBlob(l, "", []byte("garbage"))
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(l); err != nil {
				t.Fatal(err)
			}
			if got, err := collect(t.Context(), l, false); err == nil || len(got.Blobs) > 0 || len(got.Temps) > 0 {
				t.Errorf("%v, %v", got, err)
			}
			if !l.Has(garbage) {
				t.Error("a blob was removed")
			}
		})
	}
}

// Tags that are dropped go before anything else, and with them what only they reached.
func TestCollectDropsTags(t *testing.T) {
	ctx := t.Context()
	l := create(t, filepath.Join(t.TempDir(), "oci"), "kept", "old", "older", "used")
	used, err := l.Image("used", linux)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Collect(ctx, func(tags []Tag) (Choice, error) {
		if len(tags) != 4 {
			t.Errorf("tags %v", tags)
		}
		keep := []digest.Digest{used.Descriptor.Digest, digest.FromString("gone")}
		return Choice{Drop: []string{"old", "older", "used"}, Keep: keep}, nil
	})
	if err != nil || len(c.Tags) != 3 || len(c.Blobs) != 6 {
		t.Fatalf("%+v, %v, want 3 tags and 6 blobs", c, err)
	}
	defer c.Close()
	if tags, err := l.Tags(); err != nil || len(tags) != 4 {
		t.Errorf("before Remove: %v, %v", tags, err)
	}
	if err := c.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	c.Close()
	sound(t, l, "kept")
	if _, err := l.Image(used.Descriptor.Digest.String(), linux); err != nil {
		t.Errorf("what is to be kept: %v", err)
	}
	if again, err := collect(ctx, l, true); err != nil || len(again.Blobs) != 3 {
		t.Errorf("left: %v, %v", again.Blobs, err)
	}
}

// While a collection is under way nobody comes to use the layout or changes tags.
func TestCollectExcludes(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"), "tag")
	c, err := l.Collect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Use(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Use: %v", err)
	}
	if err := l.Update(ctx, func(*Index) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update: %v", err)
	}
	c.Close()
	if err := l.Use(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHoldings(t *testing.T) {
	ctx := t.Context()
	l := create(t, filepath.Join(t.TempDir(), "oci"), "a", "b")
	if _, err := writeBlob(l, "", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	img, err := l.Image("b", linux)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Update(ctx, func(x *Index) error { x.Set("also-b", img.Descriptor); return nil }); err != nil {
		t.Fatal(err)
	}
	all, err := l.Holdings(ctx)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	for i, tag := range []string{"a", "b", "also-b"} {
		h := all[i]
		if h.Tag != tag || len(h.Blobs) != 3 || len(h.Stacks) != 1 || len(h.Stacks[0]) != 1 {
			t.Errorf("%+v", h)
		}
	}
	b := all[1]
	if b.Stacks[0][0] != img.Config.RootFS.DiffIDs[0] || b.Blobs[0].Digest != img.Descriptor.Digest || b.Blobs[0].Size != img.Descriptor.Size {
		t.Errorf("%+v is not what the image holds: %+v", b, img)
	}

	path, err := l.blobPath(img.Descriptor.Digest)
	if err == nil {
		err = os.Truncate(path, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	if all, err := l.Holdings(ctx); err == nil || len(all) != 3 || len(all[0].Blobs) != 3 {
		t.Errorf("a manifest that cannot be read: %v, %v", all, err)
	}
}

// Two entries say different things of one blob: what the truer one leads to is kept.
func TestGCFollowsAllClaims(t *testing.T) {
	ctx := t.Context()
	l := create(t, filepath.Join(t.TempDir(), "oci"), "tag")
	img, err := l.Image("tag", linux)
	if err != nil {
		t.Fatal(err)
	}
	err = l.Update(ctx, func(x *Index) error {
		x.Remove("tag")
		x.Set("opaque", v1.Descriptor{MediaType: "application/octet-stream", Digest: img.Descriptor.Digest, Size: img.Descriptor.Size})
		x.Set("absent", v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 1})
		x.Set("tag", img.Descriptor)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := collect(ctx, l, false); err != nil || len(got.Blobs) > 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestGCEndsWithContext(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"), "tag")
	garbage, err := writeBlob(l, "", []byte("garbage"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := collect(ctx, l, false); !errors.Is(err, context.Canceled) || !l.Has(garbage) {
		t.Errorf("error %v", err)
	}
}

// A folder of blobs that is a symlink, or behind one, may be somebody else's: nothing is removed,
// no tag either.
func TestGCFollowsNoLink(t *testing.T) {
	for _, folder := range []string{"blobs", "blobs/sha256", "blobs/sha512"} {
		t.Run(folder, func(t *testing.T) {
			l := create(t, filepath.Join(t.TempDir(), "oci"), "tag")
			other := filepath.Join(t.TempDir(), "other")
			if err := os.Rename(l.path(folder), other); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			theirs := filepath.Join(other, digest.FromString("theirs").Encoded())
			if err := os.MkdirAll(other, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(theirs, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(other, l.path(folder)); err != nil {
				t.Fatal(err)
			}
			c, err := l.Collect(t.Context(), func([]Tag) (Choice, error) { return Choice{Drop: []string{"tag"}}, nil })
			if !errors.Is(err, beneath.ErrElsewhere) {
				t.Errorf("Collect: %v, %v", c, err)
			}
			if _, err := os.Stat(theirs); err != nil {
				t.Error(err)
			}
		})
	}
}

// The folder is swapped after it was looked at: what is removed is looked for in the layout's own
// folder only.
func TestGCFollowsNoLinkThatCameLate(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"), "tag")
	garbage, err := writeBlob(l, "", []byte("garbage"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Collect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.Rename(l.path("blobs", "sha256"), other), os.Symlink(other, l.path("blobs", "sha256"))); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context()); !errors.Is(err, beneath.ErrElsewhere) {
		t.Errorf("Remove: %v", err)
	}
	if _, err := os.Stat(filepath.Join(other, garbage.Digest.Encoded())); err != nil {
		t.Error(err)
	}
}
