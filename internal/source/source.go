// Package source is what ops read from outside: files, folders and globs beside the spec, and URLs.
// Whatever it gives out has a digest, and content that no longer has it is an error, so that
// nothing enters a build unhashed. It never writes outside the cache, and knows nothing of images.
package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Source reads inputs. The first three fields are needed.
type Source struct {
	Dir       string // folder that relative paths are taken from
	Stats     *Stats
	Downloads string // folder of the cache for what URLs gave

	// Keeps says which extended attributes of files and folders a copy takes along. nil: none.
	Keeps func(xattr string) bool

	// Own are folders that copies leave out.
	Own []Own

	// GitModes gives what a copy reads the modes that git keeps: 0755 for folders and what its
	// owner may run, 0644 for all else.
	GitModes bool

	// Netrc is a file of users and passwords for the hosts of URLs, in the format of ftp(1). "", or
	// where it is not there: none.
	Netrc string

	// Secret returns the key under which the cache knows URLs that may hold a secret, so that
	// nobody who has its files can find out a short one by trying. nil, or an error: what such a
	// URL gave is not noted, so that it is fetched each time.
	Secret func() ([]byte, error)

	// Shown are the texts that are shown and kept in place of URLs in which secrets stand that
	// cannot be told from the rest.
	Shown map[string]string

	// Report is told how much of a download is done, in bytes (total 0: unknown). The URL is
	// without secrets. nil: nobody is.
	Report func(url string, done, total int64)

	buffers sync.Pool // of *[]byte, readSize long
	once    sync.Once
	begun   time.Time // when the first files were listed

	mu   sync.Mutex
	seen *owned // of Own, see owned

	ignoreOnce sync.Once // of what follows, see ignored
	ignore     *ignored
	ignoreErr  error
}

// Open returns the source of what is read in the folder dir. state is the folder of the cache for
// what is known of inputs, and for downloads.
func Open(dir, state string) (*Source, error) {
	stats, err := OpenStats(filepath.Join(state, "stats"))
	if err != nil {
		return nil, err
	}
	return &Source{Dir: dir, Stats: stats, Downloads: state}, nil
}

// File is a regular file with known content.
type File struct {
	Name   string // last element of the path or URL
	Path   string // absolute, on the host
	Size   int64
	Digest [32]byte // SHA-256; zero where it is not known yet, see Peek
}

// Node is a file, folder or symlink that a copy reads.
type Node struct {
	Rel    string      // slash-separated path below the match; "." is the match itself
	Path   string      // absolute, on the host
	Mode   fs.FileMode // type and permissions, with setuid, setgid and sticky
	Size   int64       // regular files
	Link   string      // text of a symlink
	MTime  int64       // seconds since 1970
	Inode  string      // what names of one file (hard links) have in common; "" where there is one name
	Digest [32]byte    // SHA-256; regular files. Zero where it is not known yet, see List

	Xattrs map[string]string // extended attributes that Source.Keeps says yes to, of files and of folders below the match; nil when none

	stat *unix.Stat_t // regular files whose digest is not known yet
}

// Known reports whether the digest of a regular file is known; it is for everything else.
func (n *Node) Known() bool { return n.stat == nil }

// Open opens a regular file for reading, as File.Open does. Where the digest is not known, a file
// that is not as it was when it was listed gives the error.
func (n *Node) Open() (io.ReadCloser, error) {
	if n.stat != nil {
		return openUnchanged(n.Path, n.stat)
	}
	return File{Name: path.Base(n.Path), Path: n.Path, Size: n.Size, Digest: n.Digest}.Open()
}

// Match is one path that a pattern of a copy names.
type Match struct {
	Name string // last element of the path
	Glob bool   // a glob matched it, and did not name it
	Path string // absolute, as it is named

	Parents []Node // folders around it that come along, outermost first, see Source.WithParents
	Nodes   []Node // the match itself, then what is in it: a folder before its content, siblings sorted
}

// IsURL reports whether an input is a URL rather than a path.
func IsURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// Abs returns the path of the host that a path of the spec means.
func (s *Source) Abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(s.Dir, path)
}

// File returns the regular file that a path (relative to Dir) or a URL names, digested. Symlinks
// are followed. checksum is "" or what the content's digest has to be, as sha256:HEX.
func (s *Source) File(ctx context.Context, name, checksum string) (File, error) {
	if IsURL(name) {
		return s.fetch(ctx, name, checksum)
	}
	f, err := s.local(ctx, s.Abs(name))
	if err != nil {
		return File{}, err
	}
	return f, f.check(name, checksum)
}

