// Package release rolls out versions: the release aggregate, environments that
// versions are promoted through, gates, deployments in waves, rollback with a
// hold, and the versions in force. In come commands of people and pipelines, all
// through the door of package command; out come events in the stream "release-ID"
// of each release, the release as it stands, and, for any command, why not. It
// runs no deployment itself: a pipeline reports what came of each target.
//
//	r, err := releases.Plan(ctx, alice, release.Plan{Content: release.Content{
//		Title: "Database 16", Kind: release.Minor,
//		Components: []release.Component{{Kind: release.Code, CI: "db-01", From: "15", To: "16", Digest: digest}},
//	}}, release.Bind{Change: c.ID}, release.Advance{}, release.Advance{}, release.Advance{})
//	r, err = releases.Do(ctx, alice, r.ID, release.Deploy{Environment: "staging"})
//	r, err = releases.Do(ctx, pipeline, r.ID, release.Report{Deployment: 1, ID: "job-17", Target: "staging", Outcome: release.Successful})
//	r, err = releases.Do(ctx, alice, r.ID, release.Finish{Deployment: 1})
//	why, err := releases.Why(ctx, alice, r.ID, release.Deploy{Environment: "production"}) // none: she may
//
// # What holds whatever a process or an environment says
//
//   - A deployment to production begins, goes on and is resumed only under changes
//     that are authorised as they are, not on hold, and declare every CI that it
//     touches with the version that it brings; and only where the calendar, if the
//     engine has one, lets it. Without a calendar time is not judged: no timing
//     is recorded, and a gate of the kind window-open lets nothing through. A calendar that cannot answer refuses the deployment.
//   - Starting and finishing it starts and finishes those changes in the same append.
//   - Of one CI one deployment runs in one environment at a time, and one version is
//     in force there. Of one release one deployment runs in production at a time.
//   - A version comes to an environment only after it was verified in the ones
//     before, for as long and on as many targets as the environment asks.
//   - What was rolled back goes nowhere beyond that environment, nor there again,
//     until a person lifts the hold.
//   - Approvals, checks and waivers are of the components that they were given for:
//     an edit of those voids them.
//
// A rollback is a deployment to an earlier version of that environment. It needs
// changes and an open window like any other, and neither promotion nor the other
// gates, which are about going forward. It may begin under a change whose work has
// ended and that is not closed yet; such a change can be held while the rollback
// runs, and its next wave then waits.
package release

