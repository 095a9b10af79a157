package release

import (
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Numbered is recorded in "register-REL" with every plan: its version is the
// release's number.
type Numbered struct {
	Release string `json:"release"`
}

// Planned is the first event of every release. It holds the process that the
// release is under from then on.
type Planned struct {
	Release string    `json:"release"`
	Planner string    `json:"planner"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Content Content   `json:"content"`
	Process Process   `json:"process"`
	Phase   string    `json:"phase"`
	Kind    string    `json:"kind"` // of the phase
	Scope   string    `json:"scope"`
}

// Tags lets queries find a release by what it is about.
func (e Planned) Tags() []string { return ciTags(e.Content.CIs()) }

// Edited is recorded when fields are changed. What the edit voids is decided then.
type Edited struct {
	Set    Content  `json:"set,omitzero"`
	Clear  []string `json:"clear,omitzero"`
	Fields []string `json:"fields"` // that now have another value
	By     string   `json:"by"`
	Reason string   `json:"reason,omitzero"`
	Scope  string   `json:"scope"`           // digest afterwards
	Voids  bool     `json:"voids,omitzero"`  // approvals, checks and waivers no longer hold
	Voided []string `json:"voided,omitzero"` // which those were, for people
}

// Tags lets queries find a release by what it is about now.
func (e Edited) Tags() []string { return ciTags(e.Set.CIs()) }

// ChangeBound is recorded when a change is bound to a release.
type ChangeBound struct {
	Bound
	Deployment int `json:"deployment,omitzero"` // that waits for it, where it is an emergent one
}

// Tags lets queries find the releases of a change.
func (e ChangeBound) Tags() []string { return []string{"change:" + e.Change} }

// ChangeUnbound is recorded when a change is taken off a release.
type ChangeUnbound struct {
	Change string `json:"change"`
	By     string `json:"by"`
	Reason string `json:"reason,omitzero"`
}

// Tags lets queries find the releases of a change.
func (e ChangeUnbound) Tags() []string { return []string{"change:" + e.Change} }

// EvidenceAdded is recorded when somebody adds a finding.
type EvidenceAdded struct {
	Evidence Evidence `json:"evidence"`
}

// ItemChecked is recorded when somebody says go or no-go.
type ItemChecked struct {
	Checked
}

// GateWaived is recorded when somebody waives a gate.
type GateWaived struct {
	Waived
}

// ApprovalAsked is recorded when people are asked to approve a gate.
type ApprovalAsked struct {
	Environment string              `json:"environment"`
	Gate        string              `json:"gate"`
	Stage       workflow.Stage      `json:"stage"`
	Round       int                 `json:"round"`
	Seats       []workflow.Seat     `json:"seats"`
	Excluded    []workflow.Excluded `json:"excluded,omitzero"`
	Scope       string              `json:"scope"`
	At          time.Time           `json:"at"`
	Deadline    time.Time           `json:"deadline,omitzero"`
}

// Voted is recorded when somebody approves or rejects.
type Voted struct {
	Environment string        `json:"environment"`
	Gate        string        `json:"gate"`
	Vote        workflow.Vote `json:"vote"`
}

// ApprovalDecided is recorded when an approval has come to its end.
type ApprovalDecided struct {
	Environment string         `json:"environment"`
	Gate        string         `json:"gate"`
	State       workflow.State `json:"state"`
	Why         string         `json:"why"`
}

// DeploymentStarted is recorded when a deployment begins, with all that was known
// then: what it puts in place, under which changes, what the gates and the calendar
// said.
type DeploymentStarted struct {
	Number      int            `json:"number"` // from 1 within the release
	Environment string         `json:"environment"`
	Production  bool           `json:"production,omitzero"`
	Graph       uint64         `json:"graph"` // version of the environments
	Items       []Item         `json:"items"`
	Changes     []string       `json:"changes,omitzero"` // that it carries out
	Waves       []Wave         `json:"waves"`
	Limits      Limits         `json:"limits,omitzero"`
	Gates       []GateResult   `json:"gates,omitzero"`
	RollUp      RollUpState    `json:"roll_up"`
	Timing      *change.Timing `json:"timing,omitzero"`     // nil: the calendar was not asked
	RollsBack   int            `json:"rolls_back,omitzero"` // number of the deployment that is undone
	Retries     int            `json:"retries,omitzero"`    // number of the deployment that is tried again
	By          string         `json:"by"`
	For         string         `json:"for,omitzero"` // on whose behalf
	At          time.Time      `json:"at"`
}

// Tags lets queries find deployments by CI and environment.
func (e DeploymentStarted) Tags() []string {
	return append(ciTags(instances(e.Items)), environmentTag(e.Environment)...)
}

// Reported is recorded when it is known what came of a target.
type Reported struct {
	Deployment int       `json:"deployment"`
	ID         string    `json:"id"`
	Target     string    `json:"target"`
	Outcome    Outcome   `json:"outcome"`
	CI         string    `json:"ci,omitzero"`
	Digest     string    `json:"digest,omitzero"`
	Detail     string    `json:"detail,omitzero"`
	By         string    `json:"by"`
	At         time.Time `json:"at"`
}

// WaveBegun is recorded when a wave after the first one begins.
type WaveBegun struct {
	Deployment int            `json:"deployment"`
	Wave       int            `json:"wave"`
	Timing     *change.Timing `json:"timing,omitzero"`
	By         string         `json:"by"`
	At         time.Time      `json:"at"`
}

// DeploymentPaused is recorded when a deployment stops for a while.
type DeploymentPaused struct {
	Deployment int       `json:"deployment"`
	By         string    `json:"by"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
}

// DeploymentResumed is recorded when it goes on.
type DeploymentResumed struct {
	Deployment int            `json:"deployment"`
	Changes    []string       `json:"changes,omitzero"` // that it carries out from now on
	Timing     *change.Timing `json:"timing,omitzero"`
	By         string         `json:"by"`
	Reason     string         `json:"reason,omitzero"`
	At         time.Time      `json:"at"`
}

// DeploymentFinished is recorded when a deployment has come to a good end. It
// carries what it changed to the CMDB: versions, and what else was planned in the
// changes that it completes.
type DeploymentFinished struct {
	Release    string       `json:"release"`
	Deployment int          `json:"deployment"`
	Deltas     []cmdb.Delta `json:"deltas,omitzero"`
	Successes  int          `json:"successes"` // targets
	More       bool         `json:"more,omitzero"`
	Notes      string       `json:"notes,omitzero"`
	By         string       `json:"by"`
	At         time.Time    `json:"at"`
}

// CMDB tells what was deployed.
func (e DeploymentFinished) CMDB() cmdb.Carried {
	return cmdb.Carried{Deltas: e.Deltas, Cause: e.Release}
}

// Tags lets the CMDB find the event, and queries by CI.
func (e DeploymentFinished) Tags() []string { return cmdb.Tags(e.Deltas) }

// DeploymentEnded is recorded when a deployment has failed, by its limits or
// because somebody says so, or was aborted.
type DeploymentEnded struct {
	Deployment int             `json:"deployment"`
	State      DeploymentState `json:"state"`
	Why        string          `json:"why"`
	By         string          `json:"by"`
	At         time.Time       `json:"at"`
}

// HoldSet is recorded with every rollback.
type HoldSet struct {
	Hold
}

// HoldLifted is recorded when a person lifts the holds of an environment.
type HoldLifted struct {
	Environment string    `json:"environment"`
	By          string    `json:"by"`
	Reason      string    `json:"reason"`
	At          time.Time `json:"at"`
}

// Moved is recorded when a release goes from one phase to another.
type Moved struct {
	From   string    `json:"from"`
	To     string    `json:"to"`
	Kind   string    `json:"kind"` // of To
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitzero"`
	Ends   bool      `json:"ends,omitzero"`  // To is final
	Again  bool      `json:"again,omitzero"` // a restart: To and what lies behind it is reset
}

// TaskAdded is recorded when a phase opens a task.
type TaskAdded struct {
	Task
}

// TaskChanged is recorded when a task goes into another state.
type TaskChanged struct {
	Task
	By   string `json:"by"`
	Note string `json:"note,omitzero"`
}

// Noted is recorded when somebody writes a remark.
type Noted struct {
	By   string `json:"by"`
	Text string `json:"text"`
}

// EnvironmentsDefined is recorded in "environments". It replaces the graph that
// was there before wholly.
type EnvironmentsDefined struct {
	Environments Environments `json:"environments"`
	By           string       `json:"by"`
	Reason       string       `json:"reason,omitzero"`
	At           time.Time    `json:"at"`
}

// Installing is recorded in "installed-ENVIRONMENT/CI" when a deployment begins:
// no other one can begin there until it ends.
type Installing struct {
	Release    string    `json:"release"`
	Deployment int       `json:"deployment"`
	Version    string    `json:"version,omitzero"` // empty: it is taken away
	At         time.Time `json:"at"`
}

// Installed is recorded there when it has finished: the version is in force.
type Installed struct {
	Release    string    `json:"release"`
	Deployment int       `json:"deployment"`
	Version    string    `json:"version,omitzero"`
	Verified   bool      `json:"verified,omitzero"`
	Successes  int       `json:"successes,omitzero"` // targets that took it
	At         time.Time `json:"at"`
}

// NotInstalled is recorded there when it has failed or was aborted: the version
// before stays in force.
type NotInstalled struct {
	Release    string    `json:"release"`
	Deployment int       `json:"deployment"`
	Touched    bool      `json:"touched,omitzero"` // some target had reported: the version before no longer counts as verified
	At         time.Time `json:"at"`
}

// Withheld is recorded there with a rollback: the version goes nowhere beyond, nor
// there again, until it is released.
type Withheld struct {
	Release string    `json:"release"`
	Version string    `json:"version"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Released is recorded there when a person lifts the hold of a release.
type Released struct {
	Release string    `json:"release"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

// Types returns the event types of this package.
func Types() []eventstore.EventType {
	return []eventstore.EventType{
		eventstore.Type[Numbered]("release.numbered", 1),
		eventstore.Type[Planned]("release.planned", 1),
		eventstore.Type[Edited]("release.edited", 1),
		eventstore.Type[ChangeBound]("release.change-bound", 1),
		eventstore.Type[ChangeUnbound]("release.change-unbound", 1),
		eventstore.Type[EvidenceAdded]("release.evidence-added", 1),
		eventstore.Type[ItemChecked]("release.item-checked", 1),
		eventstore.Type[GateWaived]("release.gate-waived", 1),
		eventstore.Type[ApprovalAsked]("release.approval-asked", 1),
		eventstore.Type[Voted]("release.voted", 1),
		eventstore.Type[ApprovalDecided]("release.approval-decided", 1),
		eventstore.Type[DeploymentStarted]("release.deployment-started", 1),
		eventstore.Type[Reported]("release.reported", 1),
		eventstore.Type[WaveBegun]("release.wave-begun", 1),
		eventstore.Type[DeploymentPaused]("release.deployment-paused", 1),
		eventstore.Type[DeploymentResumed]("release.deployment-resumed", 1),
		eventstore.Type[DeploymentFinished]("release.deployment-finished", 1),
		eventstore.Type[DeploymentEnded]("release.deployment-ended", 1),
		eventstore.Type[HoldSet]("release.hold-set", 1),
		eventstore.Type[HoldLifted]("release.hold-lifted", 1),
		eventstore.Type[Moved]("release.moved", 1),
		eventstore.Type[TaskAdded]("release.task-added", 1),
		eventstore.Type[TaskChanged]("release.task-changed", 1),
		eventstore.Type[Noted]("release.noted", 1),
		eventstore.Type[EnvironmentsDefined]("environments.defined", 1),
		eventstore.Type[Installing]("installed.installing", 1),
		eventstore.Type[Installed]("installed.installed", 1),
		eventstore.Type[NotInstalled]("installed.not-installed", 1),
		eventstore.Type[Withheld]("installed.withheld", 1),
		eventstore.Type[Released]("installed.released", 1),
	}
}

// ciTags returns a tag for each CI, as many as leave room for others.
func ciTags(cis []string) []string {
	var tags []string
	for _, ci := range cis {
		if tag := "ci:" + ci; len(tag) <= eventstore.MaxTag && len(tags) < eventstore.MaxTags-16 {
			tags = append(tags, tag)
		}
	}
	return tags
}

func environmentTag(name string) []string {
	if tag := "environment:" + name; len(tag) <= eventstore.MaxTag {
		return []string{tag}
	}
	return nil
}

// instances returns the CIs of items, sorted.
func instances(items []Item) []string {
	var all []string
	for _, i := range items {
		if i.Instance != "" {
			all = with(all, i.Instance)
		}
	}
	return all
}
