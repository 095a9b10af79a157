package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// pursuit follows a log from its beginning, and keeps its cursor over what fails.
type pursuit struct {
	mu      sync.Mutex
	records []eventstore.Recorded
	failed  []error
	waited  int // times that Wait returned nil
}

// run reads and waits until ctx ends.
func (p *pursuit) run(ctx context.Context, store eventstore.Store) {
	failed := func(err error) {
		if err == nil || ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		p.failed = append(p.failed, err)
		p.mu.Unlock()
		time.Sleep(10 * time.Millisecond) // it goes on whatever happens
	}
	for ctx.Err() == nil {
		for r, err := range store.Read(ctx, eventstore.Query{After: p.cursor()}) {
			if err != nil {
				failed(err)
				break
			}
			p.mu.Lock()
			p.records = append(p.records, r)
			p.mu.Unlock()
		}
		err := store.Wait(ctx, p.cursor())
		failed(err)
		if err == nil {
			p.mu.Lock()
			p.waited++
			p.mu.Unlock()
		}
	}
}

func (p *pursuit) cursor() eventstore.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.records) == 0 {
		return 0
	}
	return p.records[len(p.records)-1].Position
}

// reaches waits until it has come to a position.
func (p *pursuit) reaches(t testing.TB, position eventstore.Position) {
	t.Helper()
	require.Eventually(t, func() bool { return p.cursor() >= position }, 20*time.Second, 5*time.Millisecond, "the reader stands at %d, not at %d", p.cursor(), position)
}

// missed returns how many events of a log it has not read, in their place, and how many
// it has read that are not there so.
func (p *pursuit) missed(log []eventstore.Recorded) (missed, wrong int) {
	read := map[string]int{}
	for _, r := range p.records {
		read[fmt.Sprint(r.ID, r.Position)]++
	}
	for _, r := range log {
		key := fmt.Sprint(r.ID, r.Position)
		if read[key] == 0 {
			missed++
			continue
		}
		read[key]--
	}
	for _, n := range read {
		wrong += n
	}
	if missed+wrong == 0 && !slices.EqualFunc(p.records, log, equal) {
		wrong = 1 // another order, or other bytes
	}
	return missed, wrong
}

// under is a store that is appended to, read and followed while something happens to
// its server.
type under struct {
	*account
	store   *postgres.Store
	follow  pursuit
	reading []error // how other calls failed
	calls   int     // that did not
	end     func()  // ends the load and waits for it
}

// load starts it: callers of every kind, one that follows, and one that asks for all else.
func load(t testing.TB, store *postgres.Store, seed uint64, schema string, change func(*caller)) *under {
	t.Helper()
	u := &under{account: &account{}, store: store}
	ctx, cancel := context.WithCancel(context.Background())
	following, endFollowing := context.WithCancel(context.Background())
	var running, pursuing sync.WaitGroup
	for i := range 6 {
		c := u.caller(seed, i, schema)
		c.with = i >= 4
		change(c)
		running.Go(func() {
			for ctx.Err() == nil && c.make(context.WithoutCancel(ctx), store) {
			}
		})
	}
	pursuing.Go(func() { u.follow.run(following, store) })
	running.Go(func() {
		for n := eventstore.Position(1); ctx.Err() == nil; n++ {
			for doing, err := range map[string]error{
				"save":       store.SaveCheckpoints(context.Background(), eventstore.Checkpoint{Name: "a", Position: n}, eventstore.Checkpoint{Name: "b", Position: n}),
				"checkpoint": u.standing(n),
				"version":    u.rises(),
				"stream":     u.reads(eventstore.Query{Streams: []string{"shared"}}),
				"tag":        u.reads(eventstore.Query{Tags: []string{"by:own-1"}}),
			} {
				u.mu.Lock()
				if err != nil {
					u.reading = append(u.reading, fmt.Errorf("%s: %w", doing, err))
				} else {
					u.calls++
				}
				u.mu.Unlock()
			}
		}
	})
	u.end = func() {
		cancel()
		running.Wait()
		head, err := store.Head(context.Background())
		require.NoError(t, err)
		u.follow.reaches(t, head)
		endFollowing()
		pursuing.Wait()
	}
	return u
}

// standing holds checkpoints to what was saved last, unless that failed.
func (u *under) standing(saved eventstore.Position) error {
	a, err := u.store.Checkpoint(context.Background(), "a")
	if err == nil && a.Position > saved {
		u.problem("the checkpoint stands at %d, and %d was saved", a.Position, saved)
	}
	return err
}

func (u *under) rises() error {
	_, err := u.store.Version(context.Background(), "shared")
	return err
}

