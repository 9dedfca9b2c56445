// Package deb knows what Debian packages say of themselves, and from that the order in which dpkg
// can install several of them. It reads; installing is for the image's own dpkg.
package deb

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"genoci/internal/layer"
)

// Package is what the control file of a package says (deb-control(5)).
type Package struct {
	Name, Version, Arch string
	MultiArch           string // "", no, same, foreign or allowed
	PreDepends, Depends []Clause
	Breaks, Conflicts   []Clause
	Provides            []Clause
}

// Instance returns the name by which dpkg knows the package once it is unpacked, also where the
// image has it for several architectures.
func (p Package) Instance() string {
	if p.Arch == "all" {
		return p.Name
	}
	return p.Name + ":" + p.Arch
}

// Clause is what has to hold: one of its relations at least.
type Clause []Relation

// Relation is a package, and which of its versions (deb-depends of deb-control(5)).
type Relation struct {
	Name    string
	Arch    string // after the colon: "", any, native or an architecture
	Op      string // "", <<, <=, =, >= or >>
	Version string
}

// String writes a clause as control files have it.
func (c Clause) String() string {
	var words []string
	for _, r := range c {
		word := r.Name
		if r.Arch != "" {
			word += ":" + r.Arch
		}
		if r.Op != "" {
			word += " (" + r.Op + " " + r.Version + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " | ")
}

// maxControl is the longest control file that is read.
const maxControl = 1 << 20

// Read returns what the control file of a package says, from the package file (deb(5): an ar
// archive, whose member control.tar holds it). It reads no further than that.
func Read(r io.Reader) (Package, error) {
	br := bufio.NewReader(r)
	magic := make([]byte, 8)
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != "!<arch>\n" {
		return Package{}, errors.New("not a Debian package")
	}
	for {
		header := make([]byte, 60) // name 16, time 12, owner 6, group 6, mode 8, size 10, end 2
		if _, err := io.ReadFull(br, header); err != nil {
			return Package{}, fmt.Errorf("not a Debian package: it has no control.tar: %w", err)
		}
		name := strings.TrimSuffix(strings.TrimSpace(string(header[:16])), "/")
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || size < 0 || string(header[58:]) != "`\n" {
			return Package{}, errors.New("not a Debian package: its archive is damaged")
		}
		if strings.HasPrefix(name, "control.tar") {
			return readControl(io.LimitReader(br, size))
		}
		if _, err := io.CopyN(io.Discard, br, size+size%2); err != nil {
			return Package{}, fmt.Errorf("not a Debian package: its archive is truncated: %w", err)
		}
	}
}

// readControl finds the file control in the archive control.tar.
func readControl(r io.Reader) (Package, error) {
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return Package{}, fmt.Errorf("control.tar: %w", err)
	}
	defer plain.Close()
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if err != nil {
			return Package{}, fmt.Errorf("control.tar has no control: %w", err)
		}
		if path.Clean(h.Name) != "control" || h.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(tr, maxControl))
		if err != nil {
			return Package{}, fmt.Errorf("control.tar: %w", err)
		}
		p := parse(fieldsOf(string(text)))
		if p.Name == "" || p.Version == "" {
			return Package{}, errors.New("control has no package name or no version")
		}
		return p, nil
	}
}

// Installed returns the packages that are installed and configured, as dpkg's file status has them.
func Installed(status io.Reader) ([]Package, error) {
	var all []Package
	r := bufio.NewReader(status)
	for {
		paragraph, err := nextParagraph(r)
		if paragraph != "" {
			f := fieldsOf(paragraph)
			// "want flag status"; what has triggers pending does its work (deb-triggers(5)).
			state := strings.Fields(f["status"])
			if len(state) == 3 && (state[2] == "installed" || state[2] == "triggers-pending") {
				all = append(all, parse(f))
			}
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// nextParagraph returns the lines up to an empty one.
func nextParagraph(r *bufio.Reader) (string, error) {
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if strings.TrimSpace(line) == "" && (err != nil || text.Len() > 0) {
			return text.String(), err
		}
		if strings.TrimSpace(line) != "" {
			text.WriteString(line)
		}
		if err != nil {
			return text.String(), err
		}
	}
}

// fieldsOf returns the fields of a paragraph by their names in lower case (deb822(5)).
func fieldsOf(paragraph string) map[string]string {
	fields := map[string]string{}
	last := ""
	for line := range strings.Lines(paragraph) {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			fields[last] += " " + strings.TrimSpace(line)
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		last = strings.ToLower(strings.TrimSpace(name))
		fields[last] = strings.TrimSpace(value)
	}
	return fields
}

func parse(f map[string]string) Package {
	return Package{
		Name: f["package"], Version: f["version"], Arch: f["architecture"], MultiArch: f["multi-arch"],
		PreDepends: clauses(f["pre-depends"]), Depends: clauses(f["depends"]),
		Breaks: clauses(f["breaks"]), Conflicts: clauses(f["conflicts"]), Provides: clauses(f["provides"]),
	}
}

// clauses parses a list of relations: commas between clauses, bars between alternatives.
func clauses(s string) []Clause {
	var all []Clause
	for part := range strings.SplitSeq(s, ",") {
		var c Clause
		for alternative := range strings.SplitSeq(part, "|") {
			if r := relation(alternative); r.Name != "" {
				c = append(c, r)
			}
		}
		if len(c) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// relation parses "name:arch (op version)".
func relation(s string) Relation {
	name, rest, _ := strings.Cut(s, "(")
	var r Relation
	r.Name, r.Arch, _ = strings.Cut(strings.TrimSpace(name), ":")
	inside, _, _ := strings.Cut(rest, ")")
	r.Version = strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(inside), "<>="))
	if r.Version != "" {
		inside = strings.TrimSpace(inside)
		r.Op = inside[:len(inside)-len(strings.TrimLeft(inside, "<>="))]
	}
	switch r.Op { // the old forms that dpkg still takes
	case "<":
		r.Op = "<="
	case ">":
		r.Op = ">="
	}
	return r
}

// satisfies reports whether p, under its own name or one that it provides, is what a relation of
// the package of asks for.
func (p *Package) satisfies(r Relation, of *Package) bool {
	if !p.fits(r, of) {
		return false
	}
	if p.Name == r.Name && holds(p.Version, r.Op, r.Version) {
		return true
	}
	for _, c := range p.Provides {
		// A name that is provided without a version has none (deb-control(5)).
		if c[0].Name == r.Name && (r.Op == "" || c[0].Version != "" && holds(c[0].Version, r.Op, r.Version)) {
			return true
		}
	}
	return false
}

// fits reports whether the architecture of p is one that a relation of the package of means. A
// package for all architectures counts as one of the image's own.
func (p *Package) fits(r Relation, of *Package) bool {
	switch r.Arch {
	case "any":
		return true
	case "", "native":
		return p.Arch == of.Arch || p.Arch == "all" || of.Arch == "all" || p.MultiArch == "foreign"
	}
	return p.Arch == r.Arch || p.Arch == "all"
}

// same reports whether dpkg keeps one of the two only: they have one name, and are not for
// different architectures.
func (p *Package) same(q *Package) bool {
	return p.Name == q.Name && (p.Arch == q.Arch || p.Arch == "all" || q.Arch == "all")
}
