package stepkey

import (
	"errors"
	"strings"
	"testing"
)

// Each code has a kind, and words.
func TestCodes(t *testing.T) {
	seen := map[string]Code{}
	for code := range Code(len(kinds)) {
		r := Reason{Code: code, Name: "name", Path: "path", Err: errors.New("error"), Changes: []Change{{"field", "old", "new"}}}
		text := r.String()
		if r.Kind() == "" || text == "" || strings.HasPrefix(text, "reason ") {
			t.Errorf("code %d: kind %q, text %q", code, r.Kind(), text)
		}
		seen[text] = code
	}
	if PackagesMoved != Code(len(kinds)-1) {
		t.Error("kinds does not end with the last code")
	}
	if len(seen) != len(kinds)-5 { // what is replaced shares its words, and so do packages with files and scripts
		t.Errorf("%d codes have %d texts", len(kinds), len(seen))
	}
}

// What is stored of archives and blobs is read as it was.
func TestStored(t *testing.T) {
	for text, want := range map[string]Archive{
		"taken as it is":     {Fate: AsIs},
		"rewritten: x: odd":  {Fate: Rewritten, Unsound: "x: odd"},
		"":                   {},
		"another word of it": {},
	} {
		got := StoredArchive(text)
		if got != want || want.Fate != NoArchive && got.Stored() != text {
			t.Errorf("%q: %+v, stored again %q", text, got, got.Stored())
		}
	}
	for _, b := range []Blob{{"gzip", true}, {"gzip", false}} {
		if got := parseBlob(b.Name()); got != b {
			t.Errorf("%+v: %+v", b, got)
		}
	}
}
