package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// A batch is what is applied while views wait at the gate: so many events or
// bytes, and the rest of the append in which that is reached.
const (
	batchEvents = 256
	batchBytes  = 4 << 20
)

const (
	firstPause = 10 * time.Millisecond // after a failed read; doubled with every further one
	lastPause  = 5 * time.Second
	parkPause  = 50 * time.Millisecond // between two looks for a decision while the log grows
)

// run is the follower's goroutine, and what it knows. Who has the turn alone changes
// folds: while views wait at the gate, or while none are let in because Ready is unset.
type run struct {
	*Follower
	poison *PoisonError        // the event that a fold could not take
	shut   bool                // folds may stand within an append: no views
	aiming bool                // target is to be raised to the head of the log
	target eventstore.Position // views begin when every fold has come so far
	since  int                 // events since snapshots were last taken
	batch  []eventstore.Recorded
	savers sync.WaitGroup
	rested time.Time // before it no snapshots are saved beside; under the token of saving

	left *outcome // of an offer that was taken by who made it; nil if that went well

	waited    chan error // the end of a Wait for more than waitedFor; nil while there is none
	waitedFor eventstore.Position
	woken     time.Time // when a Wait last ended by what was offered
}

var errEnded = errors.New("a fold ended the follower's goroutine: Apply returns or panics")

func (r *run) work(ctx context.Context) {
	returned := false
	defer close(r.done)
	defer r.savers.Wait()
	defer func() {
		if !returned {
			r.stop(errEnded)
		}
	}()
	for failures := 0; ; {
		before := r.low()
		err := r.step(ctx)
		var poison *PoisonError
		switch {
		case err == nil || errors.As(err, &poison):
			failures = 0
			continue
		case ctx.Err() != nil:
			returned = true
			return
		case final(err):
			r.stop(err)
			returned = true
			return
		}
		if failures++; r.low() > before {
			failures = 1
		}
		if failures == 1 {
			r.log.Warn("follower cannot read the log and tries again", "error", err)
		}
		r.publish(func(now *Status) { now.Retrying = err })
		pause(ctx, backoff(failures), nil)
	}
}

// step brings the folds to the head of the log and returns when there is more.
func (r *run) step(ctx context.Context) error {
	if r.poison != nil {
		if err := r.awaitDecision(ctx); err != nil {
			return err
		}
		r.resume()
	}
	for again := true; again; {
		if err := r.load(ctx); err != nil {
			return err
		}
		var err error
		if again, err = r.catchUp(ctx); err != nil {
			return err
		}
	}
	return r.await(ctx)
}

// low returns the position that every fold has reached.
func (r *run) low() eventstore.Position {
	low := r.folds[0].position
	for _, fold := range r.folds {
		low = min(low, fold.position)
	}
	return low
}

// catchUp reads and applies what the log holds. It returns true early if a fold
// is to be made anew.
func (r *run) catchUp(ctx context.Context) (again bool, err error) {
	head, err := r.store.Head(ctx)
	if err != nil {
		return false, err
	}
	if r.aiming {
		r.target, r.aiming = max(r.target, head), false
	}
	r.publish(func(now *Status) { now.Head = head })
	if again, err = r.read(ctx); again || err != nil {
		return again, err
	}
	r.settle()
	return false, nil
}

func (r *run) read(ctx context.Context) (again bool, err error) {
	limit := batchEvents
	if r.every > 0 {
		limit = min(limit, r.every)
	}
	batch, size := r.batch[:0], 0
	defer func() {
		clear(batch) // the bytes of events are not kept
		r.batch = batch
	}()
	last := r.last()
	from := last.Position
	if from > 0 {
		from-- // once more, to see whether it is still there
	}
	for record, err := range r.store.Read(ctx, eventstore.Query{After: from}) {
		if err == nil && last.Position > 0 {
			if record.Position != last.Position || record.ID != last.ID {
				return false, lostEvent(last)
			}
			last.Position = 0
			continue
		}
		if err != nil {
			// What was read of the last append may not be all of it.
			whole := len(batch)
			for whole > 0 && batch[whole-1].Append == batch[len(batch)-1].Append {
				whole--
			}
			if again, err := r.apply(ctx, batch[:whole]); again || err != nil {
				return again, err
			}
			return false, err
		}
		if (len(batch) >= limit || size >= batchBytes) && record.Append != batch[len(batch)-1].Append {
			if again, err := r.apply(ctx, batch); again || err != nil {
				return again, err
			}
			clear(batch)
			batch, size = batch[:0], 0
		}
		batch = append(batch, record)
		size += len(record.Data) + len(record.Meta)
	}
	if last.Position > 0 {
		return false, lostEvent(last)
	}
	return r.apply(ctx, batch)
}

// last returns the position that every fold has reached, and the ID of the event there.
func (r *run) last() (last eventstore.Recorded) {
	last.Position = r.low()
	for _, fold := range r.folds {
		if fold.position == last.Position {
			last.ID = fold.event
		}
	}
	return last
}

func lostEvent(last eventstore.Recorded) error {
	return fmt.Errorf("%w: event %s, which was at position %d, is gone: an older copy of the log took its place; restart, and see what it lacks",
		eventstore.ErrRewound, last.ID, last.Position)
}

