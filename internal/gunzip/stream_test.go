package gunzip

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"
)

// bitWriter writes deflate streams by hand.
type bitWriter struct {
	buf  []byte
	bits uint64
	n    uint
}

// write appends the n lowest bits of v, the first one lowest.
func (w *bitWriter) write(v uint64, n uint) {
	w.bits |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.buf = append(w.buf, byte(w.bits))
		w.bits >>= 8
	}
}

// align fills up the last byte.
func (w *bitWriter) align() {
	if w.n > 0 {
		w.write(0, 8-w.n)
	}
}

// symbol appends the code of a symbol.
func (w *bitWriter) symbol(c huffman, symbol int) {
	n := uint(c.lengths[symbol])
	w.write(uint64(bits.Reverse16(c.words[symbol])>>(16-n)), n)
}

// huffman is a code to write with.
type huffman struct {
	lengths []uint8
	words   []uint16
}

// newHuffman gives the symbols their codes (RFC 1951, section 3.2.2).
func newHuffman(lengths []uint8) huffman {
	c := huffman{lengths, make([]uint16, len(lengths))}
	word := uint16(0)
	for n := uint8(1); n <= maxCode; n++ {
		word <<= 1
		for s := range lengths {
			if lengths[s] == n {
				c.words[s] = word
				word++
			}
		}
	}
	return c
}

// codesHeader appends the header of a block with these codes, the lengths of which are written one
// by one.
func (w *bitWriter) codesHeader(final bool, lits, dists []uint8) {
	w.header(final, 2)
	w.write(uint64(len(lits)-257), 5)
	w.write(uint64(len(dists)-1), 5)
	w.write(19-4, 4)
	order := make([]uint8, len(codeOrder))
	for i, symbol := range codeOrder {
		if symbol < 16 {
			order[symbol] = 4
		}
		w.write(uint64(order[codeOrder[i]]), 3)
	}
	c := newHuffman(order)
	for _, n := range slices.Concat(lits, dists) {
		w.symbol(c, int(n))
	}
}

// header appends what each block begins with.
func (w *bitWriter) header(final bool, kind uint64) {
	if final {
		w.write(1, 1)
	} else {
		w.write(0, 1)
	}
	w.write(kind, 2)
}

// choices makes decisions out of bytes, so that the fuzzer can change one at a time.
type choices struct {
	bytes []byte
	extra uint64 // the state of what is chosen when no bytes are left
}

// below returns a number from 0 to n-1; n is at most 1<<16.
func (c *choices) below(n int) int {
	if len(c.bytes) >= 2 {
		v := binary.LittleEndian.Uint16(c.bytes)
		c.bytes = c.bytes[2:]
		return int(v) % n
	}
	c.extra = c.extra*6364136223846793005 + 1442695040888963407
	return int(c.extra >> 33 % uint64(n))
}

// code chooses a complete code of at most longest bits for used of the symbols, all of must among
// them.
func (c *choices) code(symbols, used, longest int, must ...int) []uint8 {
	leaves := []uint8{1, 1}
	for len(leaves) < used {
		i := c.below(len(leaves))
		if c.below(3) == 0 {
			i = len(leaves) - 1 // deep ones
		}
		if int(leaves[i]) < longest {
			leaves[i]++
			leaves = append(leaves, leaves[i])
		}
	}
	lengths := make([]uint8, symbols)
	for _, n := range leaves {
		s := c.below(symbols)
		if len(must) > 0 {
			s, must = must[0], must[1:]
		}
		for lengths[s] != 0 {
			s = (s + 1) % symbols
		}
		lengths[s] = n
	}
	return lengths
}

// stream makes a stream of few blocks, and what it holds.
func (c *choices) stream() (stream, content []byte) {
	var w bitWriter
	for n := 1 + c.below(6); n > 0; n-- {
		switch c.below(4) {
		case 0:
			content = c.storedBlock(&w, n == 1, content)
		case 1:
			lits, dists := fixedLengths()
			w.header(n == 1, 1)
			content = c.symbols(&w, newHuffman(lits), newHuffman(dists), content)
		default:
			lits := c.code(257+c.below(30), 2+c.below(256), maxCode, endBlock)
			dists := c.code(2+c.below(29), 2, maxCode)
			if len(dists) > 2 {
				dists = c.code(len(dists), 2+c.below(len(dists)-1), maxCode)
			}
			w.codesHeader(n == 1, lits, dists)
			content = c.symbols(&w, newHuffman(lits), newHuffman(dists), content)
		}
	}
	w.align()
	return w.buf, content
}

func (c *choices) storedBlock(w *bitWriter, final bool, content []byte) []byte {
	w.header(final, 0)
	w.align()
	n := c.below(1 << (1 + c.below(13)))
	w.write(uint64(n), 16)
	w.write(uint64(^uint16(n)), 16)
	for range n {
		b := byte(c.below(256))
		w.write(uint64(b), 8)
		content = append(content, b)
	}
	return content
}

// symbols writes literals and matches of all kinds that the codes have, and the end of the block.
func (c *choices) symbols(w *bitWriter, lits, dists huffman, content []byte) []byte {
	var have []int
	for s, n := range lits.lengths[:min(286, len(lits.lengths))] {
		if n > 0 && s != endBlock {
			have = append(have, s)
		}
	}
	for n := c.below(1 << (1 + c.below(10))); n > 0 && len(have) > 0; n-- {
		s := have[c.below(len(have))]
		if s < endBlock {
			w.symbol(lits, s)
			content = append(content, byte(s))
			continue
		}
		at := c.below(min(30, len(dists.lengths)))
		for range 30 { // a distance that there is, and that does not reach too far
			if at >= len(dists.lengths) || dists.lengths[at] == 0 || int(distBase[at]) > len(content) {
				at = (at + 1) % min(30, len(dists.lengths))
			}
		}
		if dists.lengths[at] == 0 || int(distBase[at]) > len(content) {
			continue
		}
		w.symbol(lits, s)
		s -= endBlock + 1
		extra := c.below(1 << lengthExtra[s])
		w.write(uint64(extra), uint(lengthExtra[s]))
		length := int(lengthBase[s]) + extra
		w.symbol(dists, at)
		size := uint(max(at, 2)-2) / 2
		extra = c.below(1 << size)
		extra = min(extra, len(content)-int(distBase[at]))
		w.write(uint64(extra), size)
		dist := int(distBase[at]) + extra
		for range length {
			content = append(content, content[len(content)-dist])
		}
	}
	w.symbol(lits, endBlock)
	return content
}

// member puts a stream between the header and the trailer of gzip.
func member(stream, content []byte) []byte {
	b := slices.Concat([]byte{magic1, magic2, deflate, 0, 0, 0, 0, 0, 0, 255}, stream)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(content))
	return binary.LittleEndian.AppendUint32(b, uint32(len(content)))
}
