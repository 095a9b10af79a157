package relay

import (
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// siding is a stream that is behind the main line.
type siding struct {
	try    // of the first of next
	stream string
	after  eventstore.Position   // done up to here
	next   []eventstore.Recorded // read, and not done
	under  *delivery             // of the first of next
	parked bool                  // the first of next is, by a decision
}

const (
	sidingEvents = 32    // read of a stream at once
	mostBehind   = 1_000 // streams that are tried again, before the main line waits for them
)

// waits reports whether the siding has something to do, once it is due.
func (s *siding) waits() bool { return s.under == nil && !s.parked }

// behindCount is how many streams are tried again.
func (l *line) behindCount() (n int) {
	for _, s := range l.sidings {
		if !s.parked {
			n++
		}
	}
	return n
}

// shunt puts the stream of an event onto a siding, from that event on.
func (l *line) shunt(e *entry) *siding {
	s := &siding{try: e.try, stream: e.record.Stream, after: e.record.Position - 1}
	l.sidings[s.stream] = s
	l.behind[s.stream], l.unsaved = s.after, true
	for _, other := range l.entries {
		if other.record.Stream == s.stream && other.record.Position > s.after {
			other.done = true
			s.next = append(s.next, other.record)
		}
	}
	l.unready()
	delete(l.lanes, s.stream)
	return s
}

// overtake puts a stream onto a siding whose event is under way and does not end,
// while all that was read behind it is done or waits.
func (l *line) overtake() {
	e := l.entries[0]
	for d := range l.flying {
		if d.entry == e {
			s := l.shunt(e)
			s.under, d.entry, d.siding = d, nil, s
			l.advance()
			return
		}
	}
}

// handSidings hands out what is due of the streams that are behind.
func (l *line) handSidings(now time.Time) error {
	for stream, s := range l.sidings {
		if len(l.flying) == l.config.Workers {
			return nil
		}
		if !s.waits() || s.due.After(now) {
			continue
		}
		if err := l.ahead(s); err != nil {
			return err
		}
		switch {
		case len(s.next) == 0:
			// It has reached the main line.
			delete(l.sidings, stream)
			delete(l.behind, stream)
			l.unsaved = true
		case !s.parked:
			r := s.next[0]
			s.under = &delivery{record: r, attempt: s.attempts + 1, siding: s}
			if err := l.deliver(s.under); err != nil {
				return err
			}
		}
	}
	return nil
}

// ahead has s know what comes next in its stream, up to where the main line has
// read, and heeds what was decided on it.
func (l *line) ahead(s *siding) error {
	for !s.parked {
		if len(s.next) == 0 {
			q := l.query
			q.Streams, q.After, q.Limit = []string{s.stream}, s.after, sidingEvents
			for r, err := range l.config.Store.Read(l.ctx, q) {
				if err != nil {
					return err
				}
				if r.Position > l.read {
					break // the main line brings it
				}
				s.next = append(s.next, r)
			}
			if len(s.next) == 0 {
				return nil
			}
		}
		standing := l.decided[s.next[0].ID]
		if !standing.skipped {
			s.parked = standing.open()
			return nil
		}
		s.step()
		l.behind[s.stream], l.unsaved = s.after, true
	}
	return nil
}

// step goes on behind the first of next.
func (s *siding) step() {
	s.after, s.next, s.try = s.next[0].Position, s.next[1:], try{}
}

// succeed goes on behind a delivery that was acknowledged.
func (s *siding) succeed(*delivery) {
	s.under = nil
	s.step()
}

// heed takes in decisions: what was parked and is not any more is tried at once.
func (s *siding) heed(decided decisions) {
	if s.parked && len(s.next) > 0 && !decided[s.next[0].ID].open() {
		s.parked, s.try = false, try{}
	}
}
