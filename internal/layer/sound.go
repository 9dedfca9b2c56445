package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ErrUnsound is wrapped by the error of Sound where a tar is no layer as it is; the text says why.
var ErrUnsound = errors.New("no sound layer as it is")

// Sound reads a tar that somebody made to be unpacked, and that may serve as the lowest layer of an
// image as it is. It reads it to its end, and returns what Index does. An error that wraps
// ErrUnsound means that tools for images would disagree about the tar, or that it holds what a
// layer of ours does not; its entries can then still be put into a layer one by one (ReadArchive).
//
// A sound tar has an entry for each folder, but perhaps the root, before what is in it; has no path
// twice; names paths plainly; has the target of a hard link before the link; holds files, folders,
// symlinks, devices and fifos only, and no whiteouts; has only such extended attributes as
// KeepXattr keeps, in the form that layers have them; gives no size to what has no content, nor a
// name with "/" behind it to a file; has no time before 1970 nor, where clamp is not nil, after
// *clamp (in seconds); has no sparse files, no global headers, and no headers and records that
// tools read in different ways (asGNUTar); and ends as a tar does, with nothing behind it. These
// are the cases in which containerd, moby, podman and umoci do the same, and GNU tar too.
func Sound(ctx context.Context, r io.Reader, clamp *int64) (*TOC, digest.Digest, error) {
	ix := indexer{scanner: newSummingScanner(ctx, r, defaultLimits)}
	ix.readsArchive()
	s := soundness{indexer: &ix, clamp: clamp}
	ix.check = s.check
	err := ix.run()
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return nil, "", err
	}
	return ix.toc.finish(), ix.whole.digest(), nil
}

// soundness checks each entry of a tar before the indexer takes it.
type soundness struct {
	*indexer
	clamp *int64
	names map[string]int // of each hard link group, those beyond the second
}

func unsound(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsound, fmt.Sprintf(format, args...))
}

func (s *soundness) check(h *tar.Header, e Entry) error {
	switch n := s.toc.lookup(e.Path); {
	case !plainName(h.Name, e.Path):
		return unsound("the name is not a plain path")
	case n != nil && (e.Path != "." || !n.Implied):
		return unsound("the path comes twice")
	case hasWhiteout(e.Path):
		return unsound("the name is that of a whiteout")
	case h.Mode&modeType == modeSocket:
		return unsound("is a socket")
	case h.Size != 0 && (e.Type != TypeFile || h.Typeflag == tar.TypeLink):
		return unsound("it has no content, but a size, which some tools take for that of content")
	case s.unsure != "":
		return unsound("%s", s.unsure)
	case e.MTime != clampMTime(e.MTime) || e.MTime < 0 || s.clamp != nil && e.MTime > *s.clamp:
		return unsound("its time would have to be changed")
	}
	if err := holdable(&e); err != nil {
		return unsound("%v", err)
	}
	if !isHeld(&e) {
		return unsound("it has extended attributes that a file system would change or leave out")
	}
	if err := s.checkFolder(e.Path); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeLink:
		return s.checkLink(h.Linkname)
	case tar.TypeGNUSparse:
		return unsound("it is a sparse file")
	case tar.TypeReg, '\x00', tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return unsound("is of the type %q", h.Typeflag)
	}
	return checkRecords(h.PAXRecords)
}

// plainName reports whether a name in a tar is path itself, but for "./" before it and "/" behind
// it.
func plainName(name, path string) bool {
	name = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	return name == path || path == "." && name == ""
}

// checkFolder wants an entry for the folder that path is in. The root needs none, or one anywhere:
// many tars are so, and tools for images make a root before anything else.
func (s *soundness) checkFolder(path string) error {
	dir, _ := split(path)
	if dir == "." {
		return nil
	}
	if n := s.toc.lookup(dir); n == nil || n.Type != TypeDir || n.Implied {
		return unsound("there is no entry before it for the folder %s", dir)
	}
	return nil
}

func (s *soundness) checkLink(name string) error {
	target, err := cleanPath(name)
	if err != nil || !plainName(name, target) {
		return unsound("it links to %q, not a plain path", name)
	}
	n := s.toc.lookup(target)
	if n == nil || n.Type == TypeDir {
		return unsound("it links to %s, of which there is no entry before it", target)
	}
	if n.Group == "" {
		return nil // its second name
	}
	if s.names == nil {
		s.names = make(map[string]int)
	}
	if s.names[n.Group]++; s.names[n.Group] > maxNames-2 {
		return unsound("a file has more than %d names", maxNames)
	}
	return nil
}

// checkRecords wants no attribute that our layers do not have, and all of a file's content.
func checkRecords(records map[string]string) error {
	for key := range records {
		name, isXattr := strings.CutPrefix(key, paxXattr)
		switch {
		case isXattr && !KeepXattr(name):
			return unsound("it has the extended attribute %s", name)
		case strings.HasPrefix(key, paxSparse):
			return unsound("it is a sparse file")
		}
	}
	return nil
}

// end wants the two empty blocks at the end of a tar (POSIX.1-1988, ustar), nothing but zeros
// behind them, and an entry in it.
func (s *soundness) end() error {
	switch d := parseHead(s.tap.head); {
	case s.labeled:
		return unsound("it has a volume label")
	case s.after >= 0:
		return unsound("something stands at byte %d, behind its end", s.after)
	case d.any():
		return unsound("the header of an entry stands at its end, without the entry")
	}
	if s.in.count() < s.start+2*blockSize {
		return unsound("it has no end")
	}
	if s.toc.lookup(".") == nil {
		return unsound("it has no entry")
	}
	return nil
}
