package layout

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestScratch(t *testing.T) {
	l, err := Create(filepath.Join(t.TempDir(), "oci"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const text = "a tar"
	diffID := digest.FromString(text)
	put := func(content string) {
		t.Helper()
		w, err := l.NewScratch()
		if err == nil {
			_, err = io.WriteString(w, content)
		}
		if err == nil {
			_, err = w.Commit(diffID)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Scratch(diffID); !errors.Is(err, ErrNotExist) || l.HasScratch(diffID, 5) {
		t.Errorf("there is one: %v", err)
	}
	put(text)
	if !l.HasScratch(diffID, int64(len(text))) || l.HasScratch(diffID, 4) || l.HasScratch("sha256:x", 5) {
		t.Error("HasScratch")
	}
	f, err := l.Scratch(diffID)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); string(got) != text || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	f.Close()

	// Before the machine was started: it is read once.
	old := time.Unix(1e9, 0)
	for _, content := range []string{text, "x tar"} {
		put(content)
		path, err := l.scratchPath(diffID)
		if err == nil {
			err = os.Chtimes(path, old, old)
		}
		if err != nil {
			t.Fatal(err)
		}
		if has := l.HasScratch(diffID, 5); has != (content == text) {
			t.Errorf("%q: HasScratch says %v", content, has)
		}
		st, err := os.Stat(path)
		if content == text && (err != nil || st.ModTime().Equal(old)) || content != text && !os.IsNotExist(err) {
			t.Errorf("%q: %v", content, err)
		}
	}

	// GC takes it for a temporary file, one that is being written excepted. Dropped, nothing is
	// left.
	put(text)
	w, err := l.NewScratch()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := collect(t.Context(), l, false); len(got.Temps) != 1 || got.Bytes() != int64(len(text)) || err != nil {
		t.Errorf("gc: %+v, %v", got, err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if _, err := w.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if _, err := w.Commit(diffID); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
	left, err := os.ReadDir(l.path("blobs"))
	if err != nil || len(left) != 1 || strings.HasPrefix(left[0].Name(), ".") {
		t.Errorf("left: %v, %v", left, err)
	}
}
