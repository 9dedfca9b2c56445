// Package sandboxtest runs the tests of a package in a namespace of their own, in which they can
// mount.
package sandboxtest

import (
	"os"
	"testing"

	"genoci/internal/sandbox"
	"genoci/test/strict"
)

// enterErr is why there is no namespace.
var enterErr error

// Main is the body of a TestMain. It enters a namespace, if the machine allows that, calls run and
// ends the process with the code that run returns; run is usually m.Run.
func Main(run func() int) {
	sandbox.Init()
	enterErr = sandbox.Enter()
	os.Exit(run())
}

// Entered returns nil if the tests run in a namespace, and otherwise why they do not.
func Entered() error { return enterErr }

// NeedMounts skips the test where it cannot mount. The test fails if GENOCI_REQUIRE names userns.
func NeedMounts(t testing.TB) {
	t.Helper()
	if enterErr != nil {
		strict.Lack(t, "userns", enterErr)
	}
}
