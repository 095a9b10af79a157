package driven

import (
	"context"
	"iter"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// log is a store whose log reaches as far as it was delivered. What the folds have
// not taken yet it gives from memory, the rest, and single streams, from the store.
type log struct {
	eventstore.Store
	line *line
}

// keeping is a log that keeps snapshots.
type keeping struct {
	*log
	eventstore.Checkpoints
}

func delivered(store eventstore.Store, line *line) eventstore.Store {
	l := &log{store, line}
	if can, ok := store.(eventstore.Checkpoints); ok {
		return &keeping{l, can}
	}
	return l
}

// Checkpoint leaves out those of the first position: a fold that begins there cannot
// be told from one that is empty, and it spares nothing.
func (k *keeping) Checkpoint(ctx context.Context, name string) (eventstore.Checkpoint, error) {
	c, err := k.Checkpoints.Checkpoint(ctx, name)
	if err == nil && c.Position <= 1 {
		c = eventstore.Checkpoint{}
	}
	return c, err
}

// Head returns where the whole log ends, which the folds are to come to.
func (l *log) Head(ctx context.Context) (eventstore.Position, error) {
	head, err := l.Store.Head(ctx)
	if err == nil {
		l.line.saw(head)
	}
	return head, err
}

// Read yields the log as far as it was delivered, or what single streams hold. A
// follower reads on from before the last event that its folds have, so that it sees
// whether that is still there.
func (l *log) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	if q.Streams != nil || q.Limit > 0 {
		return l.Store.Read(ctx, q)
	}
	return func(yield func(eventstore.Recorded, error) bool) {
		if q.After == 0 {
			l.line.begin(0)
		} else {
			l.line.begin(q.After + 1)
		}
		base, kept, err := l.line.open(q.After)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if q.After < base {
			for r, err := range l.Store.Read(ctx, q) {
				if err == nil && r.Position > base {
					break
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
		for _, r := range kept {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// wakeStopped is how often a follower that is stopped is woken, to look whether
// somebody has decided what is to become of the event.
const wakeStopped = 250 * time.Millisecond

// Wait returns when something later than after was delivered.
func (l *log) Wait(ctx context.Context, after eventstore.Position) error {
	for {
		var now follow.Status
		f := l.line.stands.Load()
		if f != nil {
			now = f.Status()
		}
		changed, err := l.line.beyond(after, now.Position)
		if changed == nil || err != nil {
			return err
		}
		var decided <-chan time.Time
		if f == nil || now.Stopped != nil {
			decided = time.After(wakeStopped)
		}
		select {
		case <-changed:
		case <-decided:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close leaves the store open: it is the caller's.
func (l *log) Close() error { return nil }
