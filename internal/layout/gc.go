package layout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/beneath"
	"genoci/internal/durable"
	"genoci/internal/image"
)

// Collection is a garbage collection that was begun: it is known what goes, and until Close nobody
// uses the layout or changes its tags.
type Collection struct {
	Tags  []Tag           // that go
	Blobs []v1.Descriptor // digest and size of those that nothing reaches then
	Temps []Temp          // that killed builds left

	l     *Layout
	locks []*os.File
}

// Temp is a temporary file that no live process holds.
type Temp struct {
	Path    string
	Size    int64
	Scratch bool // it is a layer that no tag needs
}

// Choice says what a collection takes beside what nothing reaches, and what it leaves although
// nothing does.
type Choice struct {
	Drop []string        // tags that go
	Keep []digest.Digest // manifests and indexes that stay, with all that they reach
}

// Collect finds the blobs that nothing in index.json reaches, named there or not (through nested
// indexes, manifests and subjects too), and temporary files that no live process holds. choose,
// which may be nil, is asked when nobody can change anything any more. Nothing is removed before
// Remove. A missing manifest reaches nothing; where index.json reaches one that cannot be read, the
// error names it. The error wraps ErrInUse while anyone holds Use, this Layout included, and
// [beneath.ErrElsewhere] where a folder of the layout is a symlink or a mount: what it leads to may
// be somebody else's.
func (l *Layout) Collect(ctx context.Context, choose func([]Tag) (Choice, error)) (*Collection, error) {
	c := &Collection{l: l}
	err := c.lock(ctx)
	if err == nil {
		err = c.find(ctx, choose)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("gc %s: %w", l.dir, err)
	}
	return c, nil
}

func (c *Collection) lock(ctx context.Context) error {
	folders := []string{v1.ImageBlobsDir}
	for _, a := range algorithms() {
		folders = append(folders, filepath.Join(v1.ImageBlobsDir, a.String()))
	}
	if err := beneath.Check(c.l.dir, folders...); err != nil {
		return err
	}
	blobs, err := c.l.lockBlobs(func(path string) (*os.File, error) {
		return durable.LockWithin(ctx, path, durable.Exclusive, time.Second) // most use a layout only for a moment
	})
	if errors.Is(err, durable.ErrLocked) {
		return ErrInUse
	}
	if err != nil {
		return err
	}
	c.locks = append(c.locks, blobs)
	index, err := durable.LockPath(ctx, c.l.dir, durable.Exclusive)
	if err != nil {
		return err
	}
	c.locks = append(c.locks, index)
	return nil
}

// Close ends the collection. Further calls do nothing.
func (c *Collection) Close() {
	for _, f := range c.locks {
		durable.Unlock(f)
	}
	c.locks = nil
}

// Bytes returns the size of all files that go.
func (c *Collection) Bytes() (n int64) {
	for _, b := range c.Blobs {
		n += b.Size
	}
	for _, t := range c.Temps {
		n += t.Size
	}
	return n
}

func (c *Collection) find(ctx context.Context, choose func([]Tag) (Choice, error)) error {
	x, err := c.l.readIndex()
	if err != nil {
		return err
	}
	var choice Choice
	if choose != nil {
		if choice, err = choose(x.Tags()); err != nil {
			return err
		}
	}
	roots, err := c.l.describe(choice.Keep)
	if err != nil {
		return err
	}
	drop := set(choice.Drop)
	for _, e := range x.entries {
		if name := e.name(); drop[name] {
			c.Tags = append(c.Tags, Tag{name, e.desc})
		} else {
			roots = append(roots, e.desc)
		}
	}
	reached := map[digest.Digest]bool{}
	var unreadable error
	w := walker{l: c.l, seen: map[claim]bool{}, visit: func(desc v1.Descriptor, _ []byte, err error) {
		reached[desc.Digest] = true
		if err != nil && !errors.Is(err, ErrNotExist) {
			unreadable = errors.Join(unreadable, err)
		}
	}}
	for _, desc := range roots {
		if err := w.walk(ctx, desc); err != nil {
			return err
		}
	}
	if unreadable != nil {
		return unreadable
	}
	for desc, err := range c.l.Blobs() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if !reached[desc.Digest] {
			c.Blobs = append(c.Blobs, desc)
		}
	}
	return c.findTemps()
}

// describe returns the descriptors of manifests and indexes that are there.
func (l *Layout) describe(digests []digest.Digest) ([]v1.Descriptor, error) {
	var all []v1.Descriptor
	for _, d := range digests {
		path, err := l.blobPath(d)
		if err != nil {
			return nil, err
		}
		st, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		desc := v1.Descriptor{Digest: d, Size: st.Size()}
		data, err := l.read(desc)
		if err != nil {
			return nil, err
		}
		desc.MediaType = image.MediaType(data)
		all = append(all, desc)
	}
	return all, nil
}

// findTemps finds the temporary files whose lock is free. Those of index.json are written under the
// lock that c has.
func (c *Collection) findTemps() error {
	for _, dir := range []string{c.l.dir, c.l.path(v1.ImageBlobsDir)} {
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, file := range files {
			if !durable.IsTemp(file.Name()) || !file.Type().IsRegular() {
				continue
			}
			path := filepath.Join(dir, file.Name())
			f, err := lockTemp(path)
			if f == nil {
				if err != nil {
					return err
				}
				continue
			}
			st, err := f.Stat()
			durable.Unlock(f)
			if err != nil {
				return err
			}
			c.Temps = append(c.Temps, Temp{path, st.Size(), strings.HasPrefix(file.Name(), scratchPrefix)})
		}
	}
	return nil
}

// lockTemp locks a temporary file; nil where a process holds it, or where it is gone.
func lockTemp(path string) (*os.File, error) {
	f, err := durable.TryLockPath(path, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) || errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// Remove removes what was found: the tags first, in one step, so that whatever ends the process, no
// tag stands for an image of which a part is missing.
func (c *Collection) Remove(ctx context.Context) error {
	if err := c.remove(ctx); err != nil {
		return fmt.Errorf("gc %s: %w", c.l.dir, err)
	}
	return nil
}

func (c *Collection) remove(ctx context.Context) error {
	if len(c.Tags) > 0 {
		err := c.l.update(func(x *Index) error {
			names := make([]string, len(c.Tags))
			for i, t := range c.Tags {
				names[i] = t.Name
			}
			x.Remove(names...)
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	for _, t := range c.Temps {
		f, err := lockTemp(t.Path)
		if f == nil {
			if err != nil {
				return err
			}
			continue
		}
		err = c.l.remove(t.Path)
		durable.Unlock(f)
		if err != nil {
			return err
		}
	}
	for _, b := range c.Blobs {
		path, err := c.l.blobPath(b.Digest)
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = c.l.remove(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove removes a file of the layout.
func (l *Layout) remove(path string) error {
	name, err := filepath.Rel(l.dir, path)
	if err != nil {
		return err
	}
	return beneath.Remove(l.dir, name)
}
