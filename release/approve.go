package release

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/internal/workflow"
)

// ask asks people for the approval of a gate.
func (d *decision) ask(c Ask) {
	d.stillOpen()
	_, g, ok := d.approvalGate(c.Environment, c.Gate)
	if !ok || !d.clear() {
		return
	}
	if a, had := d.Approval(c.Environment, c.Gate); had && d.asked(a) {
		return // it is asked for, or given, already
	}
	d.request(c.Environment, g)
}

// asked reports whether people are being asked for what the release is now, in
// time, or have approved that.
func (d *decision) asked(a Approval) bool {
	switch {
	case a.Scope != d.Scope:
		return false
	case a.State == workflow.Requested:
		return a.Deadline.IsZero() || d.now.Before(a.Deadline)
	}
	return a.State == workflow.Approved
}

func (d *decision) approvalGate(environment, gate string) (Environment, Gate, bool) {
	e, g, ok := d.gate(environment, gate)
	if ok && (g.Kind != GateApproval || g.Stage == nil) {
		d.malformed("gate", "no-approval", "gate %q is not approved by people", "name a gate of kind %s", gate, GateApproval)
		return e, g, false
	}
	return e, g, ok
}

// request opens the stage of a gate. One that nobody can decide is not opened.
func (d *decision) request(environment string, g Gate) {
	seats, excluded := workflow.Seats(*g.Stage, g.Stage.Candidates, d.resolved, d.barred("approver"))
	round := 1
	if a, had := d.Approval(environment, g.Name); had {
		round = a.Round + 1
	}
	e := ApprovalAsked{Environment: environment, Gate: g.Name, Stage: *g.Stage, Round: round, Seats: seats, Excluded: excluded, Scope: d.Scope, At: d.now}
	if tally := workflow.Count(g.Stage.Rule, g.Stage.Required, seats, nil); tally.State == workflow.Rejected {
		var left []string
		for _, x := range excluded {
			left = append(left, strings.TrimSpace(x.Person+" "+x.Seat)+": "+x.Why)
		}
		d.refuse("no-candidates", "gate %q cannot be approved by anybody: %s; left out: %s", "name candidates who may approve", g.Name, tally.Why, list(left))
		return
	}
	if g.Stage.Deadline > 0 {
		e.Deadline = d.now.Add(time.Duration(g.Stage.Deadline))
	}
	d.record(e)
}

func (d *decision) approve(c Approve) {
	if c.Scope == "" {
		d.malformed("scope", "scope-required", "it does not say what is approved", "send the Scope of the release as you saw it")
	}
	d.text("comment", c.Comment, maxText, false)
	if c.Scope != "" && c.Scope != d.Scope && d.on("scope-changed") {
		d.refuse("scope-changed", "the release is no longer what you saw", "look at what is different, and approve scope %s", d.Scope)
	}
	seats := d.ballot(c.Environment, c.Gate)
	if d.clear() {
		d.vote(c.Environment, c.Gate, workflow.Vote{Seats: seats, Approve: true, Scope: c.Scope, Comment: c.Comment})
	}
}

func (d *decision) reject(c Reject) {
	d.text("reason", c.Reason, maxText, true)
	seats := d.ballot(c.Environment, c.Gate)
	if d.clear() {
		d.vote(c.Environment, c.Gate, workflow.Vote{Seats: seats, Scope: d.Scope, Comment: c.Reason})
	}
}

