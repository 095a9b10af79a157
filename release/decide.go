package release

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// decide is the pure core: which events a command causes in a state, in the stream
// of the release and in those beside it, given facts that were gathered before, or
// every rule that stands in its way.
func decide(r Release, cmd Command, f facts) (outcome, []command.Refusal) {
	d := &decision{Release: r.handed(), facts: f}
	d.run(cmd)
	if len(d.refused) > 0 {
		return outcome{}, d.refused
	}
	return d.outcome, nil
}

// outcome is what a command causes.
type outcome struct {
	events   []any
	carries  []carrying  // for the changes, after the events
	installs []installed // for the streams of what is in force
}

// carrying is what a change is told.
type carrying struct {
	change string
	carry  change.Carry
}

// installed is an event of what is in force.
type installed struct {
	environment, ci string
	payload         any
}

// decision is one command being decided. Release is the state with what has been
// decided so far.
type decision struct {
	Release
	facts
	outcome
	refused []command.Refusal
}

// facts are what a decision needs of the world. Which of them are there depends
// on the command; see gather.
type facts struct {
	now      time.Time
	actor    command.Actor
	newID    string   // of a release that is being planned
	process  *Process // that it is to be under; nil: there is none of that name
	graph    Environments
	graphAt  uint64                   // its version
	changes  map[string]change.Change // bound, or to be bound; there is none of the others
	raised   *change.Change           // by Emerge, in the same append
	resolved workflow.Resolved        // of an approval that may be asked for
	roll     *roll                    // of a deployment that begins, goes on or finishes
	without  []string                 // guards that tests have taken out
}

func (d *decision) run(cmd Command) {
	if c, ok := cmd.(Plan); ok {
		d.planned(c)
		return
	}
	if d.ID == "" {
		d.malformed("release", "unknown-release", "there is no such release", "check its ID")
		return
	}
	switch c := cmd.(type) {
	case Edit:
		d.edit(c)
	case Bind:
		d.bind(c)
	case Unbind:
		d.unbind(c)
	case AddEvidence:
		d.evidence(c)
	case CheckItem:
		d.check(c)
	case Waive:
		d.waive(c)
	case Ask:
		d.ask(c)
	case Approve:
		d.approve(c)
	case Reject:
		d.reject(c)
	case Deploy:
		d.deploy(c)
	case Report:
		d.report(c)
	case NextWave:
		d.nextWave(c)
	case Pause:
		d.pause(c)
	case Resume:
		d.resume(c)
	case Finish:
		d.finish(c)
	case Fail:
		d.end(c.Deployment, Failed, c.Reason)
	case Abort:
		d.end(c.Deployment, Aborted, c.Reason)
	case Rollback:
		d.rollback(c)
	case Lift:
		d.lift(c)
	case Retry:
		d.retry(c)
	case Emerge:
		d.emerge(c)
	case Advance:
		d.advance(c.To, false)
	case Close:
		d.advance("", true)
	case Restart:
		d.restart(c)
	case MoveTask:
		d.moveTask(c)
	case Cancel:
		d.cancel(c)
	case Note:
		d.text("text", c.Text, maxText, true)
		if d.clear() {
			d.record(Noted{By: d.actor.ID, Text: c.Text})
		}
	default:
		d.malformed("command", "unknown-command", "%T is no command of a release", "use one of package release", cmd)
	}
}

// record decides an event; what is decided after it sees it.
func (d *decision) record(payload any) {
	d.events = append(d.events, payload)
	d.Release = evolve(d.Release, payload)
}

// refuse says that a rule stands in the way; args are those of reason and remedy
// together.
func (d *decision) refuse(rule, reason, remedy string, args ...any) {
	d.stands(command.Refused, "", rule, reason, remedy, args)
}

// malformed says that the input cannot be meant.
func (d *decision) malformed(field, rule, reason, remedy string, args ...any) {
	d.stands(command.Malformed, field, rule, reason, remedy, args)
}

func (d *decision) stands(kind command.Kind, field, rule, reason, remedy string, args []any) {
	n := min(strings.Count(reason, "%"), len(args))
	d.refused = append(d.refused, command.Refusal{
		Kind: kind, Rule: rule, Field: field, Reason: fmt.Sprintf(reason, args[:n]...), Remedy: fmt.Sprintf(remedy, args[n:]...),
	})
}

