package main

import (
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

	"genoci/internal/imagetest"
)

// What is secret in URLs, and the values of variables, reach no output, no layout and no cache; nor
// do their hashes. With the random key of the cache folder gone, builds go on, and explain says
// that it cannot compare.
func TestSecretsReachNothing(t *testing.T) {
	archive := imagetest.Tar(imagetest.File("f", ""))
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
			_, _ = w.Write(archive)
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	base := strings.Replace(srv.URL, "://", "://s3user:s3password@", 1)
	spec := "a:\n  expand: '" + base + "/a.tar?sig=s3query#s3fragment'\n" +
		"b:\n  base: a\n  copy: " + base + "/a.tar?sig=s3query /b\n"
	runs := canRun(t)
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
	genoci := discreet(t, dir)
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

	keepsNoSecret(t, dir)
	fi, err := os.Stat(filepath.Join(dir, "state", "genoci", "secret"))
	if err != nil || fi.Mode().Perm() != 0o600 || fi.Size() != 32 {
		t.Fatal(fi, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	if out := genoci(0, append([]string{"explain"}, arg...)...); !strings.Contains(out, "it is encrypted, and its key is missing") {
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

// Values of arguments reach no output, but for names of files and images that are looked for, and
// neither layout nor cache; nor do their hashes. explain says which argument changed. An argument
// makes the same image by its default as on the command line.
func TestArgumentsReachNothing(t *testing.T) {
	archive := imagetest.Tar(imagetest.File("f", ""))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone/s3value" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(archive)
	}))
	defer srv.Close()
	spec := "genoci: {args: {A: s3value, UID: 0}}\n" +
		"a:\n  expand: {src: '" + srv.URL + "/${{A}}/a.tar', chown: '${{UID}}', exclude: '${{A}}'}\n" +
		"b:\n  copy: ['" + srv.URL + "/${{A}}/a.tar /b', {content: x, dest: /x, chmod: '640'}]\n  remove: /${{X:x}}\n"
	failing := "genoci: {args: {A: s3value}}\n" +
		"a:\n  expand: " + srv.URL + "/gone/${{A}}\n" +
		"b:\n  copy: " + srv.URL + "/gone/${{A}} /b\n" +
		"c:\n  expand: {src: '" + srv.URL + "/${{A}}', checksum: 'sha256:" + strings.Repeat("0", 64) + "'}\n"
	runs := canRun(t)
	if runs {
		spec += "c:\n  base: a\n  build_env: {CODE: 0}\n  steps:\n" +
			"  - run: 'test -n ${{A}} -a -n ${{B:s3default}} # $${{A}}'\n" +
			"  - run: {script: 'exit $CODE # ${{A}}', args: '\"${{A}}\" x', env: {V: '${{A}}'}}\n    layer: true\n" +
			"  - run: |\n      test -n \"${{A}}\"\n      exit 0\n"
		failing += "d:\n  run: 'false ${{A}}'\n  pre: ': ${{A}}'\n" +
			"e:\n  run: {script: 'exit 1', args: ['${{A}}']}\n"
	}
	wrong := "a:\n  expose: ['${{A}}', 'x ${{A}}']\n  created: '${{A}}'\n  volumes: ['${{A}}']\n  copy: 'a b ${{A}}'\n  install: 'a ${{A}}'\n" +
		"  run: {script: x y, network: '${{A}}', user: ':${{A}}'}\n  expand: {src: 'x://${{A}}', checksum: '${{A}}', strip_components: '${{A}}'}\n" +
		"b:\n  volumes: ['/${{A}}', '/${{A}}/']\n"
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("genoci.yaml", spec)
	write("failing.yaml", failing)
	write("wrong.yaml", wrong)
	genoci := discreet(t, dir)
	given, other := []string{"--arg", "A=s3value"}, []string{"--arg", "A=s3other"}
	with := func(args []string, more ...string) []string { return append(more, args...) }
	for _, args := range [][]string{{"plan"}, {"plan", "--json"}, {"explain"}, {"explain", "--json"}, {"check"}} {
		genoci(0, with(given, args...)...)
	}
	genoci(0, "build", "--progress", "json", "--json")
	byDefault := genoci(0, "inspect", "--json", "b")
	genoci(0, with(given, "build", "--no-cache", "--why", "--progress", "plain")...)
	if out := genoci(0, "inspect", "--json", "b"); out != byDefault {
		t.Errorf("by default: %s\nby --arg: %s", byDefault, out)
	}
	if text := "genoci: copy " + srv.URL + "/${{A}}/a.tar /b; copy (content) /x; remove /${{X}}"; !strings.Contains(byDefault, text) {
		t.Errorf("the history is not %q: %s", text, byDefault)
	}
	want := "expand " + srv.URL + "/${{A}}/a.tar: argument A changed"
	if runs {
		want = "run exit $CODE # ${{A}} ${{A}} x: argument A changed"
	}
	for _, args := range [][]string{{"explain"}, {"explain", "--json"}, {"build", "--why", "--progress", "plain"}} {
		if out := genoci(0, with(other, args...)...); !strings.Contains(out, "argument A changed") || args[0] == "explain" && !strings.Contains(out, want) {
			t.Errorf("%q: %s", args, out)
		}
	}
	write("genoci.yaml", strings.NewReplacer("exit 0", "exit $((0))", "test -n ${{A}} -a", "test", "640", "${{MODE:644}}").Replace(spec))
	out := genoci(0, with(other, "explain")...)
	if !strings.Contains(out, "chmod changed: 0640 -> (none)") || runs && !strings.Contains(out, "+ exit $((0))") {
		t.Error(out)
	}
	for _, args := range [][]string{{"ls"}, {"inspect", "b"}, {"inspect", "--json", "a"}, {"log", "b"}, {"log", "--json", "b"}, {"du"}, {"du", "--json"}, {"gc", "--dry-run"}, {"diff", "a", "b"}} {
		genoci(0, args...)
	}
	for _, progress := range []string{"plain", "json", "none"} {
		genoci(1, with(given, "build", "-f", "failing.yaml", "--keep-going", "--json", "--progress", progress)...)
		genoci(1, with(given, "build", "-f", "failing.yaml", "--keep-going", "--why", "--progress", progress)...)
	}
	genoci(0, "status")
	for _, args := range [][]string{{"check"}, {"plan", "--json"}, {"build", "--json"}} {
		genoci(2, with(given, append(args, "-f", "wrong.yaml")...)...)
	}
	genoci(2, "build", "--arg", "s3value")
	genoci(2, "build", "-f", "wrong.yaml", "--arg", "OTHER=s3value")
	genoci(2, "build", "--arg", "A=s3value\xff")
	keepsNoSecret(t, dir)
}

// An answer 401 or 403 gets a hint that says where user and password come from.
func TestHintAtNetrc(t *testing.T) {
	var other *httptest.Server
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/gone":
			http.NotFound(w, r)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	other = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer other.Close()
	dir := t.TempDir()
	genoci := discreet(t, dir)
	file := filepath.Join(dir, ".netrc")
	for _, test := range []struct{ path, netrc, want string }{
		{"/a", "", "hint: user and password for 127.0.0.1 are taken from " + file + ", which has none (NETRC names another file): machine 127.0.0.1 login USER password PASSWORD\n"},
		{"/a", "machine 127.0.0.1 login s3user password s3password", "hint: 127.0.0.1 does not take the user and password that " + file + " has for it\n"},
		{"@/a", "", "hint: 127.0.0.1 does not take the user and password that the URL has\n"},
		{"/moved", "", "hint: 127.0.0.1 redirects to another server, which is sent no user and password"},
		{"/gone", "", ""},
	} {
		url := srv.URL + test.path
		if path, ok := strings.CutPrefix(test.path, "@"); ok {
			url = strings.Replace(srv.URL, "://", "://s3user:s3password@", 1) + path
		}
		err := errors.Join(os.WriteFile(file, []byte(test.netrc), 0o600), os.WriteFile(filepath.Join(dir, "genoci.yaml"), []byte("a: {expand: '"+url+"'}\n"), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		if out := genoci(1, "build", "--progress", "none"); !strings.Contains(out, test.want) || strings.Contains(out, "hint:") != (test.want != "") {
			t.Errorf("%s: %s", test.path, out)
		}
	}
}

// canRun reports whether steps can run something here.
func canRun(t *testing.T) bool {
	for _, feature := range []string{"userns", "busybox"} {
		if ok, err := condition(t, feature); !ok || err != nil {
			return false
		}
	}
	return true
}

// discreet returns a function that runs genoci in the folder dir, with its cache there, and wants
// an exit code and no secret in what it prints.
func discreet(t *testing.T, dir string) func(want int, args ...string) string {
	t.Cleanup(func() { _ = exec.Command("removetree", filepath.Join(dir, "cache")).Run() })
	return func(want int, args ...string) string {
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
}

// keepsNoSecret wants no secret in what genoci keeps below dir, but for the commands of failed
// steps, which are kept for genoci shell.
func keepsNoSecret(t *testing.T, dir string) {
	files := 0
	for _, where := range []string{"cache", "oci", "state"} {
		err := filepath.WalkDir(filepath.Join(dir, where), func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || filepath.Base(path) == "note" {
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
}

// holdsSecret returns a secret of the tests above that b holds, as it is or as a hash.
func holdsSecret(b []byte) (string, bool) {
	for _, s := range []string{"s3user", "s3password", "s3query", "s3fragment", "s3redirect", "s3value", "s3other", "s3header", "s3name", "s3login", "s3default", "s3argument"} {
		sum := sha256.Sum256([]byte(s))
		for _, text := range []string{s, hex.EncodeToString(sum[:]), base64.RawStdEncoding.EncodeToString(sum[:]), fmt.Sprintf("%X", sum)} {
			if bytes.Contains(b, []byte(text)) {
				return text, true
			}
		}
	}
	return "", false
}
