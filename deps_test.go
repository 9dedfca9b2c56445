// Package genoci_test holds the rules that all packages of the module keep. It reads source files
// with go/parser and never asks the go command, whose answers the test cache would not see
// changing.
package genoci_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rule says what a package may import besides the standard library.
type rule struct {
	// level of the package in ARCHITECTURE.md. Imports never lead upwards, and within a level only
	// where a line below says why.
	level int
	// imports are packages of this module, as in policy, and other modules.
	imports string
	// tests are further imports of the package's tests.
	tests string
	// anyOS: the package is pure, and builds on every operating system.
	anyOS bool
}

// policy is who may import whom. This is policy, not a record of what is: a new line, or a new word
// in one, is a decision about the design, and changes ARCHITECTURE.md too.
//
// Third-party modules have one home each, so that they can be replaced there: yaml in spec,
// compressions in layer, cobra in the program. What only tests need never reaches the program.
var policy = map[string]rule{
	"internal/shown":    {level: 0, anyOS: true},
	"internal/ref":      {level: 0, imports: "github.com/opencontainers/go-digest", anyOS: true},
	"internal/spec":     {level: 1, imports: "internal/ref internal/shown go.yaml.in/yaml/v4", tests: "github.com/santhosh-tekuri/jsonschema/v6", anyOS: true},
	"internal/image":    {level: 1, imports: "github.com/opencontainers/go-digest github.com/opencontainers/image-spec", anyOS: true},
	"internal/gunzip":   {level: 0, imports: "golang.org/x/sys", tests: "github.com/klauspost/compress"}, // which processor it is
	"internal/treetest": {level: 0, imports: "golang.org/x/sys"},
	"internal/unxz":     {level: 0, imports: "golang.org/x/sys", tests: "github.com/ulikunitz/xz"},
	"internal/beneath":  {level: 0, imports: "golang.org/x/sys"},
	"internal/durable":  {level: 0, imports: "golang.org/x/sys"},
	"internal/kept":     {level: 0, anyOS: true},
	"internal/snapshot": {level: 0, anyOS: true},
	"internal/cache":    {level: 1, imports: "internal/beneath internal/durable github.com/opencontainers/go-digest golang.org/x/sys"},
	"internal/source":   {level: 1, imports: "internal/durable internal/shown golang.org/x/sync golang.org/x/sys"},
	"internal/sandbox": {
		level:   1,
		imports: "internal/beneath github.com/moby/profiles/seccomp github.com/moby/sys/user github.com/opencontainers/runtime-spec golang.org/x/sys",
	},
	"internal/sandbox/internal/gensyscalls": {level: 1},
	"internal/sandboxtest":                  {level: 2, imports: "internal/sandbox test/strict"},
	"internal/layer": {
		level: 1,
		imports: "internal/beneath internal/durable internal/gunzip internal/unxz github.com/klauspost/compress" +
			" github.com/opencontainers/go-digest github.com/opencontainers/image-spec golang.org/x/sync golang.org/x/sys",
		tests: "github.com/ulikunitz/xz",
	},

	"internal/deb": {level: 1, imports: "internal/layer"}, // layer: the compressions of control files

	"internal/plan":   {level: 2, imports: "internal/ref internal/spec", anyOS: true},
	"internal/layout": {level: 2, imports: "internal/beneath internal/durable internal/image github.com/opencontainers/go-digest github.com/opencontainers/image-spec golang.org/x/sync golang.org/x/sys"},
	"internal/imagefs": { // layout: where the blobs are
		level:   2,
		imports: "internal/beneath internal/cache internal/layer internal/image internal/layout internal/snapshot github.com/opencontainers/go-digest github.com/opencontainers/image-spec",
	},
	"internal/bundle": {
		level:   2,
		imports: "internal/image internal/layer internal/sandbox github.com/moby/sys/user github.com/opencontainers/image-spec github.com/opencontainers/runtime-spec",
	},
	"internal/history": { // rootfs: what differs between two builds
		level:   3,
		imports: "internal/image internal/imagefs internal/layout internal/rootfs github.com/opencontainers/go-digest github.com/opencontainers/image-spec",
	},
	"internal/rootfs": {
		level: 3,
		imports: "internal/beneath internal/durable internal/image internal/imagefs internal/layer" +
			" github.com/opencontainers/go-digest github.com/opencontainers/image-spec golang.org/x/sys",
	},
	"internal/snapshot/loop":     {level: 1, imports: "internal/snapshot golang.org/x/sys"},
	"internal/snapshot/mounts":   {level: 1, imports: "internal/snapshot golang.org/x/sys"},
	"internal/snapshot/treecopy": {level: 1, imports: "golang.org/x/sys"},
	"internal/snapshot/store":    {level: 1, imports: "internal/beneath internal/durable internal/snapshot internal/snapshot/mounts golang.org/x/sys"}, // mounts: views
	"internal/snapshot/overlay": {
		level:   2,
		imports: "internal/beneath internal/snapshot internal/snapshot/mounts internal/snapshot/store internal/snapshot/treecopy golang.org/x/sys",
		tests:   "internal/snapshot/snapshottest",
	},
	"internal/snapshot/btrfs": {
		level: 2,
		imports: "internal/beneath internal/durable internal/snapshot internal/snapshot/loop internal/snapshot/mounts internal/snapshot/store" +
			" internal/snapshot/treecopy golang.org/x/sys",
		tests: "internal/snapshot/snapshottest",
	},
	"internal/snapshot/btrfs/internal/gentemplate": {level: 2},
	"internal/snapshot/lvm": {
		level:   2,
		imports: "internal/beneath internal/durable internal/snapshot internal/snapshot/loop internal/snapshot/mounts internal/snapshot/store golang.org/x/sys",
		tests:   "internal/snapshot/snapshottest",
	},
	"internal/snapshot/vfs": {
		level:   2,
		imports: "internal/snapshot internal/snapshot/mounts internal/snapshot/store internal/snapshot/treecopy golang.org/x/sys",
		tests:   "internal/snapshot/snapshottest",
	},
	"internal/snapshot/snapshottest": {
		level:   2,
		imports: "internal/beneath internal/snapshot internal/snapshot/mounts internal/snapshot/store internal/snapshot/treecopy internal/treetest test/strict golang.org/x/sys",
	},

	"internal/command": {
		level:   2,
		imports: "internal/cache internal/image internal/sandbox internal/source golang.org/x/sys",
	},

	"internal/stepkey": {
		level:   2,
		imports: "internal/cache internal/shown internal/spec github.com/opencontainers/go-digest github.com/opencontainers/image-spec github.com/rogpeppe/go-internal",
	},

	"internal/action": {
		level: 3,
		imports: "internal/beneath internal/cache internal/command internal/deb internal/image internal/imagefs internal/layer internal/plan internal/sandbox internal/shown" +
			" internal/source internal/spec internal/stepkey github.com/opencontainers/go-digest github.com/opencontainers/image-spec golang.org/x/sys",
	},

	"internal/build": { // action: what steps are made of
		level: 3,
		imports: "internal/action internal/cache internal/command internal/image internal/imagefs internal/kept internal/layer internal/layout internal/plan internal/sandbox" +
			" internal/snapshot internal/source internal/spec internal/stepkey github.com/opencontainers/go-digest github.com/opencontainers/image-spec golang.org/x/sys",
		tests: "internal/snapshot/btrfs internal/snapshot/lvm internal/snapshot/overlay internal/snapshot/snapshottest internal/snapshot/vfs test/copytable",
	},

	"internal/checkout": {
		level: 3,
		imports: "internal/image internal/imagefs internal/kept internal/layer internal/layout internal/shown internal/snapshot internal/snapshot/mounts" +
			" github.com/opencontainers/go-digest golang.org/x/sys",
	},

	"internal/space": { // checkout: whose images and trees are work of people
		level: 3,
		imports: "internal/beneath internal/cache internal/checkout internal/durable internal/image internal/kept internal/layout internal/snapshot internal/snapshot/store" +
			" internal/source github.com/opencontainers/go-digest github.com/opencontainers/image-spec",
	},

	"internal/storage": { // checkout: unsetup names the checkouts that would be lost
		level: 3,
		imports: "internal/cache internal/checkout internal/sandbox internal/snapshot internal/snapshot/btrfs internal/snapshot/lvm" +
			" internal/snapshot/overlay internal/snapshot/store internal/snapshot/vfs golang.org/x/sys",
	},

	"cmd/genoci": {
		level: 4,
		imports: "internal/beneath internal/build internal/bundle internal/cache internal/checkout internal/command internal/history internal/image" +
			" internal/imagefs internal/kept internal/layer internal/layout internal/plan internal/ref internal/rootfs internal/sandbox" +
			" internal/shown internal/snapshot internal/source internal/space internal/spec internal/stepkey internal/storage" +
			" github.com/opencontainers/go-digest github.com/opencontainers/image-spec" +
			" github.com/spf13/cobra github.com/spf13/pflag go.yaml.in/yaml/v4 golang.org/x/sys golang.org/x/term",
		tests: "github.com/rogpeppe/go-internal github.com/creack/pty",
	},

	// Tests of the program as its users run it. They import nothing that it is made of.
	"internal/imagetest": {level: 2, imports: "internal/image github.com/opencontainers/go-digest github.com/opencontainers/image-spec"},
	"test/strict":        {level: 0},
	"test/killat":        {level: 1, imports: "test/strict golang.org/x/sys"},
	"test/program":       {level: 1, imports: "test/strict"},
	"test/copytable":     {level: 1},
	"test/e2e":           {level: 4, tests: "test/program github.com/creack/pty golang.org/x/sys"},
	"examples":           {level: 4, tests: "test/program"},
	// A program that an example puts into an image.
	"examples/static": {level: 4},

	".": {level: 4},
}

