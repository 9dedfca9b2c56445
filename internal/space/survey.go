package space

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/beneath"
	"genoci/internal/cache"
	"genoci/internal/checkout"
	"genoci/internal/image"
	"genoci/internal/kept"
	"genoci/internal/layout"
	"genoci/internal/snapshot"
)

// Survey finds all that is in the locations. What a collection of the layout is to remove counts as
// gone; nil: nothing is. excluded says that nobody uses the cache (Cache.Exclude), so that no
// temporary file in it has a process.
func Survey(ctx context.Context, p Locations, gone *layout.Collection, excluded bool) (*Inventory, error) {
	inv := &Inventory{Cache: p.Cache.Root(), locations: p, gone: gone, excluded: excluded}
	s := &surveyor{
		inv:     inv,
		ctx:     ctx,
		chains:  map[digest.Digest]*chain{},
		layers:  map[digest.Digest]bool{},
		blobs:   map[digest.Digest]bool{},
		scratch: map[string]bool{},
	}
	steps := []func() error{s.layout, s.otherLayouts, s.results, s.downloads, s.files, s.stores}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return inv, nil
}

// surveyor makes an inventory.
type surveyor struct {
	inv     *Inventory
	ctx     context.Context
	chains  map[digest.Digest]*chain // of images, and of results
	layers  map[digest.Digest]bool   // DiffIDs of both
	blobs   map[digest.Digest]bool   // of all layouts
	scratch map[string]bool          // digits of the DiffIDs of their scratch layers
}

// chain is a tree that somebody needs.
type chain struct {
	tags, below []string
	known       bool
}

func (s *surveyor) chain(id digest.Digest) *chain {
	c := s.chains[id]
	if c == nil {
		c = &chain{}
		s.chains[id] = c
	}
	return c
}

// need notes the trees and layers of an image, which people know by names. It returns the chain
// IDs.
func (s *surveyor) need(stacks [][]digest.Digest, names []string) (ids []digest.Digest) {
	for _, diffIDs := range stacks {
		chainIDs := image.ChainIDs(diffIDs)
		for i, id := range chainIDs {
			s.layers[diffIDs[i]] = true
			c := s.chain(id)
			if i == len(chainIDs)-1 {
				c.tags = append(c.tags, names...)
			} else {
				c.below = append(c.below, names...)
			}
		}
		ids = append(ids, chainIDs...)
	}
	return ids
}

// layout looks at the layout of the locations.
func (s *surveyor) layout() error {
	l := s.inv.locations.Layout
	if l == nil {
		return nil
	}
	dir, err := filepath.Abs(l.Dir())
	if err != nil {
		return err
	}
	s.inv.Layout = dir
	holdings, err := l.Holdings(s.ctx)
	if err != nil {
		if holdings == nil {
			return err
		}
		s.inv.Unsure = append(s.inv.Unsure, err)
	}
	removed := map[digest.Digest]bool{}
	if s.inv.gone != nil {
		for _, b := range s.inv.gone.Blobs {
			removed[b.Digest] = true
		}
		tags := map[string]bool{}
		for _, t := range s.inv.gone.Tags {
			tags[t.Name] = true
		}
		holdings = slices.DeleteFunc(holdings, func(h layout.Holding) bool { return tags[h.Tag] })
	}
	at := map[digest.Digest]int{}
	for _, h := range holdings {
		i, ok := at[h.Descriptor.Digest]
		if !ok {
			i = len(s.inv.Images)
			at[h.Descriptor.Digest] = i
			s.inv.Images = append(s.inv.Images, Image{Digest: h.Descriptor.Digest, Blobs: h.Blobs})
		}
		if h.Tag != "" {
			s.inv.Images[i].Tags = append(s.inv.Images[i].Tags, h.Tag)
		}
	}
	users := map[digest.Digest]int{}
	for _, h := range holdings {
		if i, ok := at[h.Descriptor.Digest]; ok {
			delete(at, h.Descriptor.Digest)
			img := &s.inv.Images[i]
			img.Chain = s.need(h.Stacks, namesOf(img))
			for _, b := range img.Blobs {
				users[b.Digest]++
			}
		}
	}
	for i := range s.inv.Images {
		for _, b := range s.inv.Images[i].Blobs {
			s.inv.Images[i].Size += b.Size
			if users[b.Digest] == 1 {
				s.inv.Images[i].Own += b.Size
			}
		}
	}
	return s.allBlobs(l, users, removed)
}

// namesOf returns the tags of an image, or its digest where it has none.
func namesOf(img *Image) []string {
	if len(img.Tags) == 0 {
		return []string{string(img.Digest)}
	}
	return img.Tags
}

func (s *surveyor) allBlobs(l *layout.Layout, users map[digest.Digest]int, removed map[digest.Digest]bool) error {
	for b, err := range l.Blobs() {
		if err != nil {
			return err
		}
		if !removed[b.Digest] {
			s.blobs[b.Digest] = true
			s.inv.Blobs = append(s.inv.Blobs, Blob{Digest: b.Digest, Size: b.Size, Images: users[b.Digest]})
		}
	}
	if s.inv.gone != nil {
		return nil // scratch layers go with it
	}
	return s.scratchOf(l, func(size int64) {
		s.inv.Scratch.Count++
		s.inv.Scratch.Size += size
	})
}

// scratchOf notes the scratch layers of a layout.
func (s *surveyor) scratchOf(l *layout.Layout, found func(size int64)) error {
	all, err := l.ScratchLayers()
	for digits, size := range all {
		s.scratch[digits] = true
		found(size)
	}
	return err
}

