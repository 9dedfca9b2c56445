package checkout

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"genoci/internal/layer"
	"genoci/internal/shown"
)

// SpecOptions say what WriteSpec writes.
type SpecOptions struct {
	Name  string // of the target
	Base  string // its base
	Files string // folder for the contents of files that do not fit into the text; made where it is needed
}

// WriteSpec writes a spec of one target to w whose steps make the changes again: remove, then
// folders, files, links and attributes. Small texts stand in it, and what else files contain is
// copied into the folder o.Files, which must not be there yet. What no step can make is said in
// comments.
func (c *Changes) WriteSpec(w io.Writer, o SpecOptions) error {
	s := specWriter{base: c.base, o: o}
	changes, err := c.Own()
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := s.change(c); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, s.text())
	return err
}

// specWriter gathers the parts of a spec.
type specWriter struct {
	base layer.View
	o    SpecOptions

	removed  []string // quoted
	folders  []string // lines of a script
	copies   []string // maps
	rest     []string // lines of a script
	comments []string
}

// text returns the spec.
func (s *specWriter) text() string {
	var b strings.Builder
	for _, c := range s.comments {
		fmt.Fprintf(&b, "# %s\n", shown.JSON(c))
	}
	fmt.Fprintf(&b, "%s:\n  base: %s\n", quote(s.o.Name), quote(s.o.Base))
	if len(s.removed)+len(s.folders)+len(s.copies)+len(s.rest) == 0 {
		return b.String()
	}
	b.WriteString("  steps:\n")
	if len(s.removed) > 0 {
		b.WriteString("    - remove:\n")
		for _, r := range s.removed {
			fmt.Fprintf(&b, "        - %s\n", r)
		}
	}
	script(&b, s.folders)
	for _, c := range s.copies {
		fmt.Fprintf(&b, "    - copy: %s\n", c)
	}
	script(&b, s.rest)
	return b.String()
}

func script(b *strings.Builder, lines []string) {
	if len(lines) == 0 {
		return
	}
	if slices.ContainsFunc(lines, func(l string) bool { return shown.JSON(l) != l }) {
		fmt.Fprintf(b, "    - run: %s\n", quote(strings.Join(lines, "\n")+"\n"))
		return
	}
	b.WriteString("    - run: |\n")
	for _, l := range lines {
		fmt.Fprintf(b, "        %s\n", l)
	}
}

// quote returns text as a YAML scalar in double quotes, in the form that JSON has too, which a
// terminal shows as it is.
func quote(text string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string always can be
	return shown.JSON(strings.TrimSuffix(b.String(), "\n"))
}

