package change

import (
	"slices"
	"strings"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// raise decides the first events of a change.
func (d *decision) raise(c Raise) {
	content := d.template.fill(c.Content.normal())
	requester := c.Requester
	if requester == "" {
		requester = d.actor.Principal()
	}
	d.id("requester", requester)
	d.text("external", c.External, maxID, c.Unique)
	d.content(content)
	if d.model == nil {
		d.malformed("model", "unknown-model", "there is no model %q", "publish it, or choose another", c.Model)
		return
	}
	standard := d.model.Authority == workflow.AuthorityTemplate
	switch {
	case standard && c.Template == "":
		d.malformed("template", "template-required", "model %q is authorised by a template, and none is named", "name a published template", d.model.Name)
	case !standard && c.Template != "":
		d.malformed("template", "template-not-used", "model %q is not authorised by a template", "leave it out, or use a standard model", d.model.Name)
	case standard && d.template == nil:
		d.malformed("template", "unknown-template", "there is no template %q", "propose it, or choose another", c.Template)
	case standard:
		d.usable(d.template)
		d.fits(content)
	}
	if d.external {
		d.refuse("external-taken", "another change has the reference %q", "use that one, or another reference", c.External)
	}
	elsewhere := d.model.Authority == workflow.AuthorityElsewhere
	if c.Happened != nil {
		if !elsewhere {
			d.malformed("happened", "not-a-receipt", "model %q gates changes and does not record what happened", "use a model such as registered", d.model.Name)
		} else if c.Happened.Start.IsZero() || c.Happened.End.Before(c.Happened.Start) {
			d.malformed("happened", "interval-invalid", "it has no start, or ends before it", "give both")
		} else if d.recordable("happened", c.Happened.Start, c.Happened.End); c.Happened.End.After(d.now) {
			d.malformed("happened", "in-the-future", "it ended at %s, and it is %s", "record it when it has happened", stamp(c.Happened.End), stamp(d.now))
		}
	}
	d.checkCIs(content, elsewhere || !d.model.plans())
	if !d.clear() {
		return
	}
	first := d.model.Phases[0]
	event := Raised{
		Change: d.newID, Model: d.model.Name, ModelVersion: d.model.version, External: c.External, Requester: requester,
		By: d.actor.ID, At: d.now, Content: content, Phase: first.Name, Kind: string(first.Kind), Scope: d.model.scope(content),
	}
	if standard {
		event.Template, event.TemplateVersion = d.template.Name, d.template.Version
	}
	d.record(event)
	if !elsewhere && content.Window != nil {
		d.time(Planned)
	}
	d.apart("implementer", content.Implementers...)
	for _, t := range slices.Concat(d.template.tasks(), first.Tasks) {
		d.newTask(Task{Title: t.Title, Kind: t.Kind, Group: t.Group})
	}
	if elsewhere {
		happened := c.Happened
		if happened == nil {
			happened = Between(d.now, d.now)
		}
		d.record(Implemented{
			Change: d.ID, By: d.actor.ID, For: d.behalf(), Start: happened.Start.UTC(), End: happened.End.UTC(), Applied: content.Deltas,
		})
	}
	if slices.Contains(authorizing, first.Kind) {
		d.judge()
		d.plan(first)
		d.ask(first)
	}
	d.auto()
}

// checkCIs refuses CIs that there are not, and deltas that nobody can mean. Whether
// a delta's precondition holds is asked when the change is submitted, started and
// completed: until then something else may make it hold. What has happened
// already is not asked for preconditions at all.
func (d *decision) checkCIs(c Content, happened bool) {
	if d.graph == nil {
		return
	}
	if !happened && d.on("unknown-ci") {
		for _, ci := range d.graph.unknown {
			d.malformed("cis", "unknown-ci", "the CMDB has no CI %q", "record it first, or correct the ID", ci)
		}
		for _, ci := range d.graph.retired {
			d.refuse("ci-retired", "CI %q is retired", "name the CI that took its place", ci)
		}
	}
	d.problems(d.graph.problems, func(p cmdb.Problem) bool { return structural[p.Rule] })
}

// structural are the rules of the CMDB by which a delta cannot be meant, whatever
// the graph.
var structural = map[string]bool{
	"delta-malformed": true, "unknown-class": true, "abstract-class": true, "unknown-attribute": true, "attribute-type": true,
	"attribute-enum": true, "attribute-required": true, "unknown-relation": true, "self-relation": true, "too-many-deltas": true,
}

// preconditions refuses deltas that do not fit the graph as it is (DOMAIN 4.1).
func (d *decision) preconditions(problems []cmdb.Problem) {
	if d.on("precondition-failed") {
		d.problems(problems, func(cmdb.Problem) bool { return true })
	}
}

// problems refuses what the CMDB says of deltas.
func (d *decision) problems(problems []cmdb.Problem, counts func(cmdb.Problem) bool) {
	for _, p := range problems {
		if !counts(p) {
			continue
		}
		r := p.Refusal()
		if structural[p.Rule] {
			r.Kind = command.Malformed
		}
		d.refused = append(d.refused, r)
	}
}

// judge records impact and risk as they were gathered.
func (d *decision) judge() {
	if d.graph != nil && d.graph.impact != nil || d.risk != nil {
		e := Assessed{Receipt: d.risk}
		if d.graph != nil {
			e.Impact = d.graph.impact
		}
		d.record(e)
	}
}

// edit decides an edit, and what it voids (DOMAIN 1.3).
func (d *decision) edit(c Edit) {
	d.text("reason", c.Reason, maxText, false)
	for _, name := range c.Clear {
		if _, ok := fieldNamed(name); !ok {
			d.malformed("clear", "unknown-field", "a change has no field %q", "choose from %s", name, strings.Join(Fields(), ", "))
		}
		if name == "title" {
			d.malformed("clear", "title-required", "every change has a title", "set another one")
		}
	}
	set := c.Set.normal()
	next := d.Content.edited(set, c.Clear).normal()
	d.content(next)
	d.stillOpen()
	d.notHeld()
	var changed []string
	for _, diff := range d.Content.Diff(next) {
		changed = append(changed, diff.Field)
	}
	phase, _ := d.model.Phase(d.Phase)
	if d.Open() && d.on("not-editable") {
		for _, name := range changed {
			if !slices.Contains(phase.Edits, "*") && !slices.Contains(phase.Edits, name) {
				d.refuse("not-editable", "%q cannot be edited in phase %q", "revert the change to planning, or raise another", name, d.Phase)
			}
		}
	}
	if d.Template != "" {
		d.fits(next)
	}
	if slices.Contains(changed, "cis") || slices.Contains(changed, "deltas") {
		d.checkCIs(next, !d.model.plans())
	}
	for _, t := range d.Tasks {
		d.inWindow(t, next.Window)
	}
	var joined []string
	for _, person := range next.Implementers {
		if !slices.Contains(d.Implementers, person) {
			joined = append(joined, person)
		}
	}
	d.apart("implementer", joined...)
	if !d.clear() || len(changed) == 0 {
		return
	}
	e := Edited{Fields: changed, By: d.actor.ID, Reason: c.Reason, Scope: d.model.scope(next)}
	for _, f := range fields { // only what is another value: a field that is set is not cleared, though Clear names it
		switch {
		case !slices.Contains(changed, f.name):
		case f.zero(&next):
			e.Clear = append(e.Clear, f.name)
		default:
			f.copy(&e.Set, &next)
		}
	}
	retimed := next.Window != nil && d.Started == nil && slices.ContainsFunc(changed, func(name string) bool { return slices.Contains(timed, name) })
	if slices.Contains(planning, d.Kind) || d.Started != nil {
		e.Keeps = e.Scope == d.Scope // whatever can be edited later is not material
		d.record(e)
		if retimed {
			d.time(Planned)
		}
		d.stillVotable()
		d.auto()
		return
	}
	if d.on("voiding") {
		for _, stage := range d.model.Voids(words, changed) {
			if a, ok := d.Approval(stage); ok && voidable[a.State] {
				e.Voids = append(e.Voids, stage)
			}
		}
	}
	var added []string
	sees := slices.ContainsFunc(changed, func(name string) bool { return !slices.Contains(unseen, name) })
	if sees {
		var err error
		if added, err = d.newStages(); err != nil {
			d.unjudged("a decision table", err)
			return
		}
	}
	e.Keeps = len(e.Voids) == 0 && len(added) == 0
	d.record(e)
	if retimed {
		d.time(Planned)
		if d.Authorized != nil {
			d.time(ToAuthorize) // it stays authorised, for another time than it was
		}
	}
	if sees {
		d.judge()
	}
	if !e.Keeps {
		d.reopen()
	}
	d.stillVotable()
	d.auto()
}

// timed are the fields that the calendar looks at: an edit of them is judged anew.
var timed = []string{"window", "cis", "deltas", "implementers", "group", "order", "tags"}

// unseen are the fields that no risk policy and no expression sees: an edit of
// them alone is not judged anew.
var unseen = []string{"title", "description", "justification", "owner", "implementers", "stakeholders", "evidence", "order", "tags", "failure"}

// voidable are the states of a stage in which an edit can void it.
var voidable = map[workflow.State]bool{workflow.Requested: true, workflow.Approved: true, workflow.OnHold: true}

// reopen goes back to the first phase whose approvals are to be asked for anew.
func (d *decision) reopen() {
	if d.Unauthorized != nil {
		return // what was refused is not asked about further
	}
	for _, phase := range d.enteredPhases() {
		d.plan(phase)
		if !slices.ContainsFunc(d.Approvals, func(a Approval) bool {
			return a.Phase == phase.Name && (a.State == workflow.NotRequested || a.State == workflow.Requested)
		}) {
			continue
		}
		if phase.Name != d.Phase {
			d.move(phase.Name, verbRescope, "an edit voided approvals")
			return
		}
		d.ask(phase)
		return
	}
}

// assess records a judgement by hand.
func (d *decision) assess(c Assess) {
	d.text("level", c.Level, maxTitle, true)
	d.text("why", c.Why, maxText, true)
	d.decimal("score", c.Score)
	d.stillOpen()
	d.notHeld()
	if !slices.Contains(planning, d.Kind) && !slices.Contains(authorizing, d.Kind) && d.Kind != KindScheduled {
		d.refuse("wrong-phase", "the change is in phase %q, where its risk is not judged any more", "say it in the review", d.Phase)
	}
	if !d.clear() {
		return
	}
	receipt, err := d.byHand(c)
	if err != nil {
		d.malformed("score", "not-a-number", "it cannot be recorded: %v", "give it exactly, as 12.5", err)
		return
	}
	e := Assessed{Receipt: &receipt}
	if d.graph != nil {
		e.Impact = d.graph.impact
	}
	d.record(e)
	// Another level can make other stages necessary.
	if len(d.enteredPhases()) > 0 {
		added, err := d.newStages()
		if err != nil {
			d.unjudged("a decision table", err)
			return
		}
		if len(added) > 0 {
			d.reopen()
		}
	}
	d.auto()
}
