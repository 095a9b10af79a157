package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/change"
)

// finish ends a deployment that has come to a good end: its versions are in force,
// in production its changes are delivered, or backed out where it was a rollback.
func (d *decision) finish(c Finish) {
	d.stillOpen()
	d.text("notes", c.Notes, maxText, false)
	one, ok := d.running(c.Deployment)
	if !ok || d.roll == nil {
		return
	}
	if d.on("not-finished") {
		if one.Wave < len(one.Waves) {
			d.refuse("not-finished", "wave %d of %d is under way", "go on to the next one", one.Wave, len(one.Waves))
		}
		if open := one.unreported(one.Wave); len(open) > 0 {
			d.refuse("not-finished", "%s has not come through", "report what came of it", list(open))
		}
		if one.count(Successful) == 0 {
			d.refuse("not-finished", "no target took it", "let it fail")
		}
	}
	for _, p := range d.roll.problems {
		d.refuse(p.Rule, "it does not fit into the CMDB: %s", "%s", p.Reason, p.Remedy)
	}
	if !d.clear() {
		return
	}
	d.record(DeploymentFinished{
		Release: d.ID, Deployment: one.Number, Deltas: d.roll.deltas, Successes: one.count(Successful), More: c.More, Notes: c.Notes, By: d.actor.ID, At: d.now,
	})
	for _, item := range one.Items {
		if item.CI != "" {
			d.install(one.Environment, item.CI, Installed{
				Release: d.ID, Deployment: one.Number, Version: item.After, Verified: true, Successes: one.count(Successful), At: d.now,
			})
		}
	}
	if !one.Production {
		return
	}
	if one.RollsBack > 0 {
		d.backedOut(one)
		return
	}
	state := change.CarryDelivered
	if c.More {
		state = change.CarryBound
	}
	for _, id := range one.Changes {
		if ch := d.changes[id]; ch.Open() && ch.Work == nil {
			d.carry(id, state, one.Number, c.Notes)
		}
	}
}

// running returns a deployment that is running, or refuses.
func (d *decision) running(number int) (Deployment, bool) {
	one, ok := d.numbered(number)
	if ok && one.State != Running {
		d.refuse("wrong-state", "deployment %d is %s", "it has to be running", number, one.State)
		return one, false
	}
	return one, ok
}

// active returns a deployment that is under way, or refuses.
func (d *decision) active(number int) (Deployment, bool) {
	one, ok := d.numbered(number)
	if ok && !one.Active() {
		d.refuse("wrong-state", "deployment %d is %s", "it has to be under way", number, one.State)
		return one, false
	}
	return one, ok
}

// end ends a deployment that does not go on: it failed, or was aborted.
func (d *decision) end(number int, state DeploymentState, why string) {
	d.stillOpen()
	d.text("reason", why, maxText, true)
	one, ok := d.active(number)
	if ok && d.clear() {
		d.ended(one, state, why)
	}
}

// ended records that a deployment does not go on, for itself, for what is in force
// and for its changes.
func (d *decision) ended(one Deployment, state DeploymentState, why string) {
	d.record(DeploymentEnded{Deployment: one.Number, State: state, Why: why, By: d.actor.ID, At: d.now})
	for _, item := range one.Items {
		if item.CI != "" {
			d.install(one.Environment, item.CI, NotInstalled{Release: d.ID, Deployment: one.Number, Touched: len(one.Reports) > 0, At: d.now})
		}
	}
	if one.Production {
		d.carryAll(d.carriedAs(one, change.CarryRunning, change.CarryPaused), change.CarryFailed, one.Number)
	}
}

// carriedAs returns the changes of a deployment to which the release stands so.
func (d *decision) carriedAs(one Deployment, states ...change.CarryState) []string {
	return slices.DeleteFunc(slices.Clone(one.Changes), func(id string) bool {
		return !slices.Contains(states, d.carried(d.changes[id]))
	})
}

// pause stops a deployment for a while.
func (d *decision) pause(c Pause) {
	d.stillOpen()
	d.text("reason", c.Reason, maxText, true)
	one, ok := d.running(c.Deployment)
	if ok && d.clear() {
		d.paused(one, c.Reason)
	}
}

func (d *decision) paused(one Deployment, why string) {
	d.record(DeploymentPaused{Deployment: one.Number, By: d.actor.ID, Reason: why, At: d.now})
	if one.Production {
		d.carryAll(d.carriedAs(one, change.CarryRunning), change.CarryPaused, one.Number)
	}
}

// resume goes on with a deployment, under all changes that are bound by then.
func (d *decision) resume(c Resume) {
	d.stillOpen()
	d.text("reason", c.Reason, maxText, false)
	one, ok := d.numbered(c.Deployment)
	if !ok || d.roll == nil {
		return
	}
	if one.State != Paused {
		d.refuse("wrong-state", "deployment %d is %s", "resume one that is paused", one.Number, one.State)
	}
	if d.on("emergent-change") {
		for _, id := range one.Waits {
			if missing := Unauthorized([]change.Change{d.changes[id]}, nil); len(missing) > 0 {
				d.refuse("emergent-change", "it waits for change %s: %s", "have it authorised, or take it off the release", id, strings.Join(missing, "; "))
			}
		}
	}
	under := d.production(d.roll.environment, one.RollsBack > 0)
	d.timing(d.roll.environment)
	if !d.clear() {
		return
	}
	d.record(DeploymentResumed{Deployment: one.Number, Changes: under, Timing: d.roll.timing, By: d.actor.ID, Reason: c.Reason, At: d.now})
	if one.Production {
		d.carryAll(under, change.CarryRunning, one.Number)
	}
}

// emerge binds a change for what turned out to be needed besides; a deployment
// that is under way waits for it (DOMAIN 3).
func (d *decision) emerge(c Emerge) {
	d.stillOpen()
	number := c.Deployment
	if number == 0 {
		for _, one := range d.Deployments {
			if one.Active() && (number == 0 || one.Production) {
				number = one.Number
			}
		}
	}
	var one Deployment
	if number != 0 {
		one, _ = d.active(number)
	}
	d.count("changes", len(d.Changes)+1, maxList)
	if d.raised == nil || !d.clear() {
		return
	}
	d.record(ChangeBound{Bound: Bound{Change: d.raised.ID, Emergent: true, By: d.actor.ID, At: d.now}, Deployment: number})
	d.carry(d.raised.ID, change.CarryBound, 0, "")
	if one.State == Running {
		d.paused(one, fmt.Sprintf("it waits for change %s: %s", d.raised.ID, d.raised.Title))
	}
}