// ballot returns the seats that the actor can vote, or refuses. It opens the stage
// where nobody was asked, or was about something else.
func (d *decision) ballot(environment, gate string) []string {
	d.stillOpen()
	_, g, ok := d.approvalGate(environment, gate)
	if !ok || !d.clear() {
		return nil
	}
	a, had := d.Approval(environment, gate)
	switch {
	case had && a.State == workflow.Approved && a.Scope == d.Scope:
		d.refuse("stage-not-open", "gate %q is approved", "nothing is to be done", gate)
		return nil
	case had && a.State == workflow.Rejected && a.Scope == d.Scope:
		d.refuse("stage-not-open", "gate %q is rejected: %s", "edit the release, or ask again", gate, a.Why)
		return nil
	case !had || !d.asked(a):
		if d.request(environment, g); !d.clear() {
			return nil
		}
		a, _ = d.Approval(environment, gate)
	}
	d.apart("approver", d.people()...)
	voter := d.actor.Principal()
	var mine, left []string
	for _, s := range a.Seats {
		if !slices.Contains(s.Voters, voter) {
			continue
		}
		mine = append(mine, s.Name)
		if !slices.ContainsFunc(a.Votes, func(v workflow.Vote) bool { return slices.Contains(v.Seats, s.Name) }) {
			left = append(left, s.Name)
		}
	}
	switch {
	case len(mine) == 0 && d.clear() && d.on("not-a-candidate"):
		d.refuse("not-a-candidate", "%s has no seat in the stage of gate %q", "ask one of %s", voter, gate, voters(a))
	case len(mine) > 0 && len(left) == 0 && d.on("already-voted"):
		d.refuse("already-voted", "the seats of %s for gate %q have voted: %s", "each seat votes once", voter, gate, list(mine))
	}
	return left
}

// vote records a vote and what it decides.
func (d *decision) vote(environment, gate string, v workflow.Vote) {
	v.By, v.For, v.At = d.actor.ID, d.behalf(), d.now
	d.record(Voted{Environment: environment, Gate: gate, Vote: v})
	a, _ := d.Approval(environment, gate)
	tally := a.Tally()
	if tally.State == workflow.Requested {
		return
	}
	why := tally.Why
	if tally.State == workflow.Rejected && v.Comment != "" {
		why += ": " + v.Comment
	}
	d.record(ApprovalDecided{Environment: environment, Gate: gate, State: tally.State, Why: why})
}

// answer returns what an approval says for its gate. One of what the release was
// before says nothing.
func (a Approval) answer(scope string) GateAnswer {
	switch {
	case a.Scope != scope:
		return GateAnswer{State: GateNotRun, Why: "what was approved is not what the release is now"}
	case a.State == workflow.Approved, a.State == workflow.Rejected:
		g := GateAnswer{State: GatePassed, Why: a.Why}
		if a.State == workflow.Rejected {
			g.State = GateFailed
		}
		if len(a.Votes) > 0 {
			g.By, g.At = a.Votes[len(a.Votes)-1].By, a.Votes[len(a.Votes)-1].At
		}
		return g
	case a.State == workflow.Requested:
		return GateAnswer{State: GateNotRun, Why: "it waits for " + voters(a)}
	}
	return GateAnswer{State: GateNotRun, Why: fmt.Sprintf("it is %s: %s", a.State, a.Why)}
}

// voters returns who may vote, for people.
func voters(a Approval) string {
	var all []string
	for _, s := range a.Seats {
		all = with(all, s.Voters...)
	}
	return list(all)
}

// apart refuses that people play a part beside one that the process keeps apart
// from it (DOMAIN 1.3, separation of duties).
func (d *decision) apart(part string, people ...string) {
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
	plays := map[string][]string{}
	for _, duty := range d.Process.Duties {
		other := ""
		switch part {
		case duty.Part:
			other = duty.Against
		case duty.Against:
			other = duty.Part
		default:
			continue
		}
		for _, p := range d.players(other) {
			plays[p] = with(plays[p], other)
		}
	}
	return func(person string) string {
		if others := plays[person]; len(others) > 0 {
			return fmt.Sprintf("%s is %s of this release and cannot be %s as well", person, strings.Join(others, " and "), part)
		}
		return ""
	}
}

// players returns who plays a part in the release so far.
func (d *decision) players(part string) []string {
	switch part {
	case "planner":
		return with(nil, d.Planner, d.PlannedBy)
	case "deployer":
		return d.Acted
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
	}
	return nil
}
