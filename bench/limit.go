package main

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// limit does the least that a scenario cannot do without, as a process that is timed like the
// tools.
func limit(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "gunzip":
		return decodeAndHash(args[1], func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
	case len(args) == 2 && args[0] == "unzstd":
		return decodeAndHash(args[1], func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) })
	case len(args) == 2 && args[0] == "pack":
		return packAndHash(ctx, args[1])
	case len(args) == 2 && args[0] == "walk":
		dir, err := filepath.EvalSymlinks(args[1]) // a checkout
		if err != nil {
			return err
		}
		return walkAll(dir)
	case len(args) == 1 && args[0] == "parallel":
		return sleepAndPack(ctx)
	}
	return fmt.Errorf("limit: no such work: %q", args)
}

// decodeAndHash reads a compressed file once, and hashes it as it is and as what it holds, both
// beside the decompression.
func decodeAndHash(name string, decode func(io.Reader) (io.Reader, error)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	compressed, plain := newHasher(), newHasher()
	defer compressed.sum()
	defer plain.sum()
	r, err := decode(bufio.NewReaderSize(io.TeeReader(f, compressed), blockSize))
	if err != nil {
		return err
	}
	_, err = io.Copy(plain, r)
	return err
}

// packAndHash writes a file or folder as a tar into the file blob, compressed on all cores, and
// hashes both forms.
func packAndHash(ctx context.Context, name string) error {
	return compress(ctx, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		if err := addFiles(tw, name); err != nil {
			return err
		}
		return tw.Close()
	})
}

// sleepAndPack waits for half a second, and compresses and hashes 80 MB of random data meanwhile.
func sleepAndPack(ctx context.Context) error {
	wake := time.After(500 * time.Millisecond)
	err := compress(ctx, func(w io.Writer) error {
		_, err := io.CopyN(w, rand.Reader, 80<<20)
		return err
	})
	<-wake
	return err
}

// compress writes what write writes into the file blob.
func compress(ctx context.Context, write func(io.Writer) error) error {
	blob, err := os.Create("blob")
	if err != nil {
		return err
	}
	defer blob.Close()
	compressed, plain := newHasher(), newHasher()
	defer compressed.sum()
	defer plain.sum()
	zw, err := pgzip.NewWriterLevel(io.MultiWriter(blob, compressed), 6)
	if err != nil {
		return err
	}
	if err := write(io.MultiWriter(plain, zw)); err != nil {
		return err
	}
	if err := zw.Close(); err != nil {
		return err
	}
	return ctx.Err()
}

func addFiles(tw *tar.Writer, top string) error {
	buf := make([]byte, blockSize)
	return filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		hdr, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		hdr.Name = name
		if err := tw.WriteHeader(hdr); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{tw}, struct{ io.Reader }{f}, buf)
		return err
	})
}

const blockSize = 256 << 10

// hasher hashes on a goroutine of its own.
type hasher struct {
	full, empty chan []byte
	done        chan [sha256.Size]byte
}

func newHasher() *hasher {
	h := &hasher{make(chan []byte, 8), make(chan []byte, 8), make(chan [sha256.Size]byte, 1)}
	for range cap(h.empty) {
		h.empty <- make([]byte, 0, blockSize)
	}
	go func() {
		sum := sha256.New()
		for block := range h.full {
			sum.Write(block)
			h.empty <- block[:0]
		}
		h.done <- [sha256.Size]byte(sum.Sum(nil))
	}()
	return h
}

// Write hands data over. It never fails.
func (h *hasher) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		block := <-h.empty
		n := min(len(rest), blockSize)
		h.full <- append(block, rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}

// sum waits for the hash of all that was written.
func (h *hasher) sum() [sha256.Size]byte {
	close(h.full)
	return <-h.done
}
