package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is secret in URLs, and the values of variables, reach no output, no layout and no cache; nor do their hashes. With the random key of the
// cache folder gone, builds go on, and explain says that it cannot compare.
func TestSecretsReachNothing(t *testing.T) {
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	if err := errors.Join(tw.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o644}), tw.Close()); err != nil {
		t.Fatal(err)
	}
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if user, password, _ := r.BasicAuth(); user != "s3user" || password != "s3password" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/moved.tar":
			http.Redirect(w, r, "/gone.tar?token=s3redirect", http.StatusFound)
		case "/a.tar":
			_, _ = w.Write(archive.Bytes())
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	base := strings.Replace(srv.URL, "://", "://s3user:s3password@", 1)
	spec := "a:\n  expand: '" + base + "/a.tar?sig=s3query#s3fragment'\n" +
		"b:\n  base: a\n  copy: " + base + "/a.tar?sig=s3query /b\n"
	runs := false
	for _, feature := range []string{"userns", "busybox"} {
		ok, err := condition(t, feature)
		runs = ok && err == nil
		if !runs {
			break
		}
	}
	if runs {
		spec += "c:\n  base: a\n  build_env: {TOKEN: s3value}\n  run: |\n    : https://s3user:s3password@h/?s3query\n    : ${{ARG}}\n    exit $CODE\n  environment: {CODE: 0}\n" +
			"g:\n  base: a\n  steps:\n  - run: ': curl -H \"Authorization: Bearer s3header\" -u s3name:s3login https://h/'\n" +
			"  - run: |\n      : curl \\\n        --header 'PRIVATE-TOKEN: s3header' \\\n        -u s3name:s3login\n      exit $CODE\n" +
			"  - run: {script: ': \"$@\"', args: [--header, 'X-Api-Key: s3header s3login', --password, s3name s3login]}\n  build_env: {CODE: 0}\n"
	}
	failing := "d:\n  expand: " + base + "/gone.tar?sig=s3query\ne:\n  copy: " + base + "/moved.tar?sig=s3query /x\n" +
		"f:\n  expand: {src: '" + base + "/a.tar?sig=s3query', checksum: 'sha256:" + strings.Repeat("0", 64) + "'}\n"
	wrong := "a:\n  expand: " + base + "/a.tar?s3query\n  copy: " + base + "/a.tar?s3query\n  install: ['https://s3user:s3/password@/x.deb']\n" +
		"  run: {script: 'https://s3user:s3password@h/?s3query', arg: a}\n"
	dir := t.TempDir()
	for name, text := range map[string]string{"genoci.yaml": spec, "failing.yaml": failing, "wrong.yaml": wrong} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = exec.Command("removetree", filepath.Join(dir, "cache")).Run() })
	genoci := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.Command("genoci", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "XDG_STATE_HOME="+filepath.Join(dir, "state"), "GITHUB_ACTIONS=")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Errorf("%q: %v: %s", args, err, out)
		}
		if text, ok := holdsSecret(out); ok {
			t.Errorf("%q tells %q: %s", args, text, out)
		}
		return string(out)
	}
	arg := []string{"--arg", "ARG=s3argument"}
	genoci(0, append([]string{"plan", "--json"}, arg...)...)
	genoci(0, append([]string{"plan", "--dot"}, arg...)...)
	genoci(0, append([]string{"build", "--progress", "json", "--json"}, arg...)...)
	genoci(0, append([]string{"build"}, arg...)...)
	changed := strings.NewReplacer("s3value", "s3other", "s3header", "s3header2", "/b\n", "/b2\n").Replace(spec)
	if err := os.WriteFile(filepath.Join(dir, "genoci.yaml"), []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := genoci(0, append([]string{"explain"}, arg...)...); runs && !strings.Contains(out, "environment TOKEN changed") {
		t.Error(out)
	}
	genoci(0, append([]string{"explain", "--json"}, arg...)...)
	for _, args := range [][]string{{"ls"}, {"inspect", "b"}, {"inspect", "--json", "b"}, {"inspect", "--json", "a"}, {"log", "b"}, {"du"}, {"du", "--json"}, {"gc", "--dry-run"}, {"diff", "a", "b"}} {
		genoci(0, args...)
	}
	for _, progress := range []string{"plain", "json"} {
		genoci(1, "build", "-f", "failing.yaml", "--keep-going", "--json", "--progress", progress)
	}
	genoci(2, "check", "-f", "wrong.yaml")
	genoci(2, "build", "--json", "-f", "wrong.yaml")

	files := 0
	for _, where := range []string{"cache", "oci", "state"} {
		err := filepath.WalkDir(filepath.Join(dir, where), func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			if text, ok := holdsSecret(append(content, path...)); ok {
				t.Errorf("%s holds %q", path, text)
			}
			files++
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 10 {
		t.Errorf("%d files", files)
	}
	fi, err := os.Stat(filepath.Join(dir, "state", "genoci", "secret"))
	if err != nil || fi.Mode().Perm() != 0o600 || fi.Size() != 32 {
		t.Fatal(fi, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	if out := genoci(0, append([]string{"explain"}, arg...)...); !strings.Contains(out, "it is sealed, and its key is not here") {
		t.Error(out)
	}
	if err := os.WriteFile(filepath.Join(dir, "genoci.yaml"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := genoci(0, append([]string{"build"}, arg...)...); !strings.Contains(out, "b: cached") {
		t.Errorf("without the key: %s", out)
	}

	// With credentials in a file the spec needs none.
	netrc := "machine 127.0.0.1 login s3user password s3password\n"
	plain := "a: {expand: " + srv.URL + "/a.tar}\n"
	if err := errors.Join(os.WriteFile(filepath.Join(dir, ".netrc"), []byte(netrc), 0o600), os.WriteFile(filepath.Join(dir, "genoci.yaml"), []byte(plain), 0o644)); err != nil {
		t.Fatal(err)
	}
	genoci(0, "build")
}

// holdsSecret returns a secret of the test above that b holds, as it is or as a hash.
func holdsSecret(b []byte) (string, bool) {
	for _, s := range []string{"s3user", "s3password", "s3query", "s3fragment", "s3redirect", "s3value", "s3other", "s3header", "s3name", "s3login"} {
		sum := sha256.Sum256([]byte(s))
		for _, text := range []string{s, hex.EncodeToString(sum[:]), base64.RawStdEncoding.EncodeToString(sum[:]), fmt.Sprintf("%X", sum)} {
			if bytes.Contains(b, []byte(text)) {
				return text, true
			}
		}
	}
	return "", false
}
