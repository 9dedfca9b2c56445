package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"genoci/internal/durable"
	"genoci/internal/snapshot"
)

// checkFormat compares the store's format file with what this process would write. One that a crash
// has left empty, or as zeros, is written anew; of the snapshots, checkBoot then drops those that
// may have been in memory only, too.
func (s *Store) checkFormat(kind string) error {
	want := "genoci snapshots 1\nkind " + kind + "\n"
	for _, name := range []string{"uid_map", "gid_map"} {
		data, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			want += name + " " + strings.Join(strings.Fields(line), " ") + "\n"
		}
	}
	path := filepath.Join(s.dir, "format")
	have, err := os.ReadFile(path)
	if err == nil && len(bytes.Trim(have, "\x00")) == 0 {
		if err := os.Remove(filepath.Join(s.dir, "boot")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err = fs.ErrNotExist
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return durable.Replace(path, []byte(want))
	case err != nil:
		return err
	case string(have) != want:
		return fmt.Errorf("%s holds snapshots of another driver, or of other user ids; use another folder, or delete it: %w", s.dir, snapshot.ErrUnsupported)
	}
	return nil
}
