package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

const (
	fenceSchedules = "ROLLFORWARD_PG_FENCE_SCHEDULES" // of the model that the server goes through; 40 if not set
	fenceCommits   = "ROLLFORWARD_PG_FENCE_COMMITS"   // that are watched; 200 if not set
)

// fenceStage is a server on which the steps of the model are done, each as a statement
// on the connection of who does it. Its tables are as plain as the model's: no trigger
// and no index helps.
type fenceStage struct {
	tx     [simTransactions]*pgx.Conn
	reader *pgx.Conn
	class  uint32
}

func fenceConnect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(context.Background())) }) // t.Context has ended by then
	// Commits are not waited for on the disk, and what would wait for a lock fails instead.
	_, err = c.Exec(t.Context(), "SELECT set_config('synchronous_commit', 'off', false), set_config('lock_timeout', '5s', false)")
	require.NoError(t, err)
	return c
}

func newFenceStage(t testing.TB) *fenceStage {
	dsn := pgtest.Database(t)
	f := &fenceStage{reader: fenceConnect(t, dsn)}
	for i := range f.tx {
		f.tx[i] = fenceConnect(t, dsn)
	}
	for _, query := range []string{
		"CREATE SEQUENCE numbers AS bigint MINVALUE 0 START 0 CACHE 1",
		"CREATE TABLE told (stream integer, version integer, position integer)",
	} {
		_, err := f.reader.Exec(t.Context(), query)
		require.NoError(t, err)
	}
	require.NoError(t, f.reader.QueryRow(t.Context(), "SELECT 'numbers'::regclass::oid").Scan(&f.class))
	return f
}

// clear begins a schedule anew.
func (f *fenceStage) clear(ctx context.Context, cache bool) error {
	kept := 1
	if cache {
		kept = 2
	}
	for _, c := range append(f.tx[:], f.reader) {
		if c.PgConn().TxStatus() != 'I' {
			if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
				return err
			}
		}
		if _, err := c.Exec(ctx, "DISCARD SEQUENCES"); err != nil {
			return err
		}
	}
	for _, query := range []string{"TRUNCATE told", fmt.Sprint("ALTER SEQUENCE numbers CACHE ", kept), "SELECT setval('numbers', 0)"} {
		if _, err := f.reader.Exec(ctx, query); err != nil {
			return err
		}
	}
	return nil
}

// fenceDiffers is what the server does otherwise than the model.
type fenceDiffers struct {
	what        string
	model, real any
}

func (e *fenceDiffers) Error() string {
	return fmt.Sprintf("%s: %v by the model, %v on the server", e.what, e.model, e.real)
}

// same fails where the one row of a query is not the number that the model has.
func (f *fenceStage) same(ctx context.Context, c *pgx.Conn, what string, want uint8, query string, args ...any) error {
	var got int64
	if err := c.QueryRow(ctx, query, args...).Scan(&got); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if got != int64(want) {
		return &fenceDiffers{what, want, got}
	}
	return nil
}

// play does a schedule and compares, at every step, what is seen.
func (f *fenceStage) play(ctx context.Context, m *fenceModel, steps []simStep) error {
	if err := f.clear(ctx, m.cache); err != nil {
		return err
	}
	before := m.start()
	for i := range steps {
		st := &steps[i]
		err := f.read(ctx, m, &before, st)
		if st.who < simTransactions {
			err = f.transact(ctx, m, &before, st)
		}
		if err == nil {
			err = f.waits(ctx, m, &st.after)
		}
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, strings.TrimSpace(m.sentence(&before, st)), err)
		}
		before = st.after
	}
	return f.table(ctx, &before)
}

