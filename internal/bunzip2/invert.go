package bunzip2

// Undoing the Burrows-Wheeler transform is a walk along links that lie all over more memory than fast caches hold. So as not to wait
// for one link at a time, some walks go on at once, each from one of many places to the next of these.
const (
	walks       = 4
	maxSegments = 64
	minSegment  = 64      // on average
	mark        = 1 << 31 // of links at which a segment begins
)

// segment is what one walk found: bytes that follow each other.
type segment struct {
	begin uint32 // the link of its first byte
	end   uint32 // the link behind its last byte, at which a segment begins
	next  int    // that segment
	bytes []byte
}

// walk is one of several at once.
type walk struct {
	buf     []byte // as long as the block
	n       int    // bytes in buf
	from    int    // where in buf the segment begins
	segment int
	p       uint32 // the link that comes next
}

// inverter undoes the Burrows-Wheeler transform of a block.
type inverter struct {
	// links are, in their low bytes, the last column of the sorted rotations. Above it is put where the byte behind it is.
	links    []uint32
	counts   [256]uint32 // of each byte in links
	segments []segment   // the first is that with which the content begins
	walks    [walks]walk
}

// invert finds the segments of a content that is the rotation of that number.
func (v *inverter) invert(origin uint32) {
	var place [256]uint32
	sum := uint32(0)
	for i, n := range v.counts {
		place[i] = sum
		sum += n
	}
	links := v.links
	for i, l := range links {
		c := byte(l)
		links[place[c]] |= uint32(i) << 8
		place[c]++
	}
	v.divide(links[origin] >> 8)
	v.walkAll()
	for i := range v.segments {
		s := &v.segments[i]
		for j := range v.segments {
			if v.segments[j].begin == s.end {
				s.next = j
			}
		}
	}
}

// divide decides where segments begin: the first at that link.
func (v *inverter) divide(first uint32) {
	v.segments = append(v.segments[:0], segment{begin: first})
	v.links[first] |= mark
	n := len(v.links)
	count := min(maxSegments, n/minSegment)
	for i := range count {
		p := uint32(i * (n / count))
		if v.links[p]&mark == 0 {
			v.links[p] |= mark
			v.segments = append(v.segments, segment{begin: p})
		}
	}
}

// walkAll walks all segments.
func (v *inverter) walkAll() {
	next, busy := 0, true
	for i := range v.walks {
		w := &v.walks[i]
		if len(w.buf) < len(v.links) {
			w.buf = make([]byte, len(v.links))
		}
		w.n, w.segment = 0, -1
		busy = v.turn(w, &next) && busy
	}
	for busy {
		v.together()
		for i := range v.walks {
			busy = v.turn(&v.walks[i], &next) && busy
		}
	}
	for i := range v.walks {
		for w := &v.walks[i]; v.turn(w, &next); {
			v.alone(w)
		}
	}
}

// turn begins with the next of the segments, if w has come to the end of one. It returns false where there is none.
func (v *inverter) turn(w *walk, next *int) bool {
	for w.segment < 0 || v.links[w.p]&mark != 0 {
		if w.segment >= 0 {
			s := &v.segments[w.segment]
			s.bytes, s.end = w.buf[w.from:w.n], w.p
		}
		if *next == len(v.segments) {
			w.segment = -1
			return false
		}
		w.segment, w.from = *next, w.n
		*next++
		l := v.links[v.segments[w.segment].begin] &^ mark
		w.buf[w.n] = byte(l)
		w.n++
		w.p = l >> 8
	}
	return true
}

// alone walks to the end of a segment.
func (v *inverter) alone(w *walk) {
	p, n := w.p, w.n
	for {
		l := v.links[p]
		if l&mark != 0 {
			break
		}
		w.buf[n] = byte(l)
		n++
		p = l >> 8
	}
	w.p, w.n = p, n
}

// together goes on with all walks, until one comes to the end of a segment.
func (v *inverter) together() {
	links := v.links
	a, b, c, d := &v.walks[0], &v.walks[1], &v.walks[2], &v.walks[3]
	bufA, bufB, bufC, bufD := a.buf[a.n:], b.buf[b.n:], c.buf[c.n:], d.buf[d.n:]
	n := min(len(bufA), len(bufB), len(bufC), len(bufD))
	bufA, bufB, bufC, bufD = bufA[:n], bufB[:n], bufC[:n], bufD[:n]
	pA, pB, pC, pD := a.p, b.p, c.p, d.p
	i := 0
	for ; i < n; i++ {
		lA, lB, lC, lD := links[pA], links[pB], links[pC], links[pD]
		if (lA|lB|lC|lD)&mark != 0 {
			break
		}
		bufA[i], bufB[i], bufC[i], bufD[i] = byte(lA), byte(lB), byte(lC), byte(lD)
		pA, pB, pC, pD = lA>>8, lB>>8, lC>>8, lD>>8
	}
	a.p, b.p, c.p, d.p = pA, pB, pC, pD
	for _, w := range []*walk{a, b, c, d} {
		w.n += i
	}
}
