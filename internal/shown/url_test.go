package shown

import "testing"

func TestURLs(t *testing.T) {
	for text, want := range map[string]string{
		"":                                                      "",
		"no URL: a@b?c":                                         "no URL: a@b?c",
		"https://host/a.tar":                                    "https://host/a.tar",
		"https://host:80/a.tar":                                 "https://host:80/a.tar",
		"https://user:secret@host/a.tar":                        "https://host/a.tar",
		"https://token@host":                                    "https://host",
		"https://user:se@cret@host/a.tar":                       "https://host/a.tar",
		"https://user:se/cret@host/a.tar":                       "https://host/a.tar",
		"https://user:se?cret@host/a.tar":                       "https://host/a.tar",
		"https://user:se#cret@host:81":                          "https://host:81",
		"https://user:secret":                                   "https://…",
		"https://user:sec/ret":                                  "https://…",
		"https://host/a?sig=secret":                             "https://host/a?…",
		"https://host/a?sig=secret#more":                        "https://host/a?…",
		"https://host/a#access_token=secret":                    "https://host/a#…",
		"https://host?secret":                                   "https://host?…",
		"https://host/a?":                                       "https://host/a?",
		"https://host/@scope/package":                           "https://host/@scope/package",
		"https://[::1]:8080/a":                                  "https://[::1]:8080/a",
		"https://u:p@[::1]:8080/a?x":                            "https://[::1]:8080/a?…",
		"https://host:$PORT/a":                                  "https://host:$PORT/a",
		"HTTP://u:p@host/A":                                     "HTTP://host/A",
		"curl -H x 'https://u:p@h/a?t=1' ftp://u:p@g/b; echo a": "curl -H x 'https://h/a?…' ftp://g/b; echo a",
		`get "https://u:p@h/?a": 404`:                           `get "https://h/?…": 404`,
		"https://u:p@h/a\nhttps://u:p@i/a":                      "https://h/a\nhttps://i/a",
		"http://a/?next=http://u:p@b/":                          "http://a/?…",
		"://":                                                   "://",
	} {
		got := URLs(text)
		if got != want {
			t.Errorf("URLs(%q) = %q, want %q", text, got, want)
		}
		if again := URLs(got); again != got {
			t.Errorf("URLs(%q) = %q, and again %q", text, got, again)
		}
	}
}
