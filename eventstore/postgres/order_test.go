package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// orderEvents sets how many events the harness of order records; some thousands if it is
// not set. From 100,000 on its idle transactions stay open for five seconds.
const orderEvents = "ROLLFORWARD_PG_ORDER_EVENTS"

// orderEvent is an event of an append of n events.
func orderEvent(stream string, n int) eventstore.Event {
	return eventstore.Event{
		ID: uuid.Must(uuid.NewV7()), Stream: stream, Type: "thing.happened", Schema: 1, Tags: []string{"thing:any"},
		Data: fmt.Appendf(nil, `{"of": %d}`, n), Meta: []byte(`{"actor":"ann"}`),
	}
}

// orderConnect returns a connection of the test's own.
func orderConnect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, c.Close(ctx))
	})
	return c
}

const (
	orderStores  = 4  // on one schema, as processes have them
	orderWriters = 16 // a quarter appends, a quarter loads and appends, half have transactions of their own
)

// ordering is a run of the harness.
type ordering struct {
	seed   uint64
	events int           // to be recorded at least
	idle   time.Duration // for which each idle transaction is open
	times  int           // that one is, at least
	stores []*postgres.Store
	pool   *pgxpool.Pool // of the transactions of the writers' own
	conn   string
	schema string

	recorded atomic.Int64          // events acknowledged
	idled    atomic.Int64          // idle transactions that have ended
	last     atomic.Uint64         // where the live reader is
	seen     []eventstore.Recorded // by the live reader
	naive    []eventstore.Position // seen by the naive one
	reads    int                   // of the live reader
	log      []eventstore.Recorded // what it is in the end: names and numbers only
	took     time.Duration         // by the writers
	caught   time.Duration         // by the live reader, from there to the end

	mu         sync.Mutex
	kept       []eventstore.Recorded
	gone       []uuid.UUID // rolled back
	samples    [2][]orderSpan
	windows    []orderSpan // of the idle transactions
	held       int         // windows at whose end the live reader was in front of the fence still
	conflicts  int
	rollbacks  int
	savepoints int
	problems   []string
}

// What is timed.
const (
	ofAppends  = 0
	ofCommands = 1
)

type orderSpan struct{ from, to time.Time }

func (o *ordering) problem(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.problems) < 20 {
		o.problems = append(o.problems, fmt.Sprintf(format, args...))
	}
}

func (o *ordering) done() bool {
	return o.recorded.Load() >= int64(o.events) && o.idled.Load() >= int64(o.times)
}

func (o *ordering) keep(records []eventstore.Recorded) {
	o.recorded.Add(int64(len(records)))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, records...)
}

func (o *ordering) drop(records []eventstore.Recorded) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range records {
		o.gone = append(o.gone, r.ID)
	}
}

func (o *ordering) sample(of int, from time.Time) {
	to := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.samples[of] = append(o.samples[of], orderSpan{from, to})
}

// orderOf runs the harness in a new schema, of which prepare may change something
// before anybody writes.
func orderOf(t *testing.T, o *ordering, prepare func(dsn, schema string), options ...postgres.Option) {
	dsn := pgtest.Database(t)
	o.seed, o.conn, o.schema = rand.Uint64()>>1, dsn, fresh()
	options = append(options, postgres.WithSchema(o.schema))
	reader := open(t, dsn, options...)
	if prepare != nil {
		prepare(dsn, o.schema)
	}
	for range orderStores {
		o.stores = append(o.stores, open(t, dsn, options...))
	}
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = orderWriters
	o.pool, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer o.pool.Close()
	naive := orderConnect(t, dsn)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(o.events)*20*time.Millisecond)
	defer cancel()
	reading, ended := context.WithCancel(ctx)
	defer ended()
	var readers, writers sync.WaitGroup
	written := make(chan struct{})
	readers.Go(func() { o.follow(reading, reader) })
	readers.Go(func() { o.followNaively(ctx, naive, written) })
	begin := time.Now()
	for i := range orderWriters {
		w := &orderWriter{
			ordering: o, store: o.stores[i%orderStores], own: fmt.Sprint("own-", i), rand: rand.New(rand.NewPCG(o.seed, uint64(i))),
		}
		turn := []func(context.Context){w.append, w.command, w.transaction, w.transaction}[i/orderStores]
		writers.Go(func() {
			for !o.done() && ctx.Err() == nil {
				turn(ctx)
			}
		})
	}
	writers.Go(func() { o.leaveOpen(ctx) })
	writers.Wait()
	o.took = time.Since(begin)
	close(written)
	require.NoError(t, ctx.Err())

	// The live reader comes to the end, and no further.
	o.log = orderLog(t, dsn, o.schema)
	require.NotEmpty(t, o.log)
	begin = time.Now()
	for o.last.Load() < uint64(o.log[len(o.log)-1].Position) && time.Since(begin) < 20*time.Second {
		time.Sleep(time.Millisecond)
	}
	o.caught = time.Since(begin)
	ended()
	readers.Wait()
}

