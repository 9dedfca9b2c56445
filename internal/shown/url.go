// Package shown makes text of others fit to be shown and to be kept: URLs and commands lose what
// may be secret in them. It knows nothing of who wrote the text.
package shown

import (
	"strings"
	"unicode"
)

// URLs returns text with every URL in it (RFC 3986, section 3) without what may be a secret: user
// and password, the query and the fragment. In place of the query stands "?…", in place of a
// fragment "#…", so that what was left out is seen. A URL ends at a blank, a control character, a
// quote, an angle bracket, a backquote or a bar. Where a host is none because a password holds what
// it must not, it is left out too.
func URLs(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	var b strings.Builder
	for {
		at := strings.Index(text, "://")
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		at += len("://")
		b.WriteString(text[:at])
		text = text[at:]
		end := strings.IndexFunc(text, endsURL)
		if end < 0 {
			end = len(text)
		}
		b.WriteString(withoutSecrets(text[:end]))
		text = text[end:]
	}
}

func endsURL(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("\"'<>`|", r)
}

// withoutSecrets returns what follows "://" in a URL without its secrets.
func withoutSecrets(s string) string {
	host, rest := s, ""
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		host, rest = s[:i], s[i:]
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	} else if !isHost(host) {
		// A password may hold a "/", "?" or "#" that is not escaped.
		i := strings.LastIndexByte(rest, '@')
		if i < 0 {
			return "…"
		}
		host, rest = "", rest[i+1:]
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			host, rest = rest[:i], rest[i:]
		} else {
			host, rest = rest, ""
		}
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		if more := rest[i+1:]; more != "" && more != "…" {
			rest = rest[:i+1] + "…"
		}
	}
	return host + rest
}

// isHost reports whether s may be a host with a port: a port is a number, or a variable or an
// argument of a spec.
func isHost(s string) bool {
	_, port, ok := strings.Cut(s[strings.LastIndexByte(s, ']')+1:], ":")
	return !ok || strings.HasPrefix(port, "$") || strings.Trim(port, "0123456789") == ""
}
