package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

var mutants = []struct {
	name  string
	plant func(m *mutant)
}{
	{"drops the version check", func(m *mutant) {
		m.expects(func([]eventstore.Expect) []eventstore.Expect { return nil })
	}},
	{"checks only the first expectation", func(m *mutant) {
		m.expects(func(x []eventstore.Expect) []eventstore.Expect { return x[:min(1, len(x))] })
	}},
	{"checks only streams it writes", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if err := eventstore.Validate(es, expect); err != nil {
				return nil, err
			}
			expect = slices.DeleteFunc(slices.Clone(expect), func(x eventstore.Expect) bool {
				return !slices.ContainsFunc(es, func(e eventstore.Event) bool { return e.Stream == x.Stream })
			})
			return m.Store.Append(ctx, es, expect...)
		}
	}},
	{"accepts a version that is too high", func(m *mutant) {
		m.expects(func(x []eventstore.Expect) []eventstore.Expect {
			return slices.DeleteFunc(slices.Clone(x), func(x eventstore.Expect) bool {
				v, _ := m.Store.Version(context.Background(), x.Stream)
				return x.Version > v && v > 0
			})
		})
	}},
	{"takes version 0 for any version", func(m *mutant) {
		m.expects(func(x []eventstore.Expect) []eventstore.Expect {
			return slices.DeleteFunc(slices.Clone(x), func(x eventstore.Expect) bool { return x.Version == 0 })
		})
	}},
	{"reports success for a missing stream and stores nothing", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			for _, x := range expect {
				if v, _ := m.Store.Version(ctx, x.Stream); v == 0 && x.Version > 0 {
					return nil, nil
				}
			}
			return m.Store.Append(ctx, es, expect...)
		}
	}},
	{"checks and appends in two steps", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if err := eventstore.Validate(es, expect); err != nil {
				return nil, err
			}
			if _, known := m.byID(es[0].ID); known {
				return m.Store.Append(ctx, es, expect...)
			}
			for _, x := range expect {
				if v, err := m.Store.Version(ctx, x.Stream); err == nil && v != x.Version {
					return nil, &eventstore.ConflictError{Stream: x.Stream, Want: x.Version, Actual: v}
				}
			}
			time.Sleep(time.Millisecond)
			return m.Store.Append(ctx, es)
		}
	}},
	{"reports a conflict without its type", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			if errors.Is(err, eventstore.ErrConflict) {
				return nil, errors.New("version mismatch")
			}
			return records, err
		}
	}},
	{"reports a conflict with the wrong figures", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			var c *eventstore.ConflictError
			if errors.As(err, &c) {
				return nil, &eventstore.ConflictError{Stream: c.Stream, Want: c.Want, Actual: c.Want}
			}
			return records, err
		}
	}},
	{"reports every failure as outcome unknown", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			if err != nil {
				return nil, eventstore.OutcomeUnknown(err)
			}
			return records, nil
		}
	}},
	{"leaves its errors unwrapped", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			var a *eventstore.AppendError
			if errors.As(err, &a) {
				return nil, a.Cause
			}
			return records, err
		}
	}},
	{"records and reports not applied when the context ends", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(context.WithoutCancel(ctx), es, expect...)
			if err == nil && ctx.Err() != nil {
				return nil, eventstore.NotApplied(ctx.Err())
			}
			return records, err
		}
	}},
	{"ignores the context", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			return m.Store.Append(context.WithoutCancel(ctx), es, expect...)
		}
	}},
	{"reorders an append", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			es = slices.Clone(es)
			slices.Reverse(es)
			records, err := m.Store.Append(ctx, es, expect...)
			slices.Reverse(records)
			return records, err
		}
	}},
	{"loses the last event of a long append", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es[:max(min(len(es), 1), len(es)-1)], expect...)
			if err == nil && len(es) > 1 {
				lost := records[len(records)-1]
				lost.Event, lost.Version, lost.Position = es[len(es)-1], lost.Version+1, lost.Position+1
				records = append(records, lost)
			}
			return records, err
		}
	}},
	{"splits an append", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if err := eventstore.Validate(es, expect); err != nil {
				return nil, err
			}
			if _, known := m.byID(es[0].ID); known {
				return m.Store.Append(ctx, es, expect...)
			}
			var records []eventstore.Recorded
			for _, e := range es {
				own := slices.DeleteFunc(slices.Clone(expect), func(x eventstore.Expect) bool { return x.Stream != e.Stream })
				expect = slices.DeleteFunc(slices.Clone(expect), func(x eventstore.Expect) bool { return x.Stream == e.Stream })
				one, err := m.Store.Append(ctx, []eventstore.Event{e}, own...)
				if err != nil {
					return nil, err
				}
				records = append(records, one...)
			}
			return records, nil
		}
	}},
	{"counts versions from 0", func(m *mutant) {
		m.shows(func(r *eventstore.Recorded) { r.Version-- })
	}},
	{"counts versions through the whole log", func(m *mutant) {
		m.shows(func(r *eventstore.Recorded) { r.Version = uint64(r.Position) })
	}},
	{"burns a version with every refused append", func(m *mutant) {
		var burnt atomic.Uint64
		m.shows(func(r *eventstore.Recorded) { r.Version += burnt.Load() })
		inner := m.append
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := inner(ctx, es, expect)
			if errors.Is(err, eventstore.ErrConflict) {
				burnt.Add(1)
			}
			return records, err
		}
	}},
	{"gives each stream positions of its own", func(m *mutant) {
		m.shows(func(r *eventstore.Recorded) { r.Position = eventstore.Position(r.Version) })
	}},
	{"takes every event for an append of its own", func(m *mutant) {
		m.shows(func(r *eventstore.Recorded) { r.Append = r.Position })
	}},
	{"cuts times to seconds", func(m *mutant) {
		m.shows(func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.Truncate(time.Second) })
	}},
	{"returns times in the local zone", func(m *mutant) {
		m.shows(func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.In(time.FixedZone("here", 3600)) })
	}},
	{"writes payloads anew", func(m *mutant) {
		m.rewrites(func(e *eventstore.Event) {
			var b bytes.Buffer
			if json.Compact(&b, e.Data) == nil {
				e.Data = b.Bytes()
			}
		})
	}},
	{"fills in missing metadata", func(m *mutant) {
		m.rewrites(func(e *eventstore.Event) {
			if len(e.Meta) == 0 {
				e.Meta = []byte("{}")
			}
		})
	}},
	{"sorts tags", func(m *mutant) {
		m.rewrites(func(e *eventstore.Event) { e.Tags = slices.Sorted(slices.Values(e.Tags)) })
	}},
	{"forgets the case of stream names", func(m *mutant) {
		m.rewrites(func(e *eventstore.Event) { e.Stream = strings.ToLower(e.Stream) })
	}},
	{"trims names", func(m *mutant) {
		m.rewrites(func(e *eventstore.Event) { e.Stream = strings.TrimRight(e.Stream, " ") + strings.Repeat("_", 0) })
	}},
	{"keeps its callers' slices", func(m *mutant) {
		var kept sync.Map
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			if err == nil {
				for _, e := range es {
					kept.Store(e.ID, e)
				}
			}
			return records, err
		}
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for r, err := range m.Store.Read(ctx, q) {
					if e, ok := kept.Load(r.ID); ok {
						r.Event = e.(eventstore.Event)
					}
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}},
	{"forgets IDs", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if err := eventstore.Validate(es, expect); err != nil {
				return nil, err
			}
			fresh := slices.Clone(es)
			for i := range fresh {
				if _, known := m.byID(es[i].ID); known {
					fresh[i].ID = uuid.Must(uuid.NewV7())
				}
			}
			return m.Store.Append(ctx, fresh, expect...)
		}
	}},
	{"remembers IDs without looking at the bytes", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			if errors.Is(err, eventstore.ErrDuplicate) && len(es) == 1 {
				r, _ := m.byID(es[0].ID)
				return []eventstore.Recorded{r}, nil
			}
			return records, err
		}
	}},
	{"records the new events beside known ones", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			if !errors.Is(err, eventstore.ErrDuplicate) {
				return records, err
			}
			fresh := slices.DeleteFunc(slices.Clone(es), func(e eventstore.Event) bool { _, known := m.byID(e.ID); return known })
			if len(fresh) == 0 || len(fresh) == len(es) {
				return nil, err
			}
			_, err = m.Store.Append(ctx, fresh)
			return make([]eventstore.Recorded, len(es)), err
		}
	}},
	{"takes events of two appends for one", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			if errors.Is(err, eventstore.ErrDuplicate) {
				records = nil
				for _, e := range es {
					if r, known := m.byID(e.ID); known && r.Equal(e) {
						records = append(records, r)
					}
				}
				if len(records) == len(es) {
					return records, nil
				}
				return nil, err
			}
			return records, err
		}
	}},
	{"looks at expectations before IDs", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if err := eventstore.Validate(es, expect); err != nil {
				return nil, err
			}
			for _, x := range expect {
				if v, err := m.Store.Version(ctx, x.Stream); err == nil && v != x.Version {
					return nil, &eventstore.ConflictError{Stream: x.Stream, Want: x.Version, Actual: v}
				}
			}
			return m.Store.Append(ctx, es, expect...)
		}
	}},
	{"answers a resend with new records", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			if head, _ := m.Store.Head(ctx); len(records) > 0 && records[len(records)-1].Position < head {
				for i := range records {
					records[i].Position += head
				}
			}
			return records, err
		}
	}},
	{"lets an ID stand twice in one append", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if len(es) == 2 && es[0].ID == es[1].ID {
				es = es[:1]
			}
			return m.Store.Append(ctx, es, expect...)
		}
	}},
	{"shows a position late", func(m *mutant) {
		hidden := map[eventstore.Position]int{}
		var mu sync.Mutex
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for r, err := range m.Store.Read(ctx, q) {
					mu.Lock()
					late := err == nil && len(q.Streams) == 0 && r.Position%5 == 0 && hidden[r.Position] < 3
					hidden[r.Position]++
					mu.Unlock()
					if late {
						continue
					}
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}},
	{"shows half an append", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			runtime.Gosched()
			return records, err
		}
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				records, err := collect(ctx, m.Store, q)
				if n := len(records); n > 1 && len(q.Streams) == 0 && records[n-1].Append == records[n-2].Append && n%2 == 0 {
					records = records[:n-1]
				}
				for _, r := range records {
					if !yield(r, nil) {
						return
					}
				}
				if err != nil {
					yield(eventstore.Recorded{}, err)
				}
			}
		}
	}},
	{"reads streams behind the log", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				head, _ := m.Store.Head(ctx)
				for r, err := range m.Store.Read(ctx, q) {
					if err == nil && len(q.Streams) > 0 && r.Position+1 > head {
						return
					}
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}},
	{"reads on past the head at the call", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for {
					n := 0
					for r, err := range m.Store.Read(ctx, q) {
						if !yield(r, err) || err != nil {
							return
						}
						q.After = r.Position
						if n++; q.Limit > 0 {
							if q.Limit--; q.Limit == 0 {
								return
							}
						}
					}
					if n == 0 {
						return
					}
				}
			}
		}
	}},
	{"locks while its consumer thinks", func(m *mutant) {
		lock := make(chan struct{}, 1)
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			select {
			case lock <- struct{}{}:
				defer func() { <-lock }()
				return m.Store.Append(ctx, es, expect...)
			case <-ctx.Done():
				return nil, eventstore.NotApplied(ctx.Err())
			case <-m.stop:
				return nil, eventstore.NotApplied(eventstore.ErrClosed)
			}
		}
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				select {
				case lock <- struct{}{}:
					defer func() { <-lock }()
				case <-ctx.Done():
					return
				case <-m.stop:
					return
				}
				for r, err := range m.Store.Read(ctx, q) {
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}},
	{"leaks a reader", func(m *mutant) {
		type item struct {
			r   eventstore.Recorded
			err error
		}
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				ch := make(chan item)
				go func() {
					defer close(ch)
					for r, err := range m.Store.Read(ctx, q) {
						select {
						case ch <- item{r, err}:
						case <-m.stop:
							return
						}
					}
				}()
				for i := range ch {
					if !yield(i.r, i.err) {
						return
					}
				}
			}
		}
	}},
	{"reads once only", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			done := false
			return func(yield func(eventstore.Recorded, error) bool) {
				if done {
					return
				}
				done = true
				for r, err := range m.Store.Read(ctx, q) {
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}},
	{"ends a read in silence when its context ends", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for r, err := range m.Store.Read(ctx, q) {
					if isContext(err) || !yield(r, err) {
						return
					}
				}
			}
		}
	}},
	{"reads nothing from a rewound log", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for r, err := range m.Store.Read(ctx, q) {
					if errors.Is(err, eventstore.ErrRewound) || !yield(r, err) {
						return
					}
				}
			}
		}
	}},
	{"stops after 1,000 events", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			if q.Limit == 0 || q.Limit > 1000 {
				q.Limit = max(1000, min(q.Limit, 0))
			}
			return m.Store.Read(ctx, q)
		}
	}},
	{"ignores the limit of a read", func(m *mutant) {
		m.selects(func(q eventstore.Query, r eventstore.Recorded) bool { return q.Match(r) })
		inner := m.read
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			q.Limit = min(q.Limit, 0)
			return inner(ctx, q)
		}
	}},
	{"reads from After instead of behind it", func(m *mutant) {
		m.selects(func(q eventstore.Query, r eventstore.Recorded) bool {
			if q.After > 0 {
				q.After--
			}
			return q.Match(r)
		})
	}},
	{"takes any of the tags for all of them", func(m *mutant) {
		m.selects(func(q eventstore.Query, r eventstore.Recorded) bool {
			tags := q.Tags
			q.Tags = nil
			return q.Match(r) && (len(tags) == 0 || slices.ContainsFunc(tags, func(t string) bool { return slices.Contains(r.Tags, t) }))
		})
	}},
	{"takes a type for a prefix of types", func(m *mutant) {
		m.selects(func(q eventstore.Query, r eventstore.Recorded) bool {
			types := q.Types
			q.Types = nil
			return q.Match(r) && (len(types) == 0 || slices.ContainsFunc(types, func(t string) bool { return strings.HasPrefix(r.Type, t) }))
		})
	}},
	{"takes a prefix for a pattern", func(m *mutant) {
		m.selects(func(q eventstore.Query, r eventstore.Recorded) bool {
			prefix := q.Prefix
			q.Prefix = ""
			if !q.Match(r) || len(r.Stream) < len(prefix) {
				return false
			}
			for i := range len(prefix) {
				if prefix[i] != '_' && prefix[i] != r.Stream[i] {
					return false
				}
			}
			return true
		})
	}},
	{"ORs the fields of a query", func(m *mutant) {
		m.selects(func(q eventstore.Query, r eventstore.Recorded) bool {
			if len(q.Streams) == 0 || len(q.Types) == 0 {
				return q.Match(r)
			}
			byStream, byType := q, q
			byStream.Types, byType.Streams = nil, nil
			return byStream.Match(r) || byType.Match(r)
		})
	}},
	{"yields an event once for every value it matches", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for r, err := range m.Store.Read(ctx, q) {
					for range max(1, len(slices.DeleteFunc(slices.Clone(q.Streams), func(s string) bool { return s != r.Stream }))) {
						if !yield(r, err) {
							return
						}
					}
				}
			}
		}
	}},
	{"accepts malformed queries", func(m *mutant) {
		m.selects(func(q eventstore.Query, r eventstore.Recorded) bool { return q.Match(r) })
		inner := m.read
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			if q.Validate() != nil {
				return func(func(eventstore.Recorded, error) bool) {}
			}
			return inner(ctx, q)
		}
	}},
	{"accepts any payload", func(m *mutant) {
		m.rewritesInvalid(func(e *eventstore.Event) { e.Data = []byte(`{}`) })
	}},
	{"knows no limits", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := m.Store.Append(ctx, es, expect...)
			if errors.Is(err, eventstore.ErrTooLarge) {
				return make([]eventstore.Recorded, len(es)), nil
			}
			return records, err
		}
	}},
	{"takes an empty append for a success", func(m *mutant) {
		m.append = func(ctx context.Context, es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if len(es) == 0 {
				return nil, nil
			}
			return m.Store.Append(ctx, es, expect...)
		}
	}},
	{"shows a head that is no event", func(m *mutant) {
		m.head = func(ctx context.Context) (eventstore.Position, error) {
			head, err := m.Store.Head(ctx)
			return head + 1, err
		}
	}},
	{"shows an old version of a stream", func(m *mutant) {
		seen := map[string]uint64{}
		var mu sync.Mutex
		m.version = func(ctx context.Context, stream string) (uint64, error) {
			version, err := m.Store.Version(ctx, stream)
			mu.Lock()
			defer mu.Unlock()
			old := seen[stream]
			seen[stream] = version
			return old, err
		}
	}},
	{"never wakes", func(m *mutant) {
		m.wait = func(ctx context.Context, after eventstore.Position) error {
			if head, err := m.Store.Head(ctx); err != nil || head != after {
				return m.Store.Wait(ctx, after)
			}
			<-ctx.Done()
			return ctx.Err()
		}
	}},
	{"wakes one of those who wait", func(m *mutant) {
		turn := make(chan struct{}, 1)
		m.wait = func(ctx context.Context, after eventstore.Position) error {
			select {
			case turn <- struct{}{}:
				return m.Store.Wait(ctx, after)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}},
	{"waits on after its context", func(m *mutant) {
		m.wait = func(ctx context.Context, after eventstore.Position) error {
			stopped, cancel := context.WithCancel(context.WithoutCancel(ctx))
			defer cancel()
			go func() {
				select {
				case <-m.stop:
					cancel()
				case <-stopped.Done():
				}
			}()
			return m.Store.Wait(stopped, after)
		}
	}},
	{"waits on after close", func(m *mutant) {
		m.wait = func(ctx context.Context, after eventstore.Position) error {
			if err := m.Store.Wait(ctx, after); !errors.Is(err, eventstore.ErrClosed) {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}
	}},
	{"does not close", func(m *mutant) { m.close = func() error { return nil } }},
	{"fails at the second close", func(m *mutant) {
		closed := false
		m.close = func() error {
			if closed {
				return eventstore.ErrClosed
			}
			closed = true
			return m.Store.Close()
		}
	}},
	{"forgets its last event when it is opened again", func(m *mutant) {
		m.reopen = func() eventstore.Store { return copyOf(m.all()[:max(0, len(m.all())-1)], m.Store) }
	}},
	{"forgets its checkpoints when it is opened again", func(m *mutant) {
		m.reopen = func() eventstore.Store { return copyOf(m.all(), nil) }
	}},
	{"saves checkpoints one by one", func(m *mutant) {
		m.save = func(ctx context.Context, cs []eventstore.Checkpoint) error {
			for _, c := range cs {
				if err := m.Store.SaveCheckpoints(ctx, c); err != nil {
					return err
				}
			}
			return nil
		}
	}},
	{"never moves a checkpoint back", func(m *mutant) {
		m.save = func(ctx context.Context, cs []eventstore.Checkpoint) error {
			for _, c := range cs {
				if old, err := m.Store.Checkpoint(ctx, c.Name); err == nil && old.Position > c.Position {
					return nil
				}
			}
			return m.Store.SaveCheckpoints(ctx, cs...)
		}
	}},
	{"loses a checkpoint's format", func(m *mutant) {
		m.load = func(ctx context.Context, name string) (eventstore.Checkpoint, error) {
			c, err := m.Store.Checkpoint(ctx, name)
			c.Format = min(c.Format, 1)
			return c, err
		}
	}},
	{"does not delete checkpoints", func(m *mutant) { m.forget = func(context.Context, string) error { return nil } }},
	{"shares the state of checkpoints", func(m *mutant) {
		shared := map[string]eventstore.Checkpoint{}
		m.save = func(ctx context.Context, cs []eventstore.Checkpoint) error {
			err := m.Store.SaveCheckpoints(ctx, cs...)
			if err == nil {
				for _, c := range cs {
					shared[c.Name] = c
				}
			}
			return err
		}
		m.load = func(ctx context.Context, name string) (eventstore.Checkpoint, error) {
			c, err := m.Store.Checkpoint(ctx, name)
			if err == nil && c.Name != "" {
				c = shared[name]
			}
			return c, err
		}
	}},
	{"restores under the time of now", func(m *mutant) {
		m.restore = func(ctx context.Context, after eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error) {
			rs = slices.Clone(rs)
			for i := range rs {
				rs[i].RecordedAt = time.Now().UTC().Truncate(time.Microsecond)
			}
			return m.Store.Restore(ctx, after, rs)
		}
	}},
	{"restores all as one append", func(m *mutant) {
		m.restore = func(ctx context.Context, after eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error) {
			rs = slices.Clone(rs)
			for i := range rs {
				rs[i].Append = 1
			}
			return m.Store.Restore(ctx, after, rs)
		}
	}},
	{"restores behind any place", func(m *mutant) {
		m.restore = func(ctx context.Context, _ eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error) {
			head, err := m.Store.Head(ctx)
			if err != nil {
				return 0, eventstore.NotApplied(err)
			}
			return m.Store.Restore(ctx, head, rs)
		}
	}},
	{"restores without looking at versions", func(m *mutant) {
		m.restore = func(ctx context.Context, after eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error) {
			next := map[string]uint64{}
			rs = slices.Clone(rs)
			for i := range rs {
				if _, ok := next[rs[i].Stream]; !ok {
					next[rs[i].Stream], _ = m.Store.Version(context.Background(), rs[i].Stream)
				}
				next[rs[i].Stream]++
				rs[i].Version = next[rs[i].Stream]
			}
			return m.Store.Restore(ctx, after, rs)
		}
	}},
	{"restores what has no version or time", func(m *mutant) {
		m.restore = func(ctx context.Context, after eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error) {
			head, err := m.Store.Restore(ctx, after, rs)
			if errors.Is(err, eventstore.ErrInvalid) {
				return after, nil
			}
			return head, err
		}
	}},
	{"restores known IDs once more", func(m *mutant) {
		m.restore = func(ctx context.Context, after eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error) {
			rs = slices.Clone(rs)
			for i := range rs {
				if _, known := m.byID(rs[i].ID); known {
					rs[i].ID = uuid.Must(uuid.NewV7())
				}
			}
			return m.Store.Restore(ctx, after, rs)
		}
	}},
	{"wakes nobody after a restore", func(m *mutant) {
		var restored atomic.Bool
		m.restore = func(ctx context.Context, after eventstore.Position, rs []eventstore.Recorded) (eventstore.Position, error) {
			restored.Store(true)
			time.Sleep(5 * time.Millisecond)
			return m.Store.Restore(ctx, after, rs)
		}
		m.wait = func(ctx context.Context, after eventstore.Position) error {
			if err := m.Store.Wait(ctx, after); err != nil || !restored.Load() {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}
	}},
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

// probe is a testing.TB that records a failure instead of failing the test.
type probe struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	first    string
	cleanups []func()
	over     bool
}

func (p *probe) fail(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.failed {
		p.failed, p.first = true, message
	}
}

func (p *probe) Errorf(format string, args ...any) { p.fail(fmt.Sprintf(format, args...)) }
func (p *probe) Error(args ...any)                 { p.fail(fmt.Sprint(args...)) }
func (p *probe) Fail()                             { p.fail("") }
func (p *probe) FailNow()                          { p.fail(""); runtime.Goexit() }
func (p *probe) Helper()                           {}
func (p *probe) Logf(string, ...any)               {}
func (p *probe) Log(...any)                        {}

func (p *probe) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over { // a goroutine that a failed clause left behind
		go f()
		return
	}
	p.cleanups = append(p.cleanups, f)
}

// cleanUp ends the clause: it stops what the clause left running.
func (p *probe) cleanUp() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
}

func (p *probe) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// try runs one clause against a store and returns whether it held, and why not.
func try(t testing.TB, c clause, s Suite) (bool, string) {
	p := &probe{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				p.fail(fmt.Sprint("panic: ", r))
			}
		}()
		c.run(p, s)
	}()
	select {
	case <-done:
		p.cleanUp()
	case <-time.After(20 * time.Second): // the mutant hangs the clause: that is a failure too
		p.fail("the clause hangs")
		p.cleanUp()
		<-done
	}
	return !p.Failed(), p.first
}

