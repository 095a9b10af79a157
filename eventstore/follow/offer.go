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

// offers are appends of this process that the folds may not have yet.
type offers struct {
	mu    sync.Mutex
	kept  [][]eventstore.Recorded
	nudge chan struct{}
}

// Offer hands over an append that this process has made, as the store returned it,
// so that the folds take it without reading it back. It is a hint that costs next
// to nothing: an append is taken so only where it follows on the last event of the
// folds with no position between, and otherwise read like any other. The records
// must not be changed afterwards.
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
	select {
	case o.nudge <- struct{}{}:
	default:
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
			if next := records[0].Position; next == position+1 {
				batch, position, found = append(batch, records...), records[len(records)-1].Position, true
			} else if next > position {
				return false
			}
			return true
		})
	}
	return batch
}

// await takes what is offered, and returns when the log may hold more.
func (r *run) await(ctx context.Context) error {
	since := time.Now()
	for {
		for {
			batch := r.offers.following(r.low())
			if len(batch) == 0 {
				break
			}
			if again, err := r.apply(ctx, batch); again || err != nil {
				return err
			}
		}
		if r.waited == nil {
			r.waited, r.waitedFor = make(chan error, 1), r.low()
			waited, after := r.waited, r.waitedFor
			r.savers.Go(func() { waited <- r.store.Wait(ctx, after) })
		}
		select {
		case <-r.offers.nudge:
		case err := <-r.waited:
			r.waited = nil
			if err != nil || r.low() == r.waitedFor || time.Since(since) > lookAgain {
				return err
			}
			// It may have been woken by what was offered: only the log knows.
		}
	}
}
