package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollforward/rollforward/eventstore"
)

// Append records events; see eventstore.Store. It costs two round trips to the server
// and one commit, in which it looks up where each stream stands and changes four
// indexes an event; none grows with the history but as O(log n). Appends that come
// while another one commits share the next commit; see queue.go.
//
// It waits for a stream on which another transaction has appended and not ended. After
// a broken connection, a deadlock or a failed serialization it tries again, for some
// five seconds, and finds out by itself what became of a commit that was sent, unless
// ctx ends first.
func (s *Store) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := eventstore.Validate(events, expect); err != nil {
		return nil, err
	}
	a := s.appending(events, expect)
	if err := s.together(ctx, a); err != nil {
		return nil, outcome(err)
	}
	return a.records, nil
}

// AppendWith records events and runs also in the same transaction, behind them: what
// it does to tables of the caller's own is committed with the events or not at all. It
// is told what is recorded. An error of also is returned, as one that is
// eventstore.ErrNotApplied, and nothing is recorded.
//
// also may run again, where a connection broke or transactions were in each other's
// way, and does not run where the events are known from an earlier append. It neither
// begins nor ends a transaction but savepoints, and leaves the tables of the store
// alone. While it runs nobody else appends to these streams, and who reads the log
// does not come past this append: keep it short.
func (s *Store) AppendWith(ctx context.Context, events []eventstore.Event, also func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := eventstore.Validate(events, expect); err != nil {
		return nil, err
	}
	bound, leave, err := s.call(ctx)
	if err != nil {
		return nil, outcome(err)
	}
	defer leave()
	a := s.appending(events, expect)
	a.also = also
	if err := s.alone(bound, ctx, a, false); err != nil {
		return nil, outcome(err)
	}
	return a.records, nil
}

// AppendTx records events within a transaction that the caller began and ends, which
// must be READ COMMITTED and in the database of the store: they are recorded when it
// commits, and in the records returned when it does. What the failure of that commit
// means only the caller can know: it may send the same events again.
//
// The transaction holds the streams, and holds back who reads the log, until it ends:
// a savepoint that is rolled back takes its events with it, and no others. After an
// error that is no eventstore.ErrConflict the transaction can only be rolled back.
// Call Tell when it has committed: it wakes those who wait for events, who otherwise find
// them by their poll, within half a second.
func (s *Store) AppendTx(ctx context.Context, tx pgx.Tx, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := eventstore.Validate(events, expect); err != nil {
		return nil, err
	}
	bound, leave, err := s.call(ctx)
	if err != nil {
		return nil, outcome(err)
	}
	defer leave()
	a := s.appending(events, expect)
	a.careful = true // an ID that is known would end the caller's transaction
	a.patient = true // on a connection of the caller's
	err = s.within(bound, tx, a)
	if over := ended(bound); err != nil && over != nil && code(err) == "" {
		err = over
	}
	if err != nil {
		return nil, outcome(err)
	}
	return a.records, nil
}

// within does all of an append but to begin and to commit.
func (s *Store) within(ctx context.Context, tx pgx.Tx, a *appending) error {
	t, err := s.reserve(ctx, tx, false, []*appending{a}, a.patient)
	if err != nil {
		return err
	}
	if err := s.judge(ctx, tx, t, []*appending{a}); err != nil {
		return err // it may stand refused by an expectation, and be known
	}
	if len(t.rows) == 0 {
		return a.refused
	}
	batch := &pgx.Batch{}
	s.queueRows(batch, t)
	return run(tx.SendBatch(ctx, batch), batch.Len())
}

// appending is one append under way.
type appending struct {
	events  []eventstore.Event
	expect  []eventstore.Expect
	also    func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error // nil: nothing
	records []eventstore.Recorded
	at      time.Time // of recording; zero: the server says
	careful bool      // its IDs are looked up first
	patient bool      // it waits for streams that somebody else has locked

	// What judge says.
	done    bool  // its events are in the log by an earlier append
	refused error // errApart: it is to be done by itself
}

func (s *Store) appending(events []eventstore.Event, expect []eventstore.Expect) *appending {
	a := &appending{events: events, expect: expect}
	if s.now != nil {
		a.at = s.now().UTC().Truncate(time.Microsecond)
	}
	return a
}

// querier is a connection within a transaction, or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// transaction is what is known within one of the streams it has locked.
type transaction struct {
	s        *Store
	versions map[string]uint64
	busy     map[string]bool // streams that somebody else has locked
	numbers  []int64         // drawn: one for each append
	head     eventstore.Position
	at       time.Time
	rows     []eventstore.Recorded // to be inserted
	ids      map[uuid.UUID]bool    // of those
}

