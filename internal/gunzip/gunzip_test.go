package gunzip

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	kgzip "github.com/klauspost/compress/gzip"
)

// most is how much of a stream is compared.
const most = 4 << 20

// way is a way to read a stream.
type way struct {
	name     string
	assembly bool
	size     func(i int) int // of the read i
	source   func(io.Reader) io.Reader
}

func ways() []way {
	same := func(r io.Reader) io.Reader { return r }
	always := func(n int) func(int) int { return func(int) int { return n } }
	mixed := func(i int) int { return []int{1, 70_000, 300, 200_001, 65_536, 33_000}[i%6] }
	list := []way{
		{"Go, large reads", false, always(200_000), same},
		{"Go, small reads", false, always(1000), iotest.HalfReader},
		{"Go, mixed reads", false, mixed, iotest.DataErrReader},
	}
	if hasAssembly() {
		list = append(list,
			way{"assembly, large reads", true, always(200_000), same},
			way{"assembly, least direct reads", true, always(directSize), same},
			way{"assembly, small reads", true, always(4097), iotest.DataErrReader},
			way{"assembly, mixed reads", true, mixed, iotest.OneByteReader},
		)
	}
	return list
}

// buffers are what Readers have, used again.
type buffers struct {
	in  [inSize]byte
	own [window + ownSize]byte
}

var memory = sync.Pool{New: func() any { return new(buffers) }}

// read returns what a stream holds, most at the most, and the error behind that; nil for its end.
func (w way) read(data []byte, padded bool) ([]byte, error) {
	m := memory.Get().(*buffers)
	defer memory.Put(m)
	z, err := newReader(w.source(bytes.NewReader(data)), padded, w.assembly, &m.in, &m.own)
	if err != nil {
		return nil, err
	}
	got := []byte{}
	for i := 0; len(got) < most; i++ {
		n := min(w.size(i), most-len(got))
		got = slices.Grow(got, n)
		n, err := z.Read(got[len(got) : len(got)+n])
		got = got[:len(got)+n]
		switch {
		case errors.Is(err, io.EOF):
			return got, nil
		case err != nil:
			return got, err
		case n == 0:
			return got, io.ErrNoProgress
		}
	}
	return got, nil
}

// standard is what compress/gzip says to the same.
func standard(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, most))
}

// compare reads data in all ways, and compares it to what the standard library says. Before an
// error that may have had less, since it wants all bits of the longest code that may come.
func compare(t *testing.T, data []byte) {
	t.Helper()
	want, wantErr := standard(data)
	var first []byte
	var firstErr error
	for i, w := range ways() {
		got, err := w.read(data, false)
		if (err == nil) != (wantErr == nil) || !bytes.HasPrefix(got, want) || err == nil && len(got) != len(want) {
			t.Fatalf("%s: %d bytes, %v; compress/gzip gives %d, %v; %d are the same", w.name, len(got), err, len(want), wantErr, same(got, want))
		}
		if i == 0 {
			first, firstErr = got, err
		}
		if !errors.Is(err, firstErr) || !bytes.Equal(got, first) {
			t.Fatalf("%s: %d bytes, %v; %s gives %d, %v; %d are the same", w.name, len(got), err, ways()[0].name, len(first), firstErr, same(got, first))
		}
	}
}

// same returns how many bytes a and b begin with in common.
func same(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// check reads data in all ways, and wants all of want and no error.
func check(t *testing.T, data, want []byte) {
	t.Helper()
	for _, w := range ways() {
		if got, err := w.read(data, false); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes, %v; want %d; %d are the same", w.name, len(got), err, len(want), same(got, want))
		}
	}
}

