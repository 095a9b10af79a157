package follow

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// mostOffered is how many offered appends are kept that cannot be applied yet.
const mostOffered = 1_024

// lookAgain is how long the follower lives on what it is offered before it looks
// at the log itself, and whether the log still has what it took last.
const lookAgain = time.Second

// waitAgain is how long it lives on that before it waits on the log again: a Wait
// ends with every append, also those that are offered, and costs a look each time.
const waitAgain = 5 * time.Millisecond

// Spaced is the optional power of a store whose appends do not follow each other without
// a gap to say where the next one may begin: the lowest position that the append behind
// the one with the event at after can have. For other stores that is after+1. Who has
// all up to after, and an append that begins there, knows that nothing lies between.
type Spaced interface {
	NextAppend(after eventstore.Position) eventstore.Position
}

// offers are appends of this process that the folds may not have yet.
type offers struct {
	mu     sync.Mutex
	kept   [][]eventstore.Recorded
	next   func(after eventstore.Position) eventstore.Position // where an append that follows on it begins
	wanted eventstore.Position                                 // somebody waits for it, and it may be in the log; 0 once that was read
	nudge  chan struct{}
}

// wake has the run look at what there is to do.
func (o *offers) wake() {
	select {
	case o.nudge <- struct{}{}:
	default:
	}
}

// want says that somebody waits for a position.
func (o *offers) want(position eventstore.Position) {
	o.mu.Lock()
	o.wanted = max(o.wanted, position)
	o.mu.Unlock()
	o.wake()
}

// wants reports whether somebody waits for a position after the given one, and
// takes it that the log is read now.
func (o *offers) wants(after eventstore.Position) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	wanted := o.wanted > after
	o.wanted = 0
	return wanted
}

// Offer hands over an append that this process has made, as the store returned it,
// so that the folds take it without reading it back. It is a hint that costs next
// to nothing beside the folds: an append is taken so only where it follows on the
// last event of the folds with no position between, and otherwise read like any
// other. Where the follower has nothing else to do and no view is under way the
// folds have it when Offer returns. The records must not be changed afterwards.
func (f *Follower) Offer(records []eventstore.Recorded) {
	if len(records) == 0 {
		return
	}
	for i := range records[1:] {
		if records[i+1].Position != records[i].Position+1 {
			return
		}
	}
	o := &f.offers
	o.mu.Lock()
	if len(o.kept) == mostOffered {
		o.kept = nil // far behind: it reads
	}
	o.kept = append(o.kept, records)
	o.mu.Unlock()
	if !f.help() {
		o.wake()
	}
}

// outcome is how taking an offer ended, where that was not well.
type outcome struct{ err error }

// help takes what is offered in the goroutine of who offers it: for two wakings it
// would have to wait otherwise. It reports whether the run need not.
func (f *Follower) help() (done bool) {
	select {
	case f.turn <- struct{}{}:
	default:
		return false // the run is at work, and looks again before it waits
	}
	defer func() { <-f.turn }()
	r := f.run
	if r.left != nil || !f.gate.tryLock() {
		return false
	}
	defer f.gate.unlock()
	r.left = &outcome{errEnded} // should a fold end this goroutine
	for {
		batch := f.offers.following(r.low())
		if len(batch) == 0 {
			r.left = nil
			return !r.due()
		}
		again, err := r.applyLocked(batch)
		if again || err != nil {
			r.left = &outcome{err}
			return false
		}
		r.since += len(batch)
	}
}

// following returns offered events that follow on position without a gap, whole
// appends, and forgets those at or before it.
func (o *offers) following(position eventstore.Position) []eventstore.Recorded {
	o.mu.Lock()
	defer o.mu.Unlock()
	var batch []eventstore.Recorded
	for found := true; found && len(batch) < batchEvents; {
		found = false
		o.kept = slices.DeleteFunc(o.kept, func(records []eventstore.Recorded) bool {
			if begins := records[0].Position; begins == o.next(position) {
				batch, position, found = append(batch, records...), records[len(records)-1].Position, true
			} else if begins > position {
				return false
			}
			return true
		})
	}
	return batch
}

// await takes what is offered, and returns when the log may hold more.
func (r *run) await(ctx context.Context) error {
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if left := r.left; left != nil {
			r.left = nil
			return left.err
		}
		for {
			batch := r.offers.following(r.low())
			if len(batch) == 0 {
				break
			}
			if again, err := r.apply(ctx, batch); again || err != nil {
				return err
			}
		}
		if r.offers.wants(r.low()) {
			return nil
		}
		pause := time.Duration(0)
		if r.due() {
			pause = r.saveBeside(ctx)
		}
		if r.waited == nil {
			if early := waitAgain - time.Since(r.woken); early > 0 && pause > 0 {
				pause = min(pause, early)
			} else if early > 0 {
				pause = early
			} else {
				r.waited, r.waitedFor = make(chan error, 1), r.low()
				waited, after := r.waited, r.waitedFor
				r.savers.Go(func() { waited <- r.store.Wait(ctx, after) })
			}
		}
		var over <-chan time.Time
		if pause > 0 {
			timer.Reset(pause)
			over = timer.C
		}
		<-r.turn
		var err error
		ended := false
		select {
		case <-r.offers.nudge:
		case <-over:
		case <-ctx.Done():
		case err = <-r.waited:
			ended, r.waited = true, nil
		}
		r.turn <- struct{}{}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case ended && (err != nil || r.low() == r.waitedFor || time.Since(began) > lookAgain):
			return err
		case ended:
			// It may have been woken by what was offered: only the log knows.
			r.woken = time.Now()
		}
	}
}
