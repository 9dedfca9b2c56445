package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// confirm asks question on a terminal. Where in is none, the error says that nobody could be asked
// whether what may be done ("dropped").
func confirm(in io.Reader, messages io.Writer, verb, what, done, question string) error {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return withHint(usagef("%s: cannot ask whether %s may be %s: stdin is not a terminal", verb, what, done), "--force does it without asking")
	}
	say(messages, "%s [y/N] ", question)
	answer, err := bufio.NewReader(file).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return fmt.Errorf("%s: nothing was removed", verb)
	}
	return nil
}
