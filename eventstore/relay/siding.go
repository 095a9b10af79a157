package relay

import (
	"container/heap"
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
	place  int                   // in the timetable; -1 if it is not there
}

const (
	sidingEvents = 32    // read of a stream at once
	mostBehind   = 1_000 // streams that are tried again, before the main line waits for them
)

// shunt puts the stream of an event whose turn it is onto a siding, from that event
// on. What else was read of it is read again, so that little is held of a stream
// that waits.
func (l *line) shunt(e *entry) *siding {
	s := &siding{try: e.try, stream: e.record.Stream, after: e.record.Position - 1, place: -1, next: []eventstore.Recorded{e.record}}
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
	l.placed(s)
	return standing.skipped
}

// placed has the timetable and the status take in what has become of a siding.
func (l *line) placed(s *siding) {
	there := l.sidings[s.stream] == s
	switch idle := there && s.under == nil && !s.parked; {
	case idle && s.place < 0:
		heap.Push(&l.timetable, s)
	case idle:
		heap.Fix(&l.timetable, s.place)
	case s.place >= 0:
		heap.Remove(&l.timetable, s.place)
	}
	l.consumer.mu.Lock()
	defer l.consumer.mu.Unlock()
	if there && len(s.next) > 0 {
		l.behindNow[s.stream] = waits(s.next[0], s.try, s.parked)
	} else {
		delete(l.behindNow, s.stream)
	}
}

// timetable is a heap of the sidings that have something to do, by when.
type timetable []*siding

func (t timetable) Len() int           { return len(t) }
func (t timetable) Less(i, j int) bool { return t[i].due.Before(t[j].due) }

func (t timetable) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

func (t *timetable) Push(s any) {
	s.(*siding).place = len(*t)
	*t = append(*t, s.(*siding))
}

func (t *timetable) Pop() any {
	last := len(*t) - 1
	s := (*t)[last]
	(*t)[last], *t, s.place = nil, (*t)[:last], -1
	return s
}

// handSidings hands out what is due of the streams that are behind.
func (l *line) handSidings(now time.Time) error {
	for len(l.timetable) > 0 && !l.timetable[0].due.After(now) && l.free(now) {
		if err := l.onward(l.timetable[0]); err != nil {
			return err
		}
	}
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
			l.unsaved = true
			l.placed(s)
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
	l.placed(s)
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

// step goes on behind the first event of a stream that is behind, which is done.
func (l *line) step(s *siding) {
	s.after, s.next, s.try = s.next[0].Position, s.next[1:], try{due: time.Now()} // behind others that are due
	if s.parked {                                                                 // while it was under way, and then it went well
		s.parked = false
		l.trying++
	}
	l.keepBehind(s)
	l.placed(s)
}