func (f *fenceStage) transact(ctx context.Context, m *fenceModel, before *simState, st *simStep) error {
	c, was, t := f.tx[st.who], &before.tx[st.who], &st.after.tx[st.who]
	exec := func(query string, args ...any) error {
		_, err := c.Exec(ctx, query, args...)
		return err
	}
	if was.pc == 0 {
		begin := "BEGIN"
		if m.repeatable {
			begin = "BEGIN ISOLATION LEVEL REPEATABLE READ"
		}
		if err := exec(begin); err != nil {
			return err
		}
	}
	o := m.programs[st.who][was.pc]
	var err error
	switch st.do {
	case doLock:
		err = exec("SELECT pg_advisory_xact_lock($1::bigint)", int64(o.stream))
	case doLook:
		if o.writes { // the versions have been used already: they are in the rows
			break
		}
		for i, stream := range m.errands[st.who].appends[o.append] {
			err = errors.Join(err, f.same(ctx, c, "version", t.at[i], "SELECT coalesce(max(version), 0) FROM told WHERE stream = $1", stream))
		}
	case doNumber:
		err = f.same(ctx, c, "number drawn last", t.number, "SELECT last_value FROM numbers")
	case doFence:
		if !m.fenceOnce || !was.fenced {
			err = exec("SELECT pg_advisory_xact_lock_shared($1, $2)", int32(f.class), int32(was.number))
		}
	case doDraw:
		err = f.same(ctx, c, "number drawn", m.drawn(before, st), "SELECT nextval('numbers')")
	case doSave:
		err = exec("SAVEPOINT s")
	case doBack:
		err = exec("ROLLBACK TO SAVEPOINT s")
	case doDurable: // and what follows
		err = exec("COMMIT")
	case doAbort:
		err = exec("ROLLBACK")
	}
	if err == nil && o.writes && st.do != doAbort {
		rows := t.all()
		for _, r := range rows[len(rows)-len(m.errands[st.who].appends[o.append]):] {
			err = errors.Join(err, exec("INSERT INTO told (stream, version, position) VALUES ($1, $2, $3)", r.stream, r.version, r.position))
		}
	}
	return err
}

func (f *fenceStage) read(ctx context.Context, m *fenceModel, before *simState, st *simStep) error {
	if st.who != simReads {
		return nil
	}
	was, r := &before.reader, &st.after.reader
	switch st.do {
	case doSnapshot:
		if _, err := f.reader.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ"); err != nil {
			return err
		}
		_, err := f.reader.Exec(ctx, "SELECT count(*) FROM told")
		return err
	case doLast:
		return f.same(ctx, f.reader, "number drawn last", r.last, "SELECT last_value FROM numbers")
	case doLowest:
		return f.same(ctx, f.reader, "one more than the smallest fence", r.lowest,
			"SELECT coalesce(min(objid::bigint) + 1, 0) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = $1 AND mode = 'ShareLock'", f.class)
	}
	next, above := r.at, ">"
	if st.ended {
		next = 0
	}
	if m.inclusive {
		above = ">="
	}
	query := "SELECT coalesce((SELECT position FROM told WHERE position " + above + " $1 AND position <= $2 AND $3::integer = 0 ORDER BY position LIMIT 1), 0)"
	if m.stream {
		query = "SELECT coalesce((SELECT version FROM told WHERE stream = 0 AND version > $1 AND position <= $2" +
			" AND version <= CASE $3::integer WHEN 0 THEN (SELECT max(version) FROM told WHERE stream = 0) ELSE $3 END ORDER BY version LIMIT 1), 0)"
	}
	if err := f.same(ctx, f.reader, "next event", next, query, int(was.at), int(m.bound(was)), int(was.upTo)); err != nil {
		return err
	}
	if st.ended && f.reader.PgConn().TxStatus() != 'I' {
		_, err := f.reader.Exec(ctx, "COMMIT")
		return err
	}
	return nil
}

