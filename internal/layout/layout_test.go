package layout

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"genoci/internal/durable"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func TestCreateAndOpen(t *testing.T) {
	const complete = `{"imageLayoutVersion":"1.0.0"}`
	const index = `{"schemaVersion":2,"manifests":[]}`
	for _, test := range []struct {
		name         string
		files        map[string]string // nil: the folder is missing
		open, create string            // errors, without the folder; "": none
	}{
		{"missing", nil, "does not exist", ""},
		{"empty", map[string]string{}, "does not exist", ""},
		{"layout", map[string]string{"oci-layout": complete, "index.json": index}, "", ""},
		{"killed create", map[string]string{"index.json": index, ".genoci-1": ""}, "does not exist", ""},
		{
			"something else", map[string]string{"a.txt": ""},
			"not an OCI layout: the folder has no file oci-layout, but a.txt",
			"not an OCI layout: the folder has no file oci-layout, but a.txt",
		},
		{
			"newer", map[string]string{"oci-layout": `{"imageLayoutVersion":"1.1.0"}`},
			`oci-layout: version "1.1.0" of the layout format is not supported, only 1.0.0`,
			`oci-layout: version "1.1.0" of the layout format is not supported, only 1.0.0`,
		},
		{
			"no JSON", map[string]string{"oci-layout": ""},
			"oci-layout: unexpected end of JSON input",
			"oci-layout: unexpected end of JSON input",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "deep", "oci")
			if test.files != nil {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, step := range []struct {
				name string
				call func(string) (*Layout, error)
				want string
			}{{"Open", Open, test.open}, {"Create", Create, test.create}} {
				l, err := step.call(dir)
				switch {
				case step.want == "" && err != nil:
					t.Errorf("%s: %v", step.name, err)
				case step.want == "":
					sound(t, l)
				case err == nil || err.Error() != "layout "+dir+": "+step.want:
					t.Errorf("%s: error %v, want %s", step.name, err, step.want)
				}
				if wantMissing := step.want == "does not exist"; errors.Is(err, ErrNotExist) != wantMissing {
					t.Errorf("%s: error %v, ErrNotExist %t", step.name, err, !wantMissing)
				}
			}
		})
	}
}

// Between the two looks that Open takes, another process may complete the layout.
// A foreign layout is not waited for, and does not fill the memory.
func TestFilesThatAreNone(t *testing.T) {
	for name, read := range map[string]func(l *Layout) error{
		"oci-layout": func(l *Layout) error { _, err := Open(l.Dir()); return err },
		"index.json": func(l *Layout) error { _, err := l.Tags(); return err },
	} {
		for what, make := range map[string]func(path string) error{
			"not a regular file": func(path string) error { return unix.Mkfifo(path, 0o644) },
			"file too large":     func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 1<<40)) },
		} {
			l := create(t, filepath.Join(t.TempDir(), "oci"))
			if err := errors.Join(os.Remove(l.path(name)), make(l.path(name))); err != nil {
				t.Fatal(err)
			}
			if err := read(l); err == nil || !strings.Contains(err.Error(), name+": "+what) {
				t.Errorf("%s: error %v, want %s", name, err, what)
			}
		}
	}
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	if err := errors.Join(os.Remove(l.path("index.json")), os.Symlink("/dev/zero", l.path("index.json"))); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Tags(); err == nil || !strings.Contains(err.Error(), "index.json: not a regular file") {
		t.Errorf("device: error %v", err)
	}
}

func TestOpenWhileOthersCreate(t *testing.T) {
	if err := checkNew(create(t, filepath.Join(t.TempDir(), "oci")).Dir()); err != nil {
		t.Error(err)
	}
}

