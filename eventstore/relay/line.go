package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// line is one term of a consumer: what it has read, what is under way, and which
// streams are behind.
//
// Events come onto the main line in the order of the log, up to a bounded distance
// from the first that is not done. A stream whose event fails goes onto a siding:
// the main line takes its events for done, and the siding, which remembers how far
// the stream has come, reads them by themselves until it has reached the main line.
// With one worker only a parked event puts its stream there.
type line struct {
	*consumer
	*hold
	ctx     context.Context // ends when the lease is lost, or with the consumer
	answers chan answer
	flying  map[*delivery]bool // messages under way

	entries []*entry // the main line, in order, from the first that is not done
	ready   []*entry // those that can be handed out, in order
	lanes   map[string]*lane
	sidings map[string]*siding
	read    eventstore.Position // up to here the log is read
	more    bool                // there may be more to read
	awake   chan error          // a Wait for more that is under way; nil if none is

	decided  decisions
	version  uint64    // of the stream of decisions, as they are known
	heard    bool      // something was recorded since they were looked for
	look     time.Time // before it they are not looked for again
	saved    time.Time // when the checkpoint was
	unsaved  bool      // something is done since
	lastGood time.Time // when a message was last acknowledged
}

// try is how often an event failed.
type try struct {
	attempts int
	alone    int       // attempts that count for parking: others went well since the one before
	since    time.Time // when it failed first
	last     time.Time // and last
	due      time.Time // when it is tried again
	failed   error     // why it failed last
}

// entry is an event of the main line.
type entry struct {
	try
	record eventstore.Recorded
	done   bool // acknowledged, skipped, or its stream is behind
}

// lane is a stream of which an event is ready or under way, where several workers
// keep its order.
type lane struct {
	waiting []*entry // behind that
}

// answer is what became of a delivery.
type answer struct {
	*delivery
	acked  bool
	nacked bool // neither: it was given up, since its context has ended
}

const (
	windowEvents = 256 // of the main line: read, and not done
	windowEach   = 32  // for each worker, where that is more
	windowBytes  = 8 << 20
	lookPause    = 500 * time.Millisecond
)

func newLine(ctx context.Context, c *consumer, h *hold) *line {
	l := &line{
		consumer: c, hold: h, ctx: ctx, answers: make(chan answer, c.config.Workers), flying: map[*delivery]bool{},
		lanes: map[string]*lane{}, sidings: map[string]*siding{}, read: h.position, more: true, heard: true, saved: time.Now(),
	}
	for stream, after := range h.behind {
		l.sidings[stream] = &siding{stream: stream, after: after}
	}
	return l
}

// work hands out messages until the consumer is closed, which is no error.
func (l *line) work() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for l.ctx.Err() == nil && !l.isClosing() {
		for _, step := range [...]func() error{l.decide, l.fill, l.hand, l.saveDue} {
			if err := step(); err != nil {
				return err
			}
		}
		l.show()
		if l.more && l.room() && len(l.flying) < l.config.Workers {
			continue
		}
		l.await()
		timer.Reset(l.pause())
		select {
		case a := <-l.answers:
			if err := l.settle(a); err != nil {
				return err
			}
		case err := <-l.awake:
			if l.awake, l.more, l.heard = nil, true, true; err != nil {
				return err
			}
		case <-timer.C:
		case <-l.closing:
		case <-l.ctx.Done():
		}
	}
	return nil
}

// drain waits for the answers to what was received, for so long at most.
func (l *line) drain(grace time.Duration) {
	timer := time.NewTimer(max(grace, 0))
	defer timer.Stop()
	for {
		received := false
		for d := range l.flying {
			if d.received() {
				received = true
			} else {
				d.cancel()
			}
		}
		if !received {
			return
		}
		select {
		case a := <-l.answers:
			if l.settle(a) != nil {
				return
			}
		case <-timer.C:
			return
		case <-l.ctx.Done():
			return
		}
	}
}

// end waits for all that was started, once the context has ended.
func (l *line) end() {
	for len(l.flying) > 0 {
		l.answered(<-l.answers)
	}
	if l.awake != nil {
		<-l.awake
	}
}

// await has somebody wait for the log to grow, where there is nothing to read.
func (l *line) await() {
	if l.more || l.awake != nil {
		return
	}
	awake, after := make(chan error, 1), l.read
	l.awake = awake
	go func() { awake <- l.config.Store.Wait(l.ctx, after) }()
}

