package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"os"
	"sort"
	"sync"
	"syscall"

	"genoci/internal/durable"
)

// TOC is the index of one layer: its entries in the order of Compare, whiteouts
// and opaque folders among them, with the place of each file's content in the
// uncompressed tar, and the content of the files in Kept.
//
// Every folder on the way to an entry is an entry itself; see Entry.Implied.
//
// It is immutable, and safe for use by many goroutines. On disk it is made for
// lookups without being read as a whole: OpenTOC maps the file, and a lookup is a
// binary search. The file is a cache: whoever cannot open one indexes the layer anew.
type TOC struct {
	data    []byte // the whole file, see tocHeaderSize
	records []byte // the part of data that holds the records
	strings []byte // the part of data that holds what records refer to
	mapped  bool

	lowerOnce sync.Once
	lower     []int // records of hard links to files of lower layers, once somebody asked
}

// The format of a TOC, little-endian throughout:
//
//	header   32 bytes
//	records  112 bytes for each entry, in the order of Compare
//	strings  each entry's path, link, group, xattrs and kept content, one right after the other
//
// A reader trusts the header alone, and that only if its checksum is right. References in a record
// are checked when they are followed, so that a file that was damaged later gives wrong answers,
// but no panic and no endless walk.
const (
	tocMagic      = "genociTC"
	tocVersion    = 1 // to be raised when the format, Kept, or what Index makes of a layer changes
	tocHeaderSize = 32
	tocRecordSize = 112
)

// Offsets of the header's fields.
const (
	hdrMagic    = 0  // [8]byte
	hdrVersion  = 8  // uint32
	hdrCount    = 12 // uint32: number of records
	hdrTotal    = 16 // uint64: length of the file
	hdrChecksum = 28 // uint32: CRC-32C of the bytes before it
)

// Offsets of a record's fields.
const (
	recStrings  = 0  // uint64: where the entry's strings begin
	recPathLen  = 8  // uint32
	recLinkLen  = 12 // uint32
	recGroupLen = 16 // uint32
	recXattrLen = 20 // uint32: pairs of name and value, sorted by name, each with its length before it (uvarint)
	recBodyLen  = 24 // uint32
	recParent   = 28 // uint32: record of the folder that the entry is in; its own for the root
	recEnd      = 32 // uint32: first record behind the entry and all that is below it
	recMode     = 36 // uint16
	recType     = 38 // uint8
	recFlags    = 39 // uint8
	recUID      = 40 // uint32
	recGID      = 44 // uint32
	recMajor    = 48 // uint32
	recMinor    = 52 // uint32
	recSize     = 56 // int64
	recMTime    = 64 // int64
	recOffset   = 72 // int64
	recDigest   = 80 // [32]byte
)

// Bits of recFlags.
const (
	flagOpaque  = 1 << iota // Entry.Opaque
	flagImplied             // Entry.Implied
	flagBody                // the file's content is kept
)

var errNotTOC = errors.New("not an index of this version")

// OpenTOC maps the TOC in the file at path, which Save has written. Close unmaps it.
// A file that is cut off, or that another version of genoci wrote, is an error.
func OpenTOC(path string) (*TOC, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < tocHeaderSize || int64(int(info.Size())) != info.Size() {
		return nil, &os.PathError{Op: "map", Path: path, Err: errNotTOC}
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "map", Path: path, Err: err}
	}
	t, err := parseTOC(data)
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "map", Path: path, Err: err}, syscall.Munmap(data))
	}
	t.mapped = true
	return t, nil
}

// parseTOC takes data, which it keeps, for a TOC. Only the header is read.
func parseTOC(data []byte) (*TOC, error) {
	le := binary.LittleEndian
	if len(data) < tocHeaderSize ||
		string(data[hdrMagic:hdrMagic+len(tocMagic)]) != tocMagic ||
		le.Uint32(data[hdrVersion:]) != tocVersion ||
		le.Uint32(data[hdrChecksum:]) != headerChecksum(data) {
		return nil, errNotTOC
	}
	count := uint64(le.Uint32(data[hdrCount:]))
	if total := le.Uint64(data[hdrTotal:]); total != uint64(len(data)) {
		return nil, fmt.Errorf("%d bytes, but %d were written", len(data), total)
	}
	end := tocHeaderSize + count*tocRecordSize
	if end > uint64(len(data)) {
		return nil, errNotTOC
	}
	return &TOC{data: data, records: data[tocHeaderSize:end], strings: data[end:]}, nil
}

func headerChecksum(data []byte) uint32 {
	return crc32.Checksum(data[:hdrChecksum], crc32.MakeTable(crc32.Castagnoli))
}

// Save writes the TOC to path, in one step, and to the disk.
func (t *TOC) Save(path string) error {
	return durable.WriteFile(path, t.data, 0o600, durable.SyncFile)
}

// Close releases the mapping. Entries that were returned stay valid; the TOC is empty from then on.
func (t *TOC) Close() error {
	data, mapped := t.data, t.mapped
	*t = TOC{}
	if !mapped {
		return nil
	}
	return syscall.Munmap(data)
}

// Len returns the number of entries.
func (t *TOC) Len() int { return len(t.records) / tocRecordSize }

// Lookup returns the entry that this layer has at path (a whiteout too), and where the content of a
// regular file is in the uncompressed tar. Content reads it; a negative offset is that of a sparse
// file.
func (t *TOC) Lookup(path string) (e Entry, offset int64, ok bool) {
	i, ok := t.search(path)
	if !ok {
		return Entry{}, 0, false
	}
	return t.entry(i), t.offset(i), true
}

