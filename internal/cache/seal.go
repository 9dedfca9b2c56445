package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"genoci/internal/durable"
)

// ErrSealed is wrapped where something that the cache keeps cannot be opened: it was sealed with
// another random key than the one that is here, or there is none.
var ErrSealed = errors.New("it is encrypted, and its key is missing")

// secretSize is the size of the random key, and of those that are derived of it, in bytes.
const secretSize = 32

// SealAt names the file of the random key with which the cache seals what is for this machine's
// eyes only: what keys were made of, and the names of URLs that hold a secret. The file is made
// when it is needed first. It has to be outside the cache's folder, so that a copy of that tells
// nothing. Without such a file, or where it can be neither read nor made, nothing of the sort is
// kept.
func (c *Cache) SealAt(file string) { c.secretFile = file }

// Secret returns the random key of this cache folder for a purpose, making it where it is missing.
// Nobody can tell it from another's.
func (c *Cache) Secret(purpose string) ([]byte, error) { return c.secret(purpose, true) }

// secret derives the key for a purpose (RFC 5869), from that of all cache folders of a user.
func (c *Cache) secret(purpose string, create bool) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.random == nil {
		root, err := filepath.EvalSymlinks(c.dir)
		if err != nil {
			return nil, err
		}
		all, err := c.readSecret(create)
		if err != nil {
			return nil, err
		}
		if c.random, err = hkdf.Key(sha256.New, all, nil, "genoci cache "+root, secretSize); err != nil {
			return nil, err
		}
	}
	return hkdf.Key(sha256.New, c.random, nil, purpose, secretSize)
}

// readSecret reads the file of the random key.
func (c *Cache) readSecret(create bool) ([]byte, error) {
	if c.secretFile == "" {
		return nil, ErrSealed
	}
	if rel, err := filepath.Rel(c.dir, c.secretFile); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		return nil, fmt.Errorf("%w: a copy of the cache would contain %s", ErrSealed, c.secretFile)
	}
	b, err := os.ReadFile(c.secretFile)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := makeSecret(c.secretFile); err != nil {
			return nil, fmt.Errorf("key of the cache: %w", err)
		}
		b, err = os.ReadFile(c.secretFile)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrSealed
	case err != nil:
		return nil, fmt.Errorf("key of the cache: %w", err)
	case len(b) != secretSize:
		return nil, fmt.Errorf("key of the cache: %s is damaged; remove it", c.secretFile)
	}
	return b, nil
}

// makeSecret makes a file with a random key, unless another process is faster.
func makeSecret(file string) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := durable.CreateTemp(dir, 0o600)
	if err != nil {
		return err
	}
	secret := make([]byte, secretSize)
	_, _ = rand.Read(secret) // it does not fail
	_, err = f.Write(secret)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Link(f.Name(), file)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, f.Drop())
}

// seal returns content so that only open gives it back (AES-256-GCM, NIST SP 800-38D). name is what
// it is kept under.
func (c *Cache) seal(name string, content []byte) ([]byte, error) {
	box, err := c.box(true)
	if err != nil {
		return nil, err
	}
	return box.Seal(nil, nil, content, []byte(name)), nil
}

// open returns what was sealed under a name. The error wraps ErrSealed where the key is not the
// one.
func (c *Cache) open(name string, sealed []byte) ([]byte, error) {
	box, err := c.box(false)
	if err != nil {
		return nil, err
	}
	content, err := box.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return nil, ErrSealed
	}
	return content, nil
}

// box returns the cipher, with random nonces that it puts before the text.
func (c *Cache) box(create bool) (cipher.AEAD, error) {
	key, err := c.secret("explanations", create)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// nodeName returns the name that a node with the SHA-256 sum is kept under, which does not tell the
// sum.
func (c *Cache) nodeName(sum [32]byte, create bool) (string, error) {
	key, err := c.secret("names", create)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(sum[:])
	return fmt.Sprintf("%x", mac.Sum(nil)), nil
}
