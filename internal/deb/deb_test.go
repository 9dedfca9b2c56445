package deb

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/imagetest"
	"genoci/internal/layer"
)

// The rules of deb-version(7), and pairs of versions of Debian's.
func TestCompare(t *testing.T) {
	ascending := []string{
		"0~", "0", "1~~", "1~~a", "1~", "1~rc1", "1~rc1-1", "1", "1-0+b1", "1-1~bpo12+1", "1-1", "1-1+b1", "1-1+deb12u1", "1-1.1", "1-2", "1-10", "1a", "1ab", "1+dfsg",
		"1.0", "1.2", "1.10", "1.10-3-1", "2.36-9+deb12u9", "2.36-9+deb12u14", "1:0", "1:0.1", "2:0", "10:0",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			got := Compare(a, b)
			if got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
		}
	}
	for _, same := range [][2]string{{"", "0"}, {"1", "0:1"}, {"1", "1-0"}, {"1.01", "1.1"}, {"1-1", "01-1"}, {"1", "1-"}, {"99999999999999999999999", "099999999999999999999999"}} {
		if c := Compare(same[0], same[1]); c != 0 {
			t.Errorf("Compare(%q, %q) = %d", same[0], same[1], c)
		}
	}
}

// pack makes a package file, whose control.tar has that suffix and compression.
func pack(t *testing.T, suffix, compression, control string) []byte {
	t.Helper()
	content := imagetest.Tar(imagetest.Dir("./"), imagetest.File("./md5sums", control), imagetest.File("./control", control))
	if compression != "" {
		for _, c := range layer.Compressions {
			if c.Name == compression {
				var b bytes.Buffer
				w, err := c.NewWriter(&b)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = w.Write(content)
				_ = w.Close()
				content = b.Bytes()
			}
		}
	}
	var file bytes.Buffer
	file.WriteString("!<arch>\n")
	member := func(name string, content []byte) {
		fmt.Fprintf(&file, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", name, 0, 0, 0, "100644", len(content), content)
		if len(content)%2 > 0 {
			file.WriteByte('\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member("_odd", []byte("odd"))
	member("control.tar"+suffix, content)
	member("data.tar", nil)
	return file.Bytes()
}

func TestRead(t *testing.T) {
	const control = "Package: app\nVersion: 1:2.0-1\nArchitecture: amd64\nMulti-Arch: same\nPre-Depends: a (>= 1), b:any\n" +
		"Depends: c | d (<< 2) , e(=1.0~rc1),\n f (> 3),\nProvides: g (= 4), h\nBreaks: i (<< 5)\nConflicts: j\nDescription: x\n .\n Depends: no\n"
	want := Package{
		Name: "app", Version: "1:2.0-1", Arch: "amd64", MultiArch: "same",
		PreDepends: []Clause{{{Name: "a", Op: ">=", Version: "1"}}, {{Name: "b", Arch: "any"}}},
		Depends:    []Clause{{{Name: "c"}, {Name: "d", Op: "<<", Version: "2"}}, {{Name: "e", Op: "=", Version: "1.0~rc1"}}, {{Name: "f", Op: ">=", Version: "3"}}},
		Provides:   []Clause{{{Name: "g", Op: "=", Version: "4"}}, {{Name: "h"}}},
		Breaks:     []Clause{{{Name: "i", Op: "<<", Version: "5"}}},
		Conflicts:  []Clause{{{Name: "j"}}},
	}
	for suffix, compression := range map[string]string{"": "", ".gz": "gzip", ".zst": "zstd", "/": ""} {
		got, err := Read(bytes.NewReader(pack(t, suffix, compression, control)))
		if err != nil {
			t.Errorf("control.tar%s: %v", suffix, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("control.tar%s (-want +got):\n%s", suffix, diff)
		}
	}
}

func TestReadDamaged(t *testing.T) {
	whole := pack(t, "", "", "Package: app\nVersion: 1\n")
	for name, file := range map[string][]byte{
		"empty":       {},
		"no archive":  []byte("!<arch"),
		"no member":   whole[:8],
		"bad header":  append(bytes.Clone(whole[:8]), bytes.Repeat([]byte{'x'}, 60)...),
		"cut off":     whole[:8+60+4+60+4+60+100],
		"no version":  pack(t, "", "", "Package: app\n"),
		"not a tar":   pack(t, ".gz", "", "Package: app\nVersion: 1\n")[:8+60+4+60+4+60],
		"wrong magic": append([]byte("!<arcx>\n"), whole[8:]...),
	} {
		if p, err := Read(bytes.NewReader(file)); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestInstalled(t *testing.T) {
	got, err := Installed(strings.NewReader("Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n" +
		"Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n\n" +
		"Package: c\nStatus: install ok unpacked\nVersion: 1\n\nPackage: d\nVersion: 2\nStatus: hold ok triggers-pending"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Package{{Name: "a", Version: "1", Arch: "all"}, {Name: "d", Version: "2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// packages reads lines "NAME VERSION[:ARCH] FIELD: RELATIONS; FIELD: RELATIONS".
func packages(lines ...string) []Package {
	var all []Package
	for _, line := range lines {
		words := strings.SplitN(line, " ", 3)
		control := "package: " + words[0] + "\n"
		version, arch, ok := strings.Cut(words[1], ":")
		if !ok {
			arch = "amd64"
		}
		control += "version: " + version + "\narchitecture: " + arch + "\n"
		if len(words) > 2 {
			control += strings.ReplaceAll(words[2], "; ", "\n")
		}
		all = append(all, parse(fieldsOf(control)))
	}
	return all
}

func TestPlan(t *testing.T) {
	for name, test := range map[string]struct {
		given, installed []string
		want             string
	}{
		"one":                 {[]string{"a 1"}, nil, "--install a"},
		"order stays":         {[]string{"c 1 Depends: a", "a 1 Depends: c", "b 1"}, nil, "--install c a b"},
		"pre-depends":         {[]string{"a 1 Pre-Depends: b", "b 1"}, nil, "--unpack b --configure b --unpack a --configure a"},
		"what that needs too": {[]string{"a 1 Pre-Depends: b", "b 1 Depends: c", "c 1 Depends: d", "d 1 Depends: b", "e 1"}, nil, "--unpack d c b --configure d c b --unpack a e --configure a e"},
		"chain":               {[]string{"a 1 Pre-Depends: b", "b 1 Pre-Depends: c", "c 1"}, nil, "--unpack c --configure c --unpack b --configure b --unpack a --configure a"},
		"the image has it":    {[]string{"a 1 Pre-Depends: b", "b 2"}, []string{"b 1"}, "--install a b"},
		"but not that one":    {[]string{"a 1 Pre-Depends: b (>= 2)", "b 2"}, []string{"b 1"}, "--unpack b --configure b --unpack a --configure a"},
		"alternative":         {[]string{"a 1 Pre-Depends: x | b", "b 1"}, nil, "--unpack b --configure b --unpack a --configure a"},
		"alternative there":   {[]string{"a 1 Pre-Depends: b | x", "b 1"}, []string{"x 1"}, "--install a b"},
		"provided":            {[]string{"a 1 Pre-Depends: virtual", "b 1 Provides: virtual"}, nil, "--unpack b --configure b --unpack a --configure a"},
		"provided version":    {[]string{"a 1 Pre-Depends: virtual (>= 2)", "b 1 Provides: virtual (= 1)", "c 1 Provides: virtual", "d 1 Provides: virtual (= 3)"}, nil, "--unpack d --configure d --unpack a b c --configure a b c"},
		"any architecture":    {[]string{"a 1:i386 Pre-Depends: b:any", "b 1:amd64 Multi-Arch: allowed"}, nil, "--unpack b --configure b --unpack a:i386 --configure a:i386"},
		"own architecture":    {[]string{"a 1:i386 Pre-Depends: b", "b 1:amd64", "b 1:i386"}, nil, "--unpack b:i386 --configure b:i386 --unpack a:i386 b --configure a:i386 b"},
		"foreign":             {[]string{"a 1:i386 Pre-Depends: b", "b 1:amd64 Multi-Arch: foreign"}, nil, "--unpack b --configure b --unpack a:i386 --configure a:i386"},
		"for all":             {[]string{"a 1:all Pre-Depends: b", "b 1:amd64"}, nil, "--unpack b --configure b --unpack a --configure a"},
		"ring":                {[]string{"a 1 Pre-Depends: b", "b 1 Pre-Depends: a"}, nil, "--unpack b --configure b --unpack a --configure a"},
		"nobody has it":       {[]string{"a 1 Pre-Depends: x", "b 1"}, nil, "--install a b"},
		"itself":              {[]string{"a 1 Pre-Depends: a (>= 1)"}, nil, "--install a"},
		"twice needed":        {[]string{"a 1 Pre-Depends: c", "b 1 Pre-Depends: c", "c 1"}, nil, "--unpack c --configure c --unpack a b --configure a b"},
		"breaks the old one":  {[]string{"a 2 Breaks: b (<< 2)", "b 2"}, []string{"a 1", "b 1"}, "--install b a"},
		"breaks each other":   {[]string{"a 2 Breaks: b (<< 2)", "b 2 Breaks: a (<< 2)"}, []string{"a 1", "b 1"}, "--install b a deconfigure"},
		"conflicts":           {[]string{"a 2 Conflicts: b (<< 2)", "b 2"}, []string{"a 1", "b 1"}, "--install b a"},
		"breaks another":      {[]string{"a 2 Breaks: b (<< 2), c", "b 2 Breaks: a (<< 2)"}, []string{"a 1", "b 1", "c 1"}, "--install b a"},
		"breaks the new too":  {[]string{"a 2 Breaks: b", "b 2"}, []string{"b 1"}, "--install a b"},
	} {
		given := packages(test.given...)
		plan := NewPlan(given, packages(test.installed...))
		var got []string
		for _, c := range plan.Calls {
			got = append(got, string(c.Action))
			for _, i := range c.Packages {
				got = append(got, strings.TrimSuffix(given[i].Instance(), ":amd64"))
			}
		}
		if plan.Deconfigure {
			got = append(got, "deconfigure")
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, s, test.want)
		}
	}
}

// A plan names each package once where it is unpacked, and once where it is configured, whatever
// its fields ask for.
func TestPlanIsWhole(t *testing.T) {
	relations := []string{"", "Depends: p1", "Pre-Depends: p2", "Pre-Depends: p3, p0; Depends: p4", "Breaks: p1 (<< 2); Pre-Depends: p4", "Conflicts: p0 (<< 2); Depends: p2 | p1"}
	const n = 5
	for seed := range 6 * 6 * 6 * 6 * 6 {
		var given []string
		rest := seed
		for i := range n {
			given = append(given, fmt.Sprintf("p%d 2 %s", i, relations[rest%6]))
			rest /= 6
		}
		var unpacked, configured [n]int
		for _, c := range NewPlan(packages(given...), packages("p0 1", "p1 1")).Calls {
			for _, i := range c.Packages {
				if c.Action != Configure {
					unpacked[i]++
				}
				if c.Action != Unpack {
					if configured[i]++; unpacked[i] == 0 {
						t.Fatalf("%q: package %d is configured before it is unpacked", given, i)
					}
				}
			}
		}
		for i := range n {
			if unpacked[i] != 1 || configured[i] != 1 {
				t.Fatalf("%q: package %d is unpacked %d times, configured %d times", given, i, unpacked[i], configured[i])
			}
		}
	}
}

func TestMissing(t *testing.T) {
	given := packages("a 1 Depends: b (>= 2), c | d; Pre-Depends: libc", "b 1", "e 1 Depends: b, virtual, gone (= 3)")
	installed := packages("libc 2", "d 1 Provides: virtual", "b 2")
	want := []string{"a needs b (>= 2)", "e needs gone (= 3)"}
	if diff := cmp.Diff(want, Missing(given, installed)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTwice(t *testing.T) {
	if i, j, ok := Twice(packages("a 1", "b 1", "c 1", "b 2")); !ok || i != 1 || j != 3 {
		t.Errorf("Twice = %d, %d, %t", i, j, ok)
	}
	if i, j, ok := Twice(packages("a 1:i386", "a 1:amd64", "b 1")); ok {
		t.Errorf("for two architectures: Twice = %d, %d", i, j)
	}
}

// Whatever a package file holds, reading it ends with a package or an error.
func FuzzRead(f *testing.F) {
	f.Add([]byte("!<arch>\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if p, err := Read(bytes.NewReader(file)); err == nil && (p.Name == "" || p.Version == "") {
			t.Errorf("%+v", p)
		}
	})
}
