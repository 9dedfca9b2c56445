package main

import (
	"bytes"
	"errors"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 9994: "9.99 kB", 9996: "10.0 kB", 99_949: "99.9 kB", 99_951: "100 kB", 999_499: "999 kB",
		999_500: "1.00 MB", 60_458_723: "60.5 MB", 1 << 30: "1.07 GB", 5_000_000_000_000: "5.00 TB", 5_000_000_000_000_000: "5000 TB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "0B": 0, "5B": 5, "1500 B": 1500, "1.5 kB": 1500, "20GB": 20e9, "20g": 20e9, "1GiB": 1 << 30, "2Ti": 2 << 40, ".5M": 500_000,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GB", "much", "5", "0.5", "1e9", "-1GB", "NaN", "inf GB", "nanB", "5x", "5 5GB", "1GBB", "9999999999GB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 59_949 * time.Millisecond: "59.9s", 59_950 * time.Millisecond: "1m00s", 61 * time.Second: "1m01s",
		3*time.Hour + 2*time.Minute: "3h02m", 59*time.Minute + 59*time.Second + 900*time.Millisecond: "1h00m",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for line, want := range map[string]string{
		"plain":                      "plain",
		"10%\r50%\r100%":             "100%",
		"line\r":                     "line",
		"a\tb":                       "a    b",
		"\x1b[31mred\x1b[0m":         "red",
		"\x1b]0;title\x07text":       "text",
		"\x1b]8;;http://x\x1b\\link": "link",
		"\x1b[2J\x1b[Hhome\x07":      "home",
		"\x1b(Bascii":                "ascii",
		"\x1bcreset":                 "reset",
		"cut off \x1b[3":             "cut off ",
		"\x1b":                       "",
		"größe":                      "größe",
		"bad \xff utf8":              "bad \ufffd utf8",
		"\u009b31mred":               "31mred",
	} {
		if got := printable(line); got != want {
			t.Errorf("printable(%q) = %q, want %q", line, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[31mred\x1b]0;t\x1b\\ \r x\t\u009b")
	f.Fuzz(func(t *testing.T, line string) {
		got := printable(line)
		for _, r := range got {
			if unicode.IsControl(r) {
				t.Errorf("printable(%q) = %q holds %U", line, got, r)
			}
		}
		if !utf8.ValidString(got) {
			t.Errorf("printable(%q) = %q is not UTF-8", line, got)
		}
		if again := printable(got); again != got {
			t.Errorf("printable(%q) = %q, and again %q", line, got, again)
		}
	})
}

func TestShellQuote(t *testing.T) {
	for s, want := range map[string]string{
		"": "''", "./oci:web": "./oci:web", "my images:web": "'my images:web'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "~x": "'~x'",
	} {
		if got := shellQuote(s); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", s, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	table(&out, [][]string{{"A", "LONG", ""}, {"größe", "b", "c"}, {"\x1b[31m\n", "d"}})
	if want := "A             LONG\ngröße         b     c\n\"\\x1b[31m\\n\"  d\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// Text of others changes neither a terminal nor the log of a runner.
func TestHostileText(t *testing.T) {
	for text, want := range map[string]string{
		"plain: ä\tb":               "plain: ä\tb",
		"a\x1b[31mb":                `a\x1b[31mb`,
		"a\u202eb\u2066c\u2028d":    `a\u202eb\u2066c\u2028d`,
		"a\rb\x9bc\xff":             `a\rb\x9bc\xff`,
		"a\nerror: b\n::warning::c": "a\n  | error: b\n  | ::warning::c",
		"a ##[error]b":              "a # #[error]b",
		"family \U0001f468\u200d👩":  "family \U0001f468\u200d👩",
	} {
		if got := written(text); got != want {
			t.Errorf("written(%q) = %q, want %q", text, got, want)
		}
	}
	for name, want := range map[string]string{
		"web-1": "web-1", "::warning::x": `"::warning::x"`, "  ::x": `"  ::x"`, "a##[error]": `"a#\x23[error]"`, "a\nb": `"a\nb"`, "a\u202eb": `"a\u202eb"`,
	} {
		if got := quoted(name); got != want {
			t.Errorf("quoted(%q) = %s, want %s", name, got, want)
		}
	}
	for _, c := range []struct {
		format string
		arg    any
		want   string
	}{
		{"%s: x\n", "web", "web: x\n"},
		{"%s: x\n", "a\nerror: b\x1b", `a\nerror: b\x1b: x` + "\n"},
		{"%s: x\n", "error: b", `"error: b": x` + "\n"},
		{"%s: x\n", "::warning::b", `"::warning::b": x` + "\n"},
		{"  %s\n", "::warning::b", "  : :warning::b\n"},
		{"  %s\n", "error: b", "  error: b\n"},
		{"web | %s\n", "::1 ##[x]", "web | ::1 # #[x]\n"},
		{"web | %s\n", newOutputLine("::1 ##[x]"), "web | ::1 ##[x]\n"},
		{"::group::%s\n", "a\n::b", `::group::a\n::b` + "\n"},
		{"error: %v\n", errors.New("a\nb\x1b"), "error: a\n  | b\\x1b\n"},
		{"%q %[1]s\n", "\u202e", `"\u202e" \u202e` + "\n"},
		{"%05d\n", 42, "00042\n"},
	} {
		var b bytes.Buffer
		say(&b, c.format, c.arg)
		if b.String() != c.want {
			t.Errorf("say(%q, %q) = %q, want %q", c.format, c.arg, b.String(), c.want)
		}
	}
	if got := printable("a\u202eb\u2028c"); got != "abc" {
		t.Errorf("printable: %q", got)
	}
	t.Setenv("GITHUB_ACTIONS", "true")
	if got := printable("x ##[error]y"); got != "x # #[error]y" {
		t.Errorf("printable: %q", got)
	}
}
