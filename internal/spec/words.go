package spec

import "strings"

// splitWords splits s into words as a POSIX shell does: blanks and line ends separate words, single
// quotes, double quotes and backslashes quote, a backslash at the end of a line joins it with the
// next. Nothing is expanded, and operators and "#" are characters as any other.
func splitWords(s string) ([]string, error) {
	words := []string{}
	var word strings.Builder
	open := false // a word has begun; "" is one
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case ' ', '\t', '\n':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
			i++
		case '\'', '"':
			n, err := unquote(&word, s[i:])
			if err != nil {
				return nil, &textError{offset: i, msg: err.Error()}
			}
			open = true
			i += n
		case '\\':
			switch {
			case i+1 == len(s):
				return nil, &textError{offset: i, msg: "a backslash at the end quotes nothing"}
			case s[i+1] != '\n':
				word.WriteByte(s[i+1])
				open = true
			}
			i += 2
		default:
			word.WriteByte(c)
			open = true
			i++
		}
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}

// unquote appends to word what the quoted text at the start of s means, and returns its length with
// the quotes.
func unquote(word *strings.Builder, s string) (int, error) {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return i + 1, nil
		case c == '\\' && quote == '"' && i+1 < len(s) && strings.IndexByte("$`\"\\\n", s[i+1]) >= 0:
			i++
			if s[i] != '\n' {
				word.WriteByte(s[i])
			}
		default:
			word.WriteByte(c)
		}
	}
	return 0, &textError{msg: "this " + string(quote) + " is never closed"}
}
