package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// shop is a database with a store and a table of the caller's own.
type shop struct {
	dsn   string
	store *postgres.Store
}

func newShop(t testing.TB, options ...postgres.Option) shop {
	dsn := pgtest.Database(t)
	execute(t, dsn, "CREATE TABLE orders (id text PRIMARY KEY, position bigint)")
	return shop{dsn, open(t, dsn, options...)}
}

// order is what goes with an append: a row for each event.
func order(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
	for _, r := range records {
		if _, err := tx.Exec(ctx, "INSERT INTO orders VALUES ($1, $2)", r.ID.String(), int64(r.Position)); err != nil {
			return err
		}
	}
	return nil
}

// agrees holds the table to the log: a row for each event, and no others, unless said.
func (s shop) agrees(t testing.TB, events int) {
	t.Helper()
	records := readAll(t, s.store, eventstore.Query{})
	require.Len(t, records, events)
	for _, r := range records {
		require.Equal(t, int64(r.Position), valueOf[int64](t, s.dsn, "SELECT coalesce(max(position), 0) FROM orders WHERE id = $1", r.ID.String()))
	}
	require.Equal(t, events, valueOf[int](t, s.dsn, "SELECT count(*) FROM orders"))
	require.Zero(t, postgres.InUse(s.store), "every connection is back")
}

func TestTablesOfTheCallerCommitWithTheEventsOrNotAtAll(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		s := newShop(t, options...)
		records, err := s.store.AppendWith(t.Context(), things("s", 3, "a"), order, eventstore.At("s", 0))
		require.NoError(t, err)
		require.Equal(t, records, readAll(t, s.store, eventstore.Query{Tags: []string{"a"}}))
		s.agrees(t, 3)

		runs := 0
		count := func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
			runs++
			return order(ctx, tx, records)
		}
		_, err = s.store.AppendWith(t.Context(), things("s", 1), count, eventstore.At("s", 2))
		var conflict *eventstore.ConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, eventstore.ConflictError{Stream: "s", Want: 2, Actual: 3}, *conflict)
		again, err := s.store.AppendWith(t.Context(), []eventstore.Event{records[0].Event, records[1].Event, records[2].Event}, count)
		require.NoError(t, err)
		require.Equal(t, records, again)
		require.Zero(t, runs, "it does not run for what is refused or known")
		s.agrees(t, 3)

		mine := errors.New("mine")
		_, err = s.store.AppendWith(t.Context(), things("s", 1), func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
			return errors.Join(count(ctx, tx, records), mine)
		})
		require.ErrorIs(t, err, mine)
		require.ErrorIs(t, err, eventstore.ErrNotApplied)
		require.Equal(t, 1, runs)
		s.agrees(t, 3)
	})
}

func TestAnErrorOfTheCallersStatementIsReturnedAfterOneRun(t *testing.T) {
	s := newShop(t)
	execute(t, s.dsn, "INSERT INTO orders VALUES ('taken', 0)")
	for _, c := range []struct{ statement, state string }{
		{"INSERT INTO orders VALUES ('taken', 1)", "23505"}, {"INSERT INTO nowhere VALUES (1)", "42P01"}, {"SELECT 1 / 0", "22012"}, {"garbage", "42601"}, {"INSERT INTO orders VALUES (NULL, 1)", "23502"},
	} {
		runs := 0
		begun := time.Now()
		_, err := s.store.AppendWith(t.Context(), things("s", 1), func(ctx context.Context, tx pgx.Tx, _ []eventstore.Recorded) error {
			runs++
			_, err := tx.Exec(ctx, c.statement)
			return err
		})
		require.Equal(t, c.state, sqlState(err), c.statement)
		require.ErrorIs(t, err, eventstore.ErrNotApplied)
		require.NotErrorIs(t, err, eventstore.ErrDamaged, "what is missing is the caller's")
		require.Equal(t, 1, runs, c.statement)
		require.Less(t, time.Since(begun), 3*time.Second)
	}
	// An error that is kept quiet is none of the store's to commit.
	_, err := s.store.AppendWith(t.Context(), things("s", 1), func(ctx context.Context, tx pgx.Tx, _ []eventstore.Recorded) error {
		_, err := tx.Exec(ctx, "SELECT 1 / 0")
		require.Error(t, err)
		return nil
	})
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	require.ErrorContains(t, err, "its error was not returned")
	require.Empty(t, readAll(t, s.store, eventstore.Query{}))
	require.Zero(t, postgres.InUse(s.store))
}

