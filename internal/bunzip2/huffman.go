package bunzip2

const (
	maxBits    = 20  // of a code
	quickBits  = 10  // codes up to this long are looked up at once
	maxSymbols = 258 // two for runs, 255 for bytes, one for the end
)

// code decodes the symbols of one Huffman code.
type code struct {
	quick   [1 << quickBits]uint16 // symbol<<5 | length, by the next bits; 0 for longer codes
	limit   [maxBits + 2]uint64    // by length: the first maxBits bits that are no code of that length or shorter
	first   [maxBits + 2]int       // by length: what is to be added to a code to find its place in symbols
	symbols [maxSymbols]uint16     // in the order of their codes
}

// set makes c the canonical code in which symbols have those lengths, from 1 to maxBits. It reports whether there is one.
func (c *code) set(lengths []uint8) bool {
	var count [maxBits + 2]int
	for _, l := range lengths {
		count[l]++
	}
	clear(c.quick[:])
	var next uint64 // code, as the first of maxBits bits
	place := 0
	for l := 1; l <= maxBits; l++ {
		c.first[l] = place - int(next>>(maxBits-l))
		for s, m := range lengths {
			if int(m) != l {
				continue
			}
			c.symbols[place] = uint16(s)
			place++
			if l <= quickBits && next < 1<<maxBits {
				from := next >> (maxBits - quickBits)
				for i := range uint64(1) << (quickBits - l) {
					c.quick[from+i] = uint16(s)<<5 | uint16(l)
				}
			}
			next += 1 << (maxBits - l)
		}
		if next > 1<<maxBits {
			return false
		}
		c.limit[l] = next
	}
	return true
}

// long finds the symbol and the length of a code that quick does not have, by the next maxBits bits; no symbol is as large
// as maxSymbols, which it returns where there is none.
func (c *code) long(next uint64) (symbol int, length uint) {
	for l := quickBits + 1; l <= maxBits; l++ {
		if next < c.limit[l] {
			return int(c.symbols[int(next>>(maxBits-l))+c.first[l]]), uint(l)
		}
	}
	return maxSymbols, maxBits
}