// sh returns text as one word of a shell.
func sh(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// globbed escapes what a pattern of remove would take for more than itself.
func globbed(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
}

// isName reports whether a line of a script, or of a comment, can hold text as it is.
func isName(text string) bool { return isText([]byte(text)) && !strings.ContainsAny(text, "\n\t") }

func (s *specWriter) change(c layer.Change) error {
	if !isName(c.Path) || !isName(c.Link) || !isName(c.Group) {
		s.comments = append(s.comments, fmt.Sprintf("not made again: %q, a name that a spec cannot have", c.Path))
		return nil
	}
	at := "/" + c.Path
	if c.Path == "." {
		at = "/"
	}
	if c.Type == layer.TypeWhiteout {
		s.removed = append(s.removed, quote(globbed(at)))
		return nil
	}
	below, had, err := s.base.Lookup(c.Path)
	if err != nil {
		return err
	}
	if had && below.Type != c.Type {
		s.removed = append(s.removed, quote(globbed(at)))
		had = false
	}
	for name := range c.Xattrs {
		if !had || below.Xattrs[name] != c.Xattrs[name] {
			s.comments = append(s.comments, fmt.Sprintf("not made again: the extended attribute %q of %s", name, at))
		}
	}
	switch {
	case c.Type == layer.TypeDir:
		s.folder(at, c, below, had)
	case c.Group != "" && c.Group != c.Path:
		s.rest = append(s.rest, fmt.Sprintf("ln -f %s %s", sh("/"+c.Group), sh(at)))
	case c.Type == layer.TypeFile:
		return s.file(at, c, below, had)
	default:
		s.special(at, c)
	}
	return nil
}

func (s *specWriter) folder(at string, c layer.Change, below layer.Entry, had bool) {
	if !had {
		s.folders = append(s.folders, "mkdir -p "+sh(at))
		below.Mode, below.UID, below.GID = ^uint32(0), 0, 0
	}
	s.folders = append(s.folders, attributes(at, c.Entry, below)...)
}

// attributes returns what gives a file owner and mode, where it has others.
func attributes(at string, e, has layer.Entry) (lines []string) {
	owner := e.UID != has.UID || e.GID != has.GID
	if owner {
		lines = append(lines, fmt.Sprintf("chown %d:%d %s", e.UID, e.GID, sh(at)))
	}
	if e.Mode != has.Mode || owner && e.Mode&0o6000 != 0 { // which chown takes away
		lines = append(lines, fmt.Sprintf("chmod %04o %s", e.Mode, sh(at)))
	}
	return lines
}

// file writes a regular file: its attributes only, where the content is the base's.
func (s *specWriter) file(at string, c layer.Change, below layer.Entry, had bool) error {
	same, err := s.same(c, below, had)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	if same {
		lines := attributes(at, c.Entry, below)
		if len(lines) == 0 {
			lines = []string{"touch -c " + sh(at)}
		}
		s.rest = append(s.rest, lines...)
		return nil
	}
	source, err := s.content(c)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	s.copies = append(s.copies, fmt.Sprintf("{%s, dest: %s, chmod: %q, chown: %q}", source, quote(at),
		fmt.Sprintf("%04o", c.Mode), fmt.Sprintf("%d:%d", c.UID, c.GID)))
	return nil
}

// sandboxPaths are files in place of which a run sees those of the sandbox.
var sandboxPaths = []string{"etc/hostname", "etc/hosts", "etc/resolv.conf"}

// same reports whether a file has the content that the base has there, both have one name only, and
// a run can reach it.
func (s *specWriter) same(c layer.Change, below layer.Entry, had bool) (bool, error) {
	if slices.Contains(sandboxPaths, c.Path) {
		return false, nil
	}
	if !had || c.Size != below.Size || c.Group != "" || below.Group != "" || c.Open == nil {
		return had && c.Size == 0 && below.Size == 0 && c.Group == "" && below.Group == "", nil
	}
	r, err := c.Open()
	if err != nil {
		return false, err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return false, err
	}
	return [32]byte(h.Sum(nil)) == below.Digest, nil
}

// inline is how many bytes of text may stand in the spec itself.
const inline = 2048

// content returns where a copy has the content of a file from, as a pair of a YAML map.
func (s *specWriter) content(c layer.Change) (string, error) {
	if c.Open == nil {
		return `content: ""`, nil
	}
	r, err := c.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	if c.Size <= inline {
		data, err := io.ReadAll(r)
		if err != nil {
			return "", err
		}
		if isText(data) {
			return "content: " + quote(string(data)), nil
		}
		r = io.NopCloser(strings.NewReader(string(data)))
	}
	to := filepath.Join(s.o.Files, filepath.FromSlash(c.Path))
	if err := save(to, r); err != nil {
		return "", err
	}
	return "src: " + quote(globbed(path.Join(filepath.ToSlash(s.o.Files), c.Path))), nil
}

// isText reports whether YAML can hold data as it is: text without control characters, and nothing
// that a spec expands.
func isText(data []byte) bool {
	return utf8.Valid(data) && !strings.Contains(string(data), "${{") && !strings.ContainsFunc(string(data), func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || r == utf8.RuneError || r == '\uFEFF' || r == '\u2028' || r == '\u2029'
	})
}

// save writes a new file, and makes its folders.
func save(path string, r io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s %w", path, ErrTaken)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}

// special writes what is no file and no folder.
func (s *specWriter) special(at string, c layer.Change) {
	switch c.Type {
	case layer.TypeSymlink:
		s.rest = append(s.rest, fmt.Sprintf("ln -sfn %s %s", sh(c.Link), sh(at)))
		if c.UID != 0 || c.GID != 0 {
			s.rest = append(s.rest, fmt.Sprintf("chown -h %d:%d %s", c.UID, c.GID, sh(at)))
		}
		return
	case layer.TypeFIFO:
		s.rest = append(s.rest, "rm -f "+sh(at), "mkfifo "+sh(at))
	case layer.TypeChar:
		s.rest = append(s.rest, "rm -f "+sh(at), fmt.Sprintf("mknod %s c %d %d", sh(at), c.Major, c.Minor))
	case layer.TypeBlock:
		s.rest = append(s.rest, "rm -f "+sh(at), fmt.Sprintf("mknod %s b %d %d", sh(at), c.Major, c.Minor))
	}
	s.rest = append(s.rest, attributes(at, c.Entry, layer.Entry{Mode: ^uint32(0)})...)
}
