package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// The help of every command fits a terminal of 80 columns, and its sentences are short.
func TestHelpFits(t *testing.T) {
	const columns, words = 80, 30
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if cmd.Hidden {
			return
		}
		var help bytes.Buffer
		cmd.SetOut(&help)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(help.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%s: %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
		for _, sentence := range sentences(cmd.Long) {
			if n := len(strings.Fields(sentence)); n > words {
				t.Errorf("%s: a sentence of %d words: %s", cmd.CommandPath(), n, sentence)
			}
		}
	}
	visit(newRoot())
}

var sentenceEnd = regexp.MustCompile(`[.:;?!]\s|\n\n|\n  `)

// sentences returns those of a text; what stands on both sides of a colon or semicolon, and each
// line of a list, is one of its own.
func sentences(text string) []string { return sentenceEnd.Split(text, -1) }
