package change

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/internal/workflow"
)

// plan decides which stages of a phase are asked for, by its decision table
// (DOMAIN 1.3), and which are not. What was asked for before and still stands is
// left as it is.
func (d *decision) plan(phase workflow.Phase) {
	asked, skipped, rows, err := phase.Applies(d.model.Model, d.holds)
	if err != nil {
		d.unjudged("the decision table of phase %q", err, phase.Name)
		return
	}
	why := "always asked for"
	if len(rows) > 0 {
		why = fmt.Sprintf("asked for by row %s of the decision table", numbers(rows))
	}
	for _, name := range asked {
		a, had := d.Approval(name)
		if had && a.State != workflow.Skipped && a.State != workflow.NotRequested && a.State != workflow.Cancelled {
			continue
		}
		if had && a.State == workflow.NotRequested && a.Phase == phase.Name {
			continue // its turn comes
		}
		stage, _ := d.model.Stage(name)
		reason := why
		if slices.Contains(phase.Stages, name) && !stage.Skip {
			reason = "always asked for"
		}
		d.record(StagePlanned{Phase: phase.Name, Stage: stage, Why: reason})
	}
	for _, a := range d.Approvals {
		// Asked for in an earlier round, and not any more.
		if a.Phase == phase.Name && !slices.Contains(asked, a.Stage.Name) && (a.State == workflow.NotRequested || a.State == workflow.Cancelled) {
			skipped = append(skipped, a.Stage.Name)
		}
	}
	for _, name := range skipped {
		if a, had := d.Approval(name); had && a.State != workflow.NotRequested && a.State != workflow.Cancelled {
			continue
		}
		stage, _ := d.model.Stage(name)
		d.record(StageSkipped{Phase: phase.Name, Stage: stage, Why: "no row of the decision table asks for it"})
	}
}

// newStages returns the stages that the tables of the phases already entered ask
// for now and did not before.
func (d *decision) newStages() ([]string, error) {
	var added []string
	for _, phase := range d.enteredPhases() {
		asked, _, _, err := phase.Applies(d.model.Model, d.holds)
		if err != nil {
			return nil, err
		}
		for _, name := range asked {
			if a, had := d.Approval(name); !had || a.State == workflow.Skipped {
				added = append(added, name)
			}
		}
	}
	return added, nil
}

// enteredPhases returns the authorising phases that the change has come through
// since it was last planned, in the order of the model.
func (d *decision) enteredPhases() []workflow.Phase {
	var phases []workflow.Phase
	for _, p := range d.model.Phases {
		if slices.Contains(authorizing, p.Kind) && slices.Contains(d.Path, p.Name) {
			phases = append(phases, p)
		}
	}
	return phases
}

// ask requests the stages of a phase whose turn it is: all of them where they run
// together, otherwise the first that is not approved.
func (d *decision) ask(phase workflow.Phase) {
	for _, listed := range slices.Clone(d.Approvals) {
		a, _ := d.Approval(listed.Stage.Name) // as it is after what was requested before it
		if a.Phase != phase.Name {
			continue
		}
		switch a.State {
		case workflow.Approved, workflow.Skipped:
			continue
		case workflow.NotRequested:
			d.request(phase, a)
		}
		if !phase.Together || !d.clear() || d.Unauthorized != nil {
			return
		}
	}
}

// request asks people for their approval. A stage that nobody can decide is not
// opened: the command is refused, or, where the model has no planning to return
// to, the stage is.
func (d *decision) request(phase workflow.Phase, a Approval) {
	stage := a.Stage
	seats, excluded := workflow.Seats(stage, stage.Candidates, d.resolved, d.barred("approver"))
	e := StageRequested{Phase: phase.Name, Stage: stage, Round: a.Round + 1, Seats: seats, Excluded: excluded, Scope: d.Scope, At: d.now}
	if tally := workflow.Count(stage.Rule, stage.Required, seats, nil); tally.State == workflow.Rejected {
		var left []string
		for _, x := range excluded {
			left = append(left, strings.TrimSpace(x.Person+" "+x.Seat)+": "+x.Why)
		}
		if !d.model.plans() {
			// What has happened already can be recorded, also where nobody is there to
			// approve it: it is left to the review.
			d.record(e)
			d.stageRefused(a, workflow.Rejected, "nobody can approve it: "+tally.Why)
			return
		}
		d.refuse("no-candidates", "stage %q cannot be approved by anybody: %s; left out: %s", "name candidates who may approve, or other implementers",
			stage.Name, tally.Why, list(left))
		return
	}
	if stage.Deadline > 0 {
		e.Deadline = d.now.Add(time.Duration(stage.Deadline))
	}
	d.record(e)
}

