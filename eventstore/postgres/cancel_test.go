package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// tripwire does something at the n-th time that a store is about to write to a
// connection or to read from one, or has done so, or makes one.
type tripwire struct {
	mu   sync.Mutex
	left int // 0: it is not armed
	do   func()
	hit  bool
}

func (w *tripwire) arm(n int, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.do, w.hit = n, do, false
}

// disarm reports whether it was hit.
func (w *tripwire) disarm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = 0
	return w.hit
}

func (w *tripwire) step() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 {
		return
	}
	if w.left--; w.left == 0 {
		w.hit = true
		w.do()
	}
}

// option has a store step on it.
func (w *tripwire) option() postgres.Option {
	return postgres.Connecting(func(pc *pgxpool.Config) {
		dial := pc.ConnConfig.DialFunc
		pc.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			w.step()
			c, err := dial(ctx, network, address)
			w.step()
			if err != nil {
				return nil, err
			}
			return wired{c, w}, nil
		}
	})
}

type wired struct {
	net.Conn
	w *tripwire
}

func (c wired) Read(b []byte) (int, error) {
	c.w.step()
	n, err := c.Conn.Read(b)
	c.w.step()
	return n, err
}

func (c wired) Write(b []byte) (int, error) {
	c.w.step()
	n, err := c.Conn.Write(b)
	c.w.step()
	return n, err
}

// trip is a store on a tripwire, and what is known of its log.
type trip struct {
	*account
	w       *tripwire
	store   *postgres.Store
	c       *caller
	dsn     string
	schema  string
	applied int // appends that had succeeded all the same
	none    int // that were not applied
	unknown int
}

// calls are all that a store is asked, each by itself. Each returns nil where the call
// has done its work, and its error otherwise.
func (x *trip) calls() map[string]func(context.Context) error {
	appends := func(with bool) func(context.Context) error {
		return func(ctx context.Context) error {
			x.c.with = with
			s := x.c.next()
			x.sent = append(x.sent, s)
			records, err := s.to(ctx, x.store, x.c.told)
			return x.settle(s, records, err)
		}
	}
	reads := func(q eventstore.Query) func(context.Context) error {
		return func(ctx context.Context) error {
			n := 0
			for _, err := range x.store.Read(ctx, q) {
				if err != nil {
					return err
				}
				n++
			}
			if n == 0 {
				return fmt.Errorf("a read of %v is empty", q)
			}
			return nil
		}
	}
	attempted := eventstore.Position(0)
	return map[string]func(context.Context) error{
		"append":          appends(false),
		"append with":     appends(true),
		"append again":    x.again,
		"restore":         x.restore,
		"read the log":    reads(eventstore.Query{}),
		"read a stream":   reads(eventstore.Query{Streams: []string{x.c.name}}),
		"read by a tag":   reads(eventstore.Query{Tags: []string{"by:" + x.c.name}, Types: []string{"t"}}),
		"read by a start": reads(eventstore.Query{Prefix: x.c.name[:3]}),
		"version": func(ctx context.Context) error {
			version, err := x.store.Version(ctx, x.c.name)
			if err == nil && version != x.c.version {
				return fmt.Errorf("version %d, not %d", version, x.c.version)
			}
			return err
		},
		"head": func(ctx context.Context) error { _, err := x.store.Head(ctx); return err },
		"fences": func(ctx context.Context) error {
			_, err := x.store.Fences(ctx)
			return err
		},
		"save checkpoints": func(ctx context.Context) error {
			attempted++
			err := x.store.SaveCheckpoints(ctx, eventstore.Checkpoint{Name: "a", Position: attempted}, eventstore.Checkpoint{Name: "b", Position: attempted})
			// In one look: a commit that was given up may come between two.
			var low, high eventstore.Position
			failed := postgres.Connections(x.store).QueryRow(context.Background(), "SELECT coalesce(min(position), 0), coalesce(max(position), 0) FROM "+x.schema+".checkpoints").Scan(&low, &high)
			if failed != nil || low != high || high > attempted || err == nil && high != attempted {
				return fmt.Errorf("of two checkpoints saved together one stands at %d and the other at %d, saved at %d last: %v, %v", low, high, attempted, err, failed)
			}
			return err
		},
		"checkpoint":        func(ctx context.Context) error { _, err := x.store.Checkpoint(ctx, "a"); return err },
		"delete checkpoint": func(ctx context.Context) error { return x.store.DeleteCheckpoint(ctx, "c") },
		"wait for what is there": func(ctx context.Context) error {
			return x.store.Wait(ctx, 0)
		},
		"wait for what comes": func(ctx context.Context) error {
			head, err := x.store.Head(context.Background())
			if err != nil {
				return err
			}
			waited := make(chan error, 1)
			go func() { waited <- x.store.Wait(ctx, head) }()
			time.Sleep(2 * time.Millisecond)
			x.c.with = false
			if !x.c.make(context.Background(), x.store) {
				return errors.New("an append failed")
			}
			return <-waited
		},
	}
}

