package space

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/layout"
	"genoci/internal/snapshot"
)

var today = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func TestExpired(t *testing.T) {
	// NAME=IMAGE, in the order of index.json.
	tags := func(list string) (all []layout.Tag) {
		for _, f := range strings.Fields(list) {
			name, img, _ := strings.Cut(f, "=")
			all = append(all, layout.Tag{Name: name, Descriptor: v1.Descriptor{Digest: digest.FromString(img)}})
		}
		return all
	}
	const web = "web=c web-2026-11-20_1=a web-2026-11-24_1=b web-2026-11-26_1=c web-2026-11-26_2=c web-2026-11-26_10=d other=z "
	for name, c := range map[string]struct {
		keep Keep
		tags string
		want string
	}{
		"no rule":                   {Keep{}, web, ""},
		"count":                     {Keep{Count: 2}, web, "web-2026-11-20_1 web-2026-11-24_1"},
		"one, and that of NAME":     {Keep{Count: 1}, web, "web-2026-11-20_1 web-2026-11-24_1 web-2026-11-26_1"},
		"more than there are":       {Keep{Count: 20}, web, ""},
		"days":                      {Keep{Days: 3}, web, "web-2026-11-20_1"},
		"today":                     {Keep{Days: 1}, web, "web-2026-11-20_1 web-2026-11-24_1"},
		"either keeps":              {Keep{Count: 3, Days: 1}, web, "web-2026-11-20_1"},
		"rolled back":               {Keep{Count: 1}, "web=a web-2026-11-20_1=a web-2026-11-24_1=b web-2026-11-26_1=c", "web-2026-11-24_1"},
		"no NAME":                   {Keep{Count: 1}, "web-2026-11-20_1=a web-2026-11-24_1=b", "web-2026-11-20_1"},
		"builds that are one image": {Keep{Count: 2}, "web-2026-11-20_1=a web-2026-11-21_1=b web-2026-11-22_1=c web-2026-11-23_1=c web-2026-11-24_1=c", "web-2026-11-20_1"},
		"an image that came again":  {Keep{Count: 2}, "web-2026-11-20_1=a web-2026-11-21_1=b web-2026-11-22_1=a", ""},
		"each name by itself":       {Keep{Count: 1}, "a-2026-11-20_1=a b-2026-11-19_1=b", ""},
		"names that are not dated":  {Keep{Count: 1, Days: 1}, "web-2025-01-01=a web-2025-13-01_1=a v1=b release=c", ""},
		"the first of two tags":     {Keep{Count: 1}, "web=a web=b web-2026-11-24_1=a web-2026-11-25_1=b web-2026-11-26_1=c", "web-2026-11-25_1"},
		"a name that is dated too":  {Keep{Count: 1}, "w-2026-11-20_1=a w-2026-11-20_1-2026-11-21_1=b w-2026-11-20_1-2026-11-22_1=c", "w-2026-11-20_1-2026-11-21_1"},
		"numbers, not their digits": {Keep{Count: 1}, "web-2026-11-20_9=a web-2026-11-20_10=b", "web-2026-11-20_9"},
	} {
		if got := strings.Join(c.keep.Expired(tags(c.tags), today), " "); got != c.want {
			t.Errorf("%s: expired are %q, want %q", name, got, c.want)
		}
	}
}

