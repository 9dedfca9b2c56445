package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/snapshot"
)

// SharedSpace is Space for a driver whose parts may have blocks in common (reflinks, subvolumes):
// these count once, as parts of their own, of which all trees consist that have them. What the file
// system needs to know where files are is not counted.
func (s *Store) SharedSpace(ctx context.Context) (snapshot.Space, error) {
	var mu sync.Mutex
	contents := map[string]map[extent]bool{} // of parts
	space, err := s.SpaceBy(ctx, func(ctx context.Context, part string) (int64, error) {
		found := map[extent]bool{}
		n, err := beneath.DiskUsage(ctx, part, func(parent int, name string, st *unix.Stat_t) (bool, error) {
			return addExtents(found, parent, name, st)
		})
		mu.Lock()
		defer mu.Unlock()
		contents[filepath.Base(part)] = found
		return n, err
	})
	if err != nil {
		return space, err
	}
	share(&space, contents)
	return space, nil
}

// extent is some content on disk.
type extent struct {
	at     uint64 // where it begins; of content that lies within the file system's own records, the file's inode number
	length uint64 // in bytes
	within int64  // the time of change of that file, 0 for others: with the inode number it tells whether two snapshots have the same
}

// cut cuts extents where others begin or end: of a file that was changed in the middle, a tree has
// the extents before and after that, and its parent the whole.
func cut(contents map[string]map[extent]bool) {
	var bounds []uint64
	for _, found := range contents {
		for e := range found {
			if e.within == 0 {
				bounds = append(bounds, e.at, e.at+e.length)
			}
		}
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	for _, found := range contents {
		for e := range found {
			if e.within != 0 {
				continue
			}
			end := e.at + e.length
			next, _ := slices.BinarySearch(bounds, e.at+1)
			if bounds[next] == end {
				continue
			}
			delete(found, e)
			for at := e.at; at < end; next++ {
				found[extent{at: at, length: bounds[next] - at}] = true
				at = bounds[next]
			}
		}
	}
}

// share makes parts of what several parts have in common.
func share(space *snapshot.Space, contents map[string]map[extent]bool) {
	cut(contents)
	ids := make([]string, 0, len(contents))
	for id := range contents {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	// A set of parts is one that has been there before, and one part more.
	type set struct{ before, part int }
	sets := []set{{}}
	known := map[set]int{}
	owners := map[extent]int{} // index of the set of parts that have it
	for i, id := range ids {
		for e := range contents[id] {
			next := set{owners[e], i}
			at, ok := known[next]
			if !ok {
				at = len(sets)
				known[next] = at
				sets = append(sets, next)
			}
			owners[e] = at
		}
	}
	sizes := make([]int64, len(sets))
	for e, at := range owners {
		sizes[at] += int64(e.length)
	}
	for at, size := range sizes {
		if size == 0 {
			continue
		}
		if sets[at].before == 0 {
			space.Parts[ids[sets[at].part]] += size
			continue
		}
		common := fmt.Sprintf("shared-%d", at)
		space.Parts[common] = size
		var having []string
		for ; at != 0; at = sets[at].before {
			having = append(having, ids[sets[at].part])
		}
		for i, t := range space.Trees {
			if slices.ContainsFunc(t.Parts, func(id string) bool { return slices.Contains(having, id) }) {
				space.Trees[i].Parts = append(t.Parts, common)
			}
		}
	}
}

// Of include/uapi/linux/fiemap.h.
const (
	fsIocFiemap = 0xc020660b

	fiemapLast    = 0x1
	fiemapUnknown = 0x2 | 0x4 // not known, or not written yet
	fiemapInline  = 0x100 | 0x200
)

type fiemap struct {
	start, length                uint64
	flags, mapped, count, unused uint32
	extents                      [64]struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
}

// addExtents adds where the content of a file is. known is false where the file system does not
// tell.
func addExtents(found map[extent]bool, parent int, name string, st *unix.Stat_t) (known bool, err error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) { // O_NOATIME, of a file of somebody else
		fd, err = unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		return false, nil // its blocks are counted as its own
	}
	defer unix.Close(fd)
	var all []extent
	m := &fiemap{length: ^uint64(0)}
	for {
		m.count, m.mapped = uint32(len(m.extents)), 0
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocFiemap, uintptr(unsafe.Pointer(m))); errno != 0 {
			return false, nil
		}
		for _, e := range m.extents[:m.mapped] {
			switch {
			case e.flags&fiemapUnknown != 0 || e.length == 0:
				return false, nil
			case e.flags&fiemapInline != 0:
				all = append(all, extent{st.Ino, e.length, max(st.Ctim.Nano(), 1)})
			default:
				all = append(all, extent{at: e.physical, length: e.length})
			}
			m.start = e.logical + e.length
			if e.flags&fiemapLast != 0 {
				m.mapped = 0
			}
		}
		if m.mapped == 0 {
			break
		}
	}
	for _, e := range all {
		found[e] = true
	}
	return true, nil
}
