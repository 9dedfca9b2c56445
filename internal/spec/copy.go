package spec

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Copy puts files from the host, another image, or the spec itself into the image.
type Copy struct {
	Src     string // path, folder, glob or URL; "" when Content is set
	Dest    string
	Chown   string  // "" is 0:0
	Chmod   *uint32 // permission, setuid, setgid and sticky bits (at most 07777); nil keeps the mode
	Exclude []string
	From    string  // a target of the file, or a tag of the layout; "" is the host
	Content *string // a literal file

	Parents  bool   // the folders around what is copied come along, those after "/./" in Src where it has that
	Checksum string // of what the URL gives: "" or sha256:HEX
	Written  *Written
}

func (c *Copy) written() **Written { return &c.Written }

func (*Copy) whole(text string) Op { return &Copy{Src: text} }

// Runs implements Op.
func (*Copy) Runs() bool { return false }

// Images implements Op.
func (c *Copy) Images() []string {
	if c.From == "" {
		return nil
	}
	return []string{c.From}
}

// Inputs implements Op. What comes out of another image or the spec itself is not from outside.
func (c *Copy) Inputs() []string {
	if c.From != "" || c.Content != nil {
		return nil
	}
	return []string{c.Src}
}

// String implements Op.
func (c *Copy) String() string {
	c = shownAs(c)
	switch {
	case c.Content != nil:
		return summary("copy", "(content) "+c.Dest)
	case c.From != "":
		return summary("copy", c.From+":"+c.Src+" "+c.Dest)
	}
	return summary("copy", c.Src+" "+c.Dest)
}

func copyShape() shape[[]Action] {
	pair := textAction(schema{"pattern": "^" + blank + "*" + nonBlank + "+" + blank + "+" + nonBlank + "+" + blank + "*$", "anyOf": []schema{not("^" + blank + "*" + nonBlank + "+://"), {"pattern": "^" + blank + "*https?://"}}}, parseCopy)
	return actionShape(pair, pair, tableAction(copyTable()))
}

func copyTable() table[Copy] {
	file := shape[string]{stringForm("a string", schema{"pattern": nonBlank}, checkFile)}
	return table[Copy]{
		fields: []field[Copy]{
			key("src", "A file, a folder (its contents are copied) or a glob, beside the spec or in from; or a URL (http, https).", file,
				func(c *Copy) *string { return &c.Src }, "source", "file", "url"),
			key("dest", "Path in the image; with a / at its end, a folder.", stringShape(),
				func(c *Copy) *string { return &c.Dest }, "destination", "to", "target"),
			key("chown", "USER, USER:GROUP or numbers; 0:0 when left out.", ownerShape(),
				func(c *Copy) *string { return &c.Chown }, "owner", "user"),
			key("chmod", "Mode of all that is copied, in octal digits; kept when left out.", modeShape(),
				func(c *Copy) **uint32 { return &c.Chmod }, "mode", "perm", "permissions"),
			key("exclude", "Globs of names below src that are not copied.", globsShape(),
				func(c *Copy) *[]string { return &c.Exclude }, "ignore"),
			key("from", "A target of this file, or a tag of the layout, to copy from.", stringShape(),
				func(c *Copy) *string { return &c.From }, "image", "base"),
			key("parents", "Keep the folders that src names around what is copied, as COPY --parents; after /./ in it, only those there.", boolShape(),
				func(c *Copy) *bool { return &c.Parents }, "relative"),
			key("checksum", "sha256:HEX of what the URL gives, verified before anything is used.", checksumShape(),
				func(c *Copy) *string { return &c.Checksum }, "sha256", "digest", "hash"),
			key("content", "The text of the file, in place of src.", contentShape(),
				func(c *Copy) **string { return &c.Content }, "text", "data"),
		},
		facets: schema{
			"required": []string{"dest"},
			"oneOf":    []schema{{"required": []string{"src"}}, {"required": []string{"content"}}},
			"dependencies": schema{
				"content": schema{
					"not":        schema{"anyOf": []schema{{"required": []string{"from"}}, {"required": []string{"exclude"}}, {"required": []string{"parents"}}}},
					"properties": schema{"dest": not("(^|/)([.][.]?)?$")},
				},
				"checksum": schema{"properties": schema{"src": schema{"pattern": "^https?://"}}, "required": []string{"src"}},
				"from":     schema{"properties": schema{"src": not("://")}},
				"exclude":  schema{"properties": schema{"src": not("://")}},
				"parents":  schema{"properties": schema{"src": not("://")}},
			},
		},
		check: checkCopy,
	}
}

// checkCopy checks the keys of a copy together.
func checkCopy(d *decoder, n *yaml.Node, keys keys, c *Copy) {
	content, ok := keys["content"]
	if !ok {
		d.require(n, keys, "src", "dest")
		checkCopyURL(d, keys, c)
		return
	}
	d.require(n, keys, "dest")
	for _, e := range keys.inOrder("src", "from", "exclude", "parents", "checksum") {
		d.errorf(posOf(e.key), `%q does not go with "content" (line %d)`, e.key.Value, content.key.Line)
	}
	if c.Dest != "" && IsFolder(c.Dest) {
		d.errorf(posOf(keys["dest"].value), `%q is a folder; "content" needs the name of a file`, c.Dest)
	}
}

// checkCopyURL checks what can stand with a URL, and only with one.
func checkCopyURL(d *decoder, keys keys, c *Copy) {
	if !isURL(c.Src) {
		if e, ok := keys["checksum"]; ok {
			d.errorf(posOf(e.key), `"checksum" needs a URL as "src"`)
		}
		return
	}
	for _, e := range keys.inOrder("from", "exclude", "parents") {
		d.errorf(posOf(e.key), `%q does not go with a URL, which is one file`, e.key.Value)
	}
}

// IsFolder reports whether a path ends as only one of a folder can: in a slash, or in "." or "..".
func IsFolder(path string) bool {
	last := path[strings.LastIndexByte(path, '/')+1:]
	return last == "" || last == "." || last == ".."
}

// parseCopy reads "SRC DEST".
func parseCopy(s string) (Op, error) {
	var words []string
	for _, word := range fields(s) {
		words = append(words, word)
	}
	switch len(words) {
	case 2:
		return &Copy{Src: words[0], Dest: words[1]}, checkFile(words[0])
	case 0:
		return nil, errEmpty
	case 1:
		return nil, fmt.Errorf(`expected "SRC DEST", found %q alone`, words[0])
	}
	return nil, fmt.Errorf(`expected "SRC DEST", found %d words; write several copies as a list, and paths with blanks as {src: ..., dest: ...}`, len(words))
}

// checkFile refuses what is neither a path nor a glob, nor a URL that can be fetched.
func checkFile(s string) error {
	if isURL(s) {
		return checkSource(s)
	}
	return checkGlob(s)
}

// contentShape is any text.
func contentShape() shape[*string] {
	f := anyStringShape()[0]
	return shape[*string]{convert(f, func(s string) *string { return &s })}
}

// modeShape is permission bits in octal.
func modeShape() shape[*uint32] {
	return shape[*uint32]{textForm("a string", schema{"pattern": "^(0o)?0*[0-7]{1,4}$"}, func(s string) (*uint32, error) {
		bits, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 12)
		if err != nil {
			return nil, fmt.Errorf("invalid mode %q: expected octal digits up to 7777, as in 0755", s)
		}
		mode := uint32(bits)
		return &mode, nil
	})}
}
