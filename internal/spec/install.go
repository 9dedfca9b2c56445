package spec

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Install installs packages with the image's own package manager: the files of a kind in one
// transaction, the packages in another.
type Install struct {
	Files    []string // .deb or .rpm files, globs or folders of such, or URLs
	Packages []string // names, for apt-get, dnf, microdnf, yum, zypper or apk
	Clean    bool     // remove the package manager's lists and caches afterwards
	Written  *Written
}

func (i *Install) written() **Written { return &i.Written }

func (*Install) whole(text string) Op { return &Install{Files: []string{text}} }

// Runs implements Op.
func (*Install) Runs() bool { return true }

// Images implements Op.
func (*Install) Images() []string { return nil }

// Inputs implements Op.
func (i *Install) Inputs() []string { return i.Files }

// String implements Op.
func (i *Install) String() string {
	i = shownAs(i)
	words := append([]string{}, i.Packages...)
	return summary("install", strings.Join(append(words, i.Files...), " "))
}

func installShape() shape[[]Action] {
	files := func(f form[[]string]) form[[]Action] {
		return placed(convert(f, func(files []string) Op { return &Install{Files: files} }))
	}
	item := shape[string]{wordForm(packageItem, checkPackageFile)}
	s := actionShape(files(packageFilesShape()[0]), files(wrapped(item)[0]), tableAction(installTable()))
	items := &s[1]
	decode := items.decode
	items.decode = func(d *decoder, n *yaml.Node) ([]Action, bool) {
		actions, ok := decode(d, n)
		if ok {
			actions = joinInstalls(n, actions)
		}
		return actions, ok
	}
	return s
}

func installTable() table[Install] {
	return table[Install]{
		fields: []field[Install]{
			key("packages", "Names of packages, for the image's own package manager.", wordsShape(packageName, "^"+packageName+"$", checkPackage),
				func(i *Install) *[]string { return &i.Packages }, "package", "names", "name"),
			key("files", ".deb or .rpm files beside the spec, globs or folders of such, or URLs.", packageFilesShape(),
				func(i *Install) *[]string { return &i.Files }, "file", "src"),
			key("clean", "Remove the package manager's lists and caches afterwards; when left out, true where there are packages.", boolShape(),
				func(i *Install) *bool { return &i.Clean }),
		},
		facets: schema{"anyOf": []schema{{"required": []string{"packages"}}, {"required": []string{"files"}}}},
		check: func(d *decoder, n *yaml.Node, keys keys, i *Install) {
			if len(keys.inOrder("packages", "files")) == 0 {
				d.errorf(posOf(n), `"packages" or "files" is missing`)
			}
			if _, ok := keys["clean"]; !ok {
				i.Clean = len(i.Packages) > 0
			}
		},
	}
}

// joinInstalls makes one installation of files that stand as strings one after the other in the
// list n, of which each element gave one action.
func joinInstalls(n *yaml.Node, actions []Action) []Action {
	isText := func(i int) bool { return kindOf(follow(n.Content[i])) == text }
	var out []Action
	for i, a := range actions {
		if i == 0 || !isText(i) || !isText(i-1) {
			out = append(out, a)
			continue
		}
		last := out[len(out)-1].Op.(*Install)
		last.join(a.Op.(*Install))
	}
	return out
}

// join adds the files of another installation.
func (i *Install) join(next *Install) {
	if i.Written != nil || next.Written != nil {
		args := maps.Clone(Arguments(next))
		if args == nil {
			args = map[string]string{}
		}
		maps.Copy(args, Arguments(i))
		i.Written = &Written{&Install{Files: slices.Concat(shownAs(i).Files, shownAs(next).Files)}, args}
	}
	i.Files = append(i.Files, next.Files...)
}

// packageName is what a schema can say of the name of a package.
const packageName = `[^- \t\r\n]` + nonBlank + "*"

// packageItem is what a schema can say of a package file in a list.
const packageItem = `/|\.(deb|rpm)$`

// packageFilesShape is package files, and at least one.
func packageFilesShape() shape[[]string] {
	return wordsShape("("+nonBlank+"*/"+nonBlank+"*|"+nonBlank+`+\.(deb|rpm))`, packageItem, checkPackageFile)
}

// checkPackage refuses what a package manager would take as an option, or as several names.
func checkPackage(name string) error {
	if strings.HasPrefix(name, "-") || strings.ContainsAny(name, blanks) {
		return fmt.Errorf("%q cannot name a package", name)
	}
	return nil
}

// checkPackageFile refuses what names no file: a bare word that ends in neither .deb nor .rpm is
// the name of a package, in all likelihood.
func checkPackageFile(file string) error {
	if path.Ext(file) != ".deb" && path.Ext(file) != ".rpm" && !strings.Contains(file, "/") {
		return fmt.Errorf("%q is not a .deb or .rpm file; write {packages: NAME} for a package by name, and NAME/ for a folder of package files", file)
	}
	return checkSource(file)
}