func (d *decision) approve(c Approve) {
	if c.Scope == "" {
		d.malformed("scope", "scope-required", "it does not say what is approved", "send the Scope of the change as you saw it")
	}
	d.text("comment", c.Comment, maxText, false)
	a, seats, ok := d.ballot(c.Stage)
	if ok && c.Scope != "" && c.Scope != d.Scope && d.on("scope-changed") {
		d.refuse("scope-changed", "the change is no longer what you saw", "look at what is different, and approve scope %s", d.Scope)
	}
	if d.clear() {
		d.vote(a, workflow.Vote{Seats: seats, Approve: true, Scope: c.Scope, Comment: c.Comment})
	}
}

func (d *decision) reject(c Reject) {
	d.text("reason", c.Reason, maxText, true)
	a, seats, _ := d.ballot(c.Stage)
	if d.clear() {
		d.vote(a, workflow.Vote{Seats: seats, Scope: d.Scope, Comment: c.Reason})
	}
}

// ballot returns the approval of a stage and the seats that the actor can vote in
// it, or refuses.
func (d *decision) ballot(stage string) (Approval, []string, bool) {
	d.stillOpen()
	d.notHeld()
	a, ok := d.openStage(stage)
	if !ok {
		return a, nil, false
	}
	if !a.Deadline.IsZero() && !d.now.Before(a.Deadline) && d.on("deadline-passed") {
		d.refuse("deadline-passed", "the deadline of stage %q was %s", "let it expire", stage, stamp(a.Deadline))
	}
	d.apart("approver", d.people()...)
	voter := d.actor.Principal()
	var mine, left []string
	for _, s := range a.Seats {
		if !slices.Contains(s.Voters, voter) {
			continue
		}
		mine = append(mine, s.Name)
		if !voted(a, s) {
			left = append(left, s.Name)
		}
	}
	switch {
	case len(mine) == 0 && d.on("not-a-candidate"):
		d.refuse("not-a-candidate", "%s has no seat in stage %q", "ask one of %s", voter, stage, voters(a))
	case len(mine) > 0 && len(left) == 0 && d.on("already-voted"):
		d.refuse("already-voted", "the seats of %s in stage %q have voted: %s", "each seat votes once", voter, stage, list(mine))
	}
	return a, left, true
}

// voted reports whether a seat has voted.
func voted(a Approval, seat workflow.Seat) bool {
	return slices.ContainsFunc(a.Votes, func(v workflow.Vote) bool { return slices.Contains(v.Seats, seat.Name) })
}

// openStage returns the approval of a stage that is being asked for, or refuses.
func (d *decision) openStage(stage string) (Approval, bool) {
	if _, ok := d.model.Stage(stage); !ok {
		d.malformed("stage", "unknown-stage", "the model has no stage %q", "choose one of %s", stage, d.stageNames())
		return Approval{}, false
	}
	a, _ := d.Approval(stage)
	if a.State != workflow.Requested {
		state := a.State
		if state == "" {
			state = workflow.NotRequested
		}
		d.refuse("stage-not-open", "stage %q is %s", "approve the stages that are requested", stage, state)
		return a, false
	}
	return a, true
}

// vote records a vote and what it decides.
func (d *decision) vote(a Approval, v workflow.Vote) {
	v.By, v.For, v.At = d.actor.ID, d.behalf(), d.now
	d.record(Voted{Stage: a.Stage.Name, Vote: v})
	a, _ = d.Approval(a.Stage.Name)
	switch tally := a.Tally(); tally.State {
	case workflow.Approved:
		d.record(StageDecided{Stage: a.Stage.Name, State: workflow.Approved, Why: tally.Why})
		d.approved(a)
	case workflow.Rejected:
		why := tally.Why
		if v.Comment != "" {
			why += ": " + v.Comment
		}
		d.stageRefused(a, workflow.Rejected, why)
	}
}

// approved goes on after a stage was approved.
func (d *decision) approved(a Approval) {
	if phase, ok := d.model.Phase(a.Phase); ok {
		d.ask(phase)
	}
	if d.Started != nil {
		d.authorize(d.Kind) // afterwards, where it started first
	}
	d.auto()
}

// stageRefused goes on after a stage was refused: back to planning, or, where it has
// happened already, marked as unauthorised (DOMAIN 1.1).
func (d *decision) stageRefused(a Approval, state workflow.State, why string) {
	d.record(StageDecided{Stage: a.Stage.Name, State: state, Why: why})
	d.cancelStages(fmt.Sprintf("stage %q is %s", a.Stage.Name, state))
	if d.Started != nil || !d.model.plans() {
		d.record(Unauthorized{Stage: a.Stage.Name, Why: why, At: d.now})
		d.auto()
		return
	}
	d.move(d.model.planned(), verbReject, why)
}

// cancelStages ends the stages that are not decided.
func (d *decision) cancelStages(why string) {
	for _, a := range slices.Clone(d.Approvals) {
		switch a.State {
		case workflow.NotRequested:
			if !slices.Contains(d.Path, a.Phase) {
				continue // of a round before the change was planned anew
			}
			fallthrough
		case workflow.Requested, workflow.OnHold:
			d.record(StageDecided{Stage: a.Stage.Name, State: workflow.Cancelled, Why: why})
		}
	}
}

