package main

import (
	"fmt"
	"strings"
)

// byteSize is a flag that takes a size with a unit.
type byteSize struct {
	bytes int64
	set   bool
}

func (b *byteSize) Type() string { return "SIZE" }
func (b *byteSize) String() string {
	if !b.set {
		return ""
	}
	return size(b.bytes)
}

func (b *byteSize) Set(s string) (err error) {
	b.bytes, err = parseSize(s)
	b.set = err == nil
	return err
}

// limit returns the number, or nil where there is none.
func (b *byteSize) limit() *int64 {
	if !b.set {
		return nil
	}
	return &b.bytes
}

// parseSize reads a size: "1500 B", "1.5 kB", "20GB", "20G", "1GiB". Units are decimal, those with
// an i binary. Only 0 needs no unit: whoever writes "--max-size 5" rarely means five bytes, and LVM
// reads a bare number as mebibytes.
func parseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "BbiIkKmMgGtT ")
	unit := strings.ToLower(strings.TrimSpace(s[len(number):]))
	factors := map[string]float64{
		"": 1, "b": 1,
		"k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
		"ki": 1 << 10, "kib": 1 << 10, "mi": 1 << 20, "mib": 1 << 20, "gi": 1 << 30, "gib": 1 << 30, "ti": 1 << 40, "tib": 1 << 40,
	}
	factor, ok := factors[unit]
	var n float64
	if ok {
		_, err := fmt.Sscanf(number+"\n", "%g\n", &n)
		ok = err == nil
	}
	if ok = ok && n >= 0 && n*factor < 1<<62; !ok {
		return 0, fmt.Errorf("%q is not a size, as in 500MB, 20GB, 1GiB", s)
	}
	if unit == "" && n != 0 {
		return 0, fmt.Errorf("%q needs a unit: write %sGB for gigabytes, %sMB for megabytes, %sB for bytes", s, s, s, s)
	}
	return int64(n * factor), nil
}
