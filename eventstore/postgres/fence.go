package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

// perNumber is how many positions a number of the sequence holds: those of the largest
// append.
const perNumber = eventstore.MaxEvents

// maxPosition is more than a log can reach.
const maxPosition = eventstore.Position(1<<63 - 1)

// firstOf returns the first position of a number.
func firstOf(number int64) eventstore.Position { return eventstore.Position(number) * perNumber }

// Fence is a transaction that has appended, or is about to, and has not ended. Who
// reads the log does not come past it. One that was prepared for a commit in two phases
// belongs to no process: it has PID 0 and no age, comes last, and stands in
// pg_prepared_xacts.
type Fence struct {
	Position eventstore.Position // where what it may still bring begins
	PID      int                 // of the server's process: pg_terminate_backend ends it
	Age      time.Duration       // of its transaction, by the server's clock
	State    string              // as in pg_stat_activity: "active", "idle in transaction"; "prepared"; empty if the role may not see it
	Client   string              // its application_name; likewise
}

// Fences returns the transactions that hold back who reads the log, the oldest first.
// One that is older than appends take is a transaction that somebody left open.
// With serialized appends nobody holds a reader back, and there are none.
func (s *Store) Fences(ctx context.Context) (fences []Fence, err error) {
	if s.serialized {
		return nil, s.persist(ctx, "fences", func(context.Context) error { return nil })
	}
	err = s.persist(ctx, "fences", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, s.sql.fences)
		if err != nil {
			return err
		}
		fences, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Fence, err error) {
			var number, micros int64
			err = row.Scan(&number, &f.PID, &micros, &f.State, &f.Client)
			f.Position, f.Age = firstOf(number+1), time.Duration(micros)*time.Microsecond
			return f, err
		})
		return err
	})
	return fences, err
}

// row reads the one row of a query.
func row(ctx context.Context, q querier, sql string, into ...any) error {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return err
	}
	_, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
		return struct{}{}, row.Scan(into...)
	})
	return err
}
