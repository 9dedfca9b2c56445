package spec

import (
	"fmt"
	"path"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Install installs packages with the image's own package manager, in one transaction. Files are all
// of one kind, .deb or .rpm.
type Install struct {
	Files    []string // .deb or .rpm files, globs of such, or URLs
	Packages []string // names, for apt-get, dnf, microdnf, yum, zypper or apk
	Clean    bool     // remove the package manager's lists and caches afterwards
}

func (*Install) isOp() {}

// Inputs implements Op.
func (i *Install) Inputs() []string { return i.Files }

// String implements Op.
func (i *Install) String() string {
	words := append([]string{}, i.Packages...)
	return summary("install", strings.Join(append(words, i.Files...), " "))
}

func installShape() shape[[]Action] {
	alone := textAction(schema{"pattern": `\S`}, func(s string) (Op, error) { return newInstall(strings.Fields(s)) })
	item := textAction(schema{"pattern": `\S`}, func(s string) (Op, error) { return newInstall([]string{s}) })
	s := actionShape(alone, item, tableAction(installTable()))
	items := &s[1]
	decode := items.decode
	items.decode = func(d *decoder, n *yaml.Node) ([]Action, bool) {
		actions, ok := decode(d, n)
		if !ok {
			return nil, false
		}
		return d.joinInstalls(n, actions)
	}
	return s
}

func installTable() table[Install] {
	return table[Install]{
		fields: []field[Install]{
			key("packages", "Names of packages, for the image's own package manager.", packagesShape(),
				func(i *Install) *[]string { return &i.Packages }, "package", "names", "name"),
			key("files", ".deb or .rpm files beside the spec, globs of such, or URLs.", packageFilesShape(),
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

// newInstall is the installation of files in one transaction.
func newInstall(files []string) (Op, error) {
	return &Install{Files: files}, checkPackageFiles(files)
}

// joinInstalls makes one transaction of files that stand as strings one after the other in the list
// n, of which each element gave one action.
func (d *decoder) joinInstalls(n *yaml.Node, actions []Action) ([]Action, bool) {
	isText := func(i int) bool { return kindOf(follow(n.Content[i])) == text }
	var out []Action
	for i, a := range actions {
		if i == 0 || !isText(i) || !isText(i-1) {
			out = append(out, a)
			continue
		}
		last := out[len(out)-1].Op.(*Install)
		last.Files = append(last.Files, a.Op.(*Install).Files...)
		if err := checkPackageFiles(last.Files); err != nil {
			d.errorf(a.Pos, "%v", err)
			return nil, false
		}
	}
	return out, true
}

// packagesShape is names of packages; what a package manager would take as an option is none.
func packagesShape() shape[[]string] {
	return checked(wordsShape(), func(names []string) error {
		for _, name := range names {
			if strings.HasPrefix(name, "-") || strings.ContainsAny(name, " \t\n") {
				return fmt.Errorf("%q cannot name a package", name)
			}
		}
		return nil
	})
}

// packageFilesShape is files that can be installed in one transaction.
func packageFilesShape() shape[[]string] { return checked(wordsShape(), checkPackageFiles) }

// checkPackageFiles refuses what is no package file, none at all, and kinds that no image takes both.
func checkPackageFiles(files []string) error {
	if len(files) == 0 {
		return errEmpty
	}
	for _, f := range files {
		kind := packageKind(f)
		if kind != ".deb" && kind != ".rpm" {
			return fmt.Errorf("%q is neither a .deb nor an .rpm file; packages by name are {packages: ...}", f)
		}
		if kind != packageKind(files[0]) {
			return fmt.Errorf("%q and %q cannot be installed together", files[0], f)
		}
		if err := checkSource(f); err != nil {
			return err
		}
	}
	return nil
}

// packageKind returns ".deb" or ".rpm" for the name or URL of a package file, else what it ends in.
func packageKind(file string) string {
	if isURL(file) {
		file, _, _ = strings.Cut(file, "#")
		file, _, _ = strings.Cut(file, "?")
	}
	return path.Ext(file)
}
