package spec

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"genoci/internal/shown"
)

// Error is one thing wrong in a spec. Error() is
//
//	FILE:LINE:COL: target "NAME": message
//	    source line
//	    ^ did you mean "copy"?
//
// with the caret under the column. Parts that are not set are left out.
type Error struct {
	File    string
	Pos     Pos
	Target  string
	Msg     string
	Excerpt string // the source line; "" when there is none
	Suggest string // a whole clause such as: did you mean "copy"? "" when there is none
}

// Error implements error; the form is in the comment on the type.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Pos != (Pos{}) {
		fmt.Fprintf(&b, ":%d:%d", e.Pos.Line, e.Pos.Col)
	}
	b.WriteString(": ")
	if e.Target != "" {
		fmt.Fprintf(&b, "target %q: ", e.Target)
	}
	b.WriteString(e.Msg)
	switch {
	case e.Excerpt != "":
		line, pad := excerpt(withoutSecrets(e.Excerpt, e.Pos.Col))
		fmt.Fprintf(&b, "\n    %s\n    %s^", line, pad)
		if e.Suggest != "" {
			b.WriteString(" " + e.Suggest)
		}
	case e.Suggest != "":
		b.WriteString("; " + e.Suggest)
	}
	return b.String()
}

// withoutSecrets returns a line without what may be secret in it, and where its column col is then.
func withoutSecrets(line string, col int) (string, int) {
	runes := []rune(line)
	before := string(runes[:min(max(col-1, 0), len(runes))])
	return shown.Text(line), col - utf8.RuneCountInString(before) + utf8.RuneCountInString(shown.Text(before))
}

// excerpt returns the part of line around column col (from 1) that fits a terminal, and the blanks
// that put a caret below that column. Control characters are replaced, tabs kept in both.
func excerpt(line string, col int) (text, pad string) {
	const width, before = 100, 60 // characters shown, and of these before the column in a long line
	runes := []rune(strings.TrimRight(line, " \t"))
	at := max(col-1, 0)
	var head, tail string
	if start := at - before; start > 0 && len(runes) > width {
		start = min(start, len(runes))
		head, runes, at = "…", runes[start:], at-start
	}
	if len(runes) > width {
		tail, runes = "…", runes[:width]
	}
	for i, r := range runes {
		if r != '\t' && unicode.IsControl(r) {
			runes[i] = utf8.RuneError
		}
	}
	blanks := slices.Repeat([]rune{' '}, utf8.RuneCountInString(head)+at)
	for i, r := range runes[:min(at, len(runes))] {
		if r == '\t' {
			blanks[utf8.RuneCountInString(head)+i] = '\t'
		}
	}
	return head + string(runes) + tail, string(blanks)
}

// Errors are all errors of a file, in the order of their positions.
type Errors []*Error

// Error returns all errors, each beginning on a new line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes errors.As find the first Error.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, err := range e {
		out[i] = err
	}
	return out
}

// Sorted returns the errors in the order of their positions, without repeats: what stands in an
// anchor is decoded once for each alias.
func (e Errors) Sorted() Errors {
	type place struct {
		pos Pos
		msg string
	}
	seen := map[place]bool{}
	var out Errors
	for _, err := range e {
		if p := (place{err.Pos, err.Msg}); !seen[p] {
			seen[p] = true
			out = append(out, err)
		}
	}
	slices.SortStableFunc(out, func(a, b *Error) int { return a.Pos.compare(b.Pos) })
	return out
}

// didYouMean returns the clause for Error.Suggest, or "" when no candidate is near.
func didYouMean(name string, candidates []string) string {
	if near := Nearest(name, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// Nearest returns the candidate that was probably meant by name, or "". Case, and "-" for "_", do
// not count; otherwise one slip in every three characters is forgiven, and one in two characters.
func Nearest(name string, candidates []string) string {
	fold := func(s string) []rune { return []rune(strings.ReplaceAll(strings.ToLower(s), "-", "_")) }
	if len(name) > 256 {
		return ""
	}
	from := fold(name)
	best, limit := "", len(from)/3
	if limit == 0 && len(from) > 1 {
		limit = 1
	}
	for _, c := range candidates {
		if d := distance(from, fold(c)); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance is the number of inserted, deleted, replaced and swapped characters between a and b
// (optimal string alignment).
func distance(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
