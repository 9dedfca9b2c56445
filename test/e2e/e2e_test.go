package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"genoci/test/program"
	"genoci/test/strict"
)

// workspace is a folder with a spec and its inputs, in which genoci runs.
type workspace struct {
	*program.Runner
	t      *testing.T
	layout program.Layout
}

func newWorkspace(t *testing.T) *workspace {
	t.Helper()
	dir := program.Temp(t)
	return &workspace{program.In(dir), t, program.Layout(filepath.Join(dir, "oci"))}
}

// write writes a file of the workspace.
func (w *workspace) write(name, content string) {
	w.t.Helper()
	program.Write(w.t, w.Dir, name, content)
}

// link makes name stand for an input of the tests.
func (w *workspace) link(name, input string) {
	w.t.Helper()
	if err := os.Symlink(input, filepath.Join(w.Dir, name)); err != nil {
		w.t.Fatal(err)
	}
}

// build builds the spec, which has to work, and returns stdout.
func (w *workspace) build(args ...string) string {
	w.t.Helper()
	return w.Run(w.t, append([]string{"build", "--progress", "plain"}, args...)...)
}

// fail builds the spec, which has to fail with status code and text on stderr.
func (w *workspace) fail(code int, text string, args ...string) program.Result {
	w.t.Helper()
	res := w.Try(w.t, append([]string{"build", "--progress", "plain"}, args...)...)
	if res.Code != code || !strings.Contains(res.Stderr, text) {
		w.t.Fatalf("exit status %d, want %d with %q\n%s", res.Code, code, text, res.Stderr)
	}
	return res
}

// file returns the content of path in the image that tag stands for.
func (w *workspace) file(tag, path string) string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.unpack(tag), path))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// missing reports whether the image that tag stands for has nothing at path.
func (w *workspace) missing(tag, path string) bool {
	w.t.Helper()
	_, err := os.Lstat(filepath.Join(w.unpack(tag), path))
	return os.IsNotExist(err)
}

// unpack unpacks an image, once for each digest, and returns the folder.
func (w *workspace) unpack(tag string) string {
	w.t.Helper()
	dir := filepath.Join(w.Dir, ".unpacked", strings.TrimPrefix(w.layout.Image(w.t, tag).Digest, "sha256:")[:12])
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.Run(w.t, "unpack", tag, dir)
	return dir
}

// equal fails the test where got is not want.
func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// listing returns the names in dir and below, less genoci's state, the layout, and what the tests
// unpacked.
func (w *workspace) listing() []string {
	w.t.Helper()
	var names []string
	err := filepath.WalkDir(w.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".cache", "oci", ".unpacked"}, d.Name()) {
			return filepath.SkipDir
		}
		names = append(names, path)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

// mounts returns what is mounted below dir.
func mounts(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var below []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir) {
			below = append(below, fields[4])
		}
	}
	return below
}

// processes returns the command lines of processes that hold on to something in dir.
func processes(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	roots, _ := filepath.Glob("/proc/[0-9]*/root")
	exes, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	var found []string
	for _, link := range slices.Concat(links, roots, exes) {
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, dir) || strings.HasPrefix(link, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", strings.Split(link, "/")[2], "cmdline"))
		found = append(found, link+": "+strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return found
}

// noProcesses waits until no process uses the folder dir.
func noProcesses(t *testing.T, dir string) {
	t.Helper()
	strict.Eventually(t, func() string { return strings.Join(processes(t, dir), "\n") })
}

// nothingLeft checks that genoci left no mount, no process and no unfinished blob behind.
func (w *workspace) nothingLeft() {
	w.t.Helper()
	if m := mounts(w.t, w.Dir); len(m) > 0 {
		w.t.Errorf("still mounted: %q", m)
	}
	if p := processes(w.t, w.Dir); len(p) > 0 {
		w.t.Errorf("still running: %q", p)
	}
}

// archive packs the folder src of the workspace with tar, compressed as the name says.
func (w *workspace) archive(name, src string) {
	w.t.Helper()
	w.Tool(w.t, "tar", "-c", "-a", "-f", name, "-C", src, "--owner=0", "--group=0", "--mtime=@1000000000", "--sort=name", ".")
}

var dated = regexp.MustCompile(`^(.*)-(\d{4}-\d{2}-\d{2})_(\d+)$`)

// builds returns how often each target was built, as its dated tags count, whatever midnights lie
// between them.
func builds(tags []string) map[string]int {
	count := make(map[string]int)
	for _, tag := range tags {
		if m := dated.FindStringSubmatch(tag); m != nil {
			count[m[1]]++
		}
	}
	return count
}

// output runs cmd and returns what it prints.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}
