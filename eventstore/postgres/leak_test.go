package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// closed is what closing stores under load came to.
type closed struct {
	*account
	rounds             int
	succeeded, refused int // calls that succeeded, that said ErrClosed
	doubtful           int // of these, appends whose outcome is unknown
	longest            time.Duration
}

// heard takes in how a call ended, and reports whether it did so well.
func (x *closed) heard(doing string, err error) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err == nil:
		x.succeeded++
	case errors.Is(err, eventstore.ErrClosed):
		x.refused++
	default:
		x.problems = append(x.problems, fmt.Sprintf("round %d: %s: %v", x.rounds, doing, err))
	}
	return err == nil
}

// patience is how long a Close may take, and calls go on after it.
const patience = 10 * time.Second

// closing is what is called while a store is closed.
type closing interface {
	eventstore.Store
	eventstore.Checkpoints
	Fences(context.Context) ([]postgres.Fence, error)
}

// round uses a store from all sides and closes it meanwhile.
func (x *closed) round(store *postgres.Store, wrapped closing, schema string, seed uint64) {
	x.rounds++
	random := rand.New(rand.NewPCG(seed, uint64(x.rounds)))
	ctx := context.Background()
	var running sync.WaitGroup
	appended := make(chan struct{}, 1)
	for i := range 4 {
		c := x.caller(seed+uint64(x.rounds), 0, schema)
		c.name = fmt.Sprint("own-", x.rounds, "-", i) // its version is known: it is new
		running.Go(func() {
			for going := true; going; {
				s := c.next()
				s.with = i == 3
				x.mu.Lock()
				x.sent = append(x.sent, s)
				x.mu.Unlock()
				var records []eventstore.Recorded
				var err error
				if s.with {
					records, err = s.to(ctx, store, c.told)
				} else {
					records, err = wrapped.Append(ctx, s.events, s.expect...)
				}
				if going = x.heard("append", err); err != nil && outcomes(err) != 1 {
					x.problem("round %d: not one outcome: %v", x.rounds, err)
				}
				x.mu.Lock()
				switch {
				case err == nil:
					s.answered, s.records = true, records
				case errors.Is(err, eventstore.ErrOutcomeUnknown):
					s.doubts, x.doubtful = 1, x.doubtful+1
				default:
					s.refused = true
				}
				x.mu.Unlock()
				for _, e := range s.events {
					if e.Stream == c.name {
						c.version++
					}
				}
				select {
				case appended <- struct{}{}:
				default:
				}
			}
		})
	}
	repeat := func(doing string, call func(n int) error) {
		running.Go(func() {
			for n := 0; x.heard(doing, call(n)); n++ {
			}
		})
	}
	repeat("save", func(n int) error {
		return wrapped.SaveCheckpoints(ctx, eventstore.Checkpoint{Name: "a", Position: eventstore.Position(n)}, eventstore.Checkpoint{Name: "b"})
	})
	repeat("checkpoint", func(int) error { _, err := wrapped.Checkpoint(ctx, "a"); return err })
	for _, q := range []eventstore.Query{{}, {Streams: []string{"shared"}}, {Tags: []string{"by:own-1-1"}}} {
		repeat("read", func(n int) error {
			for _, err := range wrapped.Read(ctx, q) {
				if err != nil || n%3 == 2 { // one of three is left halfway
					return err
				}
			}
			return nil
		})
	}
	repeat("wait", func(int) error {
		head, err := wrapped.Head(ctx)
		if err != nil {
			return err
		}
		return wrapped.Wait(ctx, head)
	})
	repeat("version", func(int) error {
		limited, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if _, err := wrapped.Version(limited, "shared"); !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil
	})
	if random.IntN(4) > 0 {
		<-appended
	}
	time.Sleep(time.Duration(random.Int64N(int64(8 * time.Millisecond))))
	begin := time.Now()
	var ending sync.WaitGroup
	for range 2 {
		ending.Go(func() { x.over("close", wrapped.Close()) })
	}
	ending.Wait()
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		x.problem("round %d: calls go on %v after the store was closed", x.rounds, patience)
	}
	x.longest = max(x.longest, time.Since(begin))
	for doing, err := range x.late(wrapped, ctx) {
		if !errors.Is(err, eventstore.ErrClosed) {
			x.problem("round %d: %s after Close: %v", x.rounds, doing, err)
		}
	}
}

func (x *closed) over(doing string, err error) {
	if err != nil {
		x.problem("round %d: %s: %v", x.rounds, doing, err)
	}
}

