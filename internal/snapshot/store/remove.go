package store

import (
	"path/filepath"

	"genoci/internal/beneath"
)

// RemoveAll deletes what is at path and below, as [beneath.RemoveAll] does; the folder that it lies in may be reached through symlinks.
func RemoveAll(path string) error { return beneath.RemoveAll(filepath.Dir(path), filepath.Base(path)) }