// waits fails where a lock for which somebody waits in the model is free on the server.
func (f *fenceStage) waits(ctx context.Context, m *fenceModel, s *simState) error {
	for i := range s.tx {
		if t := &s.tx[i]; t.done != 0 && !m.ended(t) {
			return nil // a commit is one step on the server, and in the model is not at its end
		}
	}
	for i := range s.tx {
		t := &s.tx[i]
		if t.done != 0 || m.programs[i][t.pc].do != doLock || t.pc == 0 {
			continue
		}
		waits := true
		m.transact(s, i, func(st simStep) { waits = waits && st.do != doLock })
		if !waits {
			continue
		}
		var free bool
		if err := f.tx[i].QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1::bigint)", int64(m.programs[i][t.pc].stream)).Scan(&free); err != nil {
			return err
		}
		if free {
			return &fenceDiffers{"a stream that " + m.errands[i].name + " waits for", "locked", "free"}
		}
	}
	return nil
}

// table compares what everybody sees at the end.
func (f *fenceStage) table(ctx context.Context, s *simState) error {
	var want []string
	for i := range s.tx {
		if s.tx[i].has(doVisible) {
			for _, r := range s.tx[i].all() {
				want = append(want, fmt.Sprint(r.stream, " ", r.version, " ", r.position))
			}
		}
	}
	slices.Sort(want)
	rows, err := f.tx[0].Query(ctx, "SELECT stream || ' ' || version || ' ' || position FROM told") // it may be within a transaction, and has not written
	if err != nil {
		return err
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if !s.tx[0].has(doVisible) && !s.tx[0].has(doAbort) {
		for _, r := range s.tx[0].all() { // it sees its own as well
			want = append(want, fmt.Sprint(r.stream, " ", r.version, " ", r.position))
		}
		slices.Sort(want)
	}
	slices.Sort(got)
	if !slices.Equal(want, got) {
		return &fenceDiffers{"the table", want, got}
	}
	return nil
}

// wander makes a schedule in which everybody is as likely as everybody else to be next.
func (m *fenceModel) wander(random *rand.Rand) (steps []simStep) {
	s := m.start()
	for ends := 0; ends < 2; {
		byWho := map[int][]simStep{}
		m.steps(&s, func(st simStep) { byWho[st.who] = append(byWho[st.who], st) })
		var who []int
		for w := range byWho {
			who = append(who, w)
		}
		slices.Sort(who)
		of := byWho[who[random.IntN(len(who))]]
		st := of[0]
		if len(of) > 1 && random.IntN(8) == 0 { // rolling back stands beside going on at every step
			st = of[1+random.IntN(len(of)-1)]
		}
		steps = append(steps, st)
		s = st.after
		if st.ended && m.allEnded(&s) {
			ends++
		}
	}
	return steps
}

// wholeCommits returns the model, whose commits cannot be looked into.
func (m *fenceModel) wholeCommits() *fenceModel {
	m.simScenario.whole = true
	return m
}

func TestTheServerDoesWhatTheModelOfTheFenceDoes(t *testing.T) {
	f := newFenceStage(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	models := []*fenceModel{
		newFenceModel(fenceOfOurs, simEverybody).wholeCommits(),
		newFenceModel(fenceOfOurs, simScenario{name: "late", errands: [simTransactions]simErrand{simLateSaver, simWavering, simIdle}}).wholeCommits(),
		newFenceModel(fenceOfOurs, simOfStream(simEverybody)).wholeCommits(),
	}
	steps, n := 0, sizeOf(t, fenceSchedules, 40, 10)
	for i := range n {
		m := models[i%len(models)]
		schedule := m.wander(random)
		steps += len(schedule)
		require.NoError(t, f.play(t.Context(), m, schedule), "seed %d:%s", seed, m.tell(schedule))
	}
	t.Logf("%d schedules of %d steps, each as the model has it; seed %d", n, steps, seed)
}

// A model that is not that of the server is found not to be.
func TestTheReplayOfTheFenceSeesAModelThatIsWrong(t *testing.T) {
	f := newFenceStage(t)
	for _, not := range []simProtocol{
		alteredFence("fences outlive their transaction", func(p *simProtocol) { p.session = true }),
		alteredFence("a transaction has one snapshot", func(p *simProtocol) { p.repeatable = true }),
		alteredFence("sessions keep numbers", func(p *simProtocol) { p.cache = true }),
	} {
		t.Run(not.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 1))
			claimed, is := newFenceModel(not, simEverybody).wholeCommits(), newFenceModel(fenceOfOurs, simEverybody).wholeCommits()
			schedules := [][]simStep{claimed.search(ruleNone).schedule} // the shortest that tells them apart by what it breaks
			for range 20 {
				schedules = append(schedules, claimed.wander(random))
			}
			for i, schedule := range schedules {
				err := f.play(t.Context(), is, schedule)
				var differs *fenceDiffers
				if errors.As(err, &differs) {
					t.Logf("found in schedule %d: %v", i+1, err)
					return
				}
				require.NoError(t, err)
			}
			t.Fatalf("%d schedules, and nothing noticed", len(schedules))
		})
	}
}