func (d *decision) expire(c Expire) {
	d.stillOpen()
	d.notHeld()
	a, ok := d.openStage(c.Stage)
	if !ok || !d.clear() {
		return
	}
	if (a.Deadline.IsZero() || d.now.Before(a.Deadline)) && d.on("deadline-not-passed") {
		if a.Deadline.IsZero() {
			d.refuse("deadline-not-passed", "stage %q has no deadline", "wait for its approval, or revert the change", c.Stage)
		} else {
			d.refuse("deadline-not-passed", "the deadline of stage %q is %s", "wait until then", c.Stage, stamp(a.Deadline))
		}
		return
	}
	if len(a.Stage.Escalate) > 0 && !a.Escalated {
		seats, _ := workflow.Seats(a.Stage, a.Stage.Escalate, d.resolved, d.barred("approver"))
		seats = slices.DeleteFunc(seats, func(s workflow.Seat) bool {
			return slices.ContainsFunc(a.Seats, func(old workflow.Seat) bool { return old.Name == s.Name })
		})
		if len(seats) > 0 {
			d.record(StageEscalated{Stage: c.Stage, Seats: seats, Deadline: d.now.Add(time.Duration(a.Stage.Deadline))})
			return
		}
	}
	d.stageRefused(a, workflow.Expired, "the deadline of "+stamp(a.Deadline)+" passed")
}

// stillVotable refuses a command after which a stage that people were asked for
// could no longer be approved, because the command makes implementers of them.
func (d *decision) stillVotable() {
	barred := d.barred("approver")
	for _, a := range d.Approvals {
		if a.State != workflow.Requested && a.State != workflow.OnHold {
			continue
		}
		lost := 0 // seats that have not voted, and nobody could vote any more
		for _, seat := range a.Seats {
			if !voted(a, seat) && !slices.ContainsFunc(seat.Voters, func(p string) bool { return barred(p) == "" }) {
				lost++
			}
		}
		missing := ""
		for _, p := range a.Tally().Missing {
			if barred(p) != "" {
				missing = p
			}
		}
		if tally := a.Tally(); lost > 0 && tally.Accepted+tally.Waiting-lost < tally.Needed || missing != "" {
			d.refuse("approval-impossible", "stage %q could then no longer be approved, since an approver is not an implementer", "let somebody else do it, or wait for the approval", a.Stage.Name)
		}
	}
}

// apart refuses that people play a part beside one that the model keeps apart
// from it (DOMAIN 1.3, separation of duties).
func (d *decision) apart(part string, people ...string) {
	if !d.on("separation-of-duties") {
		return
	}
	barred := d.barred(part)
	for _, p := range people {
		if why := barred(p); why != "" {
			d.refuse("separation-of-duties", "%s", "ask somebody else", why)
		}
	}
}

// barred returns a function that says why a person must not play a part, or
// nothing.
func (d *decision) barred(part string) func(person string) string {
	if !d.on("separation-of-duties") {
		return func(string) string { return "" }
	}
	var against []string
	for _, duty := range d.model.Duties {
		switch part {
		case duty.Part:
			against = append(against, duty.Against)
		case duty.Against:
			against = append(against, duty.Part)
		}
	}
	plays := map[string][]string{}
	for _, other := range against {
		for _, p := range d.players(other) {
			plays[p] = append(plays[p], other)
		}
	}
	return func(person string) string {
		if others := plays[person]; len(others) > 0 {
			return fmt.Sprintf("%s is %s of this change and cannot be %s as well", person, strings.Join(others, " and "), part)
		}
		return ""
	}
}

// players returns who plays a part in the change so far.
func (d *decision) players(part string) []string {
	switch part {
	case "requester":
		return with(nil, d.Requester, d.RaisedBy)
	case "implementer":
		return with(d.Acted, d.Implementers...)
	case "approver":
		var people []string
		for _, a := range d.Approvals {
			for _, v := range a.Votes {
				if v.Approve && a.State != workflow.NotRequested {
					people = with(people, v.By, v.For)
				}
			}
		}
		return people
	case "reviewer":
		if d.Reviewed != nil {
			return with(nil, d.Reviewed.By, d.Reviewed.For)
		}
	}
	return nil
}

// voters returns who may vote in a stage, for people.
func voters(a Approval) string {
	var all []string
	for _, s := range a.Seats {
		all = with(all, s.Voters...)
	}
	return list(all)
}

func (d *decision) stageNames() string {
	var names []string
	for _, s := range d.model.Stages {
		names = append(names, s.Name)
	}
	return list(names)
}

// list writes names for people.
func list(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	if len(names) > 20 {
		return strings.Join(names[:20], ", ") + fmt.Sprintf(" and %d more", len(names)-20)
	}
	return strings.Join(names, ", ")
}

func numbers(rows []int) string {
	texts := make([]string, len(rows))
	for i, r := range rows {
		texts[i] = fmt.Sprint(r + 1)
	}
	return strings.Join(texts, ", ")
}