// clear reports whether nothing stands in the way so far.
func (d *decision) clear() bool { return len(d.refused) == 0 }

// on reports whether a guard is in place. Tests take some out to show that they
// notice; nothing else does. Those that keep an invariant:
//
//	change-authorized        production is deployed to under changes in force, which declare what it touches
//	not-what-was-authorized  with the versions that they name
//	calendar                 and when the calendar lets it
//	environment-busy         one deployment of one CI runs in one environment
//	upstream-not-verified, soak-not-over, too-few-successes
//	                         promotion
//	on-hold                  nothing goes past a hold
//	gates                    gates that have not passed
//	scope-changed            approvals are of what the release is now
//	separation-of-duties     nobody plays two parts that the process keeps apart
//	not-a-candidate, already-voted
//	                         who votes, and once
//	digest-mismatch          what was put in place is what was meant
//	report-reused            a report is said once
//	limits                   too many targets that went wrong fail a deployment
//	wave-not-done            a wave begins when the one before is through
//	not-finished             a deployment finishes when all targets are through
//	emergent-change          it waits for what it turned out to need
//	deployment-running       what runs is not edited, unbound or closed away
//	never-installed          a rollback goes to what was there
//	not-in-force             and undoes what is there
//	tasks-closed             a phase is left when its tasks are done
func (d *decision) on(guard string) bool { return !slices.Contains(d.without, guard) }

// people returns who acts: the actor, and the person he acts for.
func (d *decision) people() []string { return with(nil, d.actor.ID, d.actor.OnBehalfOf) }

// behalf returns the person for whom the actor acts, or nothing.
func (d *decision) behalf() string {
	if d.actor.OnBehalfOf == d.actor.ID {
		return ""
	}
	return d.actor.OnBehalfOf
}

// stillOpen refuses what a release that has ended does not take.
func (d *decision) stillOpen() {
	if !d.Open() {
		d.refuse("release-ended", "the release is %s", "plan another one", d.Phase)
	}
}

// nothingRuns refuses what must not happen while the release is being deployed,
// or only to production.
func (d *decision) nothingRuns(productionOnly bool) {
	for _, one := range d.Deployments {
		if one.Active() && (one.Production || !productionOnly) && d.on("deployment-running") {
			d.refuse("deployment-running", "deployment %d to %s is %s", "finish it, or abort it, first", one.Number, one.Environment, one.State)
		}
	}
}

// planned begins a release.
func (d *decision) planned(c Plan) {
	content := c.Content.normal()
	d.content(content)
	d.id("planner", c.Planner)
	if d.process == nil {
		d.malformed("process", "unknown-process", "there is no process %q", "choose one that the engine was given", c.Process)
	}
	if !d.clear() {
		return
	}
	planner := c.Planner
	if planner == "" {
		planner = d.actor.Principal()
	}
	first := d.process.Phases[0]
	scope, ok := d.scopeOf(content)
	if !ok {
		return
	}
	d.record(Planned{
		Release: d.newID, Planner: planner, By: d.actor.ID, At: d.now, Content: content, Process: *d.process,
		Phase: first.Name, Kind: string(first.Kind), Scope: scope,
	})
	d.openTasks(first)
}

func (d *decision) scopeOf(c Content) (string, bool) {
	scope, err := c.scope()
	if err != nil {
		d.malformed("content", "not-text", "%v", "send text in UTF-8", err)
	}
	return scope, err == nil
}

