package shown

import (
	"slices"
	"strings"
)

// Text returns text without what may be secret in it: in URLs, as URLs has it, and in commands.
// There it is the value of a header whose name tells of a secret (Authorization, Cookie, X-Api-Key,
// PRIVATE-TOKEN), after -H or --header, and of the best known also anywhere else; user and password
// of curl; and the value of an option like --password or --oauth2-bearer. In its place stands "…".
// What is only a variable or an argument of a spec, $TOKEN, ${TOKEN} or ${{TOKEN}}, stays.
func Text(text string) string {
	text = URLs(text)
	if !strings.ContainsAny(text, ":=") && !strings.Contains(text, "--") && !strings.Contains(text, "-b") {
		return text
	}
	m := masker{text: text, curl: strings.HasPrefix(strings.TrimLeft(text, " \t"), "-")} // a line that goes on with a command
	for m.at < len(text) {
		m.next()
	}
	m.out.WriteString(text[m.copied:])
	return m.out.String()
}

// Words is Text for the words of a command: what follows an option is known for its value.
func Words(words []string) []string {
	out := slices.Clone(words)
	for i, word := range words {
		out[i] = Text(word)
		if i == 0 || !strings.HasPrefix(words[i-1], "-") || strings.Contains(word, "'") {
			continue
		}
		before := words[i-1] + " '"
		if with := Text(before + word + "'"); strings.HasPrefix(with, before) {
			out[i] = strings.TrimSuffix(with[len(before):], "'")
		}
	}
	return out
}

// masker is the state of Text.
type masker struct {
	text   string
	at     int // what is before was looked at
	copied int // what is before was written to out
	out    strings.Builder

	quote      byte // that is open at at; 0 for none
	curl, grep bool // which programs the command names so far
	list       bool // the value that is looked at is an element of a list
}

// next looks at one word or character.
func (m *masker) next() {
	if m.beginsWord() {
		name := m.text[m.at : m.at+nameLen(m.text[m.at:])]
		m.curl = m.curl || name == "curl"
		m.grep = m.grep || strings.HasSuffix(name, "grep") || name == "rg"
		if name != "" {
			if !m.option(name) && !m.header(m.at, false) {
				m.at += len(name)
			}
			return
		}
	}
	switch c := m.text[m.at]; {
	case c == '\\' && m.quote != '\'':
		m.at++ // with what it quotes
	case c == m.quote:
		m.quote = 0
	case m.quote == 0 && (c == '"' || c == '\''):
		m.quote = c
	case m.quote == 0 && (c == ';' || c == '|' || c == '&' || c == '\n'):
		m.curl, m.grep = false, false
	}
	m.at = min(m.at+1, len(m.text))
}

// beginsWord reports whether a word may begin here, in quotes or not, or the last part of a
// program's path.
func (m *masker) beginsWord() bool {
	return m.at == 0 || strings.IndexByte(" \t\r\n\"'`([{=,;|&/$", m.text[m.at-1]) >= 0
}

// nameLen returns how long what s begins with is, as a name of an option, a header or a program.
func nameLen(s string) int {
	n := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '#')
	})
	if n < 0 {
		return len(s)
	}
	return n
}

// booleans are the letters of curl's options that take no value, and may so stand before another
// one (curl(1)).
const booleans = "0123456789#aBfgGiIjJklLMnNOpqRsSvZ"

// option masks the value of the option that begins here, and reports whether it was one that has a
// secret.
func (m *masker) option(name string) bool {
	if long, ok := strings.CutPrefix(name, "--"); ok {
		return m.long(strings.ToLower(long), m.at+len(name))
	}
	letters, ok := strings.CutPrefix(name, "-")
	if !ok {
		return false
	}
	flag := strings.TrimLeft(letters, booleans)
	if flag == "" {
		return false
	}
	end := m.at + len(name) - len(flag) + 1
	switch {
	case flag[0] == 'H' && !m.grep:
		return m.header(m.value(end, true), true)
	case m.curl && strings.IndexByte("uU", flag[0]) >= 0:
		return m.mask(m.value(end, true), isLogin)
	case m.curl && flag[0] == 'b':
		return m.mask(m.value(end, true), isCookie)
	}
	return false
}

