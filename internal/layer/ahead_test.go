package layer

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestReadAhead(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"plain": func(r io.Reader) io.Reader { return r }, "half": iotest.HalfReader, "data with err": iotest.DataErrReader,
	} {
		a := ReadAhead(wrap(bytes.NewReader(data)))
		got, err := io.ReadAll(iotest.HalfReader(a))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	failure := errors.New("failure")
	for _, err := range []error{failure, io.ErrUnexpectedEOF} {
		a := ReadAhead(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(err)))
		got, e := io.ReadAll(a)
		if !errors.Is(e, err) || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v, want %v behind all", len(got), e, err)
		}
		a.Close()
	}
	a := ReadAhead(bytes.NewReader(data))
	if _, err := io.ReadFull(a, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	a.Close()
	a.Close()
	if n, err := a.Read(make([]byte, 10)); err == nil {
		t.Errorf("%d bytes after Close", n)
	}
}

// All readers of a fork get all bytes and the error behind them, however fast each of them is, and
// in whichever way it reads.
func TestFork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := random(2*aheadCount*aheadSize + 12345)
		failure := errors.New("failure")
		for _, want := range []error{nil, failure} {
			var r io.Reader = bytes.NewReader(data)
			if want != nil {
				r = io.MultiReader(r, iotest.ErrReader(want))
			}
			var wg sync.WaitGroup
			for i, side := range Fork(r, 3) {
				wg.Go(func() {
					defer side.Close()
					var got bytes.Buffer
					var err error
					switch i {
					case 0:
						_, err = io.Copy(&got, side) // WriteTo
					case 1:
						_, err = got.ReadFrom(struct{ io.Reader }{side})
					case 2:
						_, err = got.ReadFrom(slowReader{side})
					}
					if !errors.Is(err, want) || !bytes.Equal(got.Bytes(), data) {
						t.Errorf("reader %d: %d bytes, %v, want %v behind all", i, got.Len(), err, want)
					}
				})
			}
			wg.Wait()
		}
	})
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// slowReader lets others get ahead.
type slowReader struct{ r io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	if rand.IntN(20) == 0 {
		time.Sleep(time.Millisecond)
	}
	return s.r.Read(p[:min(len(p), 50_000)])
}

// A reader that is closed, at any place, holds up nobody; when all are, r is not read any more.
func TestForkClose(t *testing.T) {
	data := random(2 * aheadCount * aheadSize)
	for _, stop := range []int{0, 1, aheadSize, aheadSize + 1, aheadCount * aheadSize, len(data)} {
		r := &lateReader{r: bytes.NewReader(data)}
		sides := Fork(r, 3)
		var wg sync.WaitGroup
		for _, side := range sides[:2] {
			wg.Go(func() {
				if n, err := io.CopyN(io.Discard, side, int64(stop)); err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				side.Close()
				side.Close()
				if n, err := side.Read(make([]byte, 10)); !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("%d bytes after Close, %v", n, err)
				}
			})
		}
		if got, err := io.ReadAll(sides[2]); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the others closed at %d: %d bytes, %v", stop, len(got), err)
		}
		wg.Wait()
		sides[2].Close()
		r.closed = true // a race with whoever reads r
	}

	r := &lateReader{r: bytes.NewReader(data)}
	for _, side := range Fork(r, 2) {
		side.Close()
	}
	r.closed = true
	side := ReadAhead(bytes.NewReader(data))
	defer side.Close()
	if _, err := io.Copy(failingWriter{}, side); !errors.Is(err, errFull) {
		t.Errorf("writing: %v", err)
	}
}

// lateReader must not be read when it is closed.
type lateReader struct {
	r      io.Reader
	closed bool
}

func (l *lateReader) Read(p []byte) (int, error) {
	if l.closed {
		return 0, errors.New("read when nobody needs it")
	}
	return l.r.Read(p)
}

var errFull = errors.New("full")

// failingWriter takes nothing.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

// What is written beside the reading is complete when the end is read.
func TestTeeAhead(t *testing.T) {
	data := random(2*aheadCount*aheadSize + 12345)
	var beside bytes.Buffer
	tee := TeeAhead(bytes.NewReader(data), struct{ io.Writer }{&beside})
	got, err := io.ReadAll(tee)
	if err != nil || !bytes.Equal(got, data) || !bytes.Equal(beside.Bytes(), data) {
		t.Errorf("%d bytes, %d beside, %v", len(got), beside.Len(), err)
	}
	if n, err := tee.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d bytes, %v", n, err)
	}
	tee.Close()

	tee = TeeAhead(bytes.NewReader(data), failingWriter{})
	if got, err := io.ReadAll(tee); !errors.Is(err, errFull) || len(got) != len(data) {
		t.Errorf("full: %d bytes, %v", len(got), err)
	}
	tee.Close()

	failure := errors.New("failure")
	tee = TeeAhead(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(failure)), io.Discard)
	if got, err := io.ReadAll(tee); !errors.Is(err, failure) || len(got) != len(data) {
		t.Errorf("r fails: %d bytes, %v", len(got), err)
	}
	tee.Close()

	r := &lateReader{r: bytes.NewReader(data)}
	tee = TeeAhead(r, io.Discard)
	if _, err := io.CopyN(io.Discard, tee, 10); err != nil {
		t.Error(err)
	}
	tee.Close()
	tee.Close()
	r.closed = true // a race with whoever reads r
	if n, err := tee.Read(make([]byte, 10)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%d bytes after Close, %v", n, err)
	}
}
