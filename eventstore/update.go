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
	attempts = 100                   // of an Update that meets conflicts, and of an append whose outcome is unknown
	backoff  = 50 * time.Millisecond // at most, between two of them
)

// Update runs one unit of work: f reads streams, decides and records through
// tx, and what it recorded is appended at its end, under the versions of all
// the streams it read or checked. It returns what was recorded, nothing if f
// recorded nothing.
//
// If another writer was faster, all of f runs again on the new state, with a
// growing pause, 100 times at most or until ctx ends; so f has no effects of its
// own. A conflict on a stream pinned by [Tx.Expect] is returned at once: the
// caller named that version, and a retry never widens what he agreed to.
//
// If the outcome of the append is unknown the same events are sent again, which
// is safe. Only what the store then says of these events settles it: if it
// cannot be reached any more, the error is still ErrOutcomeUnknown.
//
// It costs what f reads and one append.
func Update(ctx context.Context, store Store, registry *Registry, f func(tx *Tx) error) ([]Recorded, error) {
	for attempt := 1; ; attempt++ {
		tx := &Tx{ctx: ctx, store: store, registry: registry, streams: map[string]*pinned{}, anew: attempt > 1}
		err := f(tx)
		if err != nil || len(tx.events) == 0 {
			if stale, unknown := tx.stale(); stale {
				continue // it was decided on a state that the log has left behind
			} else if unknown != nil {
				return nil, unknown // a refusal on a state that may be an old one is none
			}
		}
		if err != nil {
			return nil, err
		}
		if len(tx.events) == 0 {
			return nil, tx.hold()
		}
		records, err := resend(ctx, store, tx.events, tx.expectations())
		var conflict *ConflictError
		if err == nil && len(records) > 0 { // none where it is only tried
			for _, f := range tx.appended {
				f()
			}
		}
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

// resend appends, and appends again while the outcome is unknown. Once it is, an
// append that fails without a look at the events says nothing of the one before.
func resend(ctx context.Context, store Store, events []Event, expect []Expect) ([]Recorded, error) {
	var unknown error
	for attempt := 1; ; attempt++ {
		records, err := store.Append(ctx, events, expect...)
		switch {
		case err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrDuplicate):
			return records, err
		case errors.Is(err, ErrOutcomeUnknown):
			unknown = err
		case unknown == nil:
			return nil, err
		}
		if attempt == attempts || pause(ctx, attempt) != nil {
			return nil, unknown
		}
	}
}

// pause waits longer with every attempt, never the same time for two writers.
func pause(ctx context.Context, attempt int) error {
	longest := min(backoff, time.Millisecond<<min(attempt, 10))
	timer := time.NewTimer(longest/4 + rand.N(longest))
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
	payloads []any     // of events, as they will be read back
	anew     bool      // what caches know is not used: it was not what the log had
	head     *Position // of the log, as it was first asked for
	appended []func()  // run when the append has succeeded
	meta     []byte    // encoded, of
	encoded  Metadata  // as it was then
}

// pinned is a stream this unit of work depends on.
type pinned struct {
	version uint64
	named   bool  // by the caller: a conflict on it is not retried
	assumed bool  // its version is that of a cache, and not known to be where it stands
	read    bool  // history is there
	history []any // payloads up to version
}

// Context returns the context of the Update.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Head returns the position of the last event of the log as this unit of work
// first asked for it: however often it asks, it costs one look. Nothing is pinned
// by it.
func (tx *Tx) Head() (Position, error) {
	if tx.head == nil {
		head, err := tx.store.Head(tx.ctx)
		if err != nil {
			return 0, err
		}
		tx.head = &head
	}
	return *tx.head, nil
}

// Check pins stream at the version where it stands, and returns that version:
// if it has moved by the end, the unit of work runs again.
func (tx *Tx) Check(stream string) (uint64, error) {
	if p := tx.streams[stream]; p != nil {
		return p.version, nil
	}
	if known, ok := tx.store.(Recaller); ok && !tx.anew {
		if version, ok := known.Recall(stream); ok {
			tx.assume(stream, version)
			return version, nil
		}
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
// or the Update itself fails with a *ConflictError, without another try, also if
// nothing is recorded.
func (tx *Tx) Expect(stream string, version uint64) error {
	p := tx.streams[stream]
	switch {
	case p == nil:
		p = tx.pin(stream, version)
	case p.version == version:
	case p.named && !p.read:
		return &InputError{Field: "expect", Rule: fmt.Sprintf("stream %q is expected at one version only", stream)}
	default:
		return &ConflictError{Stream: stream, Want: version, Actual: p.version}
	}
	p.named = true
	return nil
}

// assume pins stream at a version that a cache knows; false if it is pinned at
// another one.
func (tx *Tx) assume(stream string, version uint64) bool {
	if p := tx.streams[stream]; p != nil {
		return p.version == version
	}
	tx.pin(stream, version).assumed = true
	return true
}

// stale reports whether a stream that was assumed to stand at a version stands at
// another one.
func (tx *Tx) stale() (bool, error) {
	for _, stream := range tx.order {
		if p := tx.streams[stream]; p.assumed {
			version, err := tx.store.Version(tx.ctx, stream)
			if err != nil {
				return false, err
			}
			if version != p.version {
				return true, nil
			}
		}
	}
	return false, nil
}

// after returns the version at which stream will stand.
func (tx *Tx) after(stream string) uint64 {
	version := tx.streams[stream].version
	for _, e := range tx.events {
		if e.Stream == stream {
			version++
		}
	}
	return version
}

func (tx *Tx) pin(stream string, version uint64) *pinned {
	p := &pinned{version: version}
	tx.streams[stream] = p
	tx.order = append(tx.order, stream)
	return p
}

// history returns the payloads of stream up to the version at which it is
// pinned, and pins it where it stands if it is not.
func (tx *Tx) history(stream string) ([]any, error) {
	p := tx.streams[stream]
	if p != nil && (p.read || p.version == 0) {
		p.read = true
		return p.history, nil
	}
	var history []any
	version := uint64(0)
	for r, err := range tx.store.Read(tx.ctx, Query{Streams: []string{stream}, PayloadsOnly: true, Lend: true}) {
		if err != nil {
			return nil, err
		}
		if p != nil && r.Version > p.version {
			break
		}
		payload, err := tx.registry.Decode(r.Event)
		if err != nil {
			return nil, err
		}
		if history == nil {
			history = make([]any, 0, 16)
		}
		history, version = append(history, payload), r.Version
	}
	if p == nil {
		p = tx.pin(stream, version)
	} else if version != p.version {
		return nil, &ConflictError{Stream: stream, Want: p.version, Actual: version}
	}
	p.read, p.history = true, history
	return history, nil
}

// hold checks what the caller named where no append does it.
func (tx *Tx) hold() error {
	for _, stream := range tx.order {
		p := tx.streams[stream]
		if !p.named {
			continue
		}
		version, err := tx.store.Version(tx.ctx, stream)
		if err != nil {
			return err
		}
		if version != p.version {
			return &ConflictError{Stream: stream, Want: p.version, Actual: version}
		}
	}
	return nil
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
	meta, err := tx.encodedMeta()
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
		// As it will be read back, not as it was given: the state that a command
		// returns is then the state that a replay gives.
		read, err := tx.registry.Decode(event)
		if err != nil {
			return err
		}
		tx.events, tx.payloads = append(tx.events, event), append(tx.payloads, read)
	}
	return nil
}

// encodedMeta encodes Meta, once for events that have the same.
func (tx *Tx) encodedMeta() ([]byte, error) {
	if !tx.encoded.same(tx.Meta) {
		meta, err := tx.Meta.Encode()
		if err != nil {
			return nil, err
		}
		tx.meta, tx.encoded = meta, tx.Meta
	}
	return tx.meta, nil
}

// After returns the pinned streams in which this unit of work has recorded so
// far, in the order of pinning, each with the version at which it will stand:
// what an answer that is to be given again needs to remember. Streams recorded
// to by RecordBlind alone are not among them.
func (tx *Tx) After() []Expect {
	counts := map[string]uint64{}
	for _, e := range tx.events {
		counts[e.Stream]++
	}
	var after []Expect
	for _, stream := range tx.order {
		if n := counts[stream]; n > 0 {
			after = append(after, At(stream, tx.streams[stream].version+n))
		}
	}
	return after
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
