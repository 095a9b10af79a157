package change

import (
	"slices"

	"github.com/rollforward/rollforward/internal/workflow"
)

// evolve returns c after an event. It never refuses. It alters what c points to,
// unless c was handed out: then it works on a copy, and c stays as it was.
func evolve(c Change, payload any) Change {
	c.apply(payload)
	return c
}

// Evolve returns c after an event of its stream, for folds and replays of one's
// own; c stays as it was. It never refuses. It costs a copy of the lists of c.
func Evolve(c Change, payload any) Change { return evolve(c.handed(), payload) }

// apply is evolve in place.
func (c *Change) apply(payload any) {
	if c.shared {
		c.own()
	}
	c.Version++
	switch e := payload.(type) {
	case Raised:
		c.ID, c.Model, c.ModelVersion = e.Change, e.Model, e.ModelVersion
		c.Template, c.TemplateVersion, c.External = e.Template, e.TemplateVersion, e.External
		c.Requester, c.RaisedBy, c.RaisedAt = e.Requester, e.By, e.At
		c.Content, c.Scope = e.Content, e.Scope
		c.Phase, c.Kind, c.Entered, c.Path = e.Phase, workflow.Kind(e.Kind), e.At, []string{e.Phase}
	case Edited:
		c.Content.edit(&e.Set, e.Clear)
		c.Scope = e.Scope
		if c.Authorized != nil {
			if kept := *c.Authorized; e.Keeps {
				kept.Scope = e.Scope
				c.Authorized = &kept
			} else {
				c.Authorized = nil
			}
		}
		for _, stage := range e.Voids {
			c.withApproval(stage, func(a *Approval) {
				a.State, a.Votes, a.Why = workflow.NotRequested, nil, "voided by an edit of what is material"
			})
		}
	case Assessed:
		if e.Impact != nil {
			c.Impact = e.Impact
		}
		if e.Receipt != nil {
			c.Risk = e.Receipt
		}
	case Moved:
		c.Phase, c.Kind, c.Entered = e.To, workflow.Kind(e.Kind), e.At
		if e.Ends {
			c.Ended = e.At
		}
		if e.Voids {
			c.Authorized = nil
		}
		if e.Back {
			c.Path, c.Authorized = nil, nil
			for i := range c.Approvals {
				c.Approvals[i].State, c.Approvals[i].Votes = workflow.NotRequested, nil
			}
		}
		if !slices.Contains(c.Path, e.To) {
			c.Path = append(c.Path, e.To)
		}
	case StageRequested:
		c.setApproval(Approval{
			Stage: e.Stage, Phase: e.Phase, Round: e.Round, State: workflow.Requested, Seats: e.Seats,
			Excluded: e.Excluded, Asked: e.At, Deadline: e.Deadline,
		})
	case StagePlanned:
		c.setApproval(Approval{Stage: e.Stage, Phase: e.Phase, State: workflow.NotRequested, Why: e.Why})
	case StageSkipped:
		c.setApproval(Approval{Stage: e.Stage, Phase: e.Phase, State: workflow.Skipped, Why: e.Why})
	case StageEscalated:
		c.withApproval(e.Stage, func(a *Approval) {
			a.Seats = append(slices.Clip(a.Seats), e.Seats...)
			a.Deadline, a.Escalated = e.Deadline, true
		})
	case Voted:
		c.withApproval(e.Stage, func(a *Approval) { a.Votes = append(a.Votes, e.Vote) })
	case StageDecided:
		c.withApproval(e.Stage, func(a *Approval) { a.State, a.Why = e.State, e.Why })
	case Authorized:
		c.Authorized = &e
	case Unauthorized:
		c.Unauthorized = &e
	case Started:
		if c.Started == nil {
			c.Started = &e
		}
		c.Acted = with(c.Acted, e.By, e.For)
	case Implemented:
		c.Work = &e
		if c.Started != nil { // otherwise By reports what others did
			c.Acted = with(c.Acted, e.By, e.For)
		}
	case Timed:
		if i := slices.IndexFunc(c.Timings, func(t Timed) bool { return t.Point == e.Point }); i >= 0 {
			c.Timings[i] = e
		} else {
			c.Timings = append(c.Timings, e)
		}
	case Carried:
		if i := c.carrier(e.Release); i >= 0 {
			c.Releases[i] = e
		} else {
			c.Releases = append(c.Releases, e)
		}
		if e.State != CarryBound && e.State != CarryUnbound {
			c.Acted = with(c.Acted, e.By, e.For)
		}
	case Reviewed:
		c.Reviewed = &e
	case Held:
		c.Held = &e
		c.swapApprovals(workflow.Requested, workflow.OnHold)
	case Resumed:
		if c.Held != nil {
			rest := e.At.Sub(c.Held.At)
			c.swapApprovals(workflow.OnHold, workflow.Requested)
			for i := range c.Approvals {
				if a := &c.Approvals[i]; a.State == workflow.Requested && !a.Deadline.IsZero() {
					a.Deadline = a.Deadline.Add(rest)
				}
			}
		}
		c.Held = nil
	case TaskAdded:
		c.Tasks = append(c.Tasks, e.Task)
	case TaskChanged:
		if e.ID >= 1 && e.ID <= len(c.Tasks) {
			c.Tasks[e.ID-1] = e.Task
		}
		if e.Acts {
			c.Acted = with(c.Acted, e.By, e.For)
		}
	case Linked:
		i := slices.IndexFunc(c.Incidents, func(i Incident) bool { return i.ID == e.ID && i.Relation == e.Relation })
		if i < 0 {
			c.Incidents = append(c.Incidents, e.Incident)
		} else {
			c.Incidents[i] = e.Incident
		}
	}
}

// handed returns c as it is given to somebody who may keep it: what evolve makes
// of it from then on it makes of a copy.
func (c Change) handed() Change {
	c.shared = true
	return c
}

// own gives c lists of its own, so that they can be altered in place. What hangs on
// a pointer is never altered.
func (c *Change) own() {
	c.shared = false
	c.Path, c.Acted = slices.Clone(c.Path), slices.Clone(c.Acted)
	c.Timings, c.Releases = slices.Clone(c.Timings), slices.Clone(c.Releases)
	c.Tasks, c.Incidents, c.Approvals = slices.Clone(c.Tasks), slices.Clone(c.Incidents), slices.Clone(c.Approvals)
	for i := range c.Approvals {
		a := &c.Approvals[i]
		a.Votes, a.Seats = slices.Clip(a.Votes), slices.Clip(a.Seats)
	}
}

// withApproval alters a stage's approval, if there is one.
func (c *Change) withApproval(stage string, alter func(a *Approval)) {
	for i := range c.Approvals {
		if c.Approvals[i].Stage.Name == stage {
			alter(&c.Approvals[i])
			return
		}
	}
}

// setApproval puts a in place of the stage's approval.
func (c *Change) setApproval(a Approval) {
	for i := range c.Approvals {
		if c.Approvals[i].Stage.Name == a.Stage.Name {
			c.Approvals[i] = a
			return
		}
	}
	c.Approvals = append(c.Approvals, a)
}

// swapApprovals puts every approval in one state into another.
func (c *Change) swapApprovals(from, to workflow.State) {
	for i := range c.Approvals {
		if c.Approvals[i].State == from {
			c.Approvals[i].State = to
		}
	}
}

// with returns members with one more, sorted, in a slice of its own.
func with(members []string, more ...string) []string {
	all := set(append(slices.Clip(members), more...))
	if len(all) > 0 && all[0] == "" {
		all = all[1:]
	}
	return all
}