// samples are contents of all kinds.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random, few, words := make([]byte, 300_000), make([]byte, 300_000), []byte{}
	for i := range random {
		random[i], few[i] = byte(r.Uint32()), byte(r.IntN(8)*r.IntN(8))
	}
	for len(words) < 1<<20 {
		words = append(words, strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(9))...)
		if n := len(words); r.IntN(3) == 0 {
			at := r.IntN(n)
			words = append(words, words[at:min(n, at+r.IntN(400))]...)
		}
	}
	return map[string][]byte{
		"nothing": {}, "one": {1}, "random": random, "few": few, "words": words, "zeros": make([]byte, 1<<20),
		"far": slices.Concat(random[:window], random[:window], few[:window+1], few[:window+1]),
	}
}

// compressed returns the streams that a compressor makes at its levels.
func compressed(t testing.TB, content []byte) map[string][]byte {
	t.Helper()
	streams := map[string][]byte{}
	for name, level := range map[string]int{"stored": 0, "1": 1, "6": 6, "9": 9, "Huffman only": gzip.HuffmanOnly} {
		var buf bytes.Buffer
		w, err := gzip.NewWriterLevel(&buf, level)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		streams[name] = buf.Bytes()
	}
	return streams
}

func TestReader(t *testing.T) {
	for name, content := range samples() {
		for level, data := range compressed(t, content) {
			t.Run(name+", "+level, func(t *testing.T) {
				check(t, data, content)
				check(t, slices.Concat(data, data, compressed(t, nil)["6"], data), bytes.Repeat(content, 3))
			})
		}
	}
}