// What the model says of the wrong ways is true of the server: the shortest schedule that
// breaks an invariant there breaks it here.
func TestTheServerBreaksWhatTheModelSaysAWrongFenceBreaks(t *testing.T) {
	f := newFenceStage(t)
	for _, w := range wrongFences {
		if !w.server {
			continue
		}
		t.Run(w.simProtocol.name, func(t *testing.T) {
			m := newFenceModel(w.simProtocol, w.scenario).wholeCommits()
			found := m.search(w.breaks)
			require.Equal(t, w.breaks, found.broken)
			require.NoError(t, f.play(t.Context(), m, found.schedule), m.tell(found.schedule))
			t.Logf("%q is broken on the server after %d steps", w.breaks, len(found.schedule))
		})
	}
}

// What follows is done with the store itself.

// fenceGround is a store, and connections beside it.
type fenceGround struct {
	store  *postgres.Store
	schema string
	dsn    string
}

func newFenceGround(t testing.TB) *fenceGround { return fenceGroundIn(t, pgtest.Database(t)) }

func fenceGroundIn(t testing.TB, dsn string) *fenceGround {
	g := &fenceGround{dsn: dsn, schema: fresh()}
	g.store = open(t, g.dsn, postgres.WithSchema(g.schema))
	return g
}

// in writes a statement for the schema of the store.
func (g *fenceGround) in(query string) string {
	return strings.ReplaceAll(query, "rollforward.", g.schema+".")
}

func (g *fenceGround) begin(t testing.TB, c *pgx.Conn) pgx.Tx {
	tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	require.NoError(t, err)
	return tx
}

func fenceEvent(stream string) []eventstore.Event {
	return []eventstore.Event{{ID: uuid.Must(uuid.NewV7()), Stream: stream, Type: "fence.tried", Schema: 1, Data: []byte("{}")}}
}

// append appends an event to a stream, in a transaction or by itself.
func (g *fenceGround) append(t testing.TB, tx pgx.Tx, stream string, expect ...eventstore.Expect) eventstore.Recorded {
	t.Helper()
	var records []eventstore.Recorded
	var err error
	if tx != nil {
		records, err = g.store.AppendTx(t.Context(), tx, fenceEvent(stream), expect...)
	} else {
		records, err = g.store.Append(t.Context(), fenceEvent(stream), expect...)
	}
	require.NoError(t, err)
	require.Len(t, records, 1)
	return records[0]
}

// streams reads, and returns of which streams the events are.
func (g *fenceGround) streams(t testing.TB, q eventstore.Query) (names []string) {
	t.Helper()
	for r, err := range g.store.Read(t.Context(), q) {
		require.NoError(t, err)
		names = append(names, r.Stream)
	}
	return names
}

// fenceOne reads the one value of a query.
func fenceOne[T any](t testing.TB, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, query string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, q.QueryRow(t.Context(), query, args...).Scan(&value), query)
	return value
}