// late calls a store that is closed.
func (x *closed) late(store closing, ctx context.Context) map[string]error {
	errs := map[string]error{}
	_, errs["append"] = store.Append(ctx, []eventstore.Event{{ID: newID(), Stream: "s", Type: "t", Schema: 1, Data: []byte("1")}})
	_, errs["version"] = store.Version(ctx, "s")
	_, errs["head"] = store.Head(ctx)
	_, errs["checkpoint"] = store.Checkpoint(ctx, "a")
	_, errs["fences"] = store.Fences(ctx)
	errs["save"], errs["wait"] = store.SaveCheckpoints(ctx, eventstore.Checkpoint{Name: "a"}), store.Wait(ctx, 0)
	for _, err := range store.Read(ctx, eventstore.Query{}) {
		errs["read"] = err
	}
	if !errors.Is(errs["append"], eventstore.ErrNotApplied) {
		x.problem("round %d: append after Close: %v", x.rounds, errs["append"])
	}
	return errs
}

// closings opens and closes stores n times, and holds the log to what appends were told
// and the server to having none of their backends.
func closings(t testing.TB, dsn string, seed uint64, n int, wrap func(*postgres.Store) closing, form ...postgres.Option) *closed {
	x := &closed{account: &account{}}
	schema := fresh()
	for x.rounds < n && len(x.problems) == 0 {
		store, err := postgres.Open(context.Background(), dsn, slices.Concat(form, []postgres.Option{postgres.WithSchema(schema)})...)
		require.NoError(t, err)
		if x.rounds == 0 {
			tellTable(t, dsn, schema)
		}
		x.round(store, wrap(store), schema, seed)
	}
	onServer(t, dsn, func(c *pgx.Conn) error {
		left := 0
		for begin := time.Now(); time.Since(begin) < patience; time.Sleep(5 * time.Millisecond) {
			if left = backends(t, c, schema); left == 0 {
				return nil
			}
		}
		x.problem("%d backends of closed stores are left", left)
		return nil
	})
	x.audit(t, dsn, schema, form...)
	return x
}

func plain(store *postgres.Store) closing { return store }

// openFiles returns how many file descriptors this process has.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not list file descriptors in /proc/self/fd")
	}
	return len(entries)
}

// leftovers returns what f leaves: goroutines and file descriptors that were not there before.
func leftovers(t testing.TB, f func()) (left []string) {
	time.Sleep(time.Microsecond) // the runtime opens two descriptors of its own for its first timer
	before, running := openFiles(t), goleak.IgnoreCurrent()
	f()
	if err := goleak.Find(running); err != nil {
		left = append(left, err.Error())
	}
	if after := openFiles(t); after != before {
		left = append(left, fmt.Sprintf("%d file descriptors, before %d", after, before))
	}
	return left
}

// F40 and F41: stores that are closed while they are used from all sides end every call,
// keep what they acknowledged, and leave nothing here or on the server.
func TestStoresClosedUnderLoadEndEveryCallAndLeaveNothing(t *testing.T) {
	n := sizeOf(t, closesVariable, 50, 10)
	both(t, func(t *testing.T, form ...postgres.Option) {
		dsn, seed := pgtest.Database(t), rand.Uint64()>>1
		var x *closed
		left := leftovers(t, func() { x = closings(t, dsn, seed, n, plain, form...) })
		t.Logf("%d stores closed under load: %d calls succeeded, %d were told that it is closed, of these %d with an unknown outcome; the longest took %v; %v; seed %d",
			x.rounds, x.succeeded, x.refused, x.doubtful, x.longest.Round(time.Millisecond), x.account, seed)
		require.Empty(t, x.problems, "seed %d", seed)
		require.Empty(t, left)
		require.Equal(t, n, x.rounds)
		require.Equal(t, 11*n, x.refused, "every goroutine is told")
		require.NotZero(t, x.answered())
	})
}

// misled is a store with one fault: the controls of F40 and F41.
type misled struct {
	*postgres.Store
	fault string
}

func (s misled) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	records, err := s.Store.Append(ctx, events, expect...)
	switch {
	case err != nil && s.fault == "says what it likes":
		return nil, eventstore.NotApplied(errors.New("bad file descriptor"))
	case err == nil && s.fault == "takes back what it did":
		return nil, eventstore.NotApplied(eventstore.ErrClosed)
	}
	return records, err
}

func TestTheHarnessSeesWhatACloseLosesOrLeaves(t *testing.T) {
	dsn := pgtest.Database(t)
	for fault, sees := range map[string]string{
		"says what it likes":     "bad file descriptor",
		"takes back what it did": "is not applied, and is there",
	} {
		x := closings(t, dsn, 1, 20, func(store *postgres.Store) closing { return misled{store, fault} })
		require.Contains(t, fmt.Sprint(x.problems), sees, fault)
	}
	var kept *postgres.Store
	left := leftovers(t, func() {
		var err error
		kept, err = postgres.Open(t.Context(), dsn, postgres.WithSchema(fresh()))
		require.NoError(t, err)
	})
	require.Contains(t, fmt.Sprint(left), "file descriptors, before")
	require.Contains(t, fmt.Sprint(left), "goroutine")
	onServer(t, dsn, func(c *pgx.Conn) error {
		require.NotZero(t, backends(t, c, schemaOf(kept)))
		return nil
	})
	require.NoError(t, kept.Close())
}
