package change_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// oracle judges a change by its events alone. It shares no code with what decides:
// it folds content, votes, parts and tasks by itself, and knows the model as data.
type oracle struct {
	model    change.Model
	estate   []string                // CIs that there are
	template *change.TemplateVersion // of a standard change

	version   uint64
	content   map[string]string // JSON by field
	scope     string
	scopes    map[string]string // material content by scope
	phase     string
	requester []string
	workers   []string // who has acted as an implementer
	reviewer  []string
	stages    map[string]*polled
	skipped   int
	tasks     map[int]change.Task
	held      bool
	started   *change.Started
	work      *change.Implemented
	reviewed  *change.Reviewed
	accepted  bool
	refused   bool // marked unauthorised
	ended     bool
	broken    []string
}

// polled is a stage in its present round.
type polled struct {
	e     change.StageRequested
	votes []cast
	state workflow.State
	extra []workflow.Seat
}

// cast is a vote with the content as it was.
type cast struct {
	workflow.Vote
	content map[string]string
}

func (o *oracle) wrong(invariant, format string, args ...any) {
	o.broken = append(o.broken, invariant+": "+fmt.Sprintf(format, args...))
}

// standardMaterial are the fields that are material by default (DOMAIN 1.3).
var standardMaterial = []string{"cis", "deltas", "outage", "plan.backout", "plan.communication", "plan.implementation", "plan.test", "window"}

// material returns the fields whose edit voids a stage; any stage for "".
func (o *oracle) material(stage string) []string {
	fields := slices.Clone(standardMaterial)
	for _, m := range o.model.Material {
		i := slices.Index(fields, m.Field)
		voids := !m.Immaterial && (stage == "" || len(m.Voids) == 0 || slices.Contains(m.Voids, stage))
		switch {
		case voids && i < 0:
			fields = append(fields, m.Field)
		case !voids && i >= 0:
			fields = slices.Delete(fields, i, i+1)
		}
	}
	slices.Sort(fields)
	return fields
}

func pickFields(content map[string]string, fields []string) string {
	var b strings.Builder
	for _, f := range fields {
		if content[f] != "" {
			fmt.Fprintf(&b, "%s=%s\n", f, content[f])
		}
	}
	return b.String()
}

