// Package change is change control: the change aggregate, its models and
// templates, approvals, and the hooks by which risk, people and expressions come
// in. In come commands of people and programs, all through the door of package
// command; out come events in the stream "change-ID" of each change, the change
// as it stands, and, for any command, why not.
//
//	c, err := changes.Raise(ctx, alice, change.Raise{
//		Model: "normal",
//		Content: change.Content{
//			Title:  "Upgrade db-01 to 16",
//			Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")},
//			Window: change.Between(saturday, saturday.Add(time.Hour)),
//		},
//	}, change.Submit{})
//	c, err = changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
//	why, err := changes.Why(ctx, carol, c.ID, change.Start{}) // none: she may
//
// # A change and its model
//
// A change is raised under a [Model], which is data: phases, each with a kind that
// says what it means to the engine, transitions, approval stages, tasks. The
// engine ships normal, standard, emergency, registered and unauthorized; users
// publish their own. A change keeps the version under which it was raised.
//
// # What holds whatever the model says
//
//   - A change is carried out only under an authorisation for exactly what it
//     now is: an approval names the digest of what its author saw ([Change.Scope]),
//     an edit of what is material voids it, and what was voided is recorded at the
//     edit. A model may let it start first; then it is flagged, and cannot close
//     without an authorisation or a named acceptance.
//   - Nobody plays two parts that the model keeps apart, also not through a delegate.
//   - A change does not close while tasks are open.
//   - Numbers have no gaps: a refused raise burns none.
//   - What a hook said is recorded with what it saw, and never asked again.
//
// Every refusal is a command.Refusal that names its rule and what to do;
// [Service.Why] returns the same without doing anything.
package change

import (
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Change is a change as it stands. It is a value: nothing the engine does alters
// one that was handed out.
type Change struct {
	ID              string // "CHG-000042"
	Model           string
	ModelVersion    uint64
	Template        string // of a standard change
	TemplateVersion int
	External        string // the raiser's own name for it
	Requester       string // the person whose change it is
	RaisedBy        string // who raised it: the requester, or his delegate
	RaisedAt        time.Time
	Content

	Phase   string
	Kind    workflow.Kind // of the phase
	Entered time.Time     // into the phase
	Path    []string      `json:",omitzero"` // phases entered since it was last planned, in order
	Scope   string        // digest of what is material, which an approval names

	Impact    *Impact    // as last computed; nil before the change was first submitted
	Risk      *Receipt   // as last judged; nil before
	Approvals []Approval `json:",omitzero"`
	Tasks     []Task     `json:",omitzero"`
	Incidents []Incident `json:",omitzero"`
	Held      *Held      // nil unless on hold
	Timings   []Timed    `json:",omitzero"` // what the calendar said last at each point
	Releases  []Carried  `json:",omitzero"` // that carry it out, in the order in which they were bound

	Authorized   *Authorized   // what it may be carried out as; nil if nothing is in force
	Unauthorized *Unauthorized // what was carried out, and then refused
	Started      *Started      // the first start
	Work         *Implemented  // once the work has ended
	Reviewed     *Reviewed     // the last review
	Ended        time.Time

	Acted    []string            `json:",omitzero"` // who has acted as an implementer, sorted
	Version  uint64              // of its stream
	Position eventstore.Position // up to which the change was read or recorded

	shared bool // it was handed out: evolve works on a copy
}

// Open reports whether the change has not ended.
func (c Change) Open() bool { return c.Ended.IsZero() && c.ID != "" }

// Approval is a stage as it stands in its present round.
type Approval struct {
	Stage     workflow.Stage
	Phase     string // that asks for it
	Round     int    // from 1; voided approvals are asked for in a new round
	State     workflow.State
	Seats     []workflow.Seat     `json:",omitzero"`
	Excluded  []workflow.Excluded `json:",omitzero"` // who was left out, and why
	Votes     []workflow.Vote     `json:",omitzero"`
	Asked     time.Time
	Deadline  time.Time // zero: none
	Escalated bool
	Why       string // of the state
}

// Tally counts the votes.
func (a Approval) Tally() workflow.Tally {
	return workflow.Count(a.Stage.Rule, a.Stage.Required, a.Seats, a.Votes)
}

// Outcome is how a change went.
type Outcome string

// The outcomes.
const (
	Successful   Outcome = "successful"
	WithIssues   Outcome = "successful with issues"
	Unsuccessful Outcome = "unsuccessful"
)

// Incident ties an incident to a change.
type Incident struct {
	ID       string `json:"id"`
	Relation string `json:"relation"`          // Fixes or Caused
	Priority int    `json:"priority,omitzero"` // 1 is the gravest; 0 is not known
}

// How an incident stands to a change.
const (
	Fixes  = "fixes"
	Caused = "caused"
)

// Impact is what the CMDB said would be affected, and by which path.
type Impact struct {
	Count    int             `json:"count"`             // CIs beyond the declared ones
	Top      []Affected      `json:"top,omitzero"`      // the 50 most important
	Rest     string          `json:"rest,omitzero"`     // SHA-256 of the IDs of the others, sorted
	Degraded []cmdb.Degraded `json:"degraded,omitzero"` // pools that lose members and still have enough; the first 50
	Position uint64          `json:"position"`          // of the log up to which the CMDB was known
}

// Affected is a CI that would be affected.
type Affected struct {
	FactCI
	Path []cmdb.Step `json:"path"`         // from a declared CI to it
	Cut  int         `json:"cut,omitzero"` // steps left out in the middle of Path, which keeps the first 10 and the last 10
}

// Approval returns the approval of a stage; ok is false if it was never asked for.
func (c Change) Approval(stage string) (a Approval, ok bool) {
	i := slices.IndexFunc(c.Approvals, func(a Approval) bool { return a.Stage.Name == stage })
	if i < 0 {
		return Approval{}, false
	}
	return c.Approvals[i], true
}

// Timing returns what the calendar said last at a point; ok is false if it was not
// asked.
func (c Change) Timing(at Point) (t Timed, ok bool) {
	i := slices.IndexFunc(c.Timings, func(t Timed) bool { return t.Point == at })
	if i < 0 {
		return Timed{}, false
	}
	return c.Timings[i], true
}

// Task returns the task of that ID; ok is false if there is none.
func (c Change) Task(id int) (t Task, ok bool) {
	if id < 1 || id > len(c.Tasks) {
		return Task{}, false
	}
	return c.Tasks[id-1], true
}

// stream returns the stream of a change.
func stream(id string) string { return streamPrefix + id }

const (
	streamPrefix = "change-"
	register     = "register-CHG"
)

// number returns the ID of the n-th change.
func number(n uint64) string { return fmt.Sprintf("CHG-%06d", n) }