// All yields every entry of the layer, and what Lookup says of its content, in the order of
// Compare.
func (t *TOC) All() iter.Seq2[Entry, int64] {
	return func(yield func(Entry, int64) bool) {
		for i := range t.Len() {
			if !yield(t.entry(i), t.offset(i)) {
				return
			}
		}
	}
}

// search returns the number of path's record, or of the first one behind where it would be.
func (t *TOC) search(path string) (i int, ok bool) {
	return sort.Find(t.Len(), func(i int) int { return compare(path, t.path(i)) })
}

// hides reports whether the layer, which has no entry at path, hides what lower layers have there:
// whether one of the folders on the way is opaque, removed, or no folder. i is what search
// returned.
func (t *TOC) hides(i int, path string) bool {
	if i--; i < 0 {
		return false
	}
	// The entry before is the deepest folder on the way that the layer has, or lies below it.
	for !isAncestor(t.path(i), path) {
		up := t.parent(i)
		if up == i {
			return false
		}
		i = up
	}
	return t.covers(i)
}

// covers reports whether entry i hides what lower layers have below it: whether it is opaque or no
// folder, or lies in an opaque folder.
func (t *TOC) covers(i int) bool {
	for {
		if t.typ(i) != TypeDir || t.flags(i)&flagOpaque != 0 {
			return true
		}
		up := t.parent(i)
		if up == i {
			return false
		}
		i = up
	}
}

// covered reports whether entry i hides what lower layers have in its own place because it lies in
// an opaque folder.
func (t *TOC) covered(i int) bool {
	up := t.parent(i)
	return up != i && t.covers(up)
}

// isAncestor reports whether path lies below dir.
func isAncestor(dir []byte, path string) bool {
	return isRoot(dir) || len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == string(dir)
}

// entry decodes a whole record.
func (t *TOC) entry(i int) Entry {
	r, le := t.record(i), binary.LittleEndian
	return Entry{
		Path:    string(t.path(i)),
		Type:    t.typ(i),
		Mode:    uint32(le.Uint16(r[recMode:])),
		UID:     int(le.Uint32(r[recUID:])),
		GID:     int(le.Uint32(r[recGID:])),
		Size:    int64(le.Uint64(r[recSize:])),
		MTime:   int64(le.Uint64(r[recMTime:])),
		Link:    string(t.field(i, recLinkLen)),
		Group:   string(t.field(i, recGroupLen)),
		Major:   le.Uint32(r[recMajor:]),
		Minor:   le.Uint32(r[recMinor:]),
		Xattrs:  decodeXattrs(t.field(i, recXattrLen)),
		Digest:  [32]byte(r[recDigest:]),
		Opaque:  t.flags(i)&flagOpaque != 0,
		Implied: t.flags(i)&flagImplied != 0,
	}
}

func (t *TOC) record(i int) []byte { return t.records[i*tocRecordSize : (i+1)*tocRecordSize] }
func (t *TOC) typ(i int) Type      { return Type(t.record(i)[recType]) }

// lowerLinks returns the records of hard links to files of lower layers. The first call goes
// through the whole index.
func (t *TOC) lowerLinks() []int {
	t.lowerOnce.Do(func() {
		for i := range t.Len() {
			if t.typ(i) == TypeFile && len(t.field(i, recLinkLen)) > 0 {
				t.lower = append(t.lower, i)
			}
		}
	})
	return t.lower
}

func (t *TOC) flags(i int) byte   { return t.record(i)[recFlags] }
func (t *TOC) offset(i int) int64 { return int64(binary.LittleEndian.Uint64(t.record(i)[recOffset:])) }
func (t *TOC) path(i int) []byte  { return t.field(i, recPathLen) }
func (t *TOC) hasBody(i int) bool { return t.flags(i)&flagBody != 0 }
func (t *TOC) body(i int) []byte  { return t.field(i, recBodyLen) }

// parent returns the record of the folder that record i is in: i itself for the root.
func (t *TOC) parent(i int) int {
	return min(i, int(binary.LittleEndian.Uint32(t.record(i)[recParent:])))
}

// end returns the first record behind i and all that is below it.
func (t *TOC) end(i int) int {
	return min(t.Len(), max(i+1, int(binary.LittleEndian.Uint32(t.record(i)[recEnd:]))))
}

// field returns one of the strings of record i, told by the offset of its length. It points into
// the file.
func (t *TOC) field(i, length int) []byte {
	r, le := t.record(i), binary.LittleEndian
	at := le.Uint64(r[recStrings:])
	for f := recPathLen; f < length; f += 4 {
		at += uint64(le.Uint32(r[f:]))
	}
	n := uint64(le.Uint32(r[length:]))
	if size := uint64(len(t.strings)); at > size || n > size-at {
		return nil
	}
	return t.strings[at : at+n]
}

// decodeXattrs is the reverse of appendXattrs; nil for none.
func decodeXattrs(b []byte) map[string]string {
	if len(b) == 0 {
		return nil
	}
	xattrs := make(map[string]string)
	for len(b) > 0 {
		var name, value []byte
		name, b = cutString(b)
		value, b = cutString(b)
		xattrs[string(name)] = string(value)
	}
	return xattrs
}

// cutString splits a string with its length before it from b.
func cutString(b []byte) (s, rest []byte) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil
	}
	return b[w : w+int(n)], b[w+int(n):]
}