// reads holds what a query yields to rising positions.
func (u *under) reads(q eventstore.Query) error {
	last := eventstore.Position(0)
	for r, err := range u.store.Read(context.Background(), q) {
		if err != nil {
			return err
		}
		if !q.Match(r) || r.Position <= last {
			u.problem("a read yields position %d behind %d", r.Position, last)
		}
		last = r.Position
	}
	return nil
}

// answered returns how many appends have succeeded.
func (a *account) answered() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sent {
		if s.answered {
			n++
		}
	}
	return n
}

// whole holds the pool of a store to having all its connections back, each of use.
func whole(t testing.TB, store *postgres.Store) {
	t.Helper()
	pool := postgres.Connections(store)
	require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 10*time.Second, time.Millisecond, "connections are not given back")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for range pool.Config().MaxConns {
		c, err := pool.Acquire(ctx)
		require.NoError(t, err, "the pool does not have all its connections")
		defer c.Release()
		require.EqualValues(t, 'I', c.Conn().PgConn().TxStatus(), "a connection is within a transaction")
		var one int
		require.NoError(t, c.QueryRow(ctx, "SELECT 1").Scan(&one))
	}
}

// backends returns how many of a store the server has.
func backends(t testing.TB, c *pgx.Conn, schema string) (n int) {
	t.Helper()
	require.NoError(t, c.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", "rollforward "+schema).Scan(&n))
	return n
}

// F11: whichever backend is terminated whenever, appends end as they say, and all else goes on.
func TestBackendsThatAreTerminatedUnderLoadLoseNothing(t *testing.T) {
	n := sizeOf(t, killsVariable, 50, 20)
	both(t, func(t *testing.T, form ...postgres.Option) {
		for _, tries := range []int{0, 1} { // the store's own resend, and the caller's
			seed := rand.Uint64() >> 1
			random := rand.New(rand.NewPCG(seed, 0))
			dsn, schema := pgtest.Database(t), fresh()
			store := open(t, dsn, slices.Concat(form, []postgres.Option{postgres.WithSchema(schema)})...)
			tellTable(t, dsn, schema)
			loaded := store
			if tries > 0 {
				loaded = open(t, dsn, slices.Concat(form, []postgres.Option{postgres.WithSchema(schema), postgres.Tries(tries)})...)
			}
			u := load(t, loaded, seed, schema, func(c *caller) { c.lenient = true })
			killed, working := 0, map[string]int{}
			onServer(t, dsn, func(c *pgx.Conn) error {
				for killed < n {
					time.Sleep(time.Duration(random.Int64N(int64(15 * time.Millisecond))))
					var did *bool
					var state, wait, query string
					err := c.QueryRow(t.Context(), `SELECT pg_terminate_backend(pid), state, coalesce(wait_event_type, '-'), left(query, 30) FROM pg_stat_activity
						WHERE application_name = $1 AND state IS NOT NULL AND ($2 OR state <> 'idle') ORDER BY random() LIMIT 1`,
						"rollforward "+schema, killed%4 == 0).Scan(&did, &state, &wait, &query)
					if errors.Is(err, pgx.ErrNoRows) {
						continue
					}
					if err != nil {
						return err
					}
					if did != nil && *did {
						killed++
						working[state]++
					}
				}
				return nil
			})
			before := u.answered()
			require.Eventually(t, func() bool { return u.answered() >= before+50 }, 20*time.Second, 5*time.Millisecond, "appends go on")
			u.end()
			whole(t, loaded)
			log := u.audit(t, dsn, schema, form...)
			missed, wrong := u.follow.missed(log)
			t.Logf("tries %d: %d backends terminated, as they were: %v; %v; other calls: %d succeeded, %d failed; of a log of %d the reader missed %d and read %d twice or wrong, it failed %d times; seed %d",
				tries, killed, working, u.account, u.calls, len(u.reading), len(log), missed, wrong, len(u.follow.failed), seed)
			require.Empty(t, u.problems, "seed %d", seed)
			require.Zero(t, missed+wrong, "seed %d", seed)
			require.NotZero(t, u.follow.waited)
			require.NotZero(t, u.calls)
			if tries == 0 {
				// One whose every try is met fails, which is rare.
				require.LessOrEqual(t, len(u.reading)+len(u.follow.failed), n/100, "seed %d: %v %v", seed, u.reading, u.follow.failed)
			}
		}
	})
}

// crashed is what crashes of a server came to.
type crashed struct {
	*under
	log           []eventstore.Recorded
	missed, wrong int
	down          time.Duration
	acknowledged  []int // appends, between crashes
}

// crashing stops a server of its own n times as by a crash, under load.
func crashing(t testing.TB, seed uint64, n int, form []postgres.Option, settings []string, more ...postgres.Option) crashed {
	t.Helper()
	cluster := pgtest.Start(t, settings...)
	dsn, schema := cluster.DSN(), fresh()
	store, err := postgres.Open(t.Context(), dsn, slices.Concat(form, more, []postgres.Option{postgres.WithSchema(schema)})...)
	require.NoError(t, err)
	tellTable(t, dsn, schema)
	random := rand.New(rand.NewPCG(seed, 0))
	x := crashed{under: load(t, store, seed, schema, func(c *caller) { c.lenient = true })}
	for range n {
		before := x.answered()
		require.Eventually(t, func() bool { return x.answered() >= before+30 }, 30*time.Second, time.Millisecond, "appends go on")
		time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
		begin := time.Now()
		require.NoError(t, cluster.Stop(syscall.SIGQUIT))
		x.acknowledged = append(x.acknowledged, x.answered()-before)
		require.NoError(t, cluster.Start())
		x.down = max(x.down, time.Since(begin))
	}
	before := x.answered()
	require.Eventually(t, func() bool { return x.answered() >= before+30 }, 30*time.Second, time.Millisecond, "appends go on")
	x.end()
	whole(t, store)
	require.NoError(t, store.Close())
	x.log = x.audit(t, dsn, schema, form...)
	x.missed, x.wrong = x.follow.missed(x.log)
	return x
}

func (x crashed) String() string {
	return fmt.Sprintf("acknowledged before each crash: %v; down for %v at most; %v; other calls: %d succeeded, %d failed; of a log of %d the reader missed %d and read %d twice or wrong, it failed %d times",
		x.acknowledged, x.down.Round(time.Millisecond), x.account, x.calls, len(x.reading), len(x.log), x.missed, x.wrong, len(x.follow.failed))
}

// F12: a server that crashes and comes again has all that was acknowledged, and who
// followed the log before follows it on.
func TestAServerThatCrashesUnderLoadLosesNothingAcknowledged(t *testing.T) {
	both(t, func(t *testing.T, form ...postgres.Option) {
		seed := rand.Uint64() >> 1
		x := crashing(t, seed, sizeOf(t, crashesVariable, 1, 1), form, nil)
		t.Logf("%v; seed %d", x, seed)
		require.Empty(t, x.problems, "seed %d", seed)
		require.Zero(t, x.missed+x.wrong, "seed %d", seed)
		for _, err := range append(x.reading, x.follow.failed...) {
			// A server may be away for longer than a call tries.
			var refused *pgconn.ConnectError
			require.ErrorAs(t, err, &refused, "seed %d", seed)
		}
		require.NotZero(t, x.calls)
	})
}

// The control of F12: what is acknowledged before it is on disk is lost, and seen, where
// nothing else brought it there in time.
func TestTheHarnessSeesWhatACrashLosesThatWasAcknowledgedTooEarly(t *testing.T) {
	for range 5 {
		seed := rand.Uint64() >> 1
		x := crashing(t, seed, 1, nil, []string{"wal_writer_delay=10s"}, postgres.Unsynced())
		t.Logf("%v; seed %d", x, seed)
		if strings.Contains(strings.Join(x.problems, "\n"), "it was acknowledged, and is not there") {
			return
		}
	}
	t.Fatal("no crash lost what was acknowledged too early: the harness cannot tell good from bad")
}

// What a reader missed or read twice is counted.
func TestTheHarnessSeesWhatAReaderMissesOrReadsTwice(t *testing.T) {
	var log []eventstore.Recorded
	for i := range 4 {
		log = append(log, eventstore.Recorded{Event: eventstore.Event{ID: newID()}, Position: eventstore.Position(i + 1)})
	}
	for name, c := range map[string]struct {
		read          []eventstore.Recorded
		missed, wrong int
	}{
		"all":           {log, 0, 0},
		"one missed":    {[]eventstore.Recorded{log[0], log[2], log[3]}, 1, 0},
		"one twice":     {append(slices.Clone(log), log[3]), 0, 1},
		"another order": {[]eventstore.Recorded{log[1], log[0], log[2], log[3]}, 0, 1},
		"another place": {[]eventstore.Recorded{log[0], log[1], log[2], {Event: log[3].Event, Position: 9}}, 1, 1},
	} {
		missed, wrong := (&pursuit{records: c.read}).missed(log)
		require.Equal(t, []int{c.missed, c.wrong}, []int{missed, wrong}, name)
	}
}
