package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollforward/rollforward/eventstore"
)

// What is refused besides the errors of package eventstore.
var (
	ErrForeign     = errors.New("schema belongs to another application, or holds a store of the other form")
	ErrDurability  = errors.New("durability is weaker than promised")
	ErrUnsupported = errors.New("server is not supported")
	ErrIsolation   = errors.New("transaction is not READ COMMITTED")
)

// SQLSTATEs, of PostgreSQL and of our functions.
const (
	codeIsolation     = "RF001"
	codeUnique        = "23505"
	codeReadOnly      = "25006"
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeDiskFull      = "53100"
	codeOutOfMemory   = "53200" // of the lock table as well
	codeTooMany       = "53300"
	codeShutdown      = "57P01"
	codeCrash         = "57P02"
	codeStarting      = "57P03"
	codeIdle          = "25P03"
	codePrivilege     = "42501"
	codeNoTable       = "42P01"
	codeNoFunction    = "42883"
	codeNoSchema      = "3F000"
	codeDamagedData   = "XX001"
	codeDamagedIndex  = "XX002"
)

// code returns the server's SQLSTATE in err, or "".
func code(err error) string {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		return told.Code
	}
	return ""
}

// broken reports whether err says that the connection or the server went away, so that
// another connection may do.
func broken(err error) bool {
	switch code(err) {
	case codeShutdown, codeCrash, codeStarting, codeTooMany, codeIdle:
		return true
	case "":
	default:
		return false
	}
	var refused *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &refused) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err) || errors.Is(err, errBroken)
}

// errBroken is for connections that pgx has closed without saying why.
var errBroken = errors.New("the connection is closed")

// passing reports whether the same may succeed if it is tried again.
func passing(err error) bool {
	switch code(err) {
	case codeSerialization, codeDeadlock, codeOutOfMemory:
		return true
	}
	return broken(err)
}

// A call that fails for a reason that passes is tried so often, with pauses that double
// from firstPause to lastPause: about five seconds in all.
const (
	tries      = 13
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

// again waits before the next try, of which failures have gone before, no two
// processes alike. It returns false where there is none.
func (s *Store) again(ctx context.Context, failures int) bool {
	most := tries
	if s.hooks.patience > 0 {
		most = s.hooks.patience
	}
	if failures >= most || ctx.Err() != nil {
		return false
	}
	pause := min(lastPause, firstPause<<min(failures-1, 16))
	timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// persist calls f until it ends otherwise than by what passes. It is for what changes
// nothing, and for what changes the same if it is done twice.
func (s *Store) persist(ctx context.Context, doing string, f func(ctx context.Context) error) error {
	bound, leave, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for failures := 1; ; failures++ {
		err := f(bound)
		if err == nil {
			return nil
		}
		if over := ended(bound); over != nil {
			return over
		}
		if !passing(err) || !s.again(bound, failures) {
			return explain(doing, err)
		}
	}
}

// explain wraps what the server or the connection said as an error that callers know,
// with what was being done. Errors made here pass as they are.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	var kind error
	var todo string
	switch code(err) {
	case "":
		var refused *pgconn.ConnectError
		if !broken(err) || !errors.As(err, &refused) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
			return err
		}
		return fmt.Errorf("%s: the connection to the server broke: %w", doing, err)
	case codeDiskFull:
		kind, todo = eventstore.ErrStorageFull, "make space and try again"
	case codeReadOnly:
		kind, todo = eventstore.ErrReadOnly, "connect to the primary server"
	case codePrivilege:
		kind, todo = eventstore.ErrReadOnly, "grant the role what it lacks"
	case codeDamagedData, codeDamagedIndex:
		kind, todo = eventstore.ErrDamaged, "restore the database from a backup"
	case codeNoTable, codeNoFunction, codeNoSchema:
		kind, todo = eventstore.ErrDamaged, "part of the schema is gone: restore it from a backup"
	case codeIsolation:
		kind, todo = ErrIsolation, "begin it with pgx.TxOptions{IsoLevel: pgx.ReadCommitted}"
	case codeOutOfMemory:
		return fmt.Errorf("%s: the server is out of memory or of locks: raise max_locks_per_transaction, or append to fewer streams at once: %w", doing, err)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %s: %w", doing, kind, todo, err)
}

// damaged says that what is stored is not what a store writes.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s: restore the database from a backup", eventstore.ErrDamaged, fmt.Sprintf(format, args...))
}

// uncertain is the failure of a commit that may have happened.
type uncertain struct{ error }

func (e uncertain) Unwrap() error { return e.error }

// outcome gives the failure of an append its one outcome.
func outcome(err error) error {
	if err == nil {
		return nil
	}
	var (
		conflict *eventstore.ConflictError
		told     *eventstore.AppendError
		unknown  uncertain
	)
	switch {
	case errors.As(err, &unknown):
		return eventstore.OutcomeUnknown(explain("append", err))
	case errors.As(err, &conflict), errors.As(err, &told):
		return err
	default:
		return eventstore.NotApplied(explain("append", err))
	}
}

// noRow reports whether a query found nothing.
func noRow(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