// edit changes fields, and says what of what was given before no longer holds.
func (d *decision) edit(c Edit) {
	d.stillOpen()
	d.text("reason", c.Reason, maxText, false)
	for _, name := range c.Clear {
		if !slices.Contains(contentFields(), name) {
			d.malformed("clear", "unknown-field", "there is no field %q", "use one of %s", name, strings.Join(contentFields(), ", "))
		}
	}
	next := d.Content.edited(c.Set, c.Clear).normal()
	d.content(next)
	changed := d.Content.differs(next)
	phase, _ := d.Process.Phase(d.Phase)
	for _, name := range changed {
		if !slices.Contains(phase.Edits, "*") && !slices.Contains(phase.Edits, name) && d.Open() {
			d.refuse("not-editable", "%q is not edited in phase %q", "restart from an earlier phase, or plan another release", name, d.Phase)
		}
	}
	voids := slices.ContainsFunc(changed, func(name string) bool { return slices.Contains(material, name) })
	if voids {
		d.nothingRuns(false)
	}
	scope, ok := d.scopeOf(next)
	if !ok || !d.clear() || len(changed) == 0 {
		return
	}
	e := Edited{Set: c.Set.normal(), Clear: c.Clear, Fields: changed, By: d.actor.ID, Reason: c.Reason, Scope: scope}
	if scope != d.Scope {
		e.Voids, e.Voided = true, d.given()
	}
	d.record(e)
}

// given returns what people have said of the release as it is, for people.
func (d *decision) given() []string {
	var all []string
	for _, a := range d.Approvals {
		if a.State == workflow.Approved || a.State == workflow.Requested {
			all = append(all, fmt.Sprintf("approval of %s for %s", a.Gate, a.Environment))
		}
	}
	for _, c := range d.Checks {
		if item := fmt.Sprintf("check of %s for %s", c.Item, c.Environment); !slices.Contains(all, item) {
			all = append(all, item)
		}
	}
	for _, w := range d.Waivers {
		all = append(all, fmt.Sprintf("waiver of %s for %s", w.Gate, w.Environment))
	}
	return all
}

// bind makes the release carry a change out.
func (d *decision) bind(c Bind) {
	d.stillOpen()
	if _, ok := d.changes[c.Change]; !ok {
		d.malformed("change", "unknown-change", "there is no change %.100q", "check its ID", c.Change)
	}
	if d.Bound(c.Change) {
		return // said twice is said once
	}
	d.count("changes", len(d.Changes)+1, maxList)
	for _, one := range d.Deployments {
		if one.State == Running && one.Production && d.on("deployment-running") {
			d.refuse("deployment-running", "deployment %d to %s is running, under other changes", "pause it first", one.Number, one.Environment)
		}
	}
	if d.clear() {
		d.record(ChangeBound{Bound: Bound{Change: c.Change, By: d.actor.ID, At: d.now}})
		d.carry(c.Change, change.CarryBound, 0, "")
	}
}

// unbind takes a change off.
func (d *decision) unbind(c Unbind) {
	d.stillOpen()
	d.text("reason", c.Reason, maxText, false)
	if !d.Bound(c.Change) {
		d.malformed("change", "not-bound", "the release does not carry out %.100q", "name a change that it carries out", c.Change)
	}
	for _, one := range d.Deployments {
		if one.Active() && slices.Contains(one.Changes, c.Change) && d.on("deployment-running") {
			d.refuse("deployment-running", "deployment %d to %s is %s under it", "finish it, or abort it, first", one.Number, one.Environment, one.State)
		}
	}
	if !d.clear() {
		return
	}
	d.record(ChangeUnbound{Change: c.Change, By: d.actor.ID, Reason: c.Reason})
	switch one := d.changes[c.Change]; d.carried(one) {
	case "", change.CarryDelivered, change.CarryBackedOut, change.CarryUnbound: // it has nothing more to do with it
	default:
		if one.Open() {
			d.carry(c.Change, change.CarryUnbound, 0, "")
		}
	}
}

// carry tells a change how the release stands.
func (d *decision) carry(id string, state change.CarryState, deployment int, notes string) {
	d.carries = append(d.carries, carrying{id, change.Carry{Release: d.ID, Deployment: deployment, State: state, Notes: notes}})
}

// carried returns how the release stands to a change, as the change knows it.
func (d *decision) carried(c change.Change) change.CarryState {
	for _, r := range c.Releases {
		if r.Release == d.ID {
			return r.State
		}
	}
	return ""
}

// list writes names for people.
func list(names []string) string {
	switch {
	case len(names) == 0:
		return "nobody"
	case len(names) > 20:
		return strings.Join(names[:20], ", ") + fmt.Sprintf(" and %d more", len(names)-20)
	}
	return strings.Join(names, ", ")
}
