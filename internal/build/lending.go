package build

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/sandbox"
	"genoci/internal/source"
)

// lentDir is where a command finds what is lent to it: packages, scripts, busybox. It is a
// mount, and never reaches the layer.
const lentDir = "/.genoci"

// RemoveLent removes from the tree with the root folder dir what a session has left there when its process was killed: mount points.
func RemoveLent(dir string) error { return sandbox.RemoveLeft(dir, lentDir) }

// lending is what is lent to one command.
type lending struct {
	cmd     *sandbox.Cmd
	tempDir func() (string, error)   // makes a folder that is removed some time after the command
	busybox func() (*busybox, error) // what to lend where there is no shell
	dir     string                   // on the host; "" while nothing is lent
	files   []LentFile               // what was lent, but for the busybox
}

// LentFile is a file that was lent to a command, as it can be lent again.
type LentFile struct {
	Name string      `json:"name"`           // path below the folder of what is lent
	Path string      `json:"path,omitempty"` // of the file on the host
	Text string      `json:"text,omitempty"` // where it was made for the command
	Mode os.FileMode `json:"mode"`
}

// lend returns what will be lent to a command of the step.
func (s *step) lend(cmd *sandbox.Cmd) *lending {
	return &lending{cmd: cmd, tempDir: s.tempDir, busybox: func() (*busybox, error) {
		bb, err := s.busybox()
		if err == nil {
			s.lent = bb.file.String()
		}
		return bb, err
	}}
}

// text lends a file of that text, and returns its path inside.
func (l *lending) text(name, text string, mode os.FileMode) (string, error) {
	l.files = append(l.files, LentFile{Name: name, Text: text, Mode: mode})
	return l.file(name, strings.NewReader(text), mode)
}

// input lends a file that the step reads, exactly as it was digested.
func (l *lending) input(name string, f source.File, mode os.FileMode) (string, error) {
	l.files = append(l.files, LentFile{Name: name, Path: f.Path, Mode: mode})
	return l.content(name, f, mode)
}

func (l *lending) content(name string, f source.File, mode os.FileMode) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	return l.file(name, r, mode)
}

// again lends what a command had before, as it is now; what is not there any more is left out. The program "again", for the shell sh,
// runs the command.
func (l *lending) again(s Setting, sh string) error {
	for _, f := range s.Lent {
		if err := l.fileAgain(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(s.Args) == 0 {
		return nil
	}
	words := []string{"cd " + quote(cmp.Or(s.Dir, "/")) + " && exec"}
	for _, arg := range s.Args {
		words = append(words, quote(arg))
	}
	_, err := l.file("again", strings.NewReader("#!"+sh+"\n"+strings.Join(words, " ")+"\n"), 0o755)
	if errors.Is(err, fs.ErrExist) { // a script of that name, which is what the command runs
		return nil
	}
	return err
}

func (l *lending) fileAgain(f LentFile) error {
	if f.Path == "" {
		_, err := l.file(f.Name, strings.NewReader(f.Text), f.Mode)
		return err
	}
	r, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = l.file(f.Name, r, f.Mode)
	return err
}

// quote returns s as a word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// file lends a file of the given content, and returns its path inside.
func (l *lending) file(name string, content io.Reader, mode os.FileMode) (string, error) {
	if err := l.mount(); err != nil {
		return "", err
	}
	path := filepath.Join(l.dir, name)
	for dir := range parents(name) {
		dir = filepath.Join(l.dir, dir)
		if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return "", err
		}
		if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask is
			return "", err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", err
	}
	_, err = copyBuffer(f, content)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return "", err
	}
	return lentDir + "/" + name, nil
}

// parents returns the folders that name is in, the outermost first.
func parents(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range name {
			if name[i] == '/' && !yield(name[:i]) {
				return
			}
		}
	}
}

// mount makes the folder of what is lent a mount of the command.
func (l *lending) mount() error {
	if l.dir != "" {
		return nil
	}
	dir, err := l.tempDir()
	if err != nil {
		return err
	}
	l.dir = dir
	l.cmd.Binds = append(l.cmd.Binds, sandbox.Bind{Source: dir, Dest: lentDir})
	return nil
}

// script lends a script of the host, and returns its path inside and the program of its interpreter line.
func (l *lending) script(f source.File) (path, interpreter string, err error) {
	if path, err = l.input(f.Name, f, 0o755); err != nil {
		return "", "", err
	}
	file := filepath.Join(l.dir, f.Name)
	if interpreter, _, err = interpreterOf(file); interpreter == file {
		interpreter = path
	}
	return path, interpreter, err
}

// interpreterOf returns the program and the argument of the interpreter line of a script (execve(2)); the file itself where that is a program, and "" where
// there is neither.
func interpreterOf(file string) (program, arg string, err error) {
	r, err := os.Open(file)
	if err != nil {
		return "", "", err
	}
	defer r.Close()
	head := make([]byte, 256) // BINPRM_BUF_SIZE, execve(2)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", "", err
	}
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	if rest, ok := strings.CutPrefix(line, "#!"); ok {
		if words := strings.Fields(rest); len(words) > 0 {
			_, arg, _ = strings.Cut(rest, words[0])
			return words[0], strings.TrimSpace(arg), nil
		}
	}
	if strings.HasPrefix(line, "\x7fELF") {
		return file, "", nil
	}
	return "", "", nil
}

// shell lends a static busybox where the command is a shell that the image does not have.
func (l *lending) shell() (err error) {
	if l.cmd.Args[0] == "/bin/sh" {
		l.cmd.Args[0], err = l.sh()
	}
	return err
}

// sh returns the path of a POSIX shell for the command: the image's, or that of a static busybox, which is lent then with all that it can do.
func (l *lending) sh() (path string, err error) {
	const sh = "/bin/sh"
	if _, err := sandbox.LookPath(l.cmd.Root, sh, l.cmd.Env); err == nil {
		return sh, nil
	}
	bb, err := l.busybox()
	if err != nil {
		return "", fmt.Errorf("the image has no /bin/sh, and %w", err)
	}
	if _, err := l.content("bin/busybox", bb.file, 0o755); err != nil {
		return "", err
	}
	applets, err := bb.applets()
	if err != nil {
		return "", err
	}
	for _, name := range applets {
		if name == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(l.dir, "bin", name)); err != nil {
			return "", err
		}
	}
	for i, kv := range l.cmd.Env {
		if strings.HasPrefix(kv, "PATH=") {
			l.cmd.Env[i] = kv + ":" + lentDir + "/bin"
		}
	}
	return lentDir + sh, nil
}

// lentFolder makes a folder for what is lent to a command, without the default ACL that the cache folder may have.
func lentFolder(c *cache.Cache) (dir string, remove func() error, err error) {
	if dir, remove, err = c.TempDir(); err != nil {
		return "", func() error { return nil }, err
	}
	dropACL(dir)
	return dir, remove, os.Chmod(dir, 0o755)
}

// dropACL removes the ACLs that a new folder has from the default ACL of the one that it is in, if there are any (acl(5)): users that they
// name could otherwise not, or only they could, read what is put in it.
func dropACL(dir string) {
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		_ = unix.Removexattr(dir, name) // there is none, or the file system has none
	}
}
