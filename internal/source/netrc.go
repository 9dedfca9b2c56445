package source

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
)

// withCredentials returns u with the user and password that Netrc has for its host, unless it has
// some itself.
func (s *Source) withCredentials(u *url.URL) (*url.URL, error) {
	if u.User != nil || s.Netrc == "" {
		return u, nil
	}
	text, err := os.ReadFile(s.Netrc)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	user := netrc(string(text), u.Hostname())
	if user == nil {
		return u, nil
	}
	with := *u
	with.User = user
	return &with, nil
}

// netrc returns what a netrc file says of a host; nil where it says nothing. The format is that of
// ftp(1) and curl(1): words, which may be in double quotes. A "#" begins a comment at the beginning
// of a line, "macdef" a macro that an empty line ends. An entry "default" is for no certain host,
// so nothing is taken from it.
func netrc(text, host string) *url.Userinfo {
	var user, password string
	found := false
	words := netrcWords(text)
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch words[i] {
		case "machine", "default":
			if found {
				return url.UserPassword(user, password)
			}
			if words[i] == "machine" {
				found = strings.EqualFold(value, host)
				i++
			}
		case "login":
			user = value
			i++
		case "password":
			password = value
			i++
		case "account":
			i++
		}
		if !found {
			user, password = "", ""
		}
	}
	if !found {
		return nil
	}
	return url.UserPassword(user, password)
}

// netrcWords returns the words of a netrc file, without comments and macros.
func netrcWords(text string) []string {
	var all []string
	macro := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if macro || strings.HasPrefix(line, "#") {
			macro = macro && line != ""
			continue
		}
		for line != "" {
			var word string
			if word, line = netrcWord(line); word == "macdef" {
				macro = true
				break
			}
			all = append(all, word)
		}
	}
	return all
}

// netrcWord returns the first word of a line and what follows.
func netrcWord(line string) (word, rest string) {
	if line[0] != '"' {
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			return line, ""
		}
		return line[:end], strings.TrimLeft(line[end:], " \t")
	}
	var b strings.Builder
	i := 1
	for ; i < len(line) && line[i] != '"'; i++ {
		if line[i] == '\\' && i+1 < len(line) {
			i++
		}
		b.WriteByte(line[i])
	}
	return b.String(), strings.TrimLeft(line[min(i+1, len(line)):], " \t")
}
