package change

import (
	"time"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// The events of a change, in the stream "change-ID". Their names and the meaning
// of their fields are for ever.

// Numbered is recorded in "register-CHG" with every raise: its version is the
// change's number.
type Numbered struct {
	Change string `json:"change"`
}

// Referenced is recorded in "external-REFERENCE" where a raiser asked that his
// own name for a change be unique.
type Referenced struct {
	Change string `json:"change"`
}

// Raised is the first event of every change.
type Raised struct {
	Change          string    `json:"change"`
	Model           string    `json:"model"`
	ModelVersion    uint64    `json:"model_version"`
	Template        string    `json:"template,omitzero"`
	TemplateVersion int       `json:"template_version,omitzero"`
	External        string    `json:"external,omitzero"`
	Requester       string    `json:"requester"`
	By              string    `json:"by"`
	At              time.Time `json:"at"`
	Content         Content   `json:"content"`
	Phase           string    `json:"phase"`
	Kind            string    `json:"kind"`
	Scope           string    `json:"scope"`
}

// Tags lets queries find a change by what it is about.
func (e Raised) Tags() []string { return ciTags(e.Content) }

// Edited is recorded when fields are changed. What the edit voids is decided then.
type Edited struct {
	Set    Content  `json:"set,omitzero"`
	Clear  []string `json:"clear,omitzero"`
	Fields []string `json:"fields"` // that now have another value
	By     string   `json:"by"`
	Reason string   `json:"reason,omitzero"`
	Scope  string   `json:"scope"`          // digest afterwards
	Voids  []string `json:"voids,omitzero"` // stages whose approval no longer holds
	Keeps  bool     `json:"keeps,omitzero"` // the authorisation in force holds for the new scope too: nothing it stands on was voided
}

// Tags lets queries find a change by what it is about now.
func (e Edited) Tags() []string { return ciTags(e.Set) }

// Assessed is recorded when impact and risk have been judged, by the policy or by hand.
type Assessed struct {
	Impact  *Impact  `json:"impact,omitzero"` // nil: not computed anew
	Receipt *Receipt `json:"receipt,omitzero"`
}

// Moved is recorded when a change goes from one phase to another.
type Moved struct {
	From   string    `json:"from"`
	To     string    `json:"to"`
	Kind   string    `json:"kind"` // of To
	Verb   string    `json:"verb"` // what moved it: submit, start, reject, automatic, ...
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitzero"`
	Ends   bool      `json:"ends,omitzero"`  // To is final
	Back   bool      `json:"back,omitzero"`  // to planning: approvals are asked for anew
	Voids  bool      `json:"voids,omitzero"` // the authorisation in force no longer holds
}

// StageRequested is recorded when people are asked for their approval.
type StageRequested struct {
	Phase    string              `json:"phase"`
	Stage    workflow.Stage      `json:"stage"`
	Round    int                 `json:"round"`
	Seats    []workflow.Seat     `json:"seats"`
	Excluded []workflow.Excluded `json:"excluded,omitzero"`
	Scope    string              `json:"scope"`
	At       time.Time           `json:"at"`
	Deadline time.Time           `json:"deadline,omitzero"`
}

// StagePlanned is recorded when the decision table asks for a stage whose turn has
// not come.
type StagePlanned struct {
	Phase string         `json:"phase"`
	Stage workflow.Stage `json:"stage"`
	Why   string         `json:"why"`
}

// StageSkipped is recorded when no row of the decision table asks for a stage.
type StageSkipped struct {
	Phase string         `json:"phase"`
	Stage workflow.Stage `json:"stage"`
	Why   string         `json:"why"`
}

// StageEscalated is recorded when a deadline has passed and others are asked too.
type StageEscalated struct {
	Stage    string          `json:"stage"`
	Seats    []workflow.Seat `json:"seats"` // that come on top
	Deadline time.Time       `json:"deadline,omitzero"`
}

// Voted is recorded when somebody approves or rejects.
type Voted struct {
	Stage string        `json:"stage"`
	Vote  workflow.Vote `json:"vote"`
}

// StageDecided is recorded when a stage has come to its end: approved, rejected,
// expired or cancelled.
type StageDecided struct {
	Stage string         `json:"stage"`
	State workflow.State `json:"state"`
	Why   string         `json:"why"`
}

// Authorized is recorded when everything is in place that allows a change to be
// carried out as it is.
type Authorized struct {
	Scope         string    `json:"scope"`
	By            string    `json:"by"` // "stages cab, owners", "template patch-linux v2"
	At            time.Time `json:"at"`
	Retrospective bool      `json:"retrospective,omitzero"` // given after the start, or for what had happened
}

// Unauthorized is recorded when what was carried out, or had happened, before it
// was authorised is refused.
type Unauthorized struct {
	Stage string    `json:"stage"`
	Why   string    `json:"why"`
	At    time.Time `json:"at"`
}

// Started is recorded when the work begins.
type Started struct {
	By          string    `json:"by"`
	For         string    `json:"for,omitzero"` // on whose behalf
	At          time.Time `json:"at"`
	First       bool      `json:"first,omitzero"`        // before it was authorised, as its model allows
	AuthorizeBy time.Time `json:"authorize_by,omitzero"` // if First: when the authorisation is due
}

// Implemented is recorded when the work has ended. It carries the deltas that
// were applied to the CMDB.
type Implemented struct {
	Change    string       `json:"change"`
	By        string       `json:"by"`
	For       string       `json:"for,omitzero"` // on whose behalf
	Start     time.Time    `json:"start"`
	End       time.Time    `json:"end"`
	BackedOut bool         `json:"backed_out,omitzero"`
	Delivered []string     `json:"delivered,omitzero"` // deployments that carried it out, as "REL-000007/2": the deltas are in their events
	Applied   []cmdb.Delta `json:"applied,omitzero"`
	Notes     string       `json:"notes,omitzero"`
	ReviewBy  time.Time    `json:"review_by,omitzero"` // when the review is due; zero: no deadline
}

// CMDB tells what was applied.
func (e Implemented) CMDB() cmdb.Carried { return cmdb.Carried{Deltas: e.Applied, Cause: e.Change} }

// Tags lets the CMDB find the event, and queries by CI.
func (e Implemented) Tags() []string { return cmdb.Tags(e.Applied) }

// Timed is recorded when the calendar has judged the time of a change: when its
// window is planned, when it is authorised and when it starts. What was known then
// is never asked again.
type Timed struct {
	Point  Point     `json:"point"`
	Timing Timing    `json:"timing"`
	At     time.Time `json:"at"`
}

// Carried is recorded when it changes how a release stands that carries the change
// out.
type Carried struct {
	Release    string     `json:"release"`
	Deployment int        `json:"deployment,omitzero"`
	State      CarryState `json:"state"`
	By         string     `json:"by"`
	For        string     `json:"for,omitzero"` // on whose behalf
	At         time.Time  `json:"at"`
}

// Tags lets queries find the changes of a release.
func (e Carried) Tags() []string { return []string{"release:" + e.Release} }

// Reviewed is recorded when somebody judges how it went.
type Reviewed struct {
	By       string    `json:"by"`
	For      string    `json:"for,omitzero"` // on whose behalf
	At       time.Time `json:"at"`
	Outcome  Outcome   `json:"outcome"`
	Notes    string    `json:"notes,omitzero"`
	Accepted string    `json:"accepted,omitzero"` // why what was not authorised is accepted; By is who accepts it
}

// Held is recorded when a change is put on hold.
type Held struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Resumed is recorded when a hold ends.
type Resumed struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitzero"`
}

