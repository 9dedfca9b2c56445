package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"genoci/internal/cache"
	"genoci/internal/command"
	"genoci/internal/deb"
	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/sandbox"
	"genoci/internal/source"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// packageManager installs packages by name from the repositories that the image knows.
type packageManager struct {
	name    string
	install string // shell text; "$@" are the packages
	clean   string // removes lists and caches
}

// packageManagers are those that genoci knows, in the order in which an image is asked for them.
var packageManagers = []packageManager{
	{"apt-get", "apt-get update && apt-get install -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold --no-install-recommends \"$@\"", "apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin"},
	{"dnf", "dnf install -y --setopt=install_weak_deps=False \"$@\"", "dnf clean all && rm -rf /var/cache/dnf"},
	{"microdnf", "microdnf install -y \"$@\"", "microdnf clean all"},
	{"yum", "yum install -y \"$@\"", "yum clean all && rm -rf /var/cache/yum"},
	{"zypper", "zypper --non-interactive install --no-recommends \"$@\"", "zypper clean --all"},
	{"apk", "apk add --no-cache \"$@\"", "rm -rf /var/cache/apk/*"},
}

// dpkgKeeps has dpkg keep config files that are there and are not what the package expects, where
// it would ask.
var dpkgKeeps = []string{"--force-confdef", "--force-confold"}

// unattended returns a command that packages are told not to ask.
func (s *Stage) unattended(root string, out *command.Output) *command.Command {
	c := s.Commands.Command(root, out)
	c.Cmd.Env = image.SetFirstEnv(c.Cmd.Env, []string{"DEBIAN_FRONTEND=noninteractive"})
	return c
}

// packageLogs removes what package managers write with the time of day, or other things that differ
// from build to build, in it. SQLite's shared memory of rpm's database is such; with an empty
// write-ahead log next to it, it says nothing that the database does not
// (https://www.sqlite.org/wal.html).
const packageLogs = "rm -rf /var/log/dpkg.log /var/log/apt/* /var/log/alternatives.log /var/log/bootstrap.log" +
	" /var/log/dnf* /var/log/yum.log /var/log/hawkey.log /var/log/zypper.log /var/log/zypp /var/cache/ldconfig/aux-cache" +
	" /var/cache/debconf/*-old /var/lib/dpkg/*-old\n" +
	"for db in /root/.rpmdb /var/lib/rpm /usr/lib/sysimage/rpm; do\n" +
	"  [ -s $db/rpmdb.sqlite-wal ] || rm -f $db/rpmdb.sqlite-wal $db/rpmdb.sqlite-shm\n" +
	"done"

// The magic bytes of package files: ar(5) for .deb, the lead of rpm's file format v3.
var (
	debMagic = []byte("!<arch>\ndebian-binary")
	rpmMagic = []byte{0xed, 0xab, 0xee, 0xdb}
)

// install installs package files and packages with the programs of the image.
type install struct {
	at    At
	op    *spec.Install
	files []source.File
}

func installKind() kind {
	return &kindOf[*spec.Install, installNode]{
		word: "install", new: func(at At, op *spec.Install) Action { return &install{at: at, op: op} },
		named: func(n installNode) string { return strings.Join(n.Packages, " ") },
		fields: func() []field[installNode] {
			return []field[installNode]{
				flagField("clean", func(n installNode) bool { return n.Clean }),
				{name: "files", same: func(was, is installNode) bool { return slices.Equal(was.Install, is.Install) }, tell: tellPackages},
				listField("packages", func(n installNode) []string { return n.Packages }),
			}
		},
	}
}

// installNode is the part of an install in a key.
type installNode struct {
	Install  []string `json:",omitempty"` // digests and names of files
	Packages []string `json:",omitempty"`
	Clean    bool     `json:",omitempty"`
}

// At implements Action.
func (i *install) At() At { return i.at }

// Node implements Action.
func (i *install) Node(Ground) (any, error) {
	node := installNode{Packages: i.op.Packages, Clean: i.op.Clean}
	for _, f := range i.files {
		node.Install = append(node.Install, f.String()+" "+f.Name)
	}
	return node, nil
}

