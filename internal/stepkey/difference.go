package stepkey

import (
	"fmt"
	"slices"
	"strings"

	"genoci/internal/shown"
)

// Region is a place where two lists differ: old[From:To] became new[At:End].
type Region struct{ From, To, At, End int }

// maxCells bounds the table that Regions fills, in pairs of elements. Longer lists differ in one
// piece.
const maxCells = 1 << 22

// Regions returns where two lists differ, in order: what is between is a longest common
// subsequence.
func Regions[T comparable](old, now []T) []Region {
	head := 0
	for head < min(len(old), len(now)) && old[head] == now[head] {
		head++
	}
	tail := 0
	for tail < min(len(old), len(now))-head && old[len(old)-1-tail] == now[len(now)-1-tail] {
		tail++
	}
	a, b := old[head:len(old)-tail], now[head:len(now)-tail]
	if len(a)+len(b) == 0 {
		return nil
	}
	if len(a) == 0 || len(b) == 0 || len(a)*len(b) > maxCells {
		return []Region{{head, head + len(a), head, head + len(b)}}
	}
	return walkRegions(a, b, common(a, b), head)
}

// common returns the table of the lengths of longest common subsequences of a[i:] and b[j:], at
// i*(len(b)+1)+j.
func common[T comparable](a, b []T) []int32 {
	row := len(b) + 1
	t := make([]int32, (len(a)+1)*row)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				t[i*row+j] = t[(i+1)*row+j+1] + 1
			} else {
				t[i*row+j] = max(t[(i+1)*row+j], t[i*row+j+1])
			}
		}
	}
	return t
}

// walkRegions reads the regions out of the table of common. offset is that of a and b in their
// lists.
func walkRegions[T comparable](a, b []T, t []int32, offset int) []Region {
	var all []Region
	row := len(b) + 1
	for i, j := 0, 0; i < len(a) || j < len(b); {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			i, j = i+1, j+1
			continue
		}
		e := Region{From: offset + i, At: offset + j}
		for i < len(a) || j < len(b) {
			if i < len(a) && j < len(b) && a[i] == b[j] {
				break
			}
			if j == len(b) || i < len(a) && t[(i+1)*row+j] >= t[i*row+j+1] {
				i++
			} else {
				j++
			}
		}
		e.To, e.End = offset+i, offset+j
		all = append(all, e)
	}
	return all
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
