package unxz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ulikunitz/xz"
	other "github.com/ulikunitz/xz/lzma"

	"genoci/test/strict"
)

const testWindow = 64 << 20

// text returns n bytes that look a little like what people compress: words, repeated lines, numbers
// and noise.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the of and layer image\x00\x00\x00\x00 build 0123456789abcdef \xff\xfe usr/share/doc/ ustar root")
	var b []byte
	for len(b) < n {
		switch r.IntN(20) {
		case 0:
			for range r.IntN(40) {
				b = append(b, byte(r.Uint32()))
			}
		case 1:
			b = append(b, make([]byte, r.IntN(700))...)
		case 2:
			from := r.IntN(len(b) + 1)
			b = append(b, b[from:min(len(b), from+r.IntN(400))]...)
		case 3:
			b = binary.LittleEndian.AppendUint32(b, uint32(len(b)))
		default:
			b = append(append(b, words[r.IntN(len(words))]...), ' ')
		}
	}
	return b[:n]
}

// compress makes an xz file in the way that c says.
func compress(t testing.TB, data []byte, c xz.WriterConfig) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := c.NewWriter(&buf)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// read decompresses with at most n blocks at the same time.
func read(r io.Reader, n int) ([]byte, error) {
	x, err := NewReader(r, testWindow)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	x.atOnce = n
	return io.ReadAll(x)
}

// check decompresses in all ways, and compares the result.
func checkRead(t *testing.T, packed, want []byte) {
	t.Helper()
	for _, n := range []int{1, 2, 5} {
		for name, r := range map[string]io.Reader{"": bytes.NewReader(packed), ", short reads": iotest.HalfReader(bytes.NewReader(packed))} {
			if got, err := read(r, n); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d at once%s: %d bytes, %v; want %d bytes", n, name, len(got), err, len(want))
			}
		}
	}
}

func TestRead(t *testing.T) {
	data, zeros := text(1_000_000), make([]byte, 5<<20)
	noise := make([]byte, 300_000)
	for i, r := 0, rand.New(rand.NewPCG(3, 4)); i < len(noise); i++ {
		noise[i] = byte(r.Uint32())
	}
	for name, c := range map[string]struct {
		data   []byte
		config xz.WriterConfig
	}{
		"nothing":          {nil, xz.WriterConfig{}},
		"one byte":         {[]byte("x"), xz.WriterConfig{}},
		"zeros":            {zeros, xz.WriterConfig{}},
		"noise":            {noise, xz.WriterConfig{}},
		"CRC32":            {data[:100_000], xz.WriterConfig{CheckSum: xz.CRC32}},
		"SHA-256":          {data[:100_000], xz.WriterConfig{CheckSum: xz.SHA256}},
		"no check":         {data[:100_000], xz.WriterConfig{NoCheckSum: true}},
		"blocks":           {data[:1_000_000], xz.WriterConfig{BlockSize: 99_999}},
		"small dictionary": {slices.Concat(data[:300_000], zeros, data), xz.WriterConfig{DictCap: 4096}},
		"lc 4":             {data[:300_000], xz.WriterConfig{Properties: &other.Properties{LC: 4}}},
		"lp 4, pb 4":       {data[:300_000], xz.WriterConfig{Properties: &other.Properties{LP: 4, PB: 4}}},
		"lc 1, lp 2, pb 1": {data[:300_000], xz.WriterConfig{Properties: &other.Properties{LC: 1, LP: 2, PB: 1}}},
	} {
		t.Run(name, func(t *testing.T) { checkRead(t, compress(t, c.data, c.config), c.data) })
	}
}

func TestReadStreams(t *testing.T) {
	a, b := []byte("hello\n"), text(50_000)
	x, y := compress(t, a, xz.WriterConfig{}), compress(t, b, xz.WriterConfig{CheckSum: xz.CRC32, BlockSize: 10_000})
	empty, zeros := compress(t, nil, xz.WriterConfig{}), make([]byte, 65536)
	checkRead(t, slices.Concat(x, y, empty, zeros, x, zeros[:4], empty, zeros[:8]), slices.Concat(a, b, a))
}

