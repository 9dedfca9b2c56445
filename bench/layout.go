package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// descriptor is what image-spec's descriptor.md says, as far as checks need it.
type descriptor struct {
	MediaType   string
	Digest      string
	Annotations map[string]string
}

const refName = "org.opencontainers.image.ref.name"

// imageHas returns a check that the image tag of the layout in folder has files of these names. An
// empty tag stands for the newest image.
func imageHas(folder, tag string, names ...string) check {
	return func(p *place) error {
		files, err := imageFiles(p.path(folder), p.expandVars(tag))
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, ok := files[p.expandVars(name)]; !ok {
				return fmt.Errorf("%s:%s has no %s", folder, p.expandVars(tag), p.expandVars(name))
			}
		}
		return nil
	}
}

// imageHolds returns a check that an image has all regular files that an archive has, with their
// sizes.
func imageHolds(folder, tag, archive string) check {
	return func(p *place) error {
		files, err := imageFiles(p.path(folder), p.expandVars(tag))
		if err != nil {
			return err
		}
		return sameFiles(files, p.expandVars(archive))
	}
}

// folderHolds returns a check that a folder has all regular files that an archive has, with their
// sizes. A relative folder is one of the place.
func folderHolds(folder, archive string) check {
	return func(p *place) error {
		top := folder
		if !filepath.IsAbs(top) {
			top = p.path(folder)
		}
		files := map[string]int64{}
		err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil {
				files[strings.TrimPrefix(name, top+"/")] = info.Size()
			}
			return err
		})
		if err != nil {
			return err
		}
		return sameFiles(files, p.expandVars(archive))
	}
}

// sameFiles returns an error unless the regular files of an archive are all in files.
func sameFiles(files map[string]int64, archive string) error {
	wanted, err := archiveFiles(archive)
	if err != nil {
		return err
	}
	for name, size := range wanted {
		if got, ok := files[name]; size > 0 && (!ok || got != size) {
			return fmt.Errorf("%s: %d bytes wanted, %d found", name, size, got)
		}
	}
	return nil
}

// archiveFiles returns the names in an archive, with their sizes. It keeps this list in a file next
// to the archive, because reading a large archive takes long. A list in memory would add to the size
// that is measured of each process (see quiet).
func archiveFiles(archive string) (map[string]int64, error) {
	list := archive + ".files"
	files := map[string]int64{}
	err := readJSON(list, &files)
	if !errors.Is(err, fs.ErrNotExist) {
		return files, err
	}
	if err := readLayer(archive, files); err != nil {
		return nil, err
	}
	data, err := json.Marshal(files)
	if err != nil {
		return nil, err
	}
	return files, os.WriteFile(list, data, 0o644)
}

// read returns the text of a file of the place, less blanks at its ends.
func (p *place) read(name string) string {
	data, err := os.ReadFile(p.path(name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// imageFiles returns the names that an image's layers put, with the sizes of regular files. What
// layers remove is not looked at.
func imageFiles(layout, tag string) (map[string]int64, error) {
	var index struct{ Manifests []descriptor }
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return nil, err
	}
	for i := len(index.Manifests) - 1; i >= 0; i-- {
		d := index.Manifests[i]
		if tag == "" || d.Annotations[refName] == tag {
			return manifestFiles(layout, d)
		}
	}
	return nil, fmt.Errorf("%s: no tag %q", layout, tag)
}

func manifestFiles(layout string, d descriptor) (map[string]int64, error) {
	var manifest struct{ Layers, Manifests []descriptor }
	if err := readJSON(blob(layout, d), &manifest); err != nil {
		return nil, err
	}
	if len(manifest.Manifests) > 0 { // an index of platforms
		return manifestFiles(layout, manifest.Manifests[0])
	}
	files := map[string]int64{}
	for _, l := range manifest.Layers {
		if err := readLayer(blob(layout, l), files); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func blob(layout string, d descriptor) string {
	return filepath.Join(layout, "blobs", strings.Replace(d.Digest, ":", "/", 1))
}

func readJSON(name string, v any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// readLayer puts what an archive has to files.
func readLayer(name string, files map[string]int64) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := decompress(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files[strings.TrimPrefix(path.Clean("/"+hdr.Name), "/")] = hdr.Size
	}
}

// decompress tells by the first bytes what a file is.
func decompress(f *os.File) (io.Reader, error) {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil {
		return nil, err
	}
	switch {
	case string(magic[:2]) == "\x1f\x8b":
		return gzip.NewReader(f)
	case string(magic[:]) == "\x28\xb5\x2f\xfd":
		return zstd.NewReader(f)
	}
	return f, nil
}
