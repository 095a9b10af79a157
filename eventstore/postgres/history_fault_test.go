package postgres_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
)

// mostHistories is how many are made until a fault must have been found.
const mostHistories = 100

// planted is a store with a fault; what is nil is the store's own.
type planted struct {
	*postgres.Store
	append  func(ctx context.Context, events []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error)
	read    func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error]
	version func(ctx context.Context, stream string) (uint64, error)
}

func (p planted) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if p.append == nil {
		return p.Store.Append(ctx, events, expect...)
	}
	return p.append(ctx, events, expect)
}

func (p planted) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	if p.read == nil {
		return p.Store.Read(ctx, q)
	}
	return p.read(ctx, q)
}

func (p planted) Version(ctx context.Context, stream string) (uint64, error) {
	if p.version == nil {
		return p.Store.Version(ctx, stream)
	}
	return p.version(ctx, stream)
}

// unlucky is once in so many times.
func unlucky(times int) bool { return rand.IntN(times) == 0 }

// faults are found by the model.
var faults = []struct {
	name string
	wrap wrapping
}{
	{"a read is answered from a cache that nobody clears", func(_ *history, store *postgres.Store) spoken {
		var kept sync.Map
		return planted{Store: store, read: func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			key := strings.Join(q.Streams, " ")
			if was, ok := kept.Load(key); ok && key != "" && unlucky(2) {
				return replay(was.([]eventstore.Recorded))
			}
			return func(yield func(eventstore.Recorded, error) bool) {
				var records []eventstore.Recorded
				for r, err := range store.Read(ctx, q) {
					if !yield(r, err) || err != nil {
						return
					}
					records = append(records, r)
				}
				kept.Store(key, records)
			}
		}}
	}},
	{"a version is answered from a cache that nobody clears", func(_ *history, store *postgres.Store) spoken {
		var kept sync.Map
		return planted{Store: store, version: func(ctx context.Context, stream string) (uint64, error) {
			if was, ok := kept.Load(stream); ok {
				return was.(uint64), nil
			}
			v, err := store.Version(ctx, stream)
			if err == nil {
				kept.Store(stream, v)
			}
			return v, err
		}}
	}},
	{"an append is acknowledged and lost", func(h *history, store *postgres.Store) spoken {
		return planted{Store: store, append: func(ctx context.Context, events []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if !unlucky(4) {
				return store.Append(ctx, events, expect...)
			}
			tx, err := h.pool.Begin(context.WithoutCancel(ctx))
			if err != nil {
				return nil, eventstore.NotApplied(err)
			}
			defer tx.Rollback(context.WithoutCancel(ctx))
			return store.AppendTx(ctx, tx, events, expect...)
		}}
	}},
	{"an append is acknowledged before it is visible", func(h *history, store *postgres.Store) spoken {
		return planted{Store: store, append: func(ctx context.Context, events []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if !unlucky(2) {
				return store.Append(ctx, events, expect...)
			}
			ctx = context.WithoutCancel(ctx)
			tx, err := h.pool.Begin(ctx)
			if err != nil {
				return nil, eventstore.NotApplied(err)
			}
			records, err := store.AppendTx(ctx, tx, events, expect...)
			h.late.Go(func() {
				time.Sleep(rand.N(20 * time.Millisecond))
				end := tx.Commit
				if err != nil {
					end = tx.Rollback
				}
				if err := end(ctx); err != nil {
					h.problem("the end of a transaction: %v", err)
				}
			})
			return records, err
		}}
	}},
	{"expectations are ignored", func(_ *history, store *postgres.Store) spoken {
		return planted{Store: store, append: func(ctx context.Context, events []eventstore.Event, _ []eventstore.Expect) ([]eventstore.Recorded, error) {
			return store.Append(ctx, events)
		}}
	}},
	{"an expectation of a stream that is only checked is ignored", func(_ *history, store *postgres.Store) spoken {
		return planted{Store: store, append: func(ctx context.Context, events []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			return store.Append(ctx, events, slices.DeleteFunc(slices.Clone(expect), func(x eventstore.Expect) bool {
				return !slices.ContainsFunc(events, func(e eventstore.Event) bool { return e.Stream == x.Stream })
			})...)
		}}
	}},
	{"what is sent again has new IDs and comes twice", func(h *history, store *postgres.Store) spoken {
		return planted{Store: store, append: func(ctx context.Context, events []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			if _, again := h.remembered.LoadOrStore(events[0].ID, true); again {
				events = slices.Clone(events)
				for i := range events {
					events[i].ID = uuid.New()
				}
				expect = nil // read again, as who sends new events would
			}
			return store.Append(ctx, events, expect...)
		}}
	}},
	{"an append to two streams is two appends", func(_ *history, store *postgres.Store) spoken {
		return planted{Store: store, append: func(ctx context.Context, events []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
			records, err := store.Append(ctx, events[:1], expect...)
			if err != nil || len(events) == 1 {
				return records, err
			}
			time.Sleep(time.Millisecond)
			rest, err := store.Append(context.WithoutCancel(ctx), events[1:])
			return append(records, rest...), err
		}}
	}},
	{"several streams are read one after another", func(_ *history, store *postgres.Store) spoken {
		return planted{Store: store, read: func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			if len(q.Streams) < 2 {
				return store.Read(ctx, q)
			}
			return func(yield func(eventstore.Recorded, error) bool) {
				for _, stream := range q.Streams {
					for r, err := range store.Read(ctx, eventstore.Query{Streams: []string{stream}}) {
						if !yield(r, err) || err != nil {
							return
						}
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
		}}
	}},
}

// logFaults are found by the check of log reads.
var logFaults = []struct {
	name string
	wrap wrapping
}{
	{"a read of the log leaves out an event", logWith(func(records []eventstore.Recorded) []eventstore.Recorded {
		if len(records) < 3 || !unlucky(8) {
			return records
		}
		i := 1 + rand.IntN(len(records)-2)
		return slices.Delete(records, i, i+1)
	})},
	{"a read of the log ends in the middle of an append", logWith(func(records []eventstore.Recorded) []eventstore.Recorded {
		if n := len(records); n > 1 && records[n-1].Append == records[n-2].Append {
			return records[:n-1]
		}
		return records
	})},
	{"a read of the log is ordered by stream", logWith(func(records []eventstore.Recorded) []eventstore.Recorded {
		slices.SortStableFunc(records, func(a, b eventstore.Recorded) int { return strings.Compare(a.Stream, b.Stream) })
		return records
	})},
	{"a read of the log has an event again", logWith(func(records []eventstore.Recorded) []eventstore.Recorded {
		if len(records) > 0 && unlucky(8) {
			return append(records, records[len(records)-1])
		}
		return records
	})},
}

// logWith changes what a read of the log without a limit brings.
func logWith(change func([]eventstore.Recorded) []eventstore.Recorded) wrapping {
	return func(h *history, store *postgres.Store) spoken {
		return planted{Store: store, read: func(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
			if len(q.Streams) > 0 || q.Limit > 0 {
				return store.Read(ctx, q)
			}
			var records []eventstore.Recorded
			for r, err := range store.Read(ctx, q) {
				if err != nil {
					return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, err) }
				}
				if strings.HasPrefix(r.Stream, h.prefix) {
					records = append(records, r)
				}
			}
			return replay(change(records))
		}}
	}
}

