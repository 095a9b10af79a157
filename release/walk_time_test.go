package release_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/release"
)

// almanac is the real calendar, out of which faults can be made that a caller or
// the calendar itself might have.
type almanac struct {
	*schedule.Service
	faults []string
	doing  release.Command // what the crowd asks of a release now
}

// scheduled gives releases and changes the real calendar.
func scheduled(c *release.Config, _ *command.Config) { c.Calendar = &almanac{} }

func (a *almanac) has(fault string) bool { return slices.Contains(a.faults, fault) }

// The faults of an almanac.
const (
	changeUnjudged = "change: calendar" // a change is started whatever the calendar says
	beginUnjudged  = "start: calendar"  // a deployment begins
	waveUnjudged   = "wave: calendar"   // goes on to another wave
	resumeUnjudged = "resume: calendar" // is resumed
	onlyNow        = "whole interval"   // only the moment is looked at
	onlyFirst      = "every CI"         // only the first CI is
	nowhere        = "environments"     // the environment is not known
	forEver        = "until"            // overrides do not end
	likePlanned    = "effect at start"  // effects are those of planning
	oneForAll      = "each change"      // an override for one change covers all that a deployment carries out
)

// Judge asks the schedule, with the faults that are asked for.
func (a *almanac) Judge(tx *command.Tx, o change.Occasion) (change.Timing, error) {
	asked := o.Window
	if len(a.faults) == 0 {
		return a.Service.Judge(tx, o)
	}
	if o.Release != "" {
		if a.has(onlyNow) {
			o.Window.End = o.Window.Start.Add(time.Microsecond)
		}
		if a.has(onlyFirst) && len(o.CIs) > 0 {
			o.CIs = o.CIs[:1]
		}
		if a.has(nowhere) {
			o.Environments = nil
		}
		if a.has(likePlanned) {
			o.Point = change.Planned
		}
	}
	t, err := a.Service.Judge(tx, o)
	if err != nil {
		return t, err
	}
	t.Window = asked
	switch a.doing.(type) {
	case release.NextWave:
		a.pass(&t, o.Release != "" && a.has(waveUnjudged))
	case release.Resume:
		a.pass(&t, o.Release != "" && a.has(resumeUnjudged))
	default:
		a.pass(&t, o.Release != "" && a.has(beginUnjudged))
	}
	a.pass(&t, o.Change != "" && o.Point == change.ToStart && a.has(changeUnjudged))
	return t, a.lenient(tx, o, &t)
}

// pass lets everything pass.
func (a *almanac) pass(t *change.Timing, so bool) {
	for i := range t.Conflicts {
		if so {
			t.Conflicts[i].Effect = change.Warn
		}
	}
}

// lenient resolves what another look would, that is made with a fault.
func (a *almanac) lenient(tx *command.Tx, o change.Occasion, t *change.Timing) error {
	var looks []change.Occasion
	if a.has(forEver) {
		short := o
		short.Window.End = short.Window.Start.Add(time.Microsecond)
		looks = append(looks, short)
	}
	if a.has(oneForAll) && o.Release != "" {
		for _, id := range o.Apart {
			one := o
			one.Apart = []string{id}
			looks = append(looks, one)
		}
	}
	for _, look := range looks {
		other, err := a.Service.Judge(tx, look)
		if err != nil {
			return err
		}
		for i, c := range t.Conflicts {
			for _, same := range other.Conflicts {
				if same.Rule == c.Rule && same.With == c.With && c.Resolved == nil {
					t.Conflicts[i].Resolved = same.Resolved
				}
			}
		}
	}
	return nil
}

// windowRules are the rules by which a window refuses something.
var windowRules = []string{schedule.Blackout, schedule.OutsideMaintenance, schedule.WindowTooShort, "child-" + schedule.Blackout}

