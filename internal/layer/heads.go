package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxHead is the most that may stand before the content of one entry. archive/tar takes 1 MiB of
// each header, and any number of them.
const maxHead = 8 << 20

// headTap keeps the headers that archive/tar reads. It puts them together, and in some cases it
// does so in another way than GNU tar.
type headTap struct {
	r    io.Reader
	on   bool
	pad  int64 // bytes before the header that belong to the entry before
	head []byte
}

// start begins to keep what is read, pad bytes from here.
func (t *headTap) start(pad int64) { t.on, t.pad, t.head = true, pad, t.head[:0] }

func (t *headTap) stop() { t.on = false }

// Read implements io.Reader.
func (t *headTap) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if t.on {
		skip := min(t.pad, int64(n))
		t.pad -= skip
		t.head = append(t.head, p[skip:n]...)
		if len(t.head) > maxHead {
			return n, errTooMuch
		}
	}
	return n, err
}

// head is what the blocks before the content of an entry say, one by one.
type head struct {
	long, longLink, records int    // headers with a name and a link of GNU tar (types L and K), and with PAX records (x)
	keys                    int    // of all PAX records, those that come twice counted twice
	nameless                bool   // a name or link of GNU tar is empty
	block                   []byte // the header of the entry itself; nil at the end of the archive
}

// parseHead reads blocks that archive/tar has taken.
func parseHead(b []byte) (h head) {
	for len(b) >= tarBlock {
		block := b[:tarBlock]
		switch block[156] {
		case tar.TypeGNULongName, tar.TypeGNULongLink:
			if block[156] == tar.TypeGNULongName {
				h.long++
			} else {
				h.longLink++
			}
			h.nameless = h.nameless || headSize(block) == 0 || len(b) > tarBlock && b[tarBlock] == 0
		case tar.TypeXHeader:
			h.records++
			h.keys += countRecords(b[tarBlock:min(len(b), tarBlock+int(headSize(block)))])
		default:
			if !isZero(block) {
				h.block = block
			}
			return h
		}
		size := headSize(block)
		b = b[min(len(b), tarBlock+int(size)+padding(size)):]
	}
	return h
}

// any reports whether headers stand before that of the entry.
func (h *head) any() bool { return h.long+h.longLink+h.records > 0 }

// headSize returns the size that a header says, octal or binary as in GNU tar's manual ("Basic Tar
// Format").
func headSize(block []byte) (n int64) {
	field := block[124:136]
	if field[0]&0x80 == 0 {
		n, _ = strconv.ParseInt(strings.Trim(string(field), " \x00"), 8, 64)
		return n
	}
	for _, c := range field[4:] {
		n = n<<8 | int64(c)
	}
	return n
}

// headName returns the name in a header without the prefix of POSIX.
func headName(block []byte) string {
	name, _, _ := bytes.Cut(block[:100], []byte{0})
	return string(name)
}

// countRecords counts PAX records. Each begins with its own length.
func countRecords(b []byte) (n int) {
	for len(b) > 0 {
		length, _, _ := bytes.Cut(b, []byte{' '})
		size, err := strconv.Atoi(string(length))
		if err != nil || size <= 0 || size > len(b) {
			return n
		}
		b = b[size:]
		n++
	}
	return n
}

// gnuMagic marks headers of GNU tar, which have no prefix of the name.
const gnuMagic = "ustar  \x00"

// Keys of PAX records that decide where an entry is and how long (POSIX.1-2024, pax, "pax Extended
// Header Keywords").
const (
	paxPath     = "path"
	paxLinkpath = "linkpath"
	paxSize     = "size"
)

// asGNUTar makes h, as archive/tar has read it, what GNU tar reads, and notes in s.unsure why tools
// could read the entry in different ways. What no tool can be trusted to read as it was meant is an
// error.
func (s *scanner) asGNUTar(h *tar.Header) error {
	d := parseHead(s.tap.head)
	s.unsure = ""
	if h.Mode&modeType != 0 && h.Mode&modeType != typeBits(h.Typeflag) {
		s.doubt("its mode says another type than its header")
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		s.global = true
		if d.any() {
			return errors.New("a global header stands between an entry and its own header")
		}
		for _, key := range []string{paxPath, paxLinkpath, paxSize} {
			if _, ok := h.PAXRecords[key]; ok {
				return fmt.Errorf("a global header gives all entries one %s", key)
			}
		}
		return nil
	}
	if err := s.ownHeaders(h, &d); err != nil {
		return err
	}
	return s.records(h, &d)
}

// typeBits returns the bits of st_mode (inode(7)) that a type flag stands for.
func typeBits(flag byte) int64 {
	switch flag {
	case tar.TypeDir, gnuDumpDir:
		return unix.S_IFDIR
	case tar.TypeSymlink:
		return unix.S_IFLNK
	case tar.TypeChar:
		return unix.S_IFCHR
	case tar.TypeBlock:
		return unix.S_IFBLK
	case tar.TypeFifo:
		return unix.S_IFIFO
	}
	return unix.S_IFREG
}

// doubt notes the first reason why an entry could be read in different ways.
func (s *scanner) doubt(why string) {
	if s.unsure == "" {
		s.unsure = why
	}
}

