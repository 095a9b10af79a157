package release_test

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/release"
)

// posted is a window as the oracle keeps it.
type posted struct {
	schedule.Window
	retired   bool
	overrides []schedule.Overridden
}

// clockwork is what the oracle knows of time: the windows, and who took what upon
// himself. It judges minute by minute, since all windows of the walks begin and
// end at whole minutes.
type clockwork struct {
	windows  map[string]*posted
	accepted []schedule.ConflictAccepted
}

func (k *clockwork) take(payload any) {
	if k.windows == nil {
		k.windows = map[string]*posted{}
	}
	switch e := payload.(type) {
	case schedule.WindowDefined:
		w := cmp.Or(k.windows[e.Window.ID], &posted{})
		w.Window, w.retired = e.Window, false
		k.windows[e.Window.ID] = w
	case schedule.WindowRetired:
		k.windows[e.Window].retired = true
	case schedule.Overridden:
		k.windows[e.Window].overrides = append(k.windows[e.Window].overrides, e)
	case schedule.ConflictAccepted:
		k.accepted = append(k.accepted, e)
	}
}

// thing is what is worked on: a CI in an environment, by something of a model.
type thing struct{ ci, environment, model string }

// matches reports whether a scope is about a thing.
func matches(s schedule.Scope, x thing) bool {
	in := func(values []string, has string) bool {
		return len(values) == 0 || has != "" && slices.Contains(values, has)
	}
	return s.Everything || len(s.CIs)+len(s.Environments)+len(s.Models) > 0 &&
		in(s.CIs, x.ci) && in(s.Environments, x.environment) && in(s.Models, x.model)
}

// occurs reports whether one occurrence of w has the moment t in it: day by day from
// the first one on.
func (w *posted) occurs(t time.Time) bool {
	place, err := time.LoadLocation(w.Zone)
	if err != nil {
		panic(err)
	}
	at := func(local string, day int) time.Time {
		first, err := time.Parse("2006-01-02T15:04:05", local)
		if err != nil {
			panic(err)
		}
		return time.Date(first.Year(), first.Month(), first.Day()+day, first.Hour(), first.Minute(), 0, 0, place)
	}
	days := map[string]int{"": 1, "FREQ=DAILY": 1000, "FREQ=DAILY;COUNT=2": 2}[w.Rule]
	for day := range days {
		start := at(w.Start, day)
		if start.After(t) {
			return false
		}
		end := start.Add(time.Duration(w.Duration))
		if w.End != "" {
			end = at(w.End, day)
		}
		left := slices.ContainsFunc(w.Except, func(e string) bool { return at(e, 0).Equal(start) })
		if t.Before(end) && !left {
			return true
		}
	}
	return false
}

// holds reports whether a window is in force for x at all, by its scope and parent.
func (k *clockwork) holds(w *posted, x thing) bool {
	if w.retired || !matches(w.Scope, x) {
		return false
	}
	parent := k.windows[w.Parent]
	return w.Parent == "" || parent != nil && !parent.retired
}

// active reports whether a window does to x at t what it is for: no exception is in
// its place.
func (k *clockwork) active(w *posted, x thing, t time.Time) bool {
	if !w.occurs(t) {
		return false
	}
	for _, child := range k.windows {
		if child.Parent == w.ID && k.holds(child, x) && child.occurs(t) {
			return false
		}
	}
	return true
}

// does reports whether a window says something of its own: an exception of the
// other kind only takes something away.
func (k *clockwork) does(w *posted) bool {
	return w.Parent == "" || k.windows[w.Parent].Kind == w.Kind
}

// moments are those at which an interval has to be looked at.
func moments(at change.Window) []time.Time {
	all := []time.Time{at.Start}
	for t := at.Start.Truncate(time.Minute).Add(time.Minute); t.Before(at.End); t = t.Add(time.Minute) {
		all = append(all, t)
	}
	return all
}

// shut is something that stands against x, and when.
type shut struct {
	rule    string
	windows []*posted // of a blackout one, otherwise all that allow
	blocks  bool      // to start
	times   []time.Time
}

// against returns what stands against an interval.
func (k *clockwork) against(x thing, at change.Window) []shut {
	var all []shut
	blocks := func(w *posted) bool { return w.Effects.Start == "" || w.Effects.Start == change.Block }
	outside := shut{rule: schedule.OutsideMaintenance}
	for _, w := range k.windows {
		switch {
		case !k.holds(w, x) || !k.does(w):
		case w.Kind == schedule.Allow:
			outside.windows = append(outside.windows, w)
			outside.blocks = outside.blocks || blocks(w)
		default:
			s := shut{rule: schedule.Blackout, windows: []*posted{w}, blocks: blocks(w)}
			for _, t := range moments(at) {
				if k.active(w, x, t) {
					s.times = append(s.times, t)
				}
			}
			all = append(all, s)
		}
	}
	for _, t := range moments(at) {
		if len(outside.windows) > 0 && !slices.ContainsFunc(outside.windows, func(w *posted) bool { return k.active(w, x, t) }) {
			outside.times = append(outside.times, t)
		}
	}
	return slices.DeleteFunc(append(all, outside), func(s shut) bool { return len(s.times) == 0 })
}