// timeActs is what the crowd does to time: windows come, change and go, somebody
// takes them upon himself, and changes are put under times of their own.
func (w *walker) timeActs(ctx context.Context) {
	switch n := w.r.IntN(100); {
	case n < 40 || len(w.windows) == 0:
		w.define(ctx)
	case n < 55:
		w.windowed(schedule.RetireWindow{Window: one(w.r, w.windows...), Why: "over"})
	case n < 70:
		w.override(one(w.r, w.windows...), one(w.r, append(slices.Clone(w.changes), w.releases...)...), w.scope())
	case n < 85 && len(w.changes) > 0:
		w.accept(ctx, one(w.r, w.changes...))
	case len(w.changes) > 0:
		_, err := w.house.changes.Do(ctx, carol, one(w.r, w.changes...), change.Edit{Set: change.Content{Window: w.planned()}})
		w.took(err)
	}
	w.clock.pass(time.Millisecond)
}

func (w *walker) windowed(c schedule.Command) bool {
	_, err := w.schedule.Do(context.Background(), carol, c)
	return w.took(err)
}

// planned is a time for a change: of some hours, soon.
func (w *walker) planned() *change.Window {
	start := w.clock.now.Truncate(time.Minute).Add(time.Duration(w.r.IntN(90)-45) * time.Minute)
	return change.Between(start, start.Add(time.Duration(2+w.r.IntN(9))*time.Hour))
}

// scope is something that walks are about.
func (w *walker) scope() schedule.Scope {
	ci := one(w.r, "db-01", "shop", "cache")
	switch w.r.IntN(6) {
	case 0:
		return schedule.Scope{Everything: true}
	case 1:
		return schedule.Scope{CIs: []string{ci, "shop"}}
	case 2:
		return schedule.Scope{CIs: []string{ci, ci + "@south", ci + "@dev"}}
	case 3:
		return schedule.Scope{Environments: []string{one(w.r, "production", "production", "south", "dev")}}
	case 4:
		return schedule.Scope{Models: []string{one(w.r, "direct", "normal")}}
	}
	return schedule.Scope{CIs: []string{"db-01", "db-01@south"}, Environments: []string{"production", "south"}}
}

// define defines one of a few windows, or another time for it. Those named "x" are
// exceptions to others. All begin and end at whole minutes.
func (w *walker) define(ctx context.Context) {
	const local = "2006-01-02T15:04:05"
	zone := one(w.r, "", "", "Europe/Berlin")
	place, err := time.LoadLocation(zone)
	require.NoError(w.t, err)
	start := w.clock.now.Truncate(time.Minute).Add(time.Duration(w.r.IntN(420)-120) * time.Minute).In(place)
	length := time.Duration(30+w.r.IntN(180)) * time.Minute
	d := schedule.Window{
		ID: one(w.r, "w-1", "w-2", "w-3", "w-4", "w-5"), Name: "n", Kind: one(w.r, schedule.Deny, schedule.Deny, schedule.Deny, schedule.Allow),
		Scope: w.scope(), Reason: "r", Zone: zone, Start: start.Format(local),
	}
	if d.Kind == schedule.Allow { // work has to be done in them, so that they are longer
		length *= 3
	}
	if w.r.IntN(4) == 0 && len(w.windows) > 0 {
		d.ID, d.Parent = one(w.r, "x-1", "x-2"), one(w.r, w.windows...)
		if strings.HasPrefix(d.Parent, "x") {
			d.Parent = "w-1" // which there may be or not
		}
		d.Kind = one(w.r, schedule.Allow, schedule.Deny)
	}
	if w.r.IntN(3) > 0 {
		d.Duration = change.Duration(length)
	} else {
		d.End = start.Add(length).Format(local)
	}
	if w.r.IntN(2) == 0 {
		d.Rule = one(w.r, "FREQ=DAILY", "FREQ=DAILY;COUNT=2")
		if w.r.IntN(4) == 0 {
			d.Except = []string{start.AddDate(0, 0, 1).Format(local)}
		}
		if w.r.IntN(2) == 0 { // it has been there for days
			start = start.AddDate(0, 0, -1)
			d.Start = start.Format(local)
			if d.End != "" {
				d.End = start.Add(length).Format(local)
			}
		}
	}
	switch w.r.IntN(6) {
	case 0:
		d.Effects.Start = change.Warn
	case 1:
		d.Effects.Authorize = change.Warn
	}
	if w.windowed(schedule.DefineWindow{Window: d}) && !slices.Contains(w.windows, d.ID) {
		w.windows = append(w.windows, d.ID)
	}
}

