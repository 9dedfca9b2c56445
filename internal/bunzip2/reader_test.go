package bunzip2

import (
	"bytes"
	"cmp"
	"compress/bzip2"
	"errors"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// bitWriter writes bits, the highest first.
type bitWriter struct {
	buf  []byte
	bits int
}

func (w *bitWriter) put(v uint64, n int) {
	for i := n - 1; i >= 0; i-- {
		if w.bits%8 == 0 {
			w.buf = append(w.buf, 0)
		}
		w.buf[w.bits/8] |= byte(v>>i&1) << (7 - w.bits%8)
		w.bits++
	}
}

// compress makes a bzip2 stream of blocks of n bytes of data, with codes of one length, or two.
func compress(data []byte, level, n int) []byte {
	w := &bitWriter{}
	w.put(headerMagic, 24)
	w.put(uint64('0'+level), 8)
	sum := uint32(0)
	for part := range slices.Chunk(data, n) {
		s := checksum(0, part)
		sum = bits.RotateLeft32(sum, 1) ^ s
		w.put(blockMagic, 48)
		w.put(uint64(s), 32)
		w.put(0, 1)
		w.block(runs(part))
	}
	w.put(endMagic, 48)
	w.put(uint64(sum), 32)
	return w.buf
}

// runs puts behind four equal bytes how many more there are.
func runs(data []byte) []byte {
	var out []byte
	for len(data) > 0 {
		n := 1
		for n < len(data) && n < 4+255 && data[n] == data[0] {
			n++
		}
		out = append(out, data[:min(n, 4)]...)
		if n >= 4 {
			out = append(out, byte(n-4))
		}
		data = data[n:]
	}
	return out
}

// block writes a block from its origin on.
func (w *bitWriter) block(data []byte) {
	order := rotations(data)
	w.put(uint64(slices.Index(order, 0)), 24)
	var used [256]bool
	for _, c := range data {
		used[c] = true
	}
	var alphabet []byte
	w.put(0xffff, 16)
	for c, ok := range used {
		w.put(uint64(map[bool]int{true: 1}[ok]), 1)
		if ok {
			alphabet = append(alphabet, byte(c))
		}
	}
	symbols := transform(data, order, alphabet)
	n := len(alphabet) + 2
	length := bits.Len(uint(n - 1))
	short := 1<<length - n // symbols with codes one bit shorter, so that every code means something
	groups := (len(symbols) + groupSize - 1) / groupSize
	w.put(2, 3)
	w.put(uint64(groups), 15)
	for i := range groups {
		w.put(uint64(i%2*2), 1+i%2) // always the other code
	}
	for range 2 {
		w.put(uint64(length-1), 5)
		w.put(0, short)
		w.put(0b10, 2)
		w.put(0, n-short)
	}
	for _, s := range symbols {
		if s < short {
			w.put(uint64(s), length-1)
		} else {
			w.put(uint64(s+short), length)
		}
	}
}

// rotations returns where in data its sorted rotations begin, by doubling how much of them was compared.
func rotations(data []byte) []int {
	n := len(data)
	order, rank, next := make([]int, n), make([]int, n), make([]int, n)
	for i := range order {
		order[i], rank[i] = i, int(data[i])
	}
	for size := 0; size < n; size = max(1, 2*size) {
		compare := func(a, b int) int {
			return cmp.Or(cmp.Compare(rank[a], rank[b]), cmp.Compare(rank[(a+size)%n], rank[(b+size)%n]))
		}
		slices.SortFunc(order, compare)
		next[order[0]] = 0
		for i := 1; i < n; i++ {
			next[order[i]] = next[order[i-1]] + max(0, compare(order[i], order[i-1]))
		}
		rank, next = next, rank
		if rank[order[n-1]] == n-1 {
			break
		}
	}
	return order
}

// transform returns the symbols of a block: of the last column, the places of bytes in the order of their last use, with runs of the first.
func transform(data []byte, order []int, alphabet []byte) []int {
	var symbols []int
	run := 0
	flush := func() {
		for ; run > 0; run = (run - 1) / 2 {
			symbols = append(symbols, (run-1)%2)
		}
	}
	recent := slices.Clone(alphabet)
	for _, p := range order {
		c := data[(p+len(data)-1)%len(data)]
		i := bytes.IndexByte(recent, c)
		if i == 0 {
			run++
			continue
		}
		flush()
		copy(recent[1:i+1], recent[:i])
		recent[0] = c
		symbols = append(symbols, i+1)
	}
	flush()
	return append(symbols, len(alphabet)+1)
}

// text returns n bytes that can be compressed.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the of and layer image\x00\x00\x00\x00 build 0123456789abcdef \xff\xfe usr/share/doc/ ustar root")
	var b []byte
	for len(b) < n {
		b = append(append(b, words[r.IntN(len(words))]...), byte(r.IntN(300)))
	}
	return b[:n]
}

