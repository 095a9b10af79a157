// Package memory is an event store in the memory of one process: for tests, for
// examples, and for histories that are read in once and asked. It keeps the
// whole contract of eventstore.Store but durability.
//
//	store := memory.New()
//	defer store.Close()
//
// An append costs one mutex and does not grow with the history. Reads run
// outside the mutex. A read by streams, types or tags costs what the rarest of
// these fields selects; one by prefix alone passes over the whole log.
package memory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/wake"
)

// Store is an event store in memory. Make one with New.
type Store struct {
	now  func() time.Time
	bell wake.Bell
	done chan struct{} // closed by Close

	mu          sync.RWMutex
	log         log
	ids         map[uuid.UUID]eventstore.Position
	byStream    index // a stream's event of version v stands at [v-1]
	byType      index
	byTag       index
	checkpoints map[string]eventstore.Checkpoint
}

var (
	_ eventstore.Store       = (*Store)(nil)
	_ eventstore.Checkpoints = (*Store)(nil)
	_ eventstore.Restorer    = (*Store)(nil)
)

// Option changes how a Store is made.
type Option func(*Store)

// WithClock sets the clock of RecordedAt; time.Now by default.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.now = now } }

// New returns an empty store.
func New(options ...Option) *Store {
	s := &Store{
		now:         time.Now,
		done:        make(chan struct{}),
		ids:         map[uuid.UUID]eventstore.Position{},
		byStream:    index{},
		byType:      index{},
		byTag:       index{},
		checkpoints: map[string]eventstore.Checkpoint{},
	}
	for _, option := range options {
		option(s)
	}
	return s
}

// Append records events; see eventstore.Store.
func (s *Store) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := eventstore.Validate(events, expect); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, eventstore.NotApplied(err)
	}
	known, err := eventstore.Resend(events, s.known)
	if known != nil || err != nil {
		return known, err
	}
	for _, x := range expect {
		if actual := s.version(x.Stream); actual != x.Version {
			return nil, &eventstore.ConflictError{Stream: x.Stream, Want: x.Version, Actual: actual}
		}
	}
	at := s.now().UTC().Truncate(time.Microsecond)
	first := s.head() + 1
	records := make([]eventstore.Recorded, len(events))
	for i, e := range events {
		records[i] = eventstore.Recorded{
			Event: e, Version: s.version(e.Stream) + 1, Position: s.head() + 1, Append: first, RecordedAt: at,
		}
		s.add(records[i])
	}
	s.bell.Ring()
	return records, nil
}

// Restore takes in a history recorded elsewhere; see eventstore.Restorer.
func (s *Store) Restore(ctx context.Context, after eventstore.Position, records []eventstore.Recorded) (eventstore.Position, error) {
	if err := eventstore.ValidateRestore(records); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, eventstore.NotApplied(err)
	}
	if s.head() != after {
		return 0, &eventstore.ConflictError{Want: uint64(after), Actual: uint64(s.head())}
	}
	versions := map[string]uint64{}
	for _, r := range records {
		if at, ok := s.ids[r.ID]; ok {
			return 0, eventstore.NotApplied(&eventstore.DuplicateError{ID: r.ID, Stream: s.log.at(at).Stream, Reason: "it is in the log already"})
		}
		if _, ok := versions[r.Stream]; !ok {
			versions[r.Stream] = s.version(r.Stream)
		}
		if versions[r.Stream]+1 != r.Version {
			return 0, &eventstore.ConflictError{Stream: r.Stream, Want: r.Version - 1, Actual: versions[r.Stream]}
		}
		versions[r.Stream]++
	}
	first, last := eventstore.Position(0), eventstore.Position(0) // no record's Append is 0
	for _, r := range records {
		r.Position = s.head() + 1
		if r.Append != last {
			first, last = r.Position, r.Append
		}
		r.Append = first
		s.add(r)
	}
	s.bell.Ring()
	return s.head(), nil
}