// Peek is File for a path of the host, without reading: where no earlier build noted the digest, it
// stays unknown. Complete reads the file for it; Take learns it from whoever reads the file anyway.
func (s *Source) Peek(name string) (File, error) {
	path := s.Abs(name)
	f, st, err := find(path)
	if err == nil {
		f.Digest, _ = s.Stats.get(st, day(time.Now()))
	}
	return f, err
}

// Known reports whether the digest is known.
func (f File) Known() bool { return f.Digest != [32]byte{} }

// Complete finds out the digest of what Peek returned.
func (s *Source) Complete(ctx context.Context, f *File) (err error) {
	if !f.Known() {
		*f, err = s.local(ctx, f.Path)
	}
	return err
}

// Packages returns the package files that a path, glob or URL names, digested: at least one. A
// folder stands for the .deb and .rpm files directly in it.
func (s *Source) Packages(ctx context.Context, pattern string) ([]File, error) {
	if IsURL(pattern) {
		f, err := s.fetch(ctx, pattern, "")
		return []File{f}, err
	}
	paths, err := s.FindPackages(pattern)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(paths))
	for i, p := range paths {
		if files[i], err = s.local(ctx, p); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// local returns the regular file at the absolute path.
func (s *Source) local(ctx context.Context, path string) (File, error) {
	f, st, err := find(path)
	if err != nil {
		return f, err
	}
	if sum, ok := s.Stats.get(st, day(time.Now())); ok {
		f.Digest = sum
		return f, nil
	}
	f.Digest, err = s.digest(ctx, path, 0, st, false)
	return f, err
}

// find finds the regular file at the absolute path; its digest is left out.
func find(path string) (File, *unix.Stat_t, error) {
	st := &unix.Stat_t{}
	if err := ignoringEINTR(func() error { return unix.Stat(path, st) }); err != nil {
		return File{}, nil, dangling(path, &fs.PathError{Op: "stat", Path: path, Err: err})
	}
	if mode := fileMode(st.Mode); !mode.IsRegular() {
		return File{}, nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("is %s, not a file", kind(mode))}
	}
	return File{Name: filepath.Base(path), Path: path, Size: st.Size}, st, nil
}

// Open opens the file for reading. Content that is not what was digested gives an error, at its end
// at the latest.
func (f File) Open() (io.ReadCloser, error) {
	r, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	return &verified{f: r, want: f, hash: sha256.New()}, nil
}

// String returns the digest as sha256:HEX.
func (f File) String() string { return "sha256:" + hex.EncodeToString(f.Digest[:]) }

func (f File) check(name, checksum string) error {
	if checksum != "" && !strings.EqualFold(checksum, f.String()) {
		return fmt.Errorf("read %s: checksum is %s, but the spec says %s", name, f, checksum)
	}
	return nil
}

// List returns what a copy of pattern reads: the file, folder or symlink that it names (a symlink
// there is followed), or all matches of a glob, sorted. What exclude matches (see Globs), below
// each match, is left out, except for folders on the way to what is not, as are sockets, which warn
// is told of: a socket that is a match itself is an error. No match at all is an error wrapping
// fs.ErrNotExist. What the ignore file beside the spec matches is left out of folders and of the
// matches of globs. No file is read: digests that no earlier build noted are not known. Digest
// finds them out, or Learn is told.
func (s *Source) List(ctx context.Context, pattern string, exclude []string, warn func(string)) ([]Match, error) {
	w, err := newWalk(ctx, s, exclude, warn)
	if err != nil {
		return nil, err
	}
	paths, named, err := s.find(pattern, w.skip)
	if err != nil {
		return nil, err
	}
	s.start()
	matches := make([]Match, 0, len(paths))
	for _, p := range paths {
		m, err := w.match(p, named)
		var own *ownError
		switch {
		case errors.As(err, &own) && !named:
			warn(own.own.leftOut(p))
		case err != nil:
			return nil, err
		case len(m.Nodes) > 0:
			m.Glob = !named
			m.Path = p
			matches = append(matches, m)
		}
	}
	if len(matches) == 0 {
		return nil, &fs.PathError{Op: "match", Path: pattern, Err: errNothingLeft}
	}
	return matches, nil
}

// Digest finds out the digests of all matches that are not known, by reading the files.
func (s *Source) Digest(ctx context.Context, matches []Match) error { return s.digestAll(ctx, matches) }

