package schedule

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
)

// Warning says what of an iCalendar file was left out, and why.
type Warning struct {
	Line      int    `json:"line"`         // on which it begins
	Component string `json:"component"`    // "VEVENT", "VTODO", ...
	UID       string `json:"uid,omitzero"` // of the event
	Reason    string `json:"reason"`
}

func (w Warning) String() string {
	if w.UID == "" {
		return fmt.Sprintf("line %d: %s: %s", w.Line, w.Component, w.Reason)
	}
	return fmt.Sprintf("line %d: %s %s: %s", w.Line, w.Component, w.UID, w.Reason)
}

const maxEvents = 10_000 // of a file

// ReadICal returns the windows that an iCalendar file (RFC 5545) says: one for
// each VEVENT, with its UID as ID, its SUMMARY as name and its DESCRIPTION as
// reason, and with what the defaults say for everything else; they need at least
// a kind and a scope. All windows that it returns pass [Window.Check].
//
// An event that cannot be a window, and any other component, is left out with a
// warning. Events that are not in a VCALENDAR are read. A file that is broken is an [*ICalError] with the line. It is read
// whole, at most 16 MiB.
//
// Times without a zone are of the zone of the defaults, or else of that which the
// file says is its own, or else UTC. A zone is found by its IANA name, also below
// a prefix, by its X-LIC-LOCATION, or by the name that Windows has for it: what
// the file itself says about when its clock changes is not used. As RFC 5545
// 3.8.5.3 says, a DTEND gives every occurrence the same exact duration, and days
// of a DURATION are nominal. An event with a RECURRENCE-ID is a window of its own
// in the place of an occurrence of the other; a PERIOD among the dates is one, too.
func ReadICal(r io.Reader, defaults Window) (windows []Window, warnings []Warning, err error) {
	if faults := defaultFaults(defaults); len(faults) > 0 {
		return nil, nil, command.Refuse(faults...)
	}
	calendars, err := parseICal(r)
	if err != nil {
		return nil, nil, err
	}
	in := &icalReader{defaults: defaults}
	for _, c := range calendars {
		in.calendar(c)
	}
	slices.SortStableFunc(in.warnings, func(a, b Warning) int { return a.Line - b.Line })
	return in.windows, in.warnings, nil
}

// defaultFaults returns what is wrong with windows of these defaults whatever a
// file says.
func defaultFaults(w Window) []command.Refusal {
	w.ID, w.Name = "", "default"
	w.Start, w.End, w.Duration, w.Rule, w.Dates, w.Except = "2026-01-01T00:00:00", "2026-01-02T00:00:00", 0, "", nil, nil
	return w.Check()
}

type icalReader struct {
	defaults Window
	windows  []Window
	warnings []Warning
	aliases  map[string]string // TZID of the file: IANA
	floating *time.Location
}

// event is a VEVENT on its way to be a window.
type event struct {
	*component
	uid     string
	window  Window
	start   stamp
	extra   []Window // of its PERIODs
	instead *stamp   // RECURRENCE-ID
}

// stamp is a time as a file says it.
type stamp struct {
	local local
	zone  *time.Location
	date  bool // without a time of day
}

func (s stamp) unix() int64 { return newWall(s.zone).instant(s.local) }

// in returns s as a local time of a zone.
func (s stamp) in(zone *time.Location) local {
	if s.zone.String() == zone.String() {
		return s.local
	}
	at := time.Unix(s.unix(), 0).In(zone)
	_, offset := at.Zone()
	return local(at.Unix()) + local(offset)
}

func (in *icalReader) warn(c *component, uid, format string, args ...any) {
	in.warnings = append(in.warnings, Warning{c.line, c.name, uid, fmt.Sprintf(format, args...)})
}

func (in *icalReader) calendar(c *component) {
	in.aliases = map[string]string{}
	for _, z := range c.inner {
		if id := z.text("TZID"); z.name == "VTIMEZONE" && id != "" {
			if location := z.text("X-LIC-LOCATION"); location != "" {
				in.aliases[id] = location
			}
		}
	}
	in.floating = in.zone(in.defaults.Zone)
	if in.defaults.Zone == "" {
		if in.floating = in.zone(c.text("X-WR-TIMEZONE")); in.floating == nil {
			in.floating = time.UTC
		}
	}
	var events []*event
	for _, inner := range c.inner {
		switch inner.name {
		case "VTIMEZONE":
		case "VEVENT":
			if len(events)+len(in.windows) >= maxEvents {
				in.warn(inner, inner.text("UID"), "it is left out: there are more than %d events", maxEvents)
				continue
			}
			if e := in.event(inner); e != nil {
				events = append(events, e)
			}
		default:
			in.warn(inner, inner.text("UID"), "it is left out: only events become windows")
		}
	}
	in.settle(events)
}