// ownHeaders looks at how the headers of an entry go together.
func (s *scanner) ownHeaders(h *tar.Header, d *head) error {
	if s.global {
		s.doubt("a global header stands before it, which some tools refuse and others do not read")
	}
	if d.long > 1 || d.longLink > 1 || d.records > 1 {
		s.doubt("it has several headers of one kind")
	}
	path, link := h.PAXRecords[paxPath], h.PAXRecords[paxLinkpath]
	switch {
	case d.nameless:
		return errors.New("its long name is empty")
	case d.long > 0 && path != "" || d.longLink > 0 && link != "":
		s.doubt("it has a name of GNU tar and one of POSIX, and tools differ in which they take")
		if path != "" && h.PAXRecords[paxSparse+"name"] == "" {
			h.Name = path
		}
		if link != "" {
			h.Linkname = link
		}
	case d.long == 0 && path == "" && !isSparse(h) && string(d.block[257:265]) == gnuMagic && h.Name != headName(d.block):
		return errors.New("its name has a prefix, but headers of GNU tar have none")
	}
	if size, err := strconv.ParseInt(h.PAXRecords[paxSize], 10, 64); err == nil && size <= max11 && size != headSize(d.block) {
		s.doubt("its header and its PAX record say different sizes")
	}
	if !strings.HasSuffix(h.Name, "/") {
		return nil
	}
	switch flag := d.block[156]; flag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		if h.Size != 0 {
			return errors.New("its name ends in / like that of a folder, but it has content")
		}
		h.Typeflag = tar.TypeDir
		if flag != '\x00' {
			s.doubt("the name of a file ends in /, which makes it a folder for some tools")
		}
	case tar.TypeDir, gnuDumpDir:
	default:
		s.doubt("its name ends in /, but it is not a folder")
	}
	return nil
}

// records looks at the PAX records of an entry.
func (s *scanner) records(h *tar.Header, d *head) error {
	sparse := false
	for key, value := range h.PAXRecords {
		name, isXattr := strings.CutPrefix(key, paxXattr)
		isGNU := strings.HasPrefix(key, paxSparse)
		sparse = sparse || isGNU
		switch {
		case value == "" && (key == paxPath || key == paxLinkpath && h.Linkname == headLink(d.block) && isLinkType(h.Typeflag)):
			return fmt.Errorf("its PAX record %s is empty", key)
		case value == "":
			s.doubt(fmt.Sprintf("its PAX record %s is empty, which tools read in different ways", key))
		case isXattr && strings.Contains(name, "%"):
			s.doubt(fmt.Sprintf("it has the extended attribute %s, in which some tools take %% for the start of a code", name))
		case isXattr || isGNU:
		case key == "hdrcharset" && value != "BINARY" && value != "ISO-IR 10646 2000 UTF-8":
			s.doubt("its names are in the character set " + value)
		case !plainRecord(key):
			s.doubt(fmt.Sprintf("it has the record %s, which tools for images do not read", key))
		}
	}
	if sparse && !knownSparse(h) {
		return errors.New("it is a sparse file of an unknown format")
	}
	if !sparse && d.keys > len(h.PAXRecords) {
		s.doubt("it has a PAX record twice")
	}
	return nil
}

func isLinkType(flag byte) bool { return flag == tar.TypeLink || flag == tar.TypeSymlink }

// headLink returns the link in a header.
func headLink(block []byte) string {
	link, _, _ := bytes.Cut(block[157:257], []byte{0})
	return string(link)
}

// plainRecord reports whether all tools make the same of a PAX record: what POSIX says, or nothing.
func plainRecord(key string) bool {
	switch key {
	case paxPath, paxLinkpath, paxSize, "uid", "gid", "uname", "gname", "mtime", "atime", "ctime", "comment", "charset", "hdrcharset",
		"SCHILY.dev", "SCHILY.ino", "SCHILY.nlink", "LIBARCHIVE.creationtime", "LIBARCHIVE.symlinktype":
		return true
	}
	return false
}

// knownSparse reports whether archive/tar knows the format of a sparse file, which has PAX records
// of GNU tar ("Storing Sparse Files" in its manual).
func knownSparse(h *tar.Header) bool {
	switch h.PAXRecords[paxSparse+"major"] + "." + h.PAXRecords[paxSparse+"minor"] {
	case "1.0":
		return true
	case ".", "0.0", "0.1":
		return h.PAXRecords[paxSparse+"map"] != ""
	}
	return false
}

// ErrAnother is wrapped by the error of ReadArchive where a further archive follows the first.
var ErrAnother = errors.New("another archive begins")

// behind reads what follows the end of an archive. It returns where the first byte is that is not
// zero, -1 where there is none. A further archive is an error: whoever put it there wants what is
// in it, and tar leaves it out too unless it is told to go on (-i).
func (s *scanner) behind() (int64, error) {
	w := behindWriter{at: s.in.count(), first: -1}
	if _, err := io.Copy(&w, s.in); err != nil {
		return -1, err
	}
	w.take()
	return w.first, nil
}

// behindWriter looks at the blocks behind the end of an archive.
type behindWriter struct {
	at    int64 // of block
	first int64 // of the first byte that is not zero
	block [tarBlock]byte
	n     int // bytes of block that are filled
}

// Write implements io.Writer.
func (w *behindWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := copy(w.block[w.n:], rest)
		rest = rest[n:]
		if w.n += n; w.n < tarBlock {
			break
		}
		if isHeader(&w.block) {
			return 0, fmt.Errorf("%w at byte %d, after the end of the first one", ErrAnother, w.at)
		}
		w.take()
	}
	return len(p), nil
}

// take takes the bytes of the block.
func (w *behindWriter) take() {
	for i, c := range w.block[:w.n] {
		if c != 0 && w.first < 0 {
			w.first = w.at + int64(i)
		}
	}
	w.at += int64(w.n)
	w.n = 0
}

// isHeader reports whether a block has the checksum of a header.
func isHeader(b *[tarBlock]byte) bool {
	said, err := strconv.ParseInt(strings.Trim(string(b[148:156]), " \x00"), 8, 64)
	return err == nil && said == headerSum(b)
}
