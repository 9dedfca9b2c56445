package source

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"genoci/internal/durable"
	"genoci/internal/shown"
)

// fetched is what is remembered of a URL, to ask the server only whether it changed (RFC 9110,
// section 13, conditional requests).
type fetched struct {
	URL          string `json:"url"`
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
	Digest       string `json:"digest"` // hexadecimal SHA-256, and the name of the file
}

const (
	fetchTries   = 3
	fetchTimeout = 60 * time.Second // without an answer, or without a byte
)

// StatusError is the answer of a server that gave no content.
type StatusError struct {
	URL    string // as it is shown
	Status string // "401 Unauthorized"
	Code   int
	Host   string // of the URL, without port
	Sent   bool   // user and password were sent
	InURL  bool   // they stand in the URL; else they are from Netrc
	Moved  bool   // another server answered, to which that of the URL redirects, and which is sent no user
	Netrc  string // as in Source
}

// Error is "get URL: STATUS".
func (e *StatusError) Error() string { return fmt.Sprintf("get %s: %s", e.URL, e.Status) }

// Denied reports whether the server wants another user and password, or some at all (RFC 9110,
// sections 15.5.2 and 15.5.4).
func (e *StatusError) Denied() bool {
	return e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden
}

// address is a URL, and what is shown and kept in its place.
type address struct {
	*url.URL
	shown  string
	secret bool // there is something in it that is not shown
}

// parse reads a URL. The error is without what may be secret in it.
func (s *Source) parse(rawURL string) (address, error) {
	a := address{shown: shown.URLs(rawURL)}
	if text, ok := s.Shown[rawURL]; ok {
		a.shown, a.secret = text, true
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return a, fmt.Errorf("invalid URL %q", a.shown) // the error has all of it
	}
	a.URL, a.secret = u, a.secret || u.User != nil || u.RawQuery != ""
	return a, nil
}

// fetch returns the content of a URL. With a checksum it is asked for once, and taken from the
// cache from then on; without, the server is asked each time whether it changed.
func (s *Source) fetch(ctx context.Context, rawURL, checksum string) (File, error) {
	u, err := s.parse(rawURL)
	if err != nil {
		return File{}, err
	}
	if checksum != "" {
		if f, err := s.downloaded(ctx, u, strings.ToLower(strings.TrimPrefix(checksum, "sha256:"))); err == nil {
			s.markUsed(u)
			return f, nil
		}
	}
	var last error
	for try := range fetchTries {
		if try > 0 {
			if err := sleep(ctx, time.Duration(try*try)*250*time.Millisecond); err != nil {
				return File{}, err
			}
		}
		f, again, err := s.get(ctx, u)
		if err == nil {
			return f, f.check(u.shown, checksum)
		}
		if last = err; !again {
			break
		}
	}
	return File{}, last
}

// Download returns what a URL gives, as the one match of a copy, with mode 0644. Its name is the
// last element of the URL's path, or "" where that is none for a file. checksum is as in File.
func (s *Source) Download(ctx context.Context, rawURL, checksum string) (Match, error) {
	f, err := s.fetch(ctx, rawURL, checksum)
	if err != nil {
		return Match{}, err
	}
	fi, err := os.Stat(f.Path)
	if err != nil {
		return Match{}, err
	}
	m := Match{Name: f.Name, Nodes: []Node{{Rel: ".", Path: f.Path, Mode: 0o644, Size: f.Size, MTime: fi.ModTime().Unix(), Digest: f.Digest}}}
	if m.Name == "." || m.Name == ".." || m.Name == "/" || strings.Contains(m.Name, "\x00") {
		m.Name = ""
	}
	return m, nil
}

