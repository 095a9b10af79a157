package schedule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
)

// Need is what room is looked for (DOMAIN 2.3). For is required.
type Need struct {
	For time.Duration // how long it takes

	Change       string   // that is to be planned, or planned anew: its own time is not in its way, and what is not said below is taken from it
	CIs          []string // that are worked on
	People       []string // who carries it out
	Group        string   // the team that does
	Model        string
	Tags         []string
	Environments []string // that are deployed to, beside those of the CIs
	Order        []change.Order

	NotBefore time.Time     // default now
	Within    time.Duration // how far is looked; default the horizon of Rules, 90 days
	Hours     *Hours        // only then; nil at any hour
	Step      time.Duration // slots start at multiples of it from midnight, in the zone of Hours, else UTC; default right when there is room, and one after the other
	Most      int           // slots; default 100
	Reasons   bool          // why earlier times did not fit is wanted
}

// Hours are the hours in which work may be done.
type Hours struct {
	Zone string         // IANA; default UTC
	Days []time.Weekday // default Monday to Friday
	From Clock          // default 9:00
	To   Clock          // default 17:00; at or before From it is of the next day
}

// Clock is a time of day, from midnight by the clock on the wall.
type Clock time.Duration

// Slots are the times that fit.
type Slots struct {
	Slots    []change.Window
	Passed   []Passed            // if asked for: earlier times that did not fit, in order, the first 1,000
	Until    time.Time           // up to where was looked, if there were fewer than asked for
	Position eventstore.Position // up to which the schedule was known
}

// Passed is a time that did not fit.
type Passed struct {
	Window change.Window
	Free   bool // but too short
	Why    string
}

const (
	defaultSlots = 100
	mostSlots    = 10_000
	mostPassed   = 1_000
)

// Slots returns the first times in which there is room: free of windows that deny,
// inside of those that allow, and without a conflict by any rule but those of which
// the effect is only to record. Overrides and accepted conflicts make no room.
//
// It sweeps over what takes time, a few weeks at once, and stops when it has
// enough: it costs what lies between now and the last slot, on the CIs, near them,
// and on the people, not the number of changes nor the length of time.
func (s *Schedule) Slots(n Need, g *cmdb.Graph, rules Rules, now time.Time) (Slots, error) {
	w, err := s.sweep(n, g, rules, now)
	if err != nil {
		return Slots{}, err
	}
	for chunk := 7 * 24 * time.Hour; len(w.Slots.Slots) < w.need.Most && w.pos < w.until; chunk = min(2*chunk, 56*24*time.Hour) {
		to := min(w.pos+chunk.Microseconds(), w.until)
		if err := w.chunk(span{w.pos, to}); err != nil {
			return Slots{}, err
		}
		w.pos = to
	}
	if len(w.Slots.Slots) < w.need.Most {
		w.gap(w.until, func() string { return "then the time is over in which was looked" })
	}
	w.Until = micro(w.until)
	return w.Slots, nil
}

// sweep is a search for slots under way.
type sweep struct {
	query
	Slots
	need       Need
	zone       *time.Location
	hours      *Hours
	own, near  []*alike // near only where its windows count
	pos, until int64
	pools      []pooled
	free       int64 // since when nothing takes the time
	offered    int64 // up to where slots in the gap at hand were given
}

// busy is a time that something takes.
type busy struct {
	span
	why func() string
}

func (s *Schedule) sweep(n Need, g *cmdb.Graph, rules Rules, now time.Time) (*sweep, error) {
	if e := s.open[n.Change]; n.Change != "" {
		if e == nil {
			return nil, fmt.Errorf("schedule: slots for %q: there is no such change that has not ended", n.Change)
		}
		if n.CIs == nil {
			n.CIs = e.CIs
		}
		if n.People == nil {
			n.People = e.People
		}
		if n.Tags == nil {
			n.Tags = e.Tags
		}
		if n.Order == nil {
			n.Order = e.Order
		}
		n.Group, n.Model = cmp.Or(n.Group, e.Group), cmp.Or(n.Model, e.Model)
		if n.For == 0 && e.Window != nil {
			n.For = e.Window.End.Sub(e.Window.Start)
		}
	}
	rules = rules.filled()
	n.Most, n.Within = cmp.Or(n.Most, defaultSlots), cmp.Or(n.Within, rules.Horizon)
	switch {
	case n.For <= 0:
		return nil, errors.New("schedule: slots: say how long it takes")
	case n.Most < 0 || n.Most > mostSlots:
		return nil, fmt.Errorf("schedule: slots: ask for 1 to %d", mostSlots)
	case n.Step < 0 || n.Within < 0 || n.Step > 24*time.Hour || n.Within > maxWithin:
		return nil, errors.New("schedule: slots: Step and Within are not negative, and at most a day and 10 years")
	case n.Step > 0 && n.Step < time.Second:
		return nil, errors.New("schedule: slots: a Step is a second at least")
	}
	if n.NotBefore.IsZero() {
		n.NotBefore = now
	}
	n.CIs = slices.Compact(slices.Sorted(slices.Values(n.CIs)))
	for _, id := range n.CIs {
		if _, ok := g.CI(id); !ok {
			return nil, fmt.Errorf("schedule: slots: %w", &cmdb.UnknownError{Kind: cmdb.ErrUnknownCI, Names: []string{id}})
		}
	}
	w := &sweep{need: n, zone: time.UTC}
	w.query = query{s: s, rules: rules, o: change.Occasion{
		Point: change.Asked, Change: n.Change, Model: n.Model, Group: n.Group, CIs: n.CIs, People: n.People,
		Tags: n.Tags, Environments: n.Environments, Order: n.Order,
	}}
	w.pos = n.NotBefore.UTC().Truncate(time.Microsecond).UnixMicro()
	if micro(w.pos).Before(n.NotBefore) {
		w.pos++
	}
	w.free, w.until = w.pos, w.pos+n.Within.Microseconds()
	if err := w.limits(); err != nil {
		return nil, err
	}
	var err error
	if w.estate, err = estateOf(g, rules, n.CIs); err != nil {
		return nil, err
	}
	if w.pools, err = w.estate.pools(); err != nil {
		return nil, err
	}
	live, err := s.live()
	if err != nil {
		return nil, err
	}
	w.own = together(live, w.estate.subjects(w.o), nil)
	for prefix, relatives := range map[string][]relative{parentPrefix: w.estate.parents, childPrefix: w.estate.children} {
		var subjects []Subject
		for _, r := range relatives {
			subjects = append(subjects, w.estate.subject(r.ci, n.Model, nil))
		}
		for _, a := range together(live, subjects, nil) {
			a.windows = slices.DeleteFunc(a.windows, func(c *Compiled) bool {
				rule := Blackout
				if c.window.Kind == Allow {
					rule = OutsideMaintenance
				}
				return c.window.Parent == "" && !w.matters(prefix+rule)
			})
			w.near = append(w.near, a)
		}
	}
	return w, nil
}

