package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// limits bound what reading a tar may cost, whatever stands in it.
type limits struct {
	entries int   // entries, with the folders that they imply
	text    int64 // bytes of all names, links and extended attributes
	holes   int64 // bytes of all holes in sparse files
}

// defaultLimits are far beyond what real layers and archives have.
var defaultLimits = limits{entries: 2 << 20, text: 1 << 30, holes: 64 << 30}

var (
	errNotTar  = errors.New("not a tar archive") // the very first bytes are not those of a tar
	errTooMuch = errors.New("no real archive has so many entries or such long names")
	errNoRoot  = errors.New("the root is not a folder")
)

// scanner reads a tar entry by entry, and knows where it is.
type scanner struct {
	ctx    context.Context
	limits limits
	in     *countingReader
	tr     *tar.Reader
	whole  *summing  // what the tar is read through; nil where its digest is not wanted
	sum    hash.Hash // of the content of an entry
	buf    []byte
	start  int64  // where the header of the entry begins
	last   string // name of the entry before, for errors
	holes  int64  // bytes of holes so far

	labeled bool // there was the label of a volume, which next leaves out

	globals map[string]string // PAX records that count for all that follows

	// Of archives, see asGNUTar.
	tap    *headTap
	global bool   // there was a global header
	unsure string // why tools could read the entry in different ways; "" where they all read the same
	after  int64  // where the first byte behind the end is that is not zero, once that was read; -1: all are
}

func newScanner(ctx context.Context, r io.Reader, l limits) *scanner {
	return scanBlocks(ctx, inBlocks(r), l)
}

// newSummingScanner is newScanner for a tar whose SHA-256 is wanted: it is in whole.sum, in the
// end.
func newSummingScanner(ctx context.Context, r io.Reader, l limits) *scanner {
	whole := &summing{r: inBlocks(r), sum: sha256.New()}
	s := scanBlocks(ctx, whole, l)
	s.whole = whole
	return s
}

// readsArchive makes s read what GNU tar reads: an archive that somebody made to be unpacked.
// Layers are read as tools for images read them.
func (s *scanner) readsArchive() {
	s.tap = &headTap{r: s.in}
	s.tr = tar.NewReader(s.tap)
}

// inBlocks makes r one of which small pieces may be read.
func inBlocks(r io.Reader) io.Reader {
	switch r.(type) {
	case *forkSide, *teeAhead: // have blocks of their own
		return r
	default:
		return bufio.NewReaderSize(r, aheadSize)
	}
}

func scanBlocks(ctx context.Context, r io.Reader, l limits) *scanner {
	in := &countingReader{r: contextReader{ctx, r}}
	return &scanner{ctx: ctx, limits: l, in: in, tr: tar.NewReader(in), sum: sha256.New(), buf: make([]byte, 64<<10)}
}

// next returns the header of the next entry; io.EOF at the end of the archive. Headers that are no
// entries are left out.
func (s *scanner) next() (*tar.Header, error) {
	for {
		if _, err := s.copyContent(io.Discard); err != nil {
			return nil, err
		}
		s.start = (s.in.count() + blockSize - 1) / blockSize * blockSize
		h, err := s.header()
		if err != nil {
			return nil, s.headerError(err)
		}
		if s.tap != nil {
			if err := s.asGNUTar(h); err != nil {
				return nil, fmt.Errorf("%s: %w", h.Name, err)
			}
		}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			s.addGlobals(h)
		case gnuVolume:
			s.labeled = true
		default:
			s.last = h.Name
			return h, nil
		}
	}
}

// header reads the next header.
func (s *scanner) header() (*tar.Header, error) {
	if s.tap != nil {
		s.tap.start(s.start - s.in.count())
		defer s.tap.stop()
	}
	h, err := s.tr.Next()
	if errors.Is(err, tar.ErrInsecurePath) { // cleanPath makes names safe
		err = nil
	}
	return h, err
}

// headerError makes an error of reading a header one that says where it was.
func (s *scanner) headerError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return err
	case s.start == 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) && s.in.count() < blockSize):
		return errNotTar
	case s.last != "":
		return fmt.Errorf("after %s: %w", s.last, err)
	}
	return err
}

// drain reads what follows the end, which belongs to the stream.
func (s *scanner) drain() (err error) {
	if s.tap != nil {
		s.after, err = s.behind()
		return err
	}
	_, err = io.Copy(io.Discard, s.in)
	return err
}

// addGlobals notes the records of a PAX global header that applyGlobals knows. It takes the place
// of one before it, as GNU tar has it.
func (s *scanner) addGlobals(h *tar.Header) {
	s.globals = nil
	for _, key := range [...]string{"mtime", "uid", "gid"} {
		if value, ok := h.PAXRecords[key]; ok {
			if s.globals == nil {
				s.globals = make(map[string]string)
			}
			s.globals[key] = value
		}
	}
}

