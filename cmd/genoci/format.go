package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"genoci/internal/shown"
)

// size returns a number of bytes with three digits and a decimal unit: "60.5 MB".
func size(bytes int64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d B", bytes)
	}
	f, unit := float64(bytes), 0
	for f >= 999.5 && unit < 4 {
		f, unit = f/1000, unit+1
	}
	digits := 2
	if f >= 9.995 {
		digits = 1
	}
	if f >= 99.95 {
		digits = 0
	}
	return fmt.Sprintf("%.*f %cB", digits, f, " kMGT"[unit])
}

// duration returns a time span as people say it: "0.3s", "42.0s", "3m05s", "1h02m".
func duration(d time.Duration) string {
	if d < 59950*time.Millisecond {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// short returns a digest with the 12 digits that people compare: enough to name a blob to any
// command.
func short(d digest.Digest) string {
	algorithm, hex, ok := strings.Cut(string(d), ":")
	if !ok || len(hex) < 12 {
		return string(d)
	}
	return algorithm + ":" + hex[:12]
}

// plural returns "1 image", "2 images".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printable returns the part of a line of output that a terminal would show: what follows the last
// carriage return, without escape sequences (ECMA-48) and other control characters. Nothing that an
// image's command writes moves the cursor.
func printable(line string) string {
	line = strings.TrimRight(line, "\r")
	line = line[strings.LastIndexByte(line, '\r')+1:]
	var b strings.Builder
	for i := 0; i < len(line); {
		if n := escapeLen(line[i:]); n > 0 {
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(line[i:])
		switch {
		case r == '\t':
			b.WriteString("    ")
		case r != '\n' && !shown.Odd(r):
			b.WriteRune(r)
		}
		i += n
	}
	if onActions() {
		return strings.ReplaceAll(b.String(), shown.Command, "# #[")
	}
	return b.String()
}

// written returns the text of a message, which may have names of others in it, with the characters
// that a terminal would not show as they are written as in a string of Go. Further lines of it
// begin with "  | ", so that none is taken for a message, or a command of a runner, of its own.
func written(text string) string {
	return strings.ReplaceAll(writtenLines(text), "\n", "\n  | ")
}

// writtenLines is written for a text whose lines are all the program's own.
func writtenLines(text string) string {
	return strings.ReplaceAll(oddWritten(text), shown.Command, "# #[")
}

// oddWritten returns a text with its odd characters as they are written in a string of Go.
func oddWritten(text string) string {
	return shown.Escape(text, func(r rune) string {
		q := strconv.QuoteRune(r)
		return q[1 : len(q)-1]
	})
}

// quoted returns a name as it is, or as a string of Go where a terminal would not show it as it is,
// or the runner of GitHub Actions would take it for a command.
func quoted(name string) string {
	command := strings.HasPrefix(strings.TrimLeft(name, " "), "::") || strings.Contains(name, shown.Command)
	if command || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strings.ReplaceAll(strconv.Quote(name), shown.Command, `#\x23[`)
	}
	return name
}

// escapeLen returns the length of the escape sequence that s starts with, 0 for none.
func escapeLen(s string) int {
	if len(s) < 2 || s[0] != 0x1b {
		return 0
	}
	switch s[1] {
	case '[': // CSI: parameters, intermediates, a final byte
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']', 'P', '^', '_', 'X': // strings, ended by BEL or ESC \
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return len(s)
	}
	n := 1
	for n < len(s)-1 && s[n] >= 0x20 && s[n] <= 0x2f { // intermediates, as of a character set
		n++
	}
	return n + 1
}

// table writes rows with aligned columns, two blanks apart and without blanks at the ends of lines.
// What a terminal would not show as it is, as names in a layout that somebody else made, is quoted.
func table(w io.Writer, rows [][]string) {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			row[i] = quoted(cell)
			if i == 0 {
				row[i] = beginning(row[i])
			}
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
	}
	var text, line []byte
	for _, row := range rows {
		line = line[:0]
		for i, cell := range row {
			line = append(line, cell...)
			for range width[i] - utf8.RuneCountInString(cell) + 2 {
				line = append(line, ' ')
			}
		}
		text = append(append(text, bytes.TrimRight(line, " ")...), '\n')
		if len(text) > 64<<10 {
			fmt.Fprintf(w, "%s", text)
			text = text[:0]
		}
	}
	fmt.Fprintf(w, "%s", text) // each cell is quoted
}
