package release_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/release"
)

func is(err, target error) bool { return errors.Is(err, target) }

// oracle reads a log and says what of it should not be. It knows the events, and
// keeps its own books; of the package it uses the fold only.
type oracle struct {
	counts   map[string]int
	broken   []string
	releases map[string]release.Release
	changes  map[string]change.Change
	graph    release.Environments
	fake     bool // the calendar is closed in every sixth hour, and knows of no window
	times    clockwork

	occupied map[[2]string][]occupied           // by environment and CI, the last one is in force
	active   map[[2]string]map[string]time.Time // deployments under way, since when
	holds    map[[2]string]map[string]bool      // by release and environment: versions "ci=version", and the release itself as ""
	voters   map[string]map[string]bool         // who approved, by release; void ones taken away
	scopes   map[string]string                  // scope of the last approval
	reports  map[string]release.Reported        // by release, deployment and ID
	outcomes map[string]map[string]release.Outcome
	errs     map[string]int    // errors in a row
	given    map[string]string // versions, by instance
	belongs  map[string]string // environments, by instance
}

type occupied struct {
	version      string
	since, until time.Time
	successes    int
}

func (o *oracle) add(other *oracle) {
	if o.counts == nil {
		o.counts = map[string]int{}
	}
	for what, n := range other.counts {
		o.counts[what] += n
	}
}

func (o *oracle) broke(what string) bool {
	return slices.ContainsFunc(o.broken, func(s string) bool { return strings.HasPrefix(s, what+":") })
}

func (o *oracle) breaks(what, format string, args ...any) {
	o.broken = append(o.broken, what+": "+fmt.Sprintf(format, args...))
}

// judged reads the log of a walk.
func judged(w *walker) *oracle {
	o := &oracle{
		counts: w.counts, fake: w.calendar != nil, releases: map[string]release.Release{}, changes: map[string]change.Change{}, occupied: map[[2]string][]occupied{},
		active: map[[2]string]map[string]time.Time{}, holds: map[[2]string]map[string]bool{}, voters: map[string]map[string]bool{}, scopes: map[string]string{},
		reports: map[string]release.Reported{}, outcomes: map[string]map[string]release.Outcome{}, errs: map[string]int{}, given: map[string]string{}, belongs: map[string]string{},
	}
	var last time.Time
	var group []eventstore.Recorded
	for _, e := range w.log() {
		meta, err := eventstore.DecodeMetadata(e.Meta)
		require.NoError(w.t, err)
		if !meta.OccurredAt.Equal(last) {
			o.append(w, group)
			group, last = nil, meta.OccurredAt
		}
		group = append(group, e)
	}
	o.append(w, group)
	o.graphAgrees(w)
	return o
}

// append takes the events of one append: those of changes first, since an event of a
// release is judged on the changes as the append leaves them.
func (o *oracle) append(w *walker, group []eventstore.Recorded) {
	type own struct {
		id      string
		payload any
	}
	type start struct {
		before change.Change
		timed  *change.Timed
		event  change.Started
	}
	var mine []own
	var starts []start
	timed := map[string]*change.Timed{}
	for _, e := range group {
		payload, err := w.registry.Decode(e.Event)
		require.NoError(w.t, err)
		o.times.take(payload)
		if id, ok := strings.CutPrefix(e.Stream, "change-"); ok {
			before := o.changes[id]
			o.changes[id] = change.Evolve(before, payload)
			switch e := payload.(type) {
			case change.Timed:
				timed[id] = &e
			case change.Implemented:
				o.give(nil, e.Applied)
			case change.Started:
				starts = append(starts, start{before, timed[id], e})
			}
		}
		if id, ok := strings.CutPrefix(e.Stream, "release-"); ok {
			mine = append(mine, own{id, payload})
		}
		if defined, ok := payload.(release.EnvironmentsDefined); ok {
			o.graph = defined.Environments
		}
	}
	for _, s := range starts {
		if !o.fake {
			o.begun(s.before, s.timed, s.event)
		}
	}
	for _, m := range mine {
		before := o.releases[m.id]
		o.releases[m.id] = release.Evolve(before, m.payload)
		o.event(m.id, before, m.payload)
	}
	o.state()
}

