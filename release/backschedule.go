package release

import (
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/eventstore/command"
)

// The bounds of a plan made backward.
const (
	maxSteps    = 1_000
	maxWorkdays = 10_000 // of all steps together
	maxLookBack = 40_000 // days of the calendar, about 110 years
)

// Workdays says which days are worked on. A day is one of its zone, from its first
// instant to that of the next: 23 or 25 hours long where the clocks are changed.
type Workdays struct {
	Zone     string         `json:"zone"`              // IANA: "Europe/Berlin"; empty: UTC
	Days     []time.Weekday `json:"days,omitzero"`     // 0 is Sunday; none: Monday to Friday
	Holidays []string       `json:"holidays,omitzero"` // "2026-12-25"
}

// Step is a piece of work that takes whole working days. One of 0 days is a
// milestone.
type Step struct {
	Name string `json:"name"`
	Days int    `json:"days"`
}

// Booked is a step in time: from the first instant of its first working day to the
// last one of its last, half open. A milestone lies where the next step starts.
type Booked struct {
	Step
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Back plans steps backward, so that the last one is over when something is to be
// ready: its last working day is the last that ends by then (DOMAIN 3). Steps do
// not overlap and are returned in the order in which they are given. It costs one
// look at every day between.
func (w Workdays) Back(ready time.Time, steps ...Step) ([]Booked, error) {
	zone, works, err := w.check(ready, steps)
	if err != nil {
		return nil, err
	}
	year, month, day := ready.In(zone).Date() // the day that is not over when it is to be ready
	first := func(back int) time.Time { return firstInstant(year, month, day-back, zone) }
	back := 1
	// next returns the last working day that was not taken yet.
	next := func() (start, end time.Time, ok bool) {
		for ; back <= maxLookBack; back++ {
			start, end = first(back), first(back-1)
			if works(start) && start.Before(end) { // a day that a zone left out has no length
				back++
				return start, end, true
			}
		}
		return start, end, false
	}
	plan := make([]Booked, len(steps))
	edge := ready // where what comes after begins
	for i := len(steps) - 1; i >= 0; i-- {
		b := Booked{Step: steps[i], Start: edge, End: edge}
		for n := range steps[i].Days {
			start, end, ok := next()
			if !ok {
				return nil, command.Refuse(command.Refusal{
					Kind: command.Refused, Rule: "no-workdays", Field: "holidays", Reason: fmt.Sprintf("there are too few working days in the %d days before", maxLookBack),
					Remedy: "correct the days and the holidays",
				})
			}
			if n == 0 {
				b.End = end
			}
			b.Start = start
		}
		plan[i], edge = b, b.Start
	}
	return plan, nil
}

// check returns the zone, and which days are worked on by their first instants.
func (w Workdays) check(ready time.Time, steps []Step) (*time.Location, func(time.Time) bool, error) {
	var f faults
	if ready.IsZero() {
		f.add("ready", "ready-required", "nobody has said when it is to be ready", "give a time")
	}
	zone, err := time.LoadLocation(w.Zone)
	if err != nil || w.Zone == "Local" {
		f.add("zone", "unknown-zone", "there is no zone %q here", "use a name of the IANA database, such as Europe/Berlin", w.Zone)
	}
	days := w.Days
	if len(days) == 0 {
		days = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}
	}
	for i, d := range days {
		if d < time.Sunday || d > time.Saturday {
			f.add(fmt.Sprintf("days[%d]", i), "unknown-day", "%d is no day of the week", "use 0 for Sunday to 6 for Saturday", int(d))
		}
	}
	holidays := map[string]bool{}
	for i, h := range w.Holidays {
		if _, err := time.Parse(time.DateOnly, h); err != nil {
			f.add(fmt.Sprintf("holidays[%d]", i), "bad-date", "%q is no date", "write it as 2026-12-25", h)
		}
		holidays[h] = true
	}
	if len(steps) > maxSteps {
		f.add("steps", "too-many", "there are %d steps", "use at most %d", len(steps), maxSteps)
	}
	total := 0
	for i, s := range steps {
		if s.Days < 0 {
			f.add(fmt.Sprintf("steps[%d].days", i), "negative-days", "it takes %d days", "use 0 for a milestone, or more", s.Days)
		}
		total += min(max(s.Days, 0), maxWorkdays+1)
	}
	if total > maxWorkdays {
		f.add("steps", "too-long", "together they take more than %d working days", "plan less, or in larger pieces", maxWorkdays)
	}
	if err := command.Refuse(f...); err != nil {
		return nil, nil, err
	}
	works := func(start time.Time) bool {
		return slices.Contains(days, start.Weekday()) && !holidays[start.Format(time.DateOnly)]
	}
	return zone, works, nil
}

// firstInstant returns when a date begins. That is not always midnight: where the
// clocks go forward at midnight it is 01:00, and of a date that a zone left out it
// is the beginning of the next one. Where midnight comes twice it is the first one;
// time.Date does not say which it gives.
func firstInstant(year int, month time.Month, day int, zone *time.Location) time.Time {
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Format(time.DateOnly) // as text, which sorts
	if t := time.Date(year, month, day, 0, 0, 0, 0, zone); t.Format(time.DateOnly) == date && t.Add(-time.Nanosecond).Format(time.DateOnly) < date {
		return t
	}
	noon := time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
	low, high := noon.Add(-48*time.Hour), noon.Add(48*time.Hour) // no zone is further from UTC than that
	for high.Sub(low) > time.Nanosecond {
		if middle := low.Add(high.Sub(low) / 2); middle.In(zone).Format(time.DateOnly) < date {
			low = middle
		} else {
			high = middle
		}
	}
	return high.In(zone)
}
