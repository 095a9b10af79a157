package release

import (
	"slices"

	"github.com/rollforward/rollforward/internal/workflow"
)

// Evolve returns r after an event of its stream, for folds and replays of one's
// own; r stays as it was. It never refuses. It costs a copy of the lists of r.
func Evolve(r Release, payload any) Release { return evolve(r.handed(), payload) }

// evolve returns r after an event. It never refuses. It alters what r points to,
// unless r was handed out: then it works on a copy, and r stays as it was.
func evolve(r Release, payload any) Release {
	r.apply(payload)
	return r
}

// apply is evolve in place.
func (r *Release) apply(payload any) {
	if r.shared {
		r.own()
	}
	r.Version++
	switch e := payload.(type) {
	case Planned:
		r.ID, r.Planner, r.PlannedBy, r.PlannedAt = e.Release, e.Planner, e.By, e.At
		r.Content, r.Process, r.Scope = e.Content, e.Process, e.Scope
		r.Phase, r.PhaseKind, r.Entered, r.Path = e.Phase, workflow.Kind(e.Kind), e.At, []string{e.Phase}
	case Edited:
		r.Content = r.Content.edited(e.Set, e.Clear)
		r.Scope = e.Scope
		if e.Voids {
			r.void("voided by an edit of what is rolled out")
		}
	case ChangeBound:
		r.Changes = append(r.Changes, e.Bound)
		if e.Deployment > 0 {
			r.withDeployment(e.Deployment, func(d *Deployment) { d.Waits = append(slices.Clip(d.Waits), e.Change) })
		}
	case ChangeUnbound:
		r.Changes = slices.DeleteFunc(r.Changes, func(b Bound) bool { return b.Change == e.Change })
		for i := range r.Deployments {
			d := &r.Deployments[i]
			d.Waits = slices.DeleteFunc(slices.Clone(d.Waits), func(id string) bool { return id == e.Change })
		}
	case EvidenceAdded:
		r.Evidence = append(r.Evidence, e.Evidence)
	case ItemChecked:
		r.Checks = append(r.Checks, e.Checked)
	case GateWaived:
		r.Waivers = append(r.Waivers, e.Waived)
	case ApprovalAsked:
		a := Approval{
			Environment: e.Environment, Gate: e.Gate, Stage: e.Stage, Round: e.Round, State: workflow.Requested, Seats: e.Seats,
			Excluded: e.Excluded, Scope: e.Scope, Asked: e.At, Deadline: e.Deadline,
		}
		if i := r.approval(e.Environment, e.Gate); i >= 0 {
			r.Approvals[i] = a
		} else {
			r.Approvals = append(r.Approvals, a)
		}
	case Voted:
		if i := r.approval(e.Environment, e.Gate); i >= 0 {
			r.Approvals[i].Votes = append(slices.Clip(r.Approvals[i].Votes), e.Vote)
		}
	case ApprovalDecided:
		if i := r.approval(e.Environment, e.Gate); i >= 0 {
			r.Approvals[i].State, r.Approvals[i].Why = e.State, e.Why
		}
	case HoldSet:
		r.Holds = append(r.Holds, e.Hold)
	case HoldLifted:
		r.Holds = slices.DeleteFunc(r.Holds, func(h Hold) bool { return h.Environment == e.Environment })
	case Moved:
		r.moved(e)
	case TaskAdded:
		r.Tasks = append(r.Tasks, e.Task)
	case TaskChanged:
		if e.ID >= 1 && e.ID <= len(r.Tasks) {
			r.Tasks[e.ID-1] = e.Task
		}
	default:
		r.deployed(payload)
	}
}

// deployed takes the events of deployments.
func (r *Release) deployed(payload any) {
	switch e := payload.(type) {
	case DeploymentStarted:
		r.Deployments = append(r.Deployments, Deployment{DeploymentStarted: e, Wave: 1, State: Running})
		r.Acted = with(r.Acted, e.By, e.For)
	case Reported:
		r.withDeployment(e.Deployment, func(d *Deployment) { d.Reports = append(d.Reports, e) })
	case WaveBegun:
		r.withDeployment(e.Deployment, func(d *Deployment) { d.Wave = e.Wave })
	case DeploymentPaused:
		r.withDeployment(e.Deployment, func(d *Deployment) { d.State, d.Why = Paused, e.Reason })
	case DeploymentResumed:
		r.withDeployment(e.Deployment, func(d *Deployment) {
			d.State, d.Why, d.Waits = Running, e.Reason, nil
			if d.Production {
				d.Changes = e.Changes
			}
		})
	case DeploymentFinished:
		r.withDeployment(e.Deployment, func(d *Deployment) { d.State, d.Why, d.Ended = Finished, e.Notes, e.At })
	case DeploymentEnded:
		r.withDeployment(e.Deployment, func(d *Deployment) { d.State, d.Why, d.Ended = e.State, e.Why, e.At })
	}
}

func (r *Release) moved(e Moved) {
	r.Phase, r.PhaseKind, r.Entered = e.To, workflow.Kind(e.Kind), e.At
	if e.Ends {
		r.Ended = e.At
	}
	if e.Again {
		if i := slices.Index(r.Path, e.To); i >= 0 {
			r.Path = slices.Clone(r.Path[:i])
		}
		r.void("voided by a restart from " + e.To)
		r.Evidence = nil
	}
	if !slices.Contains(r.Path, e.To) {
		r.Path = append(slices.Clip(r.Path), e.To)
	}
}

// void takes back what people said of what the release was.
func (r *Release) void(why string) {
	r.Checks, r.Waivers = nil, nil
	for i := range r.Approvals {
		a := &r.Approvals[i]
		a.State, a.Votes, a.Why = workflow.NotRequested, nil, why
	}
}

func (r *Release) withDeployment(number int, alter func(d *Deployment)) {
	if number >= 1 && number <= len(r.Deployments) {
		alter(&r.Deployments[number-1])
	}
}

// handed returns r as it is given to somebody who may keep it: what evolve makes
// of it from then on it makes of a copy.
func (r Release) handed() Release {
	r.shared = true
	return r
}

// own gives r lists of its own, so that they can be altered in place. What hangs on
// a pointer, and lists within what they hold, are never altered.
func (r *Release) own() {
	r.shared = false
	r.Changes, r.Approvals, r.Tasks = slices.Clone(r.Changes), slices.Clone(r.Approvals), slices.Clone(r.Tasks)
	r.Deployments, r.Holds = slices.Clone(r.Deployments), slices.Clone(r.Holds)
	r.Evidence, r.Checks, r.Waivers = slices.Clip(r.Evidence), slices.Clip(r.Checks), slices.Clip(r.Waivers)
	for i := range r.Deployments {
		r.Deployments[i].Reports = slices.Clip(r.Deployments[i].Reports)
	}
}

// with returns members with more of them, sorted, each once, in a slice of its own.
func with(members []string, more ...string) []string {
	all := append(slices.Clone(members), more...)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > 0 && all[0] == "" {
		all = all[1:]
	}
	return all
}