// again appends what is in the log, under an expectation that does not hold any more:
// that is no conflict, however the call ends.
func (x *trip) again(ctx context.Context) error {
	s := x.sent[0]
	records, err := s.to(ctx, x.store, x.c.told)
	switch {
	case err == nil && !slices.EqualFunc(records, s.records, equal):
		x.problem("%s: sent again it has other records", s.mark)
	case err != nil && (outcomes(err) != 1 || errors.Is(err, eventstore.ErrConflict)):
		x.problem("%s: not one outcome, or a conflict that is none: %v", s.mark, err)
	}
	return err
}

// settle holds an append to what was told of it, and sends it again: the outcome is one.
func (x *trip) settle(s *sent, records []eventstore.Recorded, told error) error {
	switch {
	case told == nil:
		x.applied++
	case outcomes(told) != 1 || errors.Is(told, eventstore.ErrConflict):
		x.problem("%s: not one outcome, or a conflict that is none: %v", s.mark, told)
	case errors.Is(told, eventstore.ErrNotApplied):
		x.none++
		// It is not there, and it does not come.
		for r, err := range x.store.Read(context.Background(), eventstore.Query{Streams: []string{s.events[0].Stream}}) {
			if err != nil || r.ID == s.events[0].ID {
				x.problem("%s: it was told that it is not applied, and is there: %v, %v", s.mark, r, err)
			}
		}
	default:
		x.unknown++
	}
	for range 2 { // the second time it is known in any case
		again, err := s.to(context.Background(), x.store, x.c.told)
		if err != nil {
			x.problem("%s: sent again: %v", s.mark, err)
			break
		}
		if records != nil && again[0].Position != records[0].Position {
			x.problem("%s: sent again it stands at another place", s.mark)
		}
		s.answered, s.records, records = true, again, again
	}
	for _, e := range s.events {
		if e.Stream == x.c.name {
			x.c.version++
		}
	}
	return told
}

