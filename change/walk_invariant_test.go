package change_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// approvedBy reports whether valid votes approve a stage, counted anew (DOMAIN 1.3).
func (o *oracle) approvedBy(a *polled) bool {
	yes, no, people := map[string]bool{}, map[string]bool{}, map[string]bool{}
	required := map[string]bool{}
	for _, v := range o.valid(a) {
		for _, seat := range v.Seats {
			if yes[seat] || no[seat] {
				continue
			}
			if v.Approve {
				yes[seat] = true
				people[v.By] = true
			} else {
				no[seat] = true
			}
		}
		if v.Approve {
			required[v.By], required[v.For] = true, true
		}
	}
	for _, p := range a.e.Stage.Required {
		if !required[p] {
			return false
		}
	}
	seats, n := len(a.e.Seats)+len(a.extra), a.e.Stage.Rule.N
	switch a.e.Stage.Rule.Counting {
	case workflow.First:
		return len(yes) > 0
	case workflow.All:
		return len(yes) == seats && len(no) == 0
	case workflow.Percent:
		if n <= 0 {
			return len(yes) > 0
		}
		if n >= 100 {
			return len(yes) == seats
		}
		return len(yes) >= max(1, (2*seats*n+100)/200)
	case workflow.AtLeast:
		return len(people) >= n
	}
	return false
}

// authorised says why the change is not authorised as it is, or nothing.
func (o *oracle) authorised() string {
	approved, skipped := 0, 0
	for name, a := range o.stages {
		switch {
		case a.state == workflow.Skipped:
			skipped++
		case !o.approvedBy(a):
			return fmt.Sprintf("stage %q is %s and not approved for what the change is", name, a.state)
		default:
			approved++
		}
	}
	if o.model.Authority == change.AuthorityTemplate {
		switch {
		case o.template == nil || len(o.template.ApprovedBy) == 0:
			return "its template is not approved"
		case slices.ContainsFunc(o.template.ApprovedBy, func(p string) bool { return slices.Contains(o.template.ProposedBy, p) }):
			return "its template was approved by who proposed it"
		}
		return ""
	}
	if approved == 0 && skipped == 0 {
		return "nobody approved it"
	}
	return ""
}

// signed judges that an event says itself who did it, and for whom, as its metadata
// does: parts are told apart by it.
func (o *oracle) signed(r eventstore.Recorded, payload any) {
	meta, err := eventstore.DecodeMetadata(r.Meta)
	if err != nil {
		o.wrong("signed", "%v", err)
	}
	by, behalf := meta.Actor, meta.OnBehalfOf
	switch e := payload.(type) {
	case change.Raised:
		by = e.By
	case change.Edited:
		by = e.By
	case change.Moved:
		by = e.By
	case change.Voted:
		by, behalf = e.Vote.By, e.Vote.For
	case change.Started:
		by, behalf = e.By, e.For
	case change.Implemented:
		by, behalf = e.By, e.For
	case change.Reviewed:
		by, behalf = e.By, e.For
	case change.TaskChanged:
		by, behalf = e.By, e.For
	}
	if by != meta.Actor || behalf != meta.OnBehalfOf && meta.OnBehalfOf != meta.Actor {
		o.wrong("signed", "%T by %q for %q, and it was %q for %q", payload, by, behalf, meta.Actor, meta.OnBehalfOf)
	}
}

// known judges the CIs that a content declares.
func (o *oracle) known(c change.Content) {
	if o.model.Authority == change.AuthorityElsewhere || !slices.ContainsFunc(o.model.Phases, func(p change.Phase) bool { return p.Kind == change.KindPlan }) {
		return
	}
	for _, ci := range c.Declared() {
		added := slices.ContainsFunc(c.Deltas, func(d cmdb.Delta) bool { return d.Op == cmdb.OpAdd && d.CI == ci })
		if !added && !slices.Contains(o.estate, ci) {
			o.wrong("unknown CI", "%q is declared", ci)
		}
	}
}