func TestAPanicOfTheCallerLeavesThePoolWhole(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		s := newShop(t, options...)
		for range 40 { // more than there are connections
			require.PanicsWithValue(t, "mine", func() {
				_, _ = s.store.AppendWith(t.Context(), things("s", 1), func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
					require.NoError(t, order(ctx, tx, records))
					panic("mine")
				})
			})
		}
		s.agrees(t, 0)
		_, err := s.store.AppendWith(t.Context(), things("s", 1), order, eventstore.At("s", 0))
		require.NoError(t, err)
		s.agrees(t, 1)
		require.NoError(t, s.store.Close(), "no call is counted as under way")
	})
}

func TestTheTransactionIsNotTheCallersToEnd(t *testing.T) {
	s := newShop(t)
	_, err := s.store.AppendWith(t.Context(), things("s", 1), func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
		require.Error(t, tx.Commit(ctx))
		require.Error(t, tx.Rollback(ctx))
		return order(ctx, tx, records)
	})
	require.NoError(t, err)
	s.agrees(t, 1)
	// Who does so by SQL is told that nobody knows what became of the events.
	for i, end := range []string{"COMMIT", "ROLLBACK"} {
		_, err = s.store.AppendWith(t.Context(), things(end, 1), func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
			if err := order(ctx, tx, records); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, end)
			return err
		})
		require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown, end)
		require.Len(t, readAll(t, s.store, eventstore.Query{Streams: []string{end}}), 1-i)
	}
	s.agrees(t, 2)
}

func TestSavepointsOfTheCallerWork(t *testing.T) {
	s := newShop(t)
	execute(t, s.dsn, "INSERT INTO orders VALUES ('taken', 0)")
	_, err := s.store.AppendWith(t.Context(), things("s", 2), func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
		failed := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO orders VALUES ('taken', 1)")
			return err
		})
		require.Equal(t, "23505", sqlState(failed))
		inner, err := tx.Begin(ctx)
		require.NoError(t, err)
		require.NoError(t, order(ctx, inner, records))
		return inner.Commit(ctx)
	})
	require.NoError(t, err)
	execute(t, s.dsn, "DELETE FROM orders WHERE id = 'taken'")
	s.agrees(t, 2)
}

func TestTheCallersPartRunsAgainWhereTransactionsWereInEachOthersWay(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		for _, c := range []struct{ name, statement string }{
			{"a failed serialization", "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"},
			{"a deadlock", "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40P01'; END $$"},
			{"a connection that is killed", "SELECT pg_terminate_backend(pg_backend_pid())"},
		} {
			t.Run(c.name, func(t *testing.T) {
				s := newShop(t, options...)
				runs := 0
				var given [][]eventstore.Recorded
				records, err := s.store.AppendWith(t.Context(), things("s", 2), func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
					given = append(given, records)
					if err := order(ctx, tx, records); err != nil {
						return err
					}
					if runs++; runs <= 2 {
						_, err := tx.Exec(ctx, c.statement)
						require.Error(t, err)
						return fmt.Errorf("mine: %w", err)
					}
					return nil
				}, eventstore.At("s", 0))
				require.NoError(t, err)
				require.Equal(t, 3, runs)
				require.Equal(t, records, given[2])
				s.agrees(t, 2)
			})
		}
	})
}

// What is killed behind the caller's part, before the commit, is done again as a whole.
func TestABackendThatIsKilledBeforeTheCommitChangesNothing(t *testing.T) {
	var kill atomic.Pointer[func()]
	s := newShop(t, postgres.CountingBegun(func() {
		if do := kill.Swap(nil); do != nil {
			(*do)()
		}
	}))
	runs := 0
	_, err := s.store.AppendWith(t.Context(), things("s", 2), func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
		if runs++; runs == 1 {
			pid := tx.Conn().PgConn().PID()
			do := func() {
				require.True(t, valueOf[bool](t, s.dsn, "SELECT pg_terminate_backend($1, 10000)", int32(pid)))
			}
			kill.Store(&do)
		}
		return order(ctx, tx, records)
	}, eventstore.At("s", 0))
	require.NoError(t, err)
	require.Equal(t, 2, runs)
	s.agrees(t, 2)
}

