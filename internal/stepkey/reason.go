package stepkey

import (
	"fmt"
	"strings"

	"genoci/internal/shown"
	"genoci/internal/spec"
)

// Kind says of what sort a Reason is.
type Kind string

// The kinds of reasons.
const (
	Hooks       Kind = "hooks"       // hooks run on the host, so the step is never cached
	NoCache     Kind = "no-cache"    // the user wants every step carried out
	New         Kind = "new"         // never built before
	Lost        Kind = "lost"        // the cache or the layout no longer has what it had
	Compression Kind = "compression" // the layer is there in another compression only
	Busybox     Kind = "busybox"     // another busybox would be lent
	Input       Kind = "input"       // a file of the host changed. Path; Changes
	ActionKind  Kind = "action"      // the spec says something else. Lines
	Argument    Kind = "argument"    // an argument that stands in the action has another value
	Environment Kind = "environment" // variables that commands see
	Setting     Kind = "setting"     // time, platform, version of genoci. Changes
	Base        Kind = "base"        // what the step stands on
	From        Kind = "from"        // an image that the step copies from
)

// Code says what a Reason tells. Beside each stand the fields of Reason that it has.
type Code int

// The codes of reasons.
const (
	HooksRun           Code = iota // a step with hooks is never cached
	HooksMakeInput                 // pre hooks make what the step reads
	CacheRefused                   // the user wants every step carried out
	NeverBuilt                     //
	NoKey                          // Err
	EntryLost                      // the cache has no entry of the key
	LastLost                       // the cache has no entry of the last build
	LastUnreadable                 // Err: what the last build was made of cannot be read
	BlobLost                       // the layout has not the blob of the layer
	BusyboxChanged                 // Changes
	CompressionChanged             // Changes
	VersionChanged                 // nothing else differs
	SettingChanged                 // Changes: one
	BaseUncached                   // Name: the base, or "" for the step before
	BaseChanged                    // Name, as in BaseUncached; Changes
	VariableAdded                  // Name
	VariableChanged                // Name
	VariableRemoved                // Name
	VariablesMoved                 // only their order differs
	FromUncached                   // the image that the action copies from
	FromChanged                    //
	ActionAdded                    //
	ActionGone                     // Name: the action, in a few words
	SourceElsewhere                // what is copied comes from elsewhere
	FieldChanged                   // Name: the key of the spec. Lines
	FieldReplaced                  // Name; Changes: one
	TextChanged                    // Path, where the text is that of a file; Edit; Lines
	ArgumentChanged                // Name
	ArgumentsChanged               // which one is not known
	ArchiveChanged                 // Path; Changes
	ScriptChanged                  // Path; Changes
	FileChanged                    // Path; Changes
	FileRenamed                    // Path; Changes: one
	FileAdded                      // Path; Folder, and Below for how much more is in it
	FileRemoved                    // as FileAdded
	FilesForgotten                 // Path; the cache does not say any more which files there were
	InputRenamed                   // Name
	PackageAdded                   // Path
	PackageChanged                 // Path
	PackageRemoved                 // Path
	PackagesMoved                  // only their order differs
)

// kinds are the kinds of all codes.
var kinds = [...]Kind{
	HooksRun: Hooks, HooksMakeInput: Hooks, CacheRefused: NoCache, NeverBuilt: New,
	NoKey: Lost, EntryLost: Lost, LastLost: Lost, LastUnreadable: Lost, BlobLost: Lost,
	BusyboxChanged: Busybox, CompressionChanged: Compression, VersionChanged: Setting, SettingChanged: Setting,
	BaseUncached: Base, BaseChanged: Base,
	VariableAdded: Environment, VariableChanged: Environment, VariableRemoved: Environment, VariablesMoved: Environment,
	FromUncached: From, FromChanged: From,
	ActionAdded: ActionKind, ActionGone: ActionKind, SourceElsewhere: ActionKind, FieldChanged: ActionKind,
	FieldReplaced: ActionKind, TextChanged: ActionKind,
	ArgumentChanged: Argument, ArgumentsChanged: Argument,
	ArchiveChanged: Input, ScriptChanged: Input, FileChanged: Input, FileRenamed: Input, FileAdded: Input, FileRemoved: Input,
	FilesForgotten: Input, InputRenamed: Input,
	PackageAdded: Input, PackageChanged: Input, PackageRemoved: Input, PackagesMoved: Input,
}

// Reason is one answer to why a step is not cached. Values of variables and arguments do not stand
// in it, since they may be secrets.
type Reason struct {
	Code    Code
	Op      string   // the action in a line; "" where the reason concerns all of the step
	Pos     spec.Pos // of the action
	Name    string   // what the code names
	Path    string   // of the file, as the spec would name it
	Changes []Change // what is different, field by field
	Lines   []string // of text and lists: "- " and what was, "+ " and what is
	Edit    Edit     // of a text
	Folder  bool     // Path is one
	Below   int      // how many paths in the folder came or went with it
	Err     error
}