// What xz(1) makes is read, whatever its options.
func TestReadXz(t *testing.T) {
	strict.Need(t, "xz")
	data := text(700_000)
	for _, options := range []string{
		"-0", "-6e", "-T2 --block-size=200KiB", "-T2 -C sha256 --block-size=50KiB", "-T1 --block-size=200KiB", "-C none", "-C crc32",
		"-T1 --block-list=200KiB,4KiB,100KiB", "-T2 -0 --block-size=64KiB", "--lzma2=preset=6,lc=0,lp=3,pb=0,dict=64KiB",
		"--lzma2=preset=6,mf=hc3,mode=fast,nice=2,dict=4KiB", "--lzma2=preset=6,nice=273,pb=4,lc=4",
	} {
		t.Run(options, func(t *testing.T) {
			cmd := exec.Command("xz", append(strings.Fields(options), "-c")...)
			cmd.Stdin = bytes.NewReader(data)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			checkRead(t, packed, data)
		})
	}
}

// What a block decompresses to overtakes its compressed data, where that lies in the same memory.
func TestReadOvertaking(t *testing.T) {
	want := make([]byte, 2<<20)
	packed := packLZMA2(t, want, other.Writer2Config{DictCap: 4096})
	packed = packed[:len(packed)-1]
	for i := range 100_000 {
		packed = append(packed, controlPlain, 0, 0, byte(i)) // a chunk of one byte
		want = append(want, byte(i))
	}
	file := partsOf(append(packed, controlEnd), want).file()
	checkRead(t, slices.Concat(file, file), slices.Concat(want, want))
}

// packLZMA2 makes LZMA2 in the way that c says.
func packLZMA2(t testing.TB, data []byte, c other.Writer2Config) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := c.NewWriter2(&buf)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// parts are an xz file with one block, taken apart. Lengths, paddings and checksums of headers are
// added by file.
type parts struct {
	magic       string
	flags       []byte // of the stream
	header      []byte // of the block, behind its size
	content     []byte // LZMA2
	padding     []byte // behind content
	check       []byte
	index       []byte // behind its first byte
	backward    int    // added to the size of the index in the footer
	footerFlags []byte
	footerMagic string
}

// partsOf are those of a file with that content, which is packed as LZMA2 with a dictionary of 4
// KiB.
func partsOf(packed, content []byte) *parts {
	header := binary.AppendUvarint([]byte{0xc0}, uint64(len(packed))) // both sizes are given
	header = append(binary.AppendUvarint(header, uint64(len(content))), 0x21, 1, 0)
	const checkSize = 8
	unpadded := len(seal(append([]byte{0}, header...))) + len(packed) + checkSize
	index := binary.AppendUvarint([]byte{1}, uint64(unpadded))
	return &parts{
		magic: "\xfd7zXZ\x00", flags: []byte{0, 4},
		header: header, content: packed, padding: make([]byte, -len(packed)&3),
		check:       binary.LittleEndian.AppendUint64(nil, crc64.Checksum(content, crc64.MakeTable(crc64.ECMA))),
		index:       binary.AppendUvarint(index, uint64(len(content))),
		footerFlags: []byte{0, 4}, footerMagic: "YZ",
	}
}

// hello is a file of "hello\n" in a plain chunk: with a new dictionary, of 5+1 bytes; then the end.
func hello() *parts { return partsOf([]byte("\x01\x00\x05hello\n\x00"), []byte("hello\n")) }

// seal pads b to a multiple of four and adds its CRC32.
func seal(b []byte) []byte {
	b = append(b, make([]byte, -len(b)&3)...)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// file puts it together.
func (p *parts) file() []byte {
	flags := binary.LittleEndian.AppendUint32(slices.Clone(p.flags), crc32.ChecksumIEEE(p.flags))
	header := seal(append([]byte{byte((len(p.header) + 1 + 3) / 4)}, p.header...))
	index := seal(append([]byte{0}, p.index...))
	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1+p.backward)), p.footerFlags...)
	footer = append(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(footer)), footer...)
	return slices.Concat([]byte(p.magic), flags, header, p.content, p.padding, p.check, index, footer, []byte(p.footerMagic))
}

