package layout

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/imagetest"
	"genoci/test/strict"
)

// The test binary is its own helper where a test needs further processes: see helpers.
func TestMain(m *testing.M) {
	if name := os.Getenv("GENOCI_LAYOUT_HELPER"); name != "" {
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helper returns the command that runs one of helpers.
func helper(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "GENOCI_LAYOUT_HELPER="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// installed reports whether there is a program of the name; where GENOCI_REQUIRE names it, it must
// be.
func installed(t testing.TB, program string) bool {
	t.Helper()
	_, err := exec.LookPath(program)
	if err != nil && strict.Required(program) {
		t.Fatalf("%s is required: %v", program, err)
	}
	return err == nil
}

// others lets other programs judge the layout in dir, as far as they are installed: it must have
// the tags.
func others(t testing.TB, dir string, tags ...string) {
	t.Helper()
	if installed(t, "umoci") {
		out, err := exec.Command("umoci", "ls", "--layout", dir).CombinedOutput()
		if err != nil {
			t.Errorf("umoci ls: %v\n%s", err, out)
		}
		for _, tag := range tags {
			if !slices.Contains(strings.Fields(string(out)), tag) {
				t.Errorf("umoci ls does not show %s, only:\n%s", tag, out)
			}
		}
	}
	if installed(t, "skopeo") {
		for _, tag := range tags {
			if out, err := exec.Command("skopeo", "inspect", "oci:"+dir+":"+tag).CombinedOutput(); err != nil {
				t.Errorf("skopeo inspect %s: %v\n%s", tag, err, out)
			}
		}
	}
}

// tarOf returns a tar with one file.
func tarOf(name, content string) []byte { return imagetest.Tar(imagetest.File(name, content)) }

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// gunzip is a decompress func for Verify.
func gunzip(mediaType string, r io.Reader) (io.ReadCloser, error) {
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		return gzip.NewReader(r)
	case strings.HasSuffix(mediaType, "tar"):
		return io.NopCloser(r), nil
	}
	return nil, fmt.Errorf("%s: %w", mediaType, errors.ErrUnsupported)
}

// writeBlob stores data.
func writeBlob(l *Layout, mediaType string, data []byte) (v1.Descriptor, error) {
	w, err := l.NewBlob()
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return v1.Descriptor{}, err
	}
	return w.Commit(mediaType)
}

// writeImage stores an image of one layer with one file, whose content is text.
func writeImage(l *Layout, text string, p v1.Platform) (v1.Descriptor, error) {
	img, err := imagetest.Write(l, p, imagetest.Layer{
		Tar: tarOf("file", text), CreatedBy: "write " + text, MediaType: v1.MediaTypeImageLayerGzip,
		Compress: func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	})
	return img.Descriptor, err
}

// addImage stores an image as writeImage does, and gives it a tag.
func addImage(l *Layout, tag, text string) error {
	desc, err := writeImage(l, text, linux)
	if err != nil {
		return err
	}
	return l.Update(context.Background(), func(x *Index) error { x.Set(tag, desc); return nil })
}

var linux = imagetest.Linux

// create makes a layout with the tags, each an image of its own.
func create(t testing.TB, dir string, tags ...string) *Layout {
	t.Helper()
	l, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, tag := range tags {
		if err := addImage(l, tag, tag); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// problems returns what Verify reports, sorted, one a line.
func problems(t testing.TB, l *Layout) []string {
	t.Helper()
	var all []string
	_, _, err := l.Verify(t.Context(), gunzip, func(p Problem) {
		all = append(all, fmt.Sprintf("tag %q: %v", p.Tag, p.Err))
	})
	if err != nil {
		t.Error(err)
	}
	slices.Sort(all)
	return all
}

// sound checks that the layout has no problem, and has the tags, in any order.
func sound(t testing.TB, l *Layout, tags ...string) {
	t.Helper()
	for _, p := range problems(t, l) {
		t.Error(p)
	}
	have, err := l.Tags()
	if err != nil {
		t.Error(err)
	}
	var names []string
	for _, tag := range have {
		names = append(names, tag.Name)
	}
	slices.Sort(names)
	slices.Sort(tags)
	if !slices.Equal(names, tags) {
		t.Errorf("tags %q, want %q", names, tags)
	}
	for _, tag := range tags {
		if _, err := l.Image(tag, linux); err != nil {
			t.Error(err)
		}
	}
}

// collect collects the garbage of l, or with dry only says what it is.
func collect(ctx context.Context, l *Layout, dry bool) (*Collection, error) {
	c, err := l.Collect(ctx, nil)
	if err != nil {
		return &Collection{}, err
	}
	defer c.Close()
	if dry {
		return c, nil
	}
	return c, c.Remove(ctx)
}