// pause is how long there is nothing to do but to wait for answers and for the log.
func (l *line) pause() time.Duration {
	until := time.Now().Add(time.Hour)
	at := func(t time.Time) {
		if t.Before(until) {
			until = t
		}
	}
	if l.id != "" {
		if l.heard {
			at(l.look)
		}
		at(l.saved.Add(l.config.Lease / 3))
		if l.unsaved {
			at(l.saved.Add(l.config.SaveEvery))
		}
	}
	if len(l.flying) < l.config.Workers {
		for _, s := range l.sidings {
			if s.waits() {
				at(s.due)
			}
		}
		if len(l.ready) > 0 {
			at(l.ready[0].due)
		}
	}
	return max(time.Until(until), 0)
}

// total reports whether messages come in the order of the log.
func (l *line) total() bool { return l.config.Workers == 1 }

// room reports whether the main line is to be read on.
func (l *line) room() bool { return len(l.entries) < l.window()/2 && l.behindCount() < mostBehind }

func (l *line) window() int { return max(windowEvents, windowEach*l.config.Workers) }

// fill reads on, where there is room.
func (l *line) fill() error {
	if !l.more || !l.room() {
		return nil
	}
	head, err := l.config.Store.Head(l.ctx)
	if err != nil {
		return err
	}
	q := l.query
	q.After = l.read
	count, bytes, full := 0, 0, false
	for r, err := range l.config.Store.Read(l.ctx, q) {
		if err != nil {
			return err
		}
		l.read = r.Position
		l.add(r)
		bytes += r.Size()
		if count++; count >= l.window() || bytes >= windowBytes {
			full = true
			break
		}
	}
	if !full {
		l.more, l.read = false, max(l.read, head)
	}
	l.publish(func(now *Status) { now.Head = max(head, l.read) })
	l.advance()
	return nil
}

// add puts an event onto the main line.
func (l *line) add(r eventstore.Recorded) {
	e := &entry{record: r}
	l.entries = append(l.entries, e)
	standing := l.decided[r.ID]
	switch {
	case l.sidings[r.Stream] != nil, standing.skipped:
		e.done = true
	case standing.open():
		l.shunt(e).parked = true
	case l.total():
		l.ready = append(l.ready, e)
	case l.lanes[r.Stream] == nil:
		l.lanes[r.Stream] = &lane{}
		l.ready = append(l.ready, e)
	default:
		at := l.lanes[r.Stream]
		at.waiting = append(at.waiting, e)
	}
}

