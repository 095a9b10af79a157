package release

import (
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Command is something asked of a release. Its types are those of this file.
type Command interface {
	// action is the name by which the right to it is given: "release.deploy".
	action() string
}

// Plan begins a release. It is given to [Service.Plan].
type Plan struct {
	Content Content `json:"content"`
	Process string  `json:"process,omitzero"` // name of a process; default "waterfall"
	Planner string  `json:"planner,omitzero"` // whose release it is; default the actor, or the person he acts for
}

// At holds the commands behind it to the version of the release that the caller
// saw: if it has moved on, nothing is done and the error is an
// eventstore.ErrConflict.
type At uint64

// Edit changes fields: those of Set that are not zero, and those that Clear names.
// Another kind or other components void approvals, checks and waivers.
type Edit struct {
	Set    Content  `json:"set,omitzero"`
	Clear  []string `json:"clear,omitzero"`
	Reason string   `json:"reason,omitzero"`
}

// Bind makes the release carry a change out. One change may be bound to several
// releases, and one release may have several changes.
type Bind struct {
	Change string `json:"change"`
}

// Unbind takes a change off the release.
type Unbind struct {
	Change string `json:"change"`
	Reason string `json:"reason,omitzero"`
}

// AddEvidence adds a finding. Its By, At and Scope are set here.
type AddEvidence struct {
	Evidence Evidence `json:"evidence"`
}

// CheckItem answers an item of a checklist: go, or no-go.
type CheckItem struct {
	Environment string `json:"environment"`
	Item        string `json:"item"`
	Go          bool   `json:"go"`
	Note        string `json:"note,omitzero"`
}

// Waive lets a gate be passed that has not passed. What production asks for in
// any case, authorised changes and an open window, is not waived here: a window
// is overridden in the calendar.
type Waive struct {
	Environment string    `json:"environment"`
	Gate        string    `json:"gate"`
	Why         string    `json:"why"`
	Until       time.Time `json:"until"`
}

// Ask asks for the approval of a gate. Approve and Reject ask by themselves where
// nobody has.
type Ask struct {
	Environment string `json:"environment"`
	Gate        string `json:"gate"`
}

// Approve gives the actor's approval of a gate for what he saw.
type Approve struct {
	Environment string `json:"environment"`
	Gate        string `json:"gate"`
	Scope       string `json:"scope"` // Release.Scope as the actor saw it
	Comment     string `json:"comment,omitzero"`
}

// Reject refuses a gate.
type Reject struct {
	Environment string `json:"environment"`
	Gate        string `json:"gate"`
	Reason      string `json:"reason"`
}

// Deploy begins a deployment of all components.
type Deploy struct {
	Environment string         `json:"environment"`
	Waves       []Wave         `json:"waves,omitzero"` // default one wave whose one target has the name of the environment
	For         change.Seconds `json:"for,omitzero"`   // how long it is expected to take, which the calendar judges; default until the first window of its changes ends, otherwise this moment
}

// Report says what came of a target. A pipeline may send it again.
type Report struct {
	Deployment int     `json:"deployment"`
	ID         string  `json:"id"` // the reporter's own, unique within the deployment
	Target     string  `json:"target"`
	Outcome    Outcome `json:"outcome"`
	CI         string  `json:"ci,omitzero"`     // of the component that Digest is of; may be left out where one has a digest
	Digest     string  `json:"digest,omitzero"` // of the artifact that was put in place
	Detail     string  `json:"detail,omitzero"`
}

// NextWave begins the next wave of a deployment.
type NextWave struct {
	Deployment int `json:"deployment"`
}

// Pause stops a deployment for a while.
type Pause struct {
	Deployment int    `json:"deployment"`
	Reason     string `json:"reason"`
}

// Resume goes on with one that was paused, once the changes it waits for are
// authorised.
type Resume struct {
	Deployment int    `json:"deployment"`
	Reason     string `json:"reason,omitzero"`
}

// Finish ends a deployment whose targets all have reported: the versions are in
// force.
type Finish struct {
	Deployment int    `json:"deployment"`
	More       bool   `json:"more,omitzero"` // the changes are not done: the release goes to another production environment, or there is more to do by hand
	Notes      string `json:"notes,omitzero"`
}

// Fail ends a deployment that did not work.
type Fail struct {
	Deployment int    `json:"deployment"`
	Reason     string `json:"reason"`
}

// Abort ends a deployment that is not to go on.
type Abort struct {
	Deployment int    `json:"deployment"`
	Reason     string `json:"reason"`
}

// Rollback begins a deployment of what an environment had before, and puts the
// release on hold there. A deployment of the release that is under way there is
// aborted with it.
type Rollback struct {
	Environment string         `json:"environment"`
	Deployment  int            `json:"deployment,omitzero"` // that is undone; default the last one there
	To          string         `json:"to,omitzero"`         // version that all its components go to; default what was in force before it
	Waves       []Wave         `json:"waves,omitzero"`      // default those of the deployment
	For         change.Seconds `json:"for,omitzero"`
	Reason      string         `json:"reason"`
}

// Lift ends the holds of an environment.
type Lift struct {
	Environment string `json:"environment"`
	Reason      string `json:"reason"`
}

// Retry begins a deployment that failed or was aborted anew.
type Retry struct {
	Deployment int            `json:"deployment"`
	For        change.Seconds `json:"for,omitzero"`
}

// Emerge raises a change for what has to be touched besides. It is bound to the
// release, and a deployment that is under way waits until it is authorised.
type Emerge struct {
	Deployment int          `json:"deployment,omitzero"` // that waits; default the one that is under way, if any
	Raise      change.Raise `json:"raise"`
	Submit     bool         `json:"submit,omitzero"` // it is submitted at once
}

// Advance goes on to another phase.
type Advance struct {
	To string `json:"to,omitzero"` // may be left out where one way leads on
}

// Restart goes back to a phase it has been in, and resets that and all later ones:
// approvals, checks and waivers are void, and their tasks open anew.
type Restart struct {
	Phase  string `json:"phase"`
	Reason string `json:"reason"`
}

// MoveTask puts a task into another state.
type MoveTask struct {
	ID   int                `json:"id"`
	To   workflow.TaskState `json:"to"`
	Note string             `json:"note,omitzero"`
}

// Close ends a release that is done with.
type Close struct{}

// Cancel ends a release that is not to be rolled out. Changes that it has not
// begun are taken off.
type Cancel struct {
	Reason string `json:"reason"`
}

// Note adds a remark.
type Note struct {
	Text string `json:"text"`
}

func (Plan) action() string        { return "release.plan" }
func (At) action() string          { return "" }
func (Edit) action() string        { return "release.edit" }
func (Bind) action() string        { return "release.bind" }
func (Unbind) action() string      { return "release.bind" }
func (AddEvidence) action() string { return "release.evidence" }
func (CheckItem) action() string   { return "release.check" }
func (Waive) action() string       { return "release.waive" }
func (Ask) action() string         { return "release.advance" }
func (Approve) action() string     { return "release.approve" }
func (Reject) action() string      { return "release.reject" }
func (Deploy) action() string      { return "release.deploy" }
func (Report) action() string      { return "release.report" }
func (NextWave) action() string    { return "release.deploy" }
func (Pause) action() string       { return "release.pause" }
func (Resume) action() string      { return "release.resume" }
func (Finish) action() string      { return "release.finish" }
func (Fail) action() string        { return "release.fail" }
func (Abort) action() string       { return "release.abort" }
func (Rollback) action() string    { return "release.rollback" }
func (Lift) action() string        { return "release.lift" }
func (Retry) action() string       { return "release.retry" }
func (Emerge) action() string      { return "release.emerge" }
func (Advance) action() string     { return "release.advance" }
func (Restart) action() string     { return "release.advance" }
func (MoveTask) action() string    { return "release.advance" }
func (Close) action() string       { return "release.close" }
func (Cancel) action() string      { return "release.cancel" }
func (Note) action() string        { return "release.note" }