// fixture is an inventory to plan with: a driver with the parts a, b and c of 100, 10 and 1 MB.
// base is a, left is a and b, right is a and c.
func fixture() *Inventory {
	const mb = 1 << 20
	name := func(s string) string { return string(digest.FromString(s)) }
	s := &Store{Name: "test", Dir: "/cache/test", Driver: fakeDriver{}}
	day := func(n int) time.Time { return today.AddDate(0, 0, n) }
	return &Inventory{
		Cache: "/cache",
		Stores: []StoreSpace{{
			Store: s, Size: 111*mb + 1000, Rest: 1000, Parts: map[string]int64{"a": 100 * mb, "b": 10 * mb, "c": mb},
		}},
		Trees: []Tree{
			{Store: s, Kind: Snapshots, Name: name("base"), Used: day(-3), Below: []string{"left"}, parts: []string{"a"}},
			{Store: s, Kind: Snapshots, Name: name("left"), Used: day(-1), Tags: []string{"left"}, parts: []string{"b", "a"}},
			{Store: s, Kind: Snapshots, Name: name("right"), Used: day(-2), Known: true, parts: []string{"c", "a"}},
		},
		Files: []File{
			{Kind: Results, Path: "/cache/steps/ab/cd.json", Size: 4096, Used: day(-9), cost: time.Minute},
			{Kind: Indexes, Path: "/cache/toc/ab", Size: mb, Used: day(-9), cost: time.Second},
			{Kind: Downloads, Path: "/cache/inputs/ab", Size: mb, Used: day(-9), cost: time.Second / 2, more: []string{"/cache/inputs/url-ab.json"}},
			{Kind: Explanations, Path: "/cache/last/ab", Size: 4096, Used: day(0)},
		},
		Folders: []File{
			{Path: "/cache/inputs", Size: 4096},
			{Path: "/cache/last", Size: 4096},
			{Path: "/cache/steps", Size: 4096},
			{Path: "/cache/steps/ab", Size: 4096},
			{Path: "/cache/toc", Size: 4096},
		},
	}
}

// fakeDriver stands for one that can be opened.
type fakeDriver struct{ snapshot.Driver }

// outline returns what goes, a line for each.
func outline(p *Plan) string {
	var b strings.Builder
	for _, i := range p.Items {
		name := i.Name
		for _, tree := range []string{"base", "left", "right"} {
			name = strings.ReplaceAll(name, string(digest.FromString(tree)), tree)
		}
		fmt.Fprintf(&b, "%d %s\n", i.Size, name)
	}
	return b.String()
}

func limit(n int64) Policy { return Policy{Limit: &n} }

// What costs least for a byte goes first, then what was not used for longest; a tree that others
// stand on frees nothing before those went.
func TestLimit(t *testing.T) {
	inv := fixture()
	const all = `4096 last/ab
1048576 test right
10485760 test left
104857600 test base
1048576 inputs/ab
1048576 toc/ab
4096 steps/ab/cd.json
1000 test
`
	lines := strings.SplitAfter(strings.TrimSuffix(all, "\n"), "\n")
	total := inv.Kept()
	for _, c := range []struct {
		limit int64
		items int
	}{
		{total, 0},
		{total - 1, 1},
		{total - 8192, 1}, // the folder is empty then, and goes too
		{total - 8193, 2},
		{100 << 20, 4},
		{3 << 20, 4},
		{1 << 20, 6},
		{20000, 6},
		{10000, 7},
		{0, 8},
	} {
		p := inv.Plan(limit(c.limit), today)
		if got, want := outline(p), strings.Join(lines[:c.items], ""); strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("limit %d: (- want, + got)\n%s", c.limit, cmp.Diff(want, got))
		}
		if p.Over() || p.Left > c.limit || p.Left < 0 {
			t.Errorf("limit %d: %d are left", c.limit, p.Left)
		}
		var freed int64
		for _, f := range inv.Folders {
			if slices.Contains(p.folders, f.Path) {
				freed += f.Size
			}
		}
		if p.Left+p.Freed()+freed != total {
			t.Errorf("limit %d: %d are left, and %d freed of %d", c.limit, p.Left, p.Freed()+freed, total)
		}
	}
}

func TestLimitLeavesWork(t *testing.T) {
	inv := fixture()
	inv.Trees[1].Kind, inv.Trees[1].Name = Checkouts, "checkout:1"
	inv.Trees[2].inUse = true
	p := inv.Plan(limit(0), today)
	if got := outline(p); strings.Contains(got, "test") {
		t.Errorf("trees went:\n%s", got)
	}
	if want := inv.Stores[0].Size; !p.Over() || p.Left != want {
		t.Errorf("%d are left, want %d", p.Left, want)
	}
	inv.Trees[2].inUse = false
	p = inv.Plan(Policy{All: true}, today)
	if got := outline(p); !strings.Contains(got, "test right") || strings.Contains(got, "checkout") {
		t.Errorf("of all without checkouts, this goes:\n%s", got)
	}
	p = inv.Plan(Policy{All: true, Checkouts: true}, today)
	if got := outline(p); !strings.Contains(got, "checkout:1") || p.Left != 0 {
		t.Errorf("%d are left of all; this goes:\n%s", p.Left, got)
	}
}

