package shown

import (
	"slices"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		`curl -H "Authorization: Bearer abc" https://u:p@h/a`:        `curl -H "Authorization: …" https://h/a`,
		`run curl -sSfH 'PRIVATE-TOKEN: abc' h`:                      `run curl -sSfH 'PRIVATE-TOKEN: …' h`,
		`curl -H X-Api-Key:abc h`:                                    `curl -H X-Api-Key:… h`,
		`curl -HX-Api-Key:abc h`:                                     `curl -HX-Api-Key:… h`,
		`curl -H "X-Api-Key;" h`:                                     `curl -H "X-Api-Key;" h`,
		`wget --header='PRIVATE-TOKEN: abc' h`:                       `wget --header='PRIVATE-TOKEN: …' h`,
		`wget --header "JOB-TOKEN: a b c" h`:                         `wget --header "JOB-TOKEN: …" h`,
		`wget "--header=Cookie: a=b; c=d" h`:                         `wget "--header=Cookie: …" h`,
		`curl --proxy-header 'Proxy-Authorization: Basic abc='`:      `curl --proxy-header 'Proxy-Authorization: …'`,
		`curl -H 'Cookie: a=b' -H 'X-Auth-Token: c' -H 'Accept: d'`:  `curl -H 'Cookie: …' -H 'X-Auth-Token: …' -H 'Accept: d'`,
		`curl -H Authorization:\ Bearer\ abc h`:                      `curl -H Authorization:… h`,
		`curl -H "Authorization: Bearer "'abc'"def" h`:               `curl -H "Authorization: …" h`,
		`curl -H "Authorization: $(echo "abc" "d") e" h`:             `curl -H "Authorization: …" h`,
		`curl -H "Authorization: Bearer a\"bc" h`:                    `curl -H "Authorization: …" h`,
		`curl -H $'Authorization: abc' h`:                            `curl -H $'Authorization: …' h`,
		`curl -H "Authorization: Bearer abc`:                         `curl -H "Authorization: …`,
		"curl -H \\\n  'Authorization: abc' h":                       "curl -H \\\n  'Authorization: …' h",
		`run: "curl -H \"Authorization: abc\" h"`:                    `run: "curl -H \"Authorization: …\" h"`,
		`sh -c 'curl -H "Cookie: a b" h; echo x'`:                    `sh -c 'curl -H "Cookie: …" h; echo x'`,
		`sh -c 'curl -H X-My-Key:abc h'`:                             `sh -c 'curl -H X-My-Key:… h'`,
		`sh -c "curl -H X-My-Key:abc"; echo x`:                       `sh -c "curl -H X-My-Key:…"; echo x`,
		`fetch.sh --header Authorization: Bearer abc --out x`:        `fetch.sh --header Authorization: … --out x`,
		`fetch.sh --header Authorization: Bearer abc http://h/`:      `fetch.sh --header Authorization: … http://h/`,
		`args: [-H, "Cookie: abc", h]`:                               `args: [-H, "Cookie: …", h]`,
		`args: ["-H", 'Cookie: abc', h]`:                             `args: ["-H", 'Cookie: …', h]`,
		`args: [--password, a b, h]`:                                 `args: [--password, …, h]`,
		`args: [-H, "Cookie: a", --token, a b]`:                      `args: [-H, "Cookie: …", --token, …]`,
		`printf 'Authorization: Bearer abc\r\n' | nc h 80`:           `printf 'Authorization: …' | nc h 80`,
		`http h X-Api-Key:abc name=x`:                                `http h X-Api-Key:… name=x`,
		`+ PRIVATE-TOKEN: abc`:                                       `+ PRIVATE-TOKEN: …`,
		`curl -H "Authorization: Bearer $TOKEN" h`:                   `curl -H "Authorization: Bearer $TOKEN" h`,
		`curl -H "Authorization: Bearer ${{TOKEN}}" h`:               `curl -H "Authorization: Bearer ${{TOKEN}}" h`,
		`curl -H "Authorization: Bearer ${TOKEN}abc" h`:              `curl -H "Authorization: …" h`,
		`curl -H "X-Api-Key: abc $KEY def" h`:                        `curl -H "X-Api-Key: …" h`,
		`curl -u user:password h`:                                    `curl -u … h`,
		`curl -fsSLu "user:pass word" h`:                             `curl -fsSLu "…" h`,
		`curl -uuser:password h`:                                     `curl -u… h`,
		`/usr/bin/curl --user 'user:password' h`:                     `/usr/bin/curl --user '…' h`,
		`curl --proxy-user=user:password h`:                          `curl --proxy-user=… h`,
		`curl -A 'x; y' -u user:password h`:                          `curl -A 'x; y' -u … h`,
		`  -u user:password \`:                                       `  -u … \`,
		`curl -u user h`:                                             `curl -u user h`,
		`curl -u "$USER:$PASS" h`:                                    `curl -u "$USER:$PASS" h`,
		`curl -u ${{USER}}:${{PASS}} h`:                              `curl -u ${{USER}}:${{PASS}} h`,
		`curl -u "me:$PASS" h`:                                       `curl -u "…" h`,
		`curl -b session=abc h`:                                      `curl -b … h`,
		`curl --cookie "session=abc" h`:                              `curl --cookie "…" h`,
		`curl -b jar.txt h`:                                          `curl -b jar.txt h`,
		`curl --oauth2-bearer abc h`:                                 `curl --oauth2-bearer … h`,
		`wget --user=me --password=abc h`:                            `wget --user=me --password=… h`,
		`wget --http-password='a b' h`:                               `wget --http-password='…' h`,
		`svn --password abc co h`:                                    `svn --password … co h`,
		`docker login --password-stdin`:                              `docker login --password-stdin`,
		`svn --password --x`:                                         `svn --password --x`,
		`adduser --disabled-password --gecos "" me`:                  `adduser --disabled-password --gecos "" me`,
		`echo "Author: me"`:                                          `echo "Author: me"`,
		`sed s/key: a/key: b/ f`:                                     `sed s/key: a/key: b/ f`,
		`sed -i 's/key: a/key: b/' f`:                                `sed -i 's/key: a/key: b/' f`,
		`grep -rH "token: x" /etc`:                                   `grep -rH "token: x" /etc`,
		`printf "user: me\nkey: value\n" >/etc/x`:                    `printf "user: me\nkey: value\n" >/etc/x`,
		`ls -lH /etc; du -H x:y`:                                     `ls -lH /etc; du -H x:y`,
		`sort -u a:b; id -u; chown -H u:g f`:                         `sort -u a:b; id -u; chown -H u:g f`,
		`apt-get install -y curl && setpriv -u app:app x`:            `apt-get install -y curl && setpriv -u app:app x`,
		`curl -o x h; chpst -u app:app x`:                            `curl -o x h; chpst -u app:app x`,
		`copy x-key:/src /dest`:                                      `copy x-key:/src /dest`,
		`apt-key adv --keyserver hkp://k:80 --recv-keys AB`:          `apt-key adv --keyserver hkp://k:80 --recv-keys AB`,
		`don't -H "Cookie: abc"`:                                     `don't -H "Cookie: …"`,
		`curl -H 'Content-Type: text/plain' -d '{"token": "x"}' h`:   `curl -H 'Content-Type: text/plain' -d '{"token": "x"}' h`,
		`git -c http.extraHeader='Authorization: Basic abc' clone h`: `git -c http.extraHeader='Authorization: …' clone h`,
		`--`:     `--`,
		`-H`:     `-H`,
		`-H "`:   `-H "`,
		`curl -`: `curl -`,
		`a\`:     `a\`,
	} {
		got := Text(text)
		if got != want {
			t.Errorf("Text(%q) =\n     %q\nwant %q", text, got, want)
		}
		if again := Text(got); again != got {
			t.Errorf("Text(%q) =\n     %q, and again\n     %q", text, got, again)
		}
	}
}

func TestWords(t *testing.T) {
	words := []string{"x", "-H", "Cookie: a", "--password", "abc def", "--header=X-Token: b", "--", "me"}
	want := []string{"x", "-H", "Cookie: …", "--password", "…", "--header=X-Token: …", "--", "me"}
	if got := Words(words); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzText wants an answer to any text, and text for text.
func FuzzText(f *testing.F) {
	f.Add(`curl -H "Authorization: $(a "b")" -u a:b --password=c 'https://u:p@h/?x'`)
	f.Fuzz(func(t *testing.T, text string) {
		if got := Text(text); utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("Text(%q) = %q", text, got)
		}
	})
}