// maxWithin is how far ahead can be looked.
const maxWithin = 10 * 366 * 24 * time.Hour

// limits makes the hours complete.
func (w *sweep) limits() error {
	if w.need.Hours == nil {
		return nil
	}
	h := *w.need.Hours
	zone, err := time.LoadLocation(cmp.Or(h.Zone, "UTC"))
	if err != nil {
		return fmt.Errorf("schedule: slots: hours: %w", err)
	}
	if h.Days == nil {
		h.Days = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}
	}
	if h.From == 0 && h.To == 0 {
		h.From, h.To = Clock(9*time.Hour), Clock(17*time.Hour)
	}
	if h.From < 0 || h.To < 0 || h.From >= Clock(24*time.Hour) || h.To > Clock(24*time.Hour) {
		return errors.New("schedule: slots: hours lie between 0:00 and 24:00")
	}
	w.hours, w.zone = &h, zone
	return nil
}

// matters reports whether a rule does more than to record.
func (w *sweep) matters(rule string) bool {
	return w.rules.effect(rule, change.Asked, Effects{}) != change.Record
}

// chunk goes on with the sweep through one piece of time.
func (w *sweep) chunk(in span) error {
	all := w.taken(in)
	slices.SortFunc(all, func(a, b busy) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end)) })
	for _, b := range all {
		if b.end <= w.free {
			continue
		}
		if b.start > w.free {
			w.gap(b.start, b.why)
		}
		if len(w.Slots.Slots) >= w.need.Most {
			return nil
		}
		from := max(b.start, w.free)
		w.pass(Passed{Window: change.Window{Start: micro(from), End: micro(min(b.end, w.until))}}, b.why)
		w.free = b.end
	}
	w.offer(in.end) // what fits so far may be enough
	return nil
}

// gap ends the free time at hand: slots are taken from it, or it is passed.
func (w *sweep) gap(end int64, why func() string) {
	if w.free >= end {
		return
	}
	if given := w.offered > w.free; w.offer(end) == 0 && !given {
		w.pass(Passed{Window: change.Window{Start: micro(w.free), End: micro(end)}, Free: true}, func() string {
			return fmt.Sprintf("free for %s, which is too short: %s", micro(end).Sub(micro(w.free)), why())
		})
	}
}

// offer takes slots from the free time at hand, up to end, and returns how many.
func (w *sweep) offer(end int64) int {
	takes, n := w.need.For.Microseconds(), 0
	if w.need.For%time.Microsecond > 0 {
		takes++
	}
	for start := w.start(max(w.free, w.offered)); start+takes <= end && len(w.Slots.Slots) < w.need.Most; n++ {
		w.Slots.Slots = append(w.Slots.Slots, change.Window{Start: micro(start), End: micro(start + takes)})
		if w.offered = start + takes; w.need.Step > 0 {
			w.offered = start + 1
		}
		start = w.start(w.offered)
	}
	return n
}

// start returns the first time at or after t at which a slot may start.
func (w *sweep) start(t int64) int64 {
	if w.need.Step == 0 {
		return t
	}
	at := micro(t).In(w.zone)
	midnight := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, w.zone)
	tomorrow := time.Date(at.Year(), at.Month(), at.Day()+1, 0, 0, 0, 0, w.zone)
	step := w.need.Step.Microseconds()
	from := t - midnight.UnixMicro()
	return min(midnight.UnixMicro()+(from+step-1)/step*step, tomorrow.UnixMicro())
}

func (w *sweep) pass(p Passed, why func() string) {
	if !w.need.Reasons || len(w.Passed) >= mostPassed {
		return
	}
	p.Why = why()
	w.Passed = append(w.Passed, p)
}