// state judges what stands after an append.
func (o *oracle) state() {
	for id, r := range o.releases {
		for _, d := range r.Deployments {
			if d.State != release.Running || !d.Production || d.RollsBack > 0 {
				continue
			}
			for _, missing := range o.missing(d.Changes, d.Items) {
				o.breaks("unauthorised", "deployment %d of %s runs: %s", d.Number, id, missing)
			}
		}
	}
	for at, all := range o.active {
		if len(all) > 1 {
			o.breaks("two at once", "%v: %v", at, all)
		}
	}
}

// missing says why changes do not cover items.
func (o *oracle) missing(ids []string, items []release.Item) []string {
	var missing []string
	declared := map[string]bool{}
	for _, id := range ids {
		c := o.changes[id]
		if c.Authorized == nil || c.Authorized.Scope != c.Scope || c.Held != nil || !c.Open() {
			missing = append(missing, id+" is not in force")
		}
		for _, ci := range c.Declared() {
			declared[ci] = true
		}
	}
	for _, i := range items {
		if !declared[i.CI] && !declared[i.Instance] {
			missing = append(missing, i.CI+" is not declared")
		}
	}
	return missing
}

func key(release string, deployment int) string { return fmt.Sprintf("%s/%d", release, deployment) }

// event judges one event of a release, on the release before it.
func (o *oracle) event(id string, before release.Release, payload any) {
	switch e := payload.(type) {
	case release.Edited:
		if e.Scope != before.Scope {
			delete(o.voters, id)
			for _, d := range before.Deployments {
				if d.Active() {
					o.breaks("edited", "%s while deployment %d is %s", id, d.Number, d.State)
				}
			}
		}
	case release.Moved:
		if e.Again {
			delete(o.voters, id)
		}
	case release.ApprovalAsked:
		delete(o.voters, id)
	case release.Voted:
		if e.Vote.Approve && (e.Vote.By == before.Planner || e.Vote.By == before.PlannedBy) {
			o.breaks("duties", "%s approves what is his", e.Vote.By)
		}
		if e.Vote.Approve && e.Vote.Scope != before.Scope {
			o.breaks("scope", "%s approves %s, and it is %s", e.Vote.By, e.Vote.Scope, before.Scope)
		}
		if e.Vote.Approve {
			if o.voters[id] == nil {
				o.voters[id] = map[string]bool{}
			}
			o.voters[id][e.Vote.By] = true
		}
	case release.ChangeBound:
		if e.Emergent {
			o.counts["emergent"]++
		}
	case release.DeploymentStarted:
		o.started(id, before, e)
	case release.WaveBegun:
		o.counts["wave"]++
		d := before.Deployments[e.Deployment-1]
		for _, target := range d.Waves[d.Wave-1].Targets {
			if out := o.outcomes[key(id, d.Number)][target]; out == "" || out == release.Errored {
				o.breaks("wave", "wave %d of %s begins, and %s is %q", e.Wave, key(id, d.Number), target, out)
			}
		}
		o.timed("wave", before, d, e.Timing, e.At)
	case release.DeploymentResumed:
		o.counts["resumed"]++
		d := before.Deployments[e.Deployment-1]
		for _, waits := range d.Waits {
			if c := o.changes[waits]; c.Authorized == nil || c.Held != nil {
				o.breaks("emergent", "%s goes on, and %s is not in force", key(id, d.Number), waits)
			}
		}
		o.timed("resumption", before, d, e.Timing, e.At)
	case release.Reported:
		o.reported(id, before, e)
	case release.DeploymentFinished:
		o.finished(id, before, e)
	case release.DeploymentEnded:
		o.counts["ended"]++
		o.ended(id, before.Deployments[e.Deployment-1])
	case release.HoldSet:
		o.counts["held"]++
		at := [2]string{id, e.Environment}
		if o.holds[at] == nil {
			o.holds[at] = map[string]bool{}
		}
		o.holds[at][""] = true
		undone := before.Deployments[e.Deployment-1]
		last := before.Deployments[len(before.Deployments)-1]
		for _, i := range undone.Items {
			for _, back := range last.Items {
				if back.CI == i.CI && back.After != i.After {
					o.holds[at][i.CI+"="+i.After] = true
				}
			}
		}
	case release.HoldLifted:
		o.counts["lifted"]++
		delete(o.holds, [2]string{id, e.Environment})
	}
}

