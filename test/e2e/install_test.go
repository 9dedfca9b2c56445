package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"genoci/test/program"
	"genoci/test/strict"
)

// deb makes NAME.deb of the package with those further fields and files, by path; "postinst" is its
// script.
func (w *workspace) deb(file, fields string, files map[string]string) {
	w.t.Helper()
	strict.Need(w.t, "dpkg-deb")
	dir := file + ".d"
	control := "Architecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: a test\n" + fields
	w.write(dir+"/DEBIAN/control", strings.TrimSpace(control)+"\n")
	for path, content := range files {
		if path == "postinst" || path == "conffiles" {
			path = "DEBIAN/" + path
		}
		w.write(filepath.Join(dir, path), content)
	}
	if files["postinst"] != "" {
		if err := os.Chmod(filepath.Join(w.Dir, dir, "DEBIAN/postinst"), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	w.Tool(w.t, "dpkg-deb", "--root-owner-group", "--build", dir, file)
	if err := os.RemoveAll(filepath.Join(w.Dir, dir)); err != nil {
		w.t.Fatal(err)
	}
}

// holds fails the test unless what stands for a text holds each of the parts.
func holds(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not tell %q:\n%s", what, part, text)
		}
	}
}

// Packages are installed in the order that their own fields ask for, whatever order they are given
// in.
func TestInstallOrder(t *testing.T) {
	w := newWorkspace(t)
	w.link("debian.tar.gz", program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS"))
	if err := os.Mkdir(filepath.Join(w.Dir, "python3"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.Tool(t, "tar", "--extract", "--file", program.Input(t, "deb", "GENOCI_TEST_DEBS"), "--directory", "python3")
	trace := func(name string) map[string]string {
		return map[string]string{"postinst": "#!/bin/sh\necho " + name + " >>/order\n"}
	}
	w.deb("debs/1.deb", "Package: one\nVersion: 1\nPre-Depends: mail-thing (>= 2) | absent\nDepends: four", trace("one"))
	w.deb("debs/2.deb", "Package: two\nVersion: 1:1\nProvides: mail-thing (= 2)\nDepends: three (>> 0.9)", trace("two"))
	w.deb("debs/3.deb", "Package: three\nVersion: 1~rc1\nPre-Depends: four", trace("three"))
	w.deb("debs/4.deb", "Package: four\nVersion: 4", trace("four"))
	w.deb("old/a.deb", "Package: aa\nVersion: 1", nil)
	w.deb("old/b.deb", "Package: bb\nVersion: 1", nil)
	w.deb("new/a.deb", "Package: aa\nVersion: 2\nBreaks: bb (<< 2)", nil)
	w.deb("new/b.deb", "Package: bb\nVersion: 2\nBreaks: aa (<< 2)", nil)
	w.deb("newer.deb", "Package: four\nVersion: 5", nil)
	w.write("genoci.yaml", `
debian: {expand: debian.tar.gz}
python: {base: debian, install: "python3/*.deb", run: "python3 -c 'print(6*7)' >/out"}
folder: {base: debian, install: debs/}
again: {base: debian, install: [debs/4.deb, "debs/[1-3].deb", debs/4.deb]}
old: {base: debian, install: old/}
new: {base: old, install: "new/*"}
`)
	w.build()
	equal(t, "python3", w.file("python", "out"), "42\n")
	equal(t, "order", w.file("folder", "order"), "four\nthree\ntwo\none\n")
	equal(t, "order", w.file("again", "order"), "four\nthree\ntwo\none\n")
	holds(t, "status", w.file("new", "var/lib/dpkg/status"), "Package: aa\nStatus: install ok installed\n", "Package: bb\nStatus: install ok installed\n", "Version: 2\n")

	w.write("genoci.yaml", `
debian: {expand: debian.tar.gz}
missing: {base: debian, install: debs/2.deb debs/4.deb}
`)
	w.fail(1, "packages are missing: two needs three (>> 0.9)")
	w.write("genoci.yaml", `
debian: {expand: debian.tar.gz}
twice: {base: debian, install: debs/ newer.deb}
`)
	w.fail(1, "four is given twice: 4.deb has version 4, newer.deb has version 5")
	w.write("genoci.yaml", "twice: {install: none/}\n")
	w.fail(2, `there is no file "none/"`)
	if err := os.Mkdir(filepath.Join(w.Dir, "none"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.fail(2, `there is no .deb or .rpm file in "none/"`)
}

// Packages of a folder are installed in the order that rpm finds for them: what a package requires
// comes before it, and before its scriptlets.
func TestInstallOrderRPM(t *testing.T) {
	w := newWorkspace(t)
	w.link("debian.tar.gz", program.Input(t, "rpm", "GENOCI_TEST_RPM_ROOTFS"))
	w.rpm("rpms", "a", "Requires(pre): b\n", "%pre\ntest -f /srv/b && echo a >>/order\n")
	w.rpm("rpms", "b", "Requires(pre): c\n", "%pre\ntest -f /srv/c && echo b >>/order\n")
	w.rpm("rpms", "c", "Provides: thing = 2\n", "%pre\necho c >>/order\n")
	w.rpm("rpms", "d", "Requires(post): thing >= 2\n", "%post\ntest -f /srv/c && echo d >>/order\n")
	w.write("genoci.yaml", `
debian: {expand: debian.tar.gz}
folder: {base: debian, install: rpms/}
turned: {base: debian, install: [rpms/c.rpm, rpms/d.rpm, rpms/b.rpm, rpms/a.rpm]}
`)
	w.build()
	order := w.file("folder", "order")
	equal(t, "order without d", strings.Replace(order, "d\n", "", 1), "c\nb\na\n")
	holds(t, "order", order, "d\n")
	equal(t, "order", w.file("turned", "order"), order)
}

// rpm makes folder/name.rpm with rpmbuild, of a package that has the file /srv/name; head and
// scripts are parts of its spec.
func (w *workspace) rpm(folder, name, head, scripts string) {
	w.t.Helper()
	const build = "build"
	w.write(name+".spec", "Name: "+name+"\nVersion: 1\nRelease: 1\nSummary: a package\nLicense: Apache-2.0\nBuildArch: noarch\n"+head+
		"%description\nA package.\n%install\nmkdir -p %{buildroot}/srv\ntouch %{buildroot}/srv/"+name+"\n"+scripts+"%files\n/srv/"+name+"\n")
	w.Tool(w.t, "rpmbuild", "--quiet", "--define", "_topdir "+filepath.Join(w.Dir, build), "-bb", name+".spec")
	data, err := os.ReadFile(filepath.Join(w.Dir, build, "RPMS/noarch", name+"-1-1.noarch.rpm"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(filepath.Join(folder, name+".rpm"), string(data))
}

// Config files that are there are kept, and which they are is told; so are other files that a
// package replaces.
func TestInstallKeeps(t *testing.T) {
	w := newWorkspace(t)
	w.link("debian.tar.gz", program.Input(t, "debian", "GENOCI_TEST_RPM_ROOTFS"))
	w.link("tiny.rpm", program.Input(t, "rpm", "GENOCI_TEST_RPM"))
	w.write("mine", "mine\n")
	w.write("list", "mine\n")
	w.deb("app.deb", "Package: app\nVersion: 1", map[string]string{
		"conffiles": "/etc/app.conf\n/etc/same.conf\n", "etc/app.conf": "the package's\n", "etc/same.conf": "mine\n",
		"srv/page": "the package's\n", "srv/same": "mine\n",
		"postinst": "#!/bin/sh\necho more >>/srv/list\nuseradd worker\nrm -f /srv/gone\n",
	})
	w.write("genoci.yaml", `
debian: {expand: debian.tar.gz}
app:
  base: debian
  copy:
  - mine /etc/app.conf
  - mine /etc/same.conf
  - mine /srv/page
  - mine /srv/same
  - mine /srv/gone
  - mine /srv/other
  - list /srv/list
  install: app.deb
below: {base: debian, copy: mine /etc/app.conf}
above: {base: below, install: app.deb}
rpm: {base: debian, copy: mine /etc/tiny.conf, install: tiny.rpm}
`)
	told := w.Try(t, "build", "--progress", "plain").Stderr
	equal(t, "config file", w.file("app", "etc/app.conf"), "mine\n")
	equal(t, "config file of the base", w.file("above", "etc/app.conf"), "mine\n")
	equal(t, "the package's config file", w.file("above", "etc/app.conf.dpkg-dist"), "the package's\n")
	equal(t, "rpm's config file", w.file("rpm", "etc/tiny.conf"), "mine\n")
	equal(t, "that of the package", w.file("rpm", "etc/tiny.conf.rpmnew"), "tiny=1\n")
	if !w.missing("rpm", "etc/tiny.conf.rpmorig") {
		t.Error("the config file is there twice")
	}
	holds(t, "warnings", told,
		"warning: app: config files that were there are kept, although packages have others: /etc/app.conf (the package's is app.conf.dpkg-dist)\n",
		"warning: above: config files that were there are kept, although packages have others: /etc/app.conf (the package's is app.conf.dpkg-dist)\n",
		"warning: rpm: config files that were there are kept, although packages have others: /etc/tiny.conf (the package's is tiny.conf.rpmnew)\n",
		"warning: app: genoci.yaml:13:12: install app.deb replaced /srv/page, which copy mine /srv/page (genoci.yaml:8:5) had put there; in steps,",
		"install app.deb replaced /srv/gone, which copy",
	)
	if n := strings.Count("\n"+told, "\nwarning: "); n != 5 {
		t.Errorf("%d warnings:\n%s", n, told)
	}
	w.nothingLeft()
}

// A question is an error that says so, at once or when it is asked without end; one that is
// answered before is none.
func TestInstallQuestion(t *testing.T) {
	w := newWorkspace(t)
	w.link("debian.tar.gz", program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS"))
	for name, script := range map[string]string{
		"ask":     "set -e; printf 'Continue? [y/N] '; read answer",
		"forever": "while [ \"$answer\" != y ]; do sleep 0.1; read answer; done",
		"tty":     "set -e; read answer </dev/tty",
		"fails":   "exit 3",
		"reads":   "read answer; true",
		"config":  ". /usr/share/debconf/confmodule; db_input critical config/word || true; db_go; db_get config/word; echo $RET >/word",
	} {
		files := map[string]string{"postinst": "#!/bin/sh\n" + script + "\n"}
		if name == "config" {
			files["DEBIAN/templates"] = "Template: config/word\nType: string\nDescription: Which word?\n"
		}
		w.deb(name+".deb", fmt.Sprintf("Package: %s\nVersion: 1", name), files)
	}
	fail := func(name string) program.Result {
		w.write("genoci.yaml", fmt.Sprintf("debian: {expand: debian.tar.gz}\nt: {base: debian, install: %s.deb}\n", name))
		return w.fail(1, "exit")
	}
	for _, name := range []string{"ask", "tty"} {
		res := fail(name)
		holds(t, name, res.Stderr, "install "+name+".deb: a package asked a question, and nobody can answer it: exit status 1\n", "hint: in `steps`", "debconf-set-selections", "build_env")
	}
	if res := fail("fails"); strings.Contains(res.Stderr, "question") {
		t.Errorf("nothing was asked:\n%s", res.Stderr)
	}
	w.write("genoci.yaml", "debian: {expand: debian.tar.gz}\nt: {base: debian, install: forever.deb}\n")
	w.fail(1, "a package asked a question, and nobody can answer it, over and over")
	w.write("genoci.yaml", `
debian: {expand: debian.tar.gz}
reads: {base: debian, install: reads.deb}
config:
  base: debian
  steps:
  - run: echo "config config/word string hello" | debconf-set-selections
  - install: config.deb
`)
	w.build()
	equal(t, "answer", w.file("config", "word"), "hello\n")
	w.nothingLeft()
}
