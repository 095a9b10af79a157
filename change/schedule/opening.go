package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
)

// Horizon is how far is looked for the next opening where nothing else is said.
const Horizon = 90 * 24 * time.Hour

// Opening says whether a time is open to something, and why.
type Opening struct {
	Open    bool      `json:"open"`
	Why     string    `json:"why"`
	Window  string    `json:"window,omitzero"`  // ID of the one that closes it, or that allows it; empty: none is needed
	Until   time.Time `json:"until,omitzero"`   // open: when it closes; closed: when it may be other; zero: not within the horizon
	Next    time.Time `json:"next,omitzero"`    // closed: when it is open next for as long; zero: not within the horizon
	Against []Against `json:"against,omitzero"` // closed: every window that stands against it, by the time from which it does
}

// Against is a window that stands against a time.
type Against struct {
	Rule    string        `json:"rule"`    // Blackout or OutsideMaintenance
	Window  Window        `json:"window"`  // outside of maintenance: of those that allow, the one with the smallest ID
	Overlap change.Window `json:"overlap"` // the first time for which it does; an instant where that was asked for
	Effects Effects       `json:"effects"` // outside of maintenance: at each point the strongest of all that allow

	last time.Time // when the last time ends for which it does
}

// The rules of windows (DOMAIN 2.2).
const (
	Blackout           = "blackout"
	OutsideMaintenance = "outside-maintenance"
)

// Judge applies the open rule (DOMAIN 2.1) to an interval: it is open to x if no
// window that matches x and denies is active at any time of it, and either no
// window that matches x allows, or those that do are active, one after the other,
// for all of it. An interval without length is the instant at its start.
//
// The horizon counts from the start of the interval; 0 is [Horizon]. It costs what
// the windows that match recur within the interval; for the next opening, up to
// four times what they recur until then.
func Judge(windows []*Compiled, x Subject, over change.Window, horizon time.Duration) Opening {
	if horizon <= 0 {
		horizon = Horizon
	}
	over = change.Window{Start: over.Start.UTC(), End: later(over.Start, over.End).UTC()}
	if over.End.Equal(over.Start) {
		over.End = over.Start.Add(instant)
		o := judge(windows, x, over, horizon)
		for i := range o.Against {
			o.Against[i].Overlap.End, o.Against[i].last = o.Against[i].Overlap.Start, o.Against[i].Overlap.Start
		}
		return o
	}
	return judge(windows, x, over, horizon)
}

// instant is the length of what has none, the shortest there is.
const instant = time.Nanosecond

func judge(windows []*Compiled, x Subject, over change.Window, horizon time.Duration) Opening {
	m := match(windows, x)
	t := m.times(over)
	o := Opening{Against: t.against(over)}
	end := over.Start.Add(horizon)
	if len(o.Against) == 0 {
		o.Open = true
		o.Until = m.closes(over, end)
		o.Why, o.Window = t.openSince(over)
		return o
	}
	first := o.Against[0]
	o.Window = first.Window.ID
	switch first.Rule {
	case Blackout:
		o.Why = fmt.Sprintf("%s denies it from %s on", first.Window.called(), first.Overlap.Start.Format(time.RFC3339))
		if first.Window.Reason != "" {
			o.Why += ": " + first.Window.Reason
		}
		o.Until = m.ends(t.denying(first), first.Overlap.Start, end)
	default:
		o.Why = fmt.Sprintf("it is outside of maintenance from %s on: %s allows it at other times", first.Overlap.Start.Format(time.RFC3339), first.Window.called())
		if len(t.allows) > 1 {
			o.Why = fmt.Sprintf("it is outside of maintenance from %s on: %s and %d more allow it at other times", first.Overlap.Start.Format(time.RFC3339), first.Window.called(), len(t.allows)-1)
		}
		o.Until = m.nextAllowed(first.Overlap.Start, end)
	}
	o.Next = m.next(over, end)
	return o
}

// called names w to people.
func (w Window) called() string {
	if w.ID == "" {
		return fmt.Sprintf("%q", w.Name)
	}
	return fmt.Sprintf("%s %q", w.ID, w.Name)
}

// Open returns when x is open within an interval, in order, cut to it.
func Open(windows []*Compiled, x Subject, within change.Window) []change.Window {
	return match(windows, x).open(change.Window{Start: within.Start.UTC(), End: within.End.UTC()})
}