// restore restores two events. It cannot be sent again: the head says whether it was applied.
func (x *trip) restore(ctx context.Context) error {
	head, err := x.store.Head(context.Background())
	if err != nil {
		return err
	}
	x.c.made++
	s := &sent{mark: fmt.Sprint("restored/", x.c.made), answered: true}
	var records []eventstore.Recorded
	for i := range 2 {
		s.events = append(s.events, eventstore.Event{ID: newID(), Stream: fmt.Sprint("restored-", x.c.made), Type: "t", Schema: 1, Data: fmt.Appendf(nil, `{"mark": "%s", "i": %d}`, s.mark, i)})
		records = append(records, eventstore.Recorded{
			Event: s.events[i], Version: uint64(i) + 1, Position: eventstore.Position(i) + 1, Append: 1, RecordedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		})
	}
	x.sent = append(x.sent, s)
	_, told := x.store.Restore(ctx, head, records)
	if told != nil && (outcomes(told) != 1 || errors.Is(told, eventstore.ErrConflict)) {
		x.problem("%s: not one outcome, or a conflict that is none: %v", s.mark, told)
	}
	_, again := x.store.Restore(context.Background(), head, records)
	there := errors.Is(again, eventstore.ErrConflict) // the head has moved
	switch {
	case told == nil:
		x.applied++
		if !there {
			x.problem("%s: it was acknowledged, and restored once more: %v", s.mark, again)
		}
	case errors.Is(told, eventstore.ErrNotApplied):
		x.none++
		if again != nil {
			x.problem("%s: it was told that it is not applied, and a second time: %v", s.mark, again)
		}
	default:
		x.unknown++
		if again != nil && !there {
			x.problem("%s: sent again: %v", s.mark, again)
		}
	}
	for r, err := range x.store.Read(context.Background(), eventstore.Query{Streams: []string{records[0].Stream}}) {
		if err != nil {
			return err
		}
		s.records = append(s.records, r)
	}
	return told
}

// newTrip opens a store with some history.
func newTrip(t testing.TB, form ...postgres.Option) *trip {
	t.Helper()
	x := &trip{account: &account{}, w: &tripwire{}, dsn: pgtest.Database(t), schema: fresh()}
	x.store = open(t, x.dsn, append(form, postgres.WithSchema(x.schema), postgres.PollOnly(), x.w.option())...)
	tellTable(t, x.dsn, x.schema)
	x.c = x.caller(1, 1, x.schema)
	for range 70 { // more than a page
		require.True(t, x.c.make(t.Context(), x.store))
	}
	return x
}

// strideOf is how far the steps of a call stand apart at which it is disturbed: appends
// are looked at more closely.
func strideOf(name string, apart int) int {
	if strings.HasPrefix(name, "append") || name == "restore" {
		return max(1, apart/4)
	}
	return apart
}

// F39: whenever the context ends, at each step to or from the server, and also where a
// connection is only made, the call has done its work or says that the context ended, an
// append is one or none, and the pool is whole.
func TestAContextThatEndsAtAnyStepToTheServerEndsTheCallAndNothingElse(t *testing.T) {
	apart := sizeOf(t, strideVariable, 24, 48)
	both(t, func(t *testing.T, form ...postgres.Option) {
		x := newTrip(t, form...)
		for name, call := range x.calls() {
			stride := strideOf(name, apart)
			failedAtAll := 0 // one that ends at its last step may have what it wants
			for _, connected := range []bool{true, false} {
				x.applied, x.none, x.unknown = 0, 0, 0
				steps, failed := 0, 0
				for n := 1 + rand.IntN(min(stride, 4)); ; n += stride {
					if !connected {
						postgres.Connections(x.store).Reset()
					}
					ctx, cancel := context.WithCancel(t.Context())
					x.w.arm(n, cancel)
					err := call(ctx)
					hit := x.w.disarm()
					cancel()
					require.Empty(t, x.problems, "%s, step %d", name, n)
					if err != nil {
						require.ErrorIs(t, err, context.Canceled, "%s, step %d", name, n)
						require.True(t, hit, "%s, step %d: %v", name, n, err)
						failed++
					}
					if !hit {
						break
					}
					steps++
					require.Less(t, n, 1000, name)
				}
				t.Logf("%s, connected before %v: ended at each of %d steps, and failed at %d; of appends %d had succeeded, %d were not applied, %d were unknown",
					name, connected, steps, failed, x.applied, x.none, x.unknown)
				failedAtAll += failed
			}
			if name != "fences" || len(form) == 0 { // serialized appends have none, and nothing is asked
				require.NotZero(t, failedAtAll, name)
			}
			whole(t, x.store)
		}
		x.audit(t, x.dsn, x.schema, form...)
		require.Empty(t, x.problems)
	})
}

