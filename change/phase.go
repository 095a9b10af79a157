package change

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// What moved a change from one phase to another.
const (
	verbSubmit   = "submit"
	verbAdvance  = "advance"
	verbStart    = "start"
	verbComplete = "complete"
	verbClose    = "close"
	verbCancel   = "cancel"
	verbReject   = "reject"
	verbRevert   = "revert"
	verbRescope  = "rescope"
)

// verbOf says which command stands for a transition, by the kinds it joins.
func verbOf(from, to workflow.Kind) string {
	switch {
	case to == KindCanceled:
		return verbCancel
	case to == KindImplement && from != KindImplement:
		return verbStart
	case from == KindImplement && to != KindImplement:
		return verbComplete
	case to == KindClosed:
		return verbClose
	case from == KindPlan && to != KindPlan:
		return verbSubmit
	}
	return verbAdvance
}

// way returns the transition that a command takes: to a phase by name, or the
// first whose conditions hold. Where there is none it refuses: the phase is the
// wrong one, or what stands in the way of the first.
func (d *decision) way(verb, to string) (workflow.Transition, bool) {
	before := len(d.refused)
	d.stillOpen()
	d.notHeld()
	if len(d.refused) > before {
		return workflow.Transition{}, false
	}
	var ways []workflow.Transition
	for _, t := range d.model.From(d.Phase) {
		if verbOf(d.Kind, d.model.kind(t.To)) == verb && (to == "" || t.To == to) {
			ways = append(ways, t)
		}
	}
	if len(ways) == 0 {
		if verb == verbStart && (slices.Contains(planning, d.Kind) || slices.Contains(authorizing, d.Kind)) {
			d.refuse("authorized", "the change is in phase %q and not authorised", "%s", d.Phase, d.awaited())
		} else if to != "" {
			d.refuse("wrong-phase", "no transition leads from phase %q to %q by %s", "from here: %s", d.Phase, to, verb, d.ways())
		} else {
			d.refuse("wrong-phase", "the change is in phase %q, from where it cannot %s", "from here: %s", d.Phase, verb, d.ways())
		}
		return workflow.Transition{}, false
	}
	var first []command.Refusal
	for i, t := range ways {
		refused := d.conditions(t)
		if len(refused) == 0 {
			return t, true
		}
		if i == 0 {
			first = refused
		}
	}
	d.refused = append(d.refused, first...)
	return workflow.Transition{}, false
}

// awaited says for people what an authorisation waits for.
func (d *decision) awaited() string {
	var waits []string
	for _, a := range d.Approvals {
		if a.State == workflow.Requested {
			waits = append(waits, fmt.Sprintf("stage %q waits for %s", a.Stage.Name, voters(a)))
		}
	}
	if len(waits) == 0 {
		return "from here: " + d.ways()
	}
	return strings.Join(waits, ", ")
}

// ways says for people where a phase leads.
func (d *decision) ways() string {
	var ways []string
	for _, t := range d.model.From(d.Phase) {
		ways = append(ways, fmt.Sprintf("%s to %q", verbOf(d.Kind, d.model.kind(t.To)), t.To))
	}
	if d.cancellable() {
		ways = append(ways, verbCancel)
	}
	if len(ways) == 0 {
		return "nowhere"
	}
	return strings.Join(ways, ", ")
}

// conditions returns what stands in the way of a transition: what the model asks
// for, and what holds whatever it says.
func (d *decision) conditions(t workflow.Transition) []command.Refusal {
	before := d.refused
	d.refused = nil
	for _, name := range t.Requires {
		if f, ok := fieldNamed(name); ok && f.zero(&d.Content) && d.on("field-required") {
			d.refuse("field-required", "%q is not filled in, which the way to %q needs", "edit the change", name, t.To)
		}
	}
	entered, _ := d.model.Phase(t.To)
	for _, name := range slices.Concat(t.Guards, entered.Gates) {
		d.guard(name)
	}
	if t.When != "" {
		switch holds, err := d.holds(t.When); {
		case err != nil:
			d.unjudged("the condition %q of the way to %q", err, t.When, t.To)
		case !holds:
			d.refuse("condition", "the condition of the way to %q does not hold: %s", "make it hold, or go another way", t.To, t.When)
		}
	}
	to := d.model.kind(t.To)
	if !slices.Contains(backward, to) && !d.mayStartFirst(to) {
		d.stagesApproved()
	}
	switch {
	case to == KindImplement && d.Kind != KindImplement:
		d.mayStart()
	case to == KindClosed:
		d.mayClose()
	case to == KindCanceled && !d.cancellable():
		d.refuse("wrong-phase", "what was begun without authorisation is not made undone by canceling it", "complete it, and have it authorised or accepted")
	}
	refused := d.refused
	d.refused = before
	return refused
}

