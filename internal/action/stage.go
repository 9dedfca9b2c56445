package action

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/cache"
	"genoci/internal/command"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// Stage is where the actions of a step are carried out. Close has to be called when its layer is
// made, or will not be.
type Stage struct {
	Source    *source.Source
	Cache     *cache.Cache
	Images    imagefs.Store
	Commands  command.Runner
	Dir       string           // root folder of the tree, without what hooks have mounted in it; "" where nothing runs
	Now       func() time.Time // the clock of file systems
	Epoch     int64            // seconds since 1970
	Clamp     *int64           // SOURCE_DATE_EPOCH; nil for none
	RealTimes bool             // times of files are kept

	Below    func(context.Context) (Tree, error)                                        // what the step stands on, with blobs that are there
	From     func(ctx context.Context, image string) (Tree, error)                      // another image
	Warn     func(text string)                                                          // is told what people should know
	Place    func(spec.Action) string                                                   // where an action stands in the spec, FILE:LINE:COL
	Progress func(ctx context.Context, what string, total int64, r io.Reader) io.Reader // tells how much of r is read

	files []io.Closer
	put   placed // by actions before an installation
}

// Tree is what layers make: as it can be looked up, and where its content is.
type Tree struct {
	View   *layer.Merged
	Layers []v1.Descriptor
}

// Close closes what the changes of actions are read from.
func (s *Stage) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	s.files = nil
	return errors.Join(errs...)
}

// TempDir makes a folder that is removed by Close, or by a later build where this one is killed.
func (s *Stage) TempDir() (string, error) {
	dir, remove, err := command.Folder(s.Cache)
	s.files = append(s.files, closer(remove))
	return dir, err
}

// tempFile makes a nameless file that Close closes.
func (s *Stage) tempFile() (*os.File, error) {
	f, err := s.Cache.Temp()
	if err == nil {
		s.files = append(s.files, f)
	}
	return f, err
}

// closer makes an io.Closer of a function.
type closer func() error

func (c closer) Close() error { return c() }
