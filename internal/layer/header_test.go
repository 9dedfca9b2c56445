package layer

import (
	"archive/tar"
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// Headers that are made without archive/tar are the same bytes.
func TestHeaderBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	pick := func(numbers ...int64) int64 { return numbers[r.IntN(len(numbers))] }
	number := func() int64 { return pick(0, 1, 7, 8, 33, 1000, 1<<21-1, 1<<21, 1<<31-1) }
	name := func() string {
		return []string{"a", "a/b", "usr/lib/x.so", "é", "\x7f", "a/" + strings.Repeat("n", r.IntN(110)), strings.Repeat("d/", r.IntN(60)) + "f"}[r.IntN(7)]
	}
	plain := 0
	for range 20000 {
		e := Entry{
			Path:  name(),
			Type:  []Type{TypeFile, TypeFile, TypeDir, TypeSymlink, TypeChar, TypeBlock, TypeFIFO, TypeWhiteout}[r.IntN(8)],
			Mode:  uint32(r.IntN(0o10000)),
			UID:   int(number()),
			GID:   int(number()),
			Size:  pick(0, 1, 512, 1<<33-1, 1<<33),
			MTime: pick(-1, 0, 315532800, 1<<33-1, 1<<33),
			Link:  name(),
			Major: uint32(number()),
			Minor: uint32(number()),
		}
		if r.IntN(10) == 0 {
			e.Xattrs = map[string]string{"user.a": "b"}
		}
		e = canonical(e)
		switch r.IntN(6) {
		case 0:
			e.Group = e.Path
		case 1:
			e.Group = name()
		}
		var want bytes.Buffer
		err := tar.NewWriter(&want).WriteHeader(headerOf(e))
		got, gotErr := appendHeader([]byte("before"), e)
		if (err == nil) != (gotErr == nil) || err == nil && string(got) != "before"+want.String() {
			t.Fatalf("%+v: %v, %v\n%q\n%q", e, gotErr, err, got, want.Bytes())
		}
		if isPlain(&e) {
			plain++
		}
	}
	if plain < 2000 {
		t.Errorf("only %d were plain", plain)
	}
}
