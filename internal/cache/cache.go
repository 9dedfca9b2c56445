// Package cache remembers which layer a step made: from a key, which covers every input of the step, to an entry. It can be deleted at any
// moment. It never looks into layers or layouts: whether what an entry names is still there is for the caller to see.
package cache

// Cache is a folder of genoci's own state: step results, TOCs, digests of input files, and the drivers' snapshots, each in a folder below.
type Cache struct{ dir string }

// Open opens the cache in dir, making it where it is missing.
func Open(dir string) (*Cache, error) { panic("stub") }

// Dir returns the folder for one kind of content, making it where it is missing: "toc", "overlay", "vfs", "tmp".
func (c *Cache) Dir(kind string) (string, error) { panic("stub") }