// before returns an environment and all that lie before it.
func (o *oracle) before(name string) []string {
	all := []string{name}
	for i := 0; i < len(all); i++ {
		e, _ := o.graph.Find(all[i])
		for _, up := range e.Upstream {
			if !slices.Contains(all, up) {
				all = append(all, up)
			}
		}
	}
	return all
}

func (o *oracle) started(id string, before release.Release, e release.DeploymentStarted) {
	o.counts["started"]++
	for _, i := range e.Items {
		at := [2]string{e.Environment, i.CI}
		if o.active[at] == nil {
			o.active[at] = map[string]time.Time{}
		}
		o.active[at][key(id, e.Number)] = e.At
	}
	o.timed("deployment", before, release.Deployment{DeploymentStarted: e}, e.Timing, e.At)
	if e.Production {
		o.counts["production started"]++
		for _, missing := range o.missing(e.Changes, e.Items) {
			o.breaks("unauthorised", "deployment %d of %s begins: %s", e.Number, id, missing)
		}
	}
	if e.RollsBack > 0 {
		o.counts["rolled back"]++
		return
	}
	if e.Production {
		for _, change := range e.Changes {
			for _, delta := range o.changes[change].Deltas {
				for _, i := range e.Items {
					if delta.Op == cmdb.OpSet && delta.Attribute == "version" && (delta.CI == i.CI || delta.CI == i.Instance) && delta.After != i.After {
						o.breaks("other version", "%s brings %s of %s, and %s says %s", id, i.After, i.CI, change, delta.After)
					}
				}
			}
		}
	}
	for _, up := range o.before(e.Environment) {
		for _, i := range e.Items {
			for of, held := range o.holds {
				if of[1] == up && (of[0] == id || held[i.CI+"="+i.After]) {
					o.breaks("hold", "%s goes to %s past the hold of %s in %s", key(id, e.Number), e.Environment, of[0], up)
				}
			}
		}
	}
	env, _ := o.graph.Find(e.Environment)
	for _, up := range env.Upstream {
		for _, i := range e.Items {
			o.promoted(env, up, i, e.At)
		}
	}
	if e.Environment == "production" && !(o.voters[id]["bob"] && o.voters[id]["ben"]) {
		o.breaks("gate", "%s goes to production, approved by %v", key(id, e.Number), o.voters[id])
	}
}

// promoted judges whether a version has been where it has to have been.
func (o *oracle) promoted(env release.Environment, up string, i release.Item, now time.Time) {
	been, soaked, took := false, false, false
	for _, was := range o.occupied[[2]string{up, i.CI}] {
		if was.version != i.After {
			continue
		}
		until := was.until
		if until.IsZero() {
			until = now
			for _, since := range o.active[[2]string{up, i.CI}] {
				until = since
			}
		}
		been = true
		if until.Sub(was.since) >= time.Duration(env.Soak) {
			soaked = true
			took = took || was.successes >= env.MinSuccesses
		}
	}
	switch {
	case !been:
		o.breaks("promotion", "%s %s goes to %s, and was never in %s", i.CI, i.After, env.Name, up)
	case !soaked:
		o.breaks("soak", "%s %s goes to %s, and was not in %s for %v", i.CI, i.After, env.Name, up, env.Soak)
	case !took:
		o.breaks("successes", "%s %s goes to %s, and not enough took it in %s", i.CI, i.After, env.Name, up)
	}
}

// timed judges what the calendar said of a deployment that begins, goes on or is
// resumed.
func (o *oracle) timed(what string, r release.Release, d release.Deployment, t *change.Timing, at time.Time) {
	switch {
	case !d.Production:
		return
	case !o.fake:
		o.deployedAt(what, r, d, t, at)
		return
	}
	if t == nil || !t.Window.Holds(at) {
		o.breaks("closed", "at %v the calendar was not asked about the time", at)
		return
	}
	for _, c := range t.Conflicts {
		if c.Stands() {
			o.breaks("closed", "at %v %s stands", at, c.Rule)
		}
	}
	if at.Sub(at.Truncate(6*time.Hour)) >= 5*time.Hour && len(t.Conflicts) == 0 {
		o.breaks("closed", "at %v nobody took it upon himself", at)
	}
}

