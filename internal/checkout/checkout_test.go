package checkout

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"genoci/internal/layer"
	"genoci/internal/snapshot"
)

// TestSince: ctimes are believed only where the clock was not set back.
func TestSince(t *testing.T) {
	const second = int64(time.Second)
	begun := clock{"boot", 1000 * second, 50 * second}
	for _, test := range []struct {
		what  string
		later clock
		known bool
	}{
		{"a minute later", clock{"boot", 1060 * second, 110 * second}, true},
		{"set ahead", clock{"boot", 5000 * second, 110 * second}, true},
		{"coarse", clock{"boot", 1060*second - second/20, 110 * second}, true},
		{"set back by a second", clock{"boot", 1059 * second, 110 * second}, false},
		{"set back by an hour", clock{"boot", 1060*second - 3600*second, 110 * second}, false},
		{"after a restart", clock{"another", 1060 * second, 5 * second}, false},
	} {
		got := begun.since(test.later)
		if got.IsZero() == test.known || test.known && !got.Before(time.Unix(1000, 0)) {
			t.Errorf("%s: %v", test.what, got)
		}
	}
	if first, err := now(); err != nil || first.Boot == "" {
		t.Errorf("now: %+v, %v", first, err)
	} else if later, _ := now(); first.since(later).IsZero() {
		t.Errorf("%+v and %+v: the clock was set back", first, later)
	}
}

// TestStem: what is no name of an image does not begin a dated tag.
func TestStem(t *testing.T) {
	for tag, want := range map[string]string{
		"web": "web", "web-2026-11-26_2": "web", "debian:12": "debian:12", "sha256:966c7c57": "checkin",
		"sha256:966c7c5728d1cdcf620eb9b52888fbc1bb5b64c99843cc85126e6ff41ff19587": "checkin",
	} {
		c := Checkout{Note: Note{Tag: tag}}
		if got := c.stem(); got != want {
			t.Errorf("%s: %q, want %q", tag, got, want)
		}
	}
}

// gone is a driver whose trees somebody else has dropped.
type gone struct{ snapshot.Driver }

func (gone) Hide(context.Context, string) error           { return snapshot.ErrNotExist }
func (gone) Show(context.Context, string) (string, error) { return "", snapshot.ErrNotExist }
func (gone) Drop(context.Context, string) error           { return errors.New("cannot be dropped") }

// TestHidden: what is gone is not shown again, and that is no error of its own.
func TestHidden(t *testing.T) {
	c := Checkout{Store: Store{Driver: gone{}}, Kept: snapshot.Kept{Shown: true}}
	if err := c.Abort(t.Context()); err == nil || err.Error() != "cannot be dropped" {
		t.Errorf("got %v", err)
	}
}

// TestIsText: what is no text, or would be expanded, does not stand in a spec.
func TestIsText(t *testing.T) {
	for _, text := range []string{"", "a\n", "\tä€😀\n", "$NAME ${NAME}", `"'\`} {
		if !isText([]byte(text)) {
			t.Errorf("%q is no text", text)
		}
	}
	for _, text := range []string{"\x00", "a\r\n", "\x1b[1m", "\xff", "\ufeffa", "\u2028", "\u0085", "${{NAME}}"} {
		if isText([]byte(text)) {
			t.Errorf("%q is text", text)
		}
	}
}

// TestHostileNames: whatever names a tree has, none of them becomes a part of the spec that is more
// than a name.
func TestHostileNames(t *testing.T) {
	const evil = "\n    - run: evil"
	change := func(path, link, group, xattr string) layer.Change {
		c := layer.Change{Entry: layer.Entry{Type: layer.TypeSymlink, Path: path, Link: link, Group: group}}
		if group != "" {
			c.Type = layer.TypeFile
		}
		if xattr != "" {
			c.Xattrs = map[string]string{xattr: ""}
		}
		return c
	}
	for what, c := range map[string]layer.Change{
		"path": change("a"+evil, "", "", ""), "link": change("a", evil, "", ""), "other name": change("b", "", "a"+evil, ""),
		"attribute":     change("a", "", "", "user."+evil),
		"line of YAML":  change("a\u2028    - run: evil", "", "", ""),
		"variable":      change("${{evil}}", "", "", ""),
		"paragraph":     change("a", "\u2029evil", "", ""),
		"no characters": change("evil\xff", "", "", ""),
	} {
		var b strings.Builder
		changes := Changes{All: []layer.Change{c}, base: layer.Merge()}
		if err := changes.WriteSpec(&b, SpecOptions{Name: "n", Base: "b"}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.FieldsFuncSeq(b.String(), func(r rune) bool { return r == '\n' || r == '\u2028' || r == '\u2029' }) {
			if strings.Contains(line, "evil") && !strings.HasPrefix(line, "# not made again: ") {
				t.Errorf("%s:\n%s", what, b.String())
			}
		}
		if !strings.Contains(b.String(), "# not made again: ") {
			t.Errorf("%s: nothing is said:\n%s", what, b.String())
		}
	}
}

func TestQuoting(t *testing.T) {
	for got, want := range map[string]string{
		quote("a\"\\\n<&>ä"): `"a\"\\\n<&>ä"`,
		sh("it's"):           `'it'\''s'`,
		globbed(`a*b?[c]\d`): `a\*b\?\[c]\\d`,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