// override takes a window upon somebody, for a change or release, or for a scope,
// for some hours.
func (w *walker) override(window, id string, scope schedule.Scope) {
	c := schedule.Override{Window: window, Change: id, Why: "y", Until: w.clock.now.Truncate(time.Minute).Add(time.Duration(30+w.r.IntN(300)) * time.Minute)}
	if id == "" || w.r.IntN(3) == 0 {
		c.Change, c.Scope = "", scope
	}
	w.windowed(c)
}

// accept takes a conflict of a change with a window upon somebody, if it has one.
func (w *walker) accept(ctx context.Context, id string) {
	found, err := w.schedule.Conflicts(ctx, id)
	if is(err, schedule.ErrUnknownChange) {
		return
	}
	require.NoError(w.t, err)
	for _, c := range found.Conflicts {
		if slices.Contains(windowRules, c.Rule) {
			w.windowed(schedule.Accept{Conflict: c.ID, Change: id, Why: "y", Until: one(w.r, time.Time{}, c.Overlap.End, c.Overlap.End.Add(time.Hour))})
			return
		}
	}
}

// met returns the windows that refuse something, as those read it who are told.
func (w *walker) met(why []command.Refusal) (met []string) {
	for _, refused := range why {
		if !slices.Contains(windowRules, refused.Rule) {
			continue
		}
		for _, id := range w.windows {
			if strings.Contains(refused.Remedy, "window "+id+" ") && !slices.Contains(met, id) {
				met = append(met, id)
			}
		}
	}
	return met
}

// excuse has a conflict of a change accepted, or its windows overridden, that kept
// it from being authorised; false if nobody does.
func (w *walker) excuse(ctx context.Context, id string, err error) bool {
	var refused *command.Error
	if !errors.As(err, &refused) {
		return false
	}
	met := w.met(refused.Refusals)
	if len(met) == 0 || w.r.IntN(3) == 0 {
		return false
	}
	w.counts["change refused by a window"]++
	if w.r.IntN(2) == 0 {
		w.accept(ctx, id)
		w.clock.pass(time.Millisecond)
		return true
	}
	for _, window := range met {
		w.windowed(schedule.Override{Window: window, Change: id, Why: "y", Until: w.clock.now.Add(time.Duration(w.r.IntN(20)+1) * time.Hour)})
		w.clock.pass(time.Millisecond)
	}
	return true
}

// overrule has windows overridden that refuse what is asked of a release.
func (w *walker) overrule(ctx context.Context, r release.Release, why []command.Refusal) bool {
	met := w.met(why)
	if len(met) == 0 {
		return false
	}
	w.counts["deployment refused by a window"]++
	if w.r.IntN(3) == 0 {
		return false
	}
	who := w.r.IntN(4)
	for _, id := range met {
		switch who {
		case 0:
			w.override(id, "", w.scope())
		case 1:
			w.override(id, r.ID, w.scope())
		case 2:
			for _, b := range r.Changes {
				w.override(id, b.Change, w.scope())
				w.clock.pass(time.Millisecond)
			}
		default:
			for _, b := range r.Changes {
				w.accept(ctx, b.Change)
				w.clock.pass(time.Millisecond)
			}
		}
		w.clock.pass(time.Millisecond)
	}
	return true
}
