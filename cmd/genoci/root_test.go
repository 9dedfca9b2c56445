package main

import (
	"slices"
	"strings"
	"testing"
)

// The words of the original's program for trees.
func TestLpackForm(t *testing.T) {
	for line, want := range map[string]string{
		"": "", "setup": "storage setup", "unsetup -f": "storage unsetup -f", "detach": "storage detach", "unpack": "unpack",
		"checkout web": "checkout web", "co web": "checkout web", "checkin": "checkin", "ci new": "checkin new",
		"abort": "abort", "abort -f": "abort", "abort --force dir": "abort dir",
	} {
		if got := lpackForm(strings.Fields(line)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("lpackForm(%q) = %q, want %q", line, got, want)
		}
	}
	for _, line := range []string{"storage unsetup -f", "abort", "checkout web"} {
		if cmd, _, err := newRoot().Find(strings.Fields(line)); err != nil || cmd.ParseFlags(strings.Fields(line)) != nil {
			t.Errorf("%s: not taken", line)
		}
	}
}
