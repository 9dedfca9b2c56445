package spec

import (
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
)

// parse returns the root node of the only document in text, with aliases that are safe to follow,
// or records why there is none and returns nil.
func (d *decoder) parse(text string) *yaml.Node {
	loader, err := yaml.NewLoader(strings.NewReader(text))
	if err != nil {
		d.errorf(Pos{1, 1}, "%v", err)
		return nil
	}
	var doc, next yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		d.errorf(Pos{1, 1}, "the file is empty; a target looks like this:  NAME: {base: empty, copy: SRC DEST}")
		return nil
	case err != nil:
		d.syntaxError(err)
		return nil
	}
	switch err := loader.Load(&next); {
	case err == nil:
		d.errorf(posOf(&next), `a second YAML document begins here; a spec is one document, without "---"`)
		return nil
	case !errors.Is(err, io.EOF):
		d.syntaxError(err)
		return nil
	}
	root := doc.Content[0]
	if !d.checkAliases(root) {
		return nil
	}
	return root
}

// syntaxError records what the YAML parser found wrong, in words for people who do not know how it
// works inside, and at the place where they can mend it.
func (d *decoder) syntaxError(err error) {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		d.errorf(Pos{1, 1}, "%v", err)
		return
	}
	at := d.clamp(Pos{e.Mark.Line, e.Mark.Column})
	begin := d.clamp(Pos{e.ContextMark.Line, e.ContextMark.Column})
	if tab, ok := d.tabIndent(at); ok {
		d.errorf(tab, "a tab cannot indent YAML; use blanks")
		return
	}
	if alias, ok := strings.CutPrefix(e.Message, "unknown anchor '"); ok {
		alias, _, _ = strings.Cut(alias, "'")
		d.errorf(at, `there is no anchor &%s above; quote the text if it should begin with "*"`, alias)
		return
	}
	switch e.Message {
	case "mapping values are not allowed in this context":
		d.errorf(at, `":" is not allowed here: quote the text if it is part of a value, or look for a line above without its own ":"`)
	case "did not find expected key":
		d.errorf(at, "expected a key; check the indentation and the quotes from line %d on", begin.Line)
	case "could not find expected ':'":
		d.errorf(begin, `expected ":" after this key`)
	case "found character that cannot start any token":
		d.errorf(at, "%q cannot begin a value; quote the text", firstRune(d.line(at.Line), at.Col))
	case "found unexpected end of stream":
		d.errorf(begin, "this quote is never closed")
	case "did not find expected ',' or ']'":
		d.errorf(begin, `expected "," or "]" at line %d, column %d, in the list that begins here`, at.Line, at.Col)
	case "did not find expected ',' or '}'":
		d.errorf(begin, `expected "," or "}" at line %d, column %d, in the map that begins here`, at.Line, at.Col)
	case "did not find expected '-' indicator":
		d.errorf(at, `expected "- ", as in the list that begins at line %d`, begin.Line)
	case "did not find expected node content":
		d.errorf(at, "expected a value, or the end of the list or map, here")
	case "found incompatible YAML document":
		d.errorf(at, "leave out the %%YAML line")
	default:
		d.errorf(at, "YAML: %s", e.Message)
	}
}

// tabIndent reports whether the line of p is indented with a tab, and where.
func (d *decoder) tabIndent(p Pos) (Pos, bool) {
	line := d.line(p.Line)
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	tab := strings.IndexByte(indent, '\t')
	return Pos{p.Line, tab + 1}, tab >= 0
}

// firstRune returns the character at a column of line, or a blank.
func firstRune(line string, col int) rune {
	if runes := []rune(line); col <= len(runes) {
		return runes[col-1]
	}
	return ' '
}

// checkAliases records an error where an anchor holds an alias of itself, or where the aliases
// together would make the file larger than any file may be, and returns whether there is none.
func (d *decoder) checkAliases(root *yaml.Node) bool {
	const open = -1               // being measured
	sizes := map[*yaml.Node]int{} // of what was aliased, aliases followed
	var measure func(n *yaml.Node) (size int, ok bool)
	measure = func(n *yaml.Node) (int, bool) {
		if n.Kind == yaml.AliasNode {
			size, known := sizes[n.Alias]
			if size == open {
				d.errorf(posOf(n), "the anchor &%s contains an alias of itself", n.Value)
				return 0, false
			}
			if !known {
				panic("spec: alias before its anchor") // the parser refuses that
			}
			return size, true
		}
		if n.Anchor != "" {
			sizes[n] = open
		}
		total := 1 + len(n.Value)
		for _, c := range n.Content {
			size, ok := measure(c)
			if !ok {
				return 0, false
			}
			if total += size; total > maxSize {
				d.errorf(posOf(c), "the file is larger than %d MiB after its aliases are expanded", maxSize>>20)
				return 0, false
			}
		}
		if n.Anchor != "" {
			sizes[n] = total
		}
		return total, true
	}
	_, ok := measure(root)
	return ok
}

