package unxz

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"strings"
)

// The xz file format, version 1.2.1 (xz-file-format.txt): streams of a header, blocks, an index of
// them, and a footer.
const (
	headerMagic = "\xfd7zXZ\x00"
	footerMagic = "YZ"
	headerSize  = 12
	lzma2ID     = 0x21 // of the one filter that is known
	maxVarint   = 9    // bytes of the longest number
)

var (
	errGarbage  = errors.New("garbage after the end of the xz stream")
	errPadding  = errors.New("padding is not zero")
	errIndex    = errors.New("the index does not fit the blocks")
	errSize     = errors.New("a block is not as large as its header says")
	errChecksum = errors.New("wrong checksum")
)

// check is what the content of each block of a stream is checked by.
type check struct {
	size int // bytes
	make func() hash.Hash
}

// checkOf returns the check with that number (section 2.1.1.2).
func checkOf(id byte) (check, error) {
	switch id {
	case 0:
		return check{0, func() hash.Hash { return noHash{} }}, nil
	case 1:
		return check{4, func() hash.Hash { return reversed{crc32.NewIEEE()} }}, nil
	case 4:
		return check{8, func() hash.Hash { return reversed{crc64.New(crc64.MakeTable(crc64.ECMA))} }}, nil
	case 10:
		return check{sha256.Size, sha256.New}, nil
	}
	return check{}, fmt.Errorf("check %d is not supported", id)
}

// noHash is the hash of "no check".
type noHash struct{}

func (noHash) Write(b []byte) (int, error) { return len(b), nil }
func (noHash) Sum(b []byte) []byte         { return b }
func (noHash) Reset()                      {}
func (noHash) Size() int                   { return 0 }
func (noHash) BlockSize() int              { return 1 }

// reversed is a CRC as xz stores it: the lowest byte first.
type reversed struct{ hash.Hash }

func (r reversed) Sum(b []byte) []byte {
	sum := r.Hash.Sum(b)
	for i, j := len(b), len(sum)-1; i < j; i, j = i+1, j-1 {
		sum[i], sum[j] = sum[j], sum[i]
	}
	return sum
}

// header is what stands before a block.
type header struct {
	check
	size                 int64 // of the header itself
	packed, uncompressed int64 // less than 0 where the header does not say
	dictSize             int
}

// container reads all of an xz file but the content of its blocks.
type container struct {
	r         *bufio.Reader
	pos       int64 // of r, in the stream
	maxWindow int

	flags  [2]byte // of the stream
	check  check
	blocks records
	begun  int64 // pos at which the content of the current block begins
}

// records are the sizes of the blocks of a stream, as they are or as its index has them.
type records struct {
	count uint64
	sum   hash.Hash
}

func newRecords() records { return records{sum: sha256.New()} }

// add adds a block.
func (r *records) add(unpadded, uncompressed uint64) {
	r.count++
	b := binary.BigEndian.AppendUint64(nil, unpadded)
	r.sum.Write(binary.BigEndian.AppendUint64(b, uncompressed))
}

// equal reports whether both have the same blocks.
func (r *records) equal(o records) bool {
	return r.count == o.count && bytes.Equal(r.sum.Sum(nil), o.sum.Sum(nil))
}

// Read reads the content of a block.
func (c *container) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.pos += int64(n)
	return n, err
}

// ReadByte is Read for one byte.
func (c *container) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.pos++
	}
	return b, err
}

// full reads n bytes.
func (c *container) full(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	return b, noEOF(err)
}

// padding reads zero bytes up to the next multiple of four.
func (c *container) padding() error {
	for c.pos%4 != 0 {
		b, err := c.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if b != 0 {
			return errPadding
		}
	}
	return nil
}

// sealed returns the data of b, which ends with its CRC32.
func sealed(b []byte, what string) ([]byte, error) {
	data, sum := b[:len(b)-4], b[len(b)-4:]
	if crc32.ChecksumIEEE(data) != binary.LittleEndian.Uint32(sum) {
		return nil, fmt.Errorf("wrong checksum of the %s", what)
	}
	return data, nil
}

// streamHeader begins a stream (section 2.1.1).
func (c *container) streamHeader() error {
	c.pos = 0
	b, err := c.full(headerSize)
	if err != nil {
		return err
	}
	if string(b[:6]) != headerMagic {
		return errors.New("not an xz stream")
	}
	flags, err := sealed(b[6:], "stream header")
	if err != nil {
		return err
	}
	if flags[0] != 0 || flags[1] > 0xf {
		return errors.New("unknown flags of the stream")
	}
	c.flags, c.blocks = [2]byte(flags), newRecords()
	c.check, err = checkOf(flags[1])
	return err
}

// next reads up to the content of the next block; behind the last of the last stream it is io.EOF.
func (c *container) next() (header, error) {
	for {
		size, err := c.ReadByte()
		if err != nil {
			return header{}, noEOF(err)
		}
		if size != 0 {
			return c.blockHeader(size)
		}
		if err := c.end(); err != nil {
			return header{}, err
		}
		if err := c.nextStream(); err != nil {
			return header{}, err
		}
	}
}