// anyTest is what every test may import: sandbox for the call of Init in TestMain.
const anyTest = "internal/treetest internal/imagetest internal/sandbox internal/sandboxtest test/strict test/killat github.com/google/go-cmp"

// impure are packages of the standard library that a pure package has no use for.
const impure = "net net/http os/exec os/signal os/user syscall"

// rooms are names of packages that gather what has nothing in common.
const rooms = "utils util common pkg types errors config log helpers misc"

// plain are methods whose meaning is the standard library's.
const plain = "Error String Unwrap"

// source is a parsed Go file.
type source struct {
	path string // relative to the module root
	file *ast.File
	text string
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// parse returns the Go files of the module, by package.
func parse(t *testing.T, mode parser.Mode) (map[string][]source, *token.FileSet) {
	t.Helper()
	packages := map[string][]source{}
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || isModule(name)):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(files, name, text, mode|parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		packages[dir] = append(packages[dir], source{name, file, string(text)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 10 {
		t.Fatalf("only %d packages found", len(packages))
	}
	return packages, files
}

// isModule reports whether a folder is a module of its own.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func TestImports(t *testing.T) {
	packages, _ := parse(t, parser.ImportsOnly)
	for name := range policy {
		if packages[name] == nil {
			t.Errorf("policy has a line for %s, which is no package", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		r, ok := policy[name]
		if !ok {
			t.Errorf("%s: policy has no line for it", name)
			continue
		}
		if slices.Contains(strings.Fields(rooms), path.Base(name)) {
			t.Errorf("%s: a package is named after its idea", name)
		}
		for _, file := range packages[name] {
			for _, imported := range imports(t, file) {
				checkImport(t, file, r, imported)
			}
		}
	}
}

// imports returns the paths that a file imports; those of this module are relative to it, as in
// policy.
func imports(t *testing.T, file source) []string {
	t.Helper()
	var paths []string
	for _, spec := range file.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, strings.TrimPrefix(imported, "genoci/"))
	}
	return paths
}

func checkImport(t *testing.T, file source, r rule, imported string) {
	t.Helper()
	_, own := policy[imported]
	switch {
	case isStandard(imported) && !own:
		if r.anyOS && !file.isTest() && slices.Contains(strings.Fields(impure), imported) {
			t.Errorf("%s: imports %s, but is to be pure", file.path, imported)
		}
		return
	case file.isTest() && contains(anyTest+" "+r.tests, imported):
		return
	case own && path.Dir(file.path) == imported: // an external test of the package itself
		return
	}
	switch {
	case !contains(r.imports, imported):
		t.Errorf("%s: may not import %s", file.path, imported)
	case own && policy[imported].level > r.level:
		t.Errorf("%s: is of level %d, but imports %s of level %d", file.path, r.level, imported, policy[imported].level)
	case own && r.anyOS && !policy[imported].anyOS, !own && r.anyOS && strings.HasPrefix(imported, "golang.org/x/sys"):
		t.Errorf("%s: imports %s, which does not build on every operating system", file.path, imported)
	}
}

// isStandard reports whether the path looks like one of the standard library.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// contains reports whether one of words is imported, or the module that it belongs to.
func contains(words, imported string) bool {
	return slices.ContainsFunc(strings.Fields(words), func(word string) bool {
		return imported == word || !strings.HasPrefix(word, "internal/") && strings.HasPrefix(imported, word+"/")
	})
}

func TestPurePackagesHaveNoConstraints(t *testing.T) {
	packages, _ := parse(t, parser.PackageClauseOnly)
	for name, r := range policy {
		if !r.anyOS {
			continue
		}
		for _, file := range packages[name] {
			stem := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file.path), ".go"), "_test")
			_, suffix, _ := strings.Cut(stem, "_")
			if slices.Contains([]string{"linux", "darwin", "unix", "windows"}, suffix) || strings.Contains(file.text, "\n//go:build ") {
				t.Errorf("%s: is built on some systems only", file.path)
			}
		}
	}
}

