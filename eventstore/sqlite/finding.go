package sqlite

import (
	"fmt"

	"github.com/rollforward/rollforward/eventstore"
)

// Finding is one thing that Check found wrong with a file.
type Finding struct {
	Kind     Kind
	Position eventstore.Position // of the event it is about, or 0
	Stream   string              // that it is about, where one is known, or ""
	Detail   string              // what is there, and what would be there in a sound file
}

// Kind says what a Finding is about, and so what to do.
type Kind string

// The kinds of findings. Of all but the last, restoring a backup is the remedy; what
// was appended since can be carried over from the damaged file by package archive, as
// far as Check finds nothing wrong with it.
const (
	DamagedPages      Kind = "damaged pages"      // SQLite finds its own structure broken
	ChangedSchema     Kind = "changed schema"     // a table, an index, a trigger or the view is not the one that a store makes
	MissingPositions  Kind = "missing positions"  // events are gone from within the log, or stand where none can
	BrokenAppend      Kind = "broken append"      // an event names another append than it stands in
	BrokenVersions    Kind = "broken versions"    // a stream's versions are not 1, 2, 3 in the order of the log
	LostName          Kind = "lost name"          // a stream, type or tag without a name, or a name without an event
	ImpossibleContent Kind = "impossible content" // a field that no append accepts
	ImpossibleTime    Kind = "impossible time"    // recorded outside the years 1 to 9999, or over a day ahead of the store's clock
	WrongIndex        Kind = "wrong index"        // events have tags and types that queries do not find, or the other way round
	WrongCheckpoint   Kind = "wrong checkpoint"   // names an event that is not there: the log is an older copy; or is damaged
)

// remedies say what to do about a finding of each kind.
var remedies = map[Kind]string{
	DamagedPages:      "restore the file from a backup, and look after the disk",
	ChangedSchema:     "find out who changed it: what guards the history may have been off; restore the file from a backup if more is found",
	MissingPositions:  "restore the file from a backup",
	BrokenAppend:      "restore the file from a backup",
	BrokenVersions:    "restore the file from a backup",
	LostName:          "restore the file from a backup",
	ImpossibleContent: "restore the file from a backup",
	ImpossibleTime:    "set the clock of the machine; if it was right, restore the file from a backup",
	WrongIndex:        "restore the file from a backup, or export the events with package archive and import them into a new file",
	WrongCheckpoint:   "find what the log lacks; a checkpoint is a cache: DeleteCheckpoint makes its consumer begin anew",
}

// Remedy says what to do about it.
func (f Finding) Remedy() string { return remedies[f.Kind] }

// String names what and where, and what to do.
func (f Finding) String() string {
	where := ""
	if f.Position != 0 {
		where = fmt.Sprintf(" at position %d", f.Position)
	}
	if f.Stream != "" {
		where += fmt.Sprintf(" in stream %q", f.Stream)
	}
	return fmt.Sprintf("%s%s: %s: %s", f.Kind, where, f.Detail, f.Remedy())
}