func TestReadErrors(t *testing.T) {
	checkRead(t, hello().file(), []byte("hello\n"))
	for _, c := range []struct {
		name   string
		change func(p *parts)
		want   string
	}{
		{"magic", func(p *parts) { p.magic = "\xfd7zXY\x00" }, "not an xz stream"},
		{"flags", func(p *parts) { p.flags[0] = 1 }, "unknown flags of the stream"},
		{"more flags", func(p *parts) { p.flags[1] = 0x14 }, "unknown flags of the stream"},
		{"check", func(p *parts) { p.flags[1] = 2 }, "check 2 is not supported"},
		{"block flags", func(p *parts) { p.header[0] |= 4 }, "malformed block header"},
		{"compressed size of 0", func(p *parts) { p.header[1] = 0 }, "malformed block header"},
		{"other compressed size", func(p *parts) { p.header[1]-- }, errSize.Error()},
		{"other size", func(p *parts) { p.header[2]-- }, errSize.Error()},
		{"larger size", func(p *parts) { p.header[2]++ }, errSize.Error()},
		{"long number", func(p *parts) { p.header = []byte{0x40, 0x80, 0, 0x21, 1, 0} }, "malformed block header"},
		{"longer number", func(p *parts) {
			p.header = slices.Concat([]byte{0x40}, bytes.Repeat([]byte{0xff}, 9), []byte{1, 0x21, 1, 0})
		}, "malformed block header"},
		{"filter cut off", func(p *parts) { p.header[4] = 99 }, "malformed block header"},
		{"filter without properties", func(p *parts) { p.header = []byte{0, 0x21, 0} }, "malformed block header"},
		{"filter too often", func(p *parts) { p.header = []byte{1, 0x21, 1, 0, 0x21, 1, 0} }, "malformed block header"},
		{"x86 filter", func(p *parts) { p.header = []byte{1, 4, 0, 0x21, 1, 0} }, "filter x86 is not supported"},
		{"other filter", func(p *parts) { p.header = []byte{1, 0x30, 0, 0x21, 1, 0} }, "filter 0x30 is not supported"},
		{"dictionary", func(p *parts) { p.header[5] = 41 }, "malformed block header"},
		{"large dictionary", func(p *parts) { p.header[5] = 40 }, "a window of 4096 MiB is more than the limit of 64 MiB"},
		{"garbage in the header", func(p *parts) { p.header = append(p.header, 0, 1) }, "malformed block header"},
		{"content goes on", func(p *parts) { p.content[len(p.content)-1] = 2 }, errSize.Error()},
		{"no dictionary", func(p *parts) { p.content[0] = 2 }, errData.Error()},
		{"unknown chunk", func(p *parts) { p.content[0] = 3 }, errData.Error()},
		{"no properties", func(p *parts) { p.content[0] = 0xa0 }, errData.Error()},
		{"bad properties", func(p *parts) { p.content = []byte{0xe0, 0, 5, 0, 1, 225, 0, 0, 0, 0} }, errData.Error() + ": LZMA properties 225"},
		{"lc + lp", func(p *parts) { p.content = []byte{0xe0, 0, 5, 0, 1, 9 + 4, 0, 0, 0, 0} }, errData.Error() + ": LZMA properties 13"},
		{"damaged", func(p *parts) { p.content = []byte{0xe0, 0, 5, 0, 1, 93, 0, 0, 0, 0} }, errData.Error()},
		{"padding", func(p *parts) { p.padding[0] = 1 }, "padding is not zero"},
		{"content", func(p *parts) { p.content[3]++ }, "wrong checksum"},
		{"checksum", func(p *parts) { p.check[7]++ }, "wrong checksum"},
		{"number of blocks", func(p *parts) { p.index[0]++ }, errIndex.Error()},
		{"size in the index", func(p *parts) { p.index[1]++ }, errIndex.Error()},
		{"other size in the index", func(p *parts) { p.index[2]++ }, errIndex.Error()},
		{"number in the index", func(p *parts) { p.index = []byte{0x81, 0} }, "malformed index"},
		{"padding of the index", func(p *parts) {
			*p = *partsOf(slices.Concat([]byte("\x01\x00\xc7"), text(200), []byte{0}), text(200))
			p.index = append(p.index, 0, 1)
		}, "padding is not zero"},
		{"backward size", func(p *parts) { p.backward = 1 }, "the footer does not fit the stream"},
		{"footer flags", func(p *parts) { p.footerFlags[1] = 1 }, "the footer does not fit the stream"},
		{"footer magic", func(p *parts) { p.footerMagic = "ZY" }, "no footer after the index"},
		{"garbage", func(p *parts) { p.footerMagic = "YZgarbage" }, errGarbage.Error()},
		{"short padding", func(p *parts) { p.footerMagic = "YZ\x00\x00\x00\x00\x00\x00" }, errGarbage.Error()},
		{"second stream", func(p *parts) { p.footerMagic = "YZ\xfd7zXZ\x00\x00" }, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := hello()
			c.change(p)
			for n := range 3 {
				if _, err := read(bytes.NewReader(p.file()), n); err == nil || err.Error() != c.want {
					t.Errorf("%d at once: %v; want %s", n, err, c.want)
				}
			}
		})
	}
}

