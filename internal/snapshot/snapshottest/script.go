package snapshottest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/treetest"
)

// change carries out a script on the tree in dir. A line is an operation:
//
//	rm PATH          remove it and everything below it
//	mv OLD NEW       rename(2), or what mv(1) does where a folder cannot be renamed
//	ln OLD NEW       link(2)
//	chmod MODE PATH
//	append PATH TEXT write behind what is there
//	PATH TYPE ...    make it, as treetest.Make does
func (s *suite) change(dir, script string) {
	s.Helper()
	made := "" // lines that wait to be made together, as a hard link group has to be
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		operation := operations[words[0]]
		if operation == nil {
			made += line
			continue
		}
		treetest.Make(s, dir, made, treetest.NoOwners)
		made = ""
		if err := operation(dir, append(words[1:], "")); err != nil {
			s.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
	}
	treetest.Make(s, dir, made, treetest.NoOwners)
}

var operations = map[string]func(dir string, args []string) error{
	"rm": func(dir string, args []string) error { return os.RemoveAll(filepath.Join(dir, args[0])) },
	"mv": func(dir string, args []string) error {
		path, other := filepath.Join(dir, args[0]), filepath.Join(dir, args[1])
		if fi, err := os.Lstat(path); err != nil || !fi.IsDir() {
			return os.Rename(path, other)
		}
		return moveFolder(path, other)
	},
	"ln": func(dir string, args []string) error {
		return os.Link(filepath.Join(dir, args[0]), filepath.Join(dir, args[1]))
	},
	"chmod":  func(dir string, args []string) error { return chmod(filepath.Join(dir, args[1]), args[0]) },
	"append": func(dir string, args []string) error { return appendTo(filepath.Join(dir, args[0]), args[1]) },
}

func chmod(path, octal string) error {
	mode, err := strconv.ParseUint(octal, 8, 12)
	if err != nil {
		return err
	}
	return unix.Chmod(path, uint32(mode))
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}