// advance takes what is done off the main line.
func (l *line) advance() {
	n := 0
	for n < len(l.entries) && l.entries[n].done {
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

// hand hands out what workers are free for.
func (l *line) hand() error {
	if len(l.flying) == l.config.Workers {
		return nil
	}
	now := time.Now()
	if err := l.handSidings(now); err != nil {
		return err
	}
	for len(l.flying) < l.config.Workers && len(l.ready) > 0 && !l.ready[0].due.After(now) {
		e := l.ready[0]
		l.ready[0] = nil
		if l.ready = l.ready[1:]; len(l.ready) == 0 {
			l.ready = nil
		}
		if err := l.deliver(&delivery{record: e.record, attempt: e.attempts + 1, entry: e}); err != nil {
			return err
		}
	}
	return nil
}

// settle takes in an answer and what follows from it.
func (l *line) settle(a answer) error {
	failed := l.lost(l.answered(a))
	switch {
	case a.acked:
		l.lastGood = time.Now()
		l.succeed(a.delivery)
	case !a.nacked:
		return nil // given up
	case errors.Is(failed, ErrLeaseLost):
		return failed
	default:
		if err := l.fail(a.delivery, failed); err != nil {
			return err
		}
	}
	l.advance()
	if !l.room() && len(l.entries) > 0 && !l.total() && l.ready == nil {
		l.overtake()
	}
	return nil
}

// answered takes a delivery off those under way, and returns why it was refused.
func (l *line) answered(a answer) error {
	delete(l.flying, a.delivery)
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
	l.publish(func(now *Status) { now.Acknowledged++ })
	if d.siding != nil {
		d.siding.succeed(d)
		l.behind[d.siding.stream], l.unsaved = d.siding.after, true
		return
	}
	d.entry.done = true
	l.pass(d.record.Stream)
}

// pass has the next event of a stream's lane follow.
func (l *line) pass(stream string) {
	at := l.lanes[stream]
	switch {
	case at == nil:
	case len(at.waiting) == 0:
		delete(l.lanes, stream)
	default:
		l.ready = append(l.ready, at.waiting[0])
		at.waiting = at.waiting[1:]
	}
}

// fail decides when a delivery that was refused is tried again, or parks it.
func (l *line) fail(d *delivery, why error) error {
	l.publish(func(now *Status) { now.Refused, now.LastError, now.LastErrorAt = now.Refused+1, why, time.Now() })
	now := time.Now()
	var t *try
	switch {
	case d.siding != nil:
		d.siding.under, t = nil, &d.siding.try
	default:
		t = &d.entry.try
	}
	if t.attempts++; t.attempts == 1 {
		t.since = now
	}
	if t.attempts == 1 || l.total() || l.lastGood.After(t.last) {
		t.alone++
	}
	t.failed, t.last, t.due = why, now, now.Add(l.backoff(t.attempts))
	l.config.Logger.Warn("a delivery failed", "consumer", l.id, "event", d.record.ID, "type", d.record.Type, "stream", d.record.Stream,
		"position", uint64(d.record.Position), "attempt", t.attempts, "again", t.due, "error", why)
	park := l.id != "" && l.poison(*t)
	if park {
		if err := l.park(d.record, *t); err != nil {
			return err
		}
	}
	switch {
	case d.siding != nil:
		d.siding.parked = park
	case park || !l.total():
		l.shunt(d.entry).parked = park
	default:
		l.ready = append([]*entry{d.entry}, l.ready...)
	}
	return nil
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

// park records that an event is not delivered any more.
func (l *line) park(r eventstore.Recorded, t try) error {
	meta := eventstore.Metadata{Actor: "consumer:" + l.id, Reason: excerpt(t.failed.Error()), Source: l.config.Holder, Causation: r.ID}
	_, err := eventstore.Update(l.ctx, l.config.Store, l.registry, func(tx *eventstore.Tx) error {
		tx.Meta = meta
		if err := l.fenced(tx); err != nil {
			return err
		}
		return decide(tx, Parked{Consumer: l.id, Event: r.ID, Stream: r.Stream, Type: r.Type, Attempts: t.attempts, Error: excerpt(t.failed.Error())})
	})
	if err != nil {
		return l.lost(fmt.Errorf("park event %s of consumer %q: %w", r.ID, l.id, err))
	}
	l.heard, l.look = true, time.Time{}
	l.config.Logger.Error("an event is parked, and its stream waits: retry or skip it", "consumer", l.id, "event", r.ID, "type", r.Type,
		"stream", r.Stream, "position", uint64(r.Position), "attempts", t.attempts, "error", t.failed)
	return nil
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

// decide looks for decisions on this consumer's events.
func (l *line) decide() error {
	if l.id == "" || !l.heard || time.Now().Before(l.look) {
		return nil
	}
	version, err := l.config.Store.Version(l.ctx, decisionPrefix+l.id)
	if err != nil {
		return fmt.Errorf("look for decisions on events of consumer %q: %w", l.id, err)
	}
	l.heard, l.look = l.more, time.Now().Add(lookPause)
	if version == l.version {
		return nil
	}
	l.decided, l.version, err = decisionsOf(l.ctx, l.config.Store, l.registry, l.id)
	if err != nil {
		return err
	}
	for _, s := range l.sidings {
		s.heed(l.decided)
	}
	l.heed()
	return nil
}

// heed takes what was decided on events that fail off the main line.
func (l *line) heed() {
	for _, e := range l.entries {
		if e.done || l.underWay(e) {
			continue
		}
		switch standing := l.decided[e.record.ID]; {
		case standing.open():
			l.shunt(e).parked = true
		case standing.skipped:
			e.done = true
			l.unready()
			l.pass(e.record.Stream)
		}
	}
	l.advance()
}

func (l *line) underWay(e *entry) bool {
	for d := range l.flying {
		if d.entry == e {
			return true
		}
	}
	return false
}

// unready takes what is done off the entries that are ready.
func (l *line) unready() {
	keep := l.ready[:0]
	for _, e := range l.ready {
		if !e.done {
			keep = append(keep, e)
		}
	}
	clear(l.ready[len(keep):])
	if l.ready = keep; len(keep) == 0 {
		l.ready = nil
	}
}

// saveDue saves the checkpoint where it is time.
func (l *line) saveDue() error {
	if l.id == "" {
		return nil
	}
	since := time.Since(l.saved)
	if since < l.config.Lease/3 && !(l.unsaved && since >= l.config.SaveEvery) {
		return nil
	}
	if err := l.save(l.ctx, l.hold, false); err != nil {
		return err
	}
	l.saved, l.unsaved = time.Now(), false
	return nil
}