// Every byte counts.
func TestReadDamaged(t *testing.T) {
	packed := compress(t, text(3000), xz.WriterConfig{BlockSize: 1000})
	for _, whole := range [][]byte{packed, slices.Concat(hello().file(), hello().file())} {
		for i := range whole {
			for n := 1; n < 3; n++ {
				if _, err := read(bytes.NewReader(whole[:i]), n); !errors.Is(err, io.ErrUnexpectedEOF) && i != len(whole)/2 {
					t.Errorf("cut off at %d: %v", i, err)
				}
				b := bytes.Clone(whole)
				b[i] ^= 0x40
				if got, err := read(bytes.NewReader(b), n); err == nil {
					t.Errorf("damaged at %d: %d bytes, no error", i, len(got))
				}
			}
		}
	}
}

func TestReadBrokenSource(t *testing.T) {
	broken := errors.New("broken")
	packed := hello().file()
	for i := range packed {
		for n := 1; n < 3; n++ {
			r := io.MultiReader(bytes.NewReader(packed[:i]), iotest.ErrReader(broken))
			if _, err := read(r, n); !errors.Is(err, broken) {
				t.Errorf("broken at %d: %v", i, err)
			}
		}
	}
}

// What comes before a damaged block is given.
func TestReadBeforeDamage(t *testing.T) {
	packed := slices.Concat(hello().file(), hello().file(), hello().file())
	packed[len(packed)/2] ^= 1
	for n := 1; n < 4; n++ {
		if got, err := read(bytes.NewReader(packed), n); err == nil || !bytes.HasPrefix(got, []byte("hello\n")) {
			t.Errorf("%d at once: %q, %v", n, got, err)
		}
	}
}

// A header that promises much does not make the decoder use much memory, if nothing follows.
func TestReadPromises(t *testing.T) {
	p := hello()
	p.header = []byte{0, 0x21, 1, 28} // 64 MiB
	x, err := NewReader(bytes.NewReader(p.file()), testWindow)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	before := resident(t)
	got, err := io.ReadAll(x)
	if string(got) != "hello\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if n := resident(t) - before; n > 8<<20 {
		t.Errorf("%d MiB are used", n>>20)
	}
}

// Memory is given back by Close.
func TestCloseFrees(t *testing.T) {
	packed := bytes.Repeat(compress(t, make([]byte, 9<<20), xz.WriterConfig{}), 2)
	var after int64
	for i := range 12 {
		for n := 1; n < 3; n++ {
			if _, err := read(bytes.NewReader(packed), n); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
		switch now := resident(t); {
		case i == 2:
			after = now
		case i > 2 && now-after > 100<<20:
			t.Fatalf("%d MiB more after %d readers", (now-after)>>20, i)
		}
	}
}

// resident returns how many bytes of memory this process uses (proc_pid_statm(5)).
func resident(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * int64(os.Getpagesize())
}

// Close in the middle leaves no goroutine behind, and may come twice.
func TestClose(t *testing.T) {
	packed := bytes.Repeat(hello().file(), 20)
	before := runtime.NumGoroutine()
	for i := range 60 {
		x, err := NewReader(bytes.NewReader(packed), testWindow)
		if err != nil {
			t.Fatal(err)
		}
		x.atOnce = 4
		if _, err := io.ReadFull(x, make([]byte, i)); err != nil {
			t.Fatal(err)
		}
		x.Close()
		x.Close()
		if n, err := x.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after Close: %d, %v", n, err)
		}
	}
	for i := 0; runtime.NumGoroutine() > before && i < 1000; i++ {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, and %d before", n, before)
	}
}