// orderLog reads names and numbers of all events there are.
func orderLog(t testing.TB, dsn, schema string) []eventstore.Recorded {
	c := orderConnect(t, dsn)
	rows, err := c.Query(t.Context(), "SELECT position, append, id, stream, version FROM "+schema+".events ORDER BY position")
	require.NoError(t, err)
	log, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r eventstore.Recorded, err error) {
		return r, row.Scan(&r.Position, &r.Append, &r.ID, &r.Stream, &r.Version)
	})
	require.NoError(t, err)
	return log
}

// follow is the live reader.
func (o *ordering) follow(ctx context.Context, store *postgres.Store) {
	for {
		last := eventstore.Position(o.last.Load())
		for r, err := range store.Read(ctx, eventstore.Query{After: last}) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					o.problem("the live reader: %v", err)
				}
				return
			}
			o.seen = append(o.seen, r)
			o.last.Store(uint64(r.Position))
		}
		o.reads++
		if err := store.Wait(ctx, eventstore.Position(o.last.Load())); err != nil {
			if !errors.Is(err, context.Canceled) {
				o.problem("the live reader waits: %v", err)
			}
			return
		}
	}
}

// followNaively reads what is later than the last it saw: the control.
func (o *ordering) followNaively(ctx context.Context, c *pgx.Conn, written <-chan struct{}) {
	var last eventstore.Position
	for end := false; ; time.Sleep(time.Millisecond) {
		select {
		case <-written:
			end = true // and once more
		default:
		}
		rows, err := c.Query(ctx, "SELECT position FROM "+o.schema+".events WHERE position > $1 ORDER BY position", int64(last))
		if err != nil {
			o.problem("the naive reader: %v", err)
			return
		}
		positions, err := pgx.CollectRows(rows, pgx.RowTo[eventstore.Position])
		if err != nil {
			o.problem("the naive reader: %v", err)
			return
		}
		if len(positions) > 0 {
			last = positions[len(positions)-1]
		}
		o.naive = append(o.naive, positions...)
		if end {
			return
		}
	}
}

// leaveOpen leaves a transaction that has appended open, again and again.
func (o *ordering) leaveOpen(ctx context.Context) {
	for n := 0; !o.done() && ctx.Err() == nil; n++ {
		err := o.within(ctx, n%2 == 1, func(tx pgx.Tx, keep *[]eventstore.Recorded) error {
			records, err := o.stores[0].AppendTx(ctx, tx, []eventstore.Event{orderEvent("idle", 2), orderEvent("idle", 2)})
			if err != nil {
				return err
			}
			*keep = records
			window := orderSpan{from: time.Now()}
			time.Sleep(o.idle)
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.last.Load() < uint64(records[0].Position) {
				o.held++
			}
			window.to = time.Now()
			o.windows = append(o.windows, window)
			return nil
		})
		if err != nil {
			o.problem("the idle transaction: %v", err)
		}
		o.idled.Add(1)
		time.Sleep(o.idle / 2) // the reader is to be at the head as well
	}
}

// within runs f in a transaction of the caller's own, which is committed or rolled back.
// f says what it recorded.
func (o *ordering) within(ctx context.Context, back bool, f func(tx pgx.Tx, keep *[]eventstore.Recorded) error) error {
	tx, err := o.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return err
	}
	var records []eventstore.Recorded
	if err := f(tx, &records); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	if back {
		o.drop(records)
		return tx.Rollback(ctx)
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	o.keep(records)
	return nil
}

