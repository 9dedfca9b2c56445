package space

import (
	"cmp"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/layout"
)

// Policy is what is to go beside what nobody needs. The zero value adds nothing but trees of steps
// that failed long ago.
type Policy struct {
	Limit     *int64 // of all beside the images, in bytes; nil: none
	Failed    bool   // all trees of steps that failed
	All       bool   // everything that is no work of people
	Checkouts bool   // that too
}

// Plan is what is to be removed.
type Plan struct {
	Tags  []layout.Tag
	Blobs []v1.Descriptor // of the layout
	Temps []layout.Temp   // of the layout
	Items []Item          // of the cache and the drivers, in the order in which they go
	Left  int64           // what is left beside the images
	Limit *int64

	inv     *Inventory
	now     time.Time
	folders []string // that are empty then, the deepest first
}

// Item is a tree or a file that is to go.
type Item struct {
	Kind Kind
	Name string // a path below the cache folder, or a driver and the name of a tree
	Size int64  // that becomes free
	Why  Reason

	// One of these.
	tree  *Tree
	file  *File
	store *Store
}

// IsTree reports whether it is a tree of a driver.
func (i Item) IsTree() bool { return i.tree != nil }

// Over reports whether more is left than the limit allows.
func (p *Plan) Over() bool { return p.Limit != nil && p.Left > *p.Limit }

// Freed returns what becomes free, the layout included.
func (p *Plan) Freed() (n int64) {
	for _, i := range p.Items {
		n += i.Size
	}
	for _, b := range p.Blobs {
		n += b.Size
	}
	for _, t := range p.Temps {
		n += t.Size
	}
	return n
}

// Plan decides what goes.
func (inv *Inventory) Plan(policy Policy, now time.Time) *Plan {
	p := &planner{
		plan:     &Plan{Left: inv.Kept(), Limit: policy.Limit, inv: inv, now: now},
		users:    map[*Store]map[string]int{},
		parts:    map[*Store]map[string]int64{},
		children: map[string]int{},
		sizes:    map[string]int64{},
	}
	if g := inv.gone; g != nil {
		p.plan.Tags, p.plan.Blobs, p.plan.Temps = g.Tags, g.Blobs, g.Temps
	}
	p.count()
	p.unneeded(policy, now)
	if policy.Limit != nil {
		p.shrink(*policy.Limit)
	}
	if policy.All || p.plan.Over() {
		p.emptyStores()
	}
	return p.plan
}

// planner makes a plan.
type planner struct {
	plan     *Plan
	users    map[*Store]map[string]int // trees that are left, by the parts that they consist of
	parts    map[*Store]map[string]int64
	children map[string]int   // what is left in folders of the cache
	sizes    map[string]int64 // of those folders
	trees    []*Tree          // that are left
	files    []*File
}

// count notes what there is.
func (p *planner) count() {
	for i := range p.plan.inv.Stores {
		s := &p.plan.inv.Stores[i]
		p.users[s.Store], p.parts[s.Store] = map[string]int{}, s.Parts
		p.children[filepath.Dir(s.Dir)]++
	}
	for i := range p.plan.inv.Trees {
		t := &p.plan.inv.Trees[i]
		p.trees = append(p.trees, t)
		for _, id := range t.parts {
			p.users[t.Store][id]++
		}
	}
	for i := range p.plan.inv.Files {
		f := &p.plan.inv.Files[i]
		p.files = append(p.files, f)
		for _, path := range append([]string{f.Path}, f.more...) {
			p.children[filepath.Dir(path)]++
		}
	}
	for _, path := range p.plan.inv.Foreign {
		p.children[filepath.Dir(path)]++
	}
	for _, f := range p.plan.inv.Folders {
		p.sizes[f.Path] = f.Size
		p.children[filepath.Dir(f.Path)]++
	}
	for _, f := range p.plan.inv.Folders {
		if p.children[f.Path] == 0 {
			p.children[f.Path]++
			p.leave(f.Path)
		}
	}
}

// leave notes that something in a folder goes, and the folder with the last of it.
func (p *planner) leave(dir string) {
	p.children[dir]--
	if size, ok := p.sizes[dir]; ok && p.children[dir] == 0 {
		p.plan.folders = append(p.plan.folders, dir)
		p.plan.Left -= size
		p.leave(filepath.Dir(dir))
	}
}

// frees returns what becomes free with a tree.
func (p *planner) frees(t *Tree) (n int64) {
	for _, id := range t.parts {
		if p.users[t.Store][id] == 1 {
			n += p.parts[t.Store][id]
		}
	}
	return n
}