// Learn notes the digest of a file that somebody has read by Open, to its end and without an error.
func (s *Source) Learn(n *Node, sum [32]byte) {
	if n.stat != nil {
		s.Stats.put(n.stat, sum, n.Xattrs == nil, s.start())
		n.Digest, n.stat = sum, nil
	}
}

// start returns when the first files were listed.
func (s *Source) start() time.Time {
	s.once.Do(func() { s.begun = time.Now() })
	return s.begun
}

// Find returns the absolute paths that a path or glob of a spec names, sorted: at least one. A path
// that has pattern characters in it and exists means itself. The error wraps fs.ErrNotExist where
// there is nothing, and is a *DanglingError where a symlink leads there.
func (s *Source) Find(pattern string) ([]string, error) {
	paths, _, err := s.find(pattern, func(string, fs.DirEntry) bool { return false })
	return paths, err
}

// find is Find, without the matches of a glob that skip says yes to, and what is in them. named
// says that the path was not a glob.
func (s *Source) find(pattern string, skip func(path string, d fs.DirEntry) bool) (paths []string, named bool, err error) {
	path := s.Abs(pattern)
	_, err = os.Stat(path)
	switch {
	case err == nil:
		return []string{path}, true, nil
	case IsGlob(pattern):
		paths, err = s.glob(pattern, skip)
	}
	return paths, false, dangling(path, err)
}

// FindPackages is Find, with the .deb and .rpm files of a folder in place of the folder. The error
// wraps fs.ErrNotExist where there is none.
func (s *Source) FindPackages(pattern string) ([]string, error) {
	found, err := s.Find(pattern)
	var files []string
	for _, p := range found {
		entries, err := os.ReadDir(p)
		if errors.Is(err, unix.ENOTDIR) {
			files = append(files, p)
			continue
		}
		if err != nil {
			return nil, dangling(p, err)
		}
		for _, e := range entries {
			if ext := path.Ext(e.Name()); ext == ".deb" || ext == ".rpm" {
				files = append(files, filepath.Join(p, e.Name()))
			}
		}
	}
	if err == nil && len(files) == 0 {
		err = &fs.PathError{Op: "find packages in", Path: pattern, Err: fs.ErrNotExist}
	}
	return files, err
}

// glob returns the sorted absolute paths that match the pattern. Symlinks to folders are not
// followed while it looks.
func (s *Source) glob(pattern string, skip func(string, fs.DirEntry) bool) ([]string, error) {
	if err := CheckGlob(pattern); err != nil {
		return nil, fmt.Errorf("copy %s: %w", pattern, err)
	}
	want := strings.Split(path.Clean(pattern), "/")
	n := slices.IndexFunc(want, IsGlob)
	if n < 0 {
		n = len(want)
	}
	root := filepath.Clean(s.Dir) // which may have pattern characters in its own name
	if n > 0 {
		root = s.Abs(strings.Join(want[:n], "/") + "/")
	}
	want = want[n:]
	deep := slices.Contains(want, "**")
	var found []string
	left := fs.ErrNotExist // or why nothing was found
	// The slash makes WalkDir go into a root that is a symlink.
	err := filepath.WalkDir(strings.TrimSuffix(root, "/")+"/", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		have := elems(rel)
		if (matchElems(want, have) || d.IsDir()) && skip(p, d) {
			left = errNothingLeft
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if matchElems(want, have) {
			found = append(found, p)
			if d.IsDir() {
				return fs.SkipDir
			}
		}
		if d.IsDir() && !deep && (len(have) >= len(want) || !matchElems(want[:len(have)], have)) {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, &fs.PathError{Op: "match", Path: pattern, Err: left}
	}
	return found, nil
}

var errNothingLeft = errors.New("everything that matches is excluded")

// kind names the type of a file for messages.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeSymlink != 0:
		return "a symlink"
	case m&fs.ModeNamedPipe != 0:
		return "a fifo"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	default:
		return "no regular file"
	}
}

func changed(path string) error {
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("changed while it was read")}
}

// verified reads a file and compares its content with what was digested before.
type verified struct {
	f    *os.File
	want File
	hash hash.Hash
	n    int64
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.f.Read(p)
	v.hash.Write(p[:n])
	v.n += int64(n)
	if v.n > v.want.Size || err == io.EOF && (v.n != v.want.Size || [32]byte(v.hash.Sum(nil)) != v.want.Digest) {
		return n, changed(v.want.Path)
	}
	return n, err
}

func (v *verified) Close() error { return v.f.Close() }
