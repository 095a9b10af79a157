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
	next   []eventstore.Recorded // read, and not done; empty until it is looked at
	under  *delivery             // of the first of next
	parked bool                  // the first of next is, by a decision
}

const (
	sidingEvents = 32    // read of a stream at once
	mostBehind   = 1_000 // streams that are tried again, before the main line waits for them
)

// shunt puts the stream of an event whose turn it is onto a siding, from that event
// on. What else was read of it is read again, so that little is held of a stream
// that waits.
func (l *line) shunt(e *entry) *siding {
	s := &siding{try: e.try, stream: e.record.Stream, after: e.record.Position - 1, next: []eventstore.Recorded{e.record}}
	l.sidings[s.stream] = s
	l.trying++
	l.keepBehind(s)
	for other := e; other != nil; {
		other.done = true
		other, other.next = other.next, nil
	}
	delete(l.last, s.stream)
	l.stand(s)
	return s
}

// keepBehind has the checkpoint say how far a siding has come.
func (l *line) keepBehind(s *siding) { l.behind[s.stream], l.unsaved = s.after, true }

// stand has what was decided on the next event of s count: what is parked waits,
// what is no longer parked is tried at once, what is skipped is passed over.
func (l *line) stand(s *siding) (skipped bool) {
	standing := l.decided[s.next[0].ID]
	switch open := standing.open(); {
	case open && !s.parked:
		s.parked = true
		l.trying--
	case !open && s.parked:
		s.parked, s.try = false, try{}
		l.trying++
	case standing.skipped:
		s.due = time.Time{}
	}
	l.due, l.changed = time.Time{}, true
	return standing.skipped
}

// handSidings hands out what is due of the streams that are behind.
func (l *line) handSidings(now time.Time) error {
	if l.trying == 0 || l.due.After(now) {
		return nil
	}
	due := now.Add(time.Hour)
	for _, s := range l.sidings {
		if s.under != nil || s.parked {
			continue
		}
		if !s.due.After(now) && l.free(now) {
			if err := l.onward(s); err != nil {
				return err
			}
		}
		if s.under == nil && !s.parked && l.sidings[s.stream] == s && s.due.Before(due) {
			due = s.due
		}
	}
	l.due = due
	return nil
}

// free reports whether a worker is free for a stream that is behind: all are where
// the main line has nothing ready, otherwise half of them, of one worker every other
// time, so that neither holds up the other.
func (l *line) free(now time.Time) bool {
	if len(l.flying) >= l.config.Workers {
		return false
	}
	ready := len(l.ready) > 0 && !l.ready[0].due.After(now)
	return !ready || l.aside < (l.config.Workers+l.turn%2)/2
}

// onward hands out the next event of a stream that is behind, or has it rejoin the
// main line where it has come to what that has read.
func (l *line) onward(s *siding) error {
	for skipped := true; skipped; {
		if len(s.next) == 0 {
			if err := l.readOn(s); err != nil {
				return err
			}
		}
		if len(s.next) == 0 {
			delete(l.sidings, s.stream)
			delete(l.behind, s.stream)
			l.trying--
			l.unsaved, l.changed = true, true
			return nil
		}
		if skipped = l.stand(s); skipped {
			l.step(s)
		}
	}
	if s.parked {
		return nil
	}
	s.under = &delivery{record: s.next[0], attempt: s.attempts + 1, siding: s}
	l.aside++
	return l.deliver(s.under)
}

// readOn reads what comes next in a stream that is behind, up to where the main line
// has read: what comes later that brings.
func (l *line) readOn(s *siding) error {
	q := l.query
	q.Streams, q.After, q.Limit = []string{s.stream}, s.after, sidingEvents
	bytes := 0
	for r, err := range l.config.Store.Read(l.ctx, q) {
		if err != nil {
			return err
		}
		if r.Position > l.read {
			break
		}
		s.next = append(s.next, r)
		if bytes += r.Size(); bytes >= windowBytes/sidingEvents {
			break
		}
	}
	return nil
}

// step goes on behind the first event of a stream that is behind.
func (l *line) step(s *siding) {
	s.after, s.next, s.try = s.next[0].Position, s.next[1:], try{}
	if s.parked { // while it was under way, and then it went well
		s.parked = false
		l.trying++
	}
	l.keepBehind(s)
	l.due, l.changed = time.Time{}, true
}
