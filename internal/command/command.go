// Package command runs commands in the tree of an image, with what they are lent from the host.
// What is lent is mounted, and never reaches a layer. What a command writes is passed on line by
// line.
package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/sandbox"
	"genoci/internal/source"
)

// lentDir is where a command finds what is lent to it: packages, scripts, busybox. It is a
// mount, and never reaches the layer.
const lentDir = "/.genoci"

// RemoveLent removes from the tree with the root folder dir what a session has left there when its
// process was killed: mount points.
func RemoveLent(dir string) error { return sandbox.RemoveLeft(dir, lentDir) }

// Runner runs the commands of a step, one after the other.
type Runner struct {
	Env     []string                 // of each command, K=V
	TempDir func() (string, error)   // makes a folder that is removed some time after a command
	Busybox func() (*Busybox, error) // what to lend where there is no shell
	Warn    func(text string)        // is told what of the sandbox this machine does not allow

	last *Setting
	lent string
}

// Begin forgets the command that was run last: the action that comes next has run none.
func (r *Runner) Begin() { r.last = nil }

// Last returns the setting of the command that was run last since Begin; nil for none.
func (r *Runner) Last() *Setting { return r.last }

// Lent returns the digest of the busybox that was lent to a command so far; "" for none.
func (r *Runner) Lent() string { return r.lent }

// Command returns a command in the tree with the root folder root, which writes to out.
func (r *Runner) Command(root string, out *Output) *Command {
	return &Command{
		Cmd: &sandbox.Cmd{Root: root, Env: slices.Clone(r.Env), Stdout: out, Stderr: out, Warn: r.Warn},
		out: out, runner: r, tempDir: r.TempDir, busybox: func() (*Busybox, error) {
			bb, err := r.Busybox()
			if err == nil {
				r.lent = bb.Digest()
			}
			return bb, err
		},
	}
}

// Command is a command, and what is lent to it.
type Command struct {
	Cmd *sandbox.Cmd // Args, Dir, User and Network are for the caller to set

	out     *Output
	runner  *Runner
	tempDir func() (string, error)
	busybox func() (*Busybox, error)
	dir     string     // on the host; "" while nothing is lent
	files   []LentFile // what was lent, but for the busybox
}

// Run runs the command to its end.
func (c *Command) Run(ctx context.Context) error {
	c.runner.last = settingOf(c)
	if err := c.shell(); err != nil {
		return err
	}
	c.Cmd.Env = proxyEnv(c.Cmd.Env)
	return c.Cmd.Run(ctx)
}

// LentFile is a file that was lent to a command, as it can be lent again.
type LentFile struct {
	Name string      `json:"name"`           // path below the folder of what is lent
	Path string      `json:"path,omitempty"` // of the file on the host
	Text string      `json:"text,omitempty"` // where it was made for the command
	Mode os.FileMode `json:"mode"`
}

// Text lends a file of that text, and returns its path inside.
func (c *Command) Text(name, text string, mode os.FileMode) (string, error) {
	c.files = append(c.files, LentFile{Name: name, Text: text, Mode: mode})
	return c.file(name, strings.NewReader(text), mode)
}

// Input lends a file that the step reads, exactly as it was digested.
func (c *Command) Input(name string, f source.File, mode os.FileMode) (string, error) {
	c.files = append(c.files, LentFile{Name: name, Path: f.Path, Mode: mode})
	return c.content(name, f, mode)
}

func (c *Command) content(name string, f source.File, mode os.FileMode) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	return c.file(name, r, mode)
}

// again lends what a command had before, as it is now; what is not there any more is left out. The
// program "again", for the shell sh, runs the command.
func (c *Command) again(s Setting, sh string) error {
	for _, f := range s.Lent {
		if err := c.fileAgain(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
	_, err := c.file("again", strings.NewReader("#!"+sh+"\n"+strings.Join(words, " ")+"\n"), 0o755)
	if errors.Is(err, fs.ErrExist) { // a script of that name, which is what the command runs
		return nil
	}
	return err
}

func (c *Command) fileAgain(f LentFile) error {
	if f.Path == "" {
		_, err := c.file(f.Name, strings.NewReader(f.Text), f.Mode)
		return err
	}
	r, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = c.file(f.Name, r, f.Mode)
	return err
}

// quote returns s as a word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// file lends a file of the given content, and returns its path inside.
func (c *Command) file(name string, content io.Reader, mode os.FileMode) (string, error) {
	if err := c.mount(); err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, name)
	for dir := range parents(name) {
		dir = filepath.Join(c.dir, dir)
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
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, content, make([]byte, 1<<20))
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
func (c *Command) mount() error {
	if c.dir != "" {
		return nil
	}
	dir, err := c.tempDir()
	if err != nil {
		return err
	}
	c.dir = dir
	c.Cmd.Binds = append(c.Cmd.Binds, sandbox.Bind{Source: dir, Dest: lentDir})
	return nil
}

// Script lends a script of the host, and returns its path inside and the program of its interpreter
// line.
func (c *Command) Script(f source.File) (path, interpreter string, err error) {
	if path, err = c.Input(f.Name, f, 0o755); err != nil {
		return "", "", err
	}
	file := filepath.Join(c.dir, f.Name)
	if interpreter, _, err = Interpreter(file); interpreter == file {
		interpreter = path
	}
	return path, interpreter, err
}

// Interpreter returns the program and the argument of the interpreter line of a script (execve(2)).
// The program is the file itself where that is one, and "" where there is neither.
func Interpreter(file string) (program, arg string, err error) {
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
func (c *Command) shell() (err error) {
	if c.Cmd.Args[0] == "/bin/sh" {
		c.Cmd.Args[0], err = c.sh()
	}
	return err
}

// sh returns the path of a POSIX shell for the command: the image's, or that of a static busybox,
// which is lent then with all that it can do.
func (c *Command) sh() (path string, err error) {
	const sh = "/bin/sh"
	if _, err := sandbox.LookPath(c.Cmd.Root, sh, c.Cmd.Env); err == nil {
		return sh, nil
	}
	bb, err := c.busybox()
	if err != nil {
		return "", fmt.Errorf("the image has no /bin/sh, and %w", err)
	}
	if _, err := c.content("bin/busybox", bb.file, 0o755); err != nil {
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
		if err := os.Symlink("busybox", filepath.Join(c.dir, "bin", name)); err != nil {
			return "", err
		}
	}
	for i, kv := range c.Cmd.Env {
		if strings.HasPrefix(kv, "PATH=") {
			c.Cmd.Env[i] = kv + ":" + lentDir + "/bin"
		}
	}
	return lentDir + sh, nil
}

// Folder makes a folder for what is lent to a command, without the default ACL that the cache
// folder may have.
func Folder(c *cache.Cache) (dir string, remove func() error, err error) {
	if dir, remove, err = c.TempDir(); err != nil {
		return "", func() error { return nil }, err
	}
	dropACL(dir)
	return dir, remove, os.Chmod(dir, 0o755)
}

// dropACL removes the ACLs that a new folder has from the default ACL of the one that it is in, if
// there are any (acl(5)): users that they name could otherwise not, or only they could, read what
// is put in it.
func dropACL(dir string) {
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		_ = unix.Removexattr(dir, name) // there is none, or the file system has none
	}
}