func (o *oracle) reported(id string, before release.Release, e release.Reported) {
	d := before.Deployments[e.Deployment-1]
	at := key(id, e.Deployment)
	if _, had := o.reports[at+"/"+e.ID]; had {
		o.breaks("report", "%s says twice %s", at, e.ID)
	}
	o.reports[at+"/"+e.ID] = e
	if e.Digest != "" && e.Digest != digest && !slices.ContainsFunc(d.Items, func(i release.Item) bool { return i.Digest == "" }) {
		o.breaks("digest", "%s of %s", e.Digest, at)
	}
	if o.outcomes[at] == nil {
		o.outcomes[at] = map[string]release.Outcome{}
	}
	o.outcomes[at][e.Target] = e.Outcome
	if o.errs[at]++; e.Outcome != release.Errored {
		o.errs[at] = 0
	}
	if !d.Active() {
		o.breaks("report", "%s is %s", at, d.State)
	}
}

func (o *oracle) ended(id string, d release.Deployment) {
	for _, i := range d.Items {
		at := [2]string{d.Environment, i.CI}
		delete(o.active[at], key(id, d.Number))
		if list := o.occupied[at]; len(d.Reports) > 0 && len(list) > 0 && list[len(list)-1].until.IsZero() {
			// What was there before has been disturbed.
			list[len(list)-1].until = d.At
		}
	}
}

func (o *oracle) finished(id string, before release.Release, e release.DeploymentFinished) {
	o.counts["finished"]++
	d := before.Deployments[e.Deployment-1]
	if d.Production {
		o.counts["production finished"]++
	}
	at := key(id, d.Number)
	o.give(d.Items, e.Deltas)
	failed, took := 0, 0
	for _, w := range d.Waves {
		for _, target := range w.Targets {
			switch o.outcomes[at][target] {
			case release.Successful:
				took++
			case release.Unsuccessful:
				failed++
			case release.Inconclusive:
			default:
				o.breaks("unfinished", "%s finishes without %s", at, target)
			}
		}
	}
	if failed > d.Limits.Failures {
		o.breaks("limits", "%s finishes with %d failures", at, failed)
	}
	for _, i := range d.Items {
		where := [2]string{d.Environment, i.CI}
		delete(o.active[where], at)
		if list := o.occupied[where]; len(list) > 0 && list[len(list)-1].until.IsZero() {
			list[len(list)-1].until = d.At
		}
		o.occupied[where] = append(o.occupied[where], occupied{version: i.After, since: e.At, successes: took})
	}
	if !d.Production || e.More || d.RollsBack > 0 {
		return
	}
	for _, id := range d.Changes {
		c := o.changes[id]
		pending := slices.ContainsFunc(c.Releases, func(r change.Carried) bool {
			return r.State != change.CarryDelivered && r.State != change.CarryBackedOut && r.State != change.CarryUnbound
		})
		if (c.Work != nil) == pending {
			o.breaks("changes", "%s finishes, and of %s the work is ended: %t, and others wait: %t", at, id, c.Work != nil, pending)
		}
	}
}

// give takes down which version an instance was given, and which environment: by a deployment that brings
// it, or by the deltas of a change that is carried out, by hand or beside what a
// deployment brings.
func (o *oracle) give(items []release.Item, deltas []cmdb.Delta) {
	for _, d := range deltas {
		switch {
		case d.Op == cmdb.OpAdd:
			o.belongs[d.CI] = d.Attributes["environment"]
		case d.Op == cmdb.OpSet && d.Attribute == "environment":
			o.belongs[d.CI] = d.After
		case d.Op == cmdb.OpSet && d.Attribute == "version":
			o.given[d.CI] = d.After
		}
	}
	for _, i := range items {
		o.given[i.Instance] = i.After
	}
}

// graphAgrees requires that the CMDB has the versions that it was given.
func (o *oracle) graphAgrees(w *walker) {
	for instance, version := range o.given {
		if got := w.inGraph(instance); got != version {
			o.breaks("graph", "%s has %q, and was given %q", instance, got, version)
		}
	}
}