// Version returns where a stream stands; see eventstore.Store.
func (s *Store) Version(ctx context.Context, stream string) (uint64, error) {
	if err := (eventstore.Query{Streams: []string{stream}}).Validate(); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version(stream), s.usable(ctx)
}

// Head returns the position of the last event, or 0.
func (s *Store) Head(ctx context.Context) (eventstore.Position, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head(), s.usable(ctx)
}

// Wait returns when there is an event after the given position; see eventstore.Store.
func (s *Store) Wait(ctx context.Context, after eventstore.Position) error {
	for {
		rung := s.bell.Listen()
		head, err := s.Head(ctx)
		switch {
		case err != nil:
			return err
		case head < after:
			return eventstore.ErrRewound
		case head > after:
			return nil
		}
		select {
		case <-rung:
		case <-s.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends the store and forgets its history.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
	default:
		close(s.done)
		s.log, s.ids, s.byStream, s.byType, s.byTag, s.checkpoints = log{}, nil, nil, nil, nil, nil
	}
	return nil
}

// SaveCheckpoints keeps checkpoints; see eventstore.Checkpoints.
func (s *Store) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	kept := maps.Clone(s.checkpoints)
	for _, c := range checkpoints {
		if err := c.Validate(); err != nil {
			return err
		}
		c.State = slices.Clone(c.State)
		kept[c.Name] = c
	}
	s.checkpoints = kept
	return nil
}

// Checkpoint returns the checkpoint of that name, or a zero one.
func (s *Store) Checkpoint(ctx context.Context, name string) (eventstore.Checkpoint, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.checkpoints[name]
	c.State = slices.Clone(c.State)
	return c, s.usable(ctx)
}

// DeleteCheckpoint forgets the checkpoint of that name.
func (s *Store) DeleteCheckpoint(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	delete(s.checkpoints, name)
	return nil
}

// usable returns why a call cannot go on, or nil.
func (s *Store) usable(ctx context.Context) error {
	select {
	case <-s.done:
		return eventstore.ErrClosed
	default:
		return ctx.Err()
	}
}

// The following are called under the mutex.

func (s *Store) head() eventstore.Position { return eventstore.Position(s.log.size) }

func (s *Store) version(stream string) uint64 { return uint64(len(s.byStream.of(stream))) }

func (s *Store) known(id uuid.UUID) (eventstore.Recorded, bool, error) {
	at, ok := s.ids[id]
	if !ok {
		return eventstore.Recorded{}, false, nil
	}
	return clone(s.log.at(at)), true, nil
}

// add puts a copy of r at the end of the log.
func (s *Store) add(r eventstore.Recorded) {
	bytes := make([]byte, 0, len(r.Data)+len(r.Meta))
	kept := record{
		id: r.ID, stream: s.byStream.add(r.Stream, r.Position), typ: s.byType.add(r.Type, r.Position),
		bytes: append(append(bytes, r.Data...), r.Meta...), data: int32(len(r.Data)), schema: int32(r.Schema),
		version: r.Version, first: r.Append, at: r.RecordedAt.UnixMicro(),
	}
	if len(r.Tags) > 0 {
		kept.tags = make([]string, len(r.Tags))
		for i, tag := range r.Tags {
			kept.tags[i] = *s.byTag.add(tag, r.Position)
		}
	}
	s.log.add(kept)
	s.ids[r.ID] = r.Position
}

// clone returns r with bytes and tags of its own, so that neither a caller nor a
// reader can change history.
func clone(r eventstore.Recorded) eventstore.Recorded {
	both := make([]byte, 0, len(r.Data)+len(r.Meta))
	both = append(append(both, r.Data...), r.Meta...)
	r.Data, r.Meta = both[:len(r.Data):len(r.Data)], both[len(r.Data):]
	r.Tags = slices.Clone(r.Tags)
	return r
}