// LZMA2 is decoded as ulikunitz/xz decodes it, block by block and in parallel, whatever the data.
func FuzzLZMA2(f *testing.F) {
	for _, c := range []other.Writer2Config{{}, {DictCap: 4096, Properties: &other.Properties{LC: 1, LP: 3, PB: 4}}} {
		for _, data := range [][]byte{text(2000), text(100), make([]byte, 1000), nil} {
			f.Add(packLZMA2(f, data, c))
		}
	}
	f.Add(hello().content)
	f.Fuzz(func(t *testing.T, packed []byte) {
		const dictSize = 4096
		var got []byte
		b := &block{}
		defer func() { free(b.buf) }()
		b.begin(header{check: check{make: func() hash.Hash { return noHash{} }}, uncompressed: -1, dictSize: dictSize})
		r := bytes.NewReader(packed)
		var data []byte
		var err error
		for err == nil && len(got) < 4*maxChunk {
			data, err = b.step(r)
			got = append(got, data...)
		}
		if err == nil {
			return
		}
		packed = packed[:len(packed)-r.Len()]
		want, wantErr := readOther(packed, dictSize)
		if !errors.Is(err, io.EOF) {
			// It takes an end within a header or a chunk for the end of the sequence.
			if opened := b.total > int64(len(got)); opened && errors.Is(err, errData) && wantErr == nil && int64(len(want)) == b.total {
				t.Fatalf("%v; ulikunitz/xz decodes all %d bytes", err, len(want))
			}
			return
		}
		if wantErr != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes; ulikunitz/xz: %d bytes, %v", len(got), len(want), wantErr)
		}
		if len(got) == 0 {
			return
		}
		p := partsOf(packed, got)
		checkRead(t, slices.Concat(p.file(), p.file(), p.file()), slices.Concat(got, got, got))
	})
}

// readOther decodes LZMA2 with ulikunitz/xz.
func readOther(packed []byte, dictSize int) ([]byte, error) {
	r, err := other.Reader2Config{DictCap: dictSize}.NewReader2(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// Files are read as ulikunitz/xz reads them, and always the same way.
func FuzzReader(f *testing.F) {
	f.Add(hello().file())
	f.Add(compress(f, text(1000), xz.WriterConfig{BlockSize: 500, CheckSum: xz.CRC32}))
	f.Add(slices.Concat(compress(f, nil, xz.WriterConfig{}), make([]byte, 8), hello().file()))
	f.Fuzz(func(t *testing.T, packed []byte) {
		got, err := read(bytes.NewReader(packed), 1)
		if again, err2 := read(bytes.NewReader(packed), 3); (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(got, again) {
			t.Fatalf("one at a time: %d bytes, %v; in parallel: %d bytes, %v", len(got), err, len(again), err2)
		}
		if err != nil {
			return
		}
		r, err := xz.NewReader(bytes.NewReader(packed))
		var want []byte
		if err == nil {
			want, err = io.ReadAll(r)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes; ulikunitz/xz: %d bytes, %v", len(got), len(want), err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		b.Fatal(err)
	}
	packed := compress(b, data, xz.WriterConfig{})
	for name, open := range map[string]func(io.Reader) (io.ReadCloser, error){
		"unxz": func(r io.Reader) (io.ReadCloser, error) { return NewReader(r, testWindow) },
		"ulikunitz": func(r io.Reader) (io.ReadCloser, error) {
			x, err := xz.NewReader(r)
			return io.NopCloser(x), err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				r, err := open(bytes.NewReader(packed))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
