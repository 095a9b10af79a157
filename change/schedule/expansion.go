package schedule

import (
	"math"
	"slices"
)

// date is a day of the calendar.
type date struct {
	year, month, dayOfMonth int // month and day from 1
	dayOfYear               int // from 1
	weekday                 int // 0 is Monday
}

// midnight returns the begin of the day of l.
func (l local) midnight() local { return l - mod(l, day) }

func mod(a, b local) local { return ((a % b) + b) % b }

// civil returns the day of l in the proleptic Gregorian calendar.
func civil(l local) date {
	days := int64(l.midnight() / day)
	d := date{weekday: int((days%7 + 7 + 3) % 7)}
	// Days are counted from 0000-03-01, so that a leap day is the last of its year.
	z := days + 719468
	era := floor(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d.dayOfMonth = int(doy - (153*mp+2)/5 + 1)
	d.month = int(mp + 3)
	d.year = int(yoe + era*400)
	if d.month > 12 {
		d.month, d.year = d.month-12, d.year+1
	}
	d.dayOfYear = monthStart(d.year, d.month) + d.dayOfMonth
	return d
}

func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// dayOf returns the begin of a day; months beyond 12 are of the following years.
func dayOf(year, month, dayOfMonth int) local {
	year += int(floor(int64(month-1), 12))
	month = int(mod(local(month-1), 12)) + 1
	y := int64(year)
	if month <= 2 {
		y--
	}
	era := floor(y, 400)
	yoe := y - era*400
	mp := int64(month+9) % 12
	doy := (153*mp+2)/5 + int64(dayOfMonth) - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return local(era*146097+doe-719468) * day
}

func leap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func yearLength(year int) int {
	if leap(year) {
		return 366
	}
	return 365
}

// monthStart returns how many days of the year are before a month.
func monthStart(year, month int) int {
	n := [...]int{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334}[month-1]
	if month > 2 && leap(year) {
		n++
	}
	return n
}

func monthLength(year, month int) int {
	if month == 12 {
		return 31
	}
	return monthStart(year, month+1) - monthStart(year, month)
}

// matches reports whether the parts of r that are about days hold for d.
func (r *rule) matches(d date) bool {
	if r.months != 0 && r.months&(1<<d.month) == 0 {
		return false
	}
	if len(r.monthDays) > 0 && !numbered(r.monthDays, d.dayOfMonth, monthLength(d.year, d.month)) {
		return false
	}
	if len(r.yearDays) > 0 && !numbered(r.yearDays, d.dayOfYear, yearLength(d.year)) {
		return false
	}
	if r.weekdays != 0 || len(r.nth) > 0 {
		if r.weekdays&(1<<d.weekday) == 0 && !r.isNth(d) {
			return false
		}
	}
	if len(r.weekNos) > 0 {
		if n, of := weekOf(d, r.weekStart); !numbered(r.weekNos, n, of) {
			return false
		}
	}
	return true
}

// numbered reports whether one of the numbers is that of the nth of so many,
// counted from the begin or from the end.
func numbered(numbers []int, n, of int) bool {
	return slices.Contains(numbers, n) || slices.Contains(numbers, n-of-1)
}

// isNth reports whether d is one of the numbered weekdays: of the month, or of
// the year if the rule is yearly and names no months.
func (r *rule) isNth(d date) bool {
	if len(r.nth) == 0 {
		return false
	}
	n, of := d.dayOfMonth, monthLength(d.year, d.month)
	if r.freq == yearly && r.months == 0 {
		n, of = d.dayOfYear, yearLength(d.year)
	}
	fromBegin, fromEnd := (n-1)/7+1, -((of-n)/7 + 1)
	return slices.ContainsFunc(r.nth, func(w nth) bool {
		return w.weekday == d.weekday && (w.n == fromBegin || w.n == fromEnd)
	})
}

// weekOf returns which week of how many d is in: the first of a year is the one
// that has at least four of its days.
func weekOf(d date, weekStart int) (n, of int) {
	// The week belongs to the year of its fourth day.
	fourth := d.dayOfYear - (d.weekday-weekStart+7)%7 + 3
	length := yearLength(d.year)
	switch year := d.year; {
	case fourth < 1:
		length = yearLength(year - 1)
		fourth += length
	case fourth > length:
		fourth -= length
		length = yearLength(year + 1)
	}
	n = (fourth-1)/7 + 1
	return n, n + (length-fourth)/7
}

// each yields the occurrences of r from one local time to before another, in
// order. It costs what lies between, and the period in which it begins.
func (r *rule) each(from, to local, yield func(local) bool) {
	r.walk(from, to, math.MaxInt, yield)
}

// walk is each, and gives up after so many hours, minutes or seconds; it reports
// whether it did not.
func (r *rule) walk(from, to local, steps int, yield func(local) bool) bool {
	from = max(from, r.start)
	pass := func(l local) bool {
		if l < from {
			return true
		}
		return l < to && yield(l)
	}
	if r.freq >= hourly {
		return r.walkWithinDays(from, to, steps, pass)
	}
	var set []local
	for k := r.periodBefore(from); ; k++ {
		begin, end := r.period(k)
		if begin >= to {
			return true
		}
		if len(r.setPos) == 0 {
			// Where all count, days before and after need not be looked at.
			begin, end = max(begin, from.midnight()), min(end, to)
		}
		set = set[:0]
		for d := begin; d < end; d += day {
			if !r.matches(civil(d)) {
				continue
			}
			if len(r.setPos) > 0 {
				set = append(set, d)
				continue
			}
			for _, t := range r.times {
				if !pass(d + t) {
					return true
				}
			}
		}
		if len(r.setPos) == 0 {
			continue
		}
		for _, i := range positions(r.setPos, len(set)*len(r.times)) {
			if !pass(set[i/len(r.times)] + r.times[i%len(r.times)]) {
				return true
			}
		}
	}
}

// periodBefore returns the number, from that of the start on, of the last period
// that begins before l, or of an earlier one.
func (r *rule) periodBefore(l local) int {
	from, start := civil(l), civil(r.start)
	n := 0
	switch r.freq {
	case yearly:
		n = from.year - start.year
	case monthly:
		n = (from.year-start.year)*12 + from.month - start.month
	case weekly:
		n = int((l - r.start) / (7 * day))
	case daily:
		n = int((l - r.start) / day)
	}
	return max(n/r.interval, 0)
}

// period returns the days of period k, half open.
func (r *rule) period(k int) (begin, end local) {
	start := civil(r.start)
	switch r.freq {
	case yearly:
		year := start.year + k*r.interval
		return dayOf(year, 1, 1), dayOf(year+1, 1, 1)
	case monthly:
		month := start.month + k*r.interval
		return dayOf(start.year, month, 1), dayOf(start.year, month+1, 1)
	case weekly:
		begin = r.start.midnight() - local((start.weekday-r.weekStart+7)%7)*day + local(k*r.interval*7)*day
		return begin, begin + 7*day
	default:
		begin = r.start.midnight() + local(k*r.interval)*day
		return begin, begin + day
	}
}

// walkWithinDays is walk for periods of an hour, a minute or a second.
func (r *rule) walkWithinDays(from, to local, steps int, pass func(local) bool) bool {
	unit := []local{3600, 60, 1}[r.freq-hourly]
	step := unit * local(r.interval)
	first := r.start - mod(r.start, unit) // begin of the first period
	var set []local
	for d := from.midnight(); d < to; d += day {
		p := d + mod(first-d, step) // the first period that begins in the day
		if p >= d+day {
			// None does: go on with the day in which one begins, of which there are
			// as few as INTERVAL is large.
			d = p.midnight() - day
			continue
		}
		if !r.matches(civil(d)) {
			continue
		}
		for p < d+day && p < to {
			if steps--; steps < 0 {
				return false
			}
			second := int(p - d)
			if r.hours&(1<<(second/3600)) == 0 {
				p = ahead(p, d+local(second/3600+1)*3600, step)
				continue
			}
			if r.freq >= minutely && r.minutes&(1<<(second/60%60)) == 0 {
				p = ahead(p, d+local(second/60+1)*60, step)
				continue
			}
			set = r.within(set[:0], p)
			if len(r.setPos) > 0 {
				for _, i := range positions(r.setPos, len(set)) {
					if !pass(set[i]) {
						return true
					}
				}
			} else {
				for _, l := range set {
					if !pass(l) {
						return true
					}
				}
			}
			p += step
		}
	}
	return true
}

// ahead returns the first of p, p+step, ... that is not before l.
func ahead(p, l, step local) local { return p + (l-p+step-1)/step*step }

// within appends the occurrences of the hour, minute or second that begins at p.
func (r *rule) within(list []local, p local) []local {
	switch r.freq {
	case hourly:
		for m := range 60 {
			if r.minutes&(1<<m) != 0 {
				list = appendSeconds(list, r.seconds, p+local(m)*60)
			}
		}
		return list
	case minutely:
		return appendSeconds(list, r.seconds, p)
	default:
		if r.seconds&(1<<mod(p, 60)) != 0 {
			list = append(list, p)
		}
		return list
	}
}

func appendSeconds(list []local, seconds uint64, minute local) []local {
	for s := range 60 {
		if seconds&(1<<s) != 0 {
			list = append(list, minute+local(s))
		}
	}
	return list
}

// positions returns which of n are meant by BYSETPOS, from 0, in order.
func positions(setPos []int, n int) []int {
	var list []int
	for _, pos := range setPos {
		if pos < 0 {
			pos += n + 1
		}
		if pos >= 1 && pos <= n && !slices.Contains(list, pos-1) {
			list = append(list, pos-1)
		}
	}
	slices.Sort(list)
	return list
}