// reserve locks the streams that the appends touch, learns where they stand, and
// draws a number for each of them under the fence. begin begins a transaction with it.
func (s *Store) reserve(ctx context.Context, q querier, begin bool, appends []*appending, patient bool) (*transaction, error) {
	t := &transaction{s: s, versions: map[string]uint64{}, ids: map[uuid.UUID]bool{}}
	var names []string
	for _, a := range appends {
		for _, e := range a.events {
			if _, ok := t.versions[e.Stream]; !ok {
				t.versions[e.Stream] = 0
				names = append(names, e.Stream)
			}
		}
		for _, x := range a.expect {
			if _, ok := t.versions[x.Stream]; !ok {
				t.versions[x.Stream] = 0
				names = append(names, x.Stream)
			}
		}
	}
	batch := &pgx.Batch{}
	if begin {
		batch.Queue(sqlBegin)
	}
	if s.serialized {
		batch.Queue(s.sql.reserve, names)
	} else {
		batch.Queue(s.sql.reserve, names, len(appends), patient)
	}
	s.at("reserve")
	results := q.SendBatch(ctx, batch)
	defer results.Close()
	if begin {
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	var busy []string
	var versions []int64
	var err error
	if s.serialized {
		err = results.QueryRow().Scan(&versions, &t.head, &t.at)
	} else {
		err = results.QueryRow().Scan(&busy, &versions, &t.numbers, &t.at)
	}
	if err != nil {
		return nil, err
	}
	if err := results.Close(); err != nil {
		return nil, err
	}
	if len(versions) != len(names) || !s.serialized && len(t.numbers) != len(appends) {
		return nil, damaged("the function reserve answers with %d versions for %d streams", len(versions), len(names))
	}
	for i, name := range names {
		t.versions[name] = uint64(versions[i])
	}
	for _, name := range busy {
		if t.busy == nil {
			t.busy = map[string]bool{}
		}
		t.busy[name] = true
	}
	t.at = t.at.UTC()
	return t, nil
}

// judge says of each append whether it is done before it inserts, or refused: by its
// IDs, then by its expectations. Those that pass have their rows in the transaction.
//
// IDs are hardly ever known, so they are looked up only where an expectation fails,
// and where the log turned out to have one: at most twice, however many appends.
func (s *Store) judge(ctx context.Context, q querier, t *transaction, appends []*appending) error {
	var careful, suspect []*appending
	for _, a := range appends {
		a.done, a.refused = false, nil
		if a.careful {
			careful = append(careful, a)
		}
	}
	if err := s.known(ctx, q, careful); err != nil {
		return err
	}
	for _, a := range appends {
		if a.done || a.refused != nil {
			continue
		}
		if a.refused = t.apart(a); a.refused != nil {
			continue
		}
		if a.refused = t.conflict(a); a.refused == nil {
			t.add(a)
		} else if !a.careful {
			suspect = append(suspect, a)
		}
	}
	return s.known(ctx, q, suspect)
}

// known looks up the IDs of appends. Those that are in the log by an earlier append are
// done and have its records, or are refused.
func (s *Store) known(ctx context.Context, q querier, appends []*appending) error {
	if len(appends) == 0 {
		return nil
	}
	var ids []uuid.UUID
	for _, a := range appends {
		for _, e := range a.events {
			ids = append(ids, e.ID)
		}
	}
	found, err := s.byID(ctx, q, ids)
	if err != nil {
		return err
	}
	for _, a := range appends {
		records, err := eventstore.Resend(a.events, func(id uuid.UUID) (eventstore.Recorded, bool, error) {
			r, ok := found[id]
			return r, ok, nil
		})
		switch {
		case err != nil:
			a.refused = err
		case records != nil:
			a.done, a.refused, a.records = true, nil, records
		}
	}
	return nil
}

// apart reports whether an append cannot be judged here: somebody else has one of its
// streams, or another append of this transaction one of its IDs.
func (t *transaction) apart(a *appending) error {
	for _, e := range a.events {
		if t.busy[e.Stream] || t.ids[e.ID] {
			return errApart
		}
	}
	for _, x := range a.expect {
		if t.busy[x.Stream] {
			return errApart
		}
	}
	return nil
}

// conflict returns which expectation does not hold, or nil.
func (t *transaction) conflict(a *appending) error {
	for _, x := range a.expect {
		if at := t.versions[x.Stream]; at != x.Version {
			return &eventstore.ConflictError{Stream: x.Stream, Want: x.Version, Actual: at}
		}
	}
	return nil
}

// add gives the events of an append their places.
func (t *transaction) add(a *appending) {
	first := t.head + 1
	if !t.s.serialized {
		first, t.numbers = firstOf(t.numbers[0]), t.numbers[1:]
	}
	at := a.at
	if at.IsZero() {
		at = t.at
	}
	a.records = make([]eventstore.Recorded, len(a.events))
	for i, e := range a.events {
		t.versions[e.Stream]++
		a.records[i] = eventstore.Recorded{
			Event: e, Version: t.versions[e.Stream], Position: first + eventstore.Position(i), Append: first, RecordedAt: at,
		}
	}
	t.head = first + eventstore.Position(len(a.events)) - 1
	t.rows = append(t.rows, a.records...)
	for _, e := range a.events {
		t.ids[e.ID] = true
	}
}

// queueRows queues the insertion of the rows. It copies their bytes.
func (s *Store) queueRows(batch *pgx.Batch, t *transaction) {
	n := len(t.rows)
	var tagged []string
	var tags []int64
	for _, r := range t.rows {
		for _, tag := range r.Tags {
			tagged, tags = append(tagged, tag), append(tags, int64(r.Position))
		}
	}
	if n == 1 {
		r := &t.rows[0]
		batch.Queue(s.sql.insertOne, int64(r.Position), int64(r.Append), r.ID, r.Stream, int64(r.Version), r.Type, int32(r.Schema), r.RecordedAt,
			tagList(r.Tags), text(r.Meta), string(r.Data))
	} else {
		positions, appends, versions := make([]int64, n), make([]int64, n), make([]int64, n)
		ids, schemas, times := make([]uuid.UUID, n), make([]int32, n), make([]time.Time, n)
		streams, types, datas := make([]string, n), make([]string, n), make([]string, n)
		lists, metas := make([]*string, n), make([]*string, n)
		for i := range t.rows {
			r := &t.rows[i]
			positions[i], appends[i], versions[i] = int64(r.Position), int64(r.Append), int64(r.Version)
			ids[i], schemas[i], times[i] = r.ID, int32(r.Schema), r.RecordedAt
			streams[i], types[i], datas[i] = r.Stream, r.Type, string(r.Data)
			lists[i], metas[i] = tagList(r.Tags), text(r.Meta)
		}
		batch.Queue(s.sql.insertMany, positions, appends, ids, streams, versions, types, schemas, times, lists, metas, datas)
	}
	if len(tags) > 0 {
		batch.Queue(s.sql.insertTags, tagged, tags)
	}
	if s.serialized {
		batch.Queue(s.sql.setCounter, int64(t.head))
	}
}

// text returns b as a value for a column, NULL where it is empty.
func text(b []byte) *string {
	if len(b) == 0 {
		return nil
	}
	s := string(b)
	return &s
}

// tagList writes tags as a JSON array, NULL where there are none.
func tagList(tags []string) *string {
	if len(tags) == 0 {
		return nil
	}
	b, err := json.Marshal(tags)
	if err != nil {
		panic(err) // a list of valid UTF-8 has a form
	}
	list := string(b)
	return &list
}

// commit inserts the rows of a transaction and commits it, in one round trip. begun is
// called when its bytes are copied, before anything is sent.
func (s *Store) commit(ctx context.Context, c *pgx.Conn, t *transaction, begun func()) error {
	batch := &pgx.Batch{}
	s.queueRows(batch, t)
	batch.Queue(sqlCommit)
	begun()
	s.at("commit")
	results := c.SendBatch(ctx, batch)
	for range batch.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			return doubtful(err)
		}
	}
	tag, err := results.Exec()
	// Once this is said it is committed, whatever becomes of the connection.
	if err == nil && tag.String() == "COMMIT" {
		_ = results.Close()
		for i := range t.rows {
			s.memo.keep(t.rows[i].Stream, t.rows[i].Version)
		}
		s.tell()
		return nil
	}
	_ = results.Close()
	if err == nil {
		return fmt.Errorf("the server answers COMMIT with %s", tag)
	}
	return doubtful(err)
}