type orderWriter struct {
	*ordering
	store   *postgres.Store
	own     string // a stream that nobody else writes
	version uint64 // where it stands
	rand    *rand.Rand
}

// recent is one of the streams that are written now. There are new ones every 1,000
// events, so that to load one costs the same throughout.
func (w *orderWriter) recent() string {
	return fmt.Sprintf("recent-%d-%d", w.recorded.Load()/1000, w.rand.IntN(20))
}

// append appends to streams as they stand.
func (w *orderWriter) append(ctx context.Context) {
	events := make([]eventstore.Event, 1+w.rand.IntN(3))
	for i := range events {
		events[i] = orderEvent(w.own, len(events))
		if w.rand.IntN(2) == 0 {
			events[i].Stream = w.recent()
		}
	}
	from := time.Now()
	records, err := w.store.Append(ctx, events)
	if err != nil {
		w.problem("append: %v", err)
		return
	}
	w.sample(ofAppends, from)
	w.keep(records)
}

// command loads a stream and appends to it where it stands, until nobody is faster.
func (w *orderWriter) command(ctx context.Context) {
	stream := w.recent()
	for from := time.Now(); ; {
		var version uint64
		for r, err := range w.store.Read(ctx, eventstore.Query{Streams: []string{stream}, PayloadsOnly: true}) {
			if err != nil {
				w.problem("load: %v", err)
				return
			}
			if version++; r.Version != version {
				w.problem("stream %s has version %d in place %d", stream, r.Version, version)
			}
		}
		records, err := w.store.Append(ctx, []eventstore.Event{orderEvent(stream, 1)}, eventstore.At(stream, version))
		var conflict *eventstore.ConflictError
		switch {
		case err == nil:
			w.sample(ofCommands, from)
			w.keep(records)
			return
		case !errors.As(err, &conflict):
			w.problem("command: %v", err)
			return
		case conflict.Want != version || conflict.Actual <= version || conflict.Stream != stream:
			w.problem("a command on %s at %d: %v", stream, version, err)
		}
		w.mu.Lock()
		w.conflicts++
		w.mu.Unlock()
	}
}

// transaction appends in a transaction of its own, with savepoints that are rolled back,
// and takes its time to commit. One in ten is rolled back.
func (w *orderWriter) transaction(ctx context.Context) {
	back := w.rand.IntN(10) == 0
	version := w.version
	err := w.within(ctx, back, func(tx pgx.Tx, keep *[]eventstore.Recorded) error {
		// It locks but one stream of others, so that no two are in each other's way for ever.
		if w.rand.IntN(3) == 0 {
			if err := w.savepoint(ctx, tx, w.recent()); err != nil {
				return err
			}
		}
		records, err := w.store.AppendTx(ctx, tx, []eventstore.Event{orderEvent(w.recent(), 2), orderEvent(w.own, 2)}, eventstore.At(w.own, version))
		if err != nil {
			return err
		}
		version++
		*keep = append(*keep, records...)
		if w.rand.IntN(3) == 0 {
			if err := w.savepoint(ctx, tx, w.own); err != nil {
				return err
			}
		}
		if w.rand.IntN(3) == 0 {
			records, err := w.store.AppendTx(ctx, tx, []eventstore.Event{orderEvent(w.own, 1)}, eventstore.At(w.own, version))
			if err != nil {
				return err
			}
			version++
			*keep = append(*keep, records...)
		}
		time.Sleep(time.Duration(w.rand.Int64N(int64(20 * time.Millisecond))))
		return nil
	})
	switch {
	case err != nil:
		w.problem("transaction: %v", err)
	case back:
		w.mu.Lock()
		w.rollbacks++
		w.mu.Unlock()
	default:
		w.version = version
	}
}

// savepoint appends within a savepoint and rolls that back.
func (w *orderWriter) savepoint(ctx context.Context, tx pgx.Tx, stream string) error {
	point, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	records, err := w.store.AppendTx(ctx, point, []eventstore.Event{orderEvent(stream, 1)})
	if err != nil {
		return err
	}
	w.drop(records)
	w.mu.Lock()
	w.savepoints++
	w.mu.Unlock()
	return point.Rollback(ctx)
}

