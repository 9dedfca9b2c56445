package stepkey

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// What is between the regions is the same in both lists.
func TestRegionsAreAll(t *testing.T) {
	f := func(old, now []uint8) []uint8 {
		var made []uint8
		from := 0
		for _, r := range Regions(old, now) {
			made = append(append(made, old[from:r.From]...), now[r.At:r.End]...)
			from = r.To
		}
		return append(made, old[from:]...)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	list := func() []uint8 {
		l := make([]uint8, rng.IntN(30))
		for i := range l {
			l[i] = uint8(rng.IntN(12))
		}
		return l
	}
	for range 2000 {
		old, now := list(), list()
		if rng.IntN(2) == 0 {
			now = slices.Clone(old)
			for range rng.IntN(3) {
				if n := len(now); n > 0 {
					now[rng.IntN(n)] = uint8(rng.IntN(20))
				}
			}
		}
		if made := f(old, now); !slices.Equal(made, now) {
			t.Fatalf("%v to %v: made %v", old, now, made)
		}
	}
}

func TestRegions(t *testing.T) {
	for _, c := range []struct{ old, now, want string }{
		{"a b c", "a b c", "[]"},
		{"", "a", "[{0 0 0 1}]"},
		{"a", "", "[{0 1 0 0}]"},
		{"a b c", "a x c", "[{1 2 1 2}]"},
		{"a b c d e", "x b c d y", "[{0 1 0 1} {4 5 4 5}]"},
		{"a b a b", "b a b a", "[{0 4 0 4}]"}, // what comes twice in a list is no anchor
		{"a b c", "a b c d", "[{3 3 3 4}]"},
		{"a a x a a", "a a y a a", "[{2 3 2 3}]"},
		{"a a a", "a a", "[{2 3 2 2}]"},
		{"1 2 3 4 5 6 7 8 9 10 11 12", "1 x 3 4 5 6 7 8 9 10 y 11 12 z", "[{1 2 1 2} {10 10 10 11} {12 12 13 14}]"},
	} {
		if got := fmt.Sprint(Regions(strings.Fields(c.old), strings.Fields(c.now))); got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.old, c.now, got, c.want)
		}
	}
}