// Written implements Action.
func (i *install) Written(of any) any {
	node := of.(installNode)
	node.Packages = spec.Shown(i.op).(*spec.Install).Packages
	if len(i.op.Files) != len(i.files) {
		return node
	}
	node.Install = nil
	for j, name := range spec.ShownInputs(i.op) {
		f := i.files[j]
		if source.IsURL(i.op.Files[j]) {
			f.Name = path.Base(name)
		}
		node.Install = append(node.Install, f.String()+" "+f.Name)
	}
	return node
}

// tellPackages compares lists of "DIGEST NAME" of package files.
func tellPackages(t teller, old, now installNode) []stepkey.Reason {
	digests := func(list []string) map[string]string {
		m := map[string]string{}
		for _, s := range list {
			digest, name, _ := strings.Cut(s, " ")
			m[name] = digest
		}
		return m
	}
	was, is := digests(old.Install), digests(now.Install)
	var all []stepkey.Reason
	add := func(code stepkey.Code, name string) { all = append(all, t.input(code, name, was[name], is[name])) }
	for _, s := range now.Install {
		_, name, _ := strings.Cut(s, " ")
		if was[name] == "" {
			add(stepkey.PackageAdded, name)
		} else if was[name] != is[name] {
			add(stepkey.PackageChanged, name)
		}
	}
	for _, s := range old.Install {
		if _, name, _ := strings.Cut(s, " "); is[name] == "" {
			add(stepkey.PackageRemoved, name)
		}
	}
	if len(all) == 0 {
		all = append(all, t.reason(stepkey.PackagesMoved))
	}
	return all
}

// Names implements Reader.
func (i *install) Names(src *source.Source) ([]string, func(string) ([]string, error)) {
	return localNames(i.at.Action, false), src.FindPackages
}

// Find implements Reader.
func (i *install) Find(ctx context.Context, h Host) error {
	for _, name := range i.op.Files {
		found, err := h.Source.Packages(ctx, name)
		if err != nil {
			return err
		}
		i.files = append(i.files, found...)
	}
	return nil
}

// Unread implements Reader.
func (*install) Unread() bool { return false }

// Complete implements Reader.
func (*install) Complete(context.Context, Host) error { return nil }

// Keep implements Reader.
func (*install) Keep(*cache.Cache, Host) error { return nil }

// Run implements Runner.
func (i *install) Run(ctx context.Context, s *Stage, root string, out *command.Output) error {
	begin := s.Now()
	var moved []string // config files that rpm says it has moved away, by the names that they have now
	out.Each(func(line string) {
		if name := movedConfig(line); name != "" {
			moved = append(moved, name)
		}
	})
	debs, rpms, err := sortPackages(i.files)
	if err != nil {
		return err
	}
	if len(debs) > 0 {
		if err := s.installDebs(ctx, root, out, debs); err != nil {
			return err
		}
	}
	if len(rpms) > 0 {
		if err := s.installRpms(ctx, root, out, rpms, &moved); err != nil {
			return err
		}
	}
	clean := packageLogs
	if len(i.op.Packages) > 0 {
		pm, err := s.packageManager(root)
		if err != nil {
			return err
		}
		if err := s.shell(ctx, root, out, pm.install, i.op.Packages...); err != nil {
			return err
		}
		if err := s.keepConfig(ctx, root, out, &moved); err != nil {
			return err
		}
		if i.op.Clean {
			clean = pm.clean + "\n" + clean
		}
	}
	if err := s.shell(ctx, root, out, clean); err != nil {
		return err
	}
	return s.warnReplaced(ctx, i.at.Action, begin)
}

// sortPackages tells packages by their content.
func sortPackages(files []source.File) (debs, rpms []source.File, err error) {
	for _, f := range files {
		head, err := readHead(f, len(debMagic))
		switch {
		case err != nil:
			return nil, nil, err
		case bytes.HasPrefix(head, debMagic):
			debs = append(debs, f)
		case bytes.HasPrefix(head, rpmMagic):
			rpms = append(rpms, f)
		default:
			return nil, nil, fmt.Errorf("%s is neither a .deb nor an .rpm package", f.Path)
		}
	}
	return debs, rpms, nil
}

func readHead(f source.File, n int) ([]byte, error) {
	r, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, int64(n)))
}