// get asks for a URL once. again says that another try may help.
func (s *Source) get(ctx context.Context, u address) (f File, again bool, err error) {
	asked, err := s.withCredentials(u.URL)
	if err != nil {
		return f, false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, asked.String(), nil)
	if err != nil {
		return f, false, getError(u, err)
	}
	req.Header.Set("User-Agent", "genoci")
	known, have := s.known(ctx, u)
	if have {
		if known.ETag != "" {
			req.Header.Set("If-None-Match", known.ETag)
		}
		if known.LastModified != "" {
			req.Header.Set("If-Modified-Since", known.LastModified)
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = fetchTimeout
	t.DisableCompression = true // some servers say of a .tar.gz that it was compressed for the way only
	defer t.CloseIdleConnections()
	resp, err := (&http.Client{Transport: t, CheckRedirect: followRedirect}).Do(req)
	if err != nil {
		return f, ctx.Err() == nil, getError(u, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && have:
		s.markUsed(u)
		f, err = s.downloaded(ctx, u, known.Digest)
		return f, false, err
	case resp.StatusCode != http.StatusOK:
		return f, resp.StatusCode >= 500, &StatusError{
			URL: u.shown, Status: resp.Status, Code: resp.StatusCode, Host: u.Hostname(),
			Sent: asked.User != nil, InURL: u.User != nil, Moved: resp.Request.URL.Host != u.Host, Netrc: s.Netrc,
		}
	}
	sum, err := s.save(ctx, u, resp)
	if err != nil {
		return f, ctx.Err() == nil, getError(u, err)
	}
	if err := s.note(u, fetched{
		URL: u.shown, Digest: sum,
		ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"),
	}); err != nil {
		return f, false, err
	}
	f, err = s.downloaded(ctx, u, sum)
	return f, false, err
}

// save writes the body of a response under the name of its digest, and returns that.
func (s *Source) save(ctx context.Context, u address, resp *http.Response) (string, error) {
	tmp, err := durable.CreateTemp(s.Downloads, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { _ = tmp.Drop() }() // but for what has got its name
	h := sha256.New()
	body := &stalling{r: resp.Body, stop: resp.Body.Close}
	w := &counter{w: io.MultiWriter(tmp, h), report: func(n int64) {
		if s.Report != nil {
			s.Report(u.shown, n, max(resp.ContentLength, 0))
		}
	}}
	n, err := io.Copy(w, &ctxReader{ctx, body})
	if err == nil && resp.ContentLength >= 0 && n != resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	return sum, tmp.Rename(filepath.Join(s.Downloads, sum), durable.NoSync)
}

// downloaded returns the file of the digest that an earlier fetch stored.
func (s *Source) downloaded(ctx context.Context, u address, sum string) (File, error) {
	f, err := s.local(ctx, filepath.Join(s.Downloads, sum))
	if err != nil {
		return f, err
	}
	if hex.EncodeToString(f.Digest[:]) != sum {
		return f, changed(f.Path)
	}
	f.Name = path.Base(u.Path)
	return f, nil
}

// known returns what an earlier fetch of the URL was told, if its file is still sound.
func (s *Source) known(ctx context.Context, u address) (fetched, bool) {
	var k fetched
	path, ok := s.metaPath(u)
	if !ok {
		return k, false
	}
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &k) != nil {
		return k, false
	}
	_, err = s.downloaded(ctx, u, k.Digest)
	return k, err == nil
}

// note stores what is remembered of a URL, where it can be told from others.
func (s *Source) note(u address, k fetched) error {
	path, ok := s.metaPath(u)
	if !ok {
		return nil
	}
	meta, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, meta, 0o600, durable.NoSync)
}

// metaPath returns the file for a URL, if there can be one: of a URL that may hold a secret it is
// named with the help of Secret.
func (s *Source) metaPath(u address) (path string, ok bool) {
	name := sha256.New()
	if u.secret {
		if s.Secret == nil {
			return "", false
		}
		secret, err := s.Secret()
		if err != nil {
			return "", false
		}
		name = hmac.New(sha256.New, secret)
	}
	name.Write([]byte(u.String()))
	return filepath.Join(s.Downloads, fmt.Sprintf(metaPrefix+"%x"+metaSuffix, name.Sum(nil))), true
}

// getError is err, of a request to u or of its answer, without the URLs that it may have: they may
// hold secrets, also those that a server redirects to.
func getError(u address, err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if text := err.Error(); text != shown.URLs(text) || strings.Contains(text, "Location header") {
		err = errors.New("the server redirects to an invalid URL")
	}
	return fmt.Errorf("get %s: %w", u.shown, err)
}

// maxRedirects is how many redirects are followed, as net/http does by itself.
const maxRedirects = 10

// followRedirect decides what a request that a redirect leads to has: user and password go on to
// the same server only, and no server is told the URL that led to it, which may hold a signature.
func followRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	req.Header.Del("Referer")
	first := via[0].URL
	switch {
	case req.URL.Scheme != first.Scheme || req.URL.Host != first.Host:
		req.Header.Del("Authorization")
	case req.URL.User == nil:
		req.URL.User = first.User
	}
	return nil
}

// markUsed notes that what the URL gave is used: the time of its file tells what was not used for
// long, and can go.
func (s *Source) markUsed(u address) {
	now := time.Now()
	if path, ok := s.metaPath(u); ok {
		_ = os.Chtimes(path, now, now)
	}
}

// counter counts what is written.
type counter struct {
	w      io.Writer
	n      int64
	report func(int64)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.report(c.n)
	return n, err
}

// stalling ends a read that gives no byte for fetchTimeout.
type stalling struct {
	r    io.Reader
	stop func() error
}

func (s *stalling) Read(p []byte) (int, error) {
	t := time.AfterFunc(fetchTimeout, func() { _ = s.stop() }) // the read then fails, which is enough
	defer t.Stop()
	return s.r.Read(p)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// ctxReader fails once its context has ended.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
