package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

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
	{"leaves out schemas too where payloads alone are asked for", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for r, err := range m.Store.Read(ctx, q) {
					if q.PayloadsOnly {
						r.Tags, r.Meta, r.Schema = nil, nil, 0
					}
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}},
	{"overwrites what it lends before it is asked for the next event", func(m *mutant) {
		m.read = func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for r, err := range m.Store.Read(ctx, q) {
					if q.Lend {
						clear(r.Data)
					}
					if !yield(r, err) {
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