// kind is what a node is, once aliases are followed.
type kind int

const (
	nothing kind = iota // a key or "-" without a value
	text                // any scalar: numbers, booleans and dates are text as written
	list
	mapping
)

// String returns the kind as messages name it.
func (k kind) String() string {
	return [...]string{"nothing", "a string", "a list", "a map"}[k]
}

// kindOf returns the kind of n, which is not an alias.
func kindOf(n *yaml.Node) kind {
	switch n.Kind {
	case yaml.SequenceNode:
		return list
	case yaml.MappingNode:
		return mapping
	case yaml.ScalarNode:
		if n.Value != "" || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			return text
		}
	}
	return nothing
}

// follow returns the node that n stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// entry is a key of a map with its value.
type entry struct{ key, value *yaml.Node }

// entries returns the entries of a map in the order of the file, with what "<<" merges in its
// place. A key of the map itself wins over a merged one, an earlier merged one over a later. Keys
// that are no text, and duplicates, are recorded as errors and left out; what names the keys
// ("key", "target").
func (d *decoder) entries(n *yaml.Node, what string) []entry {
	own := map[string]Pos{}
	var out []entry
	merged := map[int][]entry{} // by the place in out before which they go
	for i := 0; i+1 < len(n.Content); i += 2 {
		e := entry{follow(n.Content[i]), n.Content[i+1]}
		if e.key.Tag == "!!merge" {
			merged[len(out)] = append(merged[len(out)], d.merge(e.value, what)...)
			continue
		}
		if !d.checkKey(e.key, what) {
			continue
		}
		if first, ok := own[e.key.Value]; ok {
			d.errorf(posOf(n.Content[i]), "duplicate %s %q (the first is at line %d)", what, e.key.Value, first.Line)
			continue
		}
		own[e.key.Value] = posOf(e.key)
		out = append(out, e)
	}
	if len(merged) == 0 {
		return out
	}
	var all []entry
	for i := 0; i <= len(out); i++ {
		for _, e := range merged[i] {
			if _, ok := own[e.key.Value]; !ok {
				own[e.key.Value] = posOf(e.key)
				all = append(all, e)
			}
		}
		if i < len(out) {
			all = append(all, out[i])
		}
	}
	return all
}

// merge returns the entries of the map or of the list of maps that "<<" names.
func (d *decoder) merge(value *yaml.Node, what string) []entry {
	sources := []*yaml.Node{value}
	if v := follow(value); kindOf(v) == list {
		sources = v.Content
	}
	var out []entry
	for _, s := range sources {
		m := follow(s)
		if kindOf(m) != mapping {
			d.errorf(posOf(s), `"<<" needs a map or a list of maps, not %s`, kindOf(m))
			continue
		}
		out = append(out, d.entries(m, what)...)
	}
	return out
}

// checkKey records an error where a key is not plain text, and returns whether there is none.
func (d *decoder) checkKey(key *yaml.Node, what string) bool {
	switch {
	case kindOf(key) != text:
		d.errorf(posOf(key), "a %s is a string, not %s", what, kindOf(key))
	case !d.checkTag(key):
	case strings.Contains(key.Value, "\x00"):
		d.errorf(posOf(key), "the %s contains a NUL character", what)
	case strings.Contains(key.Value, argumentOpen):
		d.errorf(posOf(key), "%s...}} is expanded in values only, not in keys", argumentOpen)
	default:
		return true
	}
	return false
}

// checkTag records an error where n has a tag that would make it something else than it looks like.
func (d *decoder) checkTag(n *yaml.Node) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return true
	}
	switch n.Tag {
	case "!!str", "!!seq", "!!map":
		return true
	}
	d.errorf(posOf(n), "the tag %s has no meaning in a spec", n.Tag)
	return false
}