func TestNoInit(t *testing.T) {
	packages, files := parse(t, 0)
	for _, sources := range packages {
		for _, s := range sources {
			for _, decl := range s.file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s: a func init costs each start of the program and hides what happens", files.Position(f.Pos()))
				}
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	packages, _ := parse(t, parser.PackageClauseOnly)
	for name, sources := range packages {
		var comments []string
		for _, s := range sources {
			if doc := s.file.Doc.Text(); doc != "" && !s.isTest() {
				comments = append(comments, s.path)
			}
		}
		onlyTests := !slices.ContainsFunc(sources, func(s source) bool { return !s.isTest() })
		if len(comments) != 1 && !onlyTests {
			t.Errorf("%s: the package is to have one comment, not %d: %q", name, len(comments), comments)
		}
	}
}

func TestDocComments(t *testing.T) {
	packages, files := parse(t, 0)
	for _, sources := range packages {
		for _, s := range sources {
			if s.isTest() || s.file.Name.Name == "main" {
				continue
			}
			for _, name := range undocumented(s.file) {
				t.Errorf("%s: %s has no comment", files.Position(name.Pos()), name.Name)
			}
		}
	}
}

// undocumented returns the exported names of a file without a comment.
func undocumented(file *ast.File) []*ast.Ident {
	var names []*ast.Ident
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && isExportedReceiver(d.Recv) && !isPlain(d) {
				names = append(names, d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				names = append(names, undocumentedSpec(spec, d)...)
			}
		}
	}
	return names
}