func (p *planner) dropTree(t *Tree, why Reason) {
	size := p.frees(t)
	for _, id := range t.parts {
		p.users[t.Store][id]--
	}
	p.plan.Left -= size
	p.plan.Items = append(p.plan.Items, Item{Kind: t.Kind, Name: t.Store.Name + " " + t.Name, Size: size, Why: why, tree: t})
	p.trees = slices.DeleteFunc(p.trees, func(other *Tree) bool { return other == t })
}

func (p *planner) dropFile(f *File, why Reason) {
	name, err := filepath.Rel(p.plan.inv.Cache, f.Path)
	if err != nil {
		name = f.Path
	}
	p.plan.Left -= f.Size
	p.plan.Items = append(p.plan.Items, Item{Kind: f.Kind, Name: name, Size: f.Size, Why: why, file: f})
	for _, path := range append([]string{f.Path}, f.more...) {
		p.leave(filepath.Dir(path))
	}
}

// unneeded drops what nobody needs, and what the policy names.
func (p *planner) unneeded(policy Policy, now time.Time) {
	for _, t := range slices.Clone(p.trees) {
		why := Needed
		switch {
		case t.inUse:
		case policy.All && (t.Kind != Checkouts || policy.Checkouts):
			why = Everything
		case t.Kind == Failed && policy.Failed:
			why = FailedStep
		case t.Kind == Failed && now.Sub(t.Used) > oldFailed:
			why = OldFailedStep
		case t.Kind == Snapshots && !t.needed() && len(p.plan.inv.Unsure) == 0:
			why = NoUse
		}
		if why != Needed {
			p.dropTree(t, why)
		}
	}
	var left []*File
	for _, f := range p.files {
		why := f.unneeded
		if policy.All && !f.held {
			why = cmp.Or(why, Everything)
		}
		if why == Needed {
			left = append(left, f)
			continue
		}
		p.dropFile(f, why)
	}
	p.files = left
}

// The price of a byte of trees, which is what it takes to make it again.
const (
	snapshotPrice = 6.0                       // nanoseconds: 170 MB/s
	failedCost    = float64(60 * time.Second) // a person waits for it
)

// shrink drops what costs the least time to make again for each byte, and of equals what was not
// used for longest, until all that is left is within the limit.
func (p *planner) shrink(limit int64) {
	const why = Limit
	files := slices.DeleteFunc(slices.Clone(p.files), func(f *File) bool { return f.Kind == Temporary })
	slices.SortStableFunc(files, func(a, b *File) int {
		return cmp.Or(cmp.Compare(a.price(), b.price()), a.Used.Compare(b.Used), cmp.Compare(a.Path, b.Path))
	})
	for p.plan.Left > limit {
		tree, price := p.cheapest()
		switch {
		case len(files) > 0 && (tree == nil || files[0].price() < price):
			p.dropFile(files[0], why)
			files = files[1:]
		case tree != nil:
			p.dropTree(tree, why)
		default:
			p.files = files
			return
		}
	}
	p.files = files
}

// price returns the cost of a byte in nanoseconds.
func (f *File) price() float64 { return float64(f.cost) / float64(max(f.Size, 1)) }

// cheapest returns the tree that is to go first, with the price of a byte; nil where none would
// free anything.
func (p *planner) cheapest() (best *Tree, price float64) {
	for _, t := range p.trees {
		if t.inUse || t.Kind != Snapshots && t.Kind != Failed {
			continue
		}
		n := p.frees(t)
		if n == 0 {
			continue
		}
		own := snapshotPrice
		if t.Kind == Failed {
			own = failedCost / float64(n)
		}
		older := best != nil && own == price && cmp.Or(t.Used.Compare(best.Used), cmp.Compare(t.Name, best.Name)) < 0
		if best == nil || own < price || older {
			best, price = t, own
		}
	}
	return best, price
}

// emptyStores drops the records of drivers without trees.
func (p *planner) emptyStores() {
	for i := range p.plan.inv.Stores {
		s := &p.plan.inv.Stores[i]
		if s.Driver == nil || slices.ContainsFunc(p.trees, func(t *Tree) bool { return t.Store == s.Store }) {
			continue
		}
		size := s.Rest
		for id, n := range s.Parts {
			if _, counted := p.users[s.Store][id]; !counted { // with its last tree
				size += n
			}
		}
		p.plan.Left -= size
		p.plan.Items = append(p.plan.Items, Item{Kind: Records, Name: s.Name, Size: size, Why: NothingLeft, store: s.Store})
		p.leave(filepath.Dir(s.Dir))
	}
}
