package driven

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

const watchPause = 20 * time.Millisecond // between two looks at where the log ends

// watch keeps where the log ends.
func (f *Folds) watch(ctx context.Context) {
	var seen eventstore.Position
	for failures := 0; ctx.Err() == nil; {
		head, err := f.config.Store.Head(ctx)
		if err == nil {
			f.line.saw(head)
			seen = max(seen, head)
			err = f.config.Store.Wait(ctx, seen)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			pause(ctx, watchPause)
		case final(err):
			f.line.fail(err)
			return
		default:
			f.line.trouble(fmt.Errorf("look where the log ends: %w", err))
			pause(ctx, min(lastPause, firstPause<<min(failures, 10)))
			failures++
		}
	}
}

// final reports whether trying again is of no use.
func final(err error) bool {
	for _, end := range []error{eventstore.ErrRewound, eventstore.ErrDamaged, eventstore.ErrNewerFormat, eventstore.ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// A look at the log is followed by a rest of so many times as long, and not of less
// than leastRest, so that a stream of messages without a pause is not read twice.
const (
	restAfter = 4
	leastRest = time.Millisecond
)

// look asks the log what only it knows: what is between two messages, whether an
// append goes on, and what messages that do not come would have brought.
func (f *Folds) look(ctx context.Context) {
	select {
	case <-f.line.begins:
	case <-ctx.Done():
		return
	}
	history := f.line.history // up to here nobody is waited for
	if f.config.Subscriber == nil && !f.config.Handled {
		history = 0 // the subscriber brings it
	}
	var seen place
	for failures := 0; ctx.Err() == nil; {
		now, read, after, changed := f.line.wants(history, f.config.Late)
		if now {
			began := time.Now()
			err := f.lookOnce(ctx, read, &seen)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				failures = 0
				pause(ctx, max(leastRest, restAfter*time.Since(began)))
			case final(err):
				f.line.fail(err)
				return
			default:
				f.line.trouble(fmt.Errorf("look into the log: %w", err))
				pause(ctx, min(lastPause, firstPause<<min(failures, 10)))
				failures++
			}
			continue
		}
		var late <-chan time.Time
		timer := time.NewTimer(after)
		if after > 0 {
			late = timer.C
		}
		select {
		case <-changed:
		case <-late:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// wants says whether to look into the log now, and whether to read what is missing;
// if not, after which time, 0 for never, unless something changes.
func (l *line) wants(history eventstore.Position, late time.Duration) (now, read bool, after time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed = l.bell.Listen()
	behind := l.head > l.top || len(l.ahead) > 0
	switch {
	case l.failed != nil:
		return false, false, 0, changed
	case l.top < history && !l.full():
		return true, true, 0, changed
	case behind && late > 0 && !l.full():
		if after = late - time.Since(l.moved); after <= 0 || l.crowded() {
			return true, true, 0, changed
		}
	}
	return l.floor < l.top && l.next == 0 || len(l.ahead) > 0 && l.next == 0, false, after, changed
}

// place is where an event was seen.
type place struct {
	at    eventstore.Position
	event uuid.UUID
}

// lookOnce reads the log behind what is in order, up to what was not delivered, or
// with that. It sees as well whether the log still has what was on top, now and when
// it was looked at before: messages may be of the copy that took its place.
func (f *Folds) lookOnce(ctx context.Context, read bool, seen *place) error {
	top := f.line.at()
	if seen.event != uuid.Nil && seen.at < top.at {
		if err := f.stillThere(ctx, *seen); err != nil {
			return err
		}
	}
	q := eventstore.Query{After: top.at}
	known := top.event != uuid.Nil
	if known {
		q.After--
	}
	last := top.at
	for r, err := range f.config.Store.Read(ctx, q) {
		if err != nil {
			return err
		}
		if known {
			if r.Position != top.at || r.ID != top.event {
				return lost(top)
			}
			known, *seen = false, top
			continue
		}
		if !f.line.meet(r, read) {
			return nil
		}
		last, *seen = r.Position, place{r.Position, r.ID}
		if read {
			if changed, err := f.line.room(0, false); changed != nil || err != nil {
				return err // later on
			}
		}
	}
	if known {
		return lost(top)
	}
	f.line.whole(last)
	return nil
}

func (f *Folds) stillThere(ctx context.Context, p place) error {
	for r, err := range f.config.Store.Read(ctx, eventstore.Query{After: p.at - 1, Limit: 1}) {
		if err != nil || r.Position == p.at && r.ID == p.event {
			return err
		}
	}
	return lost(p)
}

func lost(p place) error {
	return fmt.Errorf("%w: event %s, which was at position %d, is gone: an older copy of the log took its place; restart, and see what it lacks", eventstore.ErrRewound, p.event, p.at)
}
