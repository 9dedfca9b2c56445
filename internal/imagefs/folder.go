package imagefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"genoci/internal/beneath"
)

// ErrNotEmpty says that a folder has something in it.
var ErrNotEmpty = errors.New("not empty")

// IntoEmpty calls fill for the folder dir. It makes dir, for the caller alone; where it exists, it
// must be empty, otherwise the error wraps ErrNotEmpty. If fill fails, what it put there is
// removed, and so is dir if it was made.
func IntoEmpty(dir string, fill func() error) error {
	made, err := emptyFolder(dir)
	if err != nil {
		return err
	}
	if err = fill(); err == nil {
		return nil
	}
	if removeErr := emptyAgain(dir, made); removeErr != nil {
		return errors.Join(err, removeErr)
	}
	return err
}

// emptyFolder makes the folder dir, or finds that it is empty; made says which.
func emptyFolder(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o700)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, os.ErrExist) {
		return false, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	if len(entries) > 0 {
		return false, fmt.Errorf("%s: %w", dir, ErrNotEmpty)
	}
	return false, nil
}

// emptyAgain removes what is in dir, and dir itself if it was made.
func emptyAgain(dir string, made bool) error {
	if made {
		return beneath.RemovePath(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, beneath.RemovePath(filepath.Join(dir, e.Name())))
	}
	return err
}