const (
	fencesHeld = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = 'rollforward.appends'::regclass::oid"
	fenceOwn   = "SELECT coalesce(min(objid::bigint), -1) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = 'rollforward.appends'::regclass::oid AND pid = pg_backend_pid()"
)

func TestWhatCommitsLateIsReadInItsPlace(t *testing.T) {
	g := newFenceGround(t)
	c := fenceConnect(t, g.dsn)
	first := g.append(t, nil, "first")
	tx := g.begin(t, c)
	late := g.append(t, tx, "late")
	early := g.append(t, nil, "early")
	require.Greater(t, early.Position, late.Position)

	beside := fenceConnect(t, g.dsn)
	require.EqualValues(t, early.Position, fenceOne[int64](t, beside, g.in("SELECT max(position) FROM rollforward.events")), "who asks the table reads past what is to come")
	require.Equal(t, []string{"first"}, g.streams(t, eventstore.Query{}))
	require.Empty(t, g.streams(t, eventstore.Query{After: first.Position}))
	require.Equal(t, []string{"early"}, g.streams(t, eventstore.Query{Streams: []string{"early"}}), "a stream is complete at once")
	head, err := g.store.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, first.Position, head)

	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, []string{"late", "early"}, g.streams(t, eventstore.Query{After: first.Position}))
}

func TestASavepointThatIsRolledBackTakesTheFenceAndTheNextAppendTakesItAgain(t *testing.T) {
	g := newFenceGround(t)
	c, beside := fenceConnect(t, g.dsn), fenceConnect(t, g.dsn)
	tx := g.begin(t, c)
	inner, err := tx.Begin(t.Context())
	require.NoError(t, err)
	undone := g.append(t, inner, "undone")
	require.Positive(t, fenceOne[int](t, beside, g.in(fencesHeld)))
	require.NoError(t, inner.Rollback(t.Context()))
	require.Zero(t, fenceOne[int](t, beside, g.in(fencesHeld)), "its savepoint has taken it along")

	between := g.append(t, nil, "between")
	require.Equal(t, []string{"between"}, g.streams(t, eventstore.Query{}), "nobody holds the reader back")

	again := g.append(t, tx, "again")
	require.Greater(t, again.Position, between.Position)
	require.Greater(t, between.Position, undone.Position)
	require.Less(t, fenceOne[int64](t, tx, g.in(fenceOwn)), int64(again.Position)/eventstore.MaxEvents)
	last := g.append(t, nil, "last")
	require.Greater(t, last.Position, again.Position)
	require.Empty(t, g.streams(t, eventstore.Query{After: between.Position}))

	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, []string{"between", "again", "last"}, g.streams(t, eventstore.Query{}))
}

// An append outside keeps its fence when one within a savepoint is rolled back.
func TestASavepointThatIsRolledBackLeavesTheFenceOfAnEarlierAppend(t *testing.T) {
	g := newFenceGround(t)
	tx := g.begin(t, fenceConnect(t, g.dsn))
	g.append(t, tx, "kept")
	inner, err := tx.Begin(t.Context())
	require.NoError(t, err)
	g.append(t, inner, "undone")
	require.NoError(t, inner.Rollback(t.Context()))
	g.append(t, nil, "beside")
	require.Empty(t, g.streams(t, eventstore.Query{}))
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, []string{"kept", "beside"}, g.streams(t, eventstore.Query{}))
}

