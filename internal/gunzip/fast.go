package gunzip

import "encoding/binary"

// The fast loop goes in rounds, and looks at the ends of in and out once in each. A round decodes
// up to two literals, or one or none and a match. It refills bits at its beginning, and again where
// a code is longer than its table is wide, before the length and before the distance.
//
// Each refill leaves 56 bits or more, and has 64 right ones. Up to the next refill at most a
// literal, a length and a distance follow that the tables have without a link (11, 11+5 and 9+13
// bits, 49 in all), or a length with one (15+5) and a distance without (22), or a distance with one
// (15+13). So have does not get below 0, and behind each of these 11 bits or more are right, for
// the next look at lits.
const (
	// fastIn is how much input there has to be when a round begins: each of three refills reads 8
	// bytes, and goes on by up to 7.
	fastIn = 7 + 7 + 8
	// fastOut is how much room there has to be when a round begins: for a literal, and for a match,
	// which is copied 32 bytes at a time, and so takes up to 9 times 32.
	fastOut = 1 + 9*32
)

// fastGo decodes literals and matches as long as in and out have room, up to the end of a block,
// and to what is no code, neither of which it takes. It reports false where a length is followed by
// no distance, or by one that reaches behind low.
func (d *state) fastGo() bool {
	in, at, bits, have := d.in, d.at, d.bits, d.have
	out, pos := d.out, d.pos
	lits, dists := &d.lits, &d.dists
	ok := true
	for at <= len(in)-fastIn && pos <= len(out)-fastOut {
		bits, at, have = refill(in, bits, at, have)
		e := lits[bits&(litSize-1)]

		// A literal or nothing: no branch has to be guessed. Matches follow each other, or one
		// literal, mostly.
		out[pos] = e.literal()
		pos += int(e >> 31)
		bits >>= e.skip() & 63
		have -= e.skip()
		e = lits[bits&(litSize-1)]

		if e.isOther() {
			if !e.isLink() {
				break
			}
			bits, at, have = refill(in, bits, at, have)
			e = lits[e.link()+uint(bits>>litBits)&(litSub-1)]
			if e.isOther() {
				break
			}
		}
		if e.isLiteral() {
			out[pos] = e.literal()
			pos++
			bits >>= e.skip() & 63
			have -= e.skip()
			continue
		}
		length := e.length(bits)
		bits >>= e.size() & 63
		have -= e.size()

		far := dists[bits&(distSize-1)]
		if far.isLink() {
			bits, at, have = refill(in, bits, at, have)
			far = dists[far.link()+uint(bits>>distBits)&(distSub-1)]
		}
		src := pos - far.distance(bits)
		if far.isOther() || src < d.low {
			ok = false
			break
		}
		bits >>= far.size() & 63
		have -= far.size()
		end := pos + length
		if pos-src < 16 {
			repeat(out[src:end], pos-src)
			pos = end
			continue
		}
		for ; pos < end; pos, src = pos+16, src+16 {
			*(*[16]byte)(out[pos:]) = *(*[16]byte)(out[src:])
		}
		pos = end
	}
	d.at, d.bits, d.have, d.pos = at, bits, have, pos
	return ok
}

// refill gets 56 bits or more.
func refill(in []byte, bits uint64, at int, have uint) (uint64, int, uint) {
	return bits | binary.LittleEndian.Uint64(in[at:])<<(have&63), at + int(63-have)/8, have | 56
}

// repeat repeats the first n bytes of b up to its end.
func repeat(b []byte, n int) {
	for n < len(b) {
		n += copy(b[n:], b[:n])
	}
}
