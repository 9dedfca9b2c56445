package oracle

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"genoci/internal/imagetest"
	"genoci/test/copytable"
	"genoci/test/strict"
)

const copyDoc = "../../docs/copy.md"

// judgeCopies holds what a peer makes of each cell of the table of destinations, from the host and
// from an image by turns, against what docs/copy.md says of it. An outcome is "" where it is what
// the table says.
func judgeCopies(t *testing.T, name string, cells []copytable.Cell, got []string) {
	t.Helper()
	known := map[string]string{}
	for _, row := range copytable.Rows(t, copyDoc, "differs") {
		for _, src := range strings.Fields(row[1]) {
			for _, c := range cells {
				if row[0] == name && c.Src == src && (row[2] == "every" || slices.Contains(strings.Fields(row[2]), c.Dest)) {
					known[c.String()] = row[3]
				}
			}
		}
	}
	differ, seen := 0, map[string]bool{}
	for i, g := range got {
		if g == "" {
			continue
		}
		differ++
		c := cells[i/2]
		seen[c.String()] = true
		if _, ok := known[c.String()]; !ok {
			t.Errorf("%s, from %t: %s gives %s, not %s", c, i%2 == 1, name, g, strings.Join(c.Want, " "))
		}
	}
	for cell := range known {
		if !seen[cell] {
			t.Errorf("%s: %s does as the table says, and %s says that it does not", cell, name, copyDoc)
		}
	}
	t.Logf("%s: %d cells tried, %d differ", name, len(got), differ)
}

// onDisk looks at the tree in a folder.
func onDisk(dir string) copytable.Look {
	return func(p string) (byte, string) {
		p = filepath.Join(dir, p)
		info, err := os.Lstat(p)
		switch {
		case err != nil:
			return 0, ""
		case info.Mode()&fs.ModeSymlink != 0:
			link, _ := os.Readlink(p)
			return 'l', link
		case info.IsDir():
			return 'd', ""
		}
		content, _ := os.ReadFile(p)
		return 'f', string(content)
	}
}

// buildah, as Debian has it, copies into one container: each cell has a folder of its own.
func TestCopyTableBuildah(t *testing.T) {
	buildKit(t)
	strict.Need(t, "buildah")
	if os.Getenv("GENOCI_ORACLE_INSIDE") == "" {
		again := exec.Command(os.Args[0], "-test.run=^TestCopyTableBuildah$", "-test.v", "-test.timeout=0")
		again.Env = append(os.Environ(), "GENOCI_ORACLE_INSIDE=1")
		again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := again.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	store, sources := t.TempDir(), t.TempDir()
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command("buildah", append([]string{"--root", store + "/root", "--runroot", store + "/run", "--storage-driver", "vfs"}, args...)...)
		cmd.Dir = sources
		return cmd
	}
	buildah := func(args ...string) string {
		t.Helper()
		var errs bytes.Buffer
		cmd := command(args...)
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("buildah %q: %v: %s", args, err, errs.String())
		}
		return strings.TrimSpace(string(out))
	}
	copytable.Make(t, sources, copytable.Sources())
	image := buildah("from", "scratch")
	copytable.Make(t, buildah("mount", image), copytable.Sources())
	buildah("commit", "-q", image, "files")
	container := buildah("from", "scratch")
	tree := buildah("mount", container)
	cells := copytable.Cells(t, copyDoc)
	got := make([]string, 2*len(cells))
	instruction := func(i int) string {
		c, root := cells[i/2], i
		if c.Want == nil {
			root = 0
		}
		if i%2 == 1 {
			return fmt.Sprintf("COPY --from=files /%s /%d%s", c.Src, root, c.Dest)
		}
		return fmt.Sprintf("COPY %s /%d%s", c.Src, root, c.Dest)
	}
	var lines []string
	for i := range got {
		dir := filepath.Join(tree, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		copytable.Make(t, dir, copytable.Image(fmt.Sprintf("/%d", i)))
		if i == 0 {
			buildah("commit", "-q", container, "one")
		}
		if cells[i/2].Want != nil {
			lines = append(lines, instruction(i))
		}
	}
	buildah("commit", "-q", container, "all")
	bud := func(image string, lines ...string) string {
		t.Helper()
		file := filepath.Join(store, "Dockerfile")
		if err := os.WriteFile(file, []byte("FROM localhost/files AS files\nFROM localhost/"+image+"\n"+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := command("bud", "--isolation", "chroot", "--pull-never", "-t", "copied", "-f", file, ".").CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatal(err)
		} else if err != nil {
			return string(out)
		}
		return ""
	}
	// What is to be no error is copied at once; what is one all the same is left out, and then what
	// it should not have stopped is copied.
	for text := bud("all", lines...); text != ""; text = bud("all", lines...) {
		n := len(lines)
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(text, "STEP \""+line+"\"") })
		if len(lines) == n {
			t.Fatal(text)
		}
	}
	copied := buildah("mount", buildah("from", "--pull-never", "localhost/copied"))
	for i := range got {
		c, root := cells[i/2], fmt.Sprintf("/%d", i)
		switch {
		case c.Want == nil:
			if bud("one", instruction(i)) == "" {
				got[i] = "no error"
			}
		case !slices.Contains(lines, instruction(i)):
			got[i] = "an error"
		default:
			got[i] = told(c, root, newFiles(t, filepath.Join(copied, root)), onDisk(copied))
		}
	}
	judgeCopies(t, "buildah", cells, got)
}

