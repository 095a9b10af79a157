package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollforward/rollforward/eventstore"
)

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
		s.committed(t.rows)
		return nil
	}
	_ = results.Close()
	if err == nil {
		return fmt.Errorf("the server answers COMMIT with %s", tag)
	}
	return doubtful(err)
}

// committed remembers and tells what was just recorded.
func (s *Store) committed(records []eventstore.Recorded) {
	for i := range records {
		s.memo.keep(records[i].Stream, records[i].Version)
	}
	s.tell()
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
	s.committed(a.records)
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
