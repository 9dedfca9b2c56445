package layer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"
)

// newXzReader decompresses xz. It refuses a first block that asks for a window of more than maxWindow, before
// anything is allocated for it; the library has no limit of its own. (Memory that a later block
// asks for is used only as far as the block has content.)
func newXzReader(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	if size := xzWindow(br); size > maxWindow {
		return nil, fmt.Errorf("a window of %d MiB is more than the limit of %d MiB", size>>20, maxWindow>>20)
	}
	x, err := xz.NewReader(br)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(x), nil
}

// xzWindow returns the size of the LZMA2 dictionary of the first block of an xz file (xz-file-format.txt, sections 2.1.1,
// 3.1 and 5.3.1), and 0 where there is no such block: whether the file is sound is for the decoder to say.
func xzWindow(br *bufio.Reader) int64 {
	const (
		streamHeader = 12
		maxHeader    = 1024 // of a block
		lzma2        = 0x21
	)
	b, _ := br.Peek(streamHeader + maxHeader)
	if len(b) < streamHeader+2 {
		return 0
	}
	b = b[streamHeader:]
	flags := b[1]
	b = b[2:min(len(b), max(2, (int(b[0])+1)*4))]
	next := func() uint64 { // the format's integers are Go's, but for their greatest length
		v, n := binary.Uvarint(b)
		b = b[max(n, 0):]
		return v
	}
	if flags&0x40 != 0 {
		next() // compressed size
	}
	if flags&0x80 != 0 {
		next() // uncompressed size
	}
	for range 1 + flags&3 {
		id, size := next(), next()
		if size > uint64(len(b)) {
			return 0
		}
		if id == lzma2 && size == 1 {
			exp := uint(b[0] & 0x3f)
			return int64(2|exp&1) << (exp/2 + 11)
		}
		b = b[size:]
	}
	return 0
}