// The order of the two looks, by hand: swapped it passes what is to come, and not swapped
// it does not, with the same appends between the looks.
func TestTheLooksAtSequenceAndFencesHaveAnOrder(t *testing.T) {
	dsn := pgtest.Database(t)
	for _, swapped := range []bool{false, true} {
		g := fenceGroundIn(t, dsn)
		c, beside := fenceConnect(t, g.dsn), fenceConnect(t, g.dsn)
		g.append(t, nil, "before")
		drawn, fences := int64(-1), -1
		looks := []func(){
			func() { drawn = fenceOne[int64](t, beside, g.in("SELECT last_value FROM rollforward.appends")) },
			func() { fences = fenceOne[int](t, beside, g.in(fencesHeld)) },
		}
		if swapped {
			slices.Reverse(looks)
		}
		looks[0]()
		tx := g.begin(t, c)
		late := g.append(t, tx, "late")
		early := g.append(t, nil, "early")
		looks[1]()

		bound := drawn
		if fences > 0 {
			bound = min(bound, int64(late.Position)/eventstore.MaxEvents-1)
		}
		read := fenceOne[int64](t, beside, g.in("SELECT max(position) FROM rollforward.events WHERE position < ($1 + 1) * 1000"), bound)
		require.Equal(t, swapped, read > int64(late.Position), "swapped %v: read to %d, and %d is to come", swapped, read, late.Position)
		require.Equal(t, swapped, read == int64(early.Position))
		require.Equal(t, []string{"before"}, g.streams(t, eventstore.Query{}))
		require.NoError(t, tx.Commit(t.Context()))
		require.Equal(t, []string{"before", "late", "early"}, g.streams(t, eventstore.Query{}))
	}
}

// A transaction that is prepared has left its session, and keeps its fence all the same.
func TestAPreparedTransactionKeepsItsFence(t *testing.T) {
	server := pgtest.Start(t, "max_prepared_transactions=2")
	g := fenceGroundIn(t, pgtest.DatabaseOf(t, server.DSN()))
	c := fenceConnect(t, g.dsn)
	var late [2]eventstore.Recorded
	for i := range late {
		tx := g.begin(t, c)
		late[i] = g.append(t, tx, fmt.Sprint("late ", i))
		_, err := tx.Exec(t.Context(), fmt.Sprintf("PREPARE TRANSACTION 'late %d'", i))
		require.NoError(t, err)
		require.EqualValues(t, 'I', c.PgConn().TxStatus())
	}
	g.append(t, nil, "early")
	require.Empty(t, g.streams(t, eventstore.Query{}))
	fences, err := g.store.Fences(t.Context())
	require.NoError(t, err)
	require.Len(t, fences, 2)
	for i, f := range fences {
		require.LessOrEqual(t, f.Position, late[i].Position)
		require.Zero(t, f.PID)
		require.Equal(t, "prepared", f.State)
	}
	for i := range late {
		_, err = c.Exec(t.Context(), fmt.Sprintf("COMMIT PREPARED 'late %d'", i))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"late 0", "late 1", "early"}, g.streams(t, eventstore.Query{}))
}

func TestATransactionWithOneSnapshotIsRefused(t *testing.T) {
	g := newFenceGround(t)
	c := fenceConnect(t, g.dsn)
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		require.NoError(t, err)
		_, err = g.store.AppendTx(t.Context(), tx, fenceEvent("refused"))
		require.ErrorIs(t, err, postgres.ErrIsolation, level)
		require.ErrorIs(t, err, eventstore.ErrNotApplied, level)
		require.NoError(t, tx.Rollback(t.Context()))
	}
	tx := g.begin(t, c)
	g.append(t, tx, "taken")
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, []string{"taken"}, g.streams(t, eventstore.Query{}))
}

