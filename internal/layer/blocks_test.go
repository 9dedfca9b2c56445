package layer

import (
	"bytes"
	"compress/flate"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// mixed returns bytes of all kinds that blocks can have, in runs of up to half a block and some of
// more than one.
func mixed(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	var b []byte
	for i := 0; len(b) < n; i++ {
		run := make([]byte, r.IntN(gzipBlock/2))
		switch i % 4 {
		case 0:
			run = sample(len(run))
		case 1:
			run = noise(uint64(i), len(run)+i%3*gzipBlock)
		case 2:
			copy(run, strings.Repeat("The quick brown fox. ", 100))
		}
		b = append(b, run...)
	}
	return b[:n]
}

// noise returns random bytes.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// What is written is what the standard library reads, whatever mix of stored and compressed blocks
// that takes, and is what the taps got.
func TestGzipOfAllKinds(t *testing.T) {
	random := noise(1, 2*gzipBlock)
	for name, data := range map[string][]byte{
		"nothing":             {},
		"mixed":               mixed(9*gzipBlock + 777),
		"random":              random,
		"random, some blocks": random[:gzipBlock+probeSize+1],
		"zeros":               make([]byte, 3*gzipBlock),
	} {
		var tap, packed bytes.Buffer
		w, err := newGzipWriter(&packed, &tap)
		if err == nil {
			_, err = w.Write(data)
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := stdgzip.NewReader(&packed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes for %d, %v", name, len(got), len(data), err)
		}
		if !bytes.Equal(tap.Bytes(), data) {
			t.Errorf("%s: the tap got %d bytes of %d", name, tap.Len(), len(data))
		}
	}
}

func TestIncompressible(t *testing.T) {
	random := noise(2, gzipBlock)
	var deflated bytes.Buffer
	z, err := flate.NewWriter(&deflated, 6)
	if err == nil {
		_, err = z.Write(sample(3 * gzipBlock))
		err = errors.Join(err, z.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	with := func(part []byte, at int) []byte {
		b := bytes.Clone(random)
		copy(b[at:], part)
		return b
	}
	repeated := func(n int) []byte { return bytes.Repeat(random[:n], gzipBlock/n+1)[:gzipBlock] }
	text := bytes.Repeat([]byte("Some text, and more. "), 1000)
	tests := []struct {
		name string
		data []byte
		want bool
	}{
		{"random", random, true},
		{"random, not a whole number of parts", random[:3*probeSize+5], true},
		{"random, short", random[:probeSize-1], false},
		{"deflated", deflated.Bytes()[:gzipBlock], true},
		{"text", bytes.Repeat(text, 60)[:gzipBlock], false},
		{"text at the end", with(text[:8<<10], gzipBlock-8<<10), false},
		{"text in a short block", append(bytes.Clone(random[:probeSize]), text[:8<<10]...), false},
		{"zeros", make([]byte, gzipBlock), false},
		{"base64", []byte(strings.Repeat(fmt.Sprintf("%x", random[:1000]), 600))[:gzipBlock], false},
		{"random, again and again", repeated(1000), false},
		{"random, again at a long distance", repeated(32 << 10), false},
		{"random, again beyond deflate's reach", repeated(96 << 10), true},
	}
	for n := 300; n < 32<<10; n = n*3/2 + 1 {
		tests = append(tests, struct {
			name string
			data []byte
			want bool
		}{fmt.Sprintf("random, again after %d", n), repeated(n), false})
	}
	for _, tt := range tests {
		if got := incompressible(tt.data); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	for seed := range uint64(50) {
		if !incompressible(noise(seed, gzipBlock)) {
			t.Errorf("random, seed %d: not seen", seed)
		}
	}
}

// Whatever fails first is what Write or Close tell, and no goroutine stays.
func TestBlockWriterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("disk full")
		data := mixed(12 * gzipBlock)
		for _, c := range Compressions {
			if c.NewWriter == nil {
				continue
			}
			// Blocks of zstd are four times as long: what fails is the first write, or one in the
			// middle, or the last.
			for _, after := range []int64{0, 1, 5 << 20, 6 << 20} {
				var n int64
				failing := writerFunc(func(p []byte) (int, error) {
					if n += int64(len(p)); n > after {
						return 0, full
					}
					return len(p), nil
				})
				for name, open := range map[string]func() (io.WriteCloser, error){
					"output": func() (io.WriteCloser, error) { return c.NewWriter(failing) },
					"tap":    func() (io.WriteCloser, error) { return c.NewWriter(io.Discard, io.Discard, failing) },
				} {
					n = 0
					w, err := open()
					if err != nil {
						t.Fatal(err)
					}
					_, werr := io.Copy(w, struct{ io.Reader }{bytes.NewReader(data)})
					err = w.Close()
					if werr != nil && !errors.Is(werr, full) || !errors.Is(err, full) {
						t.Errorf("%s, %s, after %d bytes: write: %v; close: %v", c.Name, name, after, werr, err)
					}
					if again := w.Close(); !errors.Is(again, full) {
						t.Errorf("%s: the second close: %v", c.Name, again)
					}
				}
			}
		}
	})
}

// Memory is bounded: as many blocks as stated, however slow the output is.
func TestBlockWriterMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		slow := writerFunc(func(p []byte) (int, error) { <-release; return len(p), nil })
		w := newBlockWriter(slow, blockCoding{size: 1000}, io.Discard)
		written := make(chan int, 1000)
		go func() {
			for i := range 1000 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					t.Error(err)
				}
				written <- i
			}
			close(written)
		}()
		synctest.Wait() // until nothing goes on without the output
		if n := len(written); n == 0 || n > runtime.GOMAXPROCS(0)+3 {
			t.Errorf("%d blocks were taken", n)
		}
		close(release)
		for range written {
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}
