package source

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"sort"
	"sync"
	"syscall"
	"time"

	"genoci/internal/cache"
)

// Stats remembers the SHA-256 of files by what stat(2) says of them, so that an input that did not
// change is not read again: the idea of git's index (gitformat-index, "racy git").
//
// A file is known by device, inode, size, mtime and ctime. The ctime cannot be set by programs, so
// that only a changed clock could deceive it. A file that was changed less than racyAge before it was
// read is not remembered: a second change within the clock's granularity would not show.
type Stats struct {
	path string
	old  []byte // sorted records, as in the file
	mu   sync.Mutex
	new  map[statKey]stat
}

type statKey struct{ dev, ino uint64 }

type stat struct {
	size, mtime, ctime int64 // bytes; nanoseconds since 1970
	day                uint32
	sum                [32]byte
}

const (
	statsMagic  = "genoci stats 1\n"
	statsHeader = len(statsMagic) + 4 // then the CRC-32C of the records
	statsRecord = 8 + 8 + 8 + 8 + 8 + 4 + 32
	racyAge     = 2 * time.Second // the coarsest clocks of file systems in use (FAT) count in 2 s
	keepDays    = 60              // how long a digest is kept after its last use
)

var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// OpenStats reads the digests in the file at path. Without a file, or with one that is damaged, it
// starts with none.
func OpenStats(path string) (*Stats, error) {
	s := &Stats{path: path, new: map[statKey]stat{}}
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read digests of inputs: %w", err)
	}
	s.old = statsRecords(b)
	return s, nil
}

// statsRecords returns the records of a whole and undamaged file, else nil.
func statsRecords(b []byte) []byte {
	if len(b) < statsHeader || (len(b)-statsHeader)%statsRecord != 0 || !bytes.HasPrefix(b, []byte(statsMagic)) {
		return nil
	}
	rec := b[statsHeader:]
	if binary.LittleEndian.Uint32(b[len(statsMagic):]) != crc32.Checksum(rec, castagnoli()) {
		return nil
	}
	return rec
}

// get returns the digest of the file that fi describes.
func (s *Stats) get(fi fs.FileInfo, now time.Time) (sum [32]byte, ok bool) {
	k, want := statOf(fi)
	s.mu.Lock()
	st, ok := s.new[k]
	s.mu.Unlock()
	fresh := ok
	if !ok {
		st, ok = s.find(k)
	}
	if !ok || st.size != want.size || st.mtime != want.mtime || st.ctime != want.ctime {
		return sum, false
	}
	if today := day(now); !fresh && st.day+keepDays/2 < today {
		st.day = today
		s.mu.Lock()
		s.new[k] = st
		s.mu.Unlock()
	}
	return st.sum, true
}

// put remembers the digest of the file that fi described before it was read, at now.
func (s *Stats) put(fi fs.FileInfo, sum [32]byte, now time.Time) {
	k, st := statOf(fi)
	if now.UnixNano()-max(st.mtime, st.ctime) < int64(racyAge) {
		return
	}
	st.day, st.sum = day(now), sum
	s.mu.Lock()
	s.new[k] = st
	s.mu.Unlock()
}

// find looks a file up in the records that were read.
func (s *Stats) find(k statKey) (stat, bool) {
	n := len(s.old) / statsRecord
	i := sort.Search(n, func(i int) bool { return cmpKeys(recordKey(s.old[i*statsRecord:]), k) >= 0 })
	if i == n || recordKey(s.old[i*statsRecord:]) != k {
		return stat{}, false
	}
	return decodeStat(s.old[i*statsRecord:]), true
}

// Save writes what was learned. Without anything new it does nothing.
func (s *Stats) Save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.new) == 0 {
		return nil
	}
	today := day(time.Now())
	for i := 0; i < len(s.old); i += statsRecord {
		k, st := recordKey(s.old[i:]), decodeStat(s.old[i:])
		if _, ok := s.new[k]; !ok && st.day+keepDays >= today {
			s.new[k] = st
		}
	}
	keys := make([]statKey, 0, len(s.new))
	for k := range s.new {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmpKeys)
	b := make([]byte, statsHeader, statsHeader+len(keys)*statsRecord)
	copy(b, statsMagic)
	for _, k := range keys {
		b = appendRecord(b, k, s.new[k])
	}
	binary.LittleEndian.PutUint32(b[len(statsMagic):], crc32.Checksum(b[statsHeader:], castagnoli()))
	if err := cache.WriteFile(s.path, b); err != nil {
		return fmt.Errorf("write digests of inputs: %w", err)
	}
	s.old, s.new = b[statsHeader:], map[statKey]stat{}
	return nil
}

func appendRecord(b []byte, k statKey, st stat) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, k.dev)
	b = le.AppendUint64(b, k.ino)
	b = le.AppendUint64(b, uint64(st.size))
	b = le.AppendUint64(b, uint64(st.mtime))
	b = le.AppendUint64(b, uint64(st.ctime))
	b = le.AppendUint32(b, st.day)
	return append(b, st.sum[:]...)
}

func recordKey(b []byte) statKey {
	le := binary.LittleEndian
	return statKey{dev: le.Uint64(b), ino: le.Uint64(b[8:])}
}

func decodeStat(b []byte) stat {
	le := binary.LittleEndian
	return stat{
		size:  int64(le.Uint64(b[16:])),
		mtime: int64(le.Uint64(b[24:])),
		ctime: int64(le.Uint64(b[32:])),
		day:   le.Uint32(b[40:]),
		sum:   [32]byte(b[44:76]),
	}
}

func cmpKeys(a, b statKey) int {
	return cmp.Or(cmp.Compare(a.dev, b.dev), cmp.Compare(a.ino, b.ino))
}

func statOf(fi fs.FileInfo) (statKey, stat) {
	st := fi.Sys().(*syscall.Stat_t)
	return statKey{dev: uint64(st.Dev), ino: st.Ino},
		stat{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
}

func day(t time.Time) uint32 { return uint32(t.Unix() / (24 * 60 * 60)) }
