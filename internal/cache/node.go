package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A key is a Merkle tree: its node names larger inputs, such as the list of a folder's files, by
// their SHA-256. What stands behind such a name decides nothing. It is kept so that people can be
// told how two keys differ: sealed, and under names that tell nothing, since secrets may be in it.

// sealedMore is how much longer sealed content is: a nonce and a tag.
const sealedMore = 12 + 16

// KeepNode keeps content, whose SHA-256 is sum, unless it is kept already, or there is no key to
// seal it with.
func (c *Cache) KeepNode(sum [32]byte, content []byte) error {
	name, err := c.nodeName(sum, true)
	if err != nil {
		return nil
	}
	path := c.nodePath(name)
	if fi, err := os.Stat(path); err == nil && fi.Size() == int64(len(content))+sealedMore {
		now := time.Now()
		return os.Chtimes(path, now, now) // what is in use is not the oldest
	}
	sealed, err := c.seal(name, content)
	if err == nil {
		err = writeFile(path, sealed)
	}
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// Node returns the content whose SHA-256 is sum. The error is ErrMiss where it is not kept, or
// damaged, and wraps ErrSealed where its key is not here.
func (c *Cache) Node(sum [32]byte) ([]byte, error) {
	name, err := c.nodeName(sum, false)
	if err != nil {
		return nil, err
	}
	b, err := readFile(c.nodePath(name))
	if err != nil {
		return nil, err
	}
	if b, err = c.open(name, b); err != nil || sha256.Sum256(b) != sum {
		return nil, ErrMiss
	}
	return b, nil
}

func (c *Cache) nodePath(name string) string { return filepath.Join(c.dir, NodesDir, name) }

// Inputs returns the node that the key of the id (Key.String) was made of, and what Key.With was
// given, nil for nothing. The error is ErrMiss where there is no entry of the key, or a damaged
// one, and wraps ErrSealed where the key that it was sealed with is not here.
func (c *Cache) Inputs(id string) (node, about json.RawMessage, err error) {
	b, err := readFile(c.path(Key{id: id}))
	if err != nil {
		return nil, nil, err
	}
	var r record
	if json.Unmarshal(b, &r) != nil || r.Key != id {
		return nil, nil, ErrMiss
	}
	if len(r.Inputs) == 0 {
		return nil, nil, ErrSealed
	}
	if node, err = c.open(id, r.Inputs); err != nil {
		return nil, nil, err
	}
	if sum := sha256.Sum256(node); hex.EncodeToString(sum[:]) != id {
		return nil, nil, ErrMiss
	}
	if len(r.About) > 0 {
		about, err = c.open(aboutName(id), r.About)
	}
	return node, about, err
}

// aboutName is the name that what Key.With was given is sealed under.
func aboutName(id string) string { return id + " about" }

// readFile reads a file of the cache. The error is ErrMiss where it is not there.
func readFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrMiss
	case err != nil:
		return nil, fmt.Errorf("read cache: %w", err)
	}
	return b, nil
}