// matching are the windows that match a subject, by what they do.
type matching struct {
	denies, allows []*Compiled
	children       map[*Compiled][]*Compiled // those that mask it
}

// match sorts out what the windows do to x.
func match(windows []*Compiled, x Subject) *matching {
	m := &matching{children: map[*Compiled][]*Compiled{}}
	var byID map[string]*Compiled
	for _, c := range windows {
		if !c.window.Scope.Matches(x) {
			continue
		}
		var parent *Compiled
		if c.window.Parent != "" {
			if byID == nil {
				byID = make(map[string]*Compiled, len(windows))
				for _, w := range windows {
					byID[w.window.ID] = w
				}
			}
			if parent = byID[c.window.Parent]; parent == nil {
				continue
			}
			m.children[parent] = append(m.children[parent], c)
			if parent.window.Kind != c.window.Kind {
				continue
			}
		}
		if c.window.Kind == Deny {
			m.denies = append(m.denies, c)
		} else {
			m.allows = append(m.allows, c)
		}
	}
	byName := func(a, b *Compiled) int {
		return cmp.Or(cmp.Compare(a.window.ID, b.window.ID), cmp.Compare(a.window.Name, b.window.Name))
	}
	slices.SortStableFunc(m.denies, byName)
	slices.SortStableFunc(m.allows, byName)
	return m
}

// active returns when c is active and not masked within an interval.
func (m *matching) active(c *Compiled, within change.Window) []change.Window {
	return m.unmasked(c, within, nil)
}

// unmasked is active, for a window below others. One that is below itself masks
// nothing there: that is a fault of whoever defined it, and closes rather than opens.
func (m *matching) unmasked(c *Compiled, within change.Window, above []*Compiled) []change.Window {
	spans := slices.Collect(c.Between(within.Start, within.End))
	if len(m.children[c]) == 0 || len(spans) == 0 {
		return spans
	}
	above = append(slices.Clip(above), c)
	for _, child := range m.children[c] {
		if !slices.Contains(above, child) {
			spans = without(spans, m.unmasked(child, within, above))
		}
	}
	return spans
}

// times are the matching windows with the times at which they are active.
type times struct {
	denies, allows []activity
	allowed        []change.Window // by any that allows
}

type activity struct {
	*Compiled
	spans []change.Window
}

func (m *matching) times(within change.Window) times {
	var t times
	for _, c := range m.denies {
		t.denies = append(t.denies, activity{c, m.active(c, within)})
	}
	for _, c := range m.allows {
		a := activity{c, m.active(c, within)}
		t.allows = append(t.allows, a)
		t.allowed = append(t.allowed, a.spans...)
	}
	t.allowed = union(t.allowed)
	return t
}

// against returns what stands against an interval, earliest first.
func (t times) against(over change.Window) []Against {
	var list []Against
	for _, d := range t.denies {
		if len(d.spans) > 0 {
			list = append(list, Against{Blackout, d.window, d.spans[0], d.window.Effects, d.spans[len(d.spans)-1].End})
		}
	}
	if len(t.allows) > 0 {
		if gaps := without([]change.Window{over}, t.allowed); len(gaps) > 0 {
			a := Against{OutsideMaintenance, t.allows[0].window, gaps[0], t.allows[0].window.Effects, gaps[len(gaps)-1].End}
			for _, w := range t.allows[1:] {
				a.Effects = a.Effects.stronger(w.window.Effects)
			}
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b Against) int { return a.Overlap.Start.Compare(b.Overlap.Start) })
	return list
}

// denying returns the window that a blackout is of.
func (t times) denying(a Against) *Compiled {
	i := slices.IndexFunc(t.denies, func(d activity) bool {
		return d.window.ID == a.Window.ID && len(d.spans) > 0 && d.spans[0] == a.Overlap
	})
	return t.denies[i].Compiled
}

// stronger returns at each point the stronger effect.
func (e Effects) stronger(o Effects) Effects {
	return Effects{
		Plan:      Stronger(e.At(change.Planned), o.At(change.Planned)),
		Authorize: Stronger(e.At(change.ToAuthorize), o.At(change.ToAuthorize)),
		Start:     Stronger(e.At(change.ToStart), o.At(change.ToStart)),
	}
}

