package schedule

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
)

// taken returns what takes time within a span, in any order. What reaches out of
// it may be cut to it.
func (w *sweep) taken(in span) []busy {
	var all []busy
	all = w.byChanges(all, in)
	all = w.byWindows(all, in)
	all = w.byTeam(all, in)
	all = w.byOrder(all, in)
	all = w.byPools(all, in)
	return w.byHours(all, in)
}

// margin is how much more time a change takes where touching is a conflict.
func (w *sweep) margin() int64 {
	if w.rules.Touching {
		return 1
	}
	return 0
}

func (w *sweep) byChanges(all []busy, in span) []busy {
	look := func(rule string, t *tree, on string) {
		if !w.matters(rule) {
			return
		}
		t.overlapping(in.wider(w.margin()), func(e *Scheduled) bool {
			if w.counts(e) {
				all = append(all, busy{spanOf(*e.Window).wider(w.margin()), func() string {
					return fmt.Sprintf("%s: %s, %s, %s", rule, on, e.Change, when(*e.Window))
				}})
			}
			return true
		})
	}
	for _, ci := range w.o.CIs {
		look(AlreadyScheduled, w.s.byCI[ci], ci)
	}
	for _, n := range w.estate.parents {
		look(parentPrefix+alreadyScheduled, w.s.byCI[n.ci.ID], n.ci.ID)
	}
	for _, n := range w.estate.children {
		look(childPrefix+alreadyScheduled, w.s.byCI[n.ci.ID], n.ci.ID)
	}
	for _, person := range w.o.People {
		look(AssigneeBusy, w.s.byPerson[person], person)
	}
	return all
}

func (w *sweep) byWindows(all []busy, in span) []busy {
	within := change.Window{Start: micro(in.start), End: micro(in.end)}
	for _, groups := range [][]*alike{w.own, w.near} {
		for _, g := range groups {
			if len(g.windows) == 0 {
				continue
			}
			at := in.start
			closed := func(end int64) {
				if at >= end {
					return
				}
				over := change.Window{Start: micro(at), End: micro(end)}
				all = append(all, busy{span{at, end}, func() string {
					return Judge(g.windows, g.subjects[0], over, time.Microsecond).Why
				}})
			}
			for _, open := range Open(g.windows, g.subjects[0], within) {
				// Windows are as fine as seconds, so that nothing is lost between microseconds.
				closed(open.Start.UnixMicro())
				at = open.End.UnixMicro()
			}
			closed(in.end)
		}
	}
	return all
}

// byTeam returns when the team has as many changes as it can carry out.
func (w *sweep) byTeam(all []busy, in span) []busy {
	most, limited := w.s.capacity[w.o.Group]
	if w.o.Group == "" || !limited || !w.matters(TeamOverCapacity) {
		return all
	}
	type edge struct {
		t    int64
		step int
	}
	var edges []edge
	w.s.byGroup[w.o.Group].overlapping(in, func(e *Scheduled) bool {
		if s := spanOf(*e.Window); w.counts(e) {
			edges = append(edges, edge{max(s.start, in.start), 1}, edge{min(s.end, in.end), -1})
		}
		return true
	})
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.step, b.step)) })
	now, since := 0, int64(0)
	for _, e := range edges {
		before := now
		now += e.step
		switch {
		case before < most && now >= most:
			since = e.t
		case before >= most && now < most && since < e.t:
			all = append(all, busy{span{since, e.t}, func() string {
				return fmt.Sprintf("%s: %s has %d changes to carry out at once already", TeamOverCapacity, w.o.Group, most)
			}})
		}
	}
	return all
}

