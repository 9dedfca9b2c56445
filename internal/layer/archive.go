package layer

import (
	"archive/tar"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
)

// Archive is a tar archive that a spec expands: its entries in the archive's order, and
// its decompressed bytes, which it keeps in a nameless temporary file.
type Archive struct {
	Entries     []ArchiveEntry
	Compression Compression // of the file, as its first bytes say
	Behind      int64       // where something stands in the decompressed bytes behind the end of the archive, which is left out; -1: nothing

	spool  *os.File
	closed atomic.Bool
}

// ArchiveEntry is one entry of an archive as it was written there.
type ArchiveEntry struct {
	Change          // Path is cleaned: relative, no "." or ".." elements ("." is the root)
	HardLink string // the cleaned name of the entry that this is another name of; "" otherwise
}

// ReadArchive reads a tar, compressed in any of Compressions (told by content), to its end. The
// uncompressed bytes go to spool, an empty file that the archive owns from now on, even when there
// is an error.
//
// Entries are in the archive's order, and a path may come more than once: the last one counts.
// Names that leave the archive's root are clamped to it, sparse files expanded, sockets dropped.
// Names of whiteouts are an error, since they would delete something once they are in a layer.
// Extended attributes are read as GNU tar, star and bsdtar write them, and kept as KeepXattr says;
// PAX global headers count for what follows them. Where headers contradict each other, names and
// types are those that GNU tar reads. The digest of each file's content is known.
//
// Where tools would read names, sizes or the content of an entry in different ways, and GNU tar
// cannot be followed, it is an error; so is another archive behind the end of the first.
//
// What is no tar, is cut off, or grows beyond what any real archive does, is an error: more than 1
// TiB, more than 16 GiB at more than 1000 times the compressed size, or what exceeds the limits of
// Index.
func ReadArchive(ctx context.Context, r io.Reader, spool *os.File) (*Archive, error) {
	a := &Archive{spool: spool}
	if err := a.read(ctx, r, defaultLimits); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Close drops the spool. Openers of the entries fail from then on. It may be called more than once.
func (a *Archive) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	return a.spool.Close()
}

func (a *Archive) read(ctx context.Context, r io.Reader, l limits) error {
	in := &countingReader{r: r}
	rc, c, err := Decompress(in)
	if err != nil {
		return err
	}
	defer rc.Close()
	a.Compression = c
	bounded := &bombReader{r: rc, compressed: in}
	ahead := TeeAhead(bounded, a.spool)
	defer ahead.Close()
	s := newScanner(ctx, ahead, l)
	s.readsArchive()
	err = a.scan(s)
	a.Behind = s.after
	if err == nil && s.in.count() == 0 {
		err = errors.New("empty file")
	}
	if err != nil && c.Name != "none" {
		err = fmt.Errorf("%w (after %s)", err, c.Name)
	}
	return err
}

// scan lists the entries of the tar that s reads, up to the end of the stream.
func (a *Archive) scan(s *scanner) error {
	var text int64
	for {
		h, err := s.next()
		if errors.Is(err, io.EOF) {
			return s.drain()
		}
		if err != nil {
			return err
		}
		if h.Mode&modeType == modeSocket {
			continue
		}
		e, err := a.entry(s, h)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		a.Entries = append(a.Entries, e)
		text += textOf(&e.Entry) + int64(len(e.HardLink))
		if len(a.Entries) > s.limits.entries || text > s.limits.text {
			return errTooMuch
		}
	}
}

// The bits of st_mode that say what a file is, as some tools store them too (inode(7)).
const (
	modeType   = 0o170000
	modeSocket = 0o140000
)

// entry makes an entry of its header, and reads its content.
func (a *Archive) entry(s *scanner, h *tar.Header) (e ArchiveEntry, err error) {
	if err := s.applyGlobals(h); err != nil {
		return e, err
	}
	if e.Entry, err = entryFromHeader(h); err != nil {
		return e, err
	}
	if err := addLibarchiveXattrs(&e.Entry, h); err != nil {
		return e, err
	}
	switch {
	case e.Path == "." && e.Type != TypeDir:
		return e, errNoRoot
	case hasWhiteout(e.Path):
		return e, errors.New("in layers, a name that begins with .wh. means a removed file")
	case h.Typeflag == tar.TypeLink:
		if e.HardLink, err = cleanPath(h.Linkname); err != nil {
			return e, fmt.Errorf("hard link: %w", err)
		}
	case e.Type == TypeFile:
		if e.Size > 0 {
			e.Open = a.opener(e.Entry, s.contentOffset(h))
		}
		e.Digest, err = s.digest(h, nil)
	}
	return e, err
}

// opener opens the content that is at offset (see Content) in the spool.
func (a *Archive) opener(e Entry, offset int64) Opener {
	return func() (io.ReadCloser, error) {
		if a.closed.Load() {
			return nil, fmt.Errorf("%s: %w", e.Path, os.ErrClosed)
		}
		if offset >= 0 {
			return io.NopCloser(io.NewSectionReader(a.spool, offset, e.Size)), nil
		}
		r, err := Content(io.NewSectionReader(a.spool, ^offset, math.MaxInt64-^offset), e, ^0)
		return io.NopCloser(r), err
	}
}

// libarchiveXattr precedes the name of an extended attribute in a PAX record of bsdtar. The name is
// percent-encoded, the value in base64 (archive_write_set_format_pax.c of libarchive).
const libarchiveXattr = "LIBARCHIVE.xattr."

// addLibarchiveXattrs adds the extended attributes that bsdtar wrote in its own way only.
func addLibarchiveXattrs(e *Entry, h *tar.Header) error {
	for key, encoded := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, libarchiveXattr)
		if !ok {
			continue
		}
		name, err := url.PathUnescape(name)
		if err != nil {
			return fmt.Errorf("extended attribute: %w", err)
		}
		if _, ok := h.PAXRecords[xattrRecord(name)]; ok {
			continue
		}
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
		if err := e.setXattr(name, string(value)); err != nil {
			return err
		}
	}
	return nil
}

// Limits of what an archive may grow to. Only zero bytes, and the like, are compressed to less than
// a thousandth; gzip cannot do much better than that (1:1032), the others can.
const (
	maxUnpacked  = 1 << 40
	maxUnratioed = 16 << 30 // up to here the ratio does not matter
	maxRatio     = 1000
)

// bombReader reads decompressed data until that is more than any real archive makes of what was
// compressed.
type bombReader struct {
	r          io.Reader
	compressed *countingReader // what was read for it
	n          int64
}

func (b *bombReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	if b.n > maxUnpacked || b.n > maxUnratioed && b.n/maxRatio > b.compressed.count() {
		return 0, fmt.Errorf("%d bytes unpacked from %d: no real archive has so many", b.n, b.compressed.count())
	}
	return n, err
}
