package layer

import "iter"

// Composer puts together the changes of a step that runs nothing, on a base that is only looked at.
// It is a View of the outcome so far.
type Composer struct{ stub int }

var _ View = (*Composer)(nil)

// NewComposer starts with no changes on base. epoch (seconds since 1970) is the mtime of folders that it makes.
func NewComposer(base View, epoch int64) *Composer { panic("stub") }

// Resolve follows the symlinks of path's parents, and of its last element too when last is set, as inside a chroot,
// and returns the canonical path. What does not exist yet is taken as it is written; more than 255 links are an error.
func (c *Composer) Resolve(path string, last bool) (string, error) { panic("stub") }

// Put places an entry (path, metadata, content) into the tree. Symlinks among its parents are followed,
// missing parents made 0755 root. A folder put on a folder changes its metadata and keeps what is in it; all
// else replaces what was there, with everything below it. A symlink at the path itself is replaced, never followed.
func (c *Composer) Put(ch Change) error { panic("stub") }

// MkdirAll makes the folder at path with missing parents, 0755 root; what is there already stays as it is.
func (c *Composer) MkdirAll(path string) error { panic("stub") }

// Link makes path another name of the file at target, which may be the base's: its content is then needed
// and opened with open. It returns an error wrapping fs.ErrNotExist when there is no target.
func (c *Composer) Link(path, target string, open Opener) error { panic("stub") }

// Remove removes path with everything below it. Nothing there is no error.
func (c *Composer) Remove(path string) error { panic("stub") }

// Changes returns the outcome as Pack wants it; what is as in the base is left out. A file is as in the base when
// type, mode, owner, size, mtime, xattrs and SHA-256 are equal; content without a digest is read for that.
func (c *Composer) Changes() ([]Change, error) { panic("stub") }

// Lookup implements View.
func (c *Composer) Lookup(path string) (Entry, bool, error) { panic("stub") }

// Children implements View.
func (c *Composer) Children(path string) iter.Seq2[Entry, error] { panic("stub") }

// ReadFile implements View; it also knows small files that were Put.
func (c *Composer) ReadFile(path string) ([]byte, error) { panic("stub") }
