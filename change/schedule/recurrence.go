package schedule

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rule is an RRULE of RFC 5545, applied to local times.
//
// It is our own since those at hand count every occurrence from the first one on,
// and some rules keep them from ever coming back. This one begins at any time at
// the same cost, and whatever it does is bounded by the days it is asked for.
type rule struct {
	freq      frequency
	interval  int
	count     int
	until     string // as it was written
	months    uint16 // bit 1 to 12; 0: all
	monthDays []int
	yearDays  []int
	weekNos   []int
	weekdays  uint8 // bit 0, Monday, to 6; of those without a number
	nth       []nth
	hours     uint32
	minutes   uint64
	seconds   uint64
	setPos    []int
	weekStart int // 0 is Monday

	start   local   // DTSTART
	times   []local // of a day, sorted; nil for rules of hours, minutes, seconds
	last    local   // no occurrence is later
	lastUTC int64   // nor than this, if UNTIL is in UTC
}

type nth struct{ weekday, n int }

type frequency int

const (
	yearly frequency = iota
	monthly
	weekly
	daily
	hourly
	minutely
	secondly
)

var (
	frequencies = []string{"YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"}
	weekdays    = []string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"}
)

const (
	maxCount  = 100_000   // of a rule with a COUNT, which is counted through
	maxADay   = 288       // occurrences, as far as a rule can be seen to have that many: every five minutes
	maxSteps  = 1_000_000 // hours, minutes or seconds that a rule is tried with, some 10 ms
	maxRule   = 4096      // bytes of a rule
	maxAtOnce = 10_000    // occurrences of one window that overlap
	maxListed = 10_000    // RDATEs or EXDATEs
	maxYears  = 200       // from the start of a window to its last occurrence
	longest   = maxYears * 365 * day
	firstYear = 1900 // of the times of a window
	finalYear = 2200
)

// parseRule returns the rule that text says, for occurrences from start on.
func parseRule(text string, start local) (*rule, error) {
	if len(text) > maxRule {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), maxRule)
	}
	r := &rule{freq: -1, interval: 1, start: start}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(text, "RRULE:"), ";"), ";") {
		name, value, ok := strings.Cut(part, "=")
		name, value = strings.ToUpper(strings.TrimSpace(name)), strings.ToUpper(strings.TrimSpace(value))
		if !ok || value == "" {
			return nil, fmt.Errorf("%q is no NAME=VALUE", part)
		}
		if seen[name] {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if err := r.set(name, value); err != nil {
			return nil, err
		}
	}
	if r.freq < 0 {
		return nil, fmt.Errorf("FREQ is missing")
	}
	if err := r.fits(seen); err != nil {
		return nil, err
	}
	r.complete()
	return r, nil
}

func (r *rule) set(name, value string) (err error) {
	switch name {
	case "FREQ":
		if r.freq = frequency(slices.Index(frequencies, value)); r.freq < 0 {
			err = fmt.Errorf("%s is no FREQ", value)
		}
	case "INTERVAL":
		r.interval, err = number(name, value, 1, 1_000_000)
	case "COUNT":
		r.count, err = number(name, value, 1, 1_000_000_000)
	case "UNTIL":
		if r.until = value; !isUntil(value) {
			err = fmt.Errorf("%s is no UNTIL: write 20261231, 20261231T235959 or 20261231T225959Z", value)
		}
	case "BYMONTH":
		var list []int
		list, err = numbers(name, value, 1, 12, false)
		r.months = uint16(set(list))
	case "BYMONTHDAY":
		r.monthDays, err = numbers(name, value, 1, 31, true)
	case "BYYEARDAY":
		r.yearDays, err = numbers(name, value, 1, 366, true)
	case "BYWEEKNO":
		r.weekNos, err = numbers(name, value, 1, 53, true)
	case "BYSETPOS":
		r.setPos, err = numbers(name, value, 1, 366, true)
	case "BYHOUR":
		var list []int
		list, err = numbers(name, value, 0, 23, false)
		r.hours = uint32(set(list))
	case "BYMINUTE":
		var list []int
		list, err = numbers(name, value, 0, 59, false)
		r.minutes = set(list)
	case "BYSECOND":
		var list []int
		list, err = numbers(name, value, 0, 60, false)
		for i, s := range list {
			list[i] = min(s, 59) // without leap seconds 60 is 59 (3.3.5)
		}
		r.seconds = set(list)
	case "BYDAY":
		err = r.setDays(value)
	case "WKST":
		if r.weekStart = slices.Index(weekdays, value); r.weekStart < 0 {
			err = fmt.Errorf("%s is no weekday", value)
		}
	default:
		err = fmt.Errorf("%s is no part of a rule", name)
	}
	return err
}