func (o *oracle) edited(e change.Edited) {
	before := o.content
	o.content = map[string]string{}
	for f, text := range before {
		if !slices.Contains(e.Clear, f) {
			o.content[f] = text
		}
	}
	for f, text := range fieldsOf(e.Set) {
		o.content[f] = text
	}
	o.scope = e.Scope
	o.known(e.Set)
	for _, p := range o.model.Phases {
		if p.Name != o.phase {
			continue
		}
		for _, f := range change.Fields() {
			if before[f] != o.content[f] && !slices.Contains(p.Edits, "*") && !slices.Contains(p.Edits, f) {
				o.wrong("not editable", "%q was edited in phase %q", f, o.phase)
			}
		}
	}
	for name, a := range o.stages {
		fields := o.material(name)
		alters := pickFields(before, fields) != pickFields(o.content, fields)
		if open := a.state == workflow.Requested || a.state == workflow.Approved; open && alters != slices.Contains(e.Voids, name) {
			o.wrong("voiding", "stage %q is %s, voided: %t, by an edit of %v", name, a.state, !alters, e.Fields)
		}
		if slices.Contains(e.Voids, name) {
			a.state = workflow.NotRequested
		}
	}
}

func (o *oracle) voted(e change.Voted) {
	a := o.stages[e.Stage]
	if a == nil || a.state != workflow.Requested {
		o.wrong("vote", "in stage %q, which is not asked for", e.Stage)
		return
	}
	voter := e.Vote.For
	if voter == "" {
		voter = e.Vote.By
	}
	for _, seat := range e.Vote.Seats {
		i := slices.IndexFunc(a.seats(), func(s workflow.Seat) bool { return s.Name == seat })
		if i < 0 || !slices.Contains(a.seats()[i].Voters, voter) {
			o.wrong("candidate", "%s votes seat %q of stage %q, which is not his", voter, seat, e.Stage)
		}
		for _, v := range a.votes {
			if slices.Contains(v.Seats, seat) {
				o.wrong("votes once", "seat %q votes twice in stage %q", seat, e.Stage)
			}
		}
	}
	if len(e.Vote.Seats) == 0 {
		if slices.ContainsFunc(a.seats(), func(s workflow.Seat) bool { return slices.Contains(s.Voters, voter) }) {
			o.wrong("votes once", "%s votes again in stage %q", voter, e.Stage)
		} else {
			o.wrong("candidate", "%s votes no seat of stage %q", voter, e.Stage)
		}
	}
	if e.Vote.Approve && e.Vote.Scope != o.scope {
		o.wrong("scope", "%s approves %.14s, and it is %.14s", voter, e.Vote.Scope, o.scope)
	}
	if !e.Vote.At.Equal(o.now) || !a.deadline.IsZero() && !o.now.Before(a.deadline) {
		o.wrong("deadline", "a vote of %s in stage %q, whose deadline is %s, at %s", e.Vote.At, e.Stage, a.deadline, o.now)
	}
	a.votes = append(a.votes, cast{e.Vote, o.content})
}

func (o *oracle) alwaysAsked(phase, stage string) bool {
	for _, p := range o.model.Phases {
		if p.Name == phase {
			return slices.Contains(p.Stages, stage)
		}
	}
	return false
}