func TestAContextThatEndsInTheCallersPartRecordsNothing(t *testing.T) {
	s := newShop(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.store.AppendWith(ctx, things("s", 1), func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
		require.NoError(t, order(ctx, tx, records))
		cancel()
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	s.agrees(t, 0)
}

// transaction begins one of the caller's own.
func transaction(t testing.TB, c *pgx.Conn, level pgx.TxIsoLevel) pgx.Tx {
	t.Helper()
	tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
	require.NoError(t, err)
	return tx
}

func TestATransactionOfTheCallerMustBeReadCommitted(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		s := newShop(t, options...)
		c := dial(t, s.dsn)
		for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
			tx := transaction(t, c, level)
			_, err := s.store.AppendTx(t.Context(), tx, things("s", 1))
			require.ErrorIs(t, err, postgres.ErrIsolation, string(level))
			require.ErrorIs(t, err, eventstore.ErrNotApplied)
			require.ErrorContains(t, err, "pgx.ReadCommitted")
			require.NoError(t, tx.Rollback(t.Context()))
		}
		for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.ReadUncommitted} { // the server takes the latter for the former
			tx := transaction(t, c, level)
			_, err := s.store.AppendTx(t.Context(), tx, things("s", 1))
			if level == pgx.ReadCommitted {
				require.NoError(t, err)
				require.NoError(t, tx.Commit(t.Context()))
				continue
			}
			if err != nil {
				require.ErrorIs(t, err, postgres.ErrIsolation)
			}
			require.NoError(t, tx.Rollback(t.Context()))
		}
		require.Len(t, readAll(t, s.store, eventstore.Query{}), 1)

		tx, err := c.BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
		require.NoError(t, err)
		_, err = s.store.AppendTx(t.Context(), tx, things("s", 1))
		require.ErrorIs(t, err, eventstore.ErrReadOnly)
		require.ErrorIs(t, err, eventstore.ErrNotApplied)
		require.NoError(t, tx.Rollback(t.Context()))
	})
}

func TestATransactionOfTheCallerAppendsAsOftenAsItLikes(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		s := newShop(t, options...)
		c := dial(t, s.dsn)
		tx := transaction(t, c, pgx.ReadCommitted)
		first, err := s.store.AppendTx(t.Context(), tx, things("s", 2), eventstore.At("s", 0))
		require.NoError(t, err)
		require.NoError(t, order(t.Context(), tx, first))
		// A conflict leaves the transaction usable, and so does an event that is known.
		_, err = s.store.AppendTx(t.Context(), tx, things("s", 1), eventstore.At("s", 1))
		require.ErrorIs(t, err, eventstore.ErrConflict)
		again, err := s.store.AppendTx(t.Context(), tx, []eventstore.Event{first[0].Event, first[1].Event}, eventstore.At("s", 0))
		require.NoError(t, err)
		require.Equal(t, first, again)
		_, err = s.store.AppendTx(t.Context(), tx, []eventstore.Event{first[0].Event, thing("s")})
		require.ErrorIs(t, err, eventstore.ErrDuplicate)

		// A savepoint that is rolled back takes its events with it, and no others.
		inner, err := tx.Begin(t.Context())
		require.NoError(t, err)
		gone, err := s.store.AppendTx(t.Context(), inner, things("s", 2), eventstore.At("s", 2))
		require.NoError(t, err)
		require.NoError(t, order(t.Context(), inner, gone))
		require.NoError(t, inner.Rollback(t.Context()))

		second, err := s.store.AppendTx(t.Context(), tx, []eventstore.Event{thing("s"), thing("other")}, eventstore.At("s", 2), eventstore.At("other", 0))
		require.NoError(t, err)
		require.NoError(t, order(t.Context(), tx, second))
		require.Greater(t, second[0].Position, first[1].Position)
		require.Equal(t, uint64(3), second[0].Version)
		require.Empty(t, readAll(t, s.store, eventstore.Query{}), "nothing before the commit")
		require.Empty(t, readAll(t, s.store, eventstore.Query{Streams: []string{"s"}}))
		require.NoError(t, tx.Commit(t.Context()))
		s.agrees(t, 4)
		require.Equal(t, append(first, second...), readAll(t, s.store, eventstore.Query{}))

		tx = transaction(t, c, pgx.ReadCommitted)
		lost, err := s.store.AppendTx(t.Context(), tx, things("s", 1), eventstore.At("s", 3))
		require.NoError(t, err)
		require.NoError(t, order(t.Context(), tx, lost))
		require.NoError(t, tx.Rollback(t.Context()))
		s.agrees(t, 4)
		_, err = s.store.AppendWith(t.Context(), []eventstore.Event{lost[0].Event}, order, eventstore.At("s", 3))
		require.NoError(t, err, "what was rolled back can be sent again")
		s.agrees(t, 5)
	})
}