func TestRowsInsertedByHandHaveTheirFenceBeforeTheirNumber(t *testing.T) {
	g := newFenceGround(t)
	c := fenceConnect(t, g.dsn)
	const (
		into = "INSERT INTO rollforward.events (position, append, id, stream, version, type, schema, recorded_at, data) "
		rest = ", 0, gen_random_uuid(), 'by hand', nextval('versions'), 'x', 1, now(), '{}'"
		next = "nextval('rollforward.appends') * 1000"
	)
	_, err := c.Exec(t.Context(), "CREATE SEQUENCE versions")
	require.NoError(t, err)
	for _, by := range []struct {
		name    string
		queries []string
		safe    bool
	}{
		{"values", []string{into + "VALUES (" + next + rest + ")"}, true},
		{"values of several rows", []string{into + "VALUES (" + next + rest + "), (" + next + rest + ")"}, true},
		{"select", []string{into + "SELECT " + next + rest}, true},
		{"select of several rows", []string{into + "SELECT " + next + rest + " FROM generate_series(1, 3)"}, true},
		{"sorted select", []string{into + "SELECT p" + rest + " FROM (SELECT " + next + " AS p FROM generate_series(1, 3) ORDER BY 1) AS s"}, true},
		{"materialized", []string{"WITH n AS MATERIALIZED (SELECT " + next + " AS p) " + into + "SELECT p" + rest + " FROM n"}, true},
		{"subquery", []string{into + "VALUES ((SELECT " + next + ")" + rest + ")"}, true},
		{"returning", []string{into + "SELECT " + next + rest + " RETURNING position"}, true},
		// Who draws before the statement that inserts begins draws before the fence. The
		// trigger cannot know; only the function reserve can.
		{"a number drawn before", []string{"CREATE TEMP TABLE n ON COMMIT DROP AS SELECT " + next + " AS p", into + "SELECT p" + rest + " FROM n"}, false},
		{"a parameter that draws", []string{"PREPARE hand (bigint) AS " + into + "VALUES ($1" + rest + ")", "EXECUTE hand (" + next + ")"}, false},
	} {
		t.Run(by.name, func(t *testing.T) {
			tx := g.begin(t, c)
			before := fenceOne[int64](t, tx, g.in("SELECT last_value FROM rollforward.appends"))
			for _, query := range by.queries {
				_, err := tx.Exec(t.Context(), g.in(query))
				require.NoError(t, err)
			}
			fence := fenceOne[int64](t, tx, g.in(fenceOwn))
			drawn := fenceOne[int64](t, tx, g.in("SELECT min(position) / 1000 FROM rollforward.events WHERE position >= ($1 + 1) * 1000"), before)
			require.Equal(t, before+1, drawn)
			require.Equal(t, by.safe, fence >= 0 && fence < drawn, "the fence is at %d, the number is %d", fence, drawn)
			require.NoError(t, tx.Rollback(t.Context()))
		})
	}
}

// fenceWatch makes a function that spins until nobody holds a lock of the class, and says
// then what a statement sees that begins there.
func (g *fenceGround) fenceWatch(t testing.TB, c *pgx.Conn) {
	t.Helper()
	_, err := c.Exec(t.Context(), g.in(`CREATE FUNCTION watched(place bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  held bigint;
BEGIN
  LOOP
    SELECT count(*) INTO held FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = 'rollforward.appends'::regclass::oid;
    EXIT WHEN held = 0;
  END LOOP;
  RETURN (SELECT count(*) FROM rollforward.events WHERE position = place);
END $$`))
	require.NoError(t, err)
}

// fenceAnswer is what a statement on another connection came to.
type fenceAnswer struct {
	value int64
	err   error
}

