package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
)

// alike are subjects that the same windows match, and whose time is therefore
// judged together.
type alike struct {
	windows  []*Compiled // and those that they are exceptions to
	subjects []Subject
	path     []cmdb.Step // to the first of them
}

// together puts subjects for which the same windows hold into one group.
func together(live []*Compiled, subjects []Subject, paths [][]cmdb.Step) []*alike {
	groups := map[string]*alike{}
	var all []*alike
	for i, x := range subjects {
		var matching []*Compiled
		var key strings.Builder
		for n, w := range live {
			if w.window.Scope.Matches(x) {
				matching = append(matching, w)
				fmt.Fprintf(&key, "%d,", n)
			}
		}
		g := groups[key.String()]
		if g == nil {
			g = &alike{windows: parented(live, matching)}
			if paths != nil {
				g.path = paths[i]
			}
			groups[key.String()] = g
			all = append(all, g)
		}
		g.subjects = append(g.subjects, x)
	}
	return all
}

// parented returns windows with those of live that they are exceptions to, which
// need not match what they match.
func parented(live, windows []*Compiled) []*Compiled {
	for _, w := range windows {
		if w.window.Parent == "" {
			continue
		}
		for _, p := range live {
			if p.window.ID == w.window.Parent && !slices.Contains(windows, p) {
				windows = append(windows, p)
			}
		}
	}
	return windows
}

// against is a window that stands against an occasion, with all on which it does:
// with the strongest effect that it has on one of them, for the whole time in which
// it does so on any.
type against struct {
	Against
	prefix   string
	groups   []*alike
	subjects []Subject
	whole    change.Window
}

func (a *against) also(w Against, g *alike) {
	if len(a.groups) == 0 {
		a.Against, a.whole = w, change.Window{Start: w.Overlap.Start, End: w.last}
	}
	a.Effects = a.Effects.stronger(w.Effects)
	a.whole = change.Window{Start: earlier(a.whole.Start, w.Overlap.Start), End: later(a.whole.End, w.last)}
	a.groups, a.subjects = append(a.groups, g), append(a.subjects, g.subjects...)
}

// windows finds what the windows say: against the CIs themselves, then, where a
// window says nothing of those, against CIs near them. A window is one conflict,
// however many CIs it is about. It returns when the windows of the CIs themselves
// are open next for as long; zero if they are open, or not within the horizon.
func (q *query) windows() (next time.Time, err error) {
	live, err := q.s.live()
	if err != nil || len(live) == 0 {
		return time.Time{}, err
	}
	own := together(live, q.estate.subjects(q.o), nil)
	said := map[string]bool{}
	closed := q.closed("", own, said)
	for _, a := range closed {
		said[a.Window.ID] = true
	}
	found := closed
	for _, near := range []struct {
		prefix    string
		relatives []relative
	}{{childPrefix, q.estate.children}, {parentPrefix, q.estate.parents}} {
		var subjects []Subject
		var paths [][]cmdb.Step
		for _, n := range near.relatives {
			subjects, paths = append(subjects, q.estate.subject(n.ci, q.o.Model, nil)), append(paths, n.path)
		}
		found = append(found, q.closed(near.prefix, together(live, subjects, paths), said)...)
	}
	for _, a := range found {
		q.closes(a)
	}
	if len(closed) > 0 {
		next = q.next(own)
	}
	return next, nil
}

// closed returns the windows that stand against subjects, without those that are
// said already, each once.
func (q *query) closed(prefix string, groups []*alike, said map[string]bool) []*against {
	var all []*against
	known := map[string]*against{}
	for _, g := range groups {
		if len(g.windows) == 0 {
			continue
		}
		for _, w := range Judge(g.windows, g.subjects[0], q.o.Window, time.Microsecond).Against {
			key := w.Rule + " " + w.Window.ID
			if said[w.Window.ID] {
				continue
			}
			if known[key] == nil {
				known[key] = &against{prefix: prefix}
				all = append(all, known[key])
			}
			known[key].also(w, g)
		}
	}
	return all
}