// doubtful marks an error of a batch that ends with a commit as one that leaves open
// what happened, unless the server itself said that a statement failed.
func doubtful(err error) error {
	var told *pgconn.PgError
	if errors.As(err, &told) && told.SeverityUnlocalized == "ERROR" {
		return err
	}
	return uncertain{err}
}

// run takes the results of n statements.
func run(results pgx.BatchResults, n int) error {
	for range n {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			return err
		}
	}
	return results.Close()
}

// rollbackWait is how long a connection is given to roll back; then it is closed.
const rollbackWait = time.Second

// release gives a connection back, out of any transaction, or closes it.
func release(c *pgxpool.Conn) {
	if conn := c.Conn(); !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), rollbackWait)
		_, _ = conn.Exec(ctx, sqlRollback) // the pool closes what is in a transaction still
		cancel()
	}
	c.Release()
}

// alone appends in a transaction of its own. Where somebody else has one of its streams
// it waits, once there is a connection to spare for that. doubt says that an earlier
// attempt may have been committed. bound is the call's context, ctx the caller's, by
// which alone a commit can be given up.
func (s *Store) alone(bound, ctx context.Context, a *appending, doubt bool) error {
	held := false
	for failures := 1; ; failures++ {
		var err error
		if a.patient && !held {
			select {
			case s.queue.patient <- struct{}{}:
				defer func() { <-s.queue.patient }()
				held = true
			case <-bound.Done():
				err = ended(bound)
			}
		}
		if err == nil {
			err = s.once(bound, ctx, a)
		}
		var unknown uncertain
		var told *eventstore.AppendError
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errApart):
			a.patient = true
			continue
		case errors.As(err, &told):
			// It was looked up, and what the caller's part says is not tried again.
			if over := ended(bound); over != nil && !errors.Is(err, over) {
				err = errors.Join(over, err)
			}
			return err
		case errors.As(err, &unknown):
			doubt, a.careful = true, true
		case code(err) == codeUnique && !a.careful:
			a.careful = true // the log has one of its IDs
			continue
		case code(err) == codeUnique, passing(err):
			// A resend whose first attempt ends only now; or what passes.
		default:
			var conflict *eventstore.ConflictError
			if over := ended(bound); over != nil {
				err = over
			} else if errors.As(err, &conflict) {
				doubt = false // it was looked up
			}
			if doubt {
				err = uncertain{err}
			}
			return err
		}
		over := ended(bound)
		if over == nil && s.again(bound, failures) {
			continue
		}
		if over = ended(bound); over != nil {
			err = errors.Join(over, err)
		}
		if doubt {
			err = uncertain{err}
		}
		return err
	}
}

