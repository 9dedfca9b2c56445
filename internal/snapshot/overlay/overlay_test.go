package overlay

import (
	"fmt"
	"os"
	"testing"

	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/snapshottest"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	if err := sandbox.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err) // Open says it again, and the tests skip or fail by that
	}
	os.Exit(m.Run())
}

func open(dir string) (snapshot.Driver, error) {
	return Open(dir, Options{Rootless: sandbox.Rootless()})
}

func TestOverlay(t *testing.T)      { snapshottest.Run(t, "overlay", open) }
func BenchmarkOverlay(b *testing.B) { snapshottest.Bench(b, "overlay", open) }
