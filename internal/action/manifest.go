package action

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"genoci/internal/source"
)

// A manifest is all of what a copy takes from the host, as text: the key of a step has its SHA-256,
// and the cache keeps the text, so that two keys can be compared. It has a line for each match,
// then one for each thing in it in the order of the walk:
//
//	match NAME
//	u 755 src                  a folder around the match that comes along
//	d 755 .
//	f 644 1200 SHA256 main.c
//	h other.c<TAB>0 main.c     a further name of a file that stands above: of match 0, at main.c
//	l 777 link<TAB>main.c
//	p 644 fifo
//	f 755 1200 SHA256 ping<TAB>security.capability=BASE64<TAB>user.note=BASE64     with extended attributes, by name
//
// Modes are octal, and followed by @MTIME where times count. In names, backslashes, tabs and line
// ends are written as \\, \t and \n, so that no two trees have one text.

// writeManifest writes the manifest of matches, with times where the build keeps them.
func writeManifest(w io.Writer, matches []source.Match, times bool) error {
	m := manifestWriter{w: w, times: times, buf: make([]byte, 0, manifestBuffer)}
	for i, match := range matches {
		m.line(append(appendName(append(m.buf, "match "...), match.Name), '\n'))
		for j := range match.Parents {
			n := &match.Parents[j]
			m.line(append(appendName(m.mode(append(m.buf, "u "...), modeBits(n.Mode), n), n.Rel), '\n'))
		}
		for j := range match.Nodes {
			m.node(i, &match.Nodes[j])
		}
	}
	m.flush()
	return m.err
}

// manifestBuffer is how much is gathered before it is written.
const manifestBuffer = 32 << 10

type manifestWriter struct {
	w     io.Writer
	times bool
	buf   []byte
	first map[string]place // of files with several names
	err   error
}

// place is where the first name of a file stands.
type place struct {
	match int
	rel   string
}

func (m *manifestWriter) node(match int, n *source.Node) {
	b := m.buf
	switch n.Mode.Type() {
	case fs.ModeDir:
		b = m.mode(append(b, "d "...), modeBits(n.Mode), n)
	case fs.ModeSymlink:
		b = appendName(append(appendName(m.mode(append(b, "l "...), 0o777, n), n.Rel), '\t'), n.Link)
		m.line(append(b, '\n'))
		return
	case fs.ModeNamedPipe:
		b = m.mode(append(b, "p "...), modeBits(n.Mode), n)
	default:
		if first, ok := m.hardLink(match, n); ok {
			b = appendName(append(b, "h "...), n.Rel)
			b = append(strconv.AppendInt(append(b, '\t'), int64(first.match), 10), ' ')
			m.line(append(appendName(b, first.rel), '\n'))
			return
		}
		b = m.mode(append(b, "f "...), modeBits(n.Mode), n)
		b = append(strconv.AppendInt(b, n.Size, 10), ' ')
		b = append(hex.AppendEncode(b, n.Digest[:]), ' ')
	}
	b = appendName(b, n.Rel)
	if len(n.Xattrs) > 0 { // of most files there are none
		b = appendXattrs(b, n.Xattrs)
	}
	m.line(append(b, '\n'))
}

// appendXattrs appends extended attributes, by name.
func appendXattrs(b []byte, all map[string]string) []byte {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b = append(appendName(append(b, '\t'), name), '=')
		b = base64.RawStdEncoding.AppendEncode(b, []byte(all[name]))
	}
	return b
}

// hardLink returns where another name of the file stands, if n is not the first.
func (m *manifestWriter) hardLink(match int, n *source.Node) (place, bool) {
	if n.Inode == "" {
		return place{}, false
	}
	first, ok := m.first[n.Inode]
	if !ok {
		if m.first == nil {
			m.first = map[string]place{}
		}
		m.first[n.Inode] = place{match, n.Rel}
	}
	return first, ok
}

func (m *manifestWriter) mode(b []byte, mode uint32, n *source.Node) []byte {
	b = strconv.AppendUint(b, uint64(mode), 8)
	if m.times {
		b = strconv.AppendInt(append(b, '@'), n.MTime, 10)
	}
	return append(b, ' ')
}

// line takes the buffer with a further line in it.
func (m *manifestWriter) line(b []byte) {
	if m.buf = b; len(b) > manifestBuffer-1024 {
		m.flush()
	}
}

func (m *manifestWriter) flush() {
	if m.err == nil {
		_, m.err = m.w.Write(m.buf)
	}
	m.buf = m.buf[:0]
}

// appendName appends a name so that it has neither tabs nor line ends.
func appendName(b []byte, name string) []byte {
	if strings.IndexByte(name, '\\') < 0 && strings.IndexByte(name, '\t') < 0 && strings.IndexByte(name, '\n') < 0 {
		return append(b, name...)
	}
	for i := range len(name) {
		switch c := name[i]; c {
		case '\\':
			b = append(b, `\\`...)
		case '\t':
			b = append(b, `\t`...)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// unescape reverses appendName.
func unescape(name string) string {
	return strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n").Replace(name)
}

// manifestSum returns the SHA-256 of the manifest of matches.
func manifestSum(matches []source.Match, times bool) (sum [32]byte) {
	h := sha256.New()
	_ = writeManifest(h, matches, times) // a hash does not fail
	h.Sum(sum[:0])
	return sum
}

// listed is a line of a manifest.
type listed struct {
	match string // name of the match
	path  string // below it; "." is the match itself
	kind  string // file, folder, symlink, fifo or hard link
	mode  string // octal digits
	mtime string // seconds since 1970; "" where times do not count
	size  string
	sum   string // SHA-256 in hexadecimal digits
	link  string // text of a symlink; of a hard link, the first name
	xattr string // extended attributes, as in the line
}

// aroundMatch is the kind of a folder around a match; its path is below the folder of which nothing
// is kept.
const aroundMatch = "folder around it"

// parseManifest returns the lines of a manifest, without those that it cannot read.
func parseManifest(text []byte) []listed {
	var all []listed
	match := ""
	for line := range bytes.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		if kind == "match" {
			match = unescape(rest)
			continue
		}
		if l, ok := parseListed(kind, rest); ok {
			l.match = match
			all = append(all, l)
		}
	}
	return all
}

// parseListed returns what a line says after its first letter.
func parseListed(kind, rest string) (l listed, ok bool) {
	word := func() (s string) {
		s, rest, _ = strings.Cut(rest, " ")
		return s
	}
	mode := func() { l.mode, l.mtime, _ = strings.Cut(word(), "@") }
	switch kind {
	case "u":
		l.kind = aroundMatch
		mode()
	case "d":
		l.kind = "folder"
		mode()
		rest, l.xattr, _ = strings.Cut(rest, "\t")
	case "p":
		l.kind = "fifo"
		mode()
	case "f":
		l.kind = "file"
		mode()
		l.size, l.sum = word(), word()
		rest, l.xattr, _ = strings.Cut(rest, "\t")
	case "l":
		l.kind = "symlink"
		mode()
		rest, l.link, _ = strings.Cut(rest, "\t")
	case "h":
		l.kind = "hard link"
		rest, l.link, _ = strings.Cut(rest, "\t")
		_, l.link, _ = strings.Cut(l.link, " ")
	default:
		return l, false
	}
	l.path, l.link = unescape(rest), unescape(l.link)
	return l, true
}
