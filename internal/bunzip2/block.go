package bunzip2

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
)

const (
	maxCodes  = 6  // Huffman codes of a block
	groupSize = 50 // symbols that are decoded with the same code
)

var (
	errData     = errors.New("the compressed data is damaged")
	errChecksum = errors.New("wrong checksum")
)

// block is a block of a stream. What the bits say is decoded one block after the other; the rest of the work is done for several at the
// same time.
type block struct {
	want   uint32 // the checksum
	origin uint32 // which of the sorted rotations is the content

	inverter
	segment int    // that comes behind content
	left    int    // bytes of it and those behind it
	content []byte // what is left of a segment

	last     byte   // of what was expanded
	run      int    // how often it came
	repeat   int    // how often it is to come again
	sum      uint32 // of what was expanded
	buf, out []byte // room for what is expanded; what of it is not yet read
	done     chan struct{}
}

// decoder decodes the bits of blocks.
type decoder struct {
	bitReader
	codes  [maxCodes]code
	groups []uint8 // the code of each group
}

// decode reads a block of at most size bytes, behind its magic.
func (d *decoder) decode(b *block, size int) error {
	b.want = uint32(d.take(32))
	if d.take(1) != 0 {
		return errors.New("randomised blocks are not supported")
	}
	b.origin = uint32(d.take(24))
	recent, used := d.alphabet()
	if used == 0 {
		return errData
	}
	if err := d.readCodes(used + 2); err != nil {
		return err
	}
	if cap(b.links) < size {
		b.links = make([]uint32, size)
	}
	clear(b.counts[:])
	n, err := d.symbols(b, b.links[:size], &recent, used+1)
	if err != nil {
		return err
	}
	if b.origin >= uint32(n) {
		return errData
	}
	b.links = b.links[:n]
	return nil
}

// alphabet reads which bytes are used, and returns them in order.
func (d *decoder) alphabet() (bytes [256]byte, n int) {
	ranges := d.take(16)
	for i := range 16 {
		if ranges>>(15-i)&1 == 0 {
			continue
		}
		in := d.take(16)
		for j := range 16 {
			if in>>(15-j)&1 != 0 {
				bytes[n] = byte(i<<4 | j)
				n++
			}
		}
	}
	return bytes, n
}

// readCodes reads the codes for n symbols, and which group uses which.
func (d *decoder) readCodes(n int) error {
	codes, groups := int(d.take(3)), int(d.take(15))
	if codes < 2 || codes > maxCodes || groups == 0 {
		return errData
	}
	recent := [maxCodes]uint8{0, 1, 2, 3, 4, 5}
	d.groups = d.groups[:0]
	for range groups {
		i := 0
		for ; d.take(1) == 1; i++ {
			if i == codes-1 {
				return errData
			}
		}
		c := recent[i]
		copy(recent[1:i+1], recent[:i])
		recent[0] = c
		d.groups = append(d.groups, c)
	}
	var lengths [maxSymbols]uint8
	for i := range codes {
		length := d.take(5)
		for s := range n {
			for length-1 < maxBits && d.take(1) == 1 {
				length += 1 - 2*d.take(1)
			}
			if length-1 >= maxBits {
				return errData
			}
			lengths[s] = uint8(length)
		}
		if !d.codes[i].set(lengths[:n]) {
			return errData
		}
	}
	return nil
}

// symbols decodes the bytes of a block into links, up to the symbol end. recent are the bytes in the order in which they
// were last used. It returns how many there are.
func (d *decoder) symbols(b *block, links []uint32, recent *[256]byte, end int) (n int, err error) {
	run, weight := 0, 1 // how often the most recent byte is to come; what a symbol of the run adds to that
	var at cursor
decoding:
	for _, group := range d.groups {
		c := &d.codes[group]
		d.need(groupSize*maxBits/8 + 1)
		at = d.cursor
		for range groupSize {
			if at.n < maxBits {
				at.refill(d.buf[:])
			}
			e := c.quick[at.bits>>(64-quickBits)]
			symbol, length := int(e>>5), uint(e&31)
			if length == 0 {
				symbol, length = c.long(at.bits >> (64 - maxBits))
			}
			at.bits <<= length
			at.n -= length
			if symbol < 2 {
				run += weight << symbol
				weight <<= 1
				if run > len(links)-n {
					break decoding
				}
				continue
			}
			if run > 0 {
				v := uint32(recent[0])
				for i := range links[n : n+run] {
					links[n+i] = v
				}
				b.counts[v] += uint32(run)
				n += run
				run, weight = 0, 1
			}
			if symbol == end {
				d.cursor = at
				return n, nil
			}
			if symbol > end || n == len(links) {
				break decoding
			}
			i := symbol - 1
			v := recent[i&0xff]
			if i < 16 {
				for ; i > 0; i-- {
					recent[i] = recent[i-1]
				}
			} else {
				copy(recent[1:i+1], recent[:i])
			}
			recent[0] = v
			links[n] = uint32(v)
			b.counts[v]++
			n++
		}
		d.cursor = at
	}
	d.cursor = at
	return 0, errData
}

// begin undoes the transform, so that expand can follow.
func (b *block) begin() {
	b.invert(b.origin)
	b.segment, b.left, b.content = 0, len(b.links), nil
	b.last, b.run, b.repeat, b.sum = 0, 0, 0, 0
}

// expand fills out with what content stands for, as far as there is any: after four equal bytes comes how many more there are.
// It may be called again, for what comes behind.
func (b *block) expand(out []byte) []byte {
	content, last, run, repeat := b.content, b.last, b.run, b.repeat
	n := 0
	for n < len(out) {
		if repeat > 0 {
			more := out[n : n+min(repeat, len(out)-n)]
			for i := range more {
				more[i] = last
			}
			n += len(more)
			repeat -= len(more)
			continue
		}
		if len(content) == 0 {
			if content = b.more(); len(content) == 0 {
				break
			}
		}
		c := content[0]
		content = content[1:]
		if run == 4 {
			repeat, run = int(c), 0
			continue
		}
		if c != last {
			last, run = c, 0
		}
		run++
		out[n] = c
		n++
	}
	b.content, b.last, b.run, b.repeat = content, last, run, repeat
	b.sum = checksum(b.sum, out[:n])
	return out[:n]
}

// more returns the next segment of the content; nothing where there is none.
func (b *block) more() []byte {
	s := &b.segments[b.segment]
	content := s.bytes[:min(len(s.bytes), b.left)]
	b.left -= len(content)
	b.segment = s.next
	return content
}

// checksum continues a checksum. It is the CRC-32 of gzip, but with the highest bit of each byte first.
func checksum(sum uint32, data []byte) uint32 {
	var buf [1024]byte
	sum = bits.Reverse32(sum)
	for len(data) > 0 {
		n := copy(buf[:], data)
		for i := 0; i < n; i += 8 {
			word := binary.LittleEndian.Uint64(buf[i:])
			binary.BigEndian.PutUint64(buf[i:], bits.Reverse64(word))
		}
		sum = crc32.Update(sum, crc32.IEEETable, buf[:n])
		data = data[n:]
	}
	return bits.Reverse32(sum)
}
