package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"genoci/internal/shown"
)

// say writes a message, or a part of one, as fmt.Fprintf does. The format is the program's own, and
// so are the ends of its lines. What the arguments print may be text of others, as the names of
// tags, files and packages are: it stays within its line, changes neither a terminal nor the log of
// a runner (inLine), and is not taken for a message where it begins a line (beginning). Errors may
// have lines (written). All that commands print in words goes through say or table:
// TestOneWayToPrint holds that.
func say(w io.Writer, format string, args ...any) {
	if false {
		_ = fmt.Sprintf(format, args...) // go vet then checks calls of say as those of fmt.Sprintf
	}
	fits := make([]any, len(args))
	for i, arg := range args {
		switch arg.(type) {
		case int, int64, outputLine: // a width can be a number
			fits[i] = arg
		default:
			fits[i] = fit{arg, i == 0 && strings.HasPrefix(format, "%")}
		}
	}
	text := fmt.Sprintf(format, fits...)
	if begin := strings.TrimLeft(text, " "); strings.HasPrefix(begin, "::") && !strings.HasPrefix(format, "::") {
		text = text[:len(text)-len(begin)] + ": " + begin[1:] // no command of a runner
	}
	_, _ = io.WriteString(w, text) // whoever needs to know whether it arrived, asks output
}

// sayLines writes a text whose ends of lines are the program's own.
func sayLines(w io.Writer, text string) {
	fmt.Fprintln(w, writtenLines(text))
}

// outputLine is a line that a command wrote, as printable shows it: say leaves it as it is.
type outputLine string

// newOutputLine returns a line that a command wrote as say takes it.
func newOutputLine(line string) outputLine { return outputLine(printable(line)) }

// fit is an argument that prints as it does without, but for what text of others must not do.
type fit struct {
	arg    any
	begins bool // a line
}

// Format implements fmt.Formatter.
func (a fit) Format(state fmt.State, verb rune) {
	text := fmt.Sprintf(fmt.FormatString(state, verb), a.arg)
	if _, ok := a.arg.(error); ok {
		text = written(text)
	} else {
		text = inLine(text)
	}
	if a.begins {
		text = beginning(text)
	}
	_, _ = io.WriteString(state, text) // to memory
}

// inLine is written for what is part of a line, and begins no other one.
func inLine(text string) string { return strings.ReplaceAll(writtenLines(text), "\n", `\n`) }

// untabbed is text whose tabs are blanks, so that columns stay where they are.
func untabbed(text string) string { return strings.ReplaceAll(text, "\t", "    ") }

// beginning returns what begins a line so that it is not taken for a message of the program.
func beginning(text string) string {
	for _, message := range []string{"error: ", "hint: ", "warning: ", "note: ", "::"} {
		if strings.HasPrefix(text, message) {
			return strconv.Quote(text)
		}
	}
	return text
}

// printJSON writes v, indented.
func printJSON(w io.Writer, v any) error {
	e := newJSONEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// newJSONEncoder returns an encoder of JSON that a terminal shows as it is: what would change it is
// escaped, as JSON has it (RFC 8259, section 7), and decodes to what it was. Bytes that are not
// UTF-8 become U+FFFD, since JSON cannot hold them.
func newJSONEncoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(escapedJSON{w})
	e.SetEscapeHTML(false)
	return e
}

// escapedJSON takes JSON in whole values, as json.Encoder writes it. Only strings can have such
// characters.
type escapedJSON struct{ w io.Writer }

// Write implements io.Writer.
func (e escapedJSON) Write(p []byte) (int, error) {
	_, err := io.WriteString(e.w, shown.JSON(string(p)))
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// screen is a writer that writes out the odd characters of what is written to it. It is under all
// that is printed with words or as JSON, for what say and table do not see: what cobra prints, and
// mistakes.
type screen struct {
	w    io.Writer
	rest []byte // the beginning of a character
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	text := append(s.rest, p...)
	end := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if at := len(text) - i; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				end = at
			}
			break
		}
	}
	s.rest = append([]byte(nil), text[end:]...)
	if _, err := io.WriteString(s.w, oddWritten(string(text[:end]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush writes what may have been the beginning of a character, and was not.
func (s *screen) flush() error {
	if len(s.rest) == 0 {
		return nil
	}
	_, err := io.WriteString(s.w, oddWritten(string(s.rest)))
	s.rest = nil
	return err
}
