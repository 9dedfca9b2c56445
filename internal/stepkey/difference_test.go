package stepkey

import (
	"fmt"
	"strings"
	"testing"
)

func TestRegions(t *testing.T) {
	for _, c := range []struct{ old, now, want string }{
		{"a b c", "a b c", "[]"},
		{"", "a", "[{0 0 0 1}]"},
		{"a", "", "[{0 1 0 0}]"},
		{"a b c", "a x c", "[{1 2 1 2}]"},
		{"a b c d e", "x b c d y", "[{0 1 0 1} {4 5 4 5}]"},
		{"a b a b", "b a b a", "[{0 1 0 0} {4 4 3 4}]"},
		{"a b c", "a b c d", "[{3 3 3 4}]"},
	} {
		if got := fmt.Sprint(Regions(strings.Fields(c.old), strings.Fields(c.now))); got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.old, c.now, got, c.want)
		}
	}
}
