package spec

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const byteOrderMark = "\ufeff"

// splitLines returns the lines of text without their ends.
func splitLines(text string) []string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(l, "\r")
	}
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	return lines
}

// checkText records an error where text is too long or is no text that YAML may hold, and returns
// whether there is none. Beyond YAML's own rules it refuses the line ends that YAML knows and
// editors do not (a lone CR, NEL, LS, PS): with them, line numbers would not be those that people
// see.
func (d *decoder) checkText(text string) bool {
	if len(text) > maxSize {
		d.errorf(Pos{1, 1}, "the file is larger than %d MiB", maxSize>>20)
		return false
	}
	pos := Pos{1, 1}
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			d.errorf(pos, "byte 0x%02x is not UTF-8", text[i])
			return false
		case r == '\r' && !strings.HasPrefix(text[i+1:], "\n"):
			d.errorf(pos, "a carriage return needs a line feed after it")
			return false
		case r == '\u0085' || r == '\u2028' || r == '\u2029':
			d.errorf(pos, `line separator %U is not allowed here; in double quotes, write "\u%04x"`, r, r)
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff:
			d.errorf(pos, "character %U is not allowed", r)
			return false
		}
		pos.Col++
		if r == '\n' {
			pos = Pos{pos.Line + 1, 1}
		}
	}
	return true
}

// clamp returns the nearest place that is inside the file.
func (d *decoder) clamp(p Pos) Pos {
	lines := d.spec.lines
	switch {
	case len(lines) == 0 || p.Line < 1:
		return Pos{1, 1}
	case p.Line > len(lines):
		p = Pos{len(lines), utf8.RuneCountInString(lines[len(lines)-1]) + 1}
	}
	return Pos{p.Line, max(1, min(p.Col, utf8.RuneCountInString(lines[p.Line-1])+1))}
}

// posOf returns where n begins: its anchor or tag where it has one.
func posOf(n *yaml.Node) Pos { return Pos{n.Line, n.Column} }

// posIn returns where byte offset of the scalar n's value stands in the file. Where the value is
// not written as it is (escapes, folded lines), or is so long that looking for a place in it time
// and again would take long, that is the place of the whole scalar.
func (d *decoder) posIn(n *yaml.Node, offset int) Pos {
	if len(n.Value) > 1<<14 {
		return posOf(n)
	}
	start, before := posOf(n), n.Value[:min(offset, len(n.Value))]
	if n.Style&yaml.LiteralStyle != 0 {
		k := strings.Count(before, "\n")
		before = before[strings.LastIndexByte(before, '\n')+1:]
		value := strings.Split(n.Value, "\n")[k]
		line := d.line(start.Line + 1 + k)
		indent, ok := strings.CutSuffix(line, value)
		if !ok || strings.Trim(indent, " ") != "" {
			return start
		}
		return Pos{start.Line + 1 + k, len(indent) + utf8.RuneCountInString(before) + 1}
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		start.Col++
	}
	line := []rune(d.line(start.Line))
	if start.Col > len(line)+1 || !strings.HasPrefix(string(line[start.Col-1:]), n.Value) {
		return posOf(n)
	}
	return Pos{start.Line, start.Col + utf8.RuneCountInString(before)}
}

// line returns a line of the file, from 1, or "".
func (d *decoder) line(n int) string {
	if n < 1 || n > len(d.spec.lines) {
		return ""
	}
	return d.spec.lines[n-1]
}
