package release

import (
	"slices"
	"strconv"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// roll is what the world says of a deployment that begins, goes on or finishes.
type roll struct {
	environment Environment
	items       []Item
	inForce     map[string]InForce   // in the environment, by CI
	above       map[string][]InForce // in every environment before it, however far, by CI
	deltas      []cmdb.Delta         // that its end will carry
	problems    []cmdb.Problem       // of those, on the CMDB as it is
	window      change.Window        // that it takes
	timing      *change.Timing       // nil: the calendar was not asked
	timeless    error                // why it could not say
	gates       []GateResult
}

// deploy begins a deployment.
func (d *decision) deploy(c Deploy) {
	d.stillOpen()
	if c.For < 0 {
		d.malformed("for", "interval-invalid", "%d s is no time", "give 0 or more", int64(c.For))
	}
	e, ok := d.environment(c.Environment)
	if !ok {
		return
	}
	d.forward(e)
	d.begin(e, waves(c.Waves, e.Name), DeploymentStarted{})
}

// retry begins one that failed, or was aborted, anew: with what the release is now,
// or, where it was a rollback, with what that was.
func (d *decision) retry(c Retry) {
	d.stillOpen()
	if c.For < 0 {
		d.malformed("for", "interval-invalid", "%d s is no time", "give 0 or more", int64(c.For))
	}
	one, ok := d.numbered(c.Deployment)
	if !ok {
		return
	}
	if one.State != Failed && one.State != Aborted {
		d.refuse("wrong-state", "deployment %d is %s", "retry one that failed or was aborted", one.Number, one.State)
	}
	e, ok := d.environment(one.Environment)
	if !ok {
		return
	}
	if one.RollsBack > 0 {
		d.backward(e, one.RollsBack)
	} else {
		d.forward(e)
	}
	d.begin(e, one.Waves, DeploymentStarted{Retries: one.Number, RollsBack: one.RollsBack})
	if undone, ok := d.Deployment(one.RollsBack); ok {
		d.withhold(e, undone, "rolled back again, after deployment "+strconv.Itoa(one.Number))
	}
}

// numbered returns a deployment, or refuses.
func (d *decision) numbered(number int) (Deployment, bool) {
	one, ok := d.Deployment(number)
	if !ok {
		d.malformed("deployment", "unknown-deployment", "the release has no deployment %d", "check its number", number)
	}
	return one, ok
}

// forward refuses what only a deployment to a version that is new there needs: the
// phase, promotion, no hold, and gates (DOMAIN 3).
func (d *decision) forward(e Environment) {
	switch {
	case d.roll == nil:
		return
	case e.Production && d.PhaseKind != KindDeploy && d.Open():
		d.refuse("wrong-phase", "the release is in phase %q, and production is deployed to in a phase of kind %s", "advance it", d.Phase, KindDeploy)
	case !slices.Contains(deploying, d.PhaseKind) && d.Open():
		d.refuse("wrong-phase", "the release is in phase %q", "advance it to one of kind build, test or deploy", d.Phase)
	}
	if len(d.Components) == 0 {
		d.refuse("nothing-to-deploy", "the release has no components", "edit it")
	}
	d.holds(e)
	for _, item := range d.roll.items {
		if item.CI == "" {
			continue
		}
		d.promotion(e, item)
		if component := d.brings(item.CI); e.Production && component.From != "" && component.From != item.Before {
			d.refuse("not-the-version-before", "%s has version %q in %s, not %q", "edit what it comes from, or plan another release", item.CI, item.Before, e.Name, component.From)
		}
	}
	if !d.on("gates") {
		return
	}
	for _, g := range d.roll.gates {
		switch {
		case g.State == GatePassed || g.State == GateExcused:
		case e.Production && g.Kind == GateChange:
			// What it asks for is asked for in any case; see production.
		case g.Kind == GateWindow && d.roll.timing != nil && slices.ContainsFunc(d.roll.timing.Conflicts, change.Conflict.Stands):
			// Each conflict is a rule of its own; see timing.
		case g.State == GateFailed:
			d.refuse(gateRule(g), "gate %q does not pass: %s", "make it pass, or have it waived", g.Gate, g.Why)
		default:
			d.refuse(gateRule(g), "gate %q is not run: %s", "run it, or have it waived", g.Gate, g.Why)
		}
	}
}

// deploying are the kinds of phase in which environments before production are
// deployed to.
var deploying = []workflow.Kind{KindBuild, KindTest, KindDeploy}

// gateRule names the rule by which a gate refuses.
func gateRule(g GateResult) string {
	switch {
	case g.Kind == GateChange, g.Kind == GateWindow:
		return string(g.Kind)
	case g.State == GateFailed:
		return "gate-failed"
	}
	return "gate-not-run"
}

// brings returns the component that brings a CI.
func (d *decision) brings(ci string) Component {
	i := slices.IndexFunc(d.Components, func(c Component) bool { return c.CI == ci })
	if i < 0 {
		return Component{}
	}
	return d.Components[i]
}

// holds refuses to go past what was rolled back: of this release whatever it
// brings, of others the version.
func (d *decision) holds(e Environment) {
	if !d.on("on-hold") {
		return
	}
	before := append(d.graph.above(e.Name), e.Name)
	for _, h := range d.Holds {
		if slices.Contains(before, h.Environment) {
			d.refuse("on-hold", "deployment %d to %s was rolled back: %s", "find out why, and lift the hold of %s", h.Deployment, h.Environment, h.Reason, h.Environment)
		}
	}
	for _, item := range d.roll.items {
		for _, f := range append(slices.Clip(d.roll.above[item.CI]), d.roll.inForce[item.CI]) {
			if w, held := f.withheld(item.After); held && item.CI != "" && w.Release != d.ID {
				d.refuse("on-hold", "%s rolled back version %s of %s in %s: %s", "have its hold lifted", w.Release, w.Version, item.CI, f.Environment, w.Reason)
			}
		}
	}
}

// promotion refuses a version that the environments before have not had, or not
// long enough.
func (d *decision) promotion(e Environment, item Item) {
	var standings []Standing
	for _, f := range d.roll.above[item.CI] {
		standings = append(standings, f.standings(item.After)...)
	}
	for _, r := range d.graph.Promotion(e.Name, standings, d.now) {
		if d.on(r.Rule) {
			r.Reason = item.CI + ": " + r.Reason
			d.refused = append(d.refused, r)
		}
	}
}

// begin begins a deployment, forward or backward, if what holds for both lets it.
func (d *decision) begin(e Environment, planned []Wave, as DeploymentStarted) {
	d.waves(planned)
	if d.roll == nil || !d.Open() {
		return
	}
	for _, item := range d.roll.items {
		if item.CI == "" {
			continue
		}
		if name := installedStream(e.Name, item.CI); len(name) > maxStream {
			d.malformed("environment", "too-long", "the names of %s and %s have %d bytes together", "use shorter ones, of at most %d", e.Name, item.CI, len(name), maxStream)
		}
		if busy := d.roll.inForce[item.CI].Busy; busy != nil && d.on("environment-busy") && !d.ours(*busy) {
			d.refuse("environment-busy", "deployment %d of %s puts version %q of %s into %s", "wait until it has ended", busy.Deployment, busy.Release, busy.Version, item.CI, e.Name)
		}
	}
	if one, runs := d.Running(e.Name); runs && d.on("environment-busy") {
		d.refuse("environment-busy", "deployment %d of this release is %s in %s", "finish it, or abort it, first", one.Number, one.State, e.Name)
	}
	for _, one := range d.Deployments {
		// To a change a release stands in one way.
		if e.Production && one.Production && one.Active() && one.Environment != e.Name && d.on("deployment-running") {
			d.refuse("deployment-running", "deployment %d of this release is %s in %s, which is production too", "finish it, or abort it, first", one.Number, one.State, one.Environment)
		}
	}
	for _, p := range d.roll.problems {
		d.refuse(p.Rule, "it would not fit into the CMDB: %s", "%s", p.Reason, p.Remedy)
	}
	under := d.production(e, as.RollsBack > 0)
	d.timing(e)
	d.count("deployments", len(d.Deployments)+1, 1000)
	d.apart("deployer", d.people()...)
	if !d.clear() {
		return
	}
	as.Number, as.Environment, as.Production, as.Graph = len(d.Deployments)+1, e.Name, e.Production, d.graphAt
	as.Items, as.Changes, as.Waves, as.Limits = d.roll.items, under, planned, e.Limits
	as.Gates, as.RollUp, as.Timing = d.roll.gates, RollUp(d.roll.gates), d.roll.timing
	as.By, as.For, as.At = d.actor.ID, d.behalf(), d.now
	d.record(as)
	for _, item := range as.Items {
		if item.CI != "" {
			d.install(e.Name, item.CI, Installing{Release: d.ID, Deployment: as.Number, Version: item.After, At: d.now})
		}
	}
	if e.Production {
		d.carryAll(under, change.CarryRunning, as.Number)
	}
}

const maxStream = 255 // bytes, of the store

// ours reports whether a CI is busy with a deployment that this decision has ended.
func (d *decision) ours(busy Installing) bool {
	one, ok := d.Deployment(busy.Deployment)
	return busy.Release == d.ID && ok && !one.Active()
}

func (d *decision) install(environment, ci string, payload any) {
	d.installs = append(d.installs, installed{environment, ci, payload})
}

// inForceChanges returns the bound changes under which production could be
// deployed to, by ID. Closed ones have had their time, and going forward also those
// whose work has ended. Going back, those that are not in force are left out; going
// forward every one has to be.
func (d *decision) inForceChanges(back bool) []change.Change {
	var all []change.Change
	for _, b := range d.Changes {
		c, ok := d.changes[b.Change]
		if !ok || c.Kind == change.KindClosed || !back && c.Work != nil || back && len(Unauthorized([]change.Change{c}, nil)) > 0 {
			continue
		}
		all = append(all, c)
	}
	return all
}

// production refuses a deployment to production that no change in force covers,
// and returns the changes that do.
func (d *decision) production(e Environment, back bool) []string {
	if !e.Production {
		return nil
	}
	changes := d.inForceChanges(back)
	if d.on("change-authorized") {
		for _, missing := range Unauthorized(changes, declaredAs(d.roll.items, changes)) {
			d.refuse("change-authorized", "%s", "bind a change that declares it, and have it authorised", missing)
		}
	}
	var ids []string
	for _, c := range changes {
		ids = append(ids, c.ID)
		if back || !d.on("not-what-was-authorized") {
			continue
		}
		for _, item := range d.roll.items {
			for _, delta := range c.Deltas {
				if planned, says := versionOf(delta, item); says && planned != item.After {
					d.refuse("not-what-was-authorized", "change %s brings version %q of %s, and this is %q", "have the change authorised for it, or edit the release", c.ID, planned, delta.CI, item.After)
				}
			}
		}
	}
	return ids
}

// timing refuses what the calendar has against it (DOMAIN 2.1).
func (d *decision) timing(e Environment) {
	if !d.on("calendar") {
		return
	}
	if d.roll.timeless != nil {
		d.stands(command.Unavailable, "", "calendar-failed", "whether the time is free cannot be found out: %v", "try again, or correct the calendar", []any{d.roll.timeless})
		return
	}
	t := d.roll.timing
	if t == nil {
		return // production without a calendar at all; see the comment of the package
	}
	for _, c := range t.Conflicts {
		if c.Stands() {
			d.refuse(c.Rule, "%s", "%s", c.Why, c.Remedy)
		}
	}
	if e.Production && t.Answer == change.TimingNotRun {
		d.stands(command.Unavailable, "", "calendar-failed", "the calendar has not judged it", "try again, or correct the calendar", nil)
	}
}

// carryAll tells changes how the release stands, where that is news to them.
func (d *decision) carryAll(ids []string, state change.CarryState, deployment int) {
	for _, id := range ids {
		if d.changes[id].Open() {
			d.carry(id, state, deployment, "")
		}
	}
}