// otherLayouts looks at the layouts that the cache knows of. One that is gone needs nothing; of one
// that cannot be read nobody knows what it needs.
func (s *surveyor) otherLayouts() error {
	files, err := os.ReadDir(filepath.Join(s.inv.Cache, cache.LayoutsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		dir, err := cache.LayoutAt(filepath.Join(s.inv.Cache, cache.LayoutsDir, f.Name()))
		if err != nil || dir == s.inv.Layout {
			continue
		}
		if err := s.otherLayout(dir); err != nil {
			if s.ctx.Err() != nil {
				return s.ctx.Err()
			}
			s.inv.Unsure = append(s.inv.Unsure, err)
		}
	}
	return nil
}

func (s *surveyor) otherLayout(dir string) error {
	l, err := layout.Open(dir)
	if errors.Is(err, layout.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()
	holdings, err := l.Holdings(s.ctx)
	for _, h := range holdings {
		s.need(h.Stacks, []string{dir + ":" + cmp.Or(h.Tag, string(h.Descriptor.Digest))})
	}
	for b, listErr := range l.Blobs() {
		if listErr != nil {
			return listErr
		}
		s.blobs[b.Digest] = true
	}
	return errors.Join(err, s.scratchOf(l, func(int64) {}))
}

// results looks at the entries of the cache.
func (s *surveyor) results() error {
	newest, err := s.inv.locations.Cache.Newest()
	if err != nil {
		return err
	}
	for e, err := range s.inv.locations.Cache.Stored() {
		if err == nil {
			err = s.ctx.Err()
		}
		if err != nil {
			return err
		}
		f := file(Results, e.Path, e.Info)
		f.cost = time.Duration(e.Seconds * float64(time.Second))
		there := e.DiffID == "" || e.Tar > 0 && s.scratch[e.DiffID.Encoded()]
		for _, b := range e.Blobs {
			there = there || s.blobs[b.Digest]
		}
		switch {
		case there && e.DiffID != "":
			s.layers[e.DiffID] = true
			if e.Chain != "" {
				s.chain(e.Chain).known = true
			}
		case e.DiffID == "", newest[e.ID()]: // what it made is to be known, though its layer is gone
			s.retire(&f)
		case !there:
			f.unneeded = s.unless(NoBlob)
		}
		s.inv.Files = append(s.inv.Files, f)
	}
	return nil
}

// unless returns why something is not needed, or Needed where that is not sure.
func (s *surveyor) unless(why Reason) Reason {
	if len(s.inv.Unsure) > 0 {
		return Needed
	}
	return why
}

// file describes a file of the cache.
func file(kind Kind, path string, info fs.FileInfo) File {
	return File{Kind: kind, Path: path, Size: blocks(info), Used: info.ModTime()}
}

// stores measures the folders of the drivers.
func (s *surveyor) stores() error {
	for i := range s.inv.locations.Stores {
		of := &s.inv.locations.Stores[i]
		if of.Driver == nil {
			n, err := beneath.DiskUsage(s.ctx, of.Dir, nil)
			if err != nil {
				s.inv.Unsure = append(s.inv.Unsure, err)
			}
			s.inv.Stores = append(s.inv.Stores, StoreSpace{Store: of, Size: n})
			continue
		}
		if err := s.store(of); err != nil {
			return fmt.Errorf("driver %s: %w", of.Name, err)
		}
	}
	slices.SortFunc(s.inv.Trees, func(a, b Tree) int {
		return cmp.Or(cmp.Compare(a.Store.Name, b.Store.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return nil
}

func (s *surveyor) store(of *Store) error {
	space, err := of.Driver.Space(s.ctx)
	if err != nil {
		return err
	}
	trees, err := of.Driver.Kept(s.ctx)
	if err != nil {
		return err
	}
	checkouts, err := checkout.Store{Driver: of.Driver}.List(s.ctx)
	if err != nil {
		return err
	}
	total := StoreSpace{Store: of, Size: space.Rest, Rest: space.Rest, Parts: space.Parts}
	users := map[string]int{}
	for _, n := range space.Parts {
		total.Size += n
	}
	for _, t := range space.Trees {
		for _, id := range t.Parts {
			users[id]++
		}
	}
	for _, ts := range space.Trees {
		t := Tree{Store: of, Kind: Snapshots, Name: ts.Name, Used: ts.Used, parts: ts.Parts}
		for _, id := range ts.Parts {
			t.Size += space.Parts[id]
			if users[id] == 1 {
				t.Own += space.Parts[id]
			}
		}
		switch c := s.chains[digest.Digest(ts.Name)]; {
		case ts.Kept:
			i := slices.IndexFunc(trees, func(k snapshot.Kept) bool { return k.Name == ts.Name })
			if i < 0 {
				continue // dropped meanwhile
			}
			t.Kind, t.Used, t.inUse = keptKind(ts.Name), trees[i].Since, trees[i].Held
			if c := slices.IndexFunc(checkouts, func(c *checkout.Checkout) bool { return c.Kept.Name == ts.Name }); c >= 0 {
				t.Work = checkouts[c]
			}
		case ts.Name == "":
			t.Kind, t.inUse = Open, true
		case c != nil:
			t.Tags, t.Below, t.Known = c.tags, c.below, c.known
		}
		s.inv.Trees = append(s.inv.Trees, t)
	}
	s.inv.Stores = append(s.inv.Stores, total)
	return nil
}

// keptKind returns what a kept tree is. What is not known is treated as work of somebody.
func keptKind(name string) Kind {
	if _, ok := kept.FailedTarget(name); ok {
		return Failed
	}
	return Checkouts
}
