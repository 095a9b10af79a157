package change

import (
	"time"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
)

// Calendar is the hook by which time comes in: package schedule has the one that
// the engine uses. Both methods run inside the unit of work of a command, which
// may run more than once; they read the log and the folds, and record nothing but
// through tx.
type Calendar interface {
	// Judge says what stands against the time of an occasion, as known at the head
	// of the log. An error says that it could not look: the command is refused, and
	// what is unknown does not pass for clear.
	Judge(tx *command.Tx, o Occasion) (Timing, error)

	// Settle is called when a command on a change is decided, with the change before
	// and after it. It records through tx what other changes have to respect, such as
	// bookings, in the same append, or refuses the command.
	Settle(tx *command.Tx, before, after Change) error
}

// Point is where in the life of a change its time is judged.
type Point string

// The points (DOMAIN 2.1).
const (
	Planned     Point = "planned"    // its window is given, or another one
	ToAuthorize Point = "authorized" // it is authorised
	ToStart     Point = "started"    // its work begins
	ToDeploy    Point = "deployed"   // a release is deployed under it
	Asked       Point = "asked"      // a query: nothing is to happen yet
)

// Occasion is something that is to happen at a time. It is a plain value.
type Occasion struct {
	Point        Point
	Change       string // ID; empty where there is none yet
	Release      string // ID, where a deployment is judged
	Model        string // of the change, or the process of the release
	Group        string
	Window       Window       // the time itself
	CIs          []string     // that are worked on, sorted
	Deltas       []cmdb.Delta // that are planned
	Environments []string     // that are deployed to, beside those of the CIs
	Tags         []string
	People       []string // who carries it out, sorted
	Order        []Order
	Apart        []string // IDs of changes that it does not conflict with: those it carries out
}

// TimingAnswer is what a calendar says in one word. Not run and not applicable are
// not clear.
type TimingAnswer string

// The answers (DOMAIN 2.2).
const (
	TimingNotRun        TimingAnswer = "not run"
	TimingNotApplicable TimingAnswer = "not applicable" // no window, or no CI
	TimingClear         TimingAnswer = "clear"
	TimingConflict      TimingAnswer = "conflict"
)

// Timing is what a calendar said, and is recorded as it was said.
type Timing struct {
	Answer    TimingAnswer `json:"answer"`
	Window    Window       `json:"window"`             // that was judged
	Count     int          `json:"count"`              // of conflicts
	Conflicts []Conflict   `json:"conflicts,omitzero"` // the first 50, those that block first
	Position  uint64       `json:"position"`           // of the log up to which was looked
	Next      time.Time    `json:"next,omitzero"`      // when the windows are open next for as long; zero: not within the horizon, or open
}

// Effect is what a conflict does to the command that meets it.
type Effect string

// The effects (DOMAIN 2.1).
const (
	Block  Effect = "block"  // the command is refused
	Warn   Effect = "warn"   // recorded, and shown as a warning
	Record Effect = "record" // recorded
)

// Conflict is something that stands against a time. Its ID is the same whenever
// the same thing is found again.
type Conflict struct {
	ID       string      `json:"id"`
	Rule     string      `json:"rule"` // "ci-already-scheduled", "blackout", ...
	Effect   Effect      `json:"effect"`
	Severity string      `json:"severity"`        // low, moderate, high, critical
	Change   string      `json:"change,omitzero"` // that has it
	With     string      `json:"with"`            // the other change, or the window
	CI       string      `json:"ci,omitzero"`
	Related  string      `json:"related,omitzero"` // the other one's CI, where it is another
	Path     []cmdb.Step `json:"path,omitzero"`    // from CI to Related
	Overlap  Window      `json:"overlap,omitzero"`
	Why      string      `json:"why"`
	Remedy   string      `json:"remedy"`
	Resolved *Resolution `json:"resolved,omitzero"` // accepted or overridden: it does not block
}

// Resolution says who took a conflict upon himself.
type Resolution struct {
	By    string    `json:"by"`
	Why   string    `json:"why"`
	Until time.Time `json:"until,omitzero"`
}

// Stands reports whether c refuses what it meets.
func (c Conflict) Stands() bool { return c.Effect == Block && c.Resolved == nil }
