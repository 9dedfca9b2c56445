// Package copytable reads the tables of docs/copy.md, which say what a copy of each kind of source
// to each kind of destination gives. Whoever builds images can be held against them.
package copytable

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Cell is one copy, and what it gives.
type Cell struct {
	Src  string   // below the folder of the sources
	Dest string   // an absolute path of the image
	Want []string // the absolute paths of the files that the copy puts, sorted; none where it is an error
}

// String returns the source and the destination.
func (c Cell) String() string { return c.Src + " " + c.Dest }

// Rows returns the cells of the table of a Markdown file whose first column has this title, without
// code marks.
func Rows(t testing.TB, file, title string) [][]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(data), "\n| "+title+" |")
	if !ok {
		t.Fatalf("%s has no table with a column %q", file, title)
	}
	var rows [][]string
	for i, line := range strings.Split(title+" |"+table, "\n") {
		if i > 0 && !strings.HasPrefix(line, "|") {
			break
		}
		if i == 1 { // |---|
			continue
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), " | ") {
			row = append(row, strings.TrimSpace(strings.ReplaceAll(cell, "`", "")))
		}
		rows = append(rows, row)
	}
	return rows
}

// Cells returns all cells of the table of destinations.
func Cells(t testing.TB, file string) []Cell {
	t.Helper()
	rows := Rows(t, file, "DEST")
	var cells []Cell
	for _, row := range rows[1:] {
		for i, column := range rows[0] {
			if i == 0 {
				continue
			}
			for src := range strings.FieldsSeq(column) {
				cells = append(cells, Cell{src, row[0], wanted(src, row[i])})
			}
		}
	}
	return cells
}

// globs are the files that match the globs of the sources.
var globs = map[string][]string{"*.one": {"f.one"}, "*.c": {"1.c", "2.c"}}

// wanted returns the paths that a cell of a column of src names.
func wanted(src, cell string) []string {
	if cell == "error" {
		return nil
	}
	names, ok := globs[src]
	if !ok {
		names = []string{src}
	}
	var want []string
	for p := range strings.FieldsSeq(cell) {
		for _, name := range names {
			if w := strings.ReplaceAll(p, "NAME", name); !slices.Contains(want, w) {
				want = append(want, w)
			}
		}
	}
	slices.Sort(want)
	return want
}

// File is a file, folder or symlink: a folder where Name ends in a slash, a symlink where Link is
// its text.
type File struct{ Name, Link, Content string }

// What files hold: those that are copied, and those that the image has.
const (
	New = "new"
	Old = "old"
)

// Sources are the files that are copied, in an order in which they can be made.
func Sources() []File {
	return []File{
		{"f", "", New}, {"to-f", "f", ""}, {"d/", "", ""}, {"d/a", "", New}, {"d/sub/", "", ""}, {"d/sub/b", "", New}, {"to-d", "d", ""},
		{"f.one", "", New}, {"1.c", "", New}, {"2.c", "f", ""}, {"x.d/", "", ""}, {"x.d/a", "", New}, {"x.d/sub/", "", ""}, {"x.d/sub/b", "", New},
		{"to-none", "none", ""}, {"x.n", "none", ""},
	}
}

// Image is what the image has before the copy, in an order in which it can be made. Symlinks are
// absolute: they lead below the path root of the image ("" or "/NAME"), where all of it stands.
func Image(root string) []File {
	files := []File{
		{"file", "", Old}, {"to-file", root + "/file", ""}, {"dir/", "", ""}, {"to-dir", root + "/dir", ""},
		{"to-none", root + "/none", ""}, {"to-deep", root + "/deep/none", ""}, {"links/", "", ""}, {"full/", "", ""},
	}
	for _, name := range []string{"1.c", "2.c", "a", "f", "f.one", "to-f"} {
		files = append(files, File{"links/" + name, root + "/file", ""}, File{"full/" + name + "/", "", ""})
	}
	return append(files, File{"links/sub", root + "/none", ""}, File{"full/sub", "", Old})
}

// Make makes files in a folder of the host.
func Make(t testing.TB, dir string, files []File) {
	t.Helper()
	for _, f := range files {
		p := filepath.Join(dir, f.Name)
		var err error
		switch {
		case f.Link != "":
			err = os.Symlink(f.Link, p)
		case strings.HasSuffix(f.Name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(f.Content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Look is a tree after a copy: it returns the text of a symlink at a path, or the content of a
// file; kind is 'l', 'f' or 'd', and 0 where nothing is.
type Look func(path string) (kind byte, text string)

// Differs returns how a tree, in which the image of a cell stood at root, differs from what the
// cell says; "" where it does not. files are the paths of the files in it whose content is New,
// below root.
func (c Cell) Differs(root string, files []string, look Look) string {
	slices.Sort(files)
	if got := strings.Join(files, " "); got != strings.Join(c.Want, " ") {
		return fmt.Sprintf("%s: puts %q, not %q", c, got, strings.Join(c.Want, " "))
	}
	for _, f := range Image(root) {
		p := path.Join("/", f.Name)
		kind, text := look(path.Join(root, p))
		replaced := slices.Contains(c.Want, p)
		switch {
		case replaced:
		case f.Link != "" && (kind != 'l' || text != f.Link):
			return fmt.Sprintf("%s: the symlink %s is gone", c, p)
		case strings.HasSuffix(f.Name, "/") && kind != 'd':
			return fmt.Sprintf("%s: the folder %s is gone", c, p)
		case f.Content != "" && (kind != 'f' || text != f.Content):
			return fmt.Sprintf("%s: the file %s is gone", c, p)
		}
	}
	return ""
}
