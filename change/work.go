package change

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/internal/workflow"
)

// submit leaves planning.
func (d *decision) submit() {
	t, ok := d.way(verbSubmit, "")
	if slices.Contains(planning, d.Kind) {
		d.checkCIs(d.Content, false)
		if d.graph != nil && !d.follows() {
			d.preconditions(d.graph.problems)
		}
	}
	if !ok || !d.clear() {
		return
	}
	d.assessing = true
	d.move(t.To, verbSubmit, "")
	d.auto()
}

// follows reports whether the change comes after another one, which may make its
// preconditions hold.
func (d *decision) follows() bool {
	for _, o := range d.Order {
		if o.Rule == MustFollow {
			return true
		}
	}
	return false
}

func (d *decision) advance(c Advance) {
	t, ok := d.way(verbAdvance, c.To)
	if !ok {
		return
	}
	d.assessing = d.Kind == KindPlan || slices.Contains(authorizing, d.model.kind(t.To))
	d.move(t.To, verbAdvance, "")
	d.auto()
}

// start begins the work, under what authorises it, or first where the model allows
// it (DOMAIN 1.1).
func (d *decision) start() {
	t, ok := d.way(verbStart, "")
	if d.graph != nil && d.Open() && d.Work == nil {
		d.checkCIs(d.Content, false)
		d.preconditions(d.graph.problems)
	}
	d.apart("implementer", d.people()...)
	if !ok || !d.clear() {
		return
	}
	if d.time(ToStart); !d.clear() {
		return
	}
	first := d.mayStartFirst(KindImplement) && d.authority() == ""
	if first {
		// Every approval that the change would have needed is asked for.
		for _, p := range d.model.Phases {
			if slices.Contains(authorizing, p.Kind) {
				d.plan(p)
				d.askAll(p)
			}
		}
		if !d.clear() {
			return
		}
	}
	if !first {
		d.authorize(KindImplement)
	}
	e := Started{By: d.actor.ID, For: d.behalf(), At: d.now, First: first}
	if first {
		e.AuthorizeBy = d.now.Add(time.Duration(d.model.Retrospect.AuthorizeWithin))
	}
	d.record(e)
	d.move(t.To, verbStart, "")
	d.stillVotable()
	d.auto()
}

// askAll requests every stage of a phase, in whatever order the model has them:
// the work does not wait for them.
func (d *decision) askAll(phase workflow.Phase) {
	phase.Together = true
	d.ask(phase)
}

// complete ends the work and tells the CMDB what was applied.
func (d *decision) complete(c Complete) {
	d.text("notes", c.Notes, maxText, false)
	start, end := c.Start.UTC(), c.End.UTC()
	if c.Start.IsZero() && d.Started != nil {
		start = d.Started.At
	}
	if c.End.IsZero() {
		end = d.now
	}
	if end.Before(start) {
		d.malformed("end", "interval-invalid", "the work ended at %s, before it started at %s", "give an end after the start", stamp(end), stamp(start))
	}
	if end.After(d.now) {
		d.malformed("end", "in-the-future", "the work ended at %s, and it is %s", "complete it when it has ended", stamp(end), stamp(d.now))
	}
	d.recordable("start", start)
	d.recordable("end", end)
	t, ok := d.way(verbComplete, "")
	if pending := d.pending(); len(pending) > 0 && d.on("release-pending") {
		d.refuse("release-pending", "%s carries it out, and has not delivered it", "finish its deployment, back it out, or take the change off the release", strings.Join(pending, ", "))
	}
	d.count("applied", len(c.Applied), maxDeltas)
	if d.graph != nil && d.Kind == KindImplement {
		d.preconditions(d.graph.applied)
	}
	d.apart("implementer", d.people()...)
	if !ok || !d.clear() {
		return
	}
	e := Implemented{
		Change: d.ID, By: d.actor.ID, For: d.behalf(), Start: start, End: end, BackedOut: c.BackedOut, Applied: c.applied(d.Content), Notes: c.Notes,
		Delivered: d.delivered(),
	}
	if d.model.Retrospect != nil {
		e.ReviewBy = end.Add(time.Duration(d.model.Retrospect.ReviewWithin))
	}
	d.record(e)
	d.stillVotable()
	d.move(t.To, verbComplete, "")
	d.auto()
}