// who is for whom something may have been taken upon somebody.
type who struct {
	self    string   // the change or the release
	changes []string // that a release carries out
}

// excused says how it is covered that something stands against x: empty if it is not.
func (k *clockwork) excused(s shut, x thing, at change.Window, w who) string {
	overridden := func(covers func(o schedule.Overridden) bool) bool {
		return slices.ContainsFunc(s.windows, func(w *posted) bool {
			return slices.ContainsFunc(w.overrides, func(o schedule.Overridden) bool { return !o.Until.Before(at.End) && covers(o) })
		})
	}
	if overridden(func(o schedule.Overridden) bool { return o.Change == w.self || o.Change == "" && matches(o.Scope, x) }) {
		return "override"
	}
	each := len(w.changes) > 0
	for _, id := range w.changes {
		each = each && overridden(func(o schedule.Overridden) bool { return o.Change == id })
	}
	if each {
		return "override"
	}
	for _, a := range k.accepted {
		c := a.Conflict
		about := c.Change == w.self || slices.Contains(w.changes, c.Change)
		same := slices.ContainsFunc(s.windows, func(w *posted) bool { return w.ID == c.With }) &&
			(c.Rule == schedule.Blackout) == (s.rule == schedule.Blackout)
		beyond := slices.ContainsFunc(s.times, func(t time.Time) bool {
			return t.Before(c.Overlap.Start) || !t.Before(c.Overlap.End) || !a.Until.IsZero() && !t.Before(a.Until)
		})
		if about && same && !beyond {
			return "acceptance"
		}
	}
	return ""
}

// openTo requires that an interval is open to all things, or that somebody took it
// upon himself, and counts.
func (o *oracle) openTo(what string, things []thing, at change.Window, w who) {
	met, by := false, ""
	for _, x := range things {
		for _, s := range o.times.against(x, at) {
			met = true
			if !s.blocks {
				continue
			}
			excuse := o.times.excused(s, x, at, w)
			if excuse == "" {
				var ids []string
				for _, w := range s.windows {
					ids = append(ids, w.ID)
				}
				o.breaks("closed", "%s of %v: %v in %v, for %v to %v: %s of %v at %d moments from %v", what, w, x, x.environment, at.Start, at.End, s.rule, ids, len(s.times), s.times[0])
			}
			by = cmp.Or(by, excuse)
		}
	}
	o.counts[what+" judged"]++
	if met {
		o.counts[what+" met a window"]++
	}
	if by != "" {
		o.counts[what+" by "+by]++
	}
}

// deployedAt judges the time of a deployment that begins, goes on or is resumed.
func (o *oracle) deployedAt(what string, r release.Release, d release.Deployment, t *change.Timing, at time.Time) {
	if t == nil || !t.Window.Start.Equal(at) || !t.Window.End.After(at) {
		o.breaks("closed", "%s at %v: the calendar was not asked about the time", what, at)
		return
	}
	// It is judged for as long as it was to last when it began.
	if d.Timing != nil && d.Timing.Window.End.After(at) && t.Window.End.Before(d.Timing.Window.End) {
		o.breaks("closed", "%s at %v: judged until %v, and it lasts until %v", what, at, t.Window.End, d.Timing.Window.End)
	}
	w := who{self: r.ID}
	for _, b := range r.Changes {
		if c := o.changes[b.Change]; c.Kind != change.KindClosed && c.Work == nil {
			w.changes = append(w.changes, c.ID)
		}
	}
	if d.RollsBack > 0 {
		w.changes = d.Changes
	}
	var things []thing
	for _, i := range d.Items {
		environment := d.Environment
		if _, of, ok := strings.Cut(i.Instance, "@"); ok {
			environment = of
		}
		things = append(things, thing{i.Instance, environment, r.Process.Name})
	}
	o.openTo(what, things, t.Window, w)
}

// begun judges the time at which the work of a change begins.
func (o *oracle) begun(c change.Change, timed *change.Timed, e change.Started) {
	if timed == nil || timed.Point != change.ToStart || !timed.Timing.Window.Start.Equal(e.At) {
		o.breaks("closed", "%s begins at %v, and the calendar was not asked", c.ID, e.At)
		return
	}
	at := timed.Timing.Window
	if c.Window != nil && c.Window.Holds(e.At) && !at.End.Equal(c.Window.End) {
		o.breaks("closed", "%s begins at %v, judged until %v, and lasts until %v", c.ID, e.At, at.End, c.Window.End)
	}
	var things []thing
	for _, ci := range c.Declared() {
		things = append(things, thing{ci, o.belongs[ci], c.Model})
	}
	if len(things) == 0 {
		things = []thing{{model: c.Model}}
	}
	o.openTo("change", things, at, who{self: c.ID})
}