func TestModesDoNotDependOnUmask(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	l := create(t, filepath.Join(t.TempDir(), "oci"), "tag")
	files := []string{"oci-layout", "index.json"}
	for desc, err := range l.Blobs() {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, filepath.Join("blobs/sha256", desc.Digest.Encoded()))
	}
	if len(files) != 5 {
		t.Errorf("files %q, want 5", files)
	}
	for _, name := range files {
		st, err := os.Stat(l.path(name))
		if err != nil || st.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestUseHoldsOffGC(t *testing.T) {
	ctx := t.Context()
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	other, err := Open(l.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writeBlob(l, "", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // Use may be called again
		if err := l.Use(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, gc := range []*Layout{l, other} {
		if _, err := collect(ctx, gc, false); !errors.Is(err, ErrInUse) {
			t.Errorf("GC of a layout in use: error %v", err)
		}
	}
	if err := other.Use(ctx); err != nil { // shared
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), l.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	if err := l.Use(ctx); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Use after Close: error %v", err)
	}
	if got, err := collect(ctx, l, false); err != nil || len(got.Blobs) != 1 {
		t.Errorf("GC after Close: %v, %v", got, err)
	}
}

func TestLocksEndWithContext(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()

	gc, err := durable.LockPath(t.Context(), l.path(v1.ImageBlobsDir), durable.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Use(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("Use while GC runs: error %v", err)
	}
	used := make(chan error)
	go func() { used <- l.Use(t.Context()) }()
	durable.Unlock(gc)
	if err := <-used; err != nil {
		t.Errorf("Use after GC: %v", err)
	}

	index, err := durable.LockPath(t.Context(), l.Dir(), durable.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer durable.Unlock(index)
	err = l.Update(canceled, func(*Index) error { t.Error("edit was called without the lock"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update of a locked layout: error %v", err)
	}
}

func TestImageRefs(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"), "debian", "debian-2026-01-01_1", "alpine", "sha256")
	img, err := l.Image("debian", v1.Platform{})
	if err != nil {
		t.Fatal(err)
	}
	d := img.Descriptor.Digest.String()
	for _, ref := range []string{d, d[:7+6], d[:7+20]} {
		got, err := l.Image(ref, v1.Platform{})
		if err != nil || !cmp.Equal(got, img) {
			t.Errorf("%s: %v, %v, want %v", ref, got.Descriptor, err, img.Descriptor)
		}
	}
	absent := digest.FromString("absent").String()
	for ref, want := range map[string]string{
		"debain":     `tag "debain" does not exist in DIR; did you mean "debian"?`,
		"Alpine":     `tag "Alpine" does not exist in DIR; did you mean "alpine"?`,
		"fedora":     `tag "fedora" does not exist in DIR`,
		"":           `tag "" does not exist in DIR`,
		d[:7+5]:      `tag "` + d[:7+5] + `" does not exist in DIR`,
		absent:       `digest ` + absent + ` does not exist in DIR`,
		absent[:20]:  `digest ` + absent[:20] + ` does not exist in DIR`,
		"sha256:../": `tag "sha256:../" does not exist in DIR`,
	} {
		_, err := l.Image(ref, v1.Platform{})
		if err == nil || strings.ReplaceAll(err.Error(), l.Dir(), "DIR") != want || !errors.Is(err, ErrNotExist) {
			t.Errorf("%q: error %v, want %s", ref, err, want)
		}
	}
	// A second blob whose digest begins in the same way.
	twin := d[:len(d)-1] + string("01"[d[len(d)-1]&1])
	if err := os.WriteFile(l.path("blobs", "sha256", twin[7:]), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Image(d[:20], v1.Platform{}); err == nil || !strings.Contains(err.Error(), "not unique in") {
		t.Errorf("ambiguous digest: error %v", err)
	}
}

// A few blobs that name each other many times are looked into once each: there are 100 to the power
// of 6 ways through them.
func TestImageOfManyWays(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"))
	desc, err := writeBlob(l, v1.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	for range 7 {
		entry, err := json.Marshal(desc)
		if err != nil {
			t.Fatal(err)
		}
		text := `{"schemaVersion":2,"manifests":[` + strings.TrimSuffix(strings.Repeat(string(entry)+",", 100), ",") + `]}`
		if desc, err = writeBlob(l, v1.MediaTypeImageIndex, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Update(t.Context(), func(x *Index) error { x.Set("many", desc); return nil }); err != nil {
		t.Fatal(err)
	}
	_, err = l.Image("many", linux)
	if want := "image many: image does not exist in the index"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "abd", 1}, {"abc", "xabc", 1}, {"ca", "abc", 3},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
		if got := distance(test.b, test.a); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

func TestManyGoroutines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "oci")
	var tags []string
	var wg sync.WaitGroup
	for _, tag := range strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z") {
		tags = append(tags, tag, "again-"+tag)
		wg.Go(func() {
			l, err := Create(dir) // all make the layout at once
			if err == nil {
				err = errors.Join(addImage(l, tag, tag), addImage(l, "again-"+tag, tag), l.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l := create(t, dir)
	sound(t, l, tags...)
	others(t, dir, "a", "again-z")
}