// long masks the value of an option with a long name, which ends at end.
func (m *masker) long(name string, end int) bool {
	secret := []string{
		"oauth2-bearer", "password", "passwd", "http-password", "http-passwd", "ftp-password", "proxy-password", "proxy-passwd",
		"token", "access-token", "auth-token", "api-token", "api-key", "apikey", "client-secret", "passphrase",
	}
	at := m.value(end, false)
	switch {
	case at == end:
		return false
	case name == "header" || name == "proxy-header":
		return m.header(at, true)
	case slices.Contains(secret, name), m.curl && (name == "pass" || name == "proxy-pass"):
		return m.mask(at, func(value string) bool { return !strings.HasPrefix(value, "-") })
	case m.curl && (name == "user" || name == "proxy-user"):
		return m.mask(at, isLogin)
	case m.curl && name == "cookie":
		return m.mask(at, isCookie)
	}
	return false
}

// isLogin reports whether the value of an option may hold a password. Numbers are ids.
func isLogin(value string) bool {
	return strings.Contains(value, ":") && strings.Trim(value, "0123456789:") != ""
}

// isCookie reports whether the value of an option is no file.
func isCookie(value string) bool { return strings.Contains(value, "=") }

// value returns where the value of an option that ends at end begins; end where it has none, if its
// name is a letter. Elements of a list, in quotes or not, may stand in place of words.
func (m *masker) value(end int, letter bool) int {
	rest := m.text[end:]
	m.list = false
	if !letter && strings.HasPrefix(rest, "=") {
		return end + 1
	}
	gap := strings.TrimLeft(rest, " \t")
	if closed := strings.TrimLeft(rest, "\"'"); len(rest)-len(closed) <= 1 && strings.HasPrefix(closed, ",") {
		m.list, gap = true, strings.TrimLeft(closed[1:], " \t")
	} else if strings.HasPrefix(gap, "\\\n") {
		gap = strings.TrimLeft(gap[2:], " \t")
	}
	return end + len(rest) - len(gap)
}

// header masks the value of the header that begins at at, and reports whether one does whose name
// tells of a secret. Where it is not known that a header stands there, only the best known ones
// are.
func (m *masker) header(at int, known bool) bool {
	start := at + opening(m.text[at:])
	name := m.text[start : start+nameLen(m.text[start:])]
	rest := m.text[start+len(name):]
	m.list = m.list && known
	if name == "" || !strings.HasPrefix(rest, ":") && !(known && strings.HasPrefix(rest, ";")) {
		return false
	}
	if known && !tellsSecret(name) || !known && (!isSecretHeader(name) || strings.HasPrefix(rest, ":/")) {
		return false
	}
	end := m.wordEnd(at)
	from := min(start+len(name)+1, end)
	from += len(m.text[from:end]) - len(strings.TrimLeft(m.text[from:end], " \t"))
	if from == end && start == at && end < len(m.text) { // the blank behind the colon is not quoted: what follows is a word of its own
		from += len(m.text[end:]) - len(strings.TrimLeft(m.text[end:], " \t"))
		end = m.wordsEnd(from)
	}
	m.cross(at)
	m.hide(from, end, start > at)
	return true
}

// tellsSecret reports whether the name of a header tells that its value is secret.
func tellsSecret(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"auth", "token", "key", "secret", "cookie", "password", "passwd", "credential", "session"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}

// isSecretHeader reports whether a name is that of a secret header, and hardly anything else.
func isSecretHeader(name string) bool {
	name = strings.ToLower(name)
	return name == "authorization" || name == "proxy-authorization" || strings.HasSuffix(name, "-token") && !strings.HasPrefix(name, "-") ||
		strings.HasPrefix(name, "x-") && tellsSecret(name)
}

