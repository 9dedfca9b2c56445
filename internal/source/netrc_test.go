package source

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNetrc(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "",
		"machine host login me password pw":     "me:pw",
		"machine HOST\n\tlogin me\npassword #p": "me:#p",
		"machine\nhost\nlogin\nme\npassword\npw\n":                         "me:pw",
		"machine other login x password y\nmachine host password pw":       ":pw",
		"machine host login me password pw\nmachine other login x":         "me:pw",
		"machine host login me password pw machine host login x":           "me:pw",
		"# machine host login x password y\nmachine host login me":         "me:",
		"macdef init\nmachine host login x\n\nmachine host login me":       "me:",
		`machine host login "m e" password "p\"w \\"`:                      `m e:p"w \`,
		"machine host account a login me":                                  "me:",
		"default login me password pw":                                     "",
		"machine other login login password machine\nmachine host login a": "a:",
		"machine hosting login me password pw":                             "",
		"machine":                                                          "",
	} {
		got := ""
		if u := netrc(text, "host"); u != nil {
			password, _ := u.Password()
			got = u.Username() + ":" + password
		}
		if got != want {
			t.Errorf("netrc(%q) = %q, want %q", text, got, want)
		}
	}
}

// User and password, of the URL or of the netrc file, reach the server that they are for and no
// other, nor does a signature.
func TestCredentialsStayWithTheirServer(t *testing.T) {
	var told []string
	note := func(name string, r *http.Request) {
		user, password, _ := r.BasicAuth()
		told = append(told, fmt.Sprintf("%s %s %s:%s %s", name, r.URL.Path, user, password, r.Referer()))
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { note("other", r) }))
	t.Cleanup(other.Close)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note("first", r)
		switch r.URL.Path {
		case "/here":
			http.Redirect(w, r, "http://"+r.Host+"/there", http.StatusFound)
		case "/away":
			http.Redirect(w, r, other.URL+"/landed", http.StatusFound)
		}
	}))
	t.Cleanup(srv.Close)
	s := newSource(t, nil)
	s.Netrc = filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(s.Netrc, []byte("machine 127.0.0.1 login me password fromfile\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	withUser := strings.Replace(srv.URL, "://", "://me:inurl@", 1)
	for _, test := range []struct{ url, want string }{
		{srv.URL + "/a?sig=x", "[first /a me:fromfile ]"},
		{withUser + "/a", "[first /a me:inurl ]"},
		{withUser + "/here?sig=x", "[first /here me:inurl  first /there me:inurl ]"},
		{srv.URL + "/here?sig=x", "[first /here me:fromfile  first /there me:fromfile ]"},
		{withUser + "/away?sig=x", "[first /away me:inurl  other /landed : ]"},
		{srv.URL + "/away?sig=x", "[first /away me:fromfile  other /landed : ]"},
	} {
		told = nil
		if _, err := s.File(t.Context(), test.url, ""); err != nil {
			t.Errorf("%s: %v", test.url, err)
		}
		if got := fmt.Sprint(told); got != test.want {
			t.Errorf("%s: told %s, want %s", test.url, got, test.want)
		}
	}
}

// Nothing that is kept or said has user, password or query of a URL, nor their hash.
func TestSecretsOfURLsAreNotKept(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			http.NotFound(w, r)
		case "/loop":
			http.Redirect(w, r, "/loop?again=s3cret", http.StatusFound)
		case "/odd":
			w.Header().Set("Location", "http://s3cret:s3cret@[odd/")
			w.WriteHeader(http.StatusFound)
		case "/broken":
			w.Header().Set("Location", "http://127.0.0.1:1/?s3cret")
			w.WriteHeader(http.StatusFound)
		}
	}))
	t.Cleanup(srv.Close)
	base := strings.Replace(srv.URL, "://", "://me:s3cret@", 1)
	s := newSource(t, nil)
	s.Report = func(url string, _, _ int64) {
		if strings.Contains(url, "s3cret") {
			t.Errorf("Report: %s", url)
		}
	}
	s.Shown = map[string]string{srv.URL + "/p/s3cret": "SHOWN", srv.URL + "/gone": "SHOWN"}
	key := []byte("a random key")
	s.Secret = func() ([]byte, error) { return key, nil }
	for _, path := range []string{"/gone", "/loop?x=s3cret", "/odd?x=s3cret", "/broken", "/a?x=s3cret"} {
		checksum := ""
		if path == "/a?x=s3cret" {
			checksum = "sha256:" + strings.Repeat("0", 64)
		}
		if _, err := s.File(t.Context(), base+path, checksum); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), strings.TrimPrefix(srv.URL, "http://")) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := s.File(t.Context(), srv.URL+"/gone", ""); err == nil || err.Error() != "get SHOWN: 404 Not Found" {
		t.Error(err)
	}
	if _, err := s.File(t.Context(), srv.URL+"/p/s3cret", ""); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(s.Downloads)
	if err != nil || len(entries) < 2 {
		t.Fatal(entries, err)
	}
	u, err := s.parse(base + "/a?x=s3cret")
	if err != nil {
		t.Fatal(err)
	}
	before, _ := s.metaPath(u)
	plain := fmt.Sprintf("%x", sha256.Sum256([]byte(srv.URL+"/p/s3cret")))
	if _, err := os.Stat(before); err != nil {
		t.Error(err)
	}
	key = []byte("another")
	if after, _ := s.metaPath(u); after == before {
		t.Error("the name for a URL with a secret does not depend on the random key")
	}
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join(s.Downloads, e.Name())); err != nil || strings.Contains(string(text)+e.Name(), "s3cret") || strings.Contains(e.Name(), plain) {
			t.Errorf("%s: %v: %s", e.Name(), err, text)
		}
	}
}
