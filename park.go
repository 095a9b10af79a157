package rollforward

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

var (
	// ErrNoName says that neither a fold nor a handler has a name.
	ErrNoName = errors.New("no fold and no handler has this name")

	// ErrNoEvent says that the log has no event of an ID.
	ErrNoEvent = errors.New("the log has no such event")

	// ErrFold says that a decision is for events of handlers only.
	ErrFold = errors.New("an event of a fold can only be parked, which leaves it out for good")
)

// Park decides that an event which cannot be taken is left out: by a fold for good, so
// that the follower that is stopped at it goes on; by a handler until Retry or Skip,
// while its stream waits. The decision is recorded with who decided and why, and holds
// wherever the fold or handler runs. The actor needs the right to "follow.park", with
// the fold as its object, or "handler.park", with the handler.
//
// The name is that of a fold of this engine, or of a handler that runs here or has
// ever run on this log. Errors: ErrNoName, ErrNoEvent, follow.ErrNotStopped for a fold
// that is not stopped at the event, and those of command.Door.Do. For an event of a
// handler that has not failed in this process it costs a read of the log.
func (e *Engine) Park(ctx context.Context, actor command.Actor, name string, event uuid.UUID, reason string) error {
	if e.isFold(name) {
		return e.parkFold(ctx, actor, name, event, reason)
	}
	return e.decide(ctx, actor, "handler.park", name, event, reason, func(tx *command.Tx) error {
		found, err := e.find(ctx, name, event)
		if err != nil {
			return err
		}
		return relay.Park(tx.Tx, name, found, reason)
	})
}

// Retry decides that a parked event is delivered to its handler again. The actor needs
// the right to "handler.retry". Errors are those of Park, ErrFold, and
// relay.ErrNotParked.
func (e *Engine) Retry(ctx context.Context, actor command.Actor, name string, event uuid.UUID, reason string) error {
	return e.decide(ctx, actor, "handler.retry", name, event, reason, func(tx *command.Tx) error {
		return relay.Retry(tx.Tx, name, event)
	})
}

// Skip decides that a handler is never given an event, whether it is parked, fails, or
// is still to come, and that its stream goes on. The actor needs the right to
// "handler.skip". Errors are those of Park, and ErrFold.
func (e *Engine) Skip(ctx context.Context, actor command.Actor, name string, event uuid.UUID, reason string) error {
	return e.decide(ctx, actor, "handler.skip", name, event, reason, func(tx *command.Tx) error {
		if _, err := e.find(ctx, name, event); err != nil {
			return err
		}
		return relay.Skip(tx.Tx, name, event)
	})
}

// decide passes the door with a decision on an event of a handler.
func (e *Engine) decide(ctx context.Context, actor command.Actor, action, name string, event uuid.UUID, reason string, f func(tx *command.Tx) error) error {
	call := command.Call{Actor: actor, Action: action, Target: name, Reason: reason, Causation: event}
	_, err := e.Door.Do(ctx, call, func(tx *command.Tx) error {
		if err := authorized(tx); err != nil {
			return err
		}
		if e.isFold(name) {
			return fmt.Errorf("%s of %q: %w", action, name, ErrFold)
		}
		if !e.handles(name) {
			taken, err := e.store.Version(ctx, "lease-"+name)
			if err != nil {
				return err
			}
			if taken == 0 {
				return fmt.Errorf("%s of %q: %w", action, name, ErrNoName)
			}
		}
		return f(tx)
	})
	return err
}

// authorized asks for the right to the call's action on its target, and for a reason.
func authorized(tx *command.Tx) error {
	if tx.Call.Reason == "" {
		return command.Refuse(command.Refusal{
			Kind: command.Malformed, Rule: "reason-required", Field: "reason",
			Reason: "a decision on an event is recorded with its reason", Remedy: "say why",
		})
	}
	return tx.Authorize(tx.Call.Action, tx.Call.Target, nil)
}

// parkFold has the door judge, and the follower record: it knows what it is stopped at.
func (e *Engine) parkFold(ctx context.Context, actor command.Actor, name string, event uuid.UUID, reason string) error {
	call := command.Call{Actor: actor, Action: "follow.park", Target: name, Reason: reason, Causation: event}
	var now eventstore.Metadata
	if _, err := e.Door.Do(ctx, call, func(tx *command.Tx) error {
		now = tx.Meta
		return authorized(tx)
	}); err != nil {
		return err
	}
	return e.follower.Park(ctx, name, event, now)
}

// find returns an event by its ID: one that a handler here has failed at, or one that
// is parked, or else whatever the log has.
func (e *Engine) find(ctx context.Context, name string, event uuid.UUID) (eventstore.Event, error) {
	for _, h := range e.Status().Handlers {
		for _, b := range h.Behind {
			if b.Event == event {
				return eventstore.Event{ID: b.Event, Stream: b.Stream, Type: b.Type}, nil
			}
		}
	}
	for r, err := range e.store.Read(ctx, eventstore.Query{Streams: []string{"relay-" + name}}) {
		if err != nil {
			return eventstore.Event{}, fmt.Errorf("look for event %s: %w", event, err)
		}
		payload, err := e.registry.Decode(r.Event)
		if err != nil {
			return eventstore.Event{}, fmt.Errorf("look for event %s: %w", event, err)
		}
		if p, ok := payload.(relay.Parked); ok && p.Event == event {
			return eventstore.Event{ID: p.Event, Stream: p.Stream, Type: p.Type}, nil
		}
	}
	for r, err := range e.store.Read(ctx, eventstore.Query{PayloadsOnly: true, Lend: true}) {
		if err != nil {
			return eventstore.Event{}, fmt.Errorf("look for event %s: %w", event, err)
		}
		if r.ID == event {
			return eventstore.Event{ID: r.ID, Stream: r.Stream, Type: r.Type}, nil
		}
	}
	return eventstore.Event{}, fmt.Errorf("event %s: %w", event, ErrNoEvent)
}