// installDebs installs .deb packages with the image's dpkg, in an order that their own fields
// allow.
func (s *Stage) installDebs(ctx context.Context, root string, out *command.Output, files []source.File) error {
	files, given, err := readDebs(files)
	if err != nil {
		return err
	}
	installed, err := installedDebs(root)
	if err != nil {
		return err
	}
	plan := deb.NewPlan(given, installed)
	for _, call := range plan.Calls {
		args := append([]string{string(call.Action)}, dpkgKeeps...)
		if plan.Deconfigure {
			args = append(args, "--auto-deconfigure")
		}
		var batch []packageFile
		for _, i := range call.Packages {
			if call.Action == deb.Configure {
				args = append(args, given[i].Instance())
			} else {
				batch = append(batch, packageFile{i, files[i]})
			}
		}
		if err := s.packageTool(ctx, root, out, "dpkg", args, batch); err != nil {
			if missing := deb.Missing(given, installed); len(missing) > 0 {
				err = fmt.Errorf("%w: packages are missing: %s", err, strings.Join(missing, "; "))
			}
			return err
		}
	}
	return nil
}

// readDebs returns what packages say of themselves. One that is given twice is left out; two of
// which only one could stay are an error.
func readDebs(files []source.File) (kept []source.File, packages []deb.Package, err error) {
	for _, f := range files {
		if slices.ContainsFunc(kept, func(k source.File) bool { return k.Digest == f.Digest }) {
			continue
		}
		p, err := readDeb(f)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		kept, packages = append(kept, f), append(packages, p)
	}
	if i, j, ok := deb.Twice(packages); ok {
		return nil, nil, fmt.Errorf("%s is given twice: %s has version %s, %s has version %s",
			packages[i].Name, kept[i].Name, packages[i].Version, kept[j].Name, packages[j].Version)
	}
	return kept, packages, nil
}

func readDeb(f source.File) (deb.Package, error) {
	r, err := os.Open(f.Path) // dpkg gets what has the digest; see command.Command.Input
	if err != nil {
		return deb.Package{}, err
	}
	defer r.Close()
	return deb.Read(r)
}

// installedDebs returns the packages that dpkg knows to be in an image.
func installedDebs(root string) ([]deb.Package, error) {
	view := layer.Dir(root)
	status, err := layer.Resolve(view, "var/lib/dpkg/status", true)
	if err != nil {
		return nil, err
	}
	if e, ok, err := view.Lookup(status); err != nil || !ok || e.Type != layer.TypeFile {
		return nil, err
	}
	f, err := os.Open(filepath.Join(root, status)) // nothing runs in the tree that could change a folder of the path to a symlink
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return deb.Installed(f)
}

// installRpms installs .rpm packages with the image's rpm, which orders them itself.
func (s *Stage) installRpms(ctx context.Context, root string, out *command.Output, files []source.File, moved *[]string) error {
	var batch []packageFile
	for i, f := range files {
		if !slices.ContainsFunc(batch, func(b packageFile) bool { return b.file.Digest == f.Digest }) {
			batch = append(batch, packageFile{i, f})
		}
	}
	if len(batch) > 1 {
		var names bytes.Buffer
		query := command.NewOutput(func(line string) { names.WriteString(line + "\n") })
		if err := s.packageTool(ctx, root, query, "rpm", []string{"--query", "--package", "--nosignature", "--queryformat", `%{NAME}.%{ARCH} %{VERSION}-%{RELEASE}\n`}, batch); err != nil {
			return fmt.Errorf("%w: %s", err, strings.Join(query.Tail(), "; "))
		}
		if err := twice(names.String()); err != nil {
			return err
		}
	}
	if err := s.packageTool(ctx, root, out, "rpm", rpmArgs(root), batch); err != nil {
		return err
	}
	return s.keepConfig(ctx, root, out, moved)
}

// twice returns an error where two of the lines "NAME VERSION" are of one package.
func twice(lines string) error {
	versions := map[string]string{}
	for line := range strings.Lines(lines) {
		name, version, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.Contains(version, " ") {
			continue // a warning
		}
		if other, ok := versions[name]; ok {
			return fmt.Errorf("%s is given twice: one file has version %s, another one %s", name, other, version)
		}
		versions[name] = version
	}
	return nil
}

// keepBoth undoes what rpm does with a config file that its package does not mark as one to be kept
// (%config, not %config(noreplace)): it moves the file that is there away, to FILE.rpmorig or
// FILE.rpmsave, and puts its own in the place.
const keepBoth = `for moved; do
  file=${moved%.rpm*}
  if [ -f "$file" ] && [ -f "$moved" ]; then mv -f "$file" "$file.rpmnew" && mv -f "$moved" "$file"; fi
done`