// newFiles returns the paths of the files in a folder that were copied, below it.
func newFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var content []byte
			if content, err = os.ReadFile(p); string(content) == copytable.New {
				files = append(files, strings.TrimPrefix(p, dir))
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// told returns what a peer made of a cell without an error; "" where the table says the same.
func told(c copytable.Cell, root string, files []string, look copytable.Look) string {
	switch {
	case c.Want == nil:
		return "no error " + strings.Join(files, " ")
	case c.Differs(root, files, look) == "":
		return ""
	}
	return strings.Join(files, " ")
}

// buildKit returns the folder of buildkitd and buildctl, GENOCI_BUILDKIT. Without it the cells are
// not tried, which takes many minutes: make judge-copy builds BuildKit, and sets it.
func buildKit(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("GENOCI_BUILDKIT")
	if bin == "" {
		t.Skip("GENOCI_BUILDKIT is not set; make judge-copy builds BuildKit and sets it")
	}
	strict.NeedRoot(t)
	return bin
}

// BuildKit, as bench/ builds it, with a daemon of its own.
func TestCopyTableBuildKit(t *testing.T) {
	bin := buildKit(t)
	state, context := t.TempDir(), t.TempDir()
	address := "unix://" + state + "/socket"
	log, err := os.Create(state + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	daemon := exec.Command(filepath.Join(bin, "buildkitd"), "--root", state+"/root", "--addr", address,
		"--containerd-worker=false", "--oci-worker-snapshotter=native", "--oci-worker-net=host")
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	}()
	for tries := 0; exec.Command(filepath.Join(bin, "buildctl"), "--addr", address, "debug", "workers").Run() != nil; tries++ {
		if tries == 300 {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("buildkitd does not answer: %s", said)
		}
		time.Sleep(100 * time.Millisecond)
	}
	copytable.Make(t, context, copytable.Sources())
	for name, files := range map[string][]copytable.File{"files.tar": copytable.Sources(), "image.tar": copytable.Image("")} {
		if err := os.WriteFile(filepath.Join(context, name), pack(files), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	try := func(c copytable.Cell, from bool) string {
		src, option := c.Src, ""
		if from {
			src, option = "/"+c.Src, "--from=files "
		}
		dir, err := os.MkdirTemp(state, "dockerfile-")
		if err != nil {
			t.Error(err)
			return ""
		}
		text := "FROM scratch AS files\nADD files.tar /\nFROM scratch AS image\nADD image.tar /\nFROM image\nCOPY " + option + src + " " + c.Dest + "\n"
		if err := os.WriteFile(dir+"/Dockerfile", []byte(text), 0o644); err != nil {
			t.Error(err)
		}
		var out, errs bytes.Buffer
		build := exec.Command(filepath.Join(bin, "buildctl"), "--addr", address, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
			"--local", "context="+context, "--local", "dockerfile="+dir, "--output", "type=tar,dest=-")
		build.Stdout, build.Stderr = &out, &errs
		if err := build.Run(); err != nil {
			if c.Want == nil {
				return ""
			}
			return "error"
		}
		tree, files, err := unpacked(&out)
		if err != nil {
			t.Errorf("%s: %v", c, err)
		}
		return told(c, "", files, tree)
	}
	cells := copytable.Cells(t, copyDoc)
	got := make([]string, 2*len(cells))
	todo := make(chan int)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range todo {
				got[i] = try(cells[i/2], i%2 == 1)
			}
		})
	}
	for i := range got {
		todo <- i
	}
	close(todo)
	wg.Wait()
	judgeCopies(t, "BuildKit", cells, got)
}

// pack makes a tar of files.
func pack(files []copytable.File) []byte {
	var members []imagetest.Member
	for _, f := range files {
		m := imagetest.File(f.Name, f.Content)
		switch {
		case f.Link != "":
			m = imagetest.Link(f.Name, f.Link)
		case strings.HasSuffix(f.Name, "/"):
			m = imagetest.Dir(f.Name)
		}
		m.Mode = 0o755
		members = append(members, m)
	}
	return imagetest.Tar(members...)
}

// unpacked reads the tree in a tar, and the paths of the files in it that were copied.
func unpacked(r io.Reader) (copytable.Look, []string, error) {
	type entry struct {
		kind byte
		text string
	}
	tree := map[string]entry{}
	var files []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		p := filepath.Join("/", h.Name)
		switch h.Typeflag {
		case tar.TypeSymlink:
			tree[p] = entry{'l', h.Linkname}
		case tar.TypeDir:
			tree[p] = entry{'d', ""}
		default:
			content, err := io.ReadAll(tr)
			if err != nil {
				return nil, nil, err
			}
			tree[p] = entry{'f', string(content)}
			if string(content) == copytable.New {
				files = append(files, p)
			}
		}
	}
	slices.Sort(files)
	return func(p string) (byte, string) { e := tree[filepath.Clean(p)]; return e.kind, e.text }, files, nil
}