// read decompresses with at most n blocks on their way.
func read(r io.Reader, n int) ([]byte, error) {
	x, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	x.atOnce = n
	return io.ReadAll(x)
}

// checkRead decompresses in all ways, as the standard library does, and compares the result.
func checkRead(t *testing.T, packed, want []byte) {
	t.Helper()
	for _, n := range []int{1, 2, 5} {
		if got, err := read(bytes.NewReader(packed), n); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d at once: %d bytes, %v; want %d bytes", n, len(got), err, len(want))
		}
	}
	if got, err := read(iotest.OneByteReader(bytes.NewReader(packed)), 2); err != nil || !bytes.Equal(got, want) {
		t.Errorf("byte by byte: %d bytes, %v; want %d bytes", len(got), err, len(want))
	}
	if got, err := io.ReadAll(bzip2.NewReader(bytes.NewReader(packed))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("compress/bzip2: %d bytes, %v; want %d bytes", len(got), err, len(want))
	}
}

func TestRead(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for name, data := range map[string][]byte{
		"nothing":  nil,
		"one byte": []byte("x"),
		"period":   []byte("abcabcabcabcabcabc"),
		"all":      slices.Concat(all, all),
		"zeros":    make([]byte, 3_000_000),
		"text":     text(90_000),
	} {
		t.Run(name, func(t *testing.T) { checkRead(t, compress(data, 1, 2_000_000), data) })
	}
	for n := range 600 {
		data := slices.Concat([]byte("a"), bytes.Repeat([]byte("b"), n), []byte("c"))
		if got, err := read(bytes.NewReader(compress(data, 9, 1000)), 2); err != nil || !bytes.Equal(got, data) {
			t.Errorf("run of %d: %d bytes, %v", n, len(got), err)
		}
	}
}

func TestReadStreams(t *testing.T) {
	data := text(30_000)
	a, b := compress(data, 1, 1000), compress(data[:5000], 9, 5000)
	checkRead(t, slices.Concat(a, compress(nil, 5, 1), b, b), slices.Concat(data, data[:5000], data[:5000]))
}

// What bzip2(1) makes is read.
func TestReadBzip2(t *testing.T) {
	_, err := exec.LookPath("bzip2")
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("GENOCI_REQUIRE"), ","), "bzip2") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	data := slices.Concat(text(1_500_000), make([]byte, 60_000_000))
	for _, level := range []string{"-1", "-9"} {
		cmd := exec.Command("bzip2", level)
		cmd.Stdin = bytes.NewReader(data)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(bytes.NewReader(packed), 3); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v; want %d bytes", level, len(got), err, len(data))
		}
	}
}