// What io.Copy uses gives the same, and passes on what the writer says.
func TestWriteTo(t *testing.T) {
	content := samples()["words"]
	data := compressed(t, content)["6"]
	open := func(data []byte) *Reader {
		z, err := NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	var buf bytes.Buffer
	z := open(data)
	if _, err := io.CopyN(&buf, z, 10); err != nil {
		t.Fatal(err)
	}
	n, err := z.WriteTo(&buf)
	if err != nil || n != int64(len(content)-10) || !bytes.Equal(buf.Bytes(), content) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := open(data[:len(data)-1]).WriteTo(io.Discard); n != int64(len(content)) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %d bytes, %v", n, err)
	}
	full := errors.New("full")
	for want, w := range map[error]io.Writer{
		full:             writerFunc(func(b []byte) (int, error) { return 5, full }),
		io.ErrShortWrite: writerFunc(func(b []byte) (int, error) { return 5, nil }),
	} {
		if n, err := open(data).WriteTo(w); n != 5 || !errors.Is(err, want) {
			t.Errorf("%d bytes, %v, want %v", n, err, want)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestHeaders(t *testing.T) {
	long := strings.Repeat("n", maxString-1)
	body := member([]byte{3, 0}, nil)[10:]
	header := func(flags byte, parts ...string) []byte {
		b := []byte{magic1, magic2, deflate, flags, 1, 2, 3, 4, 5, 6}
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	withCRC := func(b []byte) []byte { return binary.LittleEndian.AppendUint16(b, uint16(crc32.ChecksumIEEE(b))) }
	for _, tt := range []struct {
		name   string
		header []byte
		want   error
	}{
		{"plain", header(0), nil},
		{"name", header(flagName, "name\x00"), nil},
		{"long name", header(flagName, long, "\x00"), nil},
		{"longer name", header(flagName, long, "n\x00"), ErrHeader},
		{"comment", header(flagComment, "comment\xff\x00"), nil},
		{"extra", header(flagExtra, "\x03\x00abc"), nil},
		{"all, unknown too", withCRC(header(0xff, "\x03\x00abc", "name\x00", "comment\x00")), nil},
		{"checksum", withCRC(header(flagHeaderCRC)), nil},
		{"wrong checksum", header(flagHeaderCRC, "\x00\x00"), ErrHeader},
		{"wrong first byte", slices.Concat([]byte{0}, header(0)[1:]), ErrHeader},
		{"wrong second byte", slices.Concat([]byte{magic1, 0}, header(0)[2:]), ErrHeader},
		{"wrong method", slices.Concat([]byte{magic1, magic2, 7}, header(0)[3:]), ErrHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := slices.Concat(tt.header, body)
			compare(t, data)
			compare(t, slices.Concat(member([]byte{3, 0}, nil), data))
			if _, err := NewReader(bytes.NewReader(data)); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			for n := range tt.header {
				if tt.want == nil {
					compare(t, data[:n])
				}
			}
		})
	}
	if _, err := NewReader(strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v", err)
	}
}

func TestErrors(t *testing.T) {
	content := samples()["words"][:5000]
	data := compressed(t, content)["6"]
	with := func(at int) []byte {
		b := bytes.Clone(data)
		b[at] ^= 1
		return b
	}
	for _, tt := range []struct {
		name string
		data []byte
		want error
	}{
		{"cut off in the data", data[:len(data)/2], io.ErrUnexpectedEOF},
		{"cut off before the trailer", data[:len(data)-8], io.ErrUnexpectedEOF},
		{"cut off in the trailer", data[:len(data)-1], io.ErrUnexpectedEOF},
		{"wrong checksum", with(len(data) - 8), ErrChecksum},
		{"wrong size", with(len(data) - 1), ErrChecksum},
		{"block of unknown kind", member([]byte{7}, nil), ErrCorrupt},
		{"wrong size of a stored block", member([]byte{1, 1, 0, 1, 0}, nil), ErrCorrupt},
		{"garbage", slices.Concat(data, []byte("garbage that is long enough")), ErrHeader},
		{"short garbage", slices.Concat(data, []byte("garbage")), io.ErrUnexpectedEOF},
		{"zeros", slices.Concat(data, make([]byte, 100)), ErrHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			compare(t, tt.data)
			if _, err := ways()[0].read(tt.data, false); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
	for n := range data {
		compare(t, data[:n])
	}
}

func TestSourceErrors(t *testing.T) {
	content := samples()["words"]
	data := compressed(t, content)["6"]
	failure := errors.New("failure")
	for _, n := range []int{0, 5, 100, len(data) / 2, len(data) - 3, len(data)} {
		z, err := NewReader(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(failure)))
		var got []byte
		if err == nil {
			got, err = io.ReadAll(z)
		}
		if !errors.Is(err, failure) || !bytes.HasPrefix(content, got) || n == len(data) && len(got) != len(content) {
			t.Errorf("%d of %d bytes: %d bytes, %v", n, len(data), len(got), err)
		}
	}
	if _, err := NewReader(readerFunc(func([]byte) (int, error) { return 0, nil })); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a source that gives nothing: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestPadding(t *testing.T) {
	content := samples()["few"]
	data := compressed(t, content)["6"]
	for _, tt := range []struct {
		name   string
		behind []byte
		copies int
		want   string
	}{
		{"nothing", nil, 1, ""},
		{"zeros", make([]byte, inSize+5), 1, ""},
		{"a member", data, 2, ""},
		{"a member and a zero", slices.Concat(data, []byte{0}), 2, ""},
		{"zeros and a member", slices.Concat(make([]byte, 512), data), 1, "garbage after the end of the gzip stream"},
		{"garbage", []byte("garbage"), 1, "garbage after the end of the gzip stream"},
		{"half a header", data[:5], 1, "after the end of the gzip stream: unexpected EOF"},
		{"nearly a header", []byte("\x1f\x8b garbage"), 1, "after the end of the gzip stream: gzip: invalid header"},
	} {
		for _, w := range ways() {
			got, err := w.read(slices.Concat(data, tt.behind), true)
			if err == nil && tt.want != "" || err != nil && err.Error() != tt.want || !bytes.Equal(got, bytes.Repeat(content, tt.copies)) {
				t.Errorf("%s, %s: %d bytes, %v, want %d, %s", tt.name, w.name, len(got), err, tt.copies*len(content), tt.want)
			}
		}
	}
}

// Codes that are not complete are taken or refused as by the standard library.
func TestCodes(t *testing.T) {
	lits := func(lengths map[int]uint8) []uint8 {
		l := make([]uint8, 286)
		for s, n := range lengths {
			l[s] = n
		}
		return l
	}
	all := make([]uint8, 286) // longer and longer
	for i := range 15 {
		all[i*19] = uint8(i + 1)
	}
	all[endBlock] = 15
	for _, tt := range []struct {
		name        string
		lits, dists []uint8
		bits        uint64 // of the data
		size        uint
		want        error
	}{
		{"only the end", lits(map[int]uint8{endBlock: 1}), []uint8{0}, 0, 1, nil},
		{"only the end, but another code", lits(map[int]uint8{endBlock: 1}), []uint8{0}, 1, 1, ErrCorrupt},
		{"only the end, of two bits", lits(map[int]uint8{endBlock: 2}), []uint8{0}, 0, 2, ErrCorrupt},
		{"no end", lits(map[int]uint8{'a': 1}), []uint8{0}, 0, 9, io.ErrUnexpectedEOF},
		{"no code", lits(nil), []uint8{0}, 0, 9, ErrCorrupt},
		{"incomplete", lits(map[int]uint8{'a': 2, 'b': 2, endBlock: 2}), []uint8{0}, 2, 2, ErrCorrupt},
		{"too many codes", lits(map[int]uint8{'a': 1, 'b': 1, endBlock: 1}), []uint8{0}, 2, 2, ErrCorrupt},
		{"a literal", lits(map[int]uint8{'a': 1, endBlock: 1}), []uint8{0}, 2, 2, nil},
		{"a match without a code for distances", lits(map[int]uint8{'a': 2, 257: 2, endBlock: 1}), []uint8{0}, 0b0_11_01, 6, ErrCorrupt},
		{"a match with one code for distances", lits(map[int]uint8{'a': 2, 257: 2, endBlock: 1}), []uint8{1}, 0b0_0_11_01, 6, nil},
		{"a match with the other one", lits(map[int]uint8{'a': 2, 257: 2, endBlock: 1}), []uint8{1}, 0b0_1_11_01, 6, ErrCorrupt},
		{"a match that reaches too far", lits(map[int]uint8{'a': 2, 257: 2, endBlock: 1}), []uint8{0, 1}, 0b0_0_11_01, 6, ErrCorrupt},
		{"one code of two bits for distances", lits(map[int]uint8{'a': 1, endBlock: 1}), []uint8{2}, 2, 2, ErrCorrupt},
		{"too many codes for distances", lits(map[int]uint8{'a': 1, endBlock: 1}), []uint8{1, 1, 1}, 2, 2, ErrCorrupt},
		{"31 distances", lits(map[int]uint8{'a': 1, endBlock: 1}), append(make([]uint8, 30), 1), 2, 2, ErrCorrupt},
		{"287 lengths", append(lits(map[int]uint8{'a': 1, endBlock: 1}), 0), []uint8{0}, 2, 2, ErrCorrupt},
		{"the longest codes", all, []uint8{0}, 1<<14 - 1, 15, nil},
	} {
		for _, padding := range []int{0, 1000} { // for the careful loop and for the fast one
			var w bitWriter
			w.codesHeader(true, tt.lits, tt.dists)
			w.write(tt.bits, tt.size)
			w.align()
			stream := w.buf
			if errors.Is(tt.want, ErrCorrupt) || padding == 0 {
				stream = append(stream, make([]byte, padding)...)
			}
			content, _ := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
			data := member(stream, content)
			if errors.Is(tt.want, io.ErrUnexpectedEOF) {
				data = data[:len(data)-8]
			}
			t.Run(tt.name, func(t *testing.T) {
				compare(t, data)
				for _, way := range ways() {
					if _, err := way.read(data, false); !errors.Is(err, tt.want) {
						t.Errorf("%s: %v, want %v", way.name, err, tt.want)
					}
				}
			})
		}
	}
}

// Streams with codes and matches that no compressor would choose.
func TestStreams(t *testing.T) {
	for i := range 300 {
		c := choices{extra: uint64(i)}
		stream, content := c.stream()
		if len(content) <= most {
			check(t, member(stream, content), content)
		}
	}
}

// FuzzReader: whatever comes, it is read as the standard library reads it, in each way.
func FuzzReader(f *testing.F) {
	for _, content := range samples() {
		for _, data := range compressed(f, content[:min(len(content), 2000)]) {
			f.Add(data)
			f.Add(data[10 : len(data)-8])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		compare(t, data)
		// The same as a stream, with the checksum that it needs.
		content, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), most))
		if err == nil {
			r := bytes.NewReader(data)
			if _, err := io.Copy(io.Discard, io.LimitReader(flate.NewReader(r), most)); err != nil {
				t.Fatal(err)
			}
			compare(t, member(data[:len(data)-r.Len()], content))
		}
		compare(t, member(data, nil))
	})
}

// FuzzStreams: streams that are right in all, of blocks of each kind, are read as what they hold.
func FuzzStreams(f *testing.F) {
	f.Add([]byte("choices"), uint8(0))
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"), uint8(1))
	f.Add(bytes.Repeat([]byte{0xff, 3, 1}, 100), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, members uint8) {
		var data, content []byte
		c := choices{bytes: b}
		for range members%3 + 1 {
			stream, part := c.stream()
			data = append(data, member(stream, part)...)
			content = append(content, part...)
			part = c.content()
			data = append(data, c.compress(t, part)...)
			content = append(content, part...)
		}
		if len(content) > most {
			return
		}
		if want, err := standard(data); err != nil || !bytes.Equal(want, content) {
			t.Fatalf("compress/gzip reads other than was written: %d bytes of %d, %v", len(want), len(content), err)
		}
		check(t, data, content)
	})
}

// content chooses something to compress.
func (c *choices) content() []byte {
	content := []byte{}
	for n := c.below(20); n > 0; n-- {
		switch size := c.below(3000); c.below(4) {
		case 0:
			content = append(content, make([]byte, size)...)
		case 1:
			for range size {
				content = append(content, byte(c.below(256)))
			}
		case 2:
			for range size {
				content = append(content, byte(c.below(5)*c.below(30)))
			}
		case 3:
			at := c.below(min(len(content)+1, 1<<16))
			content = append(content, content[at:min(len(content), at+size)]...)
		}
	}
	return content
}

// compress compresses with a level and flushes that it chooses.
func (c *choices) compress(t *testing.T, content []byte) []byte {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, c.below(12)-2)
	if err != nil {
		t.Fatal(err)
	}
	for len(content) > 0 {
		n := min(len(content), 1+c.below(1<<16-1))
		if _, err := w.Write(content[:n]); err != nil {
			t.Fatal(err)
		}
		content = content[n:]
		if c.below(2) == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// The test program itself: machine code, tables and strings, about as in a layer.
func BenchmarkReader(b *testing.B) {
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		b.Fatal(err)
	}
	data := compressed(b, content)["6"]
	buf := make([]byte, 256<<10)
	own := func(assembly bool) func(io.Reader) (io.Reader, error) {
		return func(r io.Reader) (io.Reader, error) {
			return newReader(r, false, assembly, new([inSize]byte), new([window + ownSize]byte))
		}
	}
	for _, bb := range []struct {
		name string
		open func(io.Reader) (io.Reader, error)
	}{
		{"assembly", own(hasAssembly())},
		{"Go", own(false)},
		{"klauspost", func(r io.Reader) (io.Reader, error) { return kgzip.NewReader(r) }},
		{"standard", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				z, err := bb.open(bytes.NewReader(data))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{z}, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