// TaskAdded is recorded when a task comes to be: by hand, from a model, a
// template or a review.
type TaskAdded struct {
	Task
}

// TaskChanged is recorded when a task is edited or moves on. It has the whole
// task as it then stands.
type TaskChanged struct {
	Task
	By   string `json:"by"`
	For  string `json:"for,omitzero"` // on whose behalf
	Note string `json:"note,omitzero"`
	Acts bool   `json:"acts,omitzero"` // By acted as an implementer
}

// Linked is recorded when an incident is tied to a change, or its priority becomes known.
type Linked struct {
	Incident
	By string `json:"by"`
}

// Noted is recorded when somebody writes a remark.
type Noted struct {
	By   string `json:"by"`
	Text string `json:"text"`
}

// Types returns the event types of this package.
func Types() []eventstore.EventType {
	return []eventstore.EventType{
		eventstore.Type[Numbered]("register.numbered", 1),
		eventstore.Type[Referenced]("external.referenced", 1),
		eventstore.Type[Raised]("change.raised", 1),
		eventstore.Type[Edited]("change.edited", 1),
		eventstore.Type[Assessed]("change.assessed", 1),
		eventstore.Type[Moved]("change.moved", 1),
		eventstore.Type[StagePlanned]("change.stage-planned", 1),
		eventstore.Type[StageRequested]("change.stage-requested", 1),
		eventstore.Type[StageSkipped]("change.stage-skipped", 1),
		eventstore.Type[StageEscalated]("change.stage-escalated", 1),
		eventstore.Type[Voted]("change.voted", 1),
		eventstore.Type[StageDecided]("change.stage-decided", 1),
		eventstore.Type[Authorized]("change.authorized", 1),
		eventstore.Type[Unauthorized]("change.unauthorized", 1),
		eventstore.Type[Started]("change.started", 1),
		eventstore.Type[Implemented]("change.implemented", 1),
		eventstore.Type[Timed]("change.timed", 1),
		eventstore.Type[Carried]("change.carried", 1),
		eventstore.Type[Reviewed]("change.reviewed", 1),
		eventstore.Type[Held]("change.held", 1),
		eventstore.Type[Resumed]("change.resumed", 1),
		eventstore.Type[TaskAdded]("change.task-added", 1),
		eventstore.Type[TaskChanged]("change.task-changed", 1),
		eventstore.Type[Linked]("change.linked", 1),
		eventstore.Type[Noted]("change.noted", 1),
		eventstore.Type[Published]("model.published", 1),
		eventstore.Type[Proposed]("template.proposed", 1),
		eventstore.Type[TemplateApproved]("template.approved", 1),
		eventstore.Type[TemplatePublished]("template.published", 1),
		eventstore.Type[TemplateRetired]("template.retired", 1),
		eventstore.Type[PolicyRecorded]("policy.recorded", 1),
	}
}

// ciTags returns a tag for each CI that c declares, as many as an event can have.
func ciTags(c Content) []string {
	var tags []string
	for _, ci := range c.Declared() {
		tag := "ci:" + ci
		if len(tag) <= eventstore.MaxTag && len(tags) < eventstore.MaxTags {
			tags = append(tags, tag)
		}
	}
	return tags
}
