package layer

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"

	"github.com/klauspost/compress/flate"
)

// gzipHistory is what a block may refer to of the one before. Deflate could refer to 32 KiB, but
// the half of that costs half the time.
const gzipHistory = 16 << 10

// newGzipWriter compresses in parallel, to one gzip member whose header has neither name nor time.
// Each block may refer to the one before, as in the files that other parallel gzips write.
func newGzipWriter(w io.Writer, taps ...io.Writer) (io.WriteCloser, error) {
	sum := crc32.NewIEEE()
	return newBlockWriter(w, blockCoding{
		size:     gzipBlock,
		history:  gzipHistory,
		header:   []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, // RFC 1952, section 2.3: no flags, no time, unknown system
		newCoder: func() (blockCoder, error) { return &deflater{level: gzipLevel}, nil },
		trailer: func(size int64) []byte {
			return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, sum.Sum32()), uint32(size))
		},
	}, append(taps[:len(taps):len(taps)], sum)...), nil
}

// deflater compresses the blocks of a gzip member.
type deflater struct {
	level int
	z     *flate.Writer // nil until there is something to do for it
	out   []byte
}

// smallDeflate is up to how many bytes in all are compressed without a flate.Writer, whose tables
// take a megabyte and half a millisecond.
const smallDeflate = 16 << 10

// code implements blockCoder. What cannot be compressed is not tried.
func (d *deflater) code(dst []byte, b *codedBlock) ([]byte, error) {
	if incompressible(b.data()) {
		return appendStored(dst, b.data(), b.last), nil
	}
	d.out = dst
	if b.first && b.last && len(b.data()) <= smallDeflate {
		err := flate.StatelessDeflate(d, b.data(), true, nil)
		return d.out, err
	}
	if d.z == nil {
		var err error
		if d.z, err = flate.NewWriter(d, d.level); err != nil {
			return nil, err
		}
	}
	d.z.ResetDict(d, b.before())
	if _, err := d.z.Write(b.data()); err != nil {
		return nil, err
	}
	end := d.z.Flush
	if b.last {
		end = d.z.Close
	}
	err := end()
	return d.out, err
}

// Write takes what was compressed.
func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// The lengths of the longest stored block, and of what stands before it (RFC 1951, section 3.2.4).
const (
	maxStored    = 1<<16 - 1
	storedHeader = 5
)

// appendStored appends data to dst as stored blocks, which begin at a byte of their own.
func appendStored(dst, data []byte, last bool) []byte {
	dst = slices.Grow(dst, len(data)+(len(data)/maxStored+1)*storedHeader)
	for len(data) > 0 {
		n := min(len(data), maxStored)
		var final byte
		if last && n == len(data) {
			final = 1
		}
		dst = append(dst, final)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
		dst = binary.LittleEndian.AppendUint16(dst, ^uint16(n))
		dst = append(dst, data[:n]...)
		data = data[n:]
	}
	return dst
}

// Of the parts of a block that incompressible looks at.
const (
	probeSize = 64 << 10 // of a part
	probeStep = 1 << 10  // a line of probeLine bytes in each of these is counted
	probeLine = 64
	probeRun  = 256 // bytes that are looked for again in the half part behind them
)

// incompressible reports whether deflate would gain nothing, as with what is compressed or
// encrypted already. It looks at a part of data only, so it is right for nearly all blocks: those
// that it is wrong about are stored though they might have become some percent smaller.
func incompressible(data []byte) bool {
	if len(data) < probeSize {
		return false
	}
	for rest := data; len(rest) > 0; {
		part := rest[:min(probeSize, len(rest))]
		rest = rest[len(part):]
		if len(part) < probeSize {
			part = data[len(data)-probeSize:]
		}
		if !evenBytes(part) || repeats(part) {
			return false
		}
	}
	return true
}

// evenBytes reports whether all bytes occur about as often as each other in a part of a block, so
// that codes of different lengths gain nothing.
func evenBytes(part []byte) bool {
	var counts [256]uint32
	for i := 0; i < probeSize; i += probeStep {
		for _, c := range part[i : i+probeLine] {
			counts[c]++
		}
	}
	var squares uint32
	for _, n := range counts {
		squares += n * n
	}
	return squares < maxSquares
}

// maxSquares is above the sum of the squares of the counts of n random bytes, which is n +
// n*(n-1)/256 in the mean, give or take n/11. What is compressed already has up to a sixth more.
const (
	probed     = probeSize / probeStep * probeLine
	maxSquares = (probed + probed*(probed-1)/256) * 7 / 6
)

// repeats reports whether a run before the middle of a part of a block occurs again behind it. All
// distances that deflate can refer to show: places as far apart as the run is long are looked up in
// it.
func repeats(part []byte) bool {
	const bits = 12
	hash := func(i int) (uint64, uint64) {
		word := binary.LittleEndian.Uint64(part[i:])
		return word, word * 0x9e3779b97f4a7c15 >> (64 - bits)
	}
	var places [1 << bits]uint16
	for i := probeSize/2 - probeRun; i < probeSize/2; i++ {
		_, h := hash(i)
		places[h] = uint16(i)
	}
	for i := probeSize / 2; i+8 <= probeSize; i += probeRun {
		word, h := hash(i)
		if at := int(places[h]); at != 0 && binary.LittleEndian.Uint64(part[at:]) == word {
			return true
		}
	}
	return false
}
