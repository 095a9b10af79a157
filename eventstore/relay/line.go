package relay

import (
	"context"
	"fmt"
	"time"

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
//
// What was decided on an event is looked at when its turn comes, on the main line
// and on a siding alike. So when a stream goes onto a siding nothing earlier of it
// is under way or waits.
type line struct {
	*consumer
	*hold
	ctx     context.Context // ends when the lease is lost, or with the consumer
	answers chan answer
	flying  map[*delivery]bool // messages under way
	aside   int                // of them those of sidings
	turn    int                // counts deliveries

	entries []*entry            // the main line, in order, from the first that is not done
	bytes   int                 // of their events
	ready   []*entry            // those that can be handed out, in order
	last    map[string]*entry   // of each stream that has some which are not done
	read    eventstore.Position // up to here the log is read
	more    bool                // there may be more to read
	awake   chan error          // a Wait for more that is under way; nil if none is

	// The read of the log that is under way; nil if none is.
	next func() (eventstore.Recorded, error, bool)
	stop func()
	head eventstore.Position // of the log when it began

	sidings   map[string]*siding
	timetable timetable
	trying    int // of the sidings those that are not parked

	decided  decisions
	version  uint64              // of the stream of decisions, as they are known
	known    eventstore.Position // of the last of them
	heard    bool                // something was recorded since they were looked for
	look     time.Time           // before it they are not looked for again
	saved    time.Time           // when the checkpoint was
	unsaved  bool                // something is done since
	lastGood time.Time           // when a message was last acknowledged
	bad      failure             // the last delivery that failed
	badElse  failure             // the last one of another stream than that
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
		last: map[string]*entry{}, sidings: map[string]*siding{}, read: h.position, more: true,
		decided: decisions{}, heard: true, saved: time.Now(),
	}
	c.mu.Lock()
	c.behindNow, c.front = map[string]Behind{}, nil
	c.mu.Unlock()
	for stream, after := range h.behind {
		s := &siding{stream: stream, after: after, place: -1}
		l.sidings[stream] = s
		l.trying++
		l.placed(s)
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

// drain waits for the answers to what was received, until the context ends.
func (l *line) drain() {
	alive := time.NewTicker(max(l.config.Lease/3, time.Millisecond))
	defer alive.Stop()
	for len(l.flying) > 0 { // what nobody takes any more is given up by itself
		select {
		case a := <-l.answers:
			if l.settle(a) != nil {
				return
			}
		case <-alive.C:
			if l.save(l.ctx, l.hold, false) != nil {
				return
			}
		case <-l.ctx.Done():
			return
		}
	}
}

// end waits for all that was started, once the context has ended, and takes in what
// was acknowledged in the same moment.
func (l *line) end() {
	for len(l.flying) > 0 {
		a := <-l.answers
		_ = l.answered(a) // whatever it failed for, it comes again
		if a.acked {
			l.succeed(a.delivery)
		}
	}
	if l.awake != nil {
		<-l.awake
	}
	if l.next != nil {
		l.stop()
	}
	l.advance()
	l.show()
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
		if len(l.timetable) > 0 {
			at(l.timetable[0].due)
		}
		if len(l.ready) > 0 {
			at(l.ready[0].due)
		}
	}
	return max(time.Until(until), 0)
}

// total reports whether messages come in the order of the log.
func (l *line) total() bool { return l.config.Workers == 1 }

// decide looks for decisions on this consumer's events.
func (l *line) decide() error {
	if l.id == "" || !l.heard || time.Now().Before(l.look) {
		return nil
	}
	version, err := l.config.Store.Version(l.ctx, decisionStream(l.id))
	if err != nil {
		return fmt.Errorf("look for decisions on events of consumer %q: %w", l.id, err)
	}
	l.heard, l.look = l.more, time.Now().Add(lookPause)
	if version == l.version {
		return nil
	}
	return l.heed()
}

// heed takes in the decisions that are not known yet.
func (l *line) heed() error {
	for r, err := range l.config.Store.Read(l.ctx, eventstore.Query{Streams: []string{decisionStream(l.id)}, After: l.known}) {
		if err != nil {
			return fmt.Errorf("read decisions on events of consumer %q: %w", l.id, err)
		}
		payload, err := l.registry.Decode(r.Event)
		if err != nil {
			return fmt.Errorf("read decisions on events of consumer %q: %w", l.id, err)
		}
		l.decided, l.version, l.known = decider.Evolve(l.decided, payload), r.Version, r.Position
	}
	for _, s := range l.sidings {
		if s.under == nil && len(s.next) > 0 {
			l.stand(s)
		}
	}
	return nil
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