// keepConfig puts config files back that rpm has just moved away, as its output says; that of the
// package becomes FILE.rpmnew.
func (s *Stage) keepConfig(ctx context.Context, root string, out *command.Output, moved *[]string) error {
	if len(*moved) == 0 {
		return nil
	}
	files := *moved
	*moved = nil
	return s.shell(ctx, root, out, keepBoth, files...)
}

// packageFile is a package file, and its place in the list that it is from.
type packageFile struct {
	at   int
	file source.File
}

// packageTool runs a program of the image with arguments, and after them package files.
func (s *Stage) packageTool(ctx context.Context, root string, out *command.Output, program string, args []string, files []packageFile) error {
	c := s.unattended(root, out)
	cmd := c.Cmd
	if _, err := sandbox.LookPath(root, program, cmd.Env); err != nil {
		return fmt.Errorf("the image has no %s to install %s with", program, files[0].file.Name)
	}
	cmd.Args = append([]string{program}, args...)
	for _, f := range files {
		// The number keeps files of one name apart, and the order that the spec has.
		inside, err := c.Input(fmt.Sprintf("packages/%d/%s", f.at, f.file.Name), f.file, 0o644)
		if err != nil {
			return err
		}
		cmd.Args = append(cmd.Args, inside)
	}
	return c.RunUnattended(ctx)
}

// rpmArgs are the arguments of an rpm installation. Where the distribution is Debian's, rpm's own
// database does not know what is installed, so that dependencies cannot be checked, and Debian's
// rpm wants to be told that this is meant.
func rpmArgs(root string) []string {
	args := []string{"--upgrade", "--verbose", "--replacepkgs", "--oldpackage"}
	if _, ok, err := layer.Dir(root).Lookup("etc/debian_version"); err == nil && ok {
		args = append(args, "--nodeps", "--force-debian")
	}
	return args
}

func (s *Stage) packageManager(root string) (*packageManager, error) {
	var names []string
	for i, pm := range packageManagers {
		if _, err := sandbox.LookPath(root, pm.name, s.Commands.Env); err == nil {
			return &packageManagers[i], nil
		}
		names = append(names, pm.name)
	}
	return nil, errors.New("the image has no package manager that genoci knows: " + strings.Join(names, ", "))
}

// shell runs shell text of ours with arguments.
func (s *Stage) shell(ctx context.Context, root string, out *command.Output, text string, args ...string) error {
	c := s.unattended(root, out)
	c.Cmd.Args = append([]string{"/bin/sh", "-e", "-c", text, "install"}, args...)
	return c.RunUnattended(ctx)
}

// keptSuffixes are what package managers add to the name of a config file of a package where they
// keep the file that is there.
var keptSuffixes = []string{".dpkg-dist", ".ucf-dist", ".rpmnew", ".apk-new"}

// installs reports whether one of some actions installs packages.
func installs(actions []Action) bool {
	return slices.ContainsFunc(actions, func(a Action) bool {
		_, ok := a.(*install)
		return ok
	})
}

// Look looks at what the actions of a step changed in its tree. It tells which config files were
// kept, when packages that have others were installed.
func (s *Stage) Look(actions []Action, changes []layer.Change) {
	if !installs(actions) {
		return
	}
	var kept []string
	for _, c := range changes {
		for _, suffix := range keptSuffixes {
			if file, ok := strings.CutSuffix(c.Path, suffix); ok && c.Type == layer.TypeFile {
				kept = append(kept, fmt.Sprintf("/%s (the package's is %s)", file, path.Base(c.Path)))
			}
		}
	}
	if len(kept) > 0 {
		s.Warn("config files that were there are kept, although packages have others: " + strings.Join(kept, ", "))
	}
}

// movedConfig returns the last path of a line of rpm's: "warning: FILE saved as FILE.rpmsave", in
// the language of the image; "" where it tells of something else.
func movedConfig(line string) string {
	for _, suffix := range []string{".rpmsave", ".rpmorig"} {
		file, ok := strings.CutSuffix(strings.TrimSpace(line), suffix)
		// The file is named before: whatever blanks its name has, it is what comes twice.
		for i := strings.LastIndex(file, " /"); ok && i >= 0; i = strings.LastIndex(file[:i], " /") {
			if name := file[i+1:]; strings.Contains(file[:i]+" ", " "+name+" ") {
				return name + suffix
			}
		}
	}
	return ""
}
