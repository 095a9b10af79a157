package schedule

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
)

// compiler gathers what is wrong with a window.
type compiler struct {
	Compiled
	faults []command.Refusal
}

func (c *compiler) fault(rule, field, reason, remedy string) {
	c.faults = append(c.faults, malformed(rule, field, reason, remedy))
}

// compile returns w as one that answers, and all that is wrong with it. It
// answers only if nothing is.
func compile(w Window) (*Compiled, []command.Refusal) {
	c := &compiler{Compiled: Compiled{window: w}}
	if w.Name == "" {
		c.fault("name-required", "name", "it has no name", "say what people call it: \"year-end freeze\"")
	}
	if w.Kind != Allow && w.Kind != Deny {
		c.fault("unknown-kind", "kind", fmt.Sprintf("%q is no kind of window", w.Kind), "say allow or deny")
	}
	c.faults = append(c.faults, w.Scope.check("scope")...)
	if w.ID != "" && w.Parent == w.ID {
		c.fault("own-parent", "parent", "it is to be an exception to itself", "name another window, or none")
	}
	for _, e := range []struct {
		field  string
		effect change.Effect
	}{{"plan", w.Effects.Plan}, {"authorize", w.Effects.Authorize}, {"start", w.Effects.Start}} {
		if !slices.Contains([]change.Effect{"", change.Block, change.Warn, change.Record}, e.effect) {
			c.fault("unknown-effect", "effects."+e.field, fmt.Sprintf("%q is no effect", e.effect), "say block, warn or record")
		}
	}
	zoned, timed := c.readZone(), c.readTimes()
	if zoned && timed {
		c.readRule()
	}
	if len(c.faults) == 0 && !c.occurs() {
		c.fault("never-occurs", "rule", "it has no occurrence at all", "correct the rule, or what is left out of it")
	}
	return &c.Compiled, c.faults
}

func (c *compiler) readZone() bool {
	name := c.window.Zone
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		c.fault("unknown-zone", "zone", fmt.Sprintf("%q is no time zone of the IANA database", name), "name one: \"Europe/Berlin\", \"UTC\"")
		return false
	}
	c.zone = zone
	return true
}

// readTimes reads everything but the rule, which is about it.
func (c *compiler) readTimes() bool {
	before := len(c.faults)
	w := &c.window
	start, ok := c.time("start", w.Start)
	c.start = start
	switch {
	case w.End != "" && w.Duration != 0:
		c.fault("one-length", "end", "it has both an end and a duration", "give one of the two")
	case w.End == "" && w.Duration == 0:
		c.fault("one-length", "end", "it has neither an end nor a duration", "give one of the two")
	case w.End != "":
		end, endOK := c.time("end", w.End)
		c.length, c.wall = end-start, true
		if ok && endOK && c.length <= 0 {
			c.fault("negative-window", "end", fmt.Sprintf("it starts at %s and ends at %s", start, end), "let it end after it starts")
		}
	case time.Duration(w.Duration)%time.Second != 0:
		c.fault("whole-seconds", "duration", fmt.Sprintf("it lasts %s", w.Duration), "give whole seconds")
	default:
		c.length = local(time.Duration(w.Duration) / time.Second)
		if c.length <= 0 {
			c.fault("negative-window", "duration", fmt.Sprintf("it lasts %s", w.Duration), "let it last longer than nothing")
		}
	}
	if c.length > longest {
		c.fault("window-too-long", "end", fmt.Sprintf("it lasts longer than %d years", maxYears), "let it end earlier")
	}
	c.dates = c.times("dates", w.Dates)
	c.except = c.times("except", w.Except)
	return len(c.faults) == before
}

