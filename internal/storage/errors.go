package storage

import (
	"errors"
	"fmt"

	"genoci/internal/checkout"
	"genoci/internal/snapshot/btrfs"
)

// Remedy says, as a code, what a user can do.
type Remedy string

// The remedies.
const (
	LocalCache        Remedy = "local-cache"          // name a cache folder on a local disk
	WritableCache     Remedy = "writable-cache"       // name a cache folder that can be written
	SetUpOrFolder     Remedy = "setup-or-folder"      // let root set the driver up, or name a folder on such a file system
	SetUpOrPool       Remedy = "setup-or-pool"        // let root set the driver up, or name a thin pool
	SeeDoctor         Remedy = "doctor"               // see what the machine lacks
	Attach            Remedy = "attach"               // attach the backing again
	OtherFileOrFolder Remedy = "other-file-or-folder" // name another file or folder
	OtherFileOrGroup  Remedy = "other-file-or-group"  // name another file or volume group
	GiveUp            Remedy = "give-up"              // unset what has lost its file
	CloseVolumes      Remedy = "close-volumes"        // end what uses a volume
	MakeSpace         Remedy = "make-space"           // make space for the file of the backing
)

// Error is an error with what the user can do about it.
type Error struct {
	Err     error
	Remedy  Remedy
	Backing Backing // for Attach: what is to be attached
	File    string  // that holds it
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// RemedyOf returns err with what the user can do about it; nil where storage knows nothing.
func RemedyOf(err error) *Error {
	var own *Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, btrfs.ErrStopped):
		return &Error{Err: err, Remedy: MakeSpace}
	}
	return nil
}

// NoSetupError says that nothing is to be set up for a driver.
type NoSetupError struct {
	Driver string
	Other  string // a driver that is set up
}

func (e *NoSetupError) Error() string { return "the driver " + e.Driver + " needs no setup" }

// RootError says that only root may change a backing.
type RootError struct{ Backing Backing }

func (e *RootError) Error() string { return "only root mounts a file system that outlives the process" }

// CheckedOutError says that there are checkouts in a backing, which would be lost.
type CheckedOutError struct{ Checkouts []*checkout.Checkout }

func (e *CheckedOutError) Error() string {
	return fmt.Sprintf("%d checkouts are in it", len(e.Checkouts))
}

var (
	// ErrBusy says that a command of genoci is using a backing.
	ErrBusy = errors.New("a command of genoci is using it")
	// ErrNotSetUp says that there is nothing to be removed.
	ErrNotSetUp = errors.New("not set up")
)
