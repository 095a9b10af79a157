package release

import (
	"fmt"
	"slices"
)

// Wave is the part of the targets that is deployed to at once. People begin the
// next one when all targets of those before have come through.
type Wave struct {
	Name    string   `json:"name,omitzero"` // "ring 1", "10 %", a tenant
	Targets []string `json:"targets"`
}

// Percent divides targets into waves: after the n-th one so many percent of them
// have been deployed to, rounded up. Percentages rise; after the last one comes
// what is left, if anything.
func Percent(targets []string, percent ...int) []Wave {
	var all []Wave
	done := 0
	for _, p := range append(slices.Clone(percent), 100) {
		if to := min((len(targets)*p+99)/100, len(targets)); to > done {
			all = append(all, Wave{Name: fmt.Sprintf("%d %%", p), Targets: slices.Clone(targets[done:to])})
			done = to
		}
	}
	return all
}

// maxTargets bounds a deployment: its events hold every target.
const maxTargets = 5000

// waves returns waves, or the one that stands for none.
func waves(given []Wave, environment string) []Wave {
	if len(given) > 0 {
		return given
	}
	return []Wave{{Targets: []string{environment}}}
}

// waves refuses waves that cannot be meant.
func (d *decision) waves(all []Wave) {
	d.count("waves", len(all), maxList)
	seen := map[string]bool{}
	for i, w := range all {
		at := fmt.Sprintf("waves[%d]", i)
		d.text(at+".name", w.Name, maxTitle, false)
		if len(w.Targets) == 0 {
			d.malformed(at+".targets", "empty-wave", "it has no targets", "leave it out")
		}
		for k, target := range w.Targets {
			field := fmt.Sprintf("%s.targets[%d]", at, k)
			d.text(field, target, maxID, true)
			d.id(field, target)
			if seen[target] {
				d.malformed(field, "target-twice", "target %q is there twice", "deploy to it once", target)
			}
			seen[target] = true
		}
	}
	d.count("waves", len(seen), maxTargets)
}

// wave returns in which wave a target is, from 1; 0: in none.
func (d Deployment) wave(target string) int {
	return 1 + slices.IndexFunc(d.Waves, func(w Wave) bool { return slices.Contains(w.Targets, target) })
}

// outcomes returns the last outcome of every target that was reported.
func (d Deployment) outcomes() map[string]Outcome {
	last := make(map[string]Outcome, len(d.Reports))
	for _, r := range d.Reports {
		last[r.Target] = r.Outcome
	}
	return last
}

// count returns how many targets have this outcome.
func (d Deployment) count(outcome Outcome) int {
	n := 0
	for _, o := range d.outcomes() {
		if o == outcome {
			n++
		}
	}
	return n
}

// unreported returns the targets up to a wave of which it is not known what came
// of them: nobody has said, or the last that was said is an error.
func (d Deployment) unreported(wave int) []string {
	last := d.outcomes()
	var open []string
	for _, w := range d.Waves[:min(wave, len(d.Waves))] {
		for _, target := range w.Targets {
			if o := last[target]; o == "" || o == Errored {
				open = append(open, target)
			}
		}
	}
	return open
}

// errorsInARow returns how many errors the reports end with.
func (d Deployment) errorsInARow() int {
	n := 0
	for i := len(d.Reports) - 1; i >= 0 && d.Reports[i].Outcome == Errored; i-- {
		n++
	}
	return n
}