// applyGlobals sets in h what the global headers before it say, and its own PAX records do not
// (POSIX.1-2024, pax, "pax Extended Header"). archive/tar leaves that to its users; tools that
// unpack layers leave it altogether.
func (s *scanner) applyGlobals(h *tar.Header) (err error) {
	for key, value := range s.globals {
		if _, ok := h.PAXRecords[key]; ok || value == "" {
			continue
		}
		switch key {
		case "mtime":
			h.ModTime, err = paxTime(value)
		case "uid":
			h.Uid, err = strconv.Atoi(value)
		case "gid":
			h.Gid, err = strconv.Atoi(value)
		}
		if err != nil {
			return fmt.Errorf("global header: %w", err)
		}
	}
	return nil
}

// paxTime parses the time of a PAX record, a decimal fraction of seconds, and rounds it down to a
// second.
func paxTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if strings.HasPrefix(whole, "-") && strings.Trim(fraction, "0") != "" {
		sec--
	}
	return time.Unix(sec, 0), err
}

// contentOffset says, right after next, where the content of the entry is; see Content.
func (s *scanner) contentOffset(h *tar.Header) int64 {
	if isSparse(h) {
		return ^s.start
	}
	return s.in.count()
}

// digest reads the content of the entry whose header is h to its end, and returns its SHA-256.
// Unless also is nil, the content is written to it.
func (s *scanner) digest(h *tar.Header, also io.Writer) (sum [32]byte, err error) {
	s.sum.Reset()
	var to []io.Writer
	if s.whole != nil && !isSparse(h) {
		s.whole.part = s.sum // with the tar, whose very bytes the content is
		defer func() { s.whole.part = nil }()
	} else {
		to = append(to, s.sum)
	}
	if also != nil {
		to = append(to, also)
	}
	if _, err := s.copyContent(io.MultiWriter(to...)); err != nil {
		return sum, err
	}
	return [32]byte(s.sum.Sum(nil)), nil
}

// summing computes the SHA-256 of what is read from r, and of a part of it.
type summing struct {
	r    io.Reader
	sum  hash.Hash
	part hash.Hash // of what is read now; nil: there is no part
}

func (s *summing) digest() digest.Digest { return digest.NewDigest(digest.SHA256, s.sum) }

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.part != nil {
		writeBoth(s.sum, s.part, p[:n])
	} else {
		s.sum.Write(p[:n])
	}
	return n, err
}

// errHoles means that a tar grows without end.
var errHoles = errors.New("no real archive has so many holes in sparse files")

// copyContent copies what is left of the entry's content to w, the holes of a sparse file as zero
// bytes.
func (s *scanner) copyContent(w io.Writer) (n int64, err error) {
	start := s.in.count()
	for {
		m, err := s.tr.Read(s.buf)
		n += int64(m)
		if _, err := w.Write(s.buf[:m]); err != nil {
			return n, err
		}
		if holes := n - (s.in.count() - start); s.holes+holes > s.limits.holes {
			return n, errHoles
		}
		switch {
		case err == io.EOF:
			s.holes += max(0, n-(s.in.count()-start))
			return n, nil
		case err != nil:
			return n, err
		case s.ctx.Err() != nil:
			return n, s.ctx.Err()
		}
	}
}

// readContent is copyContent for a small entry whose size is that of b, and goes there.
func (s *scanner) readContent(b []byte) error {
	start := s.in.count()
	if _, err := io.ReadFull(s.tr, b); err != nil {
		return noEOF(err)
	}
	s.holes += max(0, int64(len(b))-(s.in.count()-start))
	if s.holes > s.limits.holes {
		return errHoles
	}
	return nil
}

// blockSize is the unit of a tar.
const blockSize = 512

// paxSparse is what the keys of PAX records begin with that make a file sparse.
const paxSparse = "GNU.sparse."

// isSparse reports whether the content of a file is stored without its holes, in one of the formats
// of GNU tar ("Storing Sparse Files" in its manual).
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, paxSparse) {
			return true
		}
	}
	return false
}

// Content returns the content of a regular file of a layer, from the layer's uncompressed tar,
// which is read from its start, and the offset that TOC.Lookup, TOC.All or Merged.Locate gave. A
// negative offset is that of a sparse file: its complement is the place of the file's header.
func Content(layer io.Reader, e Entry, offset int64) (io.Reader, error) {
	sparse := offset < 0
	if sparse {
		offset = ^offset
	}
	if _, err := io.CopyN(io.Discard, layer, offset); err != nil {
		return nil, fmt.Errorf("%s: %w", e.Path, noEOF(err))
	}
	if !sparse {
		return io.LimitReader(layer, e.Size), nil
	}
	tr := tar.NewReader(layer)
	if _, err := tr.Next(); err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return nil, fmt.Errorf("%s: %w", e.Path, noEOF(err))
	}
	return tr, nil
}

// countingReader counts what was read from r. The count may be asked for while another goroutine
// reads.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func (c *countingReader) count() int64 { return c.n.Load() }

// contextReader ends with the context's error once that is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
