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
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"genoci/internal/durable"

	"golang.org/x/sys/unix"
)

// Stats remembers the SHA-256 of files by what stat(2) says of them, so that an input that did not
// change is not read again: the idea of git's index (gitformat-index, "racy git").
//
// A file is known by device, inode, size, mtime and ctime. The ctime cannot be set by programs, so
// that only a changed clock could deceive it; it changes with extended attributes too. A file that
// was changed less than racyAge before it was read is not remembered: a second change within the
// clock's granularity would not show.
//
// The file of digests is mapped, and each record has a checksum of its own: of many files, those
// that a build does not ask for cost nothing.
type Stats struct {
	path    string
	old     []byte      // sorted records, as in the file
	learned atomic.Bool // new has records
	mu      sync.Mutex
	new     map[statKey]stat
}

type statKey struct{ dev, ino uint64 }

type stat struct {
	size, mtime, ctime int64 // bytes; nanoseconds since 1970
	day                uint32
	bare               bool // the file has no extended attributes that copies keep
	sum                [32]byte
}

const (
	statsMagic  = "genoci stats 2\n" // then records
	statsData   = 8 + 8 + 8 + 8 + 8 + 4 + 32
	statsRecord = statsData + 4         // CRC-32C
	racyAge     = 2 * time.Second       // the coarsest clocks of file systems in use (FAT) count in 2 s
	keepDays    = 60                    // how long a digest is kept after its last use
	maxStats    = 1 << 30 / statsRecord // records
	bareBit     = 1 << 31               // in the day of a record
)

var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// OpenStats maps the digests in the file at path. Without a file, or with one of another version,
// it starts with none.
func OpenStats(path string) (*Stats, error) {
	s := &Stats{path: path, new: map[statKey]stat{}}
	b, err := mapFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read digests of inputs: %w", err)
	}
	s.old = statsRecords(b)
	return s, nil
}

// statsRecords returns the records of a file; none where it is of another version.
func statsRecords(b []byte) []byte {
	rec, ok := bytes.CutPrefix(b, []byte(statsMagic))
	if !ok {
		return nil
	}
	return rec[:len(rec)/statsRecord*statsRecord]
}

// mapFile maps the file at path for as long as the process lives. It is never written to, only
// replaced.
func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(min(fi.Size(), maxStats*statsRecord)), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &fs.PathError{Op: "map", Path: path, Err: err}
	}
	return b, nil
}

// get returns the digest of the file that st describes. today is the day of now.
func (s *Stats) get(st *unix.Stat_t, today uint32) (sum [32]byte, ok bool) {
	known, ok := s.lookup(st, today)
	return known.sum, ok
}

// lookup returns what is known of the file that st describes. today is the day of now.
func (s *Stats) lookup(st *unix.Stat_t, today uint32) (known stat, ok bool) {
	k, want := statOf(st)
	fresh := false
	if s.learned.Load() {
		s.mu.Lock()
		known, fresh = s.new[k]
		s.mu.Unlock()
	}
	if !fresh {
		known, ok = s.find(k)
	}
	if !fresh && !ok || known.size != want.size || known.mtime != want.mtime || known.ctime != want.ctime {
		return stat{}, false
	}
	if !fresh && known.day+keepDays/2 < today {
		known.day = today
		s.learn(k, known)
	}
	return known, true
}

// put remembers the digest of the file that st described before it was read, at now; bare says that
// the file is known to have no extended attributes that copies keep.
func (s *Stats) put(st *unix.Stat_t, sum [32]byte, bare bool, now time.Time) {
	k, known := statOf(st)
	if now.UnixNano()-max(known.mtime, known.ctime) < int64(racyAge) {
		return
	}
	known.day, known.sum, known.bare = day(now), sum, bare
	s.learn(k, known)
}

func (s *Stats) learn(k statKey, st stat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.new[k] = st
	s.learned.Store(true)
}

// find looks a file up in the records that were there. A damaged record is none.
func (s *Stats) find(k statKey) (stat, bool) {
	low, high := 0, len(s.old)/statsRecord
	for low < high {
		mid := int(uint(low+high) >> 1)
		switch rec := s.old[mid*statsRecord:]; cmpKeys(recordKey(rec), k) {
		case -1:
			low = mid + 1
		case 1:
			high = mid
		default:
			return decodeStat(rec)
		}
	}
	return stat{}, false
}

// Save writes what was learned. Without anything new it does nothing.
func (s *Stats) Save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.new) == 0 {
		return nil
	}
	b := s.merge(day(time.Now()))
	err := os.MkdirAll(filepath.Dir(s.path), 0o700)
	if err == nil {
		err = durable.WriteFile(s.path, b, 0o600, durable.NoSync)
	}
	if err != nil {
		return fmt.Errorf("write digests of inputs: %w", err)
	}
	s.old, s.new = b[len(statsMagic):], map[statKey]stat{}
	s.learned.Store(false)
	return nil
}

// merge returns the new content of the file: what was learned, and of what was there all that is
// sound and was used of late.
func (s *Stats) merge(today uint32) []byte {
	keys := make([]statKey, 0, len(s.new))
	for k := range s.new {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmpKeys)
	b := make([]byte, 0, len(statsMagic)+len(s.old)+len(keys)*statsRecord)
	b = append(b, statsMagic...)
	for old := s.old; len(old) > 0; old = old[statsRecord:] {
		st, ok := decodeStat(old)
		if !ok || st.day+keepDays < today {
			continue
		}
		k := recordKey(old)
		for ; len(keys) > 0 && cmpKeys(keys[0], k) < 0; keys = keys[1:] {
			b = appendRecord(b, keys[0], s.new[keys[0]])
		}
		if len(keys) == 0 || keys[0] != k {
			b = append(b, old[:statsRecord]...)
		}
	}
	for _, k := range keys {
		b = appendRecord(b, k, s.new[k])
	}
	return b
}

func appendRecord(b []byte, k statKey, st stat) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = le.AppendUint64(b, k.dev)
	b = le.AppendUint64(b, k.ino)
	b = le.AppendUint64(b, uint64(st.size))
	b = le.AppendUint64(b, uint64(st.mtime))
	b = le.AppendUint64(b, uint64(st.ctime))
	d := st.day
	if st.bare {
		d |= bareBit
	}
	b = le.AppendUint32(b, d)
	b = append(b, st.sum[:]...)
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli()))
}

func recordKey(b []byte) statKey {
	le := binary.LittleEndian
	return statKey{dev: le.Uint64(b), ino: le.Uint64(b[8:])}
}

// decodeStat returns what the record at the start of b says, and whether it is sound.
func decodeStat(b []byte) (stat, bool) {
	le := binary.LittleEndian
	return stat{
		size:  int64(le.Uint64(b[16:])),
		mtime: int64(le.Uint64(b[24:])),
		ctime: int64(le.Uint64(b[32:])),
		day:   le.Uint32(b[40:]) &^ bareBit,
		bare:  le.Uint32(b[40:])&bareBit != 0,
		sum:   [32]byte(b[44:76]),
	}, le.Uint32(b[statsData:]) == crc32.Checksum(b[:statsData], castagnoli())
}

func cmpKeys(a, b statKey) int {
	return cmp.Or(cmp.Compare(a.dev, b.dev), cmp.Compare(a.ino, b.ino))
}

func statOf(st *unix.Stat_t) (statKey, stat) {
	return statKey{dev: uint64(st.Dev), ino: st.Ino}, stat{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
}

func day(t time.Time) uint32 { return uint32(t.Unix() / (24 * 60 * 60)) }