// settle turns events into windows: those that are instead of an occurrence take
// it from the one that recurs.
func (in *icalReader) settle(events []*event) {
	masters := map[string]*event{}
	var kept []*event
	for _, e := range events {
		if e.instead == nil {
			if e.uid != "" && masters[e.uid] != nil {
				in.warn(e.component, e.uid, "it is left out: line %d has the same UID", masters[e.uid].line)
				continue
			}
			masters[e.uid] = e
		}
		kept = append(kept, e)
	}
	for _, e := range kept {
		if e.instead == nil {
			continue
		}
		if m := masters[e.uid]; m != nil {
			m.window.Except = append(m.window.Except, e.instead.in(m.start.zone).String())
		}
		e.window.ID += "-" + e.instead.in(time.UTC).String()
	}
	for _, e := range kept {
		if strings.EqualFold(e.text("STATUS"), "CANCELLED") {
			in.warn(e.component, e.uid, "it is left out: it is cancelled")
			continue
		}
		for _, w := range append([]Window{e.window}, e.extra...) {
			if faults := w.Check(); len(faults) > 0 {
				in.warn(e.component, e.uid, "it is left out: %s", command.Refuse(faults...))
				continue
			}
			in.windows = append(in.windows, w)
		}
	}
}

// event returns a VEVENT as a window that is yet to be checked; nil where it
// cannot be one, with a warning.
func (in *icalReader) event(c *component) *event {
	e := &event{component: c, uid: c.text("UID"), window: in.defaults}
	if err := in.read(e); err != nil {
		in.warn(c, e.uid, "it is left out: %s", err)
		return nil
	}
	for _, inner := range c.inner {
		in.warn(inner, e.uid, "it is left out: a window has none")
	}
	return e
}

func (in *icalReader) read(e *event) error {
	w := &e.window
	w.ID, w.Rule, w.Dates, w.Except, w.End, w.Duration = e.uid, "", nil, nil, "", 0
	if name := e.text("SUMMARY"); name != "" {
		w.Name = name
	} else if w.Name == "" {
		w.Name = e.uid
	}
	if reason := e.text("DESCRIPTION"); reason != "" {
		w.Reason = reason
	}
	dtstart := e.first("DTSTART")
	if dtstart == nil {
		return errors.New("it has no DTSTART")
	}
	var err error
	if e.start, err = in.stamp(*dtstart, dtstart.value); err != nil {
		return err
	}
	w.Zone, w.Start = e.start.zone.String(), e.start.local.String()
	if err := in.length(e); err != nil {
		return err
	}
	for _, p := range e.properties {
		switch p.name {
		case "RRULE":
			if w.Rule != "" {
				return errors.New("it has two RRULEs")
			}
			w.Rule = strings.TrimSpace(p.value)
		case "EXRULE":
			return errors.New("it has an EXRULE, which RFC 5545 has no more")
		case "RDATE", "EXDATE":
			if err := in.dates(e, p); err != nil {
				return err
			}
		case "RECURRENCE-ID":
			if strings.EqualFold(p.params["RANGE"], "THISANDFUTURE") {
				return errors.New("it changes all occurrences from one on")
			}
			s, err := in.stamp(p, p.value)
			if err != nil {
				return err
			}
			e.instead = &s
		}
	}
	return nil
}

// length reads how long the occurrences are.
func (in *icalReader) length(e *event) error {
	w := &e.window
	dtend, duration := e.first("DTEND"), e.first("DURATION")
	switch {
	case dtend != nil && duration != nil:
		return errors.New("it has both DTEND and DURATION")
	case dtend != nil:
		end, err := in.stamp(*dtend, dtend.value)
		switch {
		case err != nil:
			return err
		case end.date != e.start.date:
			return errors.New("one of DTSTART and DTEND is a date, and the other is not")
		case end.date && end.local == e.start.local:
			w.End = (end.local + day).String() // met often, and meant as the day that it names
		case end.date:
			w.End = end.local.String()
		default:
			seconds := end.unix() - e.start.unix()
			if local(seconds) > longest || local(seconds) < -longest {
				return errors.New("its DTEND is too far from its DTSTART")
			}
			w.Duration = change.Duration(time.Duration(seconds) * time.Second)
			if seconds == 0 {
				return errors.New("it ends as it starts")
			}
		}
	case duration != nil:
		days, exact, err := parseDuration(strings.TrimSpace(duration.value))
		switch {
		case err != nil:
			return err
		case days == 0:
			w.Duration = change.Duration(exact)
		default:
			w.End = (e.start.local + local(days)*day + local(exact/time.Second)).String()
		}
	case e.start.date:
		w.End = (e.start.local + day).String()
	default:
		return errors.New("it has neither DTEND nor DURATION, and is but an instant")
	}
	return nil
}