// time returns the local time that text says.
func (c *compiler) time(field, text string) (local, bool) {
	l, err := parseLocal(text)
	if err != nil {
		c.fault("bad-time", field, fmt.Sprintf("%q is no local time", text), "write it as \"2026-03-02T02:30:00\", in the zone of the window and without an offset")
		return 0, false
	}
	if y := civil(l).year; y < firstYear || y > finalYear {
		c.fault("bad-time", field, fmt.Sprintf("%s is not from %d to %d", text, firstYear, finalYear), "correct the year")
		return 0, false
	}
	return l, true
}

// times returns the local times of a list, sorted, each once.
func (c *compiler) times(field string, texts []string) []local {
	if len(texts) > maxListed {
		c.fault("too-many", field, fmt.Sprintf("it has %d values, more than %d", len(texts), maxListed), "use a rule, or several windows")
		return nil
	}
	list := make([]local, 0, len(texts))
	for i, text := range texts {
		if l, ok := c.time(fmt.Sprintf("%s[%d]", field, i), text); ok {
			list = append(list, l)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (c *compiler) readRule() {
	if c.window.Rule == "" {
		return
	}
	r, err := parseRule(c.window.Rule, c.start)
	if err != nil {
		c.fault("bad-rule", "rule", err.Error(), "write it as RFC 5545 says: \"FREQ=WEEKLY;BYDAY=SA\"")
		return
	}
	if n := r.aDay(); n > maxADay {
		c.fault("rule-too-frequent", "rule", fmt.Sprintf("it may have %d occurrences a day, more than %d", n, maxADay), "let it recur less often, and last longer")
		return
	} else if n*int(c.length/day+1) > maxAtOnce {
		c.fault("rule-too-frequent", "rule", fmt.Sprintf("it may have %d occurrences a day, each as long as %d days, so that too many overlap", n, c.length/day), "let it recur less often")
		return
	}
	if err := r.bound(c.zone); err != nil {
		switch {
		case errors.Is(err, errNever):
			c.fault("never-occurs", "rule", err.Error(), "correct the rule")
		case errors.Is(err, errSteps):
			c.fault("rule-too-frequent", "rule", err.Error(), "write it as a rule of days")
		default:
			c.fault("endless-rule", "rule", err.Error(), "leave COUNT and UNTIL out, or let it end earlier")
		}
		return
	}
	c.rule = r
}

// occurs reports whether c has an occurrence.
func (c *Compiled) occurs() bool {
	found := false
	c.starts(math.MinInt64/2, math.MaxInt64/2, newWall(c.zone), func(local) bool {
		found = true
		return false
	})
	return found
}

var (
	errNever = fmt.Errorf("it has no occurrence within %d years, or among the first %d hours, minutes or seconds that it goes through", maxYears, maxSteps)
	errSteps = fmt.Errorf("it goes through more than %d hours, minutes or seconds before it has counted to its end", maxSteps)
)

// bound finds the last time at which r may occur, and says why it has none.
func (r *rule) bound(zone *time.Location) error {
	end := r.start + maxYears*365*day
	r.last, r.lastUTC = end, math.MaxInt64
	if until, utc, ok := r.ends(); ok {
		if until > end {
			return fmt.Errorf("it goes on until %s, more than %d years", r.until, maxYears)
		}
		r.last = until
		if utc {
			r.last, r.lastUTC = until+slack, int64(until)
		}
	}
	if r.count > maxCount {
		return fmt.Errorf("it counts to %d, more than %d", r.count, maxCount)
	}
	n, w := 0, newWall(zone)
	done := r.walk(r.start, r.last+1, maxSteps, func(l local) bool {
		if w.instant(l) > r.lastUTC {
			return true
		}
		n++
		if r.count > 0 && n == r.count {
			r.last = l
		}
		return n < r.count
	})
	switch {
	case n == 0:
		return errNever
	case !done:
		return errSteps
	case n < r.count:
		return fmt.Errorf("it counts to %d, which takes more than %d years", r.count, maxYears)
	}
	return nil
}

// ends returns the last time that UNTIL includes, and whether it is in UTC, not
// local. A date includes its day.
func (r *rule) ends() (last local, utc, ok bool) {
	if t, err := time.Parse("20060102", r.until); err == nil {
		return local(t.Unix()) + day - 1, false, true
	}
	if t, err := time.Parse("20060102T150405", r.until); err == nil {
		return local(t.Unix()), false, true
	}
	t, err := time.Parse("20060102T150405Z", r.until)
	return local(t.Unix()), true, err == nil
}

// fill makes the times of a day of a rule whose periods are days or longer.
func (r *rule) fill() {
	if r.freq >= hourly {
		return
	}
	for h := r.hours; h != 0; h &= h - 1 {
		for m := r.minutes; m != 0; m &= m - 1 {
			for s := r.seconds; s != 0; s &= s - 1 {
				r.times = append(r.times, local(bits.TrailingZeros32(h)*3600+bits.TrailingZeros64(m)*60+bits.TrailingZeros64(s)))
			}
		}
	}
}

// starts yields the starts of c from one local time to before another, in order,
// each once.
func (c *Compiled) starts(from, to local, w *wall, yield func(local) bool) {
	dates := c.dates[lower(c.dates, from):lower(c.dates, to)]
	more := true
	give := func(l local) bool {
		if _, left := slices.BinarySearch(c.except, l); !left {
			more = yield(l)
		}
		return more
	}
	pass := func(l local) bool { // of the rule, with the dates before it
		for len(dates) > 0 && dates[0] <= l {
			d := dates[0]
			dates = dates[1:]
			if d < l && !give(d) {
				return false
			}
		}
		return give(l)
	}
	switch {
	case c.rule == nil:
		if c.start >= from && c.start < to {
			pass(c.start)
		}
	default:
		r := c.rule
		r.each(from, min(to, r.last+1), func(l local) bool {
			return r.lastUTC != math.MaxInt64 && w.instant(l) > r.lastUTC || pass(l)
		})
	}
	for _, d := range dates {
		if !more {
			return
		}
		give(d)
	}
}

func lower(sorted []local, l local) int {
	i, _ := slices.BinarySearch(sorted, l)
	return i
}

// occurrences yields the occurrences that have some time within [from, to), in
// the order of their starts.
func (c *Compiled) occurrences(from, to time.Time, yield func(change.Window) bool) {
	if !from.Before(to) {
		return
	}
	w := newWall(c.zone)
	// Around a change of the clock the order of local times is not that of instants,
	// so that occurrences wait there until none can come before them.
	var waiting []stretch
	more := true
	giveBefore := func(unix int64) {
		n := 0
		for ; more && n < len(waiting) && waiting[n].start <= unix; n++ {
			o := change.Window{Start: time.Unix(waiting[n].start, 0).UTC(), End: time.Unix(waiting[n].end, 0).UTC()}
			if o.Start.Before(to) && o.End.After(from) {
				more = yield(o)
			}
		}
		waiting = slices.Delete(waiting, 0, n)
	}
	c.starts(local(from.Unix())-c.length-slack, local(to.Unix())+slack+1, w, func(l local) bool {
		s := w.instant(l)
		certain := w.certain(l)
		e := s + int64(c.length)
		if c.wall {
			if end := w.instant(l + c.length); end > s {
				e = end
			}
		}
		if e >= from.Unix() {
			i := len(waiting)
			for i > 0 && waiting[i-1].start > s {
				i--
			}
			if o := (stretch{s, e}); i == 0 || waiting[i-1] != o { // two local times may be one instant
				waiting = slices.Insert(waiting, i, o)
			}
		}
		if certain {
			giveBefore(s)
		} else {
			giveBefore(s - int64(maxGap/time.Second))
		}
		return more
	})
	giveBefore(math.MaxInt64)
}

// stretch is a time in seconds from 1970 in UTC, half open.
type stretch struct{ start, end int64 }
