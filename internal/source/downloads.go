package source

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Download is what a fetch has stored: the content, and a file for each URL that gave it.
type Download struct {
	URLs  []string // without passwords
	Files []string // paths, the content first where it is there
	Used  time.Time
}

// metaPrefix and metaSuffix are around the names of the files for URLs; that of content is its
// digest.
const (
	metaPrefix = "url-"
	metaSuffix = ".json"
)

// IsDownload reports whether a file of the name belongs to a Download.
func IsDownload(name string) bool {
	digits, meta := strings.CutPrefix(name, metaPrefix)
	if meta {
		digits = strings.TrimSuffix(digits, metaSuffix)
	}
	return len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == "" && meta == strings.HasSuffix(name, metaSuffix)
}

// Downloads returns all that is stored in the folder (Source.Downloads), which may be missing.
func Downloads(dir string) ([]Download, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := map[string]*Download{} // by the digest of the content
	var order []string
	for _, e := range entries { // content comes before what begins with "url-"
		if !IsDownload(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		digest, k := e.Name(), fetched{}
		if strings.HasPrefix(digest, metaPrefix) {
			b, err := os.ReadFile(path)
			if err != nil || json.Unmarshal(b, &k) != nil {
				k = fetched{}
			}
			digest = k.Digest
		}
		d := all[digest]
		if d == nil {
			d = &Download{}
			all[digest] = d
			order = append(order, digest)
		}
		d.Files = append(d.Files, path)
		if k.URL != "" {
			d.URLs = append(d.URLs, k.URL)
		}
		if info, err := e.Info(); err == nil && info.ModTime().After(d.Used) {
			d.Used = info.ModTime()
		}
	}
	slices.Sort(order)
	list := make([]Download, len(order))
	for i, digest := range order {
		list[i] = *all[digest]
	}
	return list, nil
}