// suite returns the suite of the good store with a fault planted, nil for none.
func suite(plant func(m *mutant)) Suite {
	return Suite{
		Patience: 2 * time.Second,
		Open: func(t testing.TB) eventstore.Store {
			m := &mutant{Store: memory.New(), stop: make(chan struct{})}
			if plant != nil {
				plant(m)
			}
			t.Cleanup(func() { close(m.stop); _ = m.Store.Close() })
			return m
		},
		Reopen: func(t testing.TB, store eventstore.Store) eventstore.Store {
			m := store.(*mutant)
			again := &mutant{stop: make(chan struct{})}
			if m.reopen != nil {
				again.Store = m.reopen().(*memory.Store)
			} else {
				again.Store = copyOf(m.all(), m.Store)
			}
			_ = m.Close()
			return again
		},
	}
}

// TestEveryMutantIsCaughtAtFullSize shows that the suite can fail: each planted fault is
// caught by a clause, the good store by none, and the matrix is printed. Under
// the race detector it is every eighth mutant, until a clause has caught it.
func TestEveryMutantIsCaughtAtFullSize(t *testing.T) {
	all := clauses()
	for _, c := range all {
		good := suite(nil)
		held, why := try(t, c, good)
		require.True(t, held, "the good store fails %q: %s", c.says, why)
	}

	mutants := mutants
	if race.Enabled {
		mutants = slices.Clone(mutants)
		for i := range mutants {
			mutants[i/8] = mutants[i&^7]
		}
		mutants = mutants[:len(mutants)/8]
	}
	caught := make([][]bool, len(mutants))
	attempt := func(i int, alone bool) {
		for j, c := range all {
			if c.alone != alone || race.Enabled && slices.Contains(caught[i], true) {
				continue
			}
			held, _ := try(t, c, suite(mutants[i].plant))
			caught[i][j] = !held
		}
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range 6 * runtime.GOMAXPROCS(0) { // most of the time they wait for what never comes
		wg.Go(func() {
			for i := range next {
				attempt(i, false)
			}
		})
	}
	for i := range mutants {
		caught[i] = make([]bool, len(all))
		next <- i
	}
	close(next)
	wg.Wait()
	for i := range mutants {
		attempt(i, true)
	}

	for i, m := range mutants {
		require.Contains(t, caught[i], true, "no clause catches the mutant that %s", m.name)
	}
	if race.Enabled {
		return
	}
	for j, c := range all {
		idle := true
		for i := range mutants {
			idle = idle && !caught[i][j]
		}
		if idle {
			t.Errorf("no mutant is caught by the clause %q: plant one, or the clause may not be able to fail", c.says)
		}
	}
	printMatrix(t, all, caught)
}

// printMatrix prints clause x mutant to the file named by STORETEST_MATRIX, or to the log.
func printMatrix(t *testing.T, all []clause, caught [][]bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d mutants, %d clauses, every mutant caught\n\nclauses:\n", len(mutants), len(all))
	for j, c := range all {
		fmt.Fprintf(&b, "%3d  %s: %s\n", j+1, c.group, c.says)
	}
	b.WriteString("\nmutant: caught by clauses\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i, m := range mutants {
		var by []int
		for j := range all {
			if caught[i][j] {
				by = append(by, j+1)
			}
		}
		sort.Ints(by)
		fmt.Fprintf(w, "%s\t%s\n", m.name, strings.Trim(fmt.Sprint(by), "[]"))
	}
	require.NoError(t, w.Flush())
	if file := os.Getenv("STORETEST_MATRIX"); file != "" {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	t.Log("\n" + b.String())
}