// Every byte counts. (Of the last, only the bits that are not there to fill it up.)
func TestReadDamaged(t *testing.T) {
	data := text(500)
	packed := compress(data, 1, 200)
	for i := range packed {
		if _, err := read(bytes.NewReader(packed[:i]), 2); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut off at %d: %v", i, err)
		}
		b := bytes.Clone(packed)
		b[i] ^= 1 << (i % 8)
		if got, err := read(bytes.NewReader(b), 2); err == nil && !bytes.Equal(got, data) {
			t.Errorf("damaged at %d: %d bytes, no error", i, len(got))
		}
	}
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("broken")
	x := compress(text(100), 1, 100)
	for _, c := range []struct {
		name string
		r    io.Reader
		want string
	}{
		{"empty", bytes.NewReader(nil), "unexpected EOF"},
		{"no magic", strings.NewReader("BZi9 and more"), "not a bzip2 stream"},
		{"level", strings.NewReader("BZh0 and more"), "not a bzip2 stream"},
		{"block", strings.NewReader("BZh1 and more"), errData.Error()},
		{"garbage", bytes.NewReader(append(bytes.Clone(x), "garbage"...)), "not a bzip2 stream"},
		{"zeros", bytes.NewReader(append(bytes.Clone(x), 0, 0, 0, 0)), "not a bzip2 stream"},
		{"a little garbage", bytes.NewReader(append(bytes.Clone(x), "BZ"...)), "unexpected EOF"},
		{"larger than its level", bytes.NewReader(compress(text(100_001), 1, 200_000)), errData.Error()},
		{"broken", io.MultiReader(bytes.NewReader(x[:50]), iotest.ErrReader(broken)), "broken"},
		{"broken at the end", io.MultiReader(bytes.NewReader(x), iotest.ErrReader(broken)), "broken"},
	} {
		if _, err := read(c.r, 2); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v; want %s", c.name, err, c.want)
		}
	}
}

// Close in the middle leaves no goroutine behind, and may come twice.
func TestClose(t *testing.T) {
	packed := compress(text(10_000), 1, 500)
	before := runtime.NumGoroutine()
	for i := range 30 {
		x, err := NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		x.atOnce = 4
		if _, err := io.ReadFull(x, make([]byte, i*100)); err != nil {
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

// What the standard library reads is read, and gives the same bytes.
func FuzzReader(f *testing.F) {
	f.Add(compress(text(300), 1, 100))
	f.Add(compress(bytes.Repeat([]byte("ab"), 40), 9, 100))
	f.Add(slices.Concat(compress(make([]byte, 1000), 9, 700), compress(nil, 1, 1)))
	f.Fuzz(func(t *testing.T, packed []byte) {
		const most = 1 << 22
		got, err := read(bytes.NewReader(packed), 1)
		if again, err2 := read(bytes.NewReader(packed), 3); (err == nil) != (err2 == nil) || !bytes.Equal(got, again) {
			t.Fatalf("one at a time: %d bytes, %v; in parallel: %d bytes, %v", len(got), err, len(again), err2)
		}
		want, wantErr := io.ReadAll(io.LimitReader(bzip2.NewReader(bytes.NewReader(packed)), most))
		if wantErr == nil && len(want) < most && (err != nil || !bytes.Equal(got, want)) {
			t.Fatalf("%d bytes, %v; compress/bzip2: %d bytes", len(got), err, len(want))
		}
	})
}

// Whatever is compressed comes back.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello\n"), uint(3))
	f.Add(bytes.Repeat([]byte("ab"), 500), uint(900))
	f.Add(text(3000), uint(2000))
	f.Fuzz(func(t *testing.T, data []byte, n uint) {
		packed := compress(data, 9, int(n%3000+1))
		if got, err := read(bytes.NewReader(packed), 2); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v; want %d bytes", len(got), err, len(data))
		}
	})
}

func BenchmarkReader(b *testing.B) {
	data := text(90_000)
	packed := bytes.Repeat(compress(data, 1, 100_000), 10)
	for name, open := range map[string]func(io.Reader) (io.Reader, error){
		"bunzip2":        func(r io.Reader) (io.Reader, error) { return NewReader(r) },
		"compress/bzip2": func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(10 * len(data)))
			for b.Loop() {
				r, err := open(bytes.NewReader(packed))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
