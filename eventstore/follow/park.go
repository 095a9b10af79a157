package follow

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

const (
	parkedType   = "follow.parked"
	parkedPrefix = "parked-"
)

// Parked is recorded in the stream "parked-FOLD" when somebody decides that a
// fold leaves out an event it cannot take. Who and why are in its Metadata.
type Parked struct {
	Fold     string              `json:"fold"`
	Event    uuid.UUID           `json:"event"`    // by which the decision is honoured
	Position eventstore.Position `json:"position"` // in the log where it was decided; another one after an import
	Stream   string              `json:"stream"`
	Type     string              `json:"type"`
	Error    string              `json:"error,omitzero"` // what the fold said, at most 1 KiB of it
}

// maxError bounds Parked.Error, in bytes.
const maxError = 1 << 10

// Types returns the payloads that this package records, for a registry.
func Types() []eventstore.EventType {
	return []eventstore.EventType{eventstore.Type[Parked](parkedType, 1)}
}

// ErrNotStopped says that a follower is not stopped at the event to be parked.
var ErrNotStopped = errors.New("follower is not stopped at this event")

// Park decides that fold leaves out event, at which the follower is stopped
// (*PoisonError). The decision is recorded in the log with meta, which must name
// Actor and Reason, and Park returns when the follower goes on, for all other
// folds with the event. Followers elsewhere and later ones honour it too; one
// whose fold had taken the event folds anew. Who parks an event that is parked
// already changes nothing.
//
// A fold that panicked may be half changed: it starts again from its snapshot,
// or from the beginning of the log.
//
// It fails with ErrNotStopped if the follower is not stopped there, and as
// eventstore.Update does; after an error it is safe to park again.
func (f *Follower) Park(ctx context.Context, fold string, event uuid.UUID, meta eventstore.Metadata) error {
	if meta.Actor == "" || meta.Reason == "" {
		return errors.New("park: a decision names its actor and reason")
	}
	stopped, poison, err := f.stoppedAt(fold, event)
	if poison == nil {
		return err
	}
	if meta.Causation == uuid.Nil {
		meta.Causation = event
	}
	id := uuid.NewSHA1(event, []byte(parkedType+" "+fold))
	_, err = eventstore.Update(ctx, f.store, f.registry, func(tx *eventstore.Tx) error {
		tx.Meta = meta
		tx.NewID = func() uuid.UUID { return id }
		return tx.RecordBlind(parkedPrefix+fold, Parked{
			Fold: fold, Event: event, Position: poison.Position, Stream: poison.Stream, Type: poison.Type,
			Error: excerpt(poison.Cause.Error()),
		})
	})
	var taken *eventstore.DuplicateError
	if errors.As(err, &taken) && taken.ID == id {
		err = nil // somebody else decided the same; his words stand
	}
	if err != nil {
		return fmt.Errorf("park event %s of fold %q: %w", event, fold, err)
	}
	select {
	case f.nudge <- struct{}{}:
	default:
	}
	for {
		f.mu.Lock()
		ended, changed := f.now.Closed || f.now.Stopped != stopped, f.bell.Listen()
		f.mu.Unlock()
		if ended {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("event %s of fold %q is parked, but the follower has not gone on yet: %w", event, fold, ctx.Err())
		}
	}
}

// stoppedAt returns the stop that parking event ends; a nil poison and no error
// if it is parked already.
func (f *Follower) stoppedAt(fold string, event uuid.UUID) (stopped error, poison *PoisonError, err error) {
	now := f.Status()
	if now.Closed {
		return nil, nil, closedError{}
	}
	if errors.As(now.Stopped, &poison) && poison.Fold == fold && poison.Event == event {
		return now.Stopped, poison, nil
	}
	for _, s := range now.Folds {
		for _, p := range s.Parked {
			if s.Name == fold && p.Event == event {
				return nil, nil, nil
			}
		}
	}
	return nil, nil, fmt.Errorf("park event %s of fold %q: %w: only what Status shows as poison can be parked", event, fold, ErrNotStopped)
}

// excerpt returns the beginning of a text as valid UTF-8.
func excerpt(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxError)], "")
}

// decision is what a fold knows of one of its parked events.
type decision struct {
	parked Parked
	at     eventstore.Position // of the decision itself
	// The event was left out of the state as it stands.
	skipped bool
	// It was known before the state took its first event, so that the event is
	// left out or still to come.
	always bool
}

// learn reads all decisions on the folds' events. It costs one read of their streams.
func (f *Follower) learn(ctx context.Context) error {
	q := eventstore.Query{Types: []string{parkedType}}
	for _, fold := range f.folds {
		q.Streams = append(q.Streams, fold.stream)
	}
	for r, err := range f.store.Read(ctx, q) {
		if err != nil {
			return fmt.Errorf("read parked events: %w", err)
		}
		if _, err := f.note(f.byName[strings.TrimPrefix(r.Stream, parkedPrefix)], r); err != nil {
			return err
		}
	}
	return nil
}

// note takes in the record of a decision on an event of fold.
func (f *Follower) note(fold *fold, r eventstore.Recorded) (*decision, error) {
	payload, err := f.registry.Decode(r.Event)
	if err != nil {
		return nil, err
	}
	parked := payload.(Parked)
	if d := fold.parked[parked.Event]; d != nil {
		return d, nil
	}
	d := &decision{parked: parked, at: r.Position, always: fold.position == 0}
	fold.parked[parked.Event] = d
	f.publish(func(now *Status) {
		for i := range now.Folds {
			if now.Folds[i].Name == fold.name {
				now.Folds[i].Parked = append(now.Folds[i].Parked, parked)
			}
		}
	})
	return d, nil
}