func (r *rule) setDays(value string) error {
	for v := range strings.SplitSeq(value, ",") {
		v = strings.TrimSpace(v)
		if len(v) < 2 {
			return fmt.Errorf("BYDAY=%s: %q is no weekday", value, v)
		}
		weekday, sign := slices.Index(weekdays, v[len(v)-2:]), v[:len(v)-2]
		if weekday < 0 {
			return fmt.Errorf("BYDAY=%s: %q is no weekday", value, v)
		}
		if sign == "" {
			r.weekdays |= 1 << weekday
			continue
		}
		n, err := numbers("BYDAY", sign, 1, 53, true)
		if err != nil {
			return err
		}
		r.nth = append(r.nth, nth{weekday, n[0]})
	}
	return nil
}

// fits returns what RFC 5545, 3.3.10 says must not be together.
func (r *rule) fits(seen map[string]bool) error {
	switch {
	case seen["COUNT"] && seen["UNTIL"]:
		return fmt.Errorf("COUNT and UNTIL exclude each other")
	case len(r.nth) > 0 && r.freq > monthly:
		return fmt.Errorf("BYDAY with a number is for YEARLY and MONTHLY")
	case len(r.nth) > 0 && seen["BYWEEKNO"]:
		return fmt.Errorf("BYDAY with a number and BYWEEKNO exclude each other")
	case seen["BYMONTHDAY"] && r.freq == weekly:
		return fmt.Errorf("BYMONTHDAY is not for WEEKLY")
	case seen["BYYEARDAY"] && (r.freq == monthly || r.freq == weekly || r.freq == daily):
		return fmt.Errorf("BYYEARDAY is not for %s", frequencies[r.freq])
	case seen["BYWEEKNO"] && r.freq != yearly:
		return fmt.Errorf("BYWEEKNO is for YEARLY")
	case seen["BYSETPOS"] && !slices.ContainsFunc([]string{"BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYDAY", "BYHOUR", "BYMINUTE", "BYSECOND"}, func(by string) bool { return seen[by] }):
		return fmt.Errorf("BYSETPOS needs another BY part")
	}
	return nil
}

// complete takes from the start what the rule does not say (3.3.10).
func (r *rule) complete() {
	d := civil(r.start)
	saysDay := len(r.monthDays)+len(r.yearDays)+len(r.nth) > 0 || r.weekdays != 0
	switch {
	case saysDay:
	case len(r.weekNos) > 0 || r.freq == weekly:
		r.weekdays = 1 << d.weekday
	case r.freq == yearly:
		if r.months == 0 {
			r.months = 1 << d.month
		}
		r.monthDays = []int{d.dayOfMonth}
	case r.freq == monthly:
		r.monthDays = []int{d.dayOfMonth}
	}
	second := int(r.start - r.start.midnight())
	if r.hours == 0 && r.freq < hourly {
		r.hours = 1 << (second / 3600)
	}
	if r.minutes == 0 && r.freq < minutely {
		r.minutes = 1 << (second / 60 % 60)
	}
	if r.seconds == 0 && r.freq < secondly {
		r.seconds = 1 << (second % 60)
	}
	if r.hours == 0 {
		r.hours = 1<<24 - 1
	}
	if r.minutes == 0 {
		r.minutes = 1<<60 - 1
	}
	if r.seconds == 0 {
		r.seconds = 1<<60 - 1
	}
	r.fill()
}

// aDay returns how many occurrences a day may have.
func (r *rule) aDay() int {
	h, m, s := bits.OnesCount32(r.hours), bits.OnesCount64(r.minutes), bits.OnesCount64(r.seconds)
	steps := func(perDay int) int { return (perDay + r.interval - 1) / r.interval }
	switch r.freq {
	case hourly:
		return min(h, steps(24)) * m * s
	case minutely:
		return min(h*m, steps(1440)) * s
	case secondly:
		return min(h*m*s, steps(86400))
	}
	return h * m * s
}

func isUntil(v string) bool {
	for _, form := range []string{"20060102", "20060102T150405", "20060102T150405Z"} {
		if _, err := time.Parse(form, v); err == nil {
			return true
		}
	}
	return false
}

func number(name, value string, least, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s=%s is no number from %d to %d", name, value, least, most)
	}
	return n, nil
}

// numbers returns the numbers of a list; with negative ones they may also count
// from the end.
func numbers(name, value string, least, most int, negative bool) ([]int, error) {
	var list []int
	for v := range strings.SplitSeq(value, ",") {
		v = strings.TrimSpace(v)
		n, err := strconv.Atoi(v)
		fits := n >= least && n <= most || negative && n <= -least && n >= -most
		if err != nil || !fits {
			return nil, fmt.Errorf("%s=%s: %q is no number from %d to %d", name, value, v, least, most)
		}
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list, nil
}

func set(list []int) uint64 {
	var bits uint64
	for _, n := range list {
		bits |= 1 << n
	}
	return bits
}
