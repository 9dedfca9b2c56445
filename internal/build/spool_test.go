package build

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// A spool gives out what it was given, whether that fitted into memory or not, and whoever is
// slower.
func TestSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temp := func() (*os.File, error) { return os.Create(filepath.Join(t.TempDir(), "spool")) }
		for name, temp := range map[string]func() (*os.File, error){"waits": nil, "spills": temp} {
			for _, size := range []int{0, 1, spoolChunk, spoolMemory + 1, 3*spoolMemory + 12345} {
				for slow := range 2 {
					want := make([]byte, size)
					rand.NewChaCha8([32]byte{}).Read(want)
					s := newSpool(temp)
					end := errors.New("cut off")
					go func() {
						for rest := want; len(rest) > 0; {
							n := min(len(rest), 1+rand.IntN(3*spoolChunk))
							if _, err := s.Write(rest[:n]); err != nil {
								t.Error(err)
							}
							rest = rest[n:]
						}
						s.CloseWrite(end)
					}()
					if slow == 1 {
						synctest.Wait() // until the writer has done all that it can
					}
					got, err := io.ReadAll(s)
					if !errors.Is(err, end) || !bytes.Equal(got, want) {
						t.Errorf("%s, %d bytes: %d bytes, %v", name, size, len(got), err)
					}
					if err := s.CloseRead(nil); err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
}

// A writer learns why its reader has gone, also while it waits.
func TestSpoolReaderGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpool(nil)
		gone := errors.New("disk full")
		go func() {
			synctest.Wait() // until the writer waits
			_ = s.CloseRead(gone)
		}()
		if _, err := io.CopyBuffer(struct{ io.Writer }{s}, io.LimitReader(zeros{}, 3*spoolMemory), make([]byte, spoolChunk)); !errors.Is(err, gone) {
			t.Errorf("the writer got %v", err)
		}
		s = newSpool(func() (*os.File, error) { return nil, iotest.ErrTimeout })
		if _, err := io.CopyBuffer(struct{ io.Writer }{s}, io.LimitReader(zeros{}, 3*spoolMemory), make([]byte, spoolChunk)); !errors.Is(err, iotest.ErrTimeout) {
			t.Errorf("without a temporary file, the writer got %v", err)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
