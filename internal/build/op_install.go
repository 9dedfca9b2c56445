package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"genoci/internal/layer"
	"genoci/internal/sandbox"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// packageManager installs packages by name from the repositories that the image knows.
type packageManager struct {
	name    string
	install string // shell text; "$@" are the packages
	clean   string // removes lists and caches
}

// packageManagers are those that genoci knows, in the order in which an image is asked for them.
var packageManagers = []packageManager{
	{"apt-get", "apt-get update && apt-get install -y --no-install-recommends \"$@\"", "apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin"},
	{"dnf", "dnf install -y --setopt=install_weak_deps=False \"$@\"", "dnf clean all && rm -rf /var/cache/dnf"},
	{"microdnf", "microdnf install -y \"$@\"", "microdnf clean all"},
	{"yum", "yum install -y \"$@\"", "yum clean all && rm -rf /var/cache/yum"},
	{"zypper", "zypper --non-interactive install --no-recommends \"$@\"", "zypper clean --all"},
	{"apk", "apk add --no-cache \"$@\"", "rm -rf /var/cache/apk/*"},
}

// packageLogs removes what package managers write with the time of day, or other things that differ from
// build to build, in it. SQLite's shared memory of rpm's database is such; with an empty write-ahead log next to it, it
// says nothing that the database does not (https://www.sqlite.org/wal.html).
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
func (s *step) install(ctx context.Context, root string, op *spec.Install, in *input, out *output) error {
	debs, rpms, err := sortPackages(in.files)
	if err != nil {
		return err
	}
	if len(debs) > 0 {
		if err := s.installFiles(ctx, root, out, "dpkg", []string{"--install"}, debs); err != nil {
			return err
		}
	}
	if len(rpms) > 0 {
		if err := s.installFiles(ctx, root, out, "rpm", rpmArgs(root), rpms); err != nil {
			return err
		}
	}
	clean := packageLogs
	if len(op.Packages) > 0 {
		pm, err := s.packageManager(root)
		if err != nil {
			return err
		}
		if err := s.shell(ctx, root, out, pm.install, op.Packages...); err != nil {
			return err
		}
		if op.Clean {
			clean = pm.clean + "\n" + clean
		}
	}
	return s.shell(ctx, root, out, clean)
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

// installFiles installs package files in one transaction.
func (s *step) installFiles(ctx context.Context, root string, out *output, program string, args []string, files []source.File) error {
	cmd := s.command(root, []spec.KV{{Key: "DEBIAN_FRONTEND", Value: "noninteractive"}}, out)
	if _, err := sandbox.LookPath(root, program, cmd.Env); err != nil {
		return fmt.Errorf("the image has no %s to install %s with", program, files[0].Name)
	}
	lend := s.lend(cmd)
	cmd.Args = append([]string{program}, args...)
	for i, f := range files {
		// The number keeps files of one name apart, and the order that the spec has.
		inside, err := lend.input(fmt.Sprintf("packages/%d/%s", i, f.Name), f, 0o644)
		if err != nil {
			return err
		}
		cmd.Args = append(cmd.Args, inside)
	}
	return s.start(ctx, lend)
}

// rpmArgs are the arguments of an rpm installation. Where the distribution is Debian's, rpm's own
// database does not know what is installed, so that dependencies cannot be checked, and Debian's rpm
// wants to be told that this is meant.
func rpmArgs(root string) []string {
	args := []string{"--upgrade", "--verbose", "--replacepkgs", "--oldpackage"}
	if _, ok, err := layer.Dir(root).Lookup("etc/debian_version"); err == nil && ok {
		args = append(args, "--nodeps", "--force-debian")
	}
	return args
}

func (s *step) packageManager(root string) (*packageManager, error) {
	env := s.stepEnv(s.n, nil)
	var names []string
	for i, pm := range packageManagers {
		if _, err := sandbox.LookPath(root, pm.name, env); err == nil {
			return &packageManagers[i], nil
		}
		names = append(names, pm.name)
	}
	return nil, errors.New("the image has no package manager that genoci knows: " + strings.Join(names, ", "))
}

// shell runs shell text of ours with arguments.
func (s *step) shell(ctx context.Context, root string, out *output, text string, args ...string) error {
	cmd := s.command(root, []spec.KV{{Key: "DEBIAN_FRONTEND", Value: "noninteractive"}}, out)
	cmd.Args = append([]string{"/bin/sh", "-e", "-c", text, "install"}, args...)
	return s.start(ctx, s.lend(cmd))
}