func replay(records []eventstore.Recorded) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// found makes histories until a check finds one wrong, and returns it.
func found(t *testing.T, g *ground, wrap wrapping, wrong func(figures *historyFigures, h *history) bool) *history {
	t.Helper()
	seed := historySeed(t)
	var figures historyFigures
	for i := range mostHistories {
		h := makeHistory(t, g, seed+uint64(i), false, wrap)
		if wrong(&figures, h) {
			t.Logf("found in history %d, of %d operations; seed %d", i+1, len(h.operations()), seed)
			return h
		}
	}
	require.Fail(t, "the fault was not found", "%v; seed %d", &figures, seed)
	return nil
}

func notLinear(figures *historyFigures, h *history) bool { return figures.add(h) == porcupine.Illegal }

func badLog(_ *historyFigures, h *history) bool {
	return len(checkLog(h.reads, h.final, h.streams, h.appends())) > 0
}

func TestHistoriesShowPlantedFaults(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		g := newGround(t, options...)
		for _, fault := range faults {
			t.Run(fault.name, func(t *testing.T) { found(t, g, fault.wrap, notLinear) })
		}
		for _, fault := range logFaults {
			t.Run(fault.name, func(t *testing.T) { found(t, g, fault.wrap, badLog) })
		}
	})
}

// redefine changes a function of the schema, as a mistake in it would.
func redefine(t *testing.T, g *ground, function string, replacements ...string) {
	t.Helper()
	var was string
	require.NoError(t, g.pool.QueryRow(t.Context(), "SELECT pg_get_functiondef($1::text::regproc)", fmt.Sprint(g.schema, ".", function)).Scan(&was))
	for i := 0; i < len(replacements); i += 2 {
		require.Contains(t, was, replacements[i])
		was = strings.ReplaceAll(was, replacements[i], replacements[i+1])
	}
	_, err := g.pool.Exec(t.Context(), was)
	require.NoError(t, err)
}

func TestHistoriesShowThatStreamsAreNotLocked(t *testing.T) {
	g := newGround(t)
	// Two events of one version are kept out by the index all the same; what is left is
	// that a stream which is checked moves on before the append is there.
	redefine(t, g, "reserve", "PERFORM pg_advisory_xact_lock(key)", "PERFORM key", "NOT pg_try_advisory_xact_lock(", "name = '' AND 0 = (")
	h := found(t, g, nil, notLinear)

	path, text := h.draw(t)
	drawn, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(drawn), "conflict")
	require.Equal(t, len(h.operations()), strings.Count(text, "\n"))
}

func TestHistoriesShowThatTheLogIsReadWithoutTheFence(t *testing.T) {
	g := newGround(t)
	redefine(t, g, "frontier", "RETURN least(drawn, drawn + behind)", "RETURN drawn")
	found(t, g, nil, badLog)
}
