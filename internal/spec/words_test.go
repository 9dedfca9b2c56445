package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitWords(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", []string{}},
		{" \t\n", []string{}},
		{`/bin/echo "hello world"`, []string{"/bin/echo", "hello world"}},
		{"a  b\tc\nd", []string{"a", "b", "c", "d"}},
		{`a'b c'"d e"f`, []string{"ab cd ef"}},
		{`'' ""`, []string{"", ""}},
		{`'a\b' "a\b" a\b`, []string{`a\b`, `a\b`, "ab"}},
		{`"\$\"\\` + "\\`" + `"`, []string{`$"\` + "`"}},
		{"a\\\nb \"c\\\nd\" 'e\\\nf'", []string{"ab", "cd", "e\\\nf"}},
		{"\\\n", []string{}},
		{`\ `, []string{" "}},
		{`$HOME a;b #c && *`, []string{"$HOME", "a;b", "#c", "&&", "*"}},
		{`é"ü ö"`, []string{"éü ö"}},
	} {
		got, err := splitWords(test.text)
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.text, diff)
		}
	}
	for text, offset := range map[string]int{`a "b`: 2, `'`: 0, `a "b" 'c`: 6, `a\`: 1, `"\"`: 0} {
		_, err := splitWords(text)
		if at, ok := errors.AsType[*textError](err); !ok || at.offset != offset {
			t.Errorf("%q: %#v, want an error at %d", text, err, offset)
		}
	}
}

func TestExpandEnv(t *testing.T) {
	base := func(name string) string { return map[string]string{"PATH": "/bin", "A_1": "one"}[name] }
	for value, want := range map[string]string{
		"":                     "",
		"/opt:$PATH":           "/opt:/bin",
		"${PATH}:/opt":         "/bin:/opt",
		"$A_1$A_1":             "oneone",
		"$A_1x":                "",
		"${A_1}x":              "onex",
		"$NONE-":               "-",
		"5$$":                  "5$",
		"$$PATH":               "$PATH",
		"$$$PATH":              "$/bin",
		"$":                    "$",
		"a $ b $1 $":           "a $ b $1 $",
		"${PATH":               "${PATH",
		"${PATH:-x}":           "${PATH:-x}",
		"${}":                  "${}",
		strings.Repeat("$", 4): "$$",
	} {
		if got := ExpandEnv(value, base); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}
