package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/moby/sys/user"
)

// TestFreeIDs: the range that is proposed to a user is nobody's.
func TestFreeIDs(t *testing.T) {
	for _, test := range []struct {
		taken []user.SubID
		first int64
	}{
		{nil, 100000},
		{[]user.SubID{{SubID: 100000, Count: 65536}}, 165536},
		{[]user.SubID{{SubID: 165536, Count: 65536}, {SubID: 100000, Count: 65536}}, 231072},
		{[]user.SubID{{SubID: 110000, Count: 10}}, 110010},
		{[]user.SubID{{SubID: 500, Count: 10}, {SubID: 300000, Count: 65536}}, 100000},
	} {
		if first, last := freeIDs(test.taken, usualIDs); first != test.first || last != first+65535 {
			t.Errorf("%v: %d-%d, want %d", test.taken, first, last, test.first)
		}
	}
}

func TestMapArgs(t *testing.T) {
	for _, test := range []struct {
		id     int
		ranges []idRange
		want   string
	}{
		{1000, []idRange{{100000, 65536}}, "0 1000 1 1 100000 65536"},
		{1000, []idRange{{100000, 65536}, {300000, 10}}, "0 1000 1 1 100000 65536 65537 300000 10"},
		{1000, []idRange{{100000, 65536}, {100000, 65536}}, "0 1000 1 1 100000 65536"},
		{1000, []idRange{{100000, 100}, {100050, 100}}, "0 1000 1 1 100000 100 101 100100 50"},
		{1000, []idRange{{500, 1000}}, "0 1000 1 1 500 500 501 1001 499"},
		{1000, []idRange{{1000, 1}, {2000, 0}, {2000, -5}}, "0 1000 1"},
		{1000, []idRange{{10, 5}, {0, 100}}, "0 1000 1 1 10 5 6 0 10 16 15 85"},
	} {
		if got := strings.Join(mapArgs(test.id, test.ranges), " "); got != test.want {
			t.Errorf("%d %v: got %s, want %s", test.id, test.ranges, got, test.want)
		}
	}
}

func TestIsInitialMap(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n":                      true,
		"         0       1000          1\n":                      false,
		"         0       1000          1\n1 100000      65536\n": false,
		"         0          0      65536\n":                      false,
		"":                                                        false,
	} {
		if got := isInitialMap(text); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestHosts(t *testing.T) {
	got := hosts("builder", "# comment\n127.0.0.1 localhost\n::1\tlocalhost ip6-localhost\n\n10.0.0.1   db db.example # the database\n127.0.1.1 me\nbroken\n")
	want := "127.0.0.1\tlocalhost builder\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\tdb db.example\n127.0.1.1\tme\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestResolvers(t *testing.T) {
	const (
		stub    = "# stub\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n"
		servers = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch lan\n"
	)
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"plain", map[string]string{resolvConf: servers, resolvedConf: "nameserver 1.1.1.1\n"}, servers},
		{"stub", map[string]string{resolvConf: stub, resolvedConf: servers}, servers},
		{"stub without servers", map[string]string{resolvConf: stub, resolvedConf: "search lan\n"}, stub},
		{"stub without file", map[string]string{resolvConf: stub}, stub},
		{"stub and another", map[string]string{resolvConf: stub + "nameserver 10.0.0.9\n", resolvedConf: servers}, stub + "nameserver 10.0.0.9\n"},
		{"none", nil, ""},
	} {
		got := resolvers(func(name string) ([]byte, error) {
			if text, ok := test.files[name]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		})
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestLacks(t *testing.T) {
	err := fmt.Errorf("build: %w", lacks{"newuidmap is not installed", "apt-get install uidmap"})
	if want := "build: newuidmap is not installed; apt-get install uidmap"; err.Error() != want || !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if got := (lacks{what: "x"}).Error(); got != "x" {
		t.Errorf("got %q", got)
	}
}
