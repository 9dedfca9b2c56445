package layer

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
	"sync"
)

// writeBoth adds p to two SHA-256, of a tar and of a file in it. Where the file begins at a block
// of the tar, which it does in every tar, both have the same blocks of 64 bytes. The processor then
// expands the words of a block once, and has twice as many rounds that do not wait for each other:
// both sums take little longer than one of them alone.
func writeBoth(a, b hash.Hash, p []byte) {
	if len(p) >= 8*sha256.BlockSize && canSumTwice() {
		p = p[sumTwice(a, b, p):]
	}
	a.Write(p)
	b.Write(p)
}

var canSumTwice = sync.OnceValue(hasSHA)

// sumTwice adds all whole blocks of p to both, and returns their length; 0 where that is not
// possible.
func sumTwice(a, b hash.Hash, p []byte) int {
	var x, y sumState
	if !x.load(a) || !y.load(b) {
		return 0
	}
	n := len(p) / sha256.BlockSize
	blocks2(&x.words, &y.words, &p[0], n)
	n *= sha256.BlockSize
	if !x.store(a, n) || !y.store(b, n) {
		panic("layer: crypto/sha256 does not take its own state back")
	}
	return n
}

// sumState is the state of a crypto/sha256 between two blocks, in the form that it marshals itself
// to: a magic, eight words, the bytes of the block that is not full, and the length of all,
// big-endian.
type sumState struct {
	words [8]uint32
	form  [stateSize]byte
}

const (
	stateMagic  = "sha\x03"
	stateWords  = len(stateMagic)
	stateLength = stateWords + sha256.Size + sha256.BlockSize
	stateSize   = stateLength + 8
)

// load reports whether h is of that form, and between two blocks.
func (s *sumState) load(h hash.Hash) bool {
	m, ok := h.(encoding.BinaryAppender)
	if !ok {
		return false
	}
	form, err := m.AppendBinary(s.form[:0])
	if err != nil || len(form) != stateSize || &form[0] != &s.form[0] || string(form[:stateWords]) != stateMagic || s.length()%sha256.BlockSize != 0 {
		return false
	}
	for i := range s.words {
		s.words[i] = binary.BigEndian.Uint32(form[stateWords+4*i:])
	}
	return true
}

// store makes the state, n bytes further, that of h.
func (s *sumState) store(h hash.Hash, n int) bool {
	for i, word := range s.words {
		binary.BigEndian.PutUint32(s.form[stateWords+4*i:], word)
	}
	binary.BigEndian.PutUint64(s.form[stateLength:], s.length()+uint64(n))
	m, ok := h.(encoding.BinaryUnmarshaler)
	return ok && m.UnmarshalBinary(s.form[:]) == nil
}

func (s *sumState) length() uint64 { return binary.BigEndian.Uint64(s.form[stateLength:]) }
