package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// No link of a tree leads a hook to a file of the host, whoever made it; chroot(1) follows links
// inside.
func TestHookLinks(t *testing.T) {
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 40) + strings.TrimPrefix(host, "/")
	evil := archive("./", "dir -> "+host, "up -> "+up, "file -> "+host+"/file", "sub/", "sub/dir -> "+host, "bin/", "bin/real/", "in -> bin/real")
	const evilSpec = rootSpec + "evil: {base: root, expand: evil.tar}\n"
	forDrivers(t, map[string]string{"evil.tar": evil}, func(t *testing.T, w *work) {
		for name, hooks := range map[string]string{
			"folder":           "pre: touch %ROOT%/dir/x",
			"upwards":          "pre: touch %ROOT%/up/x",
			"file":             "pre: echo x >>%ROOT%/file",
			"below a folder":   "pre: rm %ROOT%/sub/dir/file",
			"variable":         "pre: touch \"$GENOCI_ROOT/dir/x\"",
			"working folder":   "pre: cd %ROOT%/sub; touch dir/x",
			"read":             "pre: cat %ROOT%/file",
			"made by the hook": "pre: ln -s " + host + " %ROOT%/new; touch %ROOT%/new/x",
			"made by a step":   "run: busybox ln -s " + host + " /new\n  post: touch %ROOT%/new/x",
			"after a failure":  "pre: 'true'\n  run: 'false'\n  post: touch %ROOT%/dir/x",
			"two layers":       "steps: [{run: 'true', layer: true}, {run: busybox ln -s " + host + " /new}]\n  post: touch %ROOT%/new/x",
		} {
			_, err := w.try(evilSpec + "bad:\n  base: evil\n  " + hooks + "\n")
			var failure *StepError
			if !errors.As(err, &failure) {
				t.Errorf("%s: error %v", name, err)
				continue
			}
			if tail := strings.Join(failure.Tail, "\n"); name != "after a failure" && (!failure.Hook || !strings.Contains(tail, "symbolic links")) {
				t.Errorf("%s: %+v", name, failure)
			}
			if left := check(os.ReadDir(host))(t); len(left) != 1 || string(check(os.ReadFile(filepath.Join(host, "file")))(t)) != "host\n" {
				t.Fatalf("%s: the host has %v", name, left)
			}
		}
		w.build(evilSpec + "good:\n  base: evil\n  pre:\n  - touch %ROOT%/bin/real/a; rm %ROOT%/dir\n" +
			"  - chroot %ROOT% /bin/busybox touch /in/b\n  - chroot \"$GENOCI_ROOT/\" /bin/busybox touch /in/c\n  - chroot $GENOCI_CHROOT /bin/busybox touch /in/d\n" +
			"  run: cd /bin/real; for f in a b c d; do test -e $f; done\n")
	})
}

