package source

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Own is a folder that the build itself writes to. A copy that read it would take what earlier
// builds made, and never give the same twice.
type Own struct {
	Path string // absolute; need not be there yet
	Is   string // what it is, for messages
}

// owned are the folders of Source.Own as they can be recognised by any name.
type owned struct {
	folders map[statKey]Own
	above   map[statKey]bool // folders that these are in
	missing bool             // one of them is not there
}

// owned looks at the folders of the build itself, again for as long as one is not there.
func (s *Source) owned() *owned {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen != nil && !s.seen.missing {
		return s.seen
	}
	o := &owned{folders: map[statKey]Own{}, above: map[statKey]bool{}}
	for _, own := range s.Own {
		if real, err := filepath.EvalSymlinks(own.Path); err == nil {
			own.Path = real
		}
		if key, ok := identify(own.Path); ok {
			o.folders[key] = own
		} else {
			o.missing = true
		}
		for dir := own.Path; dir != "/" && dir != "."; {
			dir = filepath.Dir(dir)
			if key, ok := identify(dir); ok {
				o.above[key] = true
			}
		}
	}
	s.seen = o
	return o
}

// identify returns what all names of the folder at path have in common.
func identify(path string) (statKey, bool) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Stat(path, &st) }); err != nil {
		return statKey{}, false
	}
	key, _ := statOf(&st)
	return key, true
}

// check returns an error where the folder at path, which has no symlink in it, is one of the
// build's own, or lies in one.
func (o *owned) check(path string, key statKey) error {
	if own, ok := o.folders[key]; ok {
		return &ownError{own, path}
	}
	for _, own := range o.folders {
		if strings.HasPrefix(path, own.Path+"/") {
			return &ownError{own, path}
		}
	}
	return nil
}

// ownError is that of a copy whose source is a folder of the build itself.
type ownError struct {
	own  Own
	path string
}

func (e *ownError) Error() string {
	return fmt.Sprintf("copy %s: the build itself writes there, to %s", e.path, e.own.Is)
}

// leftOut is the warning about a folder of the build itself in one that is copied.
func (own Own) leftOut(path string) string {
	return fmt.Sprintf("%s: left out, since the build itself writes there, to %s", path, own.Is)
}
