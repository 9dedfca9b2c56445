// Package treetest makes, dumps and compares file trees in tests. A tree is text, one line a path,
// sorted as a walk meets them:
//
//	etc/ dir 0755 0:0
//	etc/hostname file 0644 0:0 "genoci\n"
//	etc/motd file 0644 0:0 <1> "hello"
//	etc/issue file 0644 0:0 <1> "hello"
//	usr/lib/big.so file 0755 0:0 size=70000 sha256:9dfc07c1fc2d
//	bin symlink usr/bin
//	dev/null c 1:3 0666 0:0
//	run/pipe fifo 0600 33:33
//	usr/bin/ping file 0755 0:0 "\x7fELF" security.capability="\x01..." mtime=1700000000.5
//
// It never compares what two trees cannot share: inode numbers, access and change times, allocated
// blocks.
package treetest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Option changes what [Make] heeds and [Dump] shows.
type Option int

// The options.
const (
	NoOwners Option = iota // Make ignores owners, Dump leaves them out: for ordinary users, who cannot give files away
	MTimes                 // Dump shows modification times; Make always sets those that the text has
	Root                   // Dump shows the root folder itself, as "./"
)

// Diff compares two dumps: it returns the lines that only a has, after "-", and those that only b
// has, after "+", in the order of their paths. It returns "" for equal trees.
func Diff(a, b string) string {
	count := map[string]int{}
	for line := range strings.Lines(a) {
		count[line]--
	}
	for line := range strings.Lines(b) {
		count[line]++
	}
	lines := slices.SortedFunc(maps.Keys(count), func(x, y string) int {
		return cmp.Or(cmp.Compare(pathOf(x), pathOf(y)), cmp.Compare(count[x], count[y]))
	})
	var out strings.Builder
	for _, line := range lines {
		switch n := count[line]; {
		case n < 0:
			out.WriteString("-" + line)
		case n > 0:
			out.WriteString("+" + line)
		}
	}
	return out.String()
}

func pathOf(line string) string {
	path, _, _ := strings.Cut(line, " ")
	return path
}

// The types of nodes, as they are written.
const (
	typeDir     = "dir"
	typeFile    = "file"
	typeSymlink = "symlink"
	typeFIFO    = "fifo"
	typeSocket  = "socket"
	typeChar    = "c"
	typeBlock   = "b"
)

// node is one line of a tree.
type node struct {
	path         string // "." is the root
	typ          string
	mode         uint32 // as in chmod(2)
	uid, gid     int    // -1: not given
	group        string // of hard links
	content      string // of a file, where sum is ""
	size         int64  // of a file, where sum is not ""
	sum          string // first digits of the SHA-256 of a file that is too long to be shown
	link         string
	major, minor uint32
	xattrs       map[string]string
	mtime        time.Time // zero: not given
}

// inline is the length up to which the content of a file is shown.
const inline = 64

func (n *node) String() string {
	name := n.path
	if n.typ == typeDir {
		name += "/"
	}
	fields := []string{quote(name), n.typ}
	add := func(format string, args ...any) { fields = append(fields, fmt.Sprintf(format, args...)) }
	if n.typ == typeChar || n.typ == typeBlock {
		add("%d:%d", n.major, n.minor)
	}
	if n.typ != typeSymlink {
		add("%04o", n.mode)
	}
	if n.uid >= 0 && (n.typ != typeSymlink || n.uid != 0 || n.gid != 0) {
		add("%d:%d", n.uid, n.gid)
	}
	if n.group != "" {
		add("<%s>", n.group)
	}
	switch {
	case n.typ == typeSymlink:
		add("%s", quote(n.link))
	case n.sum != "":
		add("size=%d", n.size)
		add("sha256:%s", n.sum)
	case n.typ == typeFile:
		add("%q", n.content)
	}
	for _, key := range slices.Sorted(maps.Keys(n.xattrs)) {
		add("%s=%q", key, n.xattrs[key])
	}
	if !n.mtime.IsZero() {
		add("mtime=%s", formatTime(n.mtime))
	}
	return strings.Join(fields, " ")
}

func formatTime(t time.Time) string {
	s := strconv.FormatInt(t.Unix(), 10)
	if ns := t.Nanosecond(); ns != 0 {
		s += strings.TrimRight(fmt.Sprintf(".%09d", ns), "0")
	}
	return s
}