func TestUnneeded(t *testing.T) {
	inv := fixture()
	if got := outline(inv.Plan(Policy{}, today)); got != "" {
		t.Errorf("what is needed goes:\n%s", got)
	}
	inv.Trees[2].Known = false
	inv.Files[1].unneeded = NoLayer
	if got, want := outline(inv.Plan(Policy{}, today)), "1048576 test right\n1048576 toc/ab\n"; got != want {
		t.Errorf("(- want, + got)\n%s", cmp.Diff(want, got))
	}
	inv.Trees[2].Name = "not a chain ID"
	inv.Files[1].unneeded = Needed
	if got := outline(inv.Plan(Policy{}, today)); got != "" {
		t.Errorf("what is not known goes:\n%s", got)
	}
	inv.Unsure = []error{os.ErrPermission}
	inv.Trees[2].Name = string(digest.FromString("right"))
	if got := outline(inv.Plan(Policy{}, today)); got != "" {
		t.Errorf("what may be needed goes:\n%s", got)
	}
}

func TestFailed(t *testing.T) {
	inv := fixture()
	inv.Trees[2].Kind, inv.Trees[2].Name = Failed, "failed:right"
	for age, want := range map[int]bool{1: false, 6: false, 8: true} {
		inv.Trees[2].Used = today.AddDate(0, 0, -age)
		if got := outline(inv.Plan(Policy{}, today)) != ""; got != want {
			t.Errorf("after %d days: goes %v, want %v", age, got, want)
		}
		if outline(inv.Plan(Policy{Failed: true}, today)) == "" {
			t.Errorf("after %d days: stays, though it was asked for", age)
		}
	}
	inv.Trees[2].inUse = true
	if got := outline(inv.Plan(Policy{Failed: true}, today)); got != "" {
		t.Errorf("one that a process has goes:\n%s", got)
	}
}

func TestSums(t *testing.T) {
	inv := fixture()
	inv.Blobs = []Blob{{Size: 5, Images: 2}, {Size: 7}}
	inv.Foreign = []string{"/cache/mine"}
	var total int64
	for _, s := range inv.Sums() {
		total += s.Size
		if s.Kind == Snapshots && (s.Count != 3 || s.Size != 111<<20) {
			t.Errorf("snapshots: %+v", s)
		}
	}
	if want := inv.Kept() + 12; total != want {
		t.Errorf("the sums make %d, want %d", total, want)
	}
}

func TestKindOf(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for path, want := range map[string]Kind{
		"steps/ab/" + hex[2:] + ".json": Results, "toc/" + hex: Indexes, "inputs/stats": Digests, "inputs/" + hex: Downloads,
		"inputs/url-" + hex + ".json": Downloads, "last/" + hex[:32]: Explanations, "nodes/" + hex: Explanations, "layouts/" + hex[:32]: Records,
		"tmp/123": Temporary, "steps/ab/.tmp-1": Temporary, "inputs/.tmp-2": Temporary, "toc/.toc-3": Temporary,
		"mine": "", "toc/mine": "", "steps/ab/mine": "", "inputs/url-" + hex: "", "inputs/" + hex + ".json": "", "other/" + hex: "", ".tmp-1": "", "stats": "",
	} {
		if got := kindOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// A file that cannot be removed is told of, and the others go.
func TestRemoveGoesOn(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	if err := os.WriteFile(gone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Plan{inv: &Inventory{Cache: dir}, Items: []Item{
		{Name: "first", file: &File{Path: filepath.Join(gone, "below")}}, // below a file
		{Name: "second", file: &File{Path: gone}},
	}}
	err := p.Remove(context.Background())
	if err == nil || !strings.Contains(err.Error(), "remove first: ") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(gone); err == nil {
		t.Error("the second one is still there")
	}
}