// An append in a transaction holds its stream to the end, and nobody else's.
func TestATransactionOfTheCallerIsWaitedForByItsStreamsOnly(t *testing.T) {
	s := newShop(t)
	tx := transaction(t, dial(t, s.dsn), pgx.ReadCommitted)
	_, err := s.store.AppendTx(t.Context(), tx, things("held", 1))
	require.NoError(t, err)
	_, err = s.store.Append(t.Context(), things("free", 1))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = s.store.Append(ctx, things("held", 1))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	var group sync.WaitGroup
	var late error
	group.Go(func() { _, late = s.store.Append(t.Context(), things("held", 1), eventstore.At("held", 1)) })
	require.NoError(t, tx.Commit(t.Context()))
	group.Wait()
	require.NoError(t, late)
	require.Len(t, readAll(t, s.store, eventstore.Query{}), 3)
}

// wakes measures how long after an append by one store another one's Wait returns that
// was quiet before, of pairs of stores.
func wakes(t *testing.T, there []postgres.Option, here []postgres.Option) (slowest time.Duration) {
	t.Helper()
	const pairs = 3
	dsn := pgtest.Database(t)
	writers, ends := make([]*postgres.Store, pairs), make([]time.Time, pairs)
	var waiting sync.WaitGroup
	failures := make([]error, pairs)
	for i := range pairs {
		schema := postgres.WithSchema(fresh())
		writers[i] = open(t, dsn, append(slices.Clone(there), schema)...)
		waiter := open(t, dsn, append(slices.Clone(here), schema)...)
		waiting.Go(func() {
			failures[i] = waiter.Wait(t.Context(), 0)
			ends[i] = time.Now()
		})
	}
	time.Sleep(1500 * time.Millisecond) // who waits asks often for a second, and then seldom
	appended := make([]time.Time, pairs)
	for i, writer := range writers {
		_, err := writer.Append(t.Context(), things("s", 1))
		require.NoError(t, err)
		appended[i] = time.Now()
		time.Sleep(150 * time.Millisecond)
	}
	waiting.Wait()
	require.NoError(t, errors.Join(failures...))
	for i := range pairs {
		slowest = max(slowest, ends[i].Sub(appended[i]))
	}
	return slowest
}

func TestWhoWaitsIsWokenByAnotherStore(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		heard := wakes(t, options, options)
		polled := wakes(t, options, append(slices.Clone(options), postgres.PollOnly()))
		t.Logf("woken %v after the append by notice, %v by poll, at the slowest", heard, polled)
		require.Less(t, heard, 200*time.Millisecond)
		require.Less(t, polled, 600*time.Millisecond)
	})
}

// The control: who listens and is told nothing finds out by his poll, later.
func TestWhoIsNotToldFindsOutByItself(t *testing.T) {
	var slowest time.Duration
	tries := 0
	for ; tries < 5 && slowest < 200*time.Millisecond; tries++ { // a poll may be lucky
		slowest = max(slowest, wakes(t, []postgres.Option{postgres.PollOnly()}, nil))
	}
	t.Logf("found out after %v at the slowest, in %d tries", slowest, tries)
	require.Greater(t, slowest, 200*time.Millisecond, "the harness cannot tell good from bad")
	require.Less(t, slowest, 2*time.Second)
}
