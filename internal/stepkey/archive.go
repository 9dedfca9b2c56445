package stepkey

import "strings"

// Hindrance says why an archive cannot be the layer of its step as it is, whatever it holds.
type Hindrance int

// The hindrances.
const (
	NoHindrance     Hindrance = iota
	OnSomething               // the step stands on another one, or on a base, which may have no layers
	WithHooks                 // hooks run in the step
	WithOthers                // the step has further actions
	OtherDest                 // dest moves the archive
	StripComponents           // strip_components renames entries
	Globs                     // include or exclude leave entries out
	OtherOwner                // chown
)

// String returns the hindrance in words.
func (h Hindrance) String() string {
	switch h {
	case NoHindrance:
		return ""
	case OnSomething:
		return "it goes on something"
	case WithHooks:
		return "hooks run with it"
	case WithOthers:
		return "the layer holds more than it"
	case OtherDest:
		return "dest moves it"
	case StripComponents:
		return "strip_components"
	case Globs:
		return "include and exclude leave something out"
	case OtherOwner:
		return "chown"
	}
	return "unknown"
}

// ArchiveFate says what becomes of an archive that is expanded.
type ArchiveFate int

// The fates of archives.
const (
	NoArchive ArchiveFate = iota // the step expands none that could be its layer
	IfSound                      // it is the layer if it is a sound one, which nobody knows yet
	AsIs                         // its bytes are the layer
	Rewritten                    // the layer is written anew
)

// Archive is what becomes of the archive of an expand, and why.
type Archive struct {
	Fate      ArchiveFate
	Hindrance Hindrance // why it is rewritten, whatever it holds
	Unsound   string    // else: what is wrong with what it holds
}

// String returns what becomes of the archive in words; "" where there is none.
func (a Archive) String() string {
	switch a.Fate {
	case NoArchive:
		return ""
	case IfSound:
		return "taken as it is if it is a sound layer"
	case AsIs:
		return "taken as it is"
	case Rewritten:
	}
	if a.Hindrance != NoHindrance {
		return "rewritten: " + a.Hindrance.String()
	}
	return "rewritten: " + a.Unsound
}

// What entries of the cache say of archives. These texts are stored: they stay, whatever people are
// shown.
const (
	storedAsIs      = "taken as it is"
	storedRewritten = "rewritten: "
)

// Stored returns what the entry of a step says of an archive that may be its layer.
func (a Archive) Stored() string {
	switch a.Fate {
	case AsIs:
		return storedAsIs
	case Rewritten:
		return storedRewritten + a.Unsound
	case NoArchive, IfSound:
	}
	return ""
}

// StoredArchive reverses Stored.
func StoredArchive(text string) Archive {
	if text == storedAsIs {
		return Archive{Fate: AsIs}
	}
	if why, ok := strings.CutPrefix(text, storedRewritten); ok {
		return Archive{Fate: Rewritten, Unsound: why}
	}
	return Archive{}
}

// KeyedOnSomething stands in the keys of expands on a base without layers. It is part of these
// keys, and stays as it is: a word that changes makes other keys.
const KeyedOnSomething = "it goes on something"
