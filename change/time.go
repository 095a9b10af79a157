package change

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/eventstore/command"
)

// occasion returns what the calendar is asked about a change.
func occasion(c Change, at Point, w Window) Occasion {
	return Occasion{
		Point: at, Change: c.ID, Model: c.Model, Group: c.Group, Window: w, CIs: c.Declared(), Deltas: c.Deltas,
		Tags: c.Tags, People: c.Implementers, Order: c.Order, Apart: []string{c.ID},
	}
}

// time asks the calendar about the change as it is decided so far, records what
// it says, and refuses what stands against it (DOMAIN 2.1).
func (d *decision) time(at Point) {
	if d.judged == nil || !d.clear() {
		return
	}
	timing, err := d.judged(d.Change, at, d.interval(at))
	if err != nil {
		d.stands(command.Unavailable, "window", "calendar-failed", "whether the time is free cannot be found out: %v", "try again, or correct the calendar", []any{err})
		return
	}
	if d.on("calendar") {
		for _, c := range timing.Conflicts {
			if c.Stands() {
				d.refuse(c.Rule, "%s", "%s", c.Why, c.Remedy)
			}
		}
	}
	if d.clear() {
		d.record(Timed{Point: at, Timing: timing, At: d.now})
	}
}

// interval returns the time that is judged: the window as it is planned; at the
// start what is left of it, or where it starts outside of it as long a time from
// now; without a window the moment.
func (d *decision) interval(at Point) Window {
	w := d.Window
	switch {
	case at != ToStart:
		return *w
	case w == nil:
		return Window{d.now, d.now.Add(time.Microsecond)}
	case w.Holds(d.now):
		return Window{d.now, w.End}
	}
	return Window{d.now, d.now.Add(w.End.Sub(w.Start))}
}

// judges says what a calendar judges at a point.
var judges = map[Point]string{
	Planned: "its window is judged", ToAuthorize: "its window is judged to authorise it", ToStart: "its time is judged to start it",
}

// says describes a timing for people.
func (t Timed) says() string {
	s := fmt.Sprintf("%s: %s", judges[t.Point], t.Timing.Answer)
	if t.Timing.Count == 0 {
		return s
	}
	var rules []string
	for _, c := range t.Timing.Conflicts {
		rule := fmt.Sprintf("%s with %s", c.Rule, c.With)
		if c.Resolved != nil {
			rule += fmt.Sprintf(", which %s takes upon himself", c.Resolved.By)
		}
		if !slices.Contains(rules, rule) {
			rules = append(rules, rule)
		}
	}
	return s + ": " + strings.Join(rules, "; ")
}