// dates reads a property RDATE or EXDATE.
func (in *icalReader) dates(e *event, p property) error {
	w := &e.window
	for v := range strings.SplitSeq(p.value, ",") {
		if v = strings.TrimSpace(v); v == "" {
			continue // some write the property without any
		}
		if begin, end, ok := strings.Cut(v, "/"); ok && p.name == "RDATE" {
			if err := in.periodOf(e, p, begin, end); err != nil {
				return err
			}
			continue
		}
		s, err := in.stamp(p, v)
		if err != nil {
			return err
		}
		at := s.in(e.start.zone)
		if s.date && !e.start.date {
			// Not what RFC 5545 says, but what is met: the occurrence of that day.
			at = s.local + e.start.local - e.start.local.midnight()
		}
		if p.name == "RDATE" {
			w.Dates = append(w.Dates, at.String())
		} else {
			w.Except = append(w.Except, at.String())
		}
	}
	return nil
}

// periodOf adds a window of its own for a PERIOD, which has its own length.
func (in *icalReader) periodOf(e *event, p property, begin, end string) error {
	s, err := in.stamp(p, begin)
	if err != nil {
		return err
	}
	w := e.window
	w.ID, w.Rule, w.Dates, w.Except, w.End, w.Duration = e.uid+"-"+s.in(time.UTC).String(), "", nil, nil, "", 0
	w.Zone, w.Start = s.zone.String(), s.local.String()
	if strings.HasPrefix(end, "P") {
		days, exact, err := parseDuration(end)
		if err != nil {
			return err
		}
		w.End = (s.local + local(days)*day + local(exact/time.Second)).String()
	} else {
		until, err := in.stamp(p, end)
		if err != nil {
			return err
		}
		w.End = until.in(s.zone).String()
	}
	e.extra = append(e.extra, w)
	return nil
}

// stamp returns a time of a property: in UTC, in the zone that the property
// names, or in none.
func (in *icalReader) stamp(p property, value string) (stamp, error) {
	value = strings.TrimSpace(value)
	s := stamp{zone: in.floating}
	if id := p.params["TZID"]; id != "" {
		if s.zone = in.zone(id); s.zone == nil {
			return stamp{}, fmt.Errorf("%s: %s is no zone that is known", p.name, quoted(id))
		}
	}
	forms := []struct {
		layout string
		date   bool
	}{{"20060102T150405Z", false}, {"20060102T150405", false}, {"20060102", true}}
	for _, f := range forms {
		if t, err := time.Parse(f.layout, value); err == nil {
			s.local, s.date = local(t.Unix()), f.date
			if strings.HasSuffix(f.layout, "Z") {
				s.zone = time.UTC
			}
			return s, nil
		}
	}
	return stamp{}, fmt.Errorf("%s: %s is no date or time", p.name, quoted(value))
}

// zone returns the zone of a TZID, or nil.
func (in *icalReader) zone(id string) *time.Location {
	for _, name := range []string{id, in.aliases[id]} {
		for name = strings.TrimPrefix(name, "/"); name != ""; {
			if windows, ok := windowsZones[name]; ok {
				name = windows
			}
			if zone, err := time.LoadLocation(name); err == nil && name != "Local" {
				return zone
			}
			// "/vendor.example/2007/Europe/Berlin" is Europe/Berlin.
			_, name, _ = strings.Cut(name, "/")
		}
	}
	return nil
}

// parseDuration returns the days, which are nominal, and the exact rest of a
// value of type DURATION (3.3.6): "P1W", "P1DT2H", "-PT15M".
func parseDuration(value string) (days int, exact time.Duration, err error) {
	bad := fmt.Errorf("DURATION: %s is none that is longer than nothing, and shorter than %d years", quoted(value), maxYears)
	rest, ok := strings.CutPrefix(strings.TrimPrefix(strings.ToUpper(value), "+"), "P")
	if !ok || rest == "" {
		return 0, 0, bad
	}
	inTime := false
	for rest != "" {
		if after, isTime := strings.CutPrefix(rest, "T"); isTime && !inTime && after != "" {
			rest, inTime = after, true
			continue
		}
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || n > maxYears*366*24*3600 || digits == len(rest) {
			return 0, 0, bad
		}
		switch unit := rest[digits]; {
		case unit == 'W' && !inTime:
			days += 7 * n
		case unit == 'D' && !inTime:
			days += n
		case unit == 'H' && inTime && n <= maxYears*366*24:
			exact += time.Duration(n) * time.Hour
		case unit == 'M' && inTime && n <= maxYears*366*24*60:
			exact += time.Duration(n) * time.Minute
		case unit == 'S' && inTime:
			exact += time.Duration(n) * time.Second
		default:
			return 0, 0, bad
		}
		rest = rest[digits+1:]
		if days > maxYears*366 || exact > time.Duration(longest)*time.Second || exact < 0 {
			return 0, 0, bad
		}
	}
	if days == 0 && exact == 0 {
		return 0, 0, bad
	}
	return days, exact, nil
}
