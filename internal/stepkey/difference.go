package stepkey

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"genoci/internal/shown"
)

// Region is a place where two lists differ: old[From:To] became new[At:End].
type Region struct{ From, To, At, End int }

// Regions returns where two lists differ, in order.
func Regions[T comparable](old, now []T) []Region {
	ids := map[T]int{}
	text := func(list []T) []byte { // a line for each element
		var b []byte
		for _, e := range list {
			id, ok := ids[e]
			if !ok {
				id = len(ids)
				ids[e] = id
			}
			b = fmt.Appendln(b, id)
		}
		return b
	}
	return hunks(diff.Diff("old", text(old), "now", text(now)))
}

// hunks returns the regions that differ in a diff in unified form.
func hunks(unified []byte) (regions []Region) {
	var from, lines, at, nowLines int
	inHunk, open := false, false
	for line := range bytes.Lines(unified) {
		if n, _ := fmt.Sscanf(string(line), "@@ -%d,%d +%d,%d", &from, &lines, &at, &nowLines); n == 4 {
			from, at = from-min(lines, 1), at-min(nowLines, 1) // from 0; of no lines, that in front is named
			inHunk, open = true, false
			continue
		}
		switch {
		case !inHunk: // the names
		case line[0] == ' ':
			from, at, open = from+1, at+1, false
		default:
			if !open {
				regions, open = append(regions, Region{From: from, To: from, At: at, End: at}), true
			}
			last := &regions[len(regions)-1]
			if line[0] == '-' {
				from++
			} else {
				at++
			}
			last.To, last.End = from, at
		}
	}
	return regions
}

// EditKind says what became of lines of a text.
type EditKind int

// The kinds of edits.
const (
	LineEnds    EditKind = iota // no line differs, but their ends do
	LinesChange                 //
	LinesAdd                    // only
	LinesRemove                 // only
	NotShown                    // only what is not shown differs
)

// Edit says which lines of a text differ.
type Edit struct {
	Kind  EditKind
	Where [][2]int // the first and the last line of each place; of the new text, but for lines that are gone
}

// String returns the edit in a few words.
func (e Edit) String() string {
	verb := "changed"
	switch e.Kind {
	case LineEnds:
		return "line ends changed"
	case NotShown:
		return "what is not shown of it changed"
	case LinesAdd:
		verb = "added"
	case LinesRemove:
		verb = "removed"
	case LinesChange:
	}
	var where []string
	n := 0
	for _, w := range e.Where {
		where = append(where, span(w[0], w[1]))
		n += w[1] - w[0] + 1
	}
	noun := "line"
	if n > 1 {
		noun = "lines"
	}
	return fmt.Sprintf("%s %s %s", noun, strings.Join(where, ", "), verb)
}

// TextChange says which lines of what may be shown of a text differ, and lists them: "- " what was,
// "+ " what is.
func TextChange(old, now string) (e Edit, lines []string) {
	a, b := splitLines(shown.Text(old)), splitLines(shown.Text(now))
	if shown.Text(old) == shown.Text(now) && old != now {
		return Edit{Kind: NotShown}, nil
	}
	added, removed := true, true
	for _, r := range Regions(a, b) {
		lines = append(lines, prefixed("- ", a[r.From:r.To])...)
		lines = append(lines, prefixed("+ ", b[r.At:r.End])...)
		added, removed = added && r.From == r.To, removed && r.At == r.End
		from, to := r.At, r.End
		if from == to {
			from, to = r.From, r.To
		}
		e.Where = append(e.Where, [2]int{from + 1, to})
	}
	switch {
	case len(e.Where) == 0:
		e.Kind = LineEnds
	case added:
		e.Kind = LinesAdd
	case removed:
		e.Kind = LinesRemove
	default:
		e.Kind = LinesChange
	}
	return e, lines
}

// fileChanges says in a few words what is different about a file.
func fileChanges(changes []Change) string {
	var all []string
	resized := slices.ContainsFunc(changes, func(c Change) bool { return c.Field == SizeField })
	for _, c := range changes {
		switch {
		case c.Field == XattrsField, c.Field == ContentField && !resized:
			all = append(all, c.Field)
		case c.Field != ContentField:
			all = append(all, fmt.Sprintf("%s %s -> %s", c.Field, c.Old, c.New))
		}
	}
	return strings.Join(all, ", ")
}

// Fields of files that are told in words of their own.
const (
	SizeField    = "size"
	ContentField = "content"
	XattrsField  = "extended attributes"
)

// splitLines returns the lines of a text without their ends.
func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// span writes a range of numbers.
func span(from, to int) string {
	if from >= to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d-%d", from, to)
}

// prefixed returns lines with a prefix.
func prefixed(prefix string, lines []string) []string {
	out := slices.Clone(lines)
	for i := range out {
		out[i] = prefix + out[i]
	}
	return out
}

// ListChange returns the elements that two lists do not share, as TextChange does lines.
func ListChange(old, now []string) []string {
	var lines []string
	for _, r := range Regions(old, now) {
		lines = append(lines, prefixed("- ", old[r.From:r.To])...)
		lines = append(lines, prefixed("+ ", now[r.At:r.End])...)
	}
	return lines
}
