// Package eventstore is the kernel: an append-only log of events, kept in
// streams, and the few functions that turn decisions into events and events
// into state. It knows nothing of changes or releases and can be learnt and
// used alone; examples/lending below it is a complete small domain.
//
// Events go in through a [Store] and never change. Each has a place in its
// stream (Version, contiguous from 1) and a place in the log (Position, rising,
// gaps allowed). State is a fold over events:
//
//	registry, err := eventstore.NewRegistry(
//		eventstore.Type[Lent]("book.lent", 1),
//		eventstore.Type[Returned]("book.returned", 1),
//	)
//	books := eventstore.Decider[Book, any]{Decide: decide, Evolve: evolve}
//
//	_, err = eventstore.Update(ctx, store, registry, func(tx *eventstore.Tx) error {
//		_, err := books.Do(tx, "book-42", Lend{To: "ann"})
//		return err
//	})
//
// Update reads, decides and appends under the versions it read; if somebody was
// faster it does all of it again, so what is decided is always decided on the
// state it is recorded after.
//
// The sub-packages: memory and sqlite are stores; storetest proves a store;
// follow keeps folds at the head of the log; archive carries a history in and
// out as JSON Lines; spec tests deciders and replays histories in tests.
package eventstore

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Event is what a caller appends. A store keeps every field byte for byte.
// The limits are the Max constants; names and tags are valid UTF-8 without NUL.
type Event struct {
	ID     uuid.UUID // given once by the caller: version 7, or version 5 derived from the cause
	Stream string    // "change-CHG-000042": the aggregate it belongs to
	Type   string    // "change.approved": explicit and persisted, never a Go type's name
	Schema int       // version of the payload's schema, from 1
	Tags   []string  // "ci:db-01": what queries find it by; no tag twice
	Data   []byte    // the payload, one JSON value
	Meta   []byte    // Metadata as one JSON object, or empty
}

// Equal reports whether e and other are the same in every byte.
func (e Event) Equal(other Event) bool {
	return e.ID == other.ID && e.Stream == other.Stream && e.Type == other.Type && e.Schema == other.Schema &&
		slices.Equal(e.Tags, other.Tags) && bytes.Equal(e.Data, other.Data) && bytes.Equal(e.Meta, other.Meta)
}

// Size returns the bytes that e counts in MaxAppend.
func (e Event) Size() int {
	n := len(e.Stream) + len(e.Type) + len(e.Data) + len(e.Meta)
	for _, tag := range e.Tags {
		n += len(tag)
	}
	return n
}

// Position is a place in the log. It starts at 1; 0 is before the first event.
// Order is by position, never by clock.
type Position uint64

// Recorded is an event as the store holds it.
type Recorded struct {
	Event
	Version    uint64    // place in its stream, contiguous from 1
	Position   Position  // place in the log
	Append     Position  // Position of the first event of the same append: what was recorded together shares it
	RecordedAt time.Time // by the store's clock, UTC, whole microseconds
}

// Expect is the one kind of condition an append can carry: the version at which
// a stream stands before it. Make one with [At].
type Expect struct {
	Stream  string
	Version uint64
}

// At expects stream to stand at version; 0 expects that it does not exist. The
// stream may be one that the append writes or one that it only checks.
func At(stream string, version uint64) Expect { return Expect{stream, version} }

// Store is an append-only log of events. All methods may be called concurrently.
// Package storetest holds the clauses of this contract, a test for each.
type Store interface {
	// Append records events in the order given, all or none, if every
	// expectation holds. They may concern several streams, and stand together
	// in the log. A stream without an expectation is appended to as it stands.
	//
	// IDs are looked up before expectations. If all are known from one earlier
	// append, with the same bytes, Append succeeds and returns the original
	// records in the order asked; if some are known, or bytes differ, it fails
	// with ErrDuplicate.
	//
	// An error is exactly one of ErrConflict (a *ConflictError names the
	// stream), ErrNotApplied and ErrOutcomeUnknown. After the last it is always
	// safe to append the same events again: where that is a conflict, the first
	// attempt was not applied and will not be.
	Append(ctx context.Context, events []Event, expect ...Expect) ([]Recorded, error)

	// Read yields what q selects in position order, up to the head at the time
	// of the call. An error is yielded once, last, with a zero Recorded.
	//
	// Reads of the log form a stable prefix: once a read that names no streams
	// has yielded a position, no later commit brings an event at or below it, and
	// without a Limit it never ends in the middle of an append. A read that names
	// streams is complete for them at once. No read holds a transaction while its
	// consumer thinks, and none loads its whole result. Reading after a position
	// the log has never reached fails with ErrRewound.
	Read(ctx context.Context, q Query) iter.Seq2[Recorded, error]

	// Version returns the version at which a stream stands, 0 if it does not
	// exist. Its cost does not grow with the stream.
	Version(ctx context.Context, stream string) (uint64, error)

	// Head returns the position of the last readable event, or 0.
	Head(ctx context.Context) (Position, error)

	// Wait returns nil when an event later than after may be readable; it may
	// wake early. It fails when ctx ends, when the store is closed, and with
	// ErrRewound when the log has never reached after.
	Wait(ctx context.Context, after Position) error

	// Close releases what the store holds. Calls under way end, later ones fail
	// with ErrClosed; a second Close does nothing.
	Close() error
}

// Checkpoint says how far a named consumer of the log has come, and may carry
// its state. It is a cache: deleting it loses time, never truth.
type Checkpoint struct {
	Name     string    // of the consumer: as a stream's name, MaxStream bytes
	Position Position  // of the last event it has processed
	Event    uuid.UUID // that event's ID, by which a consumer notices that the log was rewound
	Format   int       // version of the form of State
	State    []byte    // a snapshot of the consumer's state, or empty; at most MaxState bytes
}

// Validate returns an *InputError if c is outside the limits, else nil.
func (c Checkpoint) Validate() error {
	if len(c.State) > MaxState {
		return &InputError{Field: "checkpoint.state", Rule: "bytes", Size: len(c.State), Limit: MaxState}
	}
	return checkName("checkpoint.name", c.Name, MaxStream)
}

// Checkpoints is the optional power to keep checkpoints and snapshots beside
// the log. Find it by type assertion.
type Checkpoints interface {
	// SaveCheckpoints keeps all of them or none, each in place of the one of the same name.
	SaveCheckpoints(ctx context.Context, checkpoints ...Checkpoint) error
	// Checkpoint returns the one of that name, or a zero Checkpoint if there is none.
	Checkpoint(ctx context.Context, name string) (Checkpoint, error)
	// DeleteCheckpoint forgets the one of that name, if there is one.
	DeleteCheckpoint(ctx context.Context, name string) error
}

// Recaller is the optional power to tell from memory where a stream stood when the
// store last looked, without a look at the log. What it says may be out of date: a
// unit of work takes it for streams that it checks, where its append is held to it,
// and looks again before it ends without one.
type Recaller interface {
	Recall(stream string) (version uint64, ok bool)
}

// Restorer is the optional power to take in a history recorded elsewhere as it
// was: versions, recorded times and appends included. Package archive imports by it.
type Restorer interface {
	// Restore adds records behind the event at position after, which must be
	// the head of the log, all or none, and returns the new head. Neighbours
	// with the same Append become one append; positions are drawn anew.
	// Versions must continue their streams, IDs must be new, Append and
	// RecordedAt must be set, and the limits of one append hold for the call.
	// Errors are those of Append; a head that is not at after is a
	// *ConflictError without a stream.
	Restore(ctx context.Context, after Position, records []Recorded) (Position, error)
}