// once is one attempt of an append alone.
func (s *Store) once(bound, ctx context.Context, a *appending) error {
	c, err := s.pool.Acquire(bound)
	if err != nil {
		return err
	}
	defer release(c)
	if a.also != nil {
		return s.onceWith(bound, ctx, c.Conn(), a)
	}
	t, err := s.reserve(bound, c.Conn(), true, []*appending{a}, a.patient)
	if err != nil {
		return err
	}
	if err := s.judge(bound, c.Conn(), t, []*appending{a}); err != nil {
		return err // as in within
	}
	if len(t.rows) == 0 {
		return a.refused
	}
	return s.commit(ctx, c.Conn(), t, func() {})
}

// onceWith is once with the caller's own part.
func (s *Store) onceWith(bound, ctx context.Context, c *pgx.Conn, a *appending) error {
	tx, err := c.BeginTx(bound, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return err
	}
	if err := s.within(bound, tx, a); err != nil || a.done {
		return err
	}
	if err := a.also(bound, guest{tx}, slices.Clone(a.records)); err != nil {
		if passing(err) {
			return err
		}
		return eventstore.NotApplied(err)
	}
	switch c.PgConn().TxStatus() {
	case 'T':
	case 'I':
		return eventstore.OutcomeUnknown(errors.New("what was to be committed with the append ended the transaction by itself"))
	default:
		return eventstore.NotApplied(errors.New("a statement of what was to be committed with the append failed, and its error was not returned"))
	}
	s.at("commit")
	tag, err := c.Exec(ctx, sqlCommit)
	switch {
	case err != nil:
		return doubtful(err)
	case tag.String() != "COMMIT":
		return fmt.Errorf("the server answers COMMIT with %s", tag)
	}
	for i := range a.records {
		s.memo.keep(a.records[i].Stream, a.records[i].Version)
	}
	s.tell()
	return nil
}

// guest is a transaction that somebody else ends.
type guest struct{ pgx.Tx }

var errGuest = errors.New("the transaction is ended by AppendWith: return nil to commit it, and an error to roll it back")

func (guest) Commit(context.Context) error   { return errGuest }
func (guest) Rollback(context.Context) error { return errGuest }

// The transaction is begun at the level it needs, whatever the session has.
const (
	sqlBegin    = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
	sqlCommit   = "COMMIT"
	sqlRollback = "ROLLBACK"
)
