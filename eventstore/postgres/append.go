package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

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
