package shown

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSON(t *testing.T) {
	for _, text := range []string{"", "größe\n\t", "\x1b]0;x\a\r\x7f\u009b", "a\u202eb\u2066c\u2028d\u200ee\u061cf", "👩\u200d👩", "a ##[error]b # ##"} {
		encoded, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		got := JSON(string(encoded))
		if strings.Contains(got, Command) {
			t.Errorf("JSON(%q) = %q has a command", encoded, got)
		}
		for _, r := range got {
			if Odd(r) {
				t.Errorf("JSON(%q) = %q, which has %q", encoded, got, r)
			}
		}
		var again string
		if err := json.Unmarshal([]byte(got), &again); err != nil || again != text {
			t.Errorf("JSON(%q) = %q, which is %q, %v", encoded, got, again, err)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b]0;t\a\xff\u202e\n\t")
	f.Fuzz(func(t *testing.T, text string) {
		got := Escape(text, func(rune) string { return "?" })
		if !utf8.ValidString(got) {
			t.Errorf("Escape(%q) = %q is not UTF-8", text, got)
		}
		for _, r := range got {
			if Odd(r) {
				t.Errorf("Escape(%q) = %q has %q", text, got, r)
			}
		}
	})
}
