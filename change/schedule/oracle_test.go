package schedule_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
)

// near returns what lies within some steps of CIs, by trying all relations again
// and again.
func (f *random) near(of []string, depth int, up bool) map[string]bool {
	all := map[string]bool{}
	front := of
	for range depth {
		var next []string
		for _, one := range front {
			for _, n := range f.needs {
				from, to := n[0], n[1]
				if !up {
					from, to = to, from
				}
				if from == one && !slices.Contains(of, to) && !all[to] {
					all[to] = true
					next = append(next, to)
				}
			}
		}
		front = next
	}
	return all
}

func meet(a, b change.Window, touching bool) bool {
	if touching {
		return !a.Start.After(b.End) && !b.Start.After(a.End)
	}
	return a.Start.Before(b.End) && b.Start.Before(a.End)
}

// expected is every conflict of an occasion, "rule with", found by looking at every
// other change and, for windows, at every quarter of an hour.
func (f *random) expected(o change.Occasion, rules schedule.Rules) map[string]bool {
	want := map[string]bool{}
	parents, children := f.near(o.CIs, max(rules.Depth, 0), true), f.near(o.CIs, max(rules.Depth, 0), false)
	team := 0
	for _, id := range f.changes {
		p := f.of[id]
		if id == o.Change {
			continue
		}
		if p.takes() && meet(o.Window, *p.Window, rules.Touching) {
			for _, ci := range p.CIs {
				switch {
				case slices.Contains(o.CIs, ci):
					want["ci-already-scheduled "+id] = true
				case parents[ci]:
					want["parent-already-scheduled "+id] = true
				case children[ci]:
					want["child-already-scheduled "+id] = true
				}
			}
			for _, person := range p.Implementers {
				if slices.Contains(o.People, person) {
					want["assignee-busy "+id] = true
				}
			}
		}
		for _, order := range p.Order {
			if order.Change != o.Change || o.Change == "" || p.Window == nil || p.done || p.ended {
				continue
			}
			if order.Rule == change.MustNotOverlap && meet(o.Window, *p.Window, rules.Touching) ||
				order.Rule == change.MustFollow && p.takes() && p.Window.Start.Before(o.Window.End) {
				want["order-violated "+id] = true
			}
		}
	}
	for _, order := range o.Order {
		p := f.of[order.Change]
		switch {
		case order.Change == o.Change:
		case order.Rule == change.MustNotOverlap:
			if p != nil && p.Window != nil && !p.done && !p.ended && meet(o.Window, *p.Window, rules.Touching) {
				want["order-violated "+order.Change] = true
			}
		case p == nil || p.ended && !p.done || !p.done && (p.Window == nil || p.Window.End.After(o.Window.Start)):
			want["order-violated "+order.Change] = true
		}
	}
	for q := o.Window.Start; q.Before(o.Window.End); q = q.Add(15 * time.Minute) {
		n := 0
		for _, id := range f.changes {
			if p := f.of[id]; id != o.Change && p.takes() && p.Group == o.Group && p.Window.Holds(q) {
				n++
			}
		}
		team = max(team, n+1)
	}
	if most := f.capacity[o.Group]; o.Group != "" && most > 0 && team > most {
		want["team-over-capacity "+o.Group] = true
	}
	f.expectWindows(o, parents, children, want)
	return want
}

func (f *random) expectWindows(o change.Occasion, parents, children map[string]bool, want map[string]bool) {
	said := map[string]bool{}
	look := func(prefix string, ci string) {
		x := schedule.Subject{CI: ci}
		if item, ok := f.graph.CI(ci); ok {
			_, above, _ := f.graph.Class(item.Class)
			x.Classes = append(above, item.Class)
		}
		first := ""
		denied, outside := map[string]bool{}, false
		for q := o.Window.Start; q.Before(o.Window.End); q = q.Add(15 * time.Minute) {
			allows, allowed := 0, false
			for _, w := range f.windows {
				if !w.Scope.Matches(x) {
					continue
				}
				c, err := schedule.Compile(w)
				require.NoError(f.t, err)
				_, active := c.At(q)
				if w.Kind == schedule.Deny && active {
					denied[w.ID] = true
				}
				if w.Kind == schedule.Allow {
					if allows++; first == "" {
						first = w.ID
					}
					allowed = allowed || active
				}
			}
			outside = outside || allows > 0 && !allowed
		}
		for id := range denied {
			if prefix == "" || !said[id] {
				want[prefix+"blackout "+id] = true
			}
		}
		if outside && (prefix == "" || !said[first]) {
			want[prefix+"outside-maintenance "+first] = true
		}
		if prefix == "" {
			for id := range denied {
				said[id] = true
			}
			said[first] = said[first] || outside
		}
	}
	for _, ci := range o.CIs {
		look("", ci)
	}
	if len(o.CIs) == 0 {
		look("", "")
	}
	for _, ci := range cis {
		switch {
		case parents[ci]:
			look("parent-", ci)
		case children[ci]:
			look("child-", ci)
		}
	}
}

func TestConflictsAreThoseThatAreThere(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rules := schedule.Rules{Touching: rapid.Bool().Draw(r, "touching"), Depth: rapid.SampledFrom([]int{-1, 1, 2, 4}).Draw(r, "depth")}
		f := drawWorld(r)
		ask := func(o change.Occasion) {
			found, err := f.fold.Conflicts(o, f.graph, rules)
			require.NoError(r, err)
			have := map[string]bool{}
			ids := map[string]bool{}
			for _, c := range found.Conflicts {
				if c.Rule == schedule.WindowTooShort {
					c.Rule = schedule.OutsideMaintenance
				}
				if c.Rule != schedule.OrderCircular {
					have[c.Rule+" "+c.With] = true
				}
				require.False(r, ids[c.ID], "two conflicts have one identity")
				ids[c.ID] = true
			}
			require.Equal(r, f.expected(o, rules), have)
			want := change.TimingClear
			switch {
			case len(found.Conflicts) > 0:
				want = change.TimingConflict
			case len(o.CIs) == 0:
				want = change.TimingNotApplicable
			}
			require.Equal(r, want, found.Timing.Answer)
		}
		for _, id := range f.changes {
			if p := f.of[id]; !p.ended && p.Window != nil {
				ask(change.Occasion{Point: change.Planned, Change: id, CIs: p.CIs, People: p.Implementers, Group: p.Group, Order: p.Order, Window: *p.Window})
			}
		}
		ask(change.Occasion{Point: change.Planned, CIs: f.cis(r, "asked"), People: f.people(r, "asked"), Group: f.group(r, "asked"), Window: *f.window(r, "asked")})
	})
}
