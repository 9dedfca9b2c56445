package gunzip

import "math/bits"

// Widths of the tables, and of what is behind them for longer codes. A code has at most maxCode
// bits (RFC 1951, section 3.2.7).
const (
	maxCode  = 15
	litBits  = 11
	litSize  = 1 << litBits
	litSub   = 1 << (maxCode - litBits)
	distBits = 9
	distSize = 1 << distBits
	distSub  = 1 << (maxCode - distBits)
	codeBits = 7 // codes of code lengths, which have no longer ones

	maxLits  = 288 // symbols of the code of literals and lengths; of the last two only the lengths of the fixed code exist
	maxDists = 32  // symbols of the code of distances, likewise
	endBlock = 256 // the symbol behind a block's last
)

// litEntry is what the next bits of the stream mean, where a literal, a length or the end of the
// block comes.
//
//	a literal   bits 0 to 5: how many bits it takes; bits 8 to 15: what it is; bit 31 is set
//	a length    bits 8 to 13: how many bits it takes, extra bits included; bits 16 to 24: what those are added to; bits 25 to 28: how
//	            many bits are the code
//	the end     bits 8 to 13: how many bits it takes; bit 15 is set
//	a link      bits 16 to 28: the index of a further table; bits 14 and 15 are set
//	no code     bit 15 is set
//
// All other bits are 0. So bits 0 to 5 are how many bits there are of a literal, whatever comes.
type litEntry uint32

// distEntry is what the next bits mean where a distance comes.
//
//	a distance  bits 0 to 5: how many bits it takes, extra bits included; bits 16 to 30: what those are added to; bits 8 to 11: how
//	            many bits are the code
//	a link      bits 16 to 28: the index of a further table; bits 14 and 15 are set
//	no code     bit 15 is set
type distEntry uint32

const (
	entryLink    = 1<<14 | entryOther
	entryOther   = 1 << 15
	entryLiteral = 1 << 31
)

func (e litEntry) isLiteral() bool { return e&entryLiteral != 0 }
func (e litEntry) isOther() bool   { return e&(entryOther|entryLiteral) == entryOther }
func (e litEntry) isLink() bool    { return e&(entryLink|entryLiteral) == entryLink }
func (e litEntry) link() uint      { return uint(e >> 16 & 0x1fff) }
func (e litEntry) literal() byte   { return byte(e >> 8) }
func (e litEntry) skip() uint      { return uint(e & 63) }      // how many bits there are of a literal
func (e litEntry) size() uint      { return uint(e >> 8 & 63) } // how many bits of something else

// length returns the length that bits begin with.
func (e litEntry) length(bits uint64) int {
	return int(e>>16&511) + int(bits&(1<<e.size()-1)>>(e>>25&15))
}

func (e distEntry) isOther() bool { return e&entryOther != 0 }
func (e distEntry) isLink() bool  { return e&entryLink == entryLink }
func (e distEntry) link() uint    { return uint(e >> 16 & 0x1fff) }
func (e distEntry) size() uint    { return uint(e & 63) }

// distance returns the distance that bits begin with.
func (e distEntry) distance(bits uint64) int {
	return int(e>>16) + int(bits&(1<<e.size()-1)>>(e>>8&15))
}

// codeEntry is what the next bits mean where the length of a code comes: bits 0 to 2 how many bits
// that takes, 0 for what is no code; above them the symbol.
type codeEntry uint8

func (e codeEntry) size() uint  { return uint(e & 7) }
func (e codeEntry) symbol() int { return int(e >> 3) }

// litTable decodes literals and lengths. It is indexed by the next litBits bits; further tables of
// litSub entries follow: at most one for two codes, since all codes with the same beginning are a
// complete code together (see build).
type litTable [litSize + maxLits/2*litSub]litEntry

// distTable decodes distances; further tables follow as in litTable.
type distTable [distSize + maxDists/2*distSub]distEntry

// codeTable decodes lengths of codes.
type codeTable [1 << codeBits]codeEntry

// Base values and extra bits of length and distance codes (RFC 1951, section 3.2.5).
var (
	lengthBase  = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [...]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
		6145, 8193, 12289, 16385, 24577,
	}
)