// openSince says why an interval that is open is.
func (t times) openSince(over change.Window) (why, window string) {
	if len(t.allows) == 0 {
		if len(t.denies) == 0 {
			return "no window is about it", ""
		}
		return "no window denies it then, and none says when it is allowed", ""
	}
	for _, a := range t.allows {
		if len(a.spans) > 0 && !a.spans[0].Start.After(over.Start) {
			return fmt.Sprintf("%s allows it", a.window.called()), a.window.ID
		}
	}
	return "windows allow it", "" // cannot be: one is active at its start
}

// open returns when the subject is open within an interval.
func (m *matching) open(within change.Window) []change.Window {
	if !within.Start.Before(within.End) {
		return nil
	}
	t := m.times(within)
	spans := []change.Window{within}
	if len(t.allows) > 0 {
		spans = t.allowed
	}
	var denied []change.Window
	for _, d := range t.denies {
		denied = append(denied, d.spans...)
	}
	return without(spans, union(denied))
}

// reach calls look with intervals from a start on, each four times as long as the
// one before, until it has found something or the interval was the whole. It is
// how what is near is found without looking far.
func reach(start, end time.Time, look func(within change.Window) bool) {
	const first = 7 * 24 * time.Hour
	for length := first; ; length *= 4 {
		last := start.Add(length)
		if !last.Before(end) || length > 1<<60 {
			look(change.Window{Start: start, End: end})
			return
		}
		if look(change.Window{Start: start, End: last}) {
			return
		}
	}
}

// next returns the first time, not before the start of an interval and before
// end, from which on it is open for as long.
func (m *matching) next(over change.Window, end time.Time) (found time.Time) {
	length := over.End.Sub(over.Start)
	reach(over.Start, end, func(within change.Window) bool {
		within.End = within.End.Add(length)
		for _, o := range m.open(within) {
			if o.End.Sub(o.Start) >= length && o.Start.Before(end) {
				found = o.Start
				return true
			}
		}
		return false
	})
	return found
}

// closes returns when what is open in an interval is so no more; zero: not before end.
func (m *matching) closes(over change.Window, end time.Time) (at time.Time) {
	reach(over.Start, end, func(within change.Window) bool {
		if open := m.open(within); len(open) > 0 && open[0].End.Before(within.End) {
			at = open[0].End
			return true
		}
		return false
	})
	return at
}

// ends returns when a window that is active at a time is so no more.
func (m *matching) ends(c *Compiled, from, end time.Time) (at time.Time) {
	reach(from, end, func(within change.Window) bool {
		if spans := m.active(c, within); len(spans) > 0 && spans[0].End.Before(within.End) {
			at = spans[0].End
			return true
		}
		return false
	})
	return at
}

// nextAllowed returns when a window allows next.
func (m *matching) nextAllowed(from, end time.Time) (at time.Time) {
	reach(from, end, func(within change.Window) bool {
		t := m.times(within)
		if len(t.allowed) > 0 {
			at = t.allowed[0].Start
		}
		return len(t.allowed) > 0
	})
	return at
}

// union returns intervals in order, those that overlap or touch as one, in place.
func union(spans []change.Window) []change.Window {
	slices.SortFunc(spans, func(a, b change.Window) int { return a.Start.Compare(b.Start) })
	list := spans[:0]
	for _, s := range spans {
		if n := len(list); n > 0 && !s.Start.After(list[n-1].End) {
			list[n-1].End = later(list[n-1].End, s.End)
		} else {
			list = append(list, s)
		}
	}
	return list
}

// without returns what remains of intervals when others are taken out; both are
// in order, and none of one list touches another of it.
func without(spans, out []change.Window) []change.Window {
	if len(out) == 0 {
		return spans
	}
	list := make([]change.Window, 0, len(spans)+len(out))
	for _, s := range spans {
		for len(out) > 0 && !out[0].End.After(s.Start) {
			out = out[1:]
		}
		for i := 0; i < len(out) && out[i].Start.Before(s.End); i++ {
			if s.Start.Before(out[i].Start) {
				list = append(list, change.Window{Start: s.Start, End: out[i].Start})
			}
			s.Start = out[i].End
		}
		if s.Start.Before(s.End) {
			list = append(list, s)
		}
	}
	return list
}