// valid returns the votes of a stage that were cast on what is material to it now.
func (o *oracle) valid(a *polled) []cast {
	fields := o.material(a.e.Stage.Name)
	now := pickFields(o.content, fields)
	var valid []cast
	for _, v := range a.votes {
		if pickFields(v.content, fields) == now {
			valid = append(valid, v)
		}
	}
	return valid
}

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
	approved := 0
	for name, a := range o.stages {
		switch {
		case a.state == workflow.Skipped || a.state == workflow.NotRequested && a.e.Round == 0:
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
	if approved == 0 && o.skipped == 0 {
		return "nobody approved it"
	}
	return ""
}

func (o *oracle) kind(phase string) change.Kind {
	for _, p := range o.model.Phases {
		if p.Name == phase {
			return p.Kind
		}
	}
	return ""
}

func fieldsOf(c change.Content) map[string]string {
	all := map[string]string{}
	for _, d := range (change.Content{}).Diff(c) {
		all[d.Field] = d.After
	}
	return all
}

func everyOf(people ...string) []string {
	people = slices.DeleteFunc(people, func(p string) bool { return p == "" })
	slices.Sort(people)
	return slices.Compact(people)
}

// take folds one event and judges it.
func (o *oracle) take(r eventstore.Recorded, payload any) {
	o.version++
	if r.Version != o.version {
		o.wrong("order", "version %d comes after %d", r.Version, o.version-1)
	}
	if o.ended {
		switch payload.(type) {
		case change.Linked, change.Noted:
		default:
			o.wrong("ended", "%T after the end", payload)
		}
	}
	if o.held {
		switch e := payload.(type) {
		case change.Linked, change.Noted, change.Resumed:
		case change.StageDecided:
			if e.State != workflow.Cancelled {
				o.wrong("on hold", "%T on hold", payload)
			}
		case change.Moved:
			if o.kind(e.To) != change.KindCanceled {
				o.wrong("on hold", "moved to %q on hold", e.To)
			}
		default:
			o.wrong("on hold", "%T on hold", payload)
		}
	}
	switch e := payload.(type) {
	case change.Raised:
		o.content, o.scope, o.phase = fieldsOf(e.Content), e.Scope, e.Phase
		o.requester = everyOf(e.Requester, e.By)
		o.stages, o.tasks, o.scopes = map[string]*polled{}, map[int]change.Task{}, map[string]string{}
		o.known(e.Content)
	case change.Edited:
		o.edited(e)
	case change.Moved:
		o.moved(e)
	case change.StageRequested:
		o.stages[e.Stage.Name] = &polled{e: e, state: workflow.Requested}
	case change.StagePlanned:
		if a := o.stages[e.Stage.Name]; a == nil || a.state == workflow.Skipped {
			o.stages[e.Stage.Name] = &polled{e: change.StageRequested{Stage: e.Stage, Phase: e.Phase}, state: workflow.NotRequested}
		}
	case change.StageSkipped:
		o.stages[e.Stage.Name] = &polled{e: change.StageRequested{Stage: e.Stage, Phase: e.Phase}, state: workflow.Skipped}
		o.skipped++
		if !e.Stage.Skip && o.alwaysAsked(e.Phase, e.Stage.Name) {
			o.wrong("skipped", "stage %q is always asked for", e.Stage.Name)
		}
	case change.StageEscalated:
		o.stages[e.Stage].extra = append(o.stages[e.Stage].extra, e.Seats...)
	case change.Voted:
		o.voted(e)
	case change.StageDecided:
		a := o.stages[e.Stage]
		a.state = e.State
		if e.State == workflow.Approved && !o.approvedBy(a) {
			o.wrong("authorisation", "stage %q counts as approved and is not", e.Stage)
		}
	case change.Authorized:
		if why := o.authorised(); why != "" {
			o.wrong("authorisation", "recorded as authorised: %s", why)
		}
		if e.Scope != o.scope {
			o.wrong("authorisation", "for another scope")
		}
	case change.Unauthorized:
		o.refused = true
	case change.Started:
		o.workers = everyOf(append(o.workers, e.By, e.For)...)
		o.started = &e
		if e.First {
			if o.model.Authority != change.AuthorityRetrospective || e.AuthorizeBy.IsZero() {
				o.wrong("authorisation", "started first under authority %s", o.model.Authority)
			}
		} else if why := o.authorised(); why != "" {
			o.wrong("authorisation", "started: %s", why)
		}
	case change.Implemented:
		if o.started != nil {
			o.workers = everyOf(append(o.workers, e.By, e.For)...)
		}
		o.work = &e
	case change.Reviewed:
		o.reviewer, o.reviewed = everyOf(e.By, e.For), &e
		o.accepted = e.Accepted != ""
	case change.Held:
		o.held = true
	case change.Resumed:
		o.held = false
	case change.TaskAdded:
		o.tasks[e.ID] = e.Task
	case change.TaskChanged:
		before := o.tasks[e.ID]
		o.tasks[e.ID] = e.Task
		if e.Kind == workflow.TaskImplementation && before.State != e.State && (e.State == workflow.TaskInProgress || e.State == workflow.TaskClosed) {
			o.workers = everyOf(append(o.workers, e.By, e.For)...)
			if k := o.kind(o.phase); k != change.KindImplement && k != change.KindReview {
				o.wrong("not started", "task %d of the implementation is worked on in phase %q", e.ID, o.phase)
			}
		}
	}
	o.always()
}

func (o *oracle) alwaysAsked(phase, stage string) bool {
	for _, p := range o.model.Phases {
		if p.Name == phase {
			return slices.Contains(p.Stages, stage)
		}
	}
	return false
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
	for _, stage := range e.Voids {
		if a := o.stages[stage]; a != nil {
			a.state = workflow.NotRequested
		}
	}
}

func (o *oracle) moved(e change.Moved) {
	from, to := o.kind(o.phase), o.kind(e.To)
	if e.From != o.phase || string(to) != e.Kind {
		o.wrong("moved", "from %q to %q of kind %q", e.From, e.To, e.Kind)
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
		o.skipped = 0
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
		i := slices.IndexFunc(slices.Concat(a.e.Seats, a.extra), func(s workflow.Seat) bool { return s.Name == seat })
		if i < 0 || !slices.Contains(slices.Concat(a.e.Seats, a.extra)[i].Voters, voter) {
			o.wrong("candidate", "%s votes seat %q of stage %q, which is not his", voter, seat, e.Stage)
		}
		for _, v := range a.votes {
			if slices.Contains(v.Seats, seat) {
				o.wrong("votes once", "seat %q votes twice in stage %q", seat, e.Stage)
			}
		}
	}
	if len(e.Vote.Seats) == 0 {
		for _, v := range a.votes {
			if v.By == e.Vote.By {
				o.wrong("votes once", "%s votes again in stage %q", voter, e.Stage)
			}
		}
		o.wrong("candidate", "%s votes no seat of stage %q", voter, e.Stage)
	}
	if e.Vote.Approve && e.Vote.Scope != o.scope {
		o.wrong("scope", "%s approves %.14s, and it is %.14s", voter, e.Vote.Scope, o.scope)
	}
	if !a.e.Deadline.IsZero() && a.extra == nil && !e.Vote.At.Before(a.e.Deadline.Add(time.Hour*24*365)) {
		o.wrong("deadline", "a vote a year after the deadline")
	}
	a.votes = append(a.votes, cast{e.Vote, o.content})
}

// always is what holds after every event.
func (o *oracle) always() {
	material := pickFields(o.content, o.material(""))
	if known, ok := o.scopes[o.scope]; ok && known != material {
		o.wrong("scope", "one digest for two contents")
	}
	o.scopes[o.scope] = material

	players := map[string][]string{"requester": o.requester, "implementer": slices.Clone(o.workers), "reviewer": o.reviewer}
	for _, p := range strings.Split(strings.Trim(o.content["implementers"], `[]`), ",") {
		if p = strings.Trim(p, `"`); p != "" {
			players["implementer"] = append(players["implementer"], p)
		}
	}
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

// settled is what holds after every command.
func (o *oracle) settled() {
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
	}
}

func (o *oracle) window() (w change.Window, ok bool) {
	text := o.content["window"]
	if text == "" {
		return w, false
	}
	parts := strings.Split(text, `"`)
	start, err1 := time.Parse(time.RFC3339Nano, parts[3])
	end, err2 := time.Parse(time.RFC3339Nano, parts[7])
	if err1 != nil || err2 != nil {
		o.wrong("interval", "the window is %s", text)
		return w, false
	}
	return change.Window{Start: start, End: end}, true
}
