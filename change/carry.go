package change

import (
	"fmt"
	"slices"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/internal/workflow"
)

// carrier returns where a release stands in Releases, -1 if it does not.
func (c Change) carrier(release string) int {
	return slices.IndexFunc(c.Releases, func(r Carried) bool { return r.Release == release })
}

// ended reports whether a release has nothing more to do for a change.
func (s CarryState) ended() bool {
	return s == CarryDelivered || s == CarryBackedOut || s == CarryUnbound
}

// carryWays says which states follow on which; "" is that of a release that has no
// part in the change yet.
var carryWays = map[CarryState][]CarryState{
	"":             {CarryBound},
	CarryBound:     {CarryRunning, CarryUnbound},
	CarryRunning:   {CarryBound, CarryPaused, CarryFailed, CarryDelivered, CarryBackedOut},
	CarryPaused:    {CarryBound, CarryRunning, CarryFailed, CarryDelivered, CarryBackedOut},
	CarryFailed:    {CarryBound, CarryRunning, CarryBackedOut, CarryUnbound},
	CarryDelivered: {CarryRunning, CarryBackedOut},
	CarryBackedOut: {CarryBound, CarryRunning},
	CarryUnbound:   {CarryBound},
}

// carry takes over how a release stands (DOMAIN 3): with the first deployment the
// work begins, with the last one it has ended.
func (d *decision) carry(c Carry) {
	d.id("release", c.Release)
	d.text("release", c.Release, maxID, true)
	d.text("notes", c.Notes, maxText, false)
	if _, ok := carryWays[c.State]; !ok || c.State == "" {
		d.malformed("state", "unknown-state", "a release does not stand as %q to a change", "use one of package change", c.State)
	}
	if c.Deployment < 0 || c.Deployment == 0 && c.State != CarryBound && c.State != CarryUnbound {
		d.malformed("deployment", "unknown-deployment", "deployment %d says nothing", "give its number, from 1", c.Deployment)
	}
	if !d.clear() {
		return
	}
	d.stillOpen()
	was := CarryState("")
	if i := d.carrier(c.Release); i >= 0 {
		was = d.Releases[i].State
		if was == c.State && (d.Releases[i].Deployment == c.Deployment || c.Deployment == 0) {
			return // said twice is said once
		}
	} else if len(d.Releases) >= maxList {
		d.refuse("too-many", "%d releases have a part in the change", "raise another change for the rest", len(d.Releases))
	}
	if was != c.State && !slices.Contains(carryWays[was], c.State) {
		d.refuse("wrong-carry", "release %s is %s here, which does not become %s", "see how the release stands", c.Release, was.String(), c.State)
	}
	if d.Open() && d.Work != nil && !c.State.ended() && (was == "" || was == CarryBound || was == CarryUnbound || was == CarryBackedOut) {
		// What it has delivered it may still take back.
		d.refuse("wrong-phase", "the work of the change has ended", "raise another change")
	}
	if d.Open() && !d.model.implements() {
		d.refuse("wrong-phase", "what model %q records has happened already", "bind a change that is to be carried out", d.model.Name)
	}
	if !d.clear() {
		return
	}
	e := Carried{Release: c.Release, Deployment: c.Deployment, State: c.State, By: d.actor.ID, For: d.behalf(), At: d.now}
	switch {
	case c.State == CarryRunning && d.Kind != KindImplement && d.Work == nil:
		if d.start(); d.clear() {
			d.record(e)
		}
	case c.State == CarryRunning:
		d.notHeld()
		d.apart("implementer", d.people()...)
		if d.Authorized == nil && d.model.Authority != workflow.AuthorityRetrospective && d.on("authorized") {
			d.refuse("authorized", "no authorisation is in force for the change as it is", "have it approved")
		}
		if d.clear() {
			d.record(e)
		}
	case c.State.ended() && d.Kind == KindImplement && d.Work == nil:
		d.record(e)
		if len(d.pending()) == 0 && len(d.delivered()) > 0 {
			d.complete(Complete{BackedOut: d.allBackedOut(), Applied: []cmdb.Delta{}, Notes: c.Notes})
		}
	default:
		d.record(e)
	}
}

// String returns the state in words.
func (s CarryState) String() string {
	if s == "" {
		return "not bound"
	}
	return string(s)
}

// pending returns the releases that are to carry the change out and have not done
// with it.
func (d *decision) pending() []string {
	var pending []string
	for _, r := range d.Releases {
		if !r.State.ended() {
			pending = append(pending, r.Release)
		}
	}
	return pending
}

// delivered returns the deployments that carried the change out, or backed it out.
func (d *decision) delivered() []string {
	var all []string
	for _, r := range d.Releases {
		if r.State == CarryDelivered || r.State == CarryBackedOut {
			all = append(all, fmt.Sprintf("%s/%d", r.Release, r.Deployment))
		}
	}
	return all
}

func (d *decision) allBackedOut() bool {
	return !slices.ContainsFunc(d.Releases, func(r Carried) bool { return r.State == CarryDelivered })
}

// nothingRuns refuses what must not happen while a release is being deployed.
func (d *decision) nothingRuns() {
	for _, r := range d.Releases {
		if r.State == CarryRunning && d.on("deployment-running") {
			d.refuse("deployment-running", "deployment %d of %s is carrying it out", "pause the deployment, or abort it, first", r.Deployment, r.Release)
		}
	}
}