var (
	plainWord  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[!$-;=?-~][!#-~]*$`) })
	numberPair = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+:[0-9]+$`) })
)

// quote returns s as one word: as it is where that cannot be taken for anything else.
func quote(s string) string {
	if !plainWord().MatchString(s) || numberPair().MatchString(s) || strings.HasPrefix(s, "mtime=") {
		return strconv.Quote(s)
	}
	return s
}

func unquote(word string) (string, error) {
	if strings.HasPrefix(word, `"`) {
		return strconv.Unquote(word)
	}
	return word, nil
}

// split cuts a line at its spaces, but not within quotes.
func split(line string) ([]string, error) {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " \t") {
		end := 0
		for end < len(line) && line[end] != ' ' && line[end] != '\t' {
			step := 1
			if line[end] == '"' {
				quoted, err := strconv.QuotedPrefix(line[end:])
				if err != nil {
					return nil, fmt.Errorf("no end of quotes: %s", line[end:])
				}
				step = len(quoted)
			}
			end += step
		}
		words = append(words, line[:end])
		line = line[end:]
	}
	return words, nil
}

// parse reads the lines of a tree. Empty lines and those that start with # are passed over.
func parse(text string) ([]*node, error) {
	var nodes []*node
	for line := range strings.Lines(text) {
		words, err := split(line)
		if err == nil && (len(words) == 0 || strings.HasPrefix(words[0], "#")) {
			continue
		}
		var n *node
		if err == nil {
			n, err = parseNode(words)
		}
		if err != nil {
			return nil, fmt.Errorf("tree line %q: %w", strings.TrimSpace(line), err)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func parseNode(words []string) (*node, error) {
	if len(words) < 2 {
		return nil, fmt.Errorf("a path and a type are needed")
	}
	name, err := unquote(words[0])
	if err != nil {
		return nil, err
	}
	n := &node{path: strings.TrimSuffix(name, "/"), typ: words[1], uid: -1, gid: -1, mode: 0o644}
	if (n.path != name) != (n.typ == typeDir) {
		return nil, fmt.Errorf("folders, and only they, end in a slash")
	}
	words = words[2:]
	switch n.typ {
	case typeDir:
		n.mode = 0o755
	case typeFile, typeFIFO, typeSocket, typeSymlink:
	case typeChar, typeBlock:
		if len(words) == 0 {
			return nil, fmt.Errorf("device numbers are needed")
		}
		if _, err := fmt.Sscanf(words[0], "%d:%d", &n.major, &n.minor); err != nil {
			return nil, fmt.Errorf("device numbers %q: %w", words[0], err)
		}
		words = words[1:]
	default:
		return nil, fmt.Errorf("unknown type %q", n.typ)
	}
	for _, word := range words {
		if err := n.setField(word); err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
	}
	if n.sum != "" && n.sum != shortSum(n.content) {
		return nil, fmt.Errorf("sha256:%s is not the sum of what size=%d stands for", n.sum, n.size)
	}
	return n, nil
}

// shortSum returns as many digits of the SHA-256 of content as dumps show.
func shortSum(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:6])
}

// setField takes one word behind the type; each form can be told from the others.
func (n *node) setField(word string) error {
	key, value, assigned := strings.Cut(word, "=")
	var err error
	switch {
	case numberPair().MatchString(word):
		_, err = fmt.Sscanf(word, "%d:%d", &n.uid, &n.gid)
	case n.typ == typeFile && word[0] == '"':
		n.content, err = strconv.Unquote(word)
	case word[0] == '<' && strings.HasSuffix(word, ">"):
		n.group = word[1 : len(word)-1]
	case assigned && key == "mtime":
		n.mtime, err = parseTime(value)
	case assigned && strings.HasPrefix(value, `"`) && word[0] != '"':
		if n.xattrs == nil {
			n.xattrs = map[string]string{}
		}
		n.xattrs[key], err = strconv.Unquote(value)
	case n.typ == typeSymlink:
		n.link, err = unquote(word)
	case assigned && key == "size":
		n.size, err = strconv.ParseInt(value, 10, 64)
		n.content = filler(n.size)
	case strings.HasPrefix(word, "sha256:"):
		n.sum = strings.TrimPrefix(word, "sha256:")
	default:
		var mode uint64
		mode, err = strconv.ParseUint(word, 8, 12)
		n.mode = uint32(mode)
	}
	return err
}

func parseTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	nsec, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Unix(sec, nsec), err
}

// filler returns the n bytes that "size=n" stands for.
func filler(n int64) string {
	const line = "The quick brown fox jumps over the lazy dog.\n"
	return strings.Repeat(line, int(n)/len(line)+1)[:n]
}