// watch begins to watch, and returns when the server is at it.
func (g *fenceGround) watch(t testing.TB, watcher, beside *pgx.Conn, place eventstore.Position) <-chan fenceAnswer {
	t.Helper()
	got := make(chan fenceAnswer, 1)
	go func() {
		var a fenceAnswer
		a.err = watcher.QueryRow(t.Context(), "SELECT watched($1)", int64(place)).Scan(&a.value)
		got <- a
	}()
	fenceAwait(t, beside, watcher, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query LIKE 'SELECT watched%'")
	return got
}

// fenceAwait returns when a query says 1 of the backend of a connection.
func fenceAwait(t testing.TB, beside, of *pgx.Conn, query string) {
	t.Helper()
	for begin := time.Now(); fenceOne[int](t, beside, query, of.PgConn().PID()) == 0; {
		require.Less(t, time.Since(begin), 20*time.Second, "the backend does not come there: %s", query)
	}
}

// fenceWaits is for fenceAwait.
const fenceWaits = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND NOT granted"

func TestWhenAFenceIsGoneWhatItHeldBackCanBeSeen(t *testing.T) {
	g := newFenceGround(t)
	c, watcher, beside := fenceConnect(t, g.dsn), fenceConnect(t, g.dsn), fenceConnect(t, g.dsn)
	g.fenceWatch(t, beside)
	n := sizeOf(t, fenceCommits, 200, 50)
	for range n {
		tx := g.begin(t, c)
		r := g.append(t, tx, "s")
		got := g.watch(t, watcher, beside, r.Position)
		require.NoError(t, tx.Commit(t.Context()))
		a := <-got
		require.NoError(t, a.err)
		require.EqualValues(t, 1, a.value, "the fence was gone, and the event at %d not there", r.Position)
	}
	t.Logf("%d commits, each seen as soon as its fence was gone", n)
}

// The control: locks of the session can be let go before the commit, and then the watcher
// sees that nothing is there yet.
func TestTheWatcherSeesAFenceThatIsGoneTooEarly(t *testing.T) {
	g := newFenceGround(t)
	c, watcher, beside := fenceConnect(t, g.dsn), fenceConnect(t, g.dsn), fenceConnect(t, g.dsn)
	g.fenceWatch(t, beside)
	// The store's own fences would hide it.
	_, err := beside.Exec(t.Context(), g.in("ALTER TABLE rollforward.events DISABLE TRIGGER events_are_fenced"))
	require.NoError(t, err)
	const tries = 60
	early := 0
	for i := range tries {
		place := int64(i+1) * 1000
		tx := g.begin(t, c)
		_, err := tx.Exec(t.Context(), g.in("SELECT pg_advisory_lock_shared('rollforward.appends'::regclass::oid::integer, 0)"))
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), g.in("INSERT INTO rollforward.events (position, append, id, stream, version, type, schema, recorded_at, data)"+
			" VALUES ($1, $1, gen_random_uuid(), 's', $2, 'x', 1, now(), '{}')"), place, i+1)
		require.NoError(t, err)
		got := g.watch(t, watcher, beside, eventstore.Position(place))
		// Too early by a round trip, and by up to 4 ms.
		_, err = tx.Exec(t.Context(), g.in("SELECT pg_advisory_unlock_shared('rollforward.appends'::regclass::oid::integer, 0), pg_sleep($1)"), float64(i%5)/1000)
		require.NoError(t, err)
		require.NoError(t, tx.Commit(t.Context()))
		a := <-got
		require.NoError(t, a.err)
		if a.value == 0 {
			early++
		}
	}
	t.Logf("%d of %d commits were not to be seen when their fence was gone", early, tries)
	require.Positive(t, early)
}

// Who waits for a stream sees, when he gets it, what the transaction did that had it.
func TestWhoWaitsForAStreamSeesWhatWasAppendedMeanwhile(t *testing.T) {
	g := newFenceGround(t)
	c, waiter, beside := fenceConnect(t, g.dsn), fenceConnect(t, g.dsn), fenceConnect(t, g.dsn)
	n := sizeOf(t, fenceCommits, 200, 50) / 2
	for i := range n {
		tx, next := g.begin(t, c), g.begin(t, waiter)
		stands := uint64(2 * i)
		first := g.append(t, tx, "s", eventstore.At("s", stands))
		got := make(chan error, 1)
		var second []eventstore.Recorded
		go func() {
			var err error
			second, err = g.store.AppendTx(t.Context(), next, fenceEvent("s"), eventstore.At("s", stands+1))
			got <- err
		}()
		fenceAwait(t, beside, waiter, fenceWaits)
		require.NoError(t, tx.Commit(t.Context()))
		require.NoError(t, <-got)
		require.Equal(t, stands+2, second[0].Version)
		require.Greater(t, second[0].Position, first.Position)
		require.NoError(t, next.Commit(t.Context()))
	}
	t.Logf("%d appends waited for another, and each stands behind it", n)
}