// verdict is what the harness finds wrong.
type verdict struct {
	missed, twice, disorder, falling, foreign int // by the live reader
	lost, undead, gaps                        int // in the log
}

// judgeOrder compares what a reader saw with the log, and the log with what the writers
// were told.
func judgeOrder(log, seen, kept []eventstore.Recorded, gone []uuid.UUID) (v verdict) {
	logged := map[uuid.UUID]eventstore.Recorded{}
	versions := map[string]uint64{}
	for _, r := range log {
		logged[r.ID] = r
		if versions[r.Stream]++; r.Version != versions[r.Stream] {
			v.gaps++
		}
	}
	same := func(r eventstore.Recorded) bool {
		l, ok := logged[r.ID]
		return ok && l.Position == r.Position && l.Append == r.Append && l.Stream == r.Stream && l.Version == r.Version
	}
	times := map[uuid.UUID]int{}
	clear(versions)
	var last eventstore.Position
	for _, r := range seen {
		if times[r.ID]++; times[r.ID] > 1 {
			v.twice++
		}
		if r.Version != versions[r.Stream]+1 {
			v.disorder++
		}
		versions[r.Stream] = r.Version
		if r.Position <= last {
			v.falling++
		}
		last = r.Position
		if !same(r) {
			v.foreign++
		}
	}
	for _, r := range log {
		if times[r.ID] == 0 {
			v.missed++
		}
	}
	for _, r := range kept {
		if !same(r) {
			v.lost++
		}
	}
	v.undead = len(log) - len(kept)
	for _, id := range gone {
		if _, ok := logged[id]; ok {
			v.undead++
		}
	}
	return v
}

// missedNaively counts what the naive reader did not see.
func (o *ordering) missedNaively() int {
	seen := map[eventstore.Position]bool{}
	for _, p := range o.naive {
		seen[p] = true
	}
	n := 0
	for _, r := range o.log {
		if !seen[r.Position] {
			n++
		}
	}
	return n
}

// latency is how long what was under way beside an idle transaction took.
type latency struct {
	n, waited int // waited: began in the first quarter of its time, or earlier, and ended behind it
	p99, max  time.Duration
}

func (l latency) String() string {
	return fmt.Sprintf("%d, p99 %v, max %v, %d waited for its end", l.n, l.p99.Round(100*time.Microsecond), l.max.Round(100*time.Microsecond), l.waited)
}

func (o *ordering) latency(of int) (l latency) {
	var all []time.Duration
	for _, s := range o.samples[of] {
		for _, w := range o.windows {
			if s.to.Before(w.from) || s.from.After(w.to) {
				continue
			}
			all = append(all, s.to.Sub(s.from))
			if s.from.Before(w.from.Add(w.to.Sub(w.from)/4)) && s.to.After(w.to) {
				l.waited++
			}
		}
	}
	if l.n = len(all); l.n > 0 {
		slices.Sort(all)
		l.p99, l.max = all[(l.n-1)*99/100], all[l.n-1]
	}
	return l
}

func (o *ordering) report(t *testing.T) verdict {
	v := judgeOrder(o.log, o.seen, o.kept, o.gone)
	t.Logf("%d events by %d writers on %d stores in %v (%.0f a second), seed %d: %d transactions rolled back, %d savepoints, %d conflicts",
		len(o.log), orderWriters, orderStores, o.took.Round(time.Millisecond), float64(len(o.log))/o.took.Seconds(), o.seed, o.rollbacks, o.savepoints, o.conflicts)
	t.Logf("the live reader: %+v in %d reads, at the end %v after the last commit; the naive one missed %d", v, o.reads, o.caught.Round(time.Millisecond), o.missedNaively())
	t.Logf("under %d idle transactions of %v: appends %v; commands %v", len(o.windows), o.idle, o.latency(ofAppends), o.latency(ofCommands))
	return v
}

