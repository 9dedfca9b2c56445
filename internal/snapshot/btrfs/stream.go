package btrfs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A stream of changes, as the kernel sends it (fs/btrfs/send.h): this text, a version, and
// commands. A command is its length without its header, its number, a checksum, and attributes; an
// attribute is its number, its length, and its data.
const streamMagic = "btrfs-stream\x00"

// Numbers of commands. What is none of the first eleven changes the file that it names.
const (
	cmdSubvol   = 1
	cmdSnapshot = 2
	cmdMkfile   = 3
	cmdMkdir    = 4
	cmdMknod    = 5
	cmdMkfifo   = 6
	cmdMksock   = 7
	cmdSymlink  = 8
	cmdRename   = 9
	cmdLink     = 10
	cmdUnlink   = 11
	cmdRmdir    = 12
	cmdEnd      = 21
)

// Numbers of attributes.
const (
	attrPath     = 15
	attrPathTo   = 16
	attrPathLink = 17
)

// command is one command of a stream, with the paths that it has.
type command struct {
	number         uint16
	path, to, link string
}

var errStream = errors.New("not a stream of changes")

// readStream calls do for each command of the stream, up to its end.
func readStream(stream io.Reader, do func(command)) error {
	r := bufio.NewReaderSize(stream, 64<<10)
	header := make([]byte, len(streamMagic)+4)
	if _, err := io.ReadFull(r, header); err != nil {
		return fmt.Errorf("read changes: %w", err)
	}
	if string(header[:len(streamMagic)]) != streamMagic {
		return errStream
	}
	var body []byte
	for {
		var header [10]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return fmt.Errorf("read changes: %w", noEOF(err))
		}
		length := binary.LittleEndian.Uint32(header[:])
		if length > 1<<20 { // an attribute is shorter than 64 kB, and a command has few
			return errStream
		}
		if int(length) > cap(body) {
			body = make([]byte, length)
		}
		body = body[:length]
		if _, err := io.ReadFull(r, body); err != nil {
			return fmt.Errorf("read changes: %w", noEOF(err))
		}
		c := command{number: binary.LittleEndian.Uint16(header[4:])}
		if c.number == cmdEnd {
			return nil
		}
		if err := c.parse(body); err != nil {
			return err
		}
		do(c)
	}
}

// parse reads the attributes of a command.
func (c *command) parse(body []byte) error {
	for len(body) > 0 {
		if len(body) < 4 {
			return errStream
		}
		number, length := binary.LittleEndian.Uint16(body), int(binary.LittleEndian.Uint16(body[2:]))
		if body = body[4:]; length > len(body) {
			return errStream
		}
		switch number {
		case attrPath:
			c.path = string(body[:length])
		case attrPathTo:
			c.to = string(body[:length])
		case attrPathLink:
			c.link = string(body[:length])
		}
		body = body[length:]
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
