package relay

import (
	"errors"
	"fmt"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// answer is what became of a delivery.
type answer struct {
	*delivery
	acked  bool
	nacked bool // neither: it was given up, since its context has ended
}

// settle takes in an answer and what follows from it.
func (l *line) settle(a answer) error {
	failed := l.lost(l.answered(a))
	switch {
	case a.acked:
		l.succeed(a.delivery)
	case !a.nacked:
	case errors.Is(failed, ErrLeaseLost):
		return failed
	default:
		return l.fail(a.delivery, failed)
	}
	return nil
}

// answered takes a delivery off those under way, and returns why it was refused.
func (l *line) answered(a answer) error {
	delete(l.flying, a.delivery)
	if a.siding != nil {
		a.siding.under = nil
		l.aside--
	} else {
		a.entry.under = nil
	}
	a.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed == nil && !a.acked {
		return errRefused
	}
	return a.failed
}

var errRefused = errors.New("the message was refused (Nack) without a reason")

// succeed goes on behind a delivery that was acknowledged.
func (l *line) succeed(d *delivery) {
	l.lastGood = time.Now()
	l.publish(func(now *Status) { now.Acknowledged++ })
	if d.siding != nil {
		l.step(d.siding)
	} else {
		l.finish(d.entry)
	}
}

// fail decides when a delivery that was refused is tried again, or parks it.
func (l *line) fail(d *delivery, why error) error {
	now := time.Now()
	l.publish(func(status *Status) {
		status.Refused, status.LastError, status.LastErrorAt = status.Refused+1, why, now
	})
	var t *try
	if d.siding != nil {
		t = &d.siding.try
	} else {
		t = &d.entry.try
	}
	if t.attempts++; t.attempts == 1 {
		t.since = now
	}
	if l.alone(d.record.Stream, *t) {
		t.alone++
	}
	if l.bad.stream != d.record.Stream {
		l.badElse = l.bad
	}
	l.bad = failure{d.record.Stream, now}
	t.failed, t.last, t.due = why, now, now.Add(l.backoff(t.attempts))
	l.config.Logger.Warn("a delivery failed", "consumer", l.id, "event", d.record.ID, "type", d.record.Type, "stream", d.record.Stream,
		"position", uint64(d.record.Position), "attempt", t.attempts, "again", t.due, "error", why)
	if standing := l.decided[d.record.ID]; l.id != "" && !standing.open() && !standing.skipped && l.poison(*t) {
		if err := l.park(d.record, *t); err != nil {
			return err
		}
	}
	switch s := d.siding; {
	case s != nil:
		s.next = []eventstore.Recorded{d.record} // the rest is read again, so that little is held
		l.stand(s)
	case !l.total():
		l.shunt(d.entry)
	default:
		l.ready = append([]*entry{d.entry}, l.ready...)
	}
	return nil
}

// failure is that of a stream's delivery.
type failure struct {
	stream string
	at     time.Time
}

// alone reports whether an event that failed is alone in that: others went well since
// it failed last; or, where little happens, since it failed first, and none failed
// since then. The first failure counts in any case.
func (l *line) alone(stream string, t try) bool {
	if t.attempts == 1 || l.total() || l.lastGood.After(t.last) {
		return true
	}
	other := l.bad
	if other.stream == stream {
		other = l.badElse
	}
	return l.lastGood.After(t.since) && l.lastGood.After(other.at)
}

// poison reports whether an event that failed is to be parked: at once where trying
// again does not mend it; never where this program cannot read it, which another
// version may, or where no handler was called; otherwise after its attempts, of which
// those do not count before which everything else failed too: an outage that begins
// while a message is under way, or that comes and goes, parks nothing.
func (l *line) poison(t try) bool {
	var permanent permanent
	var unreadable *eventstore.DecodeError
	var uncalled notYet
	switch {
	case errors.As(t.failed, &uncalled):
		return false
	case errors.As(t.failed, &permanent):
		return true
	case errors.As(t.failed, &unreadable):
		return false
	}
	return l.config.Attempts > 0 && t.alone >= l.config.Attempts
}

// park records that an event is not delivered any more, and takes that in.
func (l *line) park(r eventstore.Recorded, t try) error {
	why := excerpt(t.failed.Error())
	_, err := eventstore.Update(l.ctx, l.config.Store, l.registry, func(tx *eventstore.Tx) error {
		tx.Meta = eventstore.Metadata{Actor: "consumer:" + l.id, Reason: why, Source: l.config.Holder, Causation: r.ID}
		if err := l.fenced(tx); err != nil {
			return err
		}
		return decide(tx, l.id, Parked{Consumer: l.id, Event: r.ID, Stream: r.Stream, Type: r.Type, Attempts: t.attempts, Error: why})
	})
	if err != nil {
		return l.lost(fmt.Errorf("park event %s of consumer %q: %w", r.ID, l.id, err))
	}
	l.config.Logger.Error("an event is parked, and its stream waits: retry or skip it", "consumer", l.id, "event", r.ID, "type", r.Type,
		"stream", r.Stream, "position", uint64(r.Position), "attempts", t.attempts, "error", t.failed)
	return l.heed()
}

// fenced holds a unit of work to the lease.
func (l *line) fenced(tx *eventstore.Tx) error { return tx.Expect(leaseStream(l.id), l.token) }

// lost returns an error as ErrLeaseLost where it is the fence that refused.
func (l *line) lost(err error) error {
	var conflict *eventstore.ConflictError
	if l.id != "" && errors.As(err, &conflict) && conflict.Stream == leaseStream(l.id) {
		return fmt.Errorf("%w: %w", ErrLeaseLost, err)
	}
	return err
}
