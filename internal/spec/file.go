package spec

import (
	"regexp"
	"slices"
	"strings"
)

// Names at the top of a file that are no targets.
const (
	settingsName = "genoci"
	argsName     = "args"
	ignored      = "x-"      // prefix of what is for people and anchors only
	emptyBase    = "empty"   // the base that has nothing in it
	scratchBase  = "scratch" // what Dockerfiles call it
)

// file decodes a whole file into d.spec.
func (d *decoder) file(data []byte) {
	content := strings.TrimPrefix(string(data), byteOrderMark)
	d.spec.lines = splitLines(content)
	d.args.some = strings.Contains(content, argumentOpen)
	if !d.checkText(content) {
		return
	}
	root := d.parse(content)
	if root == nil || !d.checkTag(root) {
		d.checkDockerfile()
		return
	}
	if k := kindOf(root); k != mapping {
		d.errorf(posOf(root), "expected a map of targets, found %s", k)
		d.checkDockerfile()
		return
	}
	entries := d.entries(root, "target")
	var given Pos // where the file says which arguments there are
	if i := slices.IndexFunc(entries, func(e entry) bool { return e.key.Value == settingsName }); i >= 0 {
		given = posOf(entries[i].key)
		d.settings(entries[i].value)
		entries = slices.Delete(entries, i, i+1)
	}
	d.checkTags(d.targets(entries))
	if len(d.errs) == 0 && len(d.spec.Targets) == 0 {
		d.errorf(posOf(root), "the file has no target")
	}
	d.checkGiven(given)
}

// checkDockerfile puts one error in the place of all others where the file, which is not a spec, is
// a Dockerfile.
func (d *decoder) checkDockerfile() {
	// Only these two instructions may come first
	// (https://docs.docker.com/reference/dockerfile/#format).
	first := regexp.MustCompile(`^(?i:FROM|ARG)[ \t]+[^ \t:]`)
	for i, line := range d.spec.lines {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if first.MatchString(line) {
			d.errs = nil
			d.errorf(Pos{i + 1, 1}, "this is a Dockerfile, and genoci reads YAML").Suggest =
				"write a target for each stage: FROM becomes base, COPY copy, RUN run, and so on; docs/spec.md has every key"
		}
		return
	}
}

// targets decodes all targets and adds them to the spec.
func (d *decoder) targets(entries []entry) []*draft {
	var drafts []*draft
	for _, e := range entries {
		if strings.HasPrefix(e.key.Value, ignored) {
			continue
		}
		t := d.decodeTarget(e)
		drafts = append(drafts, t)
		d.spec.Targets = append(d.spec.Targets, &t.Target)
	}
	return drafts
}

// decodeTarget decodes one target. Where there are errors it holds what could be read: others may
// stand on it.
func (d *decoder) decodeTarget(e entry) *draft {
	name := e.key.Value
	d.target = name
	defer func() { d.target = "" }()
	if name == emptyBase || name == scratchBase {
		d.errorf(posOf(e.key), "the name %q is reserved for the empty base", name)
	} else if err := checkName("target", name); err != nil {
		d.errorf(posOf(e.key), "%v", err)
	}
	t, _ := targetShape().decode(d, e.value)
	if t == nil {
		t = &draft{}
	}
	t.Name, t.Pos = name, posOf(e.key)
	if t.Base == "" {
		t.Base = emptyBase
	}
	if t.BasePos == (Pos{}) {
		t.BasePos = t.Pos
	}
	return t
}

// checkTags refuses tags that two targets would move.
func (d *decoder) checkTags(targets []*draft) {
	owner := map[string]string{}
	for _, t := range targets {
		if !t.BuildOnly {
			owner[t.Name] = t.Name
		}
	}
	for _, t := range targets {
		for _, tag := range t.Tags {
			if other, ok := owner[tag]; ok {
				d.target = t.Name
				d.errorf(t.tagsPos, "tags: %q is already a tag of target %q", tag, other)
				d.target = ""
				continue
			}
			owner[tag] = t.Name
		}
	}
}

// checkGiven refuses arguments on the command line that the file does not know; pos is where it
// says which there are.
func (d *decoder) checkGiven(pos Pos) {
	for _, name := range d.args.unknown() {
		e := d.spec.Errorf(pos, "", "--arg %s: the file has no argument of this name", name)
		e.Suggest = didYouMean(name, d.args.names())
		d.errs = append(d.errs, e)
	}
}