// byOrder returns the time before what is to be followed, after what follows, and
// of what must not overlap.
func (w *sweep) byOrder(all []busy, in span) []busy {
	if !w.matters(OrderViolated) {
		return all
	}
	take := func(s span, format string, args ...any) {
		all = append(all, busy{s, func() string { return OrderViolated + ": " + fmt.Sprintf(format, args...) }})
	}
	always := span{math.MinInt64 / 2, math.MaxInt64 / 2}
	apart := func(e *Scheduled) {
		if e != nil && e.Window != nil && e.Done.IsZero() {
			take(spanOf(*e.Window).wider(w.margin()), "it must not overlap with %s, %s", e.Change, when(*e.Window))
		}
	}
	for _, o := range w.o.Order {
		e := w.s.open[o.Change]
		ended, known := w.s.ended[o.Change]
		switch {
		case w.apart(o.Change):
		case o.Rule == change.MustNotOverlap:
			apart(e)
		case e == nil && (!known || ended.Done.IsZero()):
			take(always, "it must follow %s, which will not be carried out", o.Change)
		case e == nil || !e.Done.IsZero():
		case e.Window == nil:
			take(always, "it must follow %s, which has no time yet", o.Change)
		default:
			take(span{always.start, e.Window.End.UnixMicro()}, "it must follow %s, %s", o.Change, when(*e.Window))
		}
	}
	if w.o.Change == "" {
		return all
	}
	for _, id := range slices.Sorted(maps.Keys(w.s.ordered[w.o.Change])) {
		e := w.s.open[id]
		for _, o := range e.Order {
			switch {
			case o.Change != w.o.Change || w.apart(id) || e.Window == nil || !e.Done.IsZero():
			case o.Rule == change.MustNotOverlap:
				apart(e)
			case w.counts(e):
				take(span{e.Window.Start.UnixMicro(), always.end}, "%s must follow it, %s", id, when(*e.Window))
			}
		}
	}
	return all
}

// byPools returns when others work on so many members of a pool that it could not
// lose more.
func (w *sweep) byPools(all []busy, in span) []busy {
	if len(w.estate.living) == 0 || w.harmless() || !w.matters(RedundancyLost) {
		return all
	}
	for _, p := range w.pools {
		var downs []down
		for _, m := range p.members {
			if w.estate.own[m.CI.ID] {
				continue
			}
			w.s.byCI[m.CI.ID].overlapping(in, func(e *Scheduled) bool {
				if w.counts(e) && (e.Outage == nil || e.Outage.Expected) {
					downs = append(downs, down{m.CI.ID, e, *e.Window})
				}
				return true
			})
		}
		all = append(all, lost(p.degraded, downs)...)
	}
	return all
}

// lost returns when more members are down than a pool can lose.
func lost(pool cmdb.Degraded, downs []down) []busy {
	var times []int64
	for _, d := range downs {
		s := spanOf(d.at)
		times = append(times, s.start, s.end)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	var all []busy
	for i := 0; i+1 < len(times); i++ {
		gone := map[string]bool{}
		for _, d := range downs {
			if s := spanOf(d.at); s.start <= times[i] && times[i] < s.end {
				gone[d.member] = true
			}
		}
		if len(gone) > pool.Spare {
			all = append(all, busy{span{times[i], times[i+1]}, func() string {
				return fmt.Sprintf("%s: others work on %d more members of %s", RedundancyLost, len(gone), pool.CI)
			}})
		}
	}
	return all
}

// byHours returns the time outside of the hours in which work may be done.
func (w *sweep) byHours(all []busy, in span) []busy {
	if w.hours == nil {
		return all
	}
	why := func() string { return "outside of working hours" }
	at := in.start
	// From the day before, whose hours may reach over midnight, to the day after.
	day := micro(in.start).In(w.zone).AddDate(0, 0, -1)
	for ; ; day = day.AddDate(0, 0, 1) {
		begin := time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, w.zone)
		if begin.UnixMicro() >= in.end {
			break
		}
		if !slices.Contains(w.hours.Days, day.Weekday()) {
			continue
		}
		open := w.clock(day, w.hours.From)
		end := w.clock(day, w.hours.To)
		if w.hours.To <= w.hours.From {
			end = w.clock(day.AddDate(0, 0, 1), w.hours.To)
		}
		if open > at {
			all = append(all, busy{span{at, open}, why})
		}
		at = max(at, end)
	}
	if at < in.end {
		all = append(all, busy{span{at, in.end}, why})
	}
	return all
}

// clock returns a time of a day. A time that the day does not have, since the clock
// is put forward over it, is as much later.
func (w *sweep) clock(day time.Time, c Clock) int64 {
	d := time.Duration(c)
	return time.Date(day.Year(), day.Month(), day.Day(), int(d/time.Hour), int(d/time.Minute)%60, int(d/time.Second)%60, 0, w.zone).UnixMicro()
}