// blockHeader reads the header of a block behind its first byte (section 3.1).
func (c *container) blockHeader(size byte) (header, error) {
	h := header{check: c.check, size: (int64(size) + 1) * 4, packed: -1, uncompressed: -1}
	rest, err := c.full(int(h.size) - 1)
	if err != nil {
		return h, err
	}
	b, err := sealed(append([]byte{size}, rest...), "block header")
	if err != nil {
		return h, err
	}
	flags := b[1]
	f := &fields{b: b[2:]}
	if flags&0x40 != 0 {
		h.packed = int64(f.number())
	}
	if flags&0x80 != 0 {
		h.uncompressed = int64(f.number())
	}
	window, err := filters(f, flags&3+1)
	switch {
	case err != nil:
		return h, err
	case f.bad || flags&0x3c != 0 || h.packed == 0 || len(bytes.Trim(f.b, "\x00")) > 0:
		return h, errors.New("malformed block header")
	case window > uint64(c.maxWindow):
		return h, fmt.Errorf("a window of %d MiB is more than the limit of %d MiB", window>>20, c.maxWindow>>20)
	}
	h.dictSize, c.begun = int(window), c.pos
	return h, nil
}

// filters reads the list of n filters, which must be LZMA2 alone, and returns the size of its
// dictionary (section 5.3).
func filters(f *fields, n byte) (window uint64, err error) {
	for range n {
		id, size := f.number(), f.number()
		props := f.take(size)
		switch {
		case f.bad:
			return 0, nil
		case id != lzma2ID:
			return 0, fmt.Errorf("filter %s is not supported", filterName(id))
		case n != 1 || size != 1 || props[0] > 40:
			f.bad = true
			return 0, nil
		}
		// The largest, 40, means one less than this.
		window = uint64(2|props[0]&1) << (props[0]/2 + 11)
	}
	return window, nil
}

// filterName tells which filter it is (section 5.3).
func filterName(id uint64) string {
	names := map[uint64]string{
		3: "delta", 4: "x86", 5: "powerpc", 6: "ia64", 7: "arm", 8: "armthumb", 9: "sparc", 10: "arm64", 11: "riscv",
	}
	if name := names[id]; name != "" {
		return name
	}
	return fmt.Sprintf("%#x", id)
}

// fields takes a header apart. Once it was found bad, what it returns means nothing.
type fields struct {
	b   []byte
	bad bool
}

// number takes a number of up to 63 bits, encoded in as few bytes as can be (section 1.2).
func (f *fields) number() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 || n > maxVarint || n > 1 && f.b[n-1] == 0 {
		f.bad = true
		return 0
	}
	f.b = f.b[n:]
	return v
}

// take takes n bytes.
func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.bad = true
		return nil
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

// endBlock reads what is behind the content of the current block, and returns what its check should
// be.
func (c *container) endBlock(h header, uncompressed int64) ([]byte, error) {
	packed := c.pos - c.begun
	if h.packed >= 0 && packed != h.packed || h.uncompressed >= 0 && uncompressed != h.uncompressed {
		return nil, errSize
	}
	c.blocks.add(uint64(h.size+packed)+uint64(h.check.size), uint64(uncompressed))
	if err := c.padding(); err != nil {
		return nil, err
	}
	return c.full(h.check.size)
}

// end reads the index of a stream behind its first byte, and the footer (sections 4 and 2.1.2).
func (c *container) end() error {
	start := c.pos - 1
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	in := &teeByteReader{c, sum}
	index := newRecords()
	count, err := in.number()
	if err == nil && count != c.blocks.count {
		return errIndex
	}
	for i := uint64(0); err == nil && i < count; i++ {
		var unpadded, uncompressed uint64
		if unpadded, err = in.number(); err == nil {
			uncompressed, err = in.number()
		}
		index.add(unpadded, uncompressed)
	}
	if err != nil {
		return err
	}
	for c.pos%4 != 0 {
		b, err := in.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return errPadding
		}
	}
	size := c.pos - start + 4
	b, err := c.full(4 + headerSize)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != sum.Sum32() {
		return errors.New("wrong checksum of the index")
	}
	if !c.blocks.equal(index) {
		return errIndex
	}
	return c.footer(b[4:], size)
}

// footer checks the footer of a stream, whose index has that size.
func (c *container) footer(b []byte, indexSize int64) error {
	if string(b[10:]) != footerMagic {
		return errors.New("no footer after the index")
	}
	if crc32.ChecksumIEEE(b[4:10]) != binary.LittleEndian.Uint32(b) {
		return errors.New("wrong checksum of the footer")
	}
	if (int64(binary.LittleEndian.Uint32(b[4:]))+1)*4 != indexSize || [2]byte(b[8:10]) != c.flags {
		return errors.New("the footer does not fit the stream")
	}
	return nil
}

// nextStream reads the padding behind a stream and the header of the next; io.EOF where there is
// none (section 2.2).
func (c *container) nextStream() error {
	for {
		b, err := c.r.Peek(4)
		switch {
		case len(b) == 0, len(b) < 4 && err != io.EOF:
			return err
		case len(b) < 4 && strings.HasPrefix(headerMagic, string(b)):
			return io.ErrUnexpectedEOF
		case string(b) == headerMagic[:4]:
			return c.streamHeader()
		case string(b) != "\x00\x00\x00\x00":
			return errGarbage
		}
		if _, err := c.r.Discard(4); err != nil {
			return err
		}
	}
}

// teeByteReader reads numbers, and hashes what it reads.
type teeByteReader struct {
	r   io.ByteReader
	sum hash.Hash32
}

// ReadByte implements io.ByteReader.
func (t *teeByteReader) ReadByte() (byte, error) {
	b, err := t.r.ReadByte()
	if err != nil {
		return 0, noEOF(err)
	}
	t.sum.Write([]byte{b})
	return b, nil
}

// number reads a number as fields.number takes it.
func (t *teeByteReader) number() (uint64, error) {
	var f fields
	for len(f.b) < maxVarint {
		b, err := t.ReadByte()
		if err != nil {
			return 0, err
		}
		f.b = append(f.b, b)
		if b < 0x80 {
			break
		}
	}
	v := f.number()
	if f.bad {
		return 0, errors.New("malformed index")
	}
	return v, nil
}