// apply gives a batch of whole appends to every fold.
func (r *run) apply(ctx context.Context, batch []eventstore.Recorded) (again bool, err error) {
	if len(batch) == 0 {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if again, err = r.applyInside(batch); again || err != nil {
		return again, err
	}
	if r.since += len(batch); r.due() {
		r.saveBeside(ctx) // or else await does
	}
	return false, nil
}

func (r *run) applyInside(batch []eventstore.Recorded) (again bool, err error) {
	r.gate.lock()
	defer r.gate.unlock()
	return r.applyLocked(batch)
}

func (r *run) applyLocked(batch []eventstore.Recorded) (again bool, err error) {
	defer r.settle() // before the gate opens: Ready is what views go by
	r.shut = true
	if err := r.feed(batch); err != nil {
		return false, err
	}
	r.shut = false
	for _, fold := range r.folds {
		if fold.anew {
			r.log.Warn("an event was parked that this fold had taken: the fold starts anew", "fold", fold.name)
			r.target = max(r.target, fold.position)
			fold.loaded, again = false, true
		}
	}
	return again, nil
}

// feed applies the records that a fold does not have yet. After an error or a
// panic the folds before that one have the record, it and those behind it do not.
func (r *run) feed(batch []eventstore.Recorded) (err error) {
	var fold *fold
	var record *eventstore.Recorded
	defer func() {
		if v := recover(); v != nil {
			fold.loaded = false // half changed, perhaps
			err = r.poisoned(fold, record, panicked(v), debug.Stack())
		}
	}()
	for i := range batch {
		record = &batch[i]
		for _, fold = range r.folds {
			if record.Position <= fold.position {
				continue
			}
			if d := fold.parked[record.ID]; d != nil {
				d.skipped = true
			} else if err := fold.state.Apply(*record); err != nil {
				return r.poisoned(fold, record, err, nil)
			}
			fold.position, fold.event = record.Position, record.ID
			if record.Stream == fold.stream && record.Type == parkedType {
				d, err := r.note(fold, *record)
				if err != nil {
					return err
				}
				if !d.skipped && !d.always {
					fold.anew = true
				}
			}
		}
	}
	return nil
}

func (r *run) poisoned(fold *fold, e *eventstore.Recorded, cause error, stack []byte) error {
	r.poison = &PoisonError{
		Fold: fold.name, Event: e.ID, Position: e.Position, Stream: e.Stream, Type: e.Type, Cause: cause, Stack: stack,
	}
	return r.poison
}

func panicked(v any) error {
	if err, ok := v.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic: %v", v)
}

// settle publishes how far the folds have come and whether that is a cut.
func (r *run) settle() {
	low, high, loaded := r.low(), eventstore.Position(0), true
	for _, fold := range r.folds {
		high, loaded = max(high, fold.position), loaded && fold.loaded
	}
	r.publish(func(now *Status) {
		for i, fold := range r.folds {
			now.Folds[i].Position = fold.position
		}
		now.Position, now.Head = low, max(now.Head, high)
		now.Retrying = nil
		now.Ready = loaded && low == high && low >= r.target && !r.aiming && !r.shut && now.Stopped == nil && !now.Closed
	})
}

// stop makes visible that the follower does not go on.
func (r *run) stop(cause error) {
	// The log first: who is told by View finds it there.
	var poison *PoisonError
	switch {
	case errors.As(cause, &poison):
		r.log.Error("follower is stopped", "fold", poison.Fold, "event", poison.Event, "position", poison.Position,
			"stream", poison.Stream, "type", poison.Type, "error", poison.Cause, "stack", string(poison.Stack))
	case errors.Is(cause, eventstore.ErrClosed):
		r.log.Info("follower ends with its store")
	default:
		r.log.Error("follower is stopped", "error", cause)
	}
	r.publish(func(now *Status) { now.Stopped, now.Ready, now.Retrying = &StoppedError{cause}, false, nil })
}

// final reports whether trying again is of no use.
func final(err error) bool {
	var decode *eventstore.DecodeError
	return errors.Is(err, eventstore.ErrClosed) || errors.Is(err, eventstore.ErrRewound) ||
		errors.Is(err, eventstore.ErrDamaged) || errors.Is(err, eventstore.ErrNewerFormat) ||
		errors.As(err, &decode) || errors.Is(err, errBroken) || errors.Is(err, errEnded)
}

// awaitDecision returns when it is recorded that the poison is left out, here or
// by a follower elsewhere. Unless that is so already the follower is stopped.
func (r *run) awaitDecision(ctx context.Context) error {
	for stopped := r.Status().Stopped != nil; ; {
		// The head first: what is recorded after it ends the Wait below.
		head, err := r.store.Head(ctx)
		if err == nil {
			err = r.learn(ctx)
		}
		if r.byName[r.poison.Fold].parked[r.poison.Event] != nil {
			return nil
		}
		if !stopped {
			r.stop(r.poison)
			stopped = true
		}
		if err != nil {
			return err
		}
		r.publish(func(now *Status) { now.Head, now.Retrying = head, nil })
		if err := r.store.Wait(ctx, head); err != nil {
			return err
		}
		pause(ctx, parkPause, r.nudge)
	}
}

func (r *run) resume() {
	r.log.Info("follower goes on without a parked event", "fold", r.poison.Fold, "event", r.poison.Event)
	r.poison, r.shut, r.aiming = nil, false, true
	r.publish(func(now *Status) { now.Stopped = nil })
}

// pause ends after d, with ctx, or early by a nudge.
func pause(ctx context.Context, d time.Duration, nudge <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-nudge:
	case <-ctx.Done():
	}
}

// backoff grows with every failure and is never the same for two followers.
func backoff(failures int) time.Duration {
	d := min(lastPause, firstPause<<min(failures-1, 20))
	return d/2 + rand.N(d/2)
}
