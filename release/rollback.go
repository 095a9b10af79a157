package release

import (
	"slices"

	"github.com/rollforward/rollforward/change"
)

// undone returns the deployment that a rollback undoes: that of the number, or the
// last one in the environment that was none itself.
func (r Release) undone(environment string, number int) (Deployment, bool) {
	if number != 0 {
		return r.Deployment(number)
	}
	for i := len(r.Deployments) - 1; i >= 0; i-- {
		if one := r.Deployments[i]; one.Environment == environment && one.RollsBack == 0 {
			return one, true
		}
	}
	return Deployment{}, false
}

// rollback begins a deployment of what was there before, and sets a hold (DOMAIN 3).
func (d *decision) rollback(c Rollback) {
	d.stillOpen()
	d.text("reason", c.Reason, maxText, true)
	if c.For < 0 {
		d.malformed("for", "interval-invalid", "%d s is no time", "give 0 or more", int64(c.For))
	}
	d.text("to", c.To, maxVersion, false)
	e, ok := d.environment(c.Environment)
	if !ok {
		return
	}
	one, ok := d.undone(c.Environment, c.Deployment)
	if !ok || one.Environment != c.Environment || one.RollsBack > 0 {
		d.malformed("deployment", "unknown-deployment", "the release has no such deployment to %s", "name one that can be undone", c.Environment)
		return
	}
	if !d.clear() {
		return
	}
	if running, ok := d.Running(c.Environment); ok {
		d.ended(running, Aborted, "rolled back: "+c.Reason)
	}
	d.backward(e, one.Number)
	planned := c.Waves
	if len(planned) == 0 {
		planned = one.Waves
	}
	d.begin(e, planned, DeploymentStarted{RollsBack: one.Number})
	d.withhold(e, one, c.Reason)
}

// withhold sets the hold of a rollback that has been decided, where there is none yet.
func (d *decision) withhold(e Environment, one Deployment, reason string) {
	if !d.clear() || d.roll == nil {
		return
	}
	if !slices.ContainsFunc(d.Holds, func(h Hold) bool { return h.Environment == e.Name && h.Deployment == one.Number }) {
		d.record(HoldSet{Hold{Environment: e.Name, Deployment: one.Number, By: d.actor.ID, Reason: reason, At: d.now}})
	}
	for _, item := range one.Items {
		back := d.roll.item(item.CI)
		if item.CI == "" || item.After == "" || item.After == back.After {
			continue
		}
		if w, held := d.roll.inForce[item.CI].withheld(item.After); !held || w.Release != d.ID {
			d.install(e.Name, item.CI, Withheld{Release: d.ID, Version: item.After, By: d.actor.ID, Reason: reason, At: d.now})
		}
	}
}

func (r *roll) item(ci string) Item {
	i := slices.IndexFunc(r.items, func(i Item) bool { return i.CI == ci })
	if i < 0 {
		return Item{}
	}
	return r.items[i]
}

// backward refuses to undo what is not there, and to go to what never was.
func (d *decision) backward(e Environment, number int) {
	one, ok := d.Deployment(number)
	if !ok || d.roll == nil {
		return
	}
	for _, later := range d.Deployments {
		if later.RollsBack == number && later.State == Finished {
			d.refuse("already-rolled-back", "deployment %d was rolled back by deployment %d", "roll back another one", number, later.Number)
		}
	}
	for _, item := range d.roll.items {
		if item.CI == "" {
			continue
		}
		was := one.item(item.CI)
		f := d.roll.inForce[item.CI]
		if one.State == Finished && item.Before != was.After && d.on("not-in-force") {
			d.refuse("not-in-force", "version %q of %s is in force in %s, which deployment %d did not put there", "roll back the deployment that did", item.Before, item.CI, e.Name, number)
		}
		if item.After != was.Before && !f.was(item.After) && d.on("never-installed") {
			d.refuse("never-installed", "version %q of %s has never been verified in %s", "name one that has been", item.After, item.CI, e.Name)
		}
		if item.After == was.After {
			d.refuse("same-version", "version %q of %s is what is to be rolled back", "name an earlier one", item.After, item.CI)
		}
	}
}

func (d Deployment) item(ci string) Item {
	i := slices.IndexFunc(d.Items, func(i Item) bool { return i.CI == ci })
	if i < 0 {
		return Item{}
	}
	return d.Items[i]
}

// backedOut tells the changes what a rollback of production has made of them: those
// that the undone deployment carried are backed out, a change that was bound for the
// rollback itself is delivered.
func (d *decision) backedOut(one Deployment) {
	undone, _ := d.Deployment(one.RollsBack)
	for _, id := range with(undone.Changes, one.Changes...) {
		c := d.changes[id]
		state := d.carried(c)
		switch {
		case !c.Open() || state == "" || state == change.CarryBackedOut || state == change.CarryUnbound:
		case slices.Contains(undone.Changes, id) && state != change.CarryBound:
			d.carry(id, change.CarryBackedOut, one.Number, "")
		case c.Work == nil && state != change.CarryBound && state != change.CarryDelivered:
			d.carry(id, change.CarryDelivered, one.Number, "")
		}
	}
}

// lift ends the holds of an environment, also of a release that has ended: the
// version that it withholds may be another release's too.
func (d *decision) lift(c Lift) {
	d.text("reason", c.Reason, maxText, true)
	held := false
	var cis []string
	for _, h := range d.Holds {
		if h.Environment == c.Environment {
			held = true
			one, _ := d.Deployment(h.Deployment)
			for _, item := range one.Items {
				cis = with(cis, item.CI)
			}
		}
	}
	if !held {
		d.refuse("not-on-hold", "nothing holds the release in %.100q", "see where it is held", c.Environment)
	}
	for _, one := range d.Deployments {
		if one.Environment == c.Environment && one.RollsBack > 0 && one.Active() {
			d.refuse("deployment-running", "deployment %d is rolling it back", "wait until it has ended", one.Number)
		}
	}
	if !d.clear() {
		return
	}
	d.record(HoldLifted{Environment: c.Environment, By: d.actor.ID, Reason: c.Reason, At: d.now})
	for _, ci := range cis {
		d.install(c.Environment, ci, Released{Release: d.ID, By: d.actor.ID, At: d.now})
	}
}
