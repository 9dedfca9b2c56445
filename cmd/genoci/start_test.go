package main

import (
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestPutOffGC: the second garbage collection comes soon.
func TestPutOffGC(t *testing.T) {
	t.Setenv("GOGC", "")
	old := debug.SetGCPercent(70)
	defer debug.SetGCPercent(old)
	putOffGC()
	percent := 0
	for range 100 {
		runtime.GC()
		percent = debug.SetGCPercent(100)
		if percent == 50 {
			return
		}
		debug.SetGCPercent(percent)
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("after a collection: %d %%", percent)
}

// BenchmarkStart is what every command takes: a start of the program, which here has the tests in
// it.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		cmd := exec.Command("/proc/self/exe", "version")
		cmd.Args[0] = "genoci"
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}