// undocumentedSpec returns the exported names of one line of a declaration, where neither it nor
// the declaration has a comment.
func undocumentedSpec(spec ast.Spec, d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	var comments []*ast.CommentGroup
	switch s := spec.(type) {
	case *ast.TypeSpec:
		names, comments = []*ast.Ident{s.Name}, []*ast.CommentGroup{s.Doc, s.Comment}
	case *ast.ValueSpec:
		names, comments = s.Names, []*ast.CommentGroup{s.Doc, s.Comment}
	}
	for _, c := range append(comments, d.Doc) {
		if c != nil {
			return nil
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(name *ast.Ident) bool { return !name.IsExported() })
}

// isPlain reports whether a method needs no comment.
func isPlain(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains(strings.Fields(plain), d.Name.Name)
}

// isExportedReceiver reports whether a function is no method, or a method of an exported type.
func isExportedReceiver(recv *ast.FieldList) bool {
	if recv == nil {
		return true
	}
	expr := recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr: // a type parameter
			expr = e.X
		case *ast.Ident:
			return e.IsExported()
		default:
			return true
		}
	}
}

// TestOneOpenat2 holds that paths beneath a folder are opened by package beneath, which repeats
// what was interrupted (ADR 0028).
func TestOneOpenat2(t *testing.T) {
	packages, _ := parse(t, 0)
	for name, sources := range packages {
		for _, s := range sources {
			if name != "internal/beneath" && !s.isTest() && strings.Contains(s.text, "unix.Openat2(") {
				t.Errorf("%s: calls openat2: use beneath.Open", s.path)
			}
		}
	}
}

