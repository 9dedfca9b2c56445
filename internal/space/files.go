package space

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/beneath"
	"genoci/internal/cache"
	"genoci/internal/durable"
	"genoci/internal/source"
)

// How long things stay that nobody used.
const (
	idle      = IdleDays * 24 * time.Hour // downloads, and results of steps that changed nothing
	oldTemp   = time.Hour                 // temporary files of a cache that is in use: a process writes to one, or has ended
	oldFailed = 7 * 24 * time.Hour        // trees of steps that failed
)

// files looks at the files of the cache folder, but the results.
func (s *surveyor) files() error {
	now := time.Now()
	root := s.inv.Cache + "/" // which may be a symlink
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = s.ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) && path != root {
			return nil // it went meanwhile
		}
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return s.folder(rel, path, info)
		}
		f := file(kindOf(rel), path, info)
		switch {
		case f.Kind == "" || !d.Type().IsRegular():
			s.inv.Foreign = append(s.inv.Foreign, path)
			return nil
		case f.Kind == Results, f.Kind == Downloads:
			return nil // those are asked for otherwise
		case f.Kind == Temporary && (s.inv.excluded || now.Sub(f.Used) > oldTemp):
			f.unneeded = ProcessEnded
		}
		s.judge(&f, now)
		s.inv.Files = append(s.inv.Files, f)
		return nil
	})
}

// folder looks at a folder of the cache.
func (s *surveyor) folder(rel, path string, info fs.FileInfo) error {
	top, below, _ := strings.Cut(rel, "/")
	switch {
	case slices.ContainsFunc(s.inv.locations.Stores, func(st Store) bool { return st.Dir == path }):
		return filepath.SkipDir
	case top == cache.TempsDir && strings.HasPrefix(below, "step-") && !strings.Contains(below, "/"):
		f := File{Kind: Temporary, Path: path, Used: info.ModTime()}
		size, err := beneath.DiskUsage(s.ctx, path, nil)
		if err != nil {
			return err
		}
		f.Size = size
		f.held = cache.Held(path)
		if !f.held && (s.inv.excluded || time.Since(f.Used) > time.Minute) {
			f.unneeded = ProcessEnded
		}
		s.inv.Files = append(s.inv.Files, f)
		return filepath.SkipDir
	case below == "" && slices.Contains(cache.Folders(), top),
		top == cache.StepsDir && len(below) == 2 && isHex(below),
		slices.Contains(s.inv.locations.Drivers, rel) && isEmpty(path):
		s.inv.Folders = append(s.inv.Folders, File{Kind: Records, Path: path, Size: blocks(info)})
		return nil
	}
	s.inv.Foreign = append(s.inv.Foreign, path)
	return filepath.SkipDir
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// kindOf tells a file of the cache by its path in it; "" for one that is not genoci's.
func kindOf(rel string) Kind {
	dir, name := filepath.Split(rel)
	dir = strings.TrimSuffix(dir, "/")
	top, _, _ := strings.Cut(dir, "/")
	switch {
	case !slices.Contains(cache.Folders(), top):
		return ""
	case durable.IsTemp(name), strings.HasPrefix(name, ".tmp-"), strings.HasPrefix(name, ".toc-"): // the last two are of earlier versions
		return Temporary
	case top == cache.StepsDir:
		id, ok := strings.CutSuffix(name, ".json")
		if ok && isHex(id) {
			return Results
		}
	case dir == cache.InputsDir && name == "stats":
		return Digests
	case dir == cache.InputsDir && source.IsDownload(name):
		return Downloads
	case dir == cache.TOCDir && isHex(name):
		return Indexes
	case dir == cache.TOCDir && isNote(name):
		return Records
	case (dir == cache.LastDir || dir == cache.NodesDir) && isHex(name):
		return Explanations
	case dir == cache.LayoutsDir && isHex(name):
		return Records
	case dir == cache.TempsDir:
		return Temporary
	}
	return ""
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// isNote reports whether a file in the folder of indexes notes which blob holds a layer: digits of
// the layer, "-", and digits of the blob.
func isNote(name string) bool {
	diffID, blob, ok := strings.Cut(name, "-")
	return ok && isHex(diffID) && isHex(blob)
}

// judge says whether anybody needs a file, and what it costs to make it again.
func (s *surveyor) judge(f *File, now time.Time) {
	name := filepath.Base(f.Path)
	perByte := func(d time.Duration) time.Duration { return time.Duration(f.Size) * d }
	switch f.Kind {
	case Indexes:
		// Of a layer of 60 MB it is one of 1.2 MB, and made in 0.7 s.
		f.cost = perByte(600 * time.Nanosecond)
		if !s.hasLayer(name) {
			f.unneeded = s.unless(NoLayer)
		}
	case Digests:
		f.cost = perByte(1200 * time.Nanosecond) // 80 bytes for a file, which is read in 0.1 ms where it is small
	case Records:
		f.cost = 24 * time.Hour // it says what is needed of all else, or takes nothing
		if diffID, _, note := strings.Cut(name, "-"); note {
			if !s.hasLayer(diffID) {
				f.unneeded = s.unless(NoLayer)
			}
			return
		}
		dir, err := cache.LayoutAt(f.Path)
		if err != nil || s.inv.Layout != dir && !exists(dir) {
			f.unneeded = LayoutGone
		}
	}
}

// downloads looks at what URLs gave.
func (s *surveyor) downloads() error {
	list, err := source.Downloads(filepath.Join(s.inv.Cache, cache.InputsDir))
	if err != nil {
		return err
	}
	for _, d := range list {
		f := File{Kind: Downloads, Path: d.Files[0], Used: d.Used, more: d.Files[1:]}
		for _, path := range d.Files {
			if info, err := os.Lstat(path); err == nil {
				f.Size += blocks(info)
			}
		}
		f.cost = time.Second + time.Duration(f.Size)*100*time.Nanosecond // 10 MB/s
		s.retire(&f)
		s.inv.Files = append(s.inv.Files, f)
	}
	return nil
}

// retire says of a file that was not used for long that nobody needs it.
func (s *surveyor) retire(f *File) {
	if time.Since(f.Used) > idle {
		f.unneeded = Idle
	}
}

// hasLayer reports whether a DiffID of these digits is one of a layer that somebody needs.
func (s *surveyor) hasLayer(digits string) bool {
	return slices.ContainsFunc([]digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512}, func(a digest.Algorithm) bool {
		return s.layers[digest.NewDigestFromEncoded(a, digits)]
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// blocks returns what a file takes on disk.
func blocks(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