// Change is a field that has another value. Old or New is "" where it has none.
type Change struct{ Field, Old, New string }

// Kind returns the sort of the reason.
func (r Reason) Kind() Kind {
	if r.Code == TextChanged && r.Path != "" {
		return Input
	}
	return kinds[r.Code]
}

// Shown returns the reason without what may be secret in URLs and commands.
func (r Reason) Shown() Reason {
	r.Path, r.Name = shown.Text(r.Path), shown.Text(r.Name)
	for i, line := range r.Lines {
		r.Lines[i] = shown.Text(line)
	}
	for i, c := range r.Changes {
		r.Changes[i] = Change{c.Field, shown.Text(c.Old), shown.Text(c.New)}
	}
	return r
}

// String returns the reason in a line, without Lines.
func (r Reason) String() string {
	text := shown.Text(r.text())
	if r.Op == "" {
		return text
	}
	return r.Op + ": " + text
}

// text returns the reason in a line, without the action.
func (r Reason) text() string {
	switch r.Code {
	case HooksRun:
		return "hooks are never cached"
	case HooksMakeInput:
		return "pre makes its input"
	case CacheRefused:
		return "--no-cache carries out every step"
	case NeverBuilt:
		return "never built before"
	case NoKey:
		return r.Err.Error()
	case EntryLost:
		return "the cache entry is gone"
	case LastLost:
		return "the cache entry of the last build is gone"
	case LastUnreadable:
		return "it changed, and what the last build was made of cannot be read: " + r.Err.Error()
	case BlobLost:
		return "the layer's blob is gone from the layout"
	case BusyboxChanged:
		return "the busybox that was lent changed"
	case CompressionChanged, SettingChanged, FieldReplaced:
		c := r.Changes[0]
		return fmt.Sprintf("%s changed: %s -> %s", c.Field, orNone(c.Old), orNone(c.New))
	case VersionChanged:
		return "it was built by another version of genoci"
	case BaseUncached:
		return r.below() + " is not cached (see its own reasons)"
	case BaseChanged:
		return r.below() + " changed"
	case VariableAdded:
		return fmt.Sprintf("environment %s added", r.Name)
	case VariableChanged:
		return fmt.Sprintf("environment %s changed", r.Name)
	case VariableRemoved:
		return fmt.Sprintf("environment %s removed", r.Name)
	case VariablesMoved:
		return "the order of the environment changed"
	case ArgumentChanged:
		return fmt.Sprintf("argument %s changed", r.Name)
	case ArgumentsChanged:
		return "arguments changed"
	default:
		return r.actionText()
	}
}

// actionText is text of what concerns one action.
func (r Reason) actionText() string {
	switch r.Code {
	case FromUncached:
		return "the image that it copies from is not cached (see its own reasons)"
	case FromChanged:
		return "the image that it copies from changed"
	case ActionAdded:
		return "is new"
	case ActionGone:
		return r.Name + " is no longer there"
	case SourceElsewhere:
		return "what is copied comes from elsewhere"
	case FieldChanged:
		return r.Name + " changed"
	case TextChanged:
		if r.Path != "" {
			return r.Path + ": " + r.Edit.String()
		}
		return r.Edit.String()
	case ArchiveChanged:
		return "the archive changed"
	case ScriptChanged, PackageChanged:
		return r.Path + " changed"
	case FileChanged:
		return fmt.Sprintf("%s changed (%s)", r.Path, fileChanges(r.Changes))
	case FileRenamed:
		return "renamed: " + r.Changes[0].Old + " -> " + r.Changes[0].New
	case FileAdded:
		return "+ " + r.tree()
	case FileRemoved:
		return "- " + r.tree()
	case FilesForgotten:
		return "files changed; what they were is no longer in the cache"
	case InputRenamed:
		return r.Name + " has another name"
	case PackageAdded:
		return "+ " + r.Path
	case PackageRemoved:
		return "- " + r.Path
	case PackagesMoved:
		return "the order of the packages changed"
	default:
		return fmt.Sprintf("reason %d", r.Code)
	}
}

// below names what the step stands on.
func (r Reason) below() string {
	if r.Name == "" {
		return "the step before it"
	}
	return fmt.Sprintf("base %q", r.Name)
}

// tree names a path that came or went, with what is in it.
func (r Reason) tree() string {
	text := r.Path
	if r.Folder {
		text += "/"
	}
	if r.Below > 0 {
		text += fmt.Sprintf(" and %d more in it", r.Below)
	}
	return text
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// InALine returns the first of some reasons, and how many more there are; "" for none.
func InALine(reasons []Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	first := reasons[0]
	text := first.String()
	if len(first.Lines) > 0 && len(first.Lines) <= 2 {
		text += ": " + strings.Join(first.Lines, " / ")
	}
	if more := len(reasons) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}