func (o *oracle) moved(e change.Moved) {
	from, to := o.kind(o.phase), o.kind(e.To)
	if e.From != o.phase || string(to) != e.Kind {
		o.wrong("moved", "from %q to %q of kind %q", e.From, e.To, e.Kind)
	}
	o.lawful(e)
	if to == change.KindImplement && o.started == nil {
		o.wrong("authorisation", "phase %q is entered and nobody has started", e.To)
	}
	if from == change.KindImplement && to != from && to != change.KindCanceled && o.work == nil {
		o.wrong("work", "phase %q is left and nobody has said what was applied", e.From)
	}
	forward := to != change.KindPlan && to != change.KindCanceled
	authorizing := from == change.KindAssess || from == change.KindAuthorize
	first := o.started != nil && o.started.First
	if forward && authorizing && !first && !o.refused && e.Verb != "rescope" {
		for name, a := range o.stages {
			if a.e.Phase == o.phase && a.state != workflow.Skipped && !o.approvedBy(a) {
				o.wrong("stages approved", "phase %q is left while stage %q is %s", o.phase, name, a.state)
			}
		}
	}
	if to == change.KindPlan {
		for _, a := range o.stages {
			a.votes, a.state = nil, workflow.NotRequested
		}
	}
	o.phase = e.To
	switch to {
	case change.KindClosed:
		o.ended = true
		o.closed(e)
	case change.KindCanceled:
		o.ended = true
		if o.started != nil && o.authorised() != "" {
			o.wrong("retrospective", "cancelled after it was started without authorisation")
		}
	}
}

// lawful judges that a move goes a way that there is, with what the way asks for.
func (o *oracle) lawful(e change.Moved) {
	to := o.kind(e.To)
	switch e.Verb {
	case "cancel":
		if to != change.KindCanceled {
			o.wrong("ways", "cancelled to %q", e.To)
		}
		return
	case "reject", "revert":
		if to != change.KindPlan {
			o.wrong("ways", "%s to %q", e.Verb, e.To)
		}
		return
	case "rescope":
		if to != change.KindAssess && to != change.KindAuthorize {
			o.wrong("ways", "asked for approval again in phase %q", e.To)
		}
		return
	}
	lacks := "there is no such way"
	var gates []string
	for _, p := range o.model.Phases {
		if p.Name == e.To {
			gates = p.Gates
		}
	}
	for _, t := range o.model.Transitions {
		if t.From == e.From && t.To == e.To && (t.Automatic || e.Verb != "automatic") {
			if lacks = o.lacks(t.Requires, slices.Concat(t.Guards, gates)); lacks == "" {
				return
			}
		}
	}
	o.wrong("ways", "%s from %q to %q: %s", e.Verb, e.From, e.To, lacks)
}

// lacks says what is missing of what a way asks for, or nothing.
func (o *oracle) lacks(fields, guards []string) string {
	for _, f := range fields {
		if o.content[f] == "" {
			return f + " is not filled in"
		}
	}
	for _, g := range guards {
		window, planned := o.window()
		switch {
		case g == "assessed" && !o.judged, g == "reviewed" && o.reviewed == nil, g == "in-window" && !(planned && window.Holds(o.now)):
			return "it is not " + g
		case g == "tasks-closed":
			for _, t := range o.tasks {
				if t.State != workflow.TaskClosed && t.State != workflow.TaskCancelled {
					return fmt.Sprintf("task %d is %s", t.ID, t.State)
				}
			}
		}
	}
	return ""
}

func (o *oracle) closed(e change.Moved) {
	for id, t := range o.tasks {
		if t.State != workflow.TaskClosed && t.State != workflow.TaskCancelled {
			o.wrong("tasks open", "closed while task %d is %s", id, t.State)
		}
	}
	for _, t := range o.model.Transitions {
		if t.From == e.From && t.To == e.To && slices.Contains(t.Guards, "reviewed") && o.reviewed == nil {
			o.wrong("reviewed", "closed without the review that the way asks for")
		}
	}
	if o.model.Authority != change.AuthorityRetrospective {
		return
	}
	if o.reviewed == nil {
		o.wrong("reviewed", "an emergency closed without a review")
	}
	if o.authorised() != "" && !(o.refused && (o.accepted || o.work != nil && o.work.BackedOut)) {
		o.wrong("retrospective", "closed: %s", o.authorised())
	}
}

