// Package strict keeps tests from passing by accident: a skip that GENOCI_REQUIRE forbids is a
// failure, and so is a wait whose time is up, and an error that nobody asked for.
package strict

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// Required reports whether GENOCI_REQUIRE, a list with commas, names the feature. What it names may
// not be missing.
func Required(feature string) bool {
	return slices.Contains(strings.Split(os.Getenv("GENOCI_REQUIRE"), ","), feature)
}

// Lack skips the test, because the machine lacks feature. The test fails if the feature is
// [Required].
func Lack(t testing.TB, feature string, why any) {
	t.Helper()
	if Required(feature) {
		t.Fatalf("%s is required: %v", feature, why)
	}
	t.Skipf("no %s: %v", feature, why)
}

// Need returns the path of a program. Without the program, the test is skipped (see [Lack]).
func Need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lack(t, name, err)
	}
	return path
}

// NeedRoot skips the test (see [Lack]) for all users but root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lack(t, "root", "the test runs as an ordinary user")
	}
}

// Must ends the test at any error.
func Must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// patience is how long [Eventually] waits.
const patience = 10 * time.Second

// Eventually waits until wrong returns "". It is for what the kernel does in its own time. If wrong
// still returns something after ten seconds, the test fails with that text.
func Eventually(t testing.TB, wrong func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for text := wrong(); text != ""; text = wrong() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v there is still this: %s", patience, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
