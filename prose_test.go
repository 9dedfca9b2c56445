package genoci_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// Bounds of what people read in Markdown. They are generous: most sentences have fewer than 25
// words.
const (
	maxWords   = 30  // of a sentence
	maxColumns = 100 // of a line that can be wrapped: no heading, no row of a table, no code
)

// sentence is a sentence of a document, and the line where its paragraph begins.
type sentence struct {
	line int
	text string
}

// TestProse holds that sentences in Markdown are short, and that lines fit into a narrow window.
func TestProse(t *testing.T) {
	for _, name := range documents(t) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, s := range sentences(text) {
			if n := len(strings.Fields(s.text)); n > maxWords {
				t.Errorf("%s:%d: a sentence has %d words, more than %d: %s", name, s.line, n, maxWords, s.text)
			}
		}
		for i, line := range proseLines(text) {
			if n := utf8.RuneCountInString(line); n > maxColumns && !isTable(line) && !strings.HasPrefix(line, "#") && !endsInLink(line) {
				t.Errorf("%s:%d: the line has %d columns, more than %d", name, i+1, n, maxColumns)
			}
		}
	}
}

// documents returns the paths of all Markdown files of the module, but for those that tests read as
// data.
func documents(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(".", func(name string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (d.Name() == "testdata" || d.Name() == "assets" || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case filepath.Ext(name) == ".md":
			names = append(names, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil || len(names) < 10 {
		t.Fatalf("%d documents, %v", len(names), err)
	}
	return names
}

// proseLines returns the lines of a document, with empty ones in place of blocks of code.
func proseLines(text string) []string {
	lines := strings.Split(text, "\n")
	fenced, before := false, ""
	for i, line := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		indented := strings.HasPrefix(line, "    ") && before == ""
		if before = line; indented {
			before = "" // the next line belongs to the same block
		}
		if fence {
			fenced = !fenced
		}
		if fence || fenced || indented {
			lines[i] = ""
		}
	}
	return lines
}

var (
	isItem   = regexp.MustCompile(`^\s*([-*]|\d+\.) `)
	codeSpan = regexp.MustCompile("``[^`]*``|`[^`]*`")
	link     = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	sentEnd  = regexp.MustCompile(`([.!?])["')*_]*(\s+|$)`)
)

// isTable reports whether a line is a row of a table.
func isTable(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "|") }

// endsInLink reports whether what makes a line long is a link, which cannot be broken.
func endsInLink(line string) bool {
	words := strings.Fields(line)
	last := words[len(words)-1]
	return strings.Contains(last, "](") || strings.Contains(last, "://")
}

// sentences returns what is said in a document, without its code. A code span is one word, and a
// link is its text.
func sentences(text string) []sentence {
	var all []sentence
	var paragraph []string
	begin := 0
	end := func() {
		all = append(all, split(begin, strings.Join(paragraph, " "))...)
		paragraph = nil
	}
	for i, line := range proseLines(codeSpan.ReplaceAllString(text, "code")) {
		switch {
		case isTable(line):
			end()
			for _, cell := range strings.Split(strings.Trim(line, "| "), "|") {
				all = append(all, split(i+1, cell)...)
			}
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
			end()
		case isItem.MatchString(line):
			end()
			line = isItem.ReplaceAllString(line, "")
			fallthrough
		default:
			if paragraph == nil {
				begin = i + 1
			}
			paragraph = append(paragraph, line)
		}
	}
	end()
	return all
}

// split cuts a paragraph into sentences.
func split(line int, paragraph string) []sentence {
	var all []sentence
	paragraph = link.ReplaceAllString(paragraph, "$1")
	for _, text := range strings.Split(sentEnd.ReplaceAllString(paragraph, "$1\n"), "\n") {
		if text = strings.TrimSpace(text); text != "" {
			all = append(all, sentence{line, text})
		}
	}
	return all
}
