package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// advance goes on to another phase, or, with ends, to a closed one. Where no phase
// is named it takes the first way whose conditions hold.
func (d *decision) advance(to string, ends bool) {
	d.stillOpen()
	if !d.clear() {
		return
	}
	var ways []Phase
	var taken []Transition
	for _, t := range d.Process.From(d.Phase) {
		p, _ := d.Process.Phase(t.To)
		if p.Kind != KindCanceled && (p.Kind == KindClosed) == ends && (to == "" || p.Name == to) {
			ways, taken = append(ways, p), append(taken, t)
		}
	}
	if len(ways) == 0 {
		d.refuse("wrong-phase", "the release is in phase %q, from where this way does not lead on", "from here: %s", d.Phase, d.ways())
		return
	}
	var first []command.Refusal
	for i, t := range taken {
		refused := d.conditions(t, ways[i])
		if len(refused) == 0 {
			d.move(ways[i], "", false)
			return
		}
		if i == 0 {
			first = refused
		}
	}
	d.refused = append(d.refused, first...)
}

// ways says for people where a phase leads.
func (d *decision) ways() string {
	var ways []string
	for _, t := range d.Process.From(d.Phase) {
		ways = append(ways, fmt.Sprintf("to %q", t.To))
	}
	if len(ways) == 0 {
		return "nowhere"
	}
	return strings.Join(ways, ", ")
}

// conditions returns what stands in the way of a transition.
func (d *decision) conditions(t Transition, to Phase) []command.Refusal {
	before := d.refused
	d.refused = nil
	for _, name := range t.Requires {
		i := slices.IndexFunc(fields, func(f contentField) bool { return f.name == name })
		if i >= 0 && fields[i].zero(d.Content) {
			d.refuse("field-required", "%q is not filled in, which the way to %q needs", "edit the release", name, to.Name)
		}
	}
	for _, guard := range with(t.Guards, to.Gates...) {
		d.guard(guard)
	}
	if d.PhaseKind == KindDeploy || to.Kind == KindClosed {
		d.nothingRuns(false)
	}
	if d.on("tasks-closed") {
		for _, task := range d.Tasks {
			if task.Phase == d.Phase && !task.State.Ended() {
				d.refuse("tasks-closed", "task %d is %s: %s", "close it, or cancel it", task.ID, task.State, task.Title)
			}
		}
	}
	refused := d.refused
	d.refused = before
	return refused
}

// guard refuses unless a named condition holds.
func (d *decision) guard(name string) {
	switch name {
	case guardDelivered:
		if !d.Delivered() {
			d.refuse(name, "it is not in production", "deploy it there and finish the deployment, or cancel the release")
		}
	case guardVerified:
		if !slices.ContainsFunc(d.Deployments, func(one Deployment) bool { return one.State == Finished && one.RollsBack == 0 }) {
			d.refuse(name, "no environment has verified it", "deploy it to one and finish the deployment")
		}
	case guardChanges:
		for _, b := range d.Changes {
			c := d.changes[b.Change]
			switch d.carried(c) {
			case change.CarryDelivered, change.CarryBackedOut, change.CarryUnbound:
			default:
				if c.Open() {
					d.refuse(name, "change %s is %s by it", "deliver it, or take it off the release", c.ID, d.carried(c))
				}
			}
		}
	default:
		d.stands(command.Unavailable, "", "unknown-guard", "the process asks for %q, which nobody knows", "plan the release under another process", []any{name})
	}
}

// move enters a phase.
func (d *decision) move(to Phase, reason string, again bool) {
	d.record(Moved{
		From: d.Phase, To: to.Name, Kind: string(to.Kind), By: d.actor.ID, At: d.now, Reason: reason,
		Ends: to.Kind == KindClosed || to.Kind == KindCanceled, Again: again,
	})
	d.openTasks(to)
}

// openTasks opens the tasks of a phase, also where it is entered again.
func (d *decision) openTasks(p Phase) {
	for _, t := range p.Tasks {
		if len(d.Tasks) >= 5*maxList {
			d.refuse("too-many", "the release has %d tasks", "plan another one", len(d.Tasks))
			return
		}
		d.record(TaskAdded{Task{ID: len(d.Tasks) + 1, Title: t.Title, Kind: t.Kind, State: workflow.TaskOpen, Group: t.Group, Phase: p.Name}})
	}
}

// restart goes back to a phase, and resets it and all later ones (DOMAIN 3).
func (d *decision) restart(c Restart) {
	d.stillOpen()
	d.text("reason", c.Reason, maxText, true)
	d.nothingRuns(false)
	p, ok := d.Process.Phase(c.Phase)
	switch {
	case !ok:
		d.malformed("phase", "unknown-phase", "the process has no phase %.100q", "check its name", c.Phase)
	case !slices.Contains(d.Path, c.Phase):
		d.refuse("wrong-phase", "the release has not been in phase %q", "restart from one of %s", c.Phase, strings.Join(d.Path, ", "))
	}
	if !d.clear() {
		return
	}
	behind := d.Path[slices.Index(d.Path, c.Phase):]
	for _, t := range slices.Clone(d.Tasks) {
		if slices.Contains(behind, t.Phase) && !t.State.Ended() {
			t.State = workflow.TaskCancelled
			d.record(TaskChanged{Task: t, By: d.actor.ID, Note: "restarted from " + c.Phase})
		}
	}
	d.move(p, c.Reason, true)
}

// moveTask puts a task into another state.
func (d *decision) moveTask(c MoveTask) {
	d.stillOpen()
	d.text("note", c.Note, maxText, false)
	if c.ID < 1 || c.ID > len(d.Tasks) {
		d.malformed("id", "unknown-task", "there is no task %d", "check its number", c.ID)
		return
	}
	t := d.Tasks[c.ID-1]
	if !t.State.CanMove(c.To) {
		d.refuse("task-move", "task %d is %s, which does not become %s", "see what it can become", c.ID, t.State, c.To)
	}
	if d.clear() {
		t.State = c.To
		d.record(TaskChanged{Task: t, By: d.actor.ID, Note: c.Note})
	}
}

// cancel ends a release that is not to be rolled out.
func (d *decision) cancel(c Cancel) {
	d.stillOpen()
	d.text("reason", c.Reason, maxText, true)
	d.nothingRuns(false)
	i := slices.IndexFunc(d.Process.Phases, func(p Phase) bool { return p.Kind == KindCanceled })
	if d.PhaseKind == KindReview || i < 0 {
		d.refuse("wrong-phase", "the release is in phase %q, from where it is not cancelled", "close it", d.Phase)
	}
	if !d.clear() {
		return
	}
	for _, b := range d.Changes {
		one := d.changes[b.Change]
		if state := d.carried(one); one.Open() && (state == change.CarryBound || state == change.CarryFailed) {
			d.carry(b.Change, change.CarryUnbound, 0, "")
		}
	}
	d.move(d.Process.Phases[i], c.Reason, false)
}