// review records how it went, and the follow-ups it asks for.
func (d *decision) review(c Review) {
	d.text("notes", c.Notes, maxText, false)
	d.text("accept", c.Accept, maxText, false)
	if !slices.Contains([]Outcome{Successful, WithIssues, Unsuccessful}, c.Outcome) {
		d.malformed("outcome", "unknown-outcome", "there is no outcome %q", "say %q, %q or %q", c.Outcome, Successful, WithIssues, Unsuccessful)
	}
	for i, f := range c.FollowUps {
		field := fmt.Sprintf("follow_ups[%d]", i)
		d.text(field, f.Title, maxTitle, false)
		if f.Title == "" {
			d.malformed(field, "title-required", "it is empty", "say it in a few words")
		}
		if !slices.Contains(workflow.TaskKinds(), f.Kind) || f.Kind == workflow.TaskImplementation {
			d.malformed(field, "unknown-task-kind", "there is no follow-up of kind %q", "choose documentation, training, policy or another but implementation", f.Kind)
		}
		d.id(field, f.Assignee)
		d.id(field, f.Group)
	}
	d.stillOpen()
	d.notHeld()
	if d.Open() && d.Kind != KindReview {
		d.refuse("wrong-phase", "the change is in phase %q, where it is not reviewed", "from here: %s", d.Phase, d.ways())
	}
	d.apart("reviewer", d.people()...)
	if c.Accept != "" && d.Unauthorized == nil {
		d.refuse("nothing-to-accept", "nothing was carried out that had been refused", "leave the acceptance out")
	}
	if d.count("follow_ups", len(c.FollowUps), maxList); len(d.Tasks)+len(c.FollowUps) > maxTasks {
		d.refuse("too-many-tasks", "the change has %d tasks", "raise another change for the rest", len(d.Tasks))
	}
	if !d.clear() {
		return
	}
	d.record(Reviewed{By: d.actor.ID, For: d.behalf(), At: d.now, Outcome: c.Outcome, Notes: c.Notes, Accepted: c.Accept})
	for _, f := range c.FollowUps {
		d.newTask(Task{Title: f.Title, Kind: f.Kind, Assignee: f.Assignee, Group: f.Group, FollowUp: true})
	}
	d.stillVotable()
	d.auto()
}

func (d *decision) close() {
	if t, ok := d.way(verbClose, ""); ok && d.clear() {
		d.move(t.To, verbClose, "")
	}
}

// cancellable reports whether the change can be cancelled: in every phase before
// review (DOMAIN 1.1), unless it was started without authorisation, which is not
// made undone by a cancellation.
func (d *decision) cancellable() bool {
	return d.Open() && d.model.canceled() != "" && d.model.plans() && d.Kind != KindReview && d.Work == nil &&
		(d.Started == nil || d.Authorized != nil || !d.on("retrospective"))
}

// cancel ends a change, also one on hold: it is the one way out of that.
func (d *decision) cancel(c Cancel) {
	d.text("reason", c.Reason, maxText, true)
	d.stillOpen()
	if d.Open() && !d.cancellable() {
		d.refuse("wrong-phase", "the change is in phase %q, from where it cannot cancel", "from here: %s", d.Phase, d.ways())
	}
	d.nothingRuns()
	if !d.clear() {
		return
	}
	d.cancelStages("the change was cancelled")
	d.move(d.model.canceled(), verbCancel, c.Reason)
}

// revert takes a change back to planning (DOMAIN 1.1).
func (d *decision) revert(c Revert) {
	d.text("reason", c.Reason, maxText, true)
	d.stillOpen()
	d.notHeld()
	if d.Open() && (d.Started != nil || !slices.Contains(authorizing, d.Kind) && d.Kind != KindScheduled || !d.model.plans()) {
		d.refuse("wrong-phase", "the change is in phase %q, from where it cannot be taken back to planning", "from here: %s", d.Phase, d.ways())
	}
	if !d.clear() {
		return
	}
	d.cancelStages("the change went back to planning")
	d.move(d.model.planned(), verbRevert, c.Reason)
}

func (d *decision) hold(c Hold) {
	d.text("reason", c.Reason, maxText, true)
	d.stillOpen()
	if d.Held != nil {
		d.refuse("on-hold", "the change is on hold already: %s", "resume it first", d.Held.Reason)
	}
	d.nothingRuns()
	if d.clear() {
		d.record(Held{By: d.actor.ID, Reason: c.Reason, At: d.now})
	}
}

func (d *decision) resume(c Resume) {
	d.text("reason", c.Reason, maxText, false)
	d.stillOpen()
	if d.Held == nil {
		d.refuse("not-on-hold", "the change is not on hold", "nothing is to be resumed")
	}
	if d.clear() {
		d.record(Resumed{By: d.actor.ID, At: d.now, Reason: c.Reason})
		d.auto()
	}
}

// link ties an incident to the change, also to one that has ended.
func (d *decision) link(c Link) {
	i := c.Incident
	d.text("incident", i.ID, maxID, true)
	d.id("incident", i.ID)
	if i.Relation != Fixes && i.Relation != Caused {
		d.malformed("relation", "unknown-relation", "an incident does not stand as %q to a change", "say %q or %q", i.Relation, Fixes, Caused)
	}
	if i.Priority < 0 || i.Priority > 5 {
		d.malformed("priority", "unknown-priority", "there is no priority %d", "give 1, the gravest, to 5, or 0 for not known", i.Priority)
	}
	if i.Relation == Caused && d.Started == nil && d.Work == nil && d.model.implements() {
		d.refuse("not-implemented", "nothing was carried out that could have caused an incident", "link it as one that the change fixes, or link the change that caused it")
	}
	for _, old := range d.Incidents {
		if old == i {
			return // said twice is said once
		}
	}
	if len(d.Incidents) >= maxList {
		d.refuse("too-many", "the change has %d incidents", "link the rest to another change", len(d.Incidents))
	}
	if d.clear() {
		d.record(Linked{Incident: i, By: d.actor.ID})
	}
}

func (d *decision) note(c Note) {
	d.text("text", c.Text, maxText, true)
	if d.clear() {
		d.record(Noted{By: d.actor.ID, Text: c.Text})
	}
}
