package schedule

import (
	"time"
	_ "time/tzdata" // so that no machine judges otherwise for want of zone files
)

// local is a time on the wall of some zone: the seconds from 1970-01-01T00:00:00
// there, every day counted as 24 hours. Adding to it is what RFC 5545 calls
// nominal.
type local int64

const (
	day       local = 24 * 3600
	wallForm        = "2006-01-02T15:04:05"
	maxOffset       = 16 * time.Hour // of a zone from UTC, either way
	maxGap          = 25 * time.Hour // over which a clock was ever put: Samoa left out a day
	slack           = local((maxOffset + maxGap) / time.Second)
)

func parseLocal(text string) (local, error) {
	t, err := time.Parse(wallForm, text)
	return local(t.Unix()), err
}

func (l local) String() string { return time.Unix(int64(l), 0).UTC().Format(wallForm) }

// wall converts local times of one zone to instants. It remembers the last stretch
// of time without a change of the clock, and is not safe for concurrent use.
type wall struct {
	zone        *time.Location
	from, until local // in which offset is certain
	offset      local
}

func newWall(zone *time.Location) *wall { return &wall{zone: zone, until: -1 << 62} }

// instant returns l in seconds from 1970 in UTC: if l comes twice, the first; if
// it does not exist, with the offset from before the gap (RFC 5545, 3.3.5).
func (w *wall) instant(l local) int64 {
	if l >= w.from && l < w.until {
		return int64(l - w.offset)
	}
	c := time.Unix(int64(l), 0).UTC()
	t := time.Date(c.Year(), c.Month(), c.Day(), c.Hour(), c.Minute(), c.Second(), 0, w.zone)
	_, offset := t.Zone()
	begin, end := t.ZoneBounds()
	shown := local(t.Unix()) + local(offset)
	if shown != l {
		// It does not exist. Package time took one of the two offsets: that from before
		// if it shows a later time.
		if shown > l {
			return t.Unix()
		}
		return int64(l) - int64(offset)
	}
	// From two days after a change to two days before the next there is one offset.
	w.offset, w.from, w.until = local(offset), -1<<62, 1<<62
	if !end.IsZero() {
		w.until = local(end.Unix()) + local(offset) - 2*day
	}
	if !begin.IsZero() {
		w.from = local(begin.Unix()) + local(offset) + 2*day
		_, before := begin.Add(-time.Second).Zone()
		if first := int64(l) - int64(before); first < begin.Unix() {
			return first
		}
	}
	return t.Unix()
}

// certain reports whether l is in that stretch, two days or more from a change of
// the clock, so that no later local time is an earlier instant.
func (w *wall) certain(l local) bool { return l >= w.from && l < w.until }
