package change

import (
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Command is something asked of a change. Its types are those of this file.
type Command interface {
	// action is the name by which the right to it is given: "change.approve".
	action() string
}

// Raise begins a change. It is given to [Service.Raise].
type Raise struct {
	Model     string  `json:"model,omitzero"`    // default "normal", or "standard" where Template is set
	Template  string  `json:"template,omitzero"` // of a standard change; its text is taken over where Content leaves it empty
	Content   Content `json:"content"`
	Requester string  `json:"requester,omitzero"` // whose change it is; default the actor, or the person he acts for
	External  string  `json:"external,omitzero"`  // the raiser's own name for it
	Unique    bool    `json:"unique,omitzero"`    // no other change may have this External

	// Happened says when what is reported happened, for models that gate nothing
	// (registered): its deltas count as applied then.
	Happened *Window `json:"happened,omitzero"`
}

// At holds the commands behind it to the version of the change that the caller
// saw: if the change has moved on, nothing is done and the error is an
// eventstore.ErrConflict.
type At uint64

// Submit hands the plan over to assessment and authorisation.
type Submit struct{}

// Edit changes fields: those of Set that are not zero, and those that Clear names.
type Edit struct {
	Set    Content  `json:"set,omitzero"`
	Clear  []string `json:"clear,omitzero"`
	Reason string   `json:"reason,omitzero"`
}

// Assess judges risk by hand, beside or in place of the policy.
type Assess struct {
	Level string       `json:"level"`
	Score *apd.Decimal `json:"score,omitempty"`
	Why   string       `json:"why"`
}

// Advance takes a manual transition that no other command stands for.
type Advance struct {
	To string `json:"to,omitzero"` // phase; may be left out where there is one way
}

// Approve gives the actor's approval for what he saw.
type Approve struct {
	Stage   string `json:"stage"`
	Scope   string `json:"scope"` // Change.Scope as the actor saw it
	Comment string `json:"comment,omitzero"`
}

// Reject refuses a stage.
type Reject struct {
	Stage  string `json:"stage"`
	Reason string `json:"reason"`
}

// Expire ends a stage whose deadline has passed: it escalates, or is refused.
type Expire struct {
	Stage string `json:"stage"`
}

// Start begins the work.
type Start struct{}

// Complete ends the work.
type Complete struct {
	Start     time.Time    `json:"start,omitzero"` // default when Start was recorded
	End       time.Time    `json:"end,omitzero"`   // default now
	BackedOut bool         `json:"backed_out,omitzero"`
	Applied   []cmdb.Delta `json:"applied,omitzero"` // default what was planned, or nothing where backed out; an empty list that is not nil is nothing
	Notes     string       `json:"notes,omitzero"`
}

// Review judges how the change went. The last review before the close counts.
type Review struct {
	Outcome   Outcome    `json:"outcome"`
	Notes     string     `json:"notes,omitzero"`
	FollowUps []FollowUp `json:"follow_ups,omitzero"`
	Accept    string     `json:"accept,omitzero"` // why what was carried out without authorisation is accepted, by the actor
}

// FollowUp is a task that a review asks for.
type FollowUp struct {
	Title    string            `json:"title"`
	Kind     workflow.TaskKind `json:"kind"`
	Assignee string            `json:"assignee,omitzero"`
	Group    string            `json:"group,omitzero"`
}

// Close ends a change that is done with.
type Close struct{}

// Cancel ends a change that is not to be carried out.
type Cancel struct {
	Reason string `json:"reason"`
}

// Revert returns a change to planning: approvals are asked for anew.
type Revert struct {
	Reason string `json:"reason"`
}

// Hold puts a change on hold.
type Hold struct {
	Reason string `json:"reason"`
}

// Resume ends a hold: approvals that were asked for are asked for again, and
// their deadlines move by the time it lasted.
type Resume struct {
	Reason string `json:"reason,omitzero"`
}

// AddTask adds a task. ID and State may be left out; Pending keeps it waiting.
type AddTask struct {
	Title    string            `json:"title"`
	Kind     workflow.TaskKind `json:"kind"`
	Assignee string            `json:"assignee,omitzero"`
	Group    string            `json:"group,omitzero"`
	Start    time.Time         `json:"start,omitzero"`
	End      time.Time         `json:"end,omitzero"`
	Pending  bool              `json:"pending,omitzero"`
}

// EditTask changes those fields of a task that are not zero.
type EditTask struct {
	ID       int       `json:"id"`
	Title    string    `json:"title,omitzero"`
	Assignee string    `json:"assignee,omitzero"`
	Group    string    `json:"group,omitzero"`
	Start    time.Time `json:"start,omitzero"`
	End      time.Time `json:"end,omitzero"`
}

// MoveTask puts a task into another state.
type MoveTask struct {
	ID   int                `json:"id"`
	To   workflow.TaskState `json:"to"`
	Note string             `json:"note,omitzero"`
}

// Link ties an incident to a change, also to one that is closed.
type Link struct {
	Incident Incident `json:"incident"`
}

// Carry says how a release stands that carries the change out. Package release
// gives it, in the append of the deployment itself; people have no need to.
type Carry struct {
	Release    string     `json:"release"`
	Deployment int        `json:"deployment,omitzero"` // of the release, from 1; 0 while there is none
	State      CarryState `json:"state"`
	Notes      string     `json:"notes,omitzero"` // of the completion, where it completes the change
}

// CarryState is how a release stands to a change that it carries out.
type CarryState string

// The states. The work of the change begins with the first Running, and has ended
// when every release that was bound is Delivered, BackedOut or Unbound.
const (
	CarryBound     CarryState = "bound" // it is to carry the change out, or the rest of it
	CarryRunning   CarryState = "running"
	CarryPaused    CarryState = "paused"
	CarryFailed    CarryState = "failed" // and is neither tried again nor backed out yet
	CarryDelivered CarryState = "delivered"
	CarryBackedOut CarryState = "backed out"
	CarryUnbound   CarryState = "unbound" // it has no part in the change any more
)

// Note adds a remark.
type Note struct {
	Text string `json:"text"`
}

func (Raise) action() string    { return "change.raise" }
func (At) action() string       { return "" }
func (Submit) action() string   { return "change.submit" }
func (Edit) action() string     { return "change.edit" }
func (Assess) action() string   { return "change.assess" }
func (Advance) action() string  { return "change.advance" }
func (Approve) action() string  { return "change.approve" }
func (Reject) action() string   { return "change.reject" }
func (Expire) action() string   { return "change.expire" }
func (Start) action() string    { return "change.start" }
func (Complete) action() string { return "change.complete" }
func (Review) action() string   { return "change.review" }
func (Close) action() string    { return "change.close" }
func (Cancel) action() string   { return "change.cancel" }
func (Revert) action() string   { return "change.revert" }
func (Hold) action() string     { return "change.hold" }
func (Resume) action() string   { return "change.resume" }
func (AddTask) action() string  { return "change.task" }
func (EditTask) action() string { return "change.task" }
func (MoveTask) action() string { return "change.task" }
func (Link) action() string     { return "change.link" }
func (Carry) action() string    { return "change.carry" }
func (Note) action() string     { return "change.note" }