// mask hides the word at at, if its text is one that secret tells of, and reports whether it did.
func (m *masker) mask(at int, secret func(string) bool) bool {
	end := m.wordEnd(at)
	from := at + opening(m.text[at:])
	if from >= end || !secret(strings.Trim(m.text[from:end], `"'\`)) {
		return false
	}
	m.cross(at)
	m.hide(from, end, from > at)
	return true
}

// cross notes the quotes that close and open up to a word.
func (m *masker) cross(word int) {
	for ; m.at < word; m.at++ {
		switch c := m.text[m.at]; {
		case c == m.quote:
			m.quote = 0
		case m.quote == 0 && (c == '"' || c == '\''):
			m.quote = c
		}
	}
}

// hide writes "…" in place of what is from from to end, the end of a word; quoted says that a quote
// was opened before, which closes then.
func (m *masker) hide(from, end int, quoted bool) {
	value := m.text[from:end]
	m.at = end
	if plain := strings.Trim(value, ` "'\`); plain == "" || plain == "…" || isReference(plain) {
		return
	}
	m.out.WriteString(m.text[m.copied:from] + "…")
	m.copied = end
	for ; quoted && m.copied > from && strings.IndexByte(`"'`, m.text[m.copied-1]) >= 0; quoted = false {
		m.copied--
		if m.copied > from && m.text[m.copied-1] == '\\' {
			m.copied--
		}
	}
}

// isReference reports whether a value is a variable or an argument of a spec, or several; a word
// may stand before, as "Bearer" does.
func isReference(value string) bool {
	words := strings.Fields(strings.ReplaceAll(value, "${{ ", "${{"))
	if len(words) > 1 && nameLen(words[0]) == len(words[0]) {
		words = words[1:]
	}
	return !slices.ContainsFunc(words, func(word string) bool {
		for part := range strings.SplitSeq(word, ":") {
			name, ok := strings.CutPrefix(strings.Trim(part, `"'\`), "$")
			if name = strings.Trim(name, "{}"); !ok && name != "" || nameLen(name) != len(name) {
				return true
			}
		}
		return false
	})
}

// opening returns the length of the quote that s begins with: ", ', \" or $'.
func opening(s string) int {
	for _, quote := range []string{`"`, `'`, `\"`, `$'`, `$"`} {
		if strings.HasPrefix(s, quote) {
			return len(quote)
		}
	}
	return 0
}

// wordEnd returns where the word of a shell ends that begins at at. Within a quote, that is its end
// too.
func (m *masker) wordEnd(at int) int {
	text := m.text
	if strings.HasPrefix(text[at:], `\"`) {
		if i := strings.Index(text[at+2:], `\"`); i >= 0 {
			return at + 2 + i + 2
		}
		return len(text)
	}
	outer := byte(0) // the quote in which all of the word, or of the option, stands
	if m.at > 0 && m.quote != 0 && m.quote == text[m.at-1] && strings.IndexByte(text[m.at:at], m.quote) < 0 {
		outer = m.quote
	}
	for i := at; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case outer != 0 && c == outer:
			return i
		case outer != 0:
		case c == m.quote:
			return i
		case c == '"' || c == '\'':
			i = quoteEnd(text, i)
			if end := min(i+1, len(text)); strings.HasPrefix(text[end:], ", ") || strings.HasPrefix(text[end:], "]") {
				return end // of an element of a list
			}
		case m.list && strings.IndexByte(",]\r\n", c) >= 0, !m.list && strings.IndexByte(" \t\r\n;|&<>)", c) >= 0:
			return i
		}
	}
	return len(text)
}

// wordsEnd returns where words that begin at at end: at the next option or URL, at the end of the
// command, or at that of a quote around it.
func (m *masker) wordsEnd(at int) int {
	for i := at; i < len(m.text); {
		end := m.wordEnd(i)
		word := m.text[i:end]
		if strings.HasPrefix(word, "-") || strings.Contains(word, "://") {
			return at + len(strings.TrimRight(m.text[at:i], " \t"))
		}
		if end >= len(m.text) || m.text[end] != ' ' && m.text[end] != '\t' {
			return end
		}
		i = end + len(m.text[end:]) - len(strings.TrimLeft(m.text[end:], " \t"))
	}
	return len(m.text)
}

// quoteEnd returns where the quote at i closes, or the end of the text. In double quotes, a command
// in $( ) has quotes of its own.
func quoteEnd(text string, i int) int {
	quote, depth := text[i], 0
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == quote && depth == 0:
			return i
		case quote == '\'':
		case c == '\\':
			i++
		case c == '(' && (depth > 0 || text[i-1] == '$'):
			depth++
		case c == ')' && depth > 0:
			depth--
		}
	}
	return len(text)
}
