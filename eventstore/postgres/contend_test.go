package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// What the harnesses of contention do, if it is to be more or less.
const (
	contendAppends = "ROLLFORWARD_PG_OPPOSED_APPENDS"
	contendRounds  = "ROLLFORWARD_PG_RACE_ROUNDS"
	contendReads   = "ROLLFORWARD_PG_WHOLE_READS"
)

// rewrite changes the text of a function of a store's schema: pairs of old and new.
func rewrite(t testing.TB, dsn, schema, function string, pairs ...string) {
	t.Helper()
	c := orderConnect(t, dsn)
	var text string
	require.NoError(t, c.QueryRow(t.Context(), "SELECT pg_get_functiondef($1::text::regproc)", schema+"."+function).Scan(&text))
	for i := 0; i < len(pairs); i += 2 {
		require.Equal(t, 1, strings.Count(text, pairs[i]), "%s has another text:\n%s", function, text)
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	_, err := c.Exec(t.Context(), text)
	require.NoError(t, err)
}

// impatient makes a database find deadlocks soon.
func impatient(t testing.TB, dsn string) {
	t.Helper()
	_, err := orderConnect(t, dsn).Exec(t.Context(),
		"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''10ms''', current_database()); END $$")
	require.NoError(t, err)
}

// deadlocks returns how many the server has resolved in a database, once all who met
// one have gone: they tell at their end. It waits for at least so many.
func deadlocks(t testing.TB, dsn string, atLeast int) (n int) {
	t.Helper()
	c := orderConnect(t, dsn)
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var others int
		require.NoError(t, c.QueryRow(t.Context(), "SELECT deadlocks, (SELECT count(*) FROM pg_stat_activity AS a WHERE a.datname = d.datname AND a.application_name LIKE 'rollforward %')"+
			" FROM pg_stat_database AS d WHERE datname = current_database()").Scan(&n, &others))
		if others == 0 && n >= atLeast || time.Since(begin) > 10*time.Second {
			require.Zero(t, others, "connections of the store are left")
			return n
		}
	}
}

// opposition is what comes of writers that name the same streams in opposed orders.
type opposition struct {
	appends, attempts int // attempts: to lock streams
	deadlocks         int
	took              time.Duration
	problems          []string
}

