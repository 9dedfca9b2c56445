package build

import (
	"fmt"
	"slices"
	"strings"

	"genoci/internal/shown"
)

// edit is a place where two lists differ: old[from:to] became new[at:end].
type edit struct{ from, to, at, end int }

// maxCells bounds the table that edits fills, in pairs of elements. Longer lists differ in one piece.
const maxCells = 1 << 22

// edits returns where two lists differ, in order: what is between is a longest common subsequence.
func edits[T comparable](old, now []T) []edit {
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
		return []edit{{head, head + len(a), head, head + len(b)}}
	}
	return walkEdits(a, b, common(a, b), head)
}

// common returns the table of the lengths of longest common subsequences of a[i:] and b[j:], at i*(len(b)+1)+j.
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

// walkEdits reads the edits out of the table of common. offset is that of a and b in their lists.
func walkEdits[T comparable](a, b []T, t []int32, offset int) []edit {
	var all []edit
	row := len(b) + 1
	for i, j := 0, 0; i < len(a) || j < len(b); {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			i, j = i+1, j+1
			continue
		}
		e := edit{from: offset + i, at: offset + j}
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
		e.to, e.end = offset+i, offset+j
		all = append(all, e)
	}
	return all
}

// textChange says which lines of a text differ, in a few words and line by line: "- " what was, "+ " what is.
func textChange(old, now string) (what string, lines []string) {
	a, b := splitLines(old), splitLines(now)
	all := edits(a, b)
	var where []string
	added, removed := true, true
	n := 0
	for _, e := range all {
		lines = append(lines, prefixed("- ", a[e.from:e.to])...)
		lines = append(lines, prefixed("+ ", b[e.at:e.end])...)
		added, removed = added && e.from == e.to, removed && e.at == e.end
		from, to := e.at, e.end
		if from == to {
			from, to = e.from, e.to
		}
		where = append(where, span(from+1, to))
		n += to - from
	}
	verb, noun := "changed", "line"
	switch {
	case len(all) == 0:
		return "line ends changed", nil
	case added:
		verb = "added"
	case removed:
		verb = "removed"
	}
	if n > 1 {
		noun = "lines"
	}
	return fmt.Sprintf("%s %s %s", noun, strings.Join(where, ", "), verb), lines
}

// shownChange is textChange of what may be shown of a text.
func shownChange(old, now string) (what string, lines []string) {
	a, b := shown.Text(old), shown.Text(now)
	if a == b && old != now {
		return "what is not shown of it changed", nil
	}
	return textChange(a, b)
}

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

// listChange returns the elements that two lists do not share, as textChange does lines.
func listChange(old, now []string) []string {
	var lines []string
	for _, e := range edits(old, now) {
		lines = append(lines, prefixed("- ", old[e.from:e.to])...)
		lines = append(lines, prefixed("+ ", now[e.at:e.end])...)
	}
	return lines
}
