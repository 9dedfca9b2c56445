package build

import (
	"errors"
	"io"
	"os"
	"sync"
)

// spoolMemory is how many bytes a spool holds in memory, and spoolChunk the pieces in which it
// does.
const (
	spoolMemory = 8 << 20
	spoolChunk  = 256 << 10
)

// spool carries bytes from a writer to a slower reader. Where the writer must not wait (it has a
// temporary file), what does not fit into memory goes through that. Each side has one goroutine.
type spool struct {
	temp func() (*os.File, error) // makes the file; nil: the writer waits for the reader

	mu      sync.Mutex
	changed sync.Cond
	chunks  [][]byte // in memory, oldest first
	off     int      // how much of the first one was read
	free    []byte   // a chunk to be used again
	held    int64    // bytes in chunks
	file    *os.File // what was written since memory was full
	written int64    // to file
	read    int64    // of it
	ended   error    // of the writer; io.EOF when all is written
	gone    error    // of the reader
}

func newSpool(temp func() (*os.File, error)) *spool {
	s := &spool{temp: temp}
	s.changed.L = &s.mu
	return s
}

// errSpoolClosed is what a writer gets whose reader has gone without an error.
var errSpoolClosed = errors.New("nobody reads")

// Write implements io.Writer. After CloseRead, its error is that of the reader.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.held >= spoolMemory && s.temp == nil && s.gone == nil {
		s.changed.Wait()
	}
	if s.gone != nil {
		return 0, s.gone
	}
	if s.file != nil || s.held >= spoolMemory {
		return s.spill(p)
	}
	s.keep(p)
	s.changed.Signal()
	return len(p), nil
}

// keep puts p into memory.
func (s *spool) keep(p []byte) {
	s.held += int64(len(p))
	for len(p) > 0 {
		last := len(s.chunks) - 1
		if last < 0 || len(s.chunks[last]) == cap(s.chunks[last]) {
			chunk := s.free
			if s.free = nil; chunk == nil {
				chunk = make([]byte, 0, spoolChunk)
			}
			s.chunks = append(s.chunks, chunk)
			last++
		}
		c := s.chunks[last]
		n := copy(c[len(c):cap(c)], p)
		s.chunks[last] = c[:len(c)+n]
		p = p[n:]
	}
}

// spill puts p into the file. The reader does not touch what is behind written meanwhile.
func (s *spool) spill(p []byte) (int, error) {
	if s.file == nil {
		f, err := s.temp()
		if err != nil {
			return 0, err
		}
		s.file = f
	}
	at := s.written
	s.mu.Unlock()
	n, err := s.file.WriteAt(p, at)
	s.mu.Lock()
	s.written += int64(n)
	s.changed.Signal()
	if s.gone != nil {
		return n, s.gone
	}
	return n, err
}

// CloseWrite ends the stream: the reader gets err after what was written, or io.EOF for nil.
func (s *spool) CloseWrite(err error) {
	if err == nil {
		err = io.EOF
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
	s.changed.Signal()
}

// Read implements io.Reader.
func (s *spool) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.chunks) == 0 && s.read == s.written && s.ended == nil {
		s.changed.Wait()
	}
	switch {
	case len(s.chunks) > 0:
		return s.take(p), nil
	case s.read < s.written:
		n, err := s.file.ReadAt(p[:min(int64(len(p)), s.written-s.read)], s.read)
		s.read += int64(n)
		return n, err
	}
	return 0, s.ended
}

// take moves bytes of the oldest chunk to p.
func (s *spool) take(p []byte) int {
	c := s.chunks[0]
	n := copy(p, c[s.off:])
	s.off += n
	s.held -= int64(n)
	if s.off == len(c) {
		s.chunks, s.off, s.free = s.chunks[1:], 0, c[:0]
	}
	s.changed.Signal()
	return n
}

// CloseRead gives up reading: the writer gets err from now on. It frees what the spool holds.
func (s *spool) CloseRead(err error) error {
	if err == nil {
		err = errSpoolClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone, s.chunks = err, nil
	s.changed.Signal()
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