// closes adds a window that stands against the occasion.
func (q *query) closes(a *against) {
	c := change.Conflict{Rule: a.prefix + a.Rule, With: a.Window.ID, Overlap: a.whole, Path: a.groups[0].path}
	about := a.subjects[0].CI
	if len(c.Path) > 0 {
		c.CI, c.Related = c.Path[0].From, about
	} else {
		c.CI = about
	}
	on := "it"
	if about != "" {
		on = about
	}
	if n := len(a.subjects) - 1; n > 0 {
		on = fmt.Sprintf("%s and %d more", on, n)
	}
	name := a.Window.Name
	if a.Window.Reason != "" {
		name += ", " + a.Window.Reason
	}
	switch a.Rule {
	case Blackout:
		c.Why = fmt.Sprintf("%q closes %s %s", name, on, when(a.Overlap))
		c.Remedy = "choose another time, or have window " + a.Window.ID + " overridden"
	default:
		c.Why = fmt.Sprintf("%q does not allow work on %s %s", name, on, when(a.Overlap))
		c.Remedy = "choose a time within maintenance, or have window " + a.Window.ID + " overridden"
		if short := q.tooShort(a); short != "" && a.prefix == "" {
			c.Rule, c.Why = WindowTooShort, short
		}
	}
	c.Resolved = q.overridden(a)
	of := func(subject string) string { return identity(c.Rule, subject, c.With) }
	id := of(q.subject())
	if _, known := q.found[id]; known {
		return
	}
	// Which of many CIs comes first has no part in its identity.
	c.Change, c.ID = q.subject(), id
	c.Effect = q.rules.effect(c.Rule, q.o.Point, a.Effects)
	c.Severity = severity[c.Rule]
	if c.Resolved == nil {
		c.Resolved = q.accepted(c, of)
	}
	q.found[id] = c
}

// tooShort says that an occasion begins within maintenance that is shorter than
// it, on all that it is about; empty if it does not.
func (q *query) tooShort(a *against) (says string) {
	w := q.o.Window
	needs := w.End.Sub(w.Start)
	for _, g := range a.groups {
		open := Open(g.windows, g.subjects[0], change.Window{Start: w.Start.Add(-needs), End: w.End.Add(needs)})
		i := slices.IndexFunc(open, func(open change.Window) bool { return open.Holds(w.Start) && open.End.Sub(open.Start) < needs })
		if i < 0 {
			return ""
		}
		if says == "" {
			says = fmt.Sprintf("%q is open %s, which is shorter than the %s that are planned", a.Window.Name, when(open[i]), needs)
		}
	}
	return says
}

// overridden returns who took it upon himself that something happens against a
// window: for this change, or for all that the window is met with, and until its
// end at least. A deployment is covered where it is named itself, or each of the
// changes that it carries out is.
func (q *query) overridden(a *against) (found *change.Resolution) {
	for _, g := range a.groups {
		ids := []string{a.Window.ID}
		if a.Rule == OutsideMaintenance {
			for _, w := range match(g.windows, g.subjects[0]).allows { // an override of any of those that allow
				ids = append(ids, w.ID())
			}
		}
		one := q.overrides(ids, g.subjects)
		if one == nil {
			return nil
		}
		found = cmp.Or(found, one)
	}
	return found
}

// overrides returns who took it upon himself that something happens to subjects
// against one of some windows.
func (q *query) overrides(ids []string, subjects []Subject) *change.Resolution {
	of := func(covers func(o Overridden) bool) *change.Resolution {
		for _, id := range ids {
			if d := q.s.windows[id]; d != nil {
				for _, o := range slices.Backward(d.Overrides) {
					if covers(o) && !q.o.Window.End.After(o.Until) {
						return &change.Resolution{By: o.By, Why: o.Why, Until: o.Until}
					}
				}
			}
		}
		return nil
	}
	found := of(func(o Overridden) bool {
		if o.Change != "" {
			return o.Change == q.o.Change || o.Change == q.o.Release
		}
		return !slices.ContainsFunc(subjects, func(x Subject) bool { return !o.Scope.Matches(x) })
	})
	if found != nil || q.o.Change != "" {
		return found
	}
	for _, id := range q.o.Apart {
		if found = of(func(o Overridden) bool { return o.Change == id }); found == nil {
			return nil
		}
	}
	return found
}

// next returns the first time, not before the occasion, when the windows of all
// groups are open for as long as it takes; zero if there is none within the horizon.
func (q *query) next(groups []*alike) time.Time {
	w := q.o.Window
	within := change.Window{Start: w.Start, End: w.Start.Add(q.rules.Horizon)}
	open := []change.Window{within}
	for _, g := range groups {
		if len(g.windows) > 0 {
			open = both(open, Open(g.windows, g.subjects[0], within))
		}
	}
	for _, o := range open {
		if o.End.Sub(o.Start) >= w.End.Sub(w.Start) {
			return o.Start
		}
	}
	return time.Time{}
}

// both returns what lies in a and in b. Each is in order and does not overlap itself.
func both(a, b []change.Window) []change.Window {
	var all []change.Window
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if w := overlap(a[i], b[j]); w.Start.Before(w.End) {
			all = append(all, w)
		}
		if a[i].End.Before(b[j].End) {
			i++
		} else {
			j++
		}
	}
	return all
}
