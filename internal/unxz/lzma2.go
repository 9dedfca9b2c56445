package unxz

import (
	"errors"
	"fmt"
	"io"
)

// source is what LZMA2 is read from: a stream, or a block in memory.
type source interface {
	io.Reader
	io.ByteReader
}

// maxChunk is the most that one chunk decompresses to.
const maxChunk = 1 << 21

// lzma2 decodes LZMA2: chunks of LZMA or of plain bytes, each with a header that says what of the
// decoder's state begins anew (liblzma, lzma2_decoder.c). Between chunks, nothing is half done.
type lzma2 struct {
	lzma
	needReset, needProperties bool // before the next chunk can be decoded
	now                       chunk
}

// chunk is the header of a chunk.
type chunk struct {
	control byte
	size    int // decompressed
	packed  int // compressed; 0 where it is not
}

// What control says.
const (
	controlEnd        = 0x00
	controlPlainReset = 0x01 // plain bytes, with which a dictionary begins
	controlPlain      = 0x02
	controlLZMA       = 0x80 // from here on, LZMA: bits 0 to 4 are the highest of its size
	controlState      = 0xa0 // from here on, with the state reset
	controlProperties = 0xc0 // from here on, with new properties
	controlLZMAReset  = 0xe0 // from here on, with a new dictionary
)

// begin makes d ready for the chunks of a block, in which no distance is greater than dictSize.
func (d *lzma2) begin(dictSize int) {
	d.dictSize = dictSize
	d.needReset, d.needProperties = true, true
}

// next reads the header of the next chunk, and returns what size it decompresses to. At the end of
// the block it is io.EOF.
func (d *lzma2) next(r source) (size int, err error) {
	control, err := r.ReadByte()
	if err != nil {
		return 0, noEOF(err)
	}
	if control == controlEnd {
		return 0, io.EOF
	}
	if control > controlPlain && control < controlLZMA {
		return 0, errData
	}
	var b [5]byte
	header := b[:2]
	if control >= controlLZMA {
		header = b[:4]
	}
	if control >= controlProperties {
		header = b[:5]
	}
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, noEOF(err)
	}
	d.now = chunk{control: control, size: int(b[0])<<8 + int(b[1]) + 1}
	if control >= controlLZMA {
		d.now.size += int(control&0x1f) << 16
		d.now.packed = int(b[2])<<8 + int(b[3]) + 1
	}
	return d.now.size, d.resets(b[4])
}

// resets does what the header of the chunk asks for.
func (d *lzma2) resets(props byte) error {
	control := d.now.control
	if control == controlPlainReset || control >= controlLZMAReset {
		d.start = d.out
		d.needReset, d.needProperties = false, true
	}
	if control >= controlProperties {
		if err := d.setProperties(props); err != nil {
			return err
		}
		d.needProperties = false
	}
	if d.needReset || control >= controlLZMA && d.needProperties {
		return errData
	}
	if control >= controlState {
		d.resetState()
	}
	return nil
}

// setProperties takes the properties from their byte.
func (d *lzma2) setProperties(b byte) error {
	p := properties{lc: uint(b % 9), lp: uint(b / 9 % 5), pb: uint(b / 45)}
	if p.pb > 4 || p.lc+p.lp > 4 {
		return fmt.Errorf("%w: LZMA properties %d", errData, b)
	}
	d.properties = p
	return nil
}

// decode decodes the chunk whose header was read last, for which there must be room in buf.
func (d *lzma2) decode(r source) error {
	end := d.out + d.now.size
	if d.now.packed > 0 {
		if _, err := io.ReadFull(r, d.in[:d.now.packed]); err != nil {
			return noEOF(err)
		}
		return d.lzma.decode(d.now.packed, end)
	}
	if _, err := io.ReadFull(r, d.buf[d.out:end]); err != nil {
		return noEOF(err)
	}
	d.out = end
	return nil
}

// makeRoom makes room in buf for n bytes, of at most maxChunk. It lets go of what no distance
// reaches any more. most is how much will be decoded in all, or less than 0 where that is not
// known.
func (d *lzma2) makeRoom(n int, most int64) error {
	if d.out+n+wordSize <= len(d.buf) {
		return nil
	}
	size := d.dictSize + max(2*maxChunk, d.dictSize/4)
	if most >= 0 {
		size = int(min(int64(size), most))
	}
	size += wordSize
	old, from, keep := d.buf, d.out, min(d.out-d.start, d.dictSize)
	if len(old) < size {
		buf, err := allocate(size)
		if err != nil {
			return err
		}
		defer free(old)
		d.buf = buf
	}
	copy(d.buf, old[from-keep:from])
	d.start -= from - keep
	d.out = keep
	return nil
}

// noEOF makes an end where none should be an error that says so.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
