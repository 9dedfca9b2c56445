// Package space manages the disk space of all that genoci keeps: in a layout, in the cache folder,
// and with the storage drivers. [Survey] finds what there is, who needs it and what it takes;
// [Inventory.Plan] decides what is to go, without a look at the disk; [Plan.Remove] carries that
// out.
//
// Blobs count by their size, everything else by the blocks that it takes on disk. What several have
// in common belongs to none of them: "own" is what would become free if only that one went.
//
// The layout is the product, and the rest is a cache: only tags that a rule names go, and the blobs
// that nothing reaches then. Of the rest goes what nobody needs any more, and under a limit what
// costs the least time to make again for each byte. Checkouts are work of people, and go only where
// they ask for it.
package space

import (
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/cache"
	"genoci/internal/checkout"
	"genoci/internal/layout"
	"genoci/internal/snapshot"
)

// Kind is what something is kept for.
type Kind string

// The kinds, as users read them.
const (
	Images       Kind = "images"         // blobs that index.json reaches
	Blobs        Kind = "loose blobs"    // blobs that it does not reach
	Scratch      Kind = "scratch layers" // that no tag needs, and nobody has compressed
	Snapshots    Kind = "snapshots"      // unpacked trees
	Checkouts    Kind = "checkouts"      // trees that people work in
	Failed       Kind = "failed"         // trees of steps that failed
	Open         Kind = "open trees"     // that a process works with
	Results      Kind = "results"        // which layer a step made
	Indexes      Kind = "indexes"        // of layers
	Digests      Kind = "digests"        // of input files
	Downloads    Kind = "downloads"      // from URLs
	Explanations Kind = "explanations"   // what explain compares with
	Records      Kind = "records"        // folders, and what is known of layouts and trees
	Temporary    Kind = "temporary"      // files of processes that ended early
	Unusable     Kind = "unusable"       // a driver's folder that cannot be opened
)

// Kinds returns all kinds, in the order in which they are shown.
func Kinds() []Kind {
	return []Kind{
		Images, Blobs, Scratch, Snapshots, Checkouts, Failed, Open, Results, Indexes, Digests, Downloads, Explanations, Records, Temporary, Unusable,
	}
}

// Store is the folder of a storage driver.
type Store struct {
	Name   string          // of the driver
	Dir    string          // absolute
	Driver snapshot.Driver // nil where it cannot be opened
	Err    error           // why
}

// Locations is where genoci keeps things.
type Locations struct {
	Layout  *layout.Layout // nil where there is none
	Cache   *cache.Cache
	Stores  []Store
	Drivers []string // names of the folders in the cache folder that drivers may have
}

// Inventory is all that genoci keeps in some locations.
type Inventory struct {
	Layout  string  // folder; "" for none
	Cache   string  // folder
	Images  []Image // those of the layout
	Blobs   []Blob  // those of the layout
	Scratch Sum     // layers of the layout that no tag needs
	Trees   []Tree
	Files   []File // of the cache folder, without those of drivers in it
	Folders []File // of the cache folder and below, without the cache folder itself
	Foreign []string
	Stores  []StoreSpace
	Unsure  []error // why it is not known of everything whether somebody needs it

	locations Locations
	gone      *layout.Collection
	excluded  bool // nobody uses the cache
}

// Image is an entry of index.json, or several of one digest.
type Image struct {
	Digest digest.Digest
	Tags   []string
	Size   int64
	Own    int64
	Blobs  []v1.Descriptor
	Chain  []digest.Digest // chain IDs of its trees, those of parts of its layers included
}

// Blob is a file of the layout.
type Blob struct {
	Digest digest.Digest
	Size   int64
	Images int // that reach it
}

// Tree is an unpacked tree of a driver.
type Tree struct {
	Store *Store
	Kind  Kind
	Name  string             // for the driver
	Work  *checkout.Checkout // of a checkout that is known as such
	Size  int64
	Own   int64
	Used  time.Time
	Tags  []string // images whose tree it is
	Below []string // images that stand on it
	Known bool     // a result of a step is this tree

	parts []string
	inUse bool // a process has it, or it can be seen by all
}

// needed reports whether a tag or a result of the cache has the tree.
func (t *Tree) needed() bool {
	return len(t.Tags) > 0 || len(t.Below) > 0 || t.Known || digest.Digest(t.Name).Validate() != nil
}

// File is a file or folder of the cache.
type File struct {
	Kind Kind
	Path string
	Size int64
	Used time.Time

	unneeded Reason        // why nobody needs it; Needed where somebody does
	cost     time.Duration // to make it again
	held     bool          // a process has it
	more     []string      // files that go with it, and count as it
}

// StoreSpace is what a driver's folder takes.
type StoreSpace struct {
	*Store
	Size  int64            // of everything in it
	Rest  int64            // of its own records
	Parts map[string]int64 // of which trees consist
}

// Sum is what things of a kind take.
type Sum struct {
	Kind  Kind
	Count int
	Size  int64
}

// Sums returns what each kind takes. What trees have in common counts once, with the first of their
// kinds.
func (inv *Inventory) Sums() []Sum {
	sums := map[Kind]*Sum{}
	for _, k := range Kinds() {
		sums[k] = &Sum{Kind: k}
	}
	add := func(k Kind, n int, size int64) {
		sums[k].Count += n
		sums[k].Size += size
	}
	for _, b := range inv.Blobs {
		if b.Images == 0 {
			add(Blobs, 1, b.Size)
		} else {
			add(Images, 0, b.Size)
		}
	}
	sums[Images].Count = len(inv.Images)
	add(Scratch, inv.Scratch.Count, inv.Scratch.Size)
	for _, f := range inv.Files {
		add(f.Kind, 1, f.Size)
	}
	for _, f := range inv.Folders {
		add(Records, 0, f.Size)
	}
	for i := range inv.Stores {
		inv.sumStore(&inv.Stores[i], add)
	}
	var all []Sum
	for _, k := range Kinds() {
		all = append(all, *sums[k])
	}
	return all
}

func (inv *Inventory) sumStore(s *StoreSpace, add func(Kind, int, int64)) {
	if s.Driver == nil {
		add(Unusable, 1, s.Size)
		return
	}
	counted := map[string]bool{}
	for _, k := range []Kind{Snapshots, Checkouts, Failed, Open} {
		for _, t := range inv.Trees {
			if t.Store != s.Store || t.Kind != k {
				continue
			}
			add(k, 1, 0)
			for _, id := range t.parts {
				if !counted[id] {
					counted[id] = true
					add(k, 0, s.Parts[id])
				}
			}
		}
	}
	add(Records, 0, s.Rest)
	for id, n := range s.Parts {
		if !counted[id] {
			add(Temporary, 1, n)
		}
	}
}

// Kept returns what everything beside the images takes: the cache and the drivers' folders.
func (inv *Inventory) Kept() (n int64) {
	for _, f := range inv.Files {
		n += f.Size
	}
	for _, f := range inv.Folders {
		n += f.Size
	}
	for _, s := range inv.Stores {
		n += s.Size
	}
	return n
}

// Tagged returns what the images take.
func (inv *Inventory) Tagged() (n int64) {
	for _, b := range inv.Blobs {
		if b.Images > 0 {
			n += b.Size
		}
	}
	return n
}
