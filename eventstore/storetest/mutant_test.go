package storetest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// mutant is a good store with one fault planted. What is nil is as in the good store.
type mutant struct {
	*memory.Store
	stop chan struct{} // closed when the clause is over: planted leaks end here

	gate  sync.RWMutex          // appends hold it for reading, close for writing
	final []eventstore.Recorded // the history at close: what it is opened again with
	ids   sync.Map              // every ID acknowledged, and its record

	append  func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error)
	read    func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error]
	version func(ctx context.Context, stream string) (uint64, error)
	head    func(ctx context.Context) (eventstore.Position, error)
	wait    func(ctx context.Context, after eventstore.Position) error
	close   func() error
	save    func(ctx context.Context, cs []eventstore.Checkpoint) error
	load    func(ctx context.Context, name string) (eventstore.Checkpoint, error)
	forget  func(ctx context.Context, name string) error
	restore func(ctx context.Context, after eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error)
	reopen  func() eventstore.Store
}

func (m *mutant) Append(ctx context.Context, es []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	append := m.append
	if append == nil {
		append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			return m.Store.Append(ctx, es, expect...)
		}
	}
	records, err := append(ctx, es, expect)
	for _, r := range records {
		m.ids.LoadOrStore(r.ID, r)
	}
	return records, err
}

func (m *mutant) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	if m.read != nil {
		return m.read(ctx, q)
	}
	return m.Store.Read(ctx, q)
}

func (m *mutant) Version(ctx context.Context, stream string) (uint64, error) {
	if m.version != nil {
		return m.version(ctx, stream)
	}
	return m.Store.Version(ctx, stream)
}

func (m *mutant) Head(ctx context.Context) (eventstore.Position, error) {
	if m.head != nil {
		return m.head(ctx)
	}
	return m.Store.Head(ctx)
}

func (m *mutant) Wait(ctx context.Context, after eventstore.Position) error {
	if m.wait != nil {
		return m.wait(ctx, after)
	}
	return m.Store.Wait(ctx, after)
}

func (m *mutant) Close() error {
	m.gate.Lock()
	defer m.gate.Unlock()
	if m.final == nil {
		m.final = m.all()
	}
	if m.close != nil {
		return m.close()
	}
	return m.Store.Close()
}

func (m *mutant) SaveCheckpoints(ctx context.Context, cs ...eventstore.Checkpoint) error {
	if m.save != nil {
		return m.save(ctx, cs)
	}
	return m.Store.SaveCheckpoints(ctx, cs...)
}

func (m *mutant) Checkpoint(ctx context.Context, name string) (eventstore.Checkpoint, error) {
	if m.load != nil {
		return m.load(ctx, name)
	}
	return m.Store.Checkpoint(ctx, name)
}

func (m *mutant) DeleteCheckpoint(ctx context.Context, name string) error {
	if m.forget != nil {
		return m.forget(ctx, name)
	}
	return m.Store.DeleteCheckpoint(ctx, name)
}

func (m *mutant) Restore(ctx context.Context, after eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error) {
	if m.restore != nil {
		return m.restore(ctx, after, rs)
	}
	return m.Store.Restore(ctx, after, rs)
}

// Helpers to plant with.

// selects makes every read a plain pass over the good log by another rule of selection.
func (m *mutant) selects(match func(q eventstore.Query, r eventstore.Recorded) bool) {
	m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
		return func(yield func(eventstore.Recorded, error) bool) {
			if _, err := collect(ctx, m.Store, eventstore.Query{After: q.After, Limit: 1}); err != nil || q.Validate() != nil {
				for r, err := range m.Store.Read(ctx, q) {
					if !yield(r, err) {
						return
					}
				}
				return
			}
			n := 0
			for r, err := range m.Store.Read(ctx, eventstore.Query{}) {
				if err == nil && !match(q, r) {
					continue
				}
				if !yield(r, err) {
					return
				}
				if n++; n == q.Limit {
					return
				}
			}
		}
	}
}

// rewrites changes every event before the good store sees it.
func (m *mutant) rewrites(change func(e *eventstore.Event)) {
	m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
		es = slices.Clone(es)
		for i := range es {
			if err := eventstore.Validate(es[i:i+1], nil); err == nil {
				change(&es[i])
			}
		}
		return m.Store.Append(ctx, es, expect...)
	}
}

// shows changes every record on its way out.
func (m *mutant) shows(change func(r *eventstore.Recorded)) {
	m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
		return func(yield func(eventstore.Recorded, error) bool) {
			for r, err := range m.Store.Read(ctx, q) {
				if err == nil {
					change(&r)
				}
				if !yield(r, err) {
					return
				}
			}
		}
	}
	m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
		records, err := m.Store.Append(ctx, es, expect...)
		for i := range records {
			change(&records[i])
		}
		return records, err
	}
}

// expects changes what the good store is told to expect.
func (m *mutant) expects(change func(expect []eventstore.Expect) []eventstore.Expect) {
	m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
		if err := eventstore.Validate(es, expect); err != nil {
			return nil, err
		}
		return m.Store.Append(ctx, es, change(expect)...)
	}
}

// all is the history so far, or at close.
func (m *mutant) all() []eventstore.Recorded {
	if m.final != nil {
		return m.final
	}
	records, _ := collect(context.Background(), m.Store, eventstore.Query{})
	return records
}

func (m *mutant) byID(id uuid.UUID) (eventstore.Recorded, bool) {
	r, ok := m.ids.Load(id)
	if !ok {
		return eventstore.Recorded{}, false
	}
	return r.(eventstore.Recorded), true
}

// rewritesInvalid makes malformed events acceptable.
func (m *mutant) rewritesInvalid(change func(e *eventstore.Event)) {
	m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
		es = slices.Clone(es)
		for i := range es {
			var input *eventstore.InputError
			if errors.As(eventstore.Validate(es[i:i+1], nil), &input) && strings.HasSuffix(input.Field, ".data") && input.Limit == 0 {
				change(&es[i])
			}
		}
		return m.Store.Append(ctx, es, expect...)
	}
}

// copyOf returns a store with a history, and the checkpoints that clauses use if there is where to take them from.
func copyOf(records []eventstore.Recorded, from *memory.Store) *memory.Store {
	store := memory.New()
	for i := 0; i < len(records); {
		n := 1
		for i+n < len(records) && records[i+n].Append == records[i].Append {
			n++
		}
		if _, err := store.Restore(context.Background(), eventstore.Position(i), records[i:i+n]); err != nil {
			panic(err)
		}
		i += n
	}
	if from != nil {
		if c, _ := from.Checkpoint(context.Background(), "fold"); c.Name != "" {
			_ = store.SaveCheckpoints(context.Background(), c)
		}
	}
	return store
}