// backward are the kinds that a change may always be taken back to.
var backward = []workflow.Kind{KindPlan, KindCanceled}

// Guards of models, by name. Each refuses where it does not hold.
var guards = map[string]func(d *decision){
	"assessed": func(d *decision) {
		if d.Risk == nil && d.on("assessed") {
			d.refuse("assessed", "the risk has not been judged", "assess it, or give the engine a risk policy")
		}
	},
	"decided": func(d *decision) {
		if d.Unauthorized == nil {
			d.stagesApproved()
		}
	},
	"reviewed": func(d *decision) {
		if d.Reviewed == nil && d.on("reviewed") {
			d.refuse("reviewed", "nobody has reviewed how it went", "review it")
		}
	},
	"tasks-closed": func(d *decision) { d.tasksClosed() },
	"in-window": func(d *decision) {
		switch {
		case !d.on("in-window"):
		case d.Window == nil:
			d.refuse("in-window", "no window is planned", "plan one")
		case !d.Window.Holds(d.now):
			d.refuse("in-window", "it is %s, outside the window from %s to %s", "wait for it, or plan another", stamp(d.now), stamp(d.Window.Start), stamp(d.Window.End))
		}
	},
}

// Guards returns the names of the guards that a model's transitions may name.
func Guards() []string {
	var names []string
	for name := range guards {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (d *decision) guard(name string) {
	if g := guards[name]; g != nil {
		g(d)
		return
	}
	d.refuse("unknown-guard", "the model asks for guard %q, which this program does not know", "upgrade it", name)
}

// stagesApproved refuses to leave a phase forward while a stage of it is not approved.
func (d *decision) stagesApproved() {
	if !d.on("stages-approved") || d.Unauthorized != nil {
		return
	}
	for _, a := range d.Approvals {
		if a.Phase == d.Phase && a.State != workflow.Approved && a.State != workflow.Skipped {
			d.refuse("stages-approved", "stage %q is %s", "wait for its approval", a.Stage.Name, a.State)
		}
	}
}

func (d *decision) tasksClosed() {
	if !d.on("tasks-open") {
		return
	}
	for _, t := range d.Tasks {
		if !t.State.Ended() {
			d.refuse("tasks-open", "task %d (%s) is %s", "close or cancel it", t.ID, t.Title, t.State)
		}
	}
}

// mayStart refuses to carry out what is not authorised as it is.
func (d *decision) mayStart() {
	if d.mayStartFirst(KindImplement) || !d.on("authorized") {
		return
	}
	switch {
	case d.Authorized != nil && d.Authorized.Scope == d.Scope:
	case d.Authorized == nil && d.authority() != "":
		// The authorisation is given on the way.
	default:
		d.refuse("authorized", "no authorisation is in force for the change as it is", "have it approved")
	}
}

// mayStartFirst reports whether the model lets the change start before it is authorised.
func (d *decision) mayStartFirst(to workflow.Kind) bool {
	return to == KindImplement && d.Kind != KindImplement && d.model.Authority == workflow.AuthorityRetrospective && d.Authorized == nil
}

// mayClose refuses to close what is not done with.
func (d *decision) mayClose() {
	d.tasksClosed()
	d.nothingRuns()
	if d.model.Authority != workflow.AuthorityRetrospective {
		return
	}
	// DOMAIN 1.1: it cannot close without a retrospective authorisation and a
	// review; what was refused needs a back-out or a named acceptance.
	if d.Reviewed == nil && d.on("reviewed") {
		d.refuse("reviewed", "nobody has reviewed how it went", "review it")
	}
	accepted := d.Reviewed != nil && d.Reviewed.Accepted != "" || d.Work != nil && d.Work.BackedOut
	switch {
	case d.Authorized != nil && d.Authorized.Scope == d.Scope:
	case !d.on("retrospective"):
	case d.Unauthorized == nil:
		d.refuse("retrospective", "it started before it was authorised, and is not authorised yet", "have it approved")
	case !accepted:
		d.refuse("unauthorized", "it was carried out and then refused: %s", "back it out, or have a reviewer accept it by name", d.Unauthorized.Why)
	}
}

// authority returns what allows the change to be carried out as it is, empty if
// nothing does.
func (d *decision) authority() string {
	approved, skipped := []string{}, 0
	for _, a := range d.Approvals {
		switch a.State {
		case workflow.Approved:
			approved = append(approved, a.Stage.Name)
		case workflow.Skipped:
			skipped++
		default:
			return ""
		}
	}
	by := strings.Join(approved, ", ")
	if by != "" {
		by = "stages " + by
	}
	switch d.model.Authority {
	case workflow.AuthorityTemplate:
		if d.template == nil || !d.template.Approved() {
			return ""
		}
		template := fmt.Sprintf("template %s v%d", d.Template, d.TemplateVersion)
		if by != "" {
			return template + ", " + by
		}
		return template
	case workflow.AuthorityStages, workflow.AuthorityRetrospective:
		if by == "" && skipped > 0 {
			return "the decision table, which asks for no stage"
		}
		return by
	}
	return ""
}

// authorize records the authorisation where everything is in place for it.
func (d *decision) authorize(to workflow.Kind) {
	if d.Authorized != nil || d.Unauthorized != nil || !slices.Contains(carried, to) {
		return
	}
	if by := d.authority(); by != "" {
		if d.Started == nil && d.model.implements() && d.Window != nil {
			d.time(ToAuthorize)
		}
		d.record(Authorized{Scope: d.Scope, By: by, At: d.now, Retrospective: d.Started != nil || !d.model.implements()})
	}
}

// carried are the kinds into which a change comes once it may be carried out.
var carried = []workflow.Kind{KindScheduled, KindImplement, KindReview}

// move goes to another phase and opens what it asks for.
func (d *decision) move(to, verb, reason string) {
	kind := d.model.kind(to)
	if verb != verbCancel {
		d.authorize(kind)
	}
	d.record(Moved{
		From: d.Phase, To: to, Kind: string(kind), Verb: verb, By: d.actor.ID, At: d.now, Reason: reason,
		Ends: kind == KindClosed || kind == KindCanceled,
		Back: kind == KindPlan, Voids: verb == verbRescope,
	})
	if d.assessing {
		d.assessing = false
		d.judge()
	}
	phase, _ := d.model.Phase(to)
	if verb != verbRescope {
		for _, t := range phase.Tasks {
			if !slices.ContainsFunc(d.Tasks, func(old Task) bool {
				return old.Phase == to && old.Title == t.Title && old.Kind == t.Kind && !old.State.Ended()
			}) {
				d.newTask(Task{Title: t.Title, Kind: t.Kind, Group: t.Group})
			}
		}
	}
	if slices.Contains(authorizing, kind) && d.Unauthorized == nil { // what was refused is not asked about further
		d.plan(phase)
		d.ask(phase)
	}
}

// auto takes the automatic transitions whose conditions hold. A model has no
// loop of them, so it ends.
func (d *decision) auto() {
	if !d.clear() || !d.Open() || d.Held != nil {
		return
	}
	for range len(d.model.Phases) {
		moved := false
		for _, t := range d.model.From(d.Phase) {
			if !t.Automatic {
				continue
			}
			refused := d.conditions(t)
			if len(refused) == 0 {
				d.move(t.To, "automatic", "")
				moved = true
				break
			}
			// A way that may be open or not is not passed over in silence.
			if !slices.ContainsFunc(refused, func(r command.Refusal) bool { return r.Kind != command.Unavailable }) {
				d.refused = append(d.refused, refused...)
				return
			}
		}
		if !moved || !d.clear() {
			return
		}
	}
}
