package btrfs

import (
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
)

//go:generate go run ./internal/gentemplate

// template is an empty btrfs of templateSize bytes, as lines "block OFFSET LENGTH", each with lines
// "POSITION HEX". All else is zero; checksums are missing. In the place of its UUIDs are the texts
// "genociNa" and "genociNb".
//
//go:embed template.txt
var template string

const templateSize = 128 << 20

// The superblock: where it is, and what in it (struct btrfs_super_block).
const (
	superOffset = 64 << 10
	superSize   = 4 << 10
	superMagic  = 0x40 // of superMagicText
	superLabel  = 0x12b

	superMagicText = "_BHRfS_M"
	label          = "genoci" // what says that setup made a btrfs
)

// writeTemplate writes a new btrfs to the empty file f, which it makes as large as it has to be: an
// ordinary one, with UUIDs of its own.
func writeTemplate(f *os.File) error {
	if err := f.Truncate(templateSize); err != nil {
		return err
	}
	blocks, err := parseTemplate(withUUIDs(template))
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	for _, b := range blocks {
		sum := crc32.Checksum(b.data[32:], crc32.MakeTable(crc32.Castagnoli))
		binary.LittleEndian.PutUint32(b.data, sum)
		if _, err := f.WriteAt(b.data, b.offset); err != nil {
			return err
		}
	}
	return nil
}

// withUUIDs puts random UUIDs into the template.
func withUUIDs(text string) string {
	var pairs []string
	for n := range 9 {
		for _, half := range "ab" {
			var random [8]byte
			rand.Read(random[:])
			pairs = append(pairs, hex.EncodeToString(fmt.Appendf(nil, "genoci%d%c", n+1, half)), hex.EncodeToString(random[:]))
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// block is a part of the template.
type block struct {
	offset int64
	data   []byte
}

func parseTemplate(text string) ([]block, error) {
	var blocks []block
	for line := range strings.Lines(text) {
		var b block
		var length, at int
		var data []byte
		if strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := fmt.Sscanf(line, "block %d %d\n", &b.offset, &length); err == nil {
			b.data = make([]byte, length)
			blocks = append(blocks, b)
			continue
		}
		if _, err := fmt.Sscanf(line, "%d %x\n", &at, &data); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		copy(blocks[len(blocks)-1].data[at:], data)
	}
	return blocks, nil
}

// isOurs reports whether a file or device holds a btrfs that setup made, and how large that is.
func isOurs(f *os.File) (bool, error) {
	super := make([]byte, superSize)
	if n, err := f.ReadAt(super, superOffset); n < len(super) {
		if info, statErr := f.Stat(); statErr == nil && info.Size() < superOffset+superSize {
			return false, nil
		}
		return false, err
	}
	return string(super[superMagic:superMagic+len(superMagicText)]) == superMagicText && text(super[superLabel:superLabel+256]) == label, nil
}