// F17, with the naive reader beside it as its control.
func TestALiveReaderMissesNothingThatCommitsLateAtFullSize(t *testing.T) {
	o := &ordering{events: sizeOf(t, orderEvents, 3000, 1000), idle: 3 * time.Second, times: 2}
	if o.events >= 100_000 {
		o.idle = 5 * time.Second
	}
	orderOf(t, o, nil)
	v := o.report(t)
	require.Empty(t, o.problems, "seed %d", o.seed)
	require.Zero(t, v, "seed %d", o.seed)
	require.Equal(t, len(o.log), len(o.seen))
	require.NotZero(t, o.missedNaively(), "nothing committed late: the harness proves nothing")
	require.NotZero(t, o.rollbacks)
	require.NotZero(t, o.savepoints)
	require.NotZero(t, o.conflicts)
	require.Equal(t, len(o.windows), o.held, "an idle transaction did not hold the reader back: the harness proves nothing")
	for _, l := range []latency{o.latency(ofAppends), o.latency(ofCommands)} {
		require.Greater(t, l.n, 20)
		require.Zero(t, l.waited, "somebody waited for an idle transaction: %v", l)
	}
}

// Readers that are as naive as that one, within the store, are caught.
func TestTheHarnessOfOrderSeesAStoreWithoutItsFence(t *testing.T) {
	for name, c := range map[string]struct{ function, old, new string }{
		"nobody looks at it": {"frontier", "RETURN least(drawn, drawn + behind)", "RETURN drawn"},
		"nobody takes it":    {"fence", "pg_advisory_xact_lock_shared(", "int4larger("},
	} {
		t.Run(name, func(t *testing.T) {
			o := &ordering{events: 400, idle: 50 * time.Millisecond}
			orderOf(t, o, func(dsn, schema string) { rewrite(t, dsn, schema, c.function, c.old, c.new) })
			v := o.report(t)
			require.NotZero(t, v.missed, "seed %d: the harness cannot tell good from bad", o.seed)
			require.NotZero(t, v.disorder)
		})
	}
}

// Where appends take turns everybody waits for an idle transaction, and it is seen.
// Order is kept all the same, also for the naive reader.
func TestTheHarnessOfOrderSeesWritersThatWaitForAnIdleTransaction(t *testing.T) {
	o := &ordering{events: 100, idle: 500 * time.Millisecond, times: 2}
	orderOf(t, o, nil, postgres.WithSerializedAppends())
	v := o.report(t)
	require.Empty(t, o.problems, "seed %d", o.seed)
	require.Zero(t, v, "seed %d", o.seed)
	require.Zero(t, o.missedNaively())
	require.NotZero(t, o.latency(ofAppends).waited)
	require.NotZero(t, o.latency(ofCommands).waited)
}

func TestTheHarnessOfOrderSeesWhatIsMissedDoubledOrOutOfOrder(t *testing.T) {
	var log []eventstore.Recorded
	for i := range 6 {
		log = append(log, eventstore.Recorded{
			Event: orderEvent(fmt.Sprint("s", i%2), 1), Version: uint64(i/2 + 1), Position: eventstore.Position(i + 1), Append: eventstore.Position(i + 1),
		})
	}
	other := slices.Clone(log)
	other[2].Version = 1
	swapped := slices.Clone(log)
	swapped[0], swapped[2] = swapped[2], swapped[0]
	require.Zero(t, judgeOrder(log, log, log, []uuid.UUID{uuid.New()}))
	require.Equal(t, verdict{missed: 1}, judgeOrder(log, log[:5], log, nil))
	require.Equal(t, verdict{missed: 1, disorder: 1}, judgeOrder(log, log[1:], log, nil)) // version 2 without 1
	require.Equal(t, verdict{twice: 1, disorder: 1, falling: 1}, judgeOrder(log, append(slices.Clone(log), log[5]), log, nil))
	require.Equal(t, verdict{disorder: 3, falling: 2}, judgeOrder(log, swapped, log, nil))
	require.Equal(t, verdict{disorder: 2, foreign: 1}, judgeOrder(log, other, log, nil))
	require.Equal(t, verdict{lost: 1, gaps: 1, foreign: 1, missed: 0, disorder: 0}, judgeOrder(other, log, log, nil))
	require.Equal(t, verdict{undead: 1}, judgeOrder(log, log, log[:5], nil))
	require.Equal(t, verdict{undead: 2}, judgeOrder(log, log, log[:5], []uuid.UUID{log[5].ID}))
}
