package killat

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program is killed right before the change that was named, and the one before has happened.
func TestRun(t *testing.T) {
	const files = 4
	script := "for i in 1 2 3 4; do echo $i >file$i; /bin/true; done" // each is made, then written to
	inDir := func(dir string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		return cmd
	}
	if n := Count(t, inDir(t.TempDir())); n != 2*files {
		t.Fatalf("%d changes, want %d", n, 2*files)
	}
	for n := 1; n <= 2*files+1; n++ {
		dir := t.TempDir()
		res := Run(t, inDir(dir), n)
		if want := (Result{min(n, 2*files), n <= 2*files, -1}); n > 2*files && res.Code != 0 || n <= 2*files && res != want {
			t.Errorf("kill before change %d: %+v, want %+v", n, res, want)
		}
		made, err := filepath.Glob(dir + "/file*")
		if err != nil || len(made) != n/2 {
			t.Errorf("killed before change %d: made %q, %v", n, made, err)
		}
		for i, name := range made {
			text, err := os.ReadFile(name)
			if whole := 2*(i+1) < n; err != nil || (strings.TrimSpace(string(text)) != "") != whole {
				t.Errorf("killed before change %d: %s has %q, %v", n, name, text, err)
			}
		}
	}
}

// The same seed gives the same moments.
func TestMoments(t *testing.T) {
	t.Setenv(seedVariable, "17")
	a, b := Moments(t), Moments(t)
	for range 10 {
		if x, y := a.IntN(1000), b.IntN(1000); x != y {
			t.Errorf("%d and %d", x, y)
		}
	}
}