// F39: a look at the IDs that fails leaves open whether a refused append is a resend: where an
// expectation does not hold, and the context's time is over at any step of the look, or
// the connection breaks there and nothing is tried again, it is no conflict.
func TestAResendThatIsCutShortIsNoConflict(t *testing.T) {
	both(t, func(t *testing.T, form ...postgres.Option) {
		x := newTrip(t, append(slices.Clone(form), postgres.Tries(1), postgres.WithoutCompany())...)
		for _, with := range []bool{false, true} {
			x.sent[0].with = with
			for name, disturb := range map[string]func(ctx context.Context) error{
				"time is over": func(ctx context.Context) error { <-ctx.Done(); return nil },
				"broken": func(context.Context) (err error) {
					onServer(t, x.dsn, func(c *pgx.Conn) error {
						_, err = c.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1", "rollforward "+x.schema)
						return err
					})
					return err
				},
			} {
				steps, failed := 0, 0
				for n := 1; ; n += 2 { // a look takes some four steps
					ctx, cancel := context.WithCancel(t.Context())
					if name == "time is over" {
						ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
					}
					var wrong error
					x.w.arm(n, func() { wrong = disturb(ctx) })
					err := x.again(ctx)
					hit := x.w.disarm()
					cancel()
					require.NoError(t, wrong)
					require.Empty(t, x.problems, "with %v, %s, step %d", with, name, n)
					if err != nil {
						failed++
					}
					if steps++; !hit && err == nil {
						break
					}
					require.Less(t, n, 1000)
				}
				t.Logf("with a part of the caller's %v, %s: at each of %d steps, of which %d failed", with, name, steps, failed)
				require.NotZero(t, failed)
			}
		}
	})
}

// F11: likewise, where all backends of the store are terminated at that step.
func TestBackendsTerminatedAtAnyStepOfACallDoNotFailIt(t *testing.T) {
	apart := sizeOf(t, strideVariable, 48, 96)
	both(t, func(t *testing.T, form ...postgres.Option) {
		x := newTrip(t, form...)
		onServer(t, x.dsn, func(c *pgx.Conn) error {
			for name, call := range x.calls() {
				x.applied, x.none, x.unknown = 0, 0, 0
				steps, stride := 0, strideOf(name, apart)
				for n := 1 + rand.IntN(min(stride, 4)); ; n += stride {
					var failed error
					x.w.arm(n, func() {
						// It waits until they are gone, so that what comes next meets no server.
						_, failed = c.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1", "rollforward "+x.schema)
					})
					err := call(t.Context())
					hit := x.w.disarm()
					require.NoError(t, failed)
					require.Empty(t, x.problems, "%s, step %d", name, n)
					if name != "restore" { // that says that its outcome is unknown, as it cannot be sent again
						require.NoError(t, err, "%s, step %d", name, n)
					} else if err != nil {
						require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown, "%s, step %d", name, n)
					}
					if !hit {
						break
					}
					steps++
					require.Less(t, n, 1000, name)
				}
				t.Logf("%s: backends terminated at each of %d steps; of appends %d succeeded, %d were unknown", name, steps, x.applied, x.unknown)
				if name != "fences" || len(form) == 0 { // serialized appends have none, and nothing is asked
					require.NotZero(t, steps, name)
				}
			}
			return nil
		})
		whole(t, x.store)
		x.audit(t, x.dsn, x.schema, form...)
		require.Empty(t, x.problems)
	})
}

// The control of F39: an append that is there and was told otherwise is seen.
func TestTheHarnessSeesAnAppendThatIsThereAndWasToldNotApplied(t *testing.T) {
	x := newTrip(t)
	s := x.c.next()
	x.sent = append(x.sent, s)
	_, err := s.to(t.Context(), x.store, x.c.told)
	require.NoError(t, err)
	require.Error(t, x.settle(s, nil, eventstore.NotApplied(context.Canceled)))
	require.Contains(t, fmt.Sprint(x.problems), "is not applied, and is there")
	x.audit(t, x.dsn, x.schema)
	require.Len(t, x.problems, 1)
}
