package spec

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Expand unpacks one archive.
type Expand struct {
	Src             string // path or URL
	Dest            string // folder in the image; "" is the root
	StripComponents int
	Checksum        string   // "" or sha256:HEX
	Include         []string // globs; none: everything
	Exclude         []string
	Chown           string // "" keeps the archive's owners
	Written         *Written
}

func (e *Expand) written() **Written { return &e.Written }

func (*Expand) whole(text string) Op { return &Expand{Src: text} }

// Runs implements Op.
func (*Expand) Runs() bool { return false }

// Images implements Op.
func (*Expand) Images() []string { return nil }

// Inputs implements Op.
func (e *Expand) Inputs() []string { return []string{e.Src} }

// String implements Op.
func (e *Expand) String() string {
	e = shownAs(e)
	if e.Dest == "" {
		return summary("expand", e.Src)
	}
	return summary("expand", e.Src+" "+e.Dest)
}

func expandShape() shape[[]Action] {
	return actionShape(
		form[[]Action]{text, "a string", textSchema(schema{"pattern": nonBlank}), decodeExpandWords},
		textAction(schema{"pattern": nonBlank}, func(s string) (Op, error) { return &Expand{Src: s}, checkSource(s) }),
		tableAction(expandTable()),
	)
}

func expandTable() table[Expand] {
	return table[Expand]{
		fields: []field[Expand]{
			key("src", "The archive: a path beside the spec, or a URL (http, https).", sourceShape(),
				func(e *Expand) *string { return &e.Src }, "source", "file", "url", "archive"),
			key("dest", "Folder in the image to unpack into, made where it is missing; the root when left out.", stringShape(),
				func(e *Expand) *string { return &e.Dest }, "destination", "to", "target"),
			key("strip_components", "Leading folders to drop from the names in the archive, as tar --strip-components does.", countShape(),
				func(e *Expand) *int { return &e.StripComponents }, "strip"),
			key("checksum", "sha256:HEX of the archive's own bytes, verified before anything is used.", checksumShape(),
				func(e *Expand) *string { return &e.Checksum }, "sha256", "digest", "hash"),
			key("include", "Globs of names in the archive; only what matches is unpacked.", globsShape(),
				func(e *Expand) *[]string { return &e.Include }, "only"),
			key("exclude", "Globs of names in the archive that are not unpacked.", globsShape(),
				func(e *Expand) *[]string { return &e.Exclude }, "ignore"),
			key("chown", "USER, USER:GROUP or numbers: the owner of all that is unpacked; the archive's when left out.", ownerShape(),
				func(e *Expand) *string { return &e.Chown }, "owner", "user"),
		},
		facets: schema{"required": []string{"src"}},
		check:  func(d *decoder, n *yaml.Node, keys keys, _ *Expand) { d.require(n, keys, "src") },
	}
}

// decodeExpandWords reads the blank-separated archives of a string.
func decodeExpandWords(d *decoder, n *yaml.Node) ([]Action, bool) {
	s, ok := d.text(n)
	if !ok {
		return nil, false
	}
	var out []Action
	for offset, word := range fields(s) {
		if err := checkSource(word); err != nil {
			d.textErrorf(n, s, &textError{offset: offset, msg: err.Error()})
			ok = false
		}
		out = append(out, Action{Op: &Expand{Src: word}, Pos: d.posOfText(n, s, offset)})
	}
	if len(out) == 0 {
		d.textErrorf(n, s, errEmpty)
		return nil, false
	}
	return out, ok
}

// sourceShape is a path or a URL.
func sourceShape() shape[string] {
	return shape[string]{stringForm("a string", schema{"pattern": nonBlank}, checkSource)}
}

// globsShape is one glob or a list of globs. After the first, one may begin with "!" and is an
// exception then.
func globsShape() shape[[]string] {
	check := func(s string) error {
		pattern, exception := strings.CutPrefix(s, "!")
		if exception && pattern == "" {
			return fmt.Errorf("%q: a pattern must follow \"!\"", s)
		}
		return checkGlob(pattern)
	}
	glob := shape[string]{stringForm("a string", schema{"pattern": nonBlank}, check)}
	forms := append(wrapped(glob), listForm("a list of strings", glob))
	for i, f := range forms {
		forms[i].decode = func(d *decoder, n *yaml.Node) ([]string, bool) {
			globs, ok := f.decode(d, n)
			if len(globs) > 0 && strings.HasPrefix(globs[0], "!") {
				if n.Kind == yaml.SequenceNode {
					n = n.Content[0]
				}
				d.errorf(posOf(n), `%q is an exception, but no pattern comes before it; in a list, write that pattern first`, globs[0])
				return nil, false
			}
			return globs, ok
		}
	}
	return forms
}

// checkGlob refuses patterns that are empty or not well formed; what has no *, ? or [ is well
// formed.
func checkGlob(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("invalid glob %q: a [ is not closed, or the \\ at the end escapes nothing", pattern)
	}
	_, err := notEmpty(pattern)
	return err
}

// isURL reports whether s begins as a URL with a host does.
func isURL(s string) bool { return strings.Contains(s, "://") }

// checkSource refuses what is neither a path nor a URL that can be fetched.
func checkSource(s string) error {
	if !isURL(s) {
		_, err := notEmpty(s)
		return err
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("invalid URL %q", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q: only http and https URLs can be fetched", s)
	}
	return nil
}

// checksumShape is sha256:HEX, in lower case whatever it is written in.
func checksumShape() shape[string] {
	return shape[string]{textForm("a string", schema{"pattern": "^[sS][hH][aA]256:[0-9a-fA-F]{64}$"}, func(s string) (string, error) {
		hex, ok := strings.CutPrefix(strings.ToLower(s), "sha256:")
		if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
			return "", fmt.Errorf("invalid checksum %q: expected sha256: and 64 hexadecimal digits", s)
		}
		return "sha256:" + hex, nil
	})}
}