// report takes what came of a target, and lets the deployment fail where more
// went wrong than its environment allows.
func (d *decision) report(c Report) {
	one, ok := d.numbered(c.Deployment)
	d.text("id", c.ID, maxID, true)
	d.id("id", c.ID)
	d.text("detail", c.Detail, maxText, false)
	if !slices.Contains([]Outcome{Successful, Unsuccessful, Errored, Inconclusive}, c.Outcome) {
		d.malformed("outcome", "unknown-outcome", "there is no outcome %q", "use one of "+allOfOutcomes, c.Outcome)
	}
	if !ok || !d.clear() {
		return
	}
	e := Reported{Deployment: c.Deployment, ID: c.ID, Target: c.Target, Outcome: c.Outcome, CI: c.CI, Digest: c.Digest, Detail: c.Detail, By: d.actor.ID, At: d.now}
	if i := slices.IndexFunc(one.Reports, func(r Reported) bool { return r.ID == c.ID }); i >= 0 {
		said := one.Reports[i]
		said.By, said.At = e.By, e.At
		if said == e {
			return // said twice is said once
		}
		if d.on("report-reused") {
			d.refuse("report-reused", "report %q said something else, of target %q: %s", "give a new ID to a new report", c.ID, said.Target, said.Outcome)
		}
	}
	d.stillOpen()
	if !one.Active() {
		d.refuse("wrong-state", "deployment %d is %s", "report while it is under way", one.Number, one.State)
	}
	switch wave := one.wave(c.Target); {
	case wave == 0:
		d.malformed("target", "unknown-target", "deployment %d does not go to %.100q", "check its name", one.Number, c.Target)
	case wave > one.Wave:
		d.refuse("wave-not-begun", "target %q is in wave %d, and wave %d is under way", "wait for it", c.Target, wave, one.Wave)
	}
	d.digest(one, c)
	d.count("reports", len(one.Reports)+1, maxReports)
	if !d.clear() {
		return
	}
	d.record(e)
	one, _ = d.Deployment(c.Deployment)
	if why := one.exceeded(); why != "" && d.on("limits") {
		d.ended(one, Failed, why)
	}
}

// digest refuses a report of something else than was to be put in place.
func (d *decision) digest(one Deployment, c Report) {
	if c.Digest == "" && c.CI == "" {
		return
	}
	var digests []string
	for _, item := range one.Items {
		if c.CI == "" || item.CI == c.CI || item.Instance == c.CI {
			digests = append(digests, item.Digest)
		}
	}
	switch {
	case len(digests) == 0:
		d.malformed("ci", "unknown-component", "deployment %d does not touch %.100q", "name a CI that it touches", one.Number, c.CI)
	case c.Digest != "" && !slices.Contains(digests, c.Digest) && slices.ContainsFunc(digests, func(s string) bool { return s != "" }) && d.on("digest-mismatch"):
		d.refuse("digest-mismatch", "target %q has %.100s, and the release brings %s", "deploy what the release brings, or edit it", c.Target, c.Digest, list(with(nil, digests...)))
	}
}

// exceeded says which limit is passed, or nothing.
func (d Deployment) exceeded() string {
	for _, l := range []struct {
		what     string
		n, limit int
	}{
		{"failed", d.count(Unsuccessful), d.Limits.Failures},
		{"inconclusive", d.count(Inconclusive), d.Limits.Inconclusive},
		{"errors in a row", d.errorsInARow(), d.Limits.ConsecutiveErrors},
	} {
		if l.n > l.limit {
			return fmt.Sprintf("%s: %d, and at most %d are allowed", l.what, l.n, l.limit)
		}
	}
	return ""
}

// nextWave begins the next wave. In production what let the deployment begin has
// to hold still.
func (d *decision) nextWave(c NextWave) {
	d.stillOpen()
	one, ok := d.running(c.Deployment)
	if !ok || d.roll == nil {
		return
	}
	if one.Wave >= len(one.Waves) {
		d.refuse("no-more-waves", "wave %d is the last one", "finish the deployment", one.Wave)
	}
	if open := one.unreported(one.Wave); len(open) > 0 && d.on("wave-not-done") {
		d.refuse("wave-not-done", "%s has not come through", "wait until all targets of the wave have reported", list(open))
	}
	d.production(d.roll.environment, one.RollsBack > 0)
	d.timing(d.roll.environment)
	if d.clear() {
		d.record(WaveBegun{Deployment: one.Number, Wave: one.Wave + 1, Timing: d.roll.timing, By: d.actor.ID, At: d.now})
	}
}
