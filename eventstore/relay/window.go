package relay

import (
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// entry is an event of the main line.
type entry struct {
	try
	record eventstore.Recorded
	under  *delivery // while it is under way
	next   *entry    // of its stream, while that is not behind
	done   bool      // acknowledged, skipped, or its stream is behind
}

// try is how often an event failed.
type try struct {
	attempts int
	alone    int       // attempts that failed while others went well: those count for parking
	since    time.Time // when it failed first
	last     time.Time // and last
	due      time.Time // when it is tried again
	failed   error     // why it failed last
}

// room reports whether the main line is to be read on.
func (l *line) room() bool { return !l.crowded() && l.trying < mostBehind }

// crowded reports whether much is read beyond the first event that is not done.
func (l *line) crowded() bool { return len(l.entries) >= l.window()/2 || l.bytes >= windowBytes }

func (l *line) window() int { return max(windowEvents, windowEach*l.config.Workers) }

// fill reads on, where there is room. One read goes on from where it was left, as it
// holds nothing of the store meanwhile: to begin another costs a look at its indexes.
func (l *line) fill() error {
	if !l.more || !l.room() {
		return nil
	}
	if l.next == nil {
		head, err := l.config.Store.Head(l.ctx)
		if err != nil {
			return err
		}
		q := l.query
		q.After, l.head = l.read, head
		l.next, l.stop = iter.Pull2(l.config.Store.Read(l.ctx, q))
	}
	for n := 0; n < l.window() && l.bytes < windowBytes; n++ {
		r, err, more := l.next()
		if err != nil {
			return err
		}
		if !more { // up to the head, which was there before the read began
			l.next, l.more, l.read = nil, false, max(l.read, l.head)
			break
		}
		l.read = r.Position
		l.add(r)
	}
	l.head = max(l.head, l.read)
	l.publish(func(now *Status) { now.Head = l.head })
	l.advance()
	return nil
}

// add puts an event onto the main line. It is ready where nothing of its stream is
// before it, and with one worker in any case: they are handed out in order.
func (l *line) add(r eventstore.Recorded) {
	e := &entry{record: r}
	l.entries = append(l.entries, e)
	l.bytes += r.Size()
	if l.sidings[r.Stream] != nil {
		e.done = true
		return
	}
	before := l.last[r.Stream]
	if l.last[r.Stream] = e; before != nil {
		before.next = e
	}
	if before == nil || l.total() {
		l.ready = append(l.ready, e)
	}
}

// finish takes an event for done, and has the next of its stream follow.
func (l *line) finish(e *entry) {
	e.done = true
	switch {
	case e.next == nil:
		delete(l.last, e.record.Stream)
	case !l.total():
		l.ready = append(l.ready, e.next)
	}
	e.next = nil
}

// advance takes what is done off the main line.
func (l *line) advance() {
	n := 0
	for n < len(l.entries) && l.entries[n].done {
		l.bytes -= l.entries[n].record.Size()
		n++
	}
	position, event := l.position, l.event
	if n > 0 {
		last := l.entries[n-1].record
		position, event = last.Position, last.ID
		clear(l.entries[:n])
		l.entries = l.entries[n:]
	}
	if len(l.entries) == 0 {
		if l.entries = nil; l.read > position {
			position, event = l.read, uuid.Nil
		}
	}
	if position > l.position {
		l.position, l.event, l.unsaved = position, event, true
	}
}

// hand hands out what workers are free for, and heeds what was decided on events
// whose turn it is.
func (l *line) hand() error {
	now := time.Now()
	if err := l.handSidings(now); err != nil {
		return err
	}
	for len(l.ready) > 0 {
		e := l.ready[0]
		standing := l.decided[e.record.ID]
		idle := e.done || standing.open() || standing.skipped
		busy := len(l.flying) >= l.config.Workers
		if !idle && (busy || e.due.After(now)) || l.total() && busy {
			break // of one worker it is nobody's turn while one is under way
		}
		l.ready[0] = nil
		if l.ready = l.ready[1:]; len(l.ready) == 0 {
			l.ready = nil
		}
		switch {
		case e.done:
		case standing.open():
			l.shunt(e)
		case standing.skipped:
			l.finish(e)
		default:
			e.under = &delivery{record: e.record, attempt: e.attempts + 1, entry: e}
			if err := l.deliver(e.under); err != nil {
				return err
			}
		}
	}
	l.advance()
	l.overtake()
	return nil
}

// overtake has the main line go on past events that are under way and do not end,
// while workers are free and all that was read behind them is done or waits.
func (l *line) overtake() {
	for !l.total() && l.crowded() && len(l.ready) == 0 && len(l.flying) < l.config.Workers && l.trying < mostBehind {
		e := l.entries[0] // nothing is ready and nothing is before it: it is under way
		d, s := e.under, l.shunt(e)
		s.under, d.entry, d.siding = d, nil, s
		l.aside++
		l.placed(s)
		l.advance()
	}
}