// printers are the files of the program that write by other means than say, table and printJSON:
// what each of them writes so.
var printers = map[string]string{
	"cmd/genoci/say.go":              "what it has made fit",
	"cmd/genoci/format.go":           "the cells of a table, quoted",
	"cmd/genoci/output.go":           "what the others write; paths and contents that a script takes as they are",
	"cmd/genoci/progress_tty.go":     "control sequences of its own",
	"cmd/genoci/progress_actions.go": "lines of the plain view, a group at a time",
	"cmd/genoci/get.go":              "the content of a file, where somebody asked for it",
	"cmd/genoci/schema.go":           "the schema",
}

// printing are calls that write text as it is.
const printing = "fmt.Fprint fmt.Fprintf fmt.Fprintln fmt.Print fmt.Printf fmt.Println io.WriteString io.Copy io.CopyN io.CopyBuffer json.NewEncoder"

// printingMethods are methods that do so, of writers and of cobra's commands. A strings.Builder is
// called b.
const printingMethods = "Write WriteString WriteTo Print Printf Println PrintErr PrintErrf PrintErrln"

// TestOneWayToPrint holds that text of others gets onto no terminal and into no log as it is: in
// the program, words are printed by say and table, and values by printJSON, which see to that.
func TestOneWayToPrint(t *testing.T) {
	packages, files := parse(t, 0)
	used := map[string]bool{}
	for _, s := range packages["cmd/genoci"] {
		name := filepath.ToSlash(s.path)
		if s.isTest() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			what := printed(call)
			if _, may := printers[name]; what != "" && may {
				used[name] = true
			} else if what != "" {
				t.Errorf("%s: %s writes text as it is: use say, sayLines, table or printJSON", files.Position(call.Pos()), what)
			}
			return true
		})
	}
	for name := range printers {
		if !used[name] {
			t.Errorf("%s has a line in printers, and needs none", name)
		}
	}
}

// printed returns what a call is called that writes text as it is; "" for others.
func printed(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		if f.Name == "print" || f.Name == "println" {
			return f.Name
		}
	case *ast.SelectorExpr:
		of, _ := f.X.(*ast.Ident)
		if of != nil && contains(printing, of.Name+"."+f.Sel.Name) {
			return of.Name + "." + f.Sel.Name
		}
		if contains(printingMethods, f.Sel.Name) && (of == nil || of.Name != "b") {
			return f.Sel.Name
		}
	}
	return ""
}