// newLitEntry is the entry of a symbol of the code of literals and lengths, whose code has n bits.
func newLitEntry(symbol uint16, n uint) litEntry {
	switch {
	case symbol < endBlock:
		return litEntry(symbol)<<8 | entryLiteral | litEntry(n)
	case symbol == endBlock:
		return entryOther | litEntry(n)<<8
	case int(symbol-endBlock-1) < len(lengthBase):
		i := symbol - endBlock - 1
		return litEntry(lengthBase[i])<<16 | litEntry(n)<<25 | litEntry(n+uint(lengthExtra[i]))<<8
	}
	return entryOther
}

// newDistEntry is the entry of a symbol of the code of distances.
func newDistEntry(symbol uint16, n uint) distEntry {
	if int(symbol) >= len(distBase) {
		return entryOther
	}
	extra := uint(max(symbol, 2)-2) / 2
	return distEntry(distBase[symbol])<<16 | distEntry(n)<<8 | distEntry(n+extra)
}

// code is a Huffman code (RFC 1951, section 3.2.2).
type code struct {
	count   [maxCode + 1]uint16 // of codes of n bits
	symbols [maxLits]uint16     // by code, which is by length, and by value among those of a length
	longest int
}

// set makes c a code of the lengths of the symbols' codes, 0 for symbols without one. It reports
// false where that is no code. As in the standard library and in zlib a code is complete, or is one
// code of one bit, or none at all.
func (c *code) set(lengths []uint8) bool {
	*c = code{}
	for _, n := range lengths {
		c.count[n&maxCode]++
	}
	c.count[0] = 0
	var at [maxCode + 2]uint16
	used := 0
	for n := 1; n <= maxCode; n++ {
		used += int(c.count[n]) << (maxCode - n)
		at[n+1] = at[n] + c.count[n]
		if c.count[n] > 0 {
			c.longest = n
		}
	}
	if used != 1<<maxCode && c.longest > 0 && !c.isSingle() {
		return false
	}
	for s, n := range lengths {
		if n > 0 {
			c.symbols[at[n&maxCode]] = uint16(s)
			at[n&maxCode]++
		}
	}
	return true
}

// isSingle reports whether there is only the code 0.
func (c *code) isSingle() bool { return c.longest == 1 && c.count[1] == 1 }

// newCodeEntry is the entry of a symbol of the code of lengths of codes.
func newCodeEntry(symbol uint16, n uint) codeEntry { return codeEntry(symbol<<3 | uint16(n)) }

// build makes the decoding table of a code: t is indexed by the next width bits; further tables are
// made behind these. none is the entry of no code, of that of a symbol with a code of n bits, and
// link that of a further table.
func build[E litEntry | distEntry | codeEntry](t []E, width int, c *code, none E, of func(symbol uint16, n uint) E, link func(at int) E) {
	// Codes come with their first bit lowest, so word is kept reversed, and counting up carries
	// downwards.
	t[0] = none
	word, symbols := uint(0), c.symbols[:]
	for n := 1; n <= width; n++ {
		half := 1 << (n - 1)
		copy(t[half:2*half], t[:half]) // shorter codes are followed by either bit
		for _, s := range symbols[:c.count[n]] {
			t[word] = of(s, uint(n))
			word = increment(word, n)
		}
		symbols = symbols[c.count[n]:]
		if c.isSingle() && n == 1 {
			t[1] = none
		}
	}
	sub := maxCode - width
	next, prefix := 1<<width, -1
	for n := width + 1; n <= c.longest; n++ {
		for _, s := range symbols[:c.count[n]] {
			if p := int(word & (1<<width - 1)); p != prefix {
				t[p] = link(next)
				next += 1 << sub
				prefix = p
			}
			e := of(s, uint(n))
			for i := int(word >> width); i < 1<<sub; i += 1 << (n - width) {
				t[next-1<<sub+i] = e
			}
			word = increment(word, n)
		}
		symbols = symbols[c.count[n]:]
	}
}

// increment adds 1 to a word of n bits whose bits are reversed; the last one is followed by 0.
func increment(word uint, n int) uint {
	highest := uint(1) << bits.Len(^word&(1<<n-1)) >> 1
	return word&(highest-1) | highest
}

func (t *litTable) build(c *code) {
	build(t[:], litBits, c, entryOther, newLitEntry, func(at int) litEntry { return entryLink | litEntry(at)<<16 })
}

func (t *distTable) build(c *code) {
	build(t[:], distBits, c, entryOther, newDistEntry, func(at int) distEntry { return entryLink | distEntry(at)<<16 })
}

// Codes for lengths have no further tables.
func (t *codeTable) build(c *code) {
	build(t[:], codeBits, c, 0, newCodeEntry, nil)
}