// What hooks mount is seen by commands, is not in the layer, and is gone afterwards; other actions
// are about what is below it.
func TestHookMounts(t *testing.T) {
	files := map[string]string{"conf/resolv.conf": "nameserver of the hook\n", "conf/own": "conf\n", "file": "F"}
	forDrivers(t, files, func(t *testing.T, w *work) {
		w.build(rootSpec)
		for _, c := range []struct{ name, ops, want string }{
			{"folder", "pre: mount --bind conf %ROOT%/data\n  run: busybox cat /data/own >/seen", head + "seen 0644 0:0 315532800 \"conf\\n\"\n"},
			{"file", "pre: mount --bind conf/own %ROOT%/data/a\n  run: busybox cat /data/a >/seen", head + "seen 0644 0:0 315532800 \"conf\\n\"\n"},
			{"unmounted by post", "pre: mkdir %ROOT%/m; mount --bind conf %ROOT%/m\n  run: busybox cat /m/own >/seen\n  post: umount %ROOT%/m; rmdir %ROOT%/m",
				head + "seen 0644 0:0 315532800 \"conf\\n\"\n"},
			{"seen by the next hook", "pre:\n  - mount --bind conf %ROOT%/data\n  - cat %ROOT%/data/own >%ROOT%/seen", head + "seen 0644 0:0 315532800 \"conf\\n\"\n"},
			{"a part of the tree", "pre: mount --bind %ROOT%/data %ROOT%/tmp\n  run: busybox ln -s a /data/l; busybox cat /tmp/l >/seen",
				head + "data/ 0755 7:8 1000000000\ndata/l 0777 0:0 315532800 -> a\nseen 0644 0:0 315532800 \"A\"\n"},
			{"resolv.conf", "pre: touch %ROOT%/etc/resolv.conf; mount --bind conf/resolv.conf %ROOT%/etc/resolv.conf\n  run: busybox cat /etc/resolv.conf >/seen\n  post: umount %ROOT%/etc/resolv.conf; rm %ROOT%/etc/resolv.conf",
				head + "seen 0644 0:0 315532800 \"nameserver of the hook\\n\"\n"},
			{"etc", "pre: mount --bind conf %ROOT%/etc\n  run: cd /etc; echo * >/seen", head + "seen 0644 0:0 315532800 \"own resolv.conf\\n\"\n"},
			{"elsewhere on the host", "pre: mount -t tmpfs none conf; echo mounted >conf/new\n  copy: conf/new /seen\n  run: 'true'\n  post: umount conf", head + "seen 0644 0:0 315532800 \"mounted\\n\"\n"},
			{"copy below it", "pre: mount --bind conf %ROOT%/data\n  copy: file /data/own\n  run: busybox cat /data/own >/seen",
				head + "data/ 0755 7:8 1000000000\ndata/own 0644 0:0 315532800 \"F\"\nseen 0644 0:0 315532800 \"conf\\n\"\n"},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.t = t
				w.build("new:\n  base: root\n  " + c.ops + "\n")
				if got := w.list("new", 1); got != c.want {
					t.Errorf("got\n%s\nwant\n%s", got, c.want)
				}
				conf := check(os.ReadDir(filepath.Join(w.dir, "conf")))(t)
				own := check(os.ReadFile(filepath.Join(w.dir, "conf/own")))(t)
				if len(conf) != 2 || string(own) != "conf\n" {
					t.Errorf("the host's folder has %v, %q", conf, own)
				}
			})
		}
		w.t = t
		_, err := w.try("new:\n  base: root\n  pre: mount --bind conf %ROOT%/data\n  remove: /data\n")
		if err == nil || !strings.Contains(err.Error(), "a hook has mounted something there") {
			t.Errorf("removed: %v", err)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "conf/own")); err != nil {
			t.Error(err)
		}
	})
}

// What pre makes is there for the actions of its target, of all steps.
func TestHookMakesInputs(t *testing.T) {
	forDrivers(t, map[string]string{"later": "old"}, func(t *testing.T, w *work) {
		const text = rootSpec + "new:\n  base: root\n  pre: mkdir made; echo 1 >made/a; echo 2 >made/b; echo new >later; printf '#!/bin/sh\\necho ran >/ran\\n' >made/run.sh\n  steps:\n" +
			"  - copy: made/a /a\n  - copy: later /later\n  - run: made/run.sh\n    layer: true\n  - copy: made/[ab] /d/\n  post: rm -r made; echo old >later\n"
		_, p := w.builder(text)
		if err := CheckInputs(p, nil); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			w.build(text)
			want := head + "a 0644 0:0 315532800 \"1\\n\"\nlater 0644 0:0 315532800 \"new\\n\"\nran 0644 0:0 315532800 \"ran\\n\"\n"
			if got := w.list("new", 1); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if got := w.list("new", 2); !strings.Contains(got, "d/a 0644") || !strings.Contains(got, "d/b 0644") {
				t.Errorf("got\n%s", got)
			}
		}
		w.explain(text)
		var failure *StepError
		if _, err := w.try(rootSpec + "new:\n  base: root\n  pre: 'true'\n  copy: missing /x\n"); !errors.As(err, &failure) || failure.Pos.Line != 5 || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	})
}
