package action

import (
	"fmt"
	"strings"
	"testing"
)

// Two trees never have one manifest.
func TestManifestIsInjective(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct{ name, link string }{
		{"a", ""},
		{"a\nd 755 b", ""},
		{`a\nd 755 b`, ""},
		{"a\tb", ""},
		{`a\tb`, ""},
		{"a", "b"},
		{"a", "b\nc"},
		{"a", `b\nc`},
		{"a b", "c"},
		{"a", "b c"},
		{"a\xff", ""},
	} {
		got := string(appendName(append(appendName(nil, c.name), '\t'), c.link))
		key := fmt.Sprintf("%q", c)
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s give %q", key, other, got)
		}
		seen[got] = key
		name, link, _ := strings.Cut(got, "\t")
		if unescape(name) != c.name || unescape(link) != c.link || strings.Contains(got, "\n") {
			t.Errorf("%s gives %q, read as %q and %q", key, got, unescape(name), unescape(link))
		}
	}
}