import (
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Release is a release as it stands. It is a value: nothing the engine does alters
// one that was handed out.
type Release struct {
	ID        string // "REL-000007"
	Planner   string // whose release it is
	PlannedBy string // who planned it: the planner, or his delegate
	PlannedAt time.Time
	Content

	Process   Process // as it was when the release was planned
	Phase     string
	PhaseKind workflow.Kind
	Entered   time.Time // into the phase
	Path      []string  `json:",omitzero"` // phases entered, in order, since the last restart
	Scope     string    // digest of what is material, which an approval names

	Changes     []Bound      `json:",omitzero"`
	Evidence    []Evidence   `json:",omitzero"`
	Checks      []Checked    `json:",omitzero"`
	Waivers     []Waived     `json:",omitzero"`
	Approvals   []Approval   `json:",omitzero"`
	Tasks       []Task       `json:",omitzero"`
	Deployments []Deployment `json:",omitzero"` // number n is at n-1
	Holds       []Hold       `json:",omitzero"` // that nobody has lifted
	Ended       time.Time

	Acted    []string            `json:",omitzero"` // who has deployed, sorted
	Version  uint64              // of its stream
	Position eventstore.Position // up to which the release was read or recorded

	shared bool // it was handed out: evolve works on a copy
}

// Open reports whether the release has not ended.
func (r Release) Open() bool { return r.Ended.IsZero() && r.ID != "" }

// Content is what people write into a release.
type Content struct {
	Title       string        `json:"title,omitzero"`
	Description string        `json:"description,omitzero"`
	Kind        Kind          `json:"kind,omitzero"`
	Components  []Component   `json:"components,omitzero"` // in the order in which they are put in place
	Origin      change.Origin `json:"origin,omitzero"`
	Notes       string        `json:"notes,omitzero"` // for the release notes
	Due         time.Time     `json:"due,omitzero"`   // when it is to be in production
	Bundle      string        `json:"bundle,omitzero"`
	Owner       string        `json:"owner,omitzero"`
	Tags        []string      `json:"tags,omitzero"` // a set
}

// Kind is how large a release is.
type Kind string

// The kinds of release (DOMAIN 3).
const (
	Major     Kind = "major"
	Minor     Kind = "minor"
	Patch     Kind = "patch"
	Emergency Kind = "emergency"
)

// Component is one thing that a release rolls out.
type Component struct {
	Kind     ComponentKind `json:"kind"`
	CI       string        `json:"ci,omitzero"`    // that gets the version; documents, processes and training may have none
	Class    string        `json:"class,omitzero"` // of a CI that is new
	Title    string        `json:"title,omitzero"`
	From     string        `json:"from,omitzero"`     // version that production has before; empty: whichever
	To       string        `json:"to"`                // version that is rolled out
	Digest   string        `json:"digest,omitzero"`   // of the artifact: "sha256:" and 64 hexadecimal digits
	Location string        `json:"location,omitzero"` // of the artifact
	Order    int           `json:"order,omitzero"`    // smaller first
}

// ComponentKind is what a component is.
type ComponentKind string

// The kinds of component (DOMAIN 3).
const (
	Code          ComponentKind = "code"
	Configuration ComponentKind = "configuration"
	Network       ComponentKind = "network"
	DataComponent ComponentKind = "data"
	Document      ComponentKind = "document"
	ProcessChange ComponentKind = "process"
	Dependency    ComponentKind = "dependency"
	Training      ComponentKind = "training"
)

// Bound is a change that the release carries out.
type Bound struct {
	Change   string    `json:"change"`
	Emergent bool      `json:"emergent,omitzero"` // raised while it was being deployed
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// Checked is an answer to an item of a checklist, for an environment.
type Checked struct {
	Environment string `json:"environment"`
	ItemCheck
}

// Waived is a waiver of a gate of an environment.
type Waived struct {
	Environment string `json:"environment"`
	Gate        string `json:"gate"`
	Waiver
}

// Approval is the stage of a gate as it stands.
type Approval struct {
	Environment string
	Gate        string
	Stage       workflow.Stage
	Round       int
	State       workflow.State
	Seats       []workflow.Seat     `json:",omitzero"`
	Excluded    []workflow.Excluded `json:",omitzero"` // who was left out, and why
	Votes       []workflow.Vote     `json:",omitzero"`
	Scope       string              // digest of what was asked about
	Asked       time.Time
	Deadline    time.Time // zero: none
	Why         string    // of the state
}

// Tally counts the votes.
func (a Approval) Tally() workflow.Tally {
	return workflow.Count(a.Stage.Rule, a.Stage.Required, a.Seats, a.Votes)
}

// Task is a piece of work that a phase asks for.
type Task struct {
	ID    int                `json:"id"` // from 1 within the release
	Title string             `json:"title"`
	Kind  workflow.TaskKind  `json:"kind"`
	State workflow.TaskState `json:"state"`
	Group string             `json:"group,omitzero"`
	Phase string             `json:"phase"`
}

// Hold keeps a release from going on after a rollback.
type Hold struct {
	Environment string    `json:"environment"`
	Deployment  int       `json:"deployment"` // that was rolled back
	By          string    `json:"by"`
	Reason      string    `json:"reason"`
	At          time.Time `json:"at"`
}

// Deployment is one run of a release in an environment.
type Deployment struct {
	DeploymentStarted
	Wave    int // that is under way, from 1
	State   DeploymentState
	Why     string     `json:",omitzero"` // of the state
	Reports []Reported `json:",omitzero"`
	Waits   []string   `json:",omitzero"` // emergent changes that it waits for
	Ended   time.Time
}

// DeploymentState is how a deployment stands.
type DeploymentState string

// The states of a deployment.
const (
	Running  DeploymentState = "running"
	Paused   DeploymentState = "paused"
	Finished DeploymentState = "finished"
	Failed   DeploymentState = "failed"
	Aborted  DeploymentState = "aborted"
)

// Active reports whether a deployment is under way.
func (d Deployment) Active() bool { return d.State == Running || d.State == Paused }

// Item is what a deployment puts in place.
type Item struct {
	CI       string `json:"ci,omitzero"`       // of the component
	Instance string `json:"instance,omitzero"` // the CI of this environment
	Class    string `json:"class,omitzero"`
	Title    string `json:"title,omitzero"`
	Before   string `json:"before,omitzero"` // version in force until then; empty: none
	After    string `json:"after,omitzero"`  // version that is put in place; empty: it is taken away
	Digest   string `json:"digest,omitzero"`
	New      bool   `json:"new,omitzero"` // the CMDB does not have the instance yet
}

// Outcome is what came of a target.
type Outcome string

// The outcomes of a target (DOMAIN 3).
const (
	Successful    Outcome = "successful"
	Unsuccessful  Outcome = "failed"
	Errored       Outcome = "error"        // it could not be found out, and may be soon
	Inconclusive  Outcome = "inconclusive" // it was found out, and says neither
	allOfOutcomes         = "successful, failed, error, inconclusive"
)

// Deployment returns the deployment of that number; ok is false if there is none.
func (r Release) Deployment(number int) (d Deployment, ok bool) {
	if number < 1 || number > len(r.Deployments) {
		return Deployment{}, false
	}
	return r.Deployments[number-1], true
}

// Running returns the deployment that is under way in an environment.
func (r Release) Running(environment string) (d Deployment, ok bool) {
	for _, d := range r.Deployments {
		if d.Active() && d.Environment == environment {
			return d, true
		}
	}
	return Deployment{}, false
}

// Bound reports whether the release carries a change out.
func (r Release) Bound(id string) bool {
	return slices.ContainsFunc(r.Changes, func(b Bound) bool { return b.Change == id })
}

// Approval returns the approval of a gate; ok is false if it was never asked for.
func (r Release) Approval(environment, gate string) (a Approval, ok bool) {
	i := r.approval(environment, gate)
	if i < 0 {
		return Approval{}, false
	}
	return r.Approvals[i], true
}

func (r *Release) approval(environment, gate string) int {
	return slices.IndexFunc(r.Approvals, func(a Approval) bool { return a.Environment == environment && a.Gate == gate })
}

// CIs returns the CIs of the components, sorted.
func (c Content) CIs() []string {
	var all []string
	for _, one := range c.Components {
		if one.CI != "" {
			all = with(all, one.CI)
		}
	}
	return all
}

// Delivered reports whether a deployment to production has finished, none is under
// way, and the last one there was no rollback.
func (r Release) Delivered() bool {
	delivered := false
	for _, d := range r.Deployments {
		switch {
		case d.Active():
			return false
		case d.State == Finished && d.Production:
			delivered = d.RollsBack == 0
		}
	}
	return delivered
}

// stream returns the stream of a release.
func stream(id string) string { return streamPrefix + id }

const (
	streamPrefix = "release-"
	register     = "register-REL"
	graphStream  = "environments"
)

// number returns the ID of the n-th release.
func number(n uint64) string { return fmt.Sprintf("REL-%06d", n) }