// always is what holds after every event.
func (o *oracle) always() {
	material := pickFields(o.content, o.material(""))
	if known, ok := o.scopes[o.scope]; ok && known != material {
		o.wrong("scope", "one digest for two contents")
	}
	if known, ok := o.digests[material]; ok && known != o.scope {
		o.wrong("scope", "two digests for one content")
	}
	o.scopes[o.scope], o.digests[material] = material, o.scope

	players := map[string][]string{"requester": o.requester, "implementer": slices.Clone(o.workers), "reviewer": o.reviewer}
	var named []string
	if text := o.content["implementers"]; text != "" && json.Unmarshal([]byte(text), &named) != nil {
		o.wrong("fold", "implementers are %s", text)
	}
	players["implementer"] = append(players["implementer"], named...)
	for _, a := range o.stages {
		for _, v := range a.votes {
			if v.Approve && a.state != workflow.NotRequested {
				players["approver"] = everyOf(append(players["approver"], v.By, v.For)...)
			}
		}
	}
	for _, d := range o.model.Duties {
		for _, p := range players[d.Part] {
			if slices.Contains(players[d.Against], p) {
				o.wrong("separation of duties", "%s is %s and %s", p, d.Part, d.Against)
			}
		}
	}
}

// settled is what holds after every command, and what the engine says the change is.
func (o *oracle) settled(c change.Change) {
	if c.Open() == o.ended || c.Phase != o.phase || c.Scope != o.scope || !maps.Equal(fieldsOf(c.Content), o.content) {
		o.wrong("fold", "phase %q, scope %.14s and %v, by the events %q, %.14s and %v", c.Phase, c.Scope, fieldsOf(c.Content), o.phase, o.scope, o.content)
	}
	for _, a := range c.Approvals {
		state := o.stages[a.Stage.Name].state
		if o.held != nil && state == workflow.Requested {
			state = workflow.OnHold
		}
		if a.State != state || len(c.Approvals) != len(o.stages) {
			o.wrong("fold", "stage %q is %s, by the events %s", a.Stage.Name, a.State, state)
		}
	}
	if c.Authorized != nil && !o.ended {
		if why := o.authorised(); why != "" || c.Authorized.Scope != o.scope {
			o.wrong("authorisation", "in force for %.14s in phase %q: %s", c.Authorized.Scope, o.phase, why)
		}
	}
	window, ok := o.window()
	if ok && !window.Start.Before(window.End) {
		o.wrong("interval", "the window ends before it starts")
	}
	for id, t := range o.tasks {
		if ok && !o.ended && t.Kind == workflow.TaskImplementation && t.State != workflow.TaskClosed && t.State != workflow.TaskCancelled {
			for _, at := range []time.Time{t.Start, t.End} {
				if !at.IsZero() && (at.Before(window.Start) || at.After(window.End)) {
					o.wrong("task outside window", "task %d", id)
				}
			}
		}
	}
	if k := o.kind(o.phase); (k == change.KindAssess || k == change.KindAuthorize) && !o.judged {
		o.wrong("risk", "nobody judged it before phase %q asks for approval", o.phase)
	}
	if o.started != nil && !o.started.First && !o.ended {
		if why := o.authorised(); why != "" {
			o.wrong("authorisation", "in phase %q, started: %s", o.phase, why)
		}
	}
	if o.template != nil {
		plans := o.template.Text.Plans
		for f, want := range map[string]string{"plan.implementation": plans.Implementation, "plan.backout": plans.Backout, "plan.test": plans.Test, "plan.communication": plans.Communication} {
			if strings.Trim(o.content[f], `"`) != want {
				o.wrong("outside template", "%s is %s", f, o.content[f])
			}
		}
		if d := o.content["deltas"]; d != "" && strings.Contains(d, `"attribute":"owner"`) {
			o.wrong("outside template", "deltas are %s", d)
		}
		if longest := time.Duration(o.template.Text.Longest); ok && window.End.Sub(window.Start) > longest {
			o.wrong("outside template", "the window is longer than %s", longest)
		}
		if strings.Contains(o.content["cis"], `"shop"`) { // a service, for which the template is not
			o.wrong("outside template", "CIs are %s", o.content["cis"])
		}
	}
}