// oppose has 16 writers on 4 stores append to all of a few streams, half of them in one
// order and half in the other.
func oppose(t *testing.T, each int, prepare func(dsn, schema string), options ...postgres.Option) (o opposition) {
	const stores, writers, streams = 4, 16, 6
	dsn, schema := pgtest.Database(t), fresh()
	impatient(t, dsn)
	var attempts atomic.Int64
	options = append(options, postgres.WithSchema(schema), postgres.WithStep(func(step string) {
		if step == "reserve" {
			attempts.Add(1)
		}
	}))
	var opened []*postgres.Store
	for i := range stores {
		store, err := postgres.Open(t.Context(), dsn, options...)
		require.NoError(t, err)
		if i == 0 && prepare != nil {
			prepare(dsn, schema)
		}
		opened = append(opened, store)
	}
	var mu sync.Mutex
	var running sync.WaitGroup
	begin := time.Now()
	for i := range writers {
		store := opened[i%stores]
		running.Go(func() {
			for range each {
				var events []eventstore.Event
				for j := range streams {
					if i/stores%2 == 1 {
						j = streams - 1 - j
					}
					events = append(events, orderEvent(fmt.Sprint("s", j), streams))
				}
				if _, err := store.Append(t.Context(), events); err != nil {
					mu.Lock()
					o.problems = append(o.problems, err.Error())
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	o.took, o.appends, o.attempts = time.Since(begin), writers*each, int(attempts.Load())
	log := orderLog(t, dsn, schema)
	for _, store := range opened {
		require.NoError(t, store.Close())
	}
	require.Zero(t, judgeOrder(log, log, log, nil))
	require.Len(t, log, (o.appends-len(o.problems))*streams)
	o.deadlocks = deadlocks(t, dsn, 0)
	t.Logf("%d appends by %d writers on %d stores in opposed orders in %v: %d attempts, %d deadlocks, %d failures",
		o.appends, writers, stores, o.took.Round(time.Millisecond), o.attempts, o.deadlocks, len(o.problems))
	return o
}

// F15. Appends that share commits do not wait for streams while they hold some; each by
// itself does, in the order of the locks.
func TestWritersInOpposedOrdersMeetNoDeadlock(t *testing.T) {
	each := sizeOf(t, contendAppends, 10, 4)
	for _, c := range []struct {
		name    string
		options []postgres.Option
		most    int // attempts an append
	}{
		{"shared commits", nil, 2},
		{"each by itself", []postgres.Option{postgres.WithoutCompany()}, 1},
		{"serialized", []postgres.Option{postgres.WithSerializedAppends()}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := oppose(t, each, nil, c.options...)
			require.Empty(t, o.problems)
			require.Zero(t, o.deadlocks)
			require.LessOrEqual(t, o.attempts, c.most*o.appends)
		})
	}
}

// The control of F15: streams are locked in the order in which they are named.
func TestTheHarnessOfOpposedOrdersSeesLocksThatAreNotSorted(t *testing.T) {
	o := oppose(t, 1, func(dsn, schema string) {
		rewrite(t, dsn, schema, "reserve",
			"SELECT DISTINCT hashtextextended", "SELECT pg_sleep(0.002), hashtextextended",
			"FROM unnest(names) AS name ORDER BY 1", "FROM unnest(names) WITH ORDINALITY AS u (name, i) ORDER BY i")
	}, postgres.WithoutCompany())
	require.NotZero(t, o.deadlocks, "the harness cannot tell good from bad")
	require.Greater(t, o.attempts, o.appends, "what met a deadlock was tried once")
}

// What an application does in AppendWith may well meet a deadlock. It does not see it.
func TestADeadlockWithinAppendWithIsTriedAgain(t *testing.T) {
	dsn, schema := pgtest.Database(t), fresh()
	impatient(t, dsn)
	_, err := orderConnect(t, dsn).Exec(t.Context(), "CREATE TABLE stock (item integer PRIMARY KEY, n integer NOT NULL); INSERT INTO stock VALUES (0, 0), (1, 0)")
	require.NoError(t, err)
	store, err := postgres.Open(t.Context(), dsn, postgres.WithSchema(schema))
	require.NoError(t, err)
	var runs atomic.Int64
	var firsts, running sync.WaitGroup
	firsts.Add(2)
	failures := make([]error, 2)
	for i := range 2 {
		running.Go(func() {
			first := true
			_, failures[i] = store.AppendWith(t.Context(), []eventstore.Event{orderEvent(fmt.Sprint("s", i), 1)},
				func(ctx context.Context, tx pgx.Tx, _ []eventstore.Recorded) error {
					runs.Add(1)
					for j := range 2 {
						if _, err := tx.Exec(ctx, "UPDATE stock SET n = n + 1 WHERE item = $1", (i+j)%2); err != nil {
							return err
						}
						if first { // each has one row before either asks for the other one
							first = false
							firsts.Done()
							firsts.Wait()
						}
					}
					return nil
				})
		})
	}
	running.Wait()
	require.NoError(t, errors.Join(failures...))
	require.EqualValues(t, 3, runs.Load())
	require.NoError(t, store.Close())
	require.Equal(t, 1, deadlocks(t, dsn, 1))
	var n [2]int
	require.NoError(t, orderConnect(t, dsn).QueryRow(t.Context(), "SELECT min(n), max(n) FROM stock").Scan(&n[0], &n[1]))
	require.Equal(t, [2]int{2, 2}, n)
	require.Len(t, orderLog(t, dsn, schema), 2)
}

// raced is how an attempt in a race ended.
type raced struct {
	err error
	n   int // events it had
	way int // of appending
}

// F16. They append, append with a part of their own, or within a transaction of their own,
// which goes on after a conflict: all in one way, and each third in another.
func TestOfManyWritersOnOneVersionOneWins(t *testing.T) {
	const stores, writers = 4, 16
	rounds := sizeOf(t, contendRounds, 40, 16)
	both(t, func(t *testing.T, options ...postgres.Option) {
		dsn := pgtest.Database(t)
		options = append(options, postgres.WithSchema(fresh()))
		var opened []*postgres.Store
		for range stores {
			opened = append(opened, open(t, dsn, options...))
		}
		var conns []*pgx.Conn
		for range writers {
			conns = append(conns, orderConnect(t, dsn))
		}
		var version uint64
		var wins [3]int
		begin := time.Now()
		for round := range rounds {
			start := make(chan struct{})
			ends := make([]raced, writers)
			var running sync.WaitGroup
			for i := range writers {
				store, end := opened[i%stores], &ends[i]
				var events []eventstore.Event
				for range 1 + rand.IntN(3) {
					events = append(events, orderEvent("race", 1))
				}
				way := round % 4
				if way == 3 {
					way = i % 3
				}
				end.n, end.way = len(events), way
				at := eventstore.At("race", version)
				running.Go(func() {
					<-start
					switch way {
					case 0:
						_, end.err = store.Append(t.Context(), events, at)
					case 1:
						_, end.err = store.AppendWith(t.Context(), events, func(context.Context, pgx.Tx, []eventstore.Recorded) error { return nil }, at)
					default:
						tx, err := conns[i].BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
						if err != nil {
							end.err = err
							return
						}
						_, end.err = store.AppendTx(t.Context(), tx, events, at)
						if err := tx.Commit(t.Context()); err != nil {
							end.err = errors.Join(err, end.err)
						}
					}
				})
			}
			close(start)
			running.Wait()
			won, after := 0, version
			for _, end := range ends {
				if end.err == nil {
					won++
					wins[end.way]++
					after = version + uint64(end.n)
				}
			}
			require.Equal(t, 1, won, "at version %d", version)
			for _, end := range ends {
				if end.err == nil {
					continue
				}
				var conflict *eventstore.ConflictError
				require.ErrorAs(t, end.err, &conflict)
				require.Equal(t, eventstore.ConflictError{Stream: "race", Want: version, Actual: after}, *conflict)
				require.NotErrorIs(t, end.err, eventstore.ErrNotApplied)
				require.NotErrorIs(t, end.err, eventstore.ErrOutcomeUnknown)
			}
			now, err := opened[0].Version(t.Context(), "race")
			require.NoError(t, err)
			require.Equal(t, after, now)
			version = after
		}
		t.Logf("%d rounds of %d writers on %d stores in %v: Append won %d, AppendWith %d, AppendTx %d",
			rounds, writers, stores, time.Since(begin).Round(time.Millisecond), wins[0], wins[1], wins[2])
	})
}

// crossing has two writers in each round, each of which appends to a stream where the
// other one's stands as it saw it, and returns in how many rounds both did.
func crossing(t *testing.T, rounds int, prepare func(dsn, schema string), options ...postgres.Option) (bothWon, neither int) {
	dsn, schema := pgtest.Database(t), fresh()
	options = append(options, postgres.WithSchema(schema))
	opened := []*postgres.Store{open(t, dsn, options...)}
	if prepare != nil {
		prepare(dsn, schema)
	}
	opened = append(opened, open(t, dsn, options...))
	for round := range rounds {
		start := make(chan struct{})
		errs := make([]error, 2)
		var running sync.WaitGroup
		for i, store := range opened {
			mine, others := fmt.Sprintf("on-call-%d-%d", round, i), fmt.Sprintf("on-call-%d-%d", round, 1-i)
			running.Go(func() {
				<-start
				_, errs[i] = store.Append(t.Context(), []eventstore.Event{orderEvent(mine, 1)}, eventstore.At(others, 0))
			})
		}
		close(start)
		running.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			require.ErrorIs(t, err, eventstore.ErrConflict)
		}
		switch won {
		case 0:
			neither++
		case 2:
			bothWon++
		}
	}
	t.Logf("of %d rounds of two who check each other's stream: both won %d, neither %d", rounds, bothWon, neither)
	return bothWon, neither
}

func TestOfTwoWhoCheckWhatTheOtherAppendsToOneWins(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		bothWon, neither := crossing(t, sizeOf(t, contendRounds, 40, 16), nil, options...)
		require.Zero(t, bothWon)
		require.Zero(t, neither)
	})
}

// The control of races: no index would stop these two.
func TestTheHarnessOfRacesSeesStreamsThatAreNotLocked(t *testing.T) {
	bothWon, _ := crossing(t, 20, func(dsn, schema string) {
		rewrite(t, dsn, schema, "reserve",
			"pg_advisory_xact_lock(key)", "key",
			"NOT pg_try_advisory_xact_lock(", "0 = (",
			"at := clock_timestamp();", "at := clock_timestamp(); PERFORM pg_sleep(0.01);")
	})
	require.NotZero(t, bothWon, "the harness cannot tell good from bad")
}

// An idle transaction ends in one of three ways, and those who wait listen or poll. All
// but an append by the store itself they notice by their poll alone.
func TestAnIdleTransactionIsSeenAndHoldsBackNobodyElse(t *testing.T) {
	dsn := pgtest.Database(t)
	for _, way := range []struct {
		name   string
		recent bool // whether the log shows what it appended in the end
		end    func(ctx context.Context, tx pgx.Tx, admin *pgx.Conn, pid int) error
	}{
		{"committed", true, func(ctx context.Context, tx pgx.Tx, _ *pgx.Conn, _ int) error { return tx.Commit(ctx) }},
		{"rolled back", false, func(ctx context.Context, tx pgx.Tx, _ *pgx.Conn, _ int) error { return tx.Rollback(ctx) }},
		{"terminated", false, func(ctx context.Context, _ pgx.Tx, admin *pgx.Conn, pid int) error {
			_, err := admin.Exec(ctx, "SELECT pg_terminate_backend($1)", pid)
			return err
		}},
	} {
		for _, options := range [][]postgres.Option{nil, {postgres.PollOnly()}} {
			t.Run(fmt.Sprintf("%s, poll only %v", way.name, options != nil), func(t *testing.T) {
				t.Parallel()
				mine, neighbours := postgres.WithSchema(fresh()), postgres.WithSchema(fresh())
				reader, writer := open(t, dsn, append(options, mine)...), open(t, dsn, mine)
				elsewhere, elsewhereToo := open(t, dsn, append(options, neighbours)...), open(t, dsn, neighbours)
				before, err := writer.Append(t.Context(), []eventstore.Event{orderEvent("before", 1)})
				require.NoError(t, err)
				head := before[0].Position

				idle, err := pgx.Connect(t.Context(), dsn+" application_name=forgetful")
				require.NoError(t, err)
				defer idle.Close(context.Background()) // it may be gone
				tx, err := idle.Begin(t.Context())
				require.NoError(t, err)
				held, err := writer.AppendTx(t.Context(), tx, []eventstore.Event{orderEvent("idle", 2), orderEvent("idle", 2)})
				require.NoError(t, err)

				fences, err := reader.Fences(t.Context())
				require.NoError(t, err)
				require.Len(t, fences, 1)
				f := fences[0]
				require.Equal(t, held[0].Position, f.Position)
				require.EqualValues(t, idle.PgConn().PID(), f.PID)
				require.Equal(t, "idle in transaction", f.State)
				require.Equal(t, "forgetful", f.Client)
				looked := time.Now()

				// Its own log: others append, and read what they appended by its stream.
				behind, err := writer.Append(t.Context(), []eventstore.Event{orderEvent("behind", 1)})
				require.NoError(t, err)
				version, err := reader.Version(t.Context(), "behind")
				require.NoError(t, err)
				require.EqualValues(t, 1, version)
				require.Equal(t, behind, orderRead(t, reader, eventstore.Query{Streams: []string{"behind"}}))
				require.Empty(t, orderRead(t, reader, eventstore.Query{After: head}))
				at, err := reader.Head(t.Context())
				require.NoError(t, err)
				require.Equal(t, head, at)

				// Another log: who waits there goes on.
				arrived := make(chan error, 1)
				go func() { arrived <- elsewhere.Wait(t.Context(), 0) }()
				there, err := elsewhereToo.Append(t.Context(), []eventstore.Event{orderEvent("there", 1)})
				require.NoError(t, err)
				require.NoError(t, <-arrived)
				require.Equal(t, there, orderRead(t, elsewhere, eventstore.Query{}))
				none, err := elsewhere.Fences(t.Context())
				require.NoError(t, err)
				require.Empty(t, none)

				// The reader waits until its polls are rare, and is met between two of them.
				woken := make(chan error, 1)
				go func() { woken <- reader.Wait(t.Context(), head) }()
				time.Sleep(1500*time.Millisecond + rand.N(postgres.PollHeard))
				again, err := writer.Fences(t.Context())
				require.NoError(t, err)
				require.Len(t, again, 1)
				require.InDelta(t, time.Since(looked).Seconds(), (again[0].Age - f.Age).Seconds(), 1)
				require.Greater(t, again[0].Age, f.Age+1400*time.Millisecond)
				again[0].Age = f.Age
				require.Equal(t, f, again[0])
				require.Empty(t, woken, "the reader came past the fence")

				require.NoError(t, way.end(t.Context(), tx, orderConnect(t, dsn), f.PID))
				ended := time.Now()
				require.NoError(t, <-woken)
				want := behind
				if way.recent {
					want = append(held, behind...)
				}
				got := orderRead(t, reader, eventstore.Query{After: head})
				took := time.Since(ended)
				require.Len(t, got, len(want))
				for i := range want {
					require.Equal(t, want[i].ID, got[i].ID)
					require.Equal(t, want[i].Position, got[i].Position)
				}
				t.Logf("the reader was at the end %v after it", took.Round(time.Millisecond))
				require.Less(t, took, 2*postgres.PollHeard)
				none, err = reader.Fences(t.Context())
				require.NoError(t, err)
				require.Empty(t, none)
			})
		}
	}
}

// orderRead reads all that a query selects.
func orderRead(t testing.TB, store *postgres.Store, q eventstore.Query) (records []eventstore.Recorded) {
	t.Helper()
	for r, err := range store.Read(t.Context(), q) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

func TestFencesShowEachTransactionOnceTheOldestFirst(t *testing.T) {
	dsn := pgtest.Database(t)
	store := open(t, dsn, postgres.WithSchema(fresh()))
	var want []int
	for i := range 3 {
		c := orderConnect(t, dsn)
		tx, err := c.Begin(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(context.Background())) }()
		// A savepoint that is rolled back leaves no fence.
		point, err := tx.Begin(t.Context())
		require.NoError(t, err)
		_, err = store.AppendTx(t.Context(), point, []eventstore.Event{orderEvent(fmt.Sprint("s", i), 1)})
		require.NoError(t, err)
		fences, err := store.Fences(t.Context())
		require.NoError(t, err)
		require.Len(t, fences, i+1)
		require.NoError(t, point.Rollback(t.Context()))
		fences, err = store.Fences(t.Context())
		require.NoError(t, err)
		require.Len(t, fences, i)
		var first []eventstore.Recorded
		for range 2 { // two appends are one transaction, from its first position on
			records, err := store.AppendTx(t.Context(), tx, []eventstore.Event{orderEvent(fmt.Sprint("s", i), 1)})
			require.NoError(t, err)
			first = append(first, records...)
		}
		want = append(want, int(c.PgConn().PID()))
		fences, err = store.Fences(t.Context())
		require.NoError(t, err)
		var got []int
		for _, f := range fences {
			got = append(got, f.PID)
		}
		require.Equal(t, want, got)
		require.Equal(t, first[0].Position, fences[i].Position)
	}
}

// torn counts the appends of which a read showed a part.
func torn(records []eventstore.Recorded, after eventstore.Position) (n int, err error) {
	for i := 0; i < len(records); {
		j := i + 1
		for j < len(records) && records[j].Append == records[i].Append {
			j++
		}
		var data struct {
			Of int `json:"of"`
		}
		if err := json.Unmarshal(records[i].Data, &data); err != nil {
			return 0, err
		}
		if records[i].Append > after && j-i != data.Of {
			n++
		}
		i = j
	}
	return n, nil
}

// wholes is what readers under load saw.
type wholes struct {
	reads, events, torn, appends int
}

// readUnderLoad has writers append several events at once, and readers read in all ways,
// until these have done so many reads each. ask changes what they ask for.
func readUnderLoad(t *testing.T, reads int, ask func(q *eventstore.Query), options ...postgres.Option) (w wholes) {
	dsn, schema := pgtest.Database(t), postgres.WithSchema(fresh())
	seed := rand.Uint64() >> 1
	stores := []*postgres.Store{open(t, dsn, schema), open(t, dsn, schema)}
	reader := open(t, dsn, append(options, schema)...)
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var problems []string
	problem := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		problems = append(problems, err.Error())
	}
	var readers, writers sync.WaitGroup
	over := make(chan struct{})
	for i := range 8 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		writers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				events := make([]eventstore.Event, 1+r.IntN(100))
				for j := range events {
					events[j] = orderEvent(fmt.Sprintf("s-%d", r.IntN(8)), len(events))
				}
				if _, err := stores[i%2].Append(ctx, events); err != nil {
					problem(err)
					return
				}
				mu.Lock()
				w.appends++
				mu.Unlock()
			}
		})
	}
	for i, q := range []eventstore.Query{{}, {Types: []string{"thing.happened"}}, {Tags: []string{"thing:any"}}, {Prefix: "s-", PayloadsOnly: true}} {
		r := rand.New(rand.NewPCG(seed, uint64(100+i)))
		readers.Go(func() {
			var last eventstore.Position
			var old []eventstore.Position // where it was, also within appends
			for range reads {
				q := q
				if ask != nil {
					ask(&q)
				}
				q.After = last
				if len(old) > 0 && r.IntN(4) == 0 {
					q.After = old[r.IntN(len(old))]
				}
				var records []eventstore.Recorded
				for record, err := range reader.Read(ctx, q) {
					if err != nil {
						problem(err)
						return
					}
					records = append(records, record)
				}
				n, err := torn(records, q.After)
				if err != nil {
					problem(err)
					return
				}
				if len(records) > 0 {
					last = max(last, records[len(records)-1].Position)
					old = append(old[:min(len(old), 3)], records[r.IntN(len(records))].Position)
				} else if err := reader.Wait(ctx, last); err != nil {
					problem(err)
					return
				}
				mu.Lock()
				w.reads, w.events, w.torn = w.reads+1, w.events+len(records), w.torn+n
				mu.Unlock()
			}
		})
	}
	begin := time.Now()
	readers.Wait()
	took := time.Since(begin)
	close(over)
	writers.Wait()
	require.Empty(t, problems, "seed %d", seed)
	t.Logf("%d reads of %d events while %d appends came in %v: %d appends torn, seed %d", w.reads, w.events, w.appends, took.Round(time.Millisecond), w.torn, seed)
	return w
}

func TestReadersUnderLoadSeeWholeAppends(t *testing.T) {
	w := readUnderLoad(t, sizeOf(t, contendReads, 30, 10), nil)
	require.Zero(t, w.torn)
	require.Greater(t, w.events, w.reads, "hardly anything was read")
}

// Its controls: a limit may end a read anywhere, and so may a frontier that is no end of an append.
func TestTheHarnessOfWholeAppendsSeesTornOnes(t *testing.T) {
	t.Run("by a limit", func(t *testing.T) {
		require.NotZero(t, readUnderLoad(t, 10, func(q *eventstore.Query) { q.Limit = 70 }).torn)
	})
	t.Run("by a frontier within an append", func(t *testing.T) {
		require.NotZero(t, readUnderLoad(t, 10, nil, postgres.WithBound(func(sql string) string { return sql + " - 999" })).torn)
	})
}
