package shown

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Odd reports whether a terminal would not show a character as it is: it is a control character,
// other than the end of a line and the tab, or it breaks lines, or changes the order in which
// others are shown (Unicode Standard Annex 9).
func Odd(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t' ||
		r == 0x061c || r == 0x200e || r == 0x200f || 0x2028 <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069
}

// Escape returns text with escape(r) in place of each odd character r, and with \xNN for each byte
// that is no part of UTF-8.
func Escape(text string, escape func(r rune) string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, Odd) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case Odd(r):
			b.WriteString(escape(r))
		default:
			b.WriteString(text[i : i+n])
		}
		i += n
	}
	return b.String()
}

// Command begins a command of the runner of GitHub Actions, anywhere in a line; "::" does so at its
// beginning.
const Command = "##["

// JSON returns JSON, or text in double quotes of YAML, with its odd characters and commands of
// runners escaped (RFC 8259, section 7): it means what it did. Only its strings can have some.
func JSON(text string) string {
	text = Escape(text, func(r rune) string { return fmt.Sprintf(`\u%04x`, r) })
	return strings.ReplaceAll(text, Command, `#\u0023[`)
}
