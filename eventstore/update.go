package eventstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

const (
	attempts = 16                    // of an Update that meets conflicts, and of an append whose outcome is unknown
	backoff  = 50 * time.Millisecond // at most, between two of them
)

// Update runs one unit of work: f reads streams, decides and records through
// tx, and what it recorded is appended at its end, under the versions of all
// the streams it read or checked. It returns what was recorded, nil if f
// recorded nothing.
//
// If another writer was faster, all of f runs again on the new state, 16 times
// at most with a growing pause; so f has no effects of its own. A conflict on a
// stream pinned by [Tx.Expect] is returned at once: the caller named that
// version, and a retry never widens what he agreed to. If the outcome of the
// append is unknown the same events are sent again, which is safe.
//
// It costs what f reads and one append.
func Update(ctx context.Context, store Store, registry *Registry, f func(tx *Tx) error) ([]Recorded, error) {
	for attempt := 1; ; attempt++ {
		tx := &Tx{ctx: ctx, store: store, registry: registry, streams: map[string]*pinned{}}
		if err := f(tx); err != nil {
			return nil, err
		}
		if len(tx.events) == 0 {
			return nil, nil
		}
		records, err := resend(ctx, store, tx.events, tx.expectations())
		var conflict *ConflictError
		if err == nil || !errors.As(err, &conflict) {
			return records, err
		}
		if p := tx.streams[conflict.Stream]; p != nil && p.named {
			return nil, err
		}
		if attempt == attempts {
			return nil, fmt.Errorf("gave up after %d attempts: %w", attempts, err)
		}
		if attempt > 1 {
			if err := pause(ctx, attempt); err != nil {
				return nil, NotApplied(err)
			}
		}
	}
}

// resend appends, and appends again while the outcome is unknown.
func resend(ctx context.Context, store Store, events []Event, expect []Expect) ([]Recorded, error) {
	for attempt := 1; ; attempt++ {
		records, err := store.Append(ctx, events, expect...)
		if !errors.Is(err, ErrOutcomeUnknown) || attempt == attempts {
			return records, err
		}
		if pause(ctx, attempt) != nil {
			return nil, err // still unknown
		}
	}
}

// pause waits longer with every attempt, never the same time for two writers.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(rand.N(min(backoff, time.Millisecond<<attempt)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tx is one unit of work within [Update]. It is not for concurrent use and ends
// with the function it was given to.
type Tx struct {
	Meta  Metadata         // of the events recorded from here on
	Tags  []string         // of the events recorded from here on, behind those of the payload
	NewID func() uuid.UUID // of the events recorded from here on; nil draws version 7

	ctx      context.Context
	store    Store
	registry *Registry
	streams  map[string]*pinned
	order    []string // of pinning, so that expectations are always sent in one order
	events   []Event
}

// pinned is a stream this unit of work depends on.
type pinned struct {
	version uint64
	named   bool        // by the caller: a conflict on it is not retried
	pending []any       // payloads recorded in this unit, as they will be read back
	loaded  map[any]any // Load's states, by loadKey
}

// Context returns the context of the Update.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Check pins stream at the version where it stands, and returns that version:
// if it has moved by the end, the unit of work runs again.
func (tx *Tx) Check(stream string) (uint64, error) {
	if p := tx.streams[stream]; p != nil {
		return p.version, nil
	}
	version, err := tx.store.Version(tx.ctx, stream)
	if err != nil {
		return 0, err
	}
	tx.pin(stream, version)
	return version, nil
}

// Expect pins stream at a version that the caller knows: the one a person saw,
// or 0 for a stream that must be new. Where the stream stands elsewhere, Expect
// or the Update itself fails with a *ConflictError, without another try.
func (tx *Tx) Expect(stream string, version uint64) error {
	p := tx.streams[stream]
	if p == nil {
		p = tx.pin(stream, version)
	}
	p.named = true
	if p.version != version {
		return &ConflictError{Stream: stream, Want: version, Actual: p.version}
	}
	return nil
}

func (tx *Tx) pin(stream string, version uint64) *pinned {
	p := &pinned{version: version, loaded: map[any]any{}}
	tx.streams[stream] = p
	tx.order = append(tx.order, stream)
	return p
}

// Record collects payloads as events of stream, in order. The stream must have
// been loaded, checked or expected in this unit of work; see [Tx.RecordBlind].
func (tx *Tx) Record(stream string, payloads ...any) error {
	if tx.streams[stream] == nil {
		return fmt.Errorf("record to stream %q: load, check or expect it first, or say RecordBlind", stream)
	}
	return tx.RecordBlind(stream, payloads...)
}

// RecordBlind collects payloads as events of stream at whatever version it
// stands: for streams that only collect, where nothing is decided.
func (tx *Tx) RecordBlind(stream string, payloads ...any) error {
	meta, err := tx.Meta.Encode()
	if err != nil {
		return err
	}
	for _, payload := range payloads {
		id, err := tx.newID()
		if err != nil {
			return err
		}
		event, err := tx.registry.Encode(id, payload)
		if err != nil {
			return err
		}
		event.Stream, event.Meta = stream, meta
		event.Tags = addTags(event.Tags, tx.Tags)
		tx.events = append(tx.events, event)
		if p := tx.streams[stream]; p != nil {
			// As it will be read back, not as it was given: the state that a
			// command returns is then the state that a replay gives.
			read, err := tx.registry.Decode(event)
			if err != nil {
				return err
			}
			p.pending = append(p.pending, read)
		}
	}
	return nil
}

func (tx *Tx) newID() (uuid.UUID, error) {
	if tx.NewID != nil {
		return tx.NewID(), nil
	}
	return uuid.NewV7()
}

func (tx *Tx) expectations() []Expect {
	expect := make([]Expect, len(tx.order))
	for i, stream := range tx.order {
		expect[i] = At(stream, tx.streams[stream].version)
	}
	return expect
}
