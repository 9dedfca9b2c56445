package space

// Reason says, as a code, why something goes.
type Reason int

// The reasons. The zero value is none.
const (
	Needed        Reason = iota // it stays
	ProcessEnded                // the process that made it has ended
	NoLayer                     // nobody has the layer that it is about
	NoBlob                      // the layer that it made is in no layout
	LayoutGone                  // the layout that it is about is gone
	Idle                        // it was not used for IdleDays
	Everything                  // everything goes
	FailedStep                  // it is the tree of a failed step
	OldFailedStep               // the same, of more than a week ago
	NoUse                       // no tag and no result has this tree
	Limit                       // there is a limit, and it costs the least to make again
	NothingLeft                 // nothing is left that it is about
)

// IdleDays is how long things stay that nobody used.
const IdleDays = 60
