package main

import (
	"strings"
	"testing"

	"github.com/creack/pty"
)

// TestConfirm: on a terminal the user is asked, and only a yes is one.
func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes\n": true, "\n": false, "n\n": false, "yo\n": false, "\x04": false} {
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal("no terminal:", err)
		}
		if _, err := master.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		var asked strings.Builder
		err = confirm(slave, &asked, "unsetup", "all", "removed", "remove all?")
		if (err == nil) != want || asked.String() != "remove all? [y/N] " {
			t.Errorf("%q: %v, asked %q", answer, err, asked.String())
		}
		slave.Close()
		master.Close()
	}
	err := confirm(strings.NewReader("y\n"), nil, "unsetup", "all", "removed", "remove all?")
	if err == nil || err.Error() != "unsetup: cannot ask whether all may be removed: stdin is not a terminal" || exitCode(err) != exitUsage {
		t.Errorf("without a terminal: %v", err)
	}
}
