package sqlite

import (
	"errors"
	"fmt"

	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

// What Open refuses besides the errors of package eventstore.
var (
	ErrForeign    = errors.New("file belongs to another application")
	ErrDurability = errors.New("durability is weaker than promised")
)

// fault is an error of the engine. Every call into it returns one, and none
// leaves the store but through explain.
type fault struct {
	code  driver.ResultCode // primary
	cause error
}

func (f *fault) Error() string { return f.cause.Error() }
func (f *fault) Unwrap() error { return f.cause }

// engine returns err as a *fault, nil as nil.
func engine(err error) error {
	if err == nil {
		return nil
	}
	return &fault{driver.ErrCode(err).ToPrimary(), err}
}

// code returns the engine's primary result code in err, ResultOK if the engine
// did not say it.
func code(err error) driver.ResultCode {
	if err == nil {
		return driver.ResultOK // nearly always, and for nothing
	}
	var f *fault
	if errors.As(err, &f) {
		return f.code
	}
	return driver.ResultOK
}

// busy reports whether err only says that another connection was in the way.
func busy(err error) bool {
	switch code(err) {
	case driver.ResultBusy, driver.ResultLocked, driver.ResultProtocol:
		return true
	}
	return false
}

// explain wraps what the engine said as an error that callers know, with what
// was being done. Errors made here pass as they are.
func (s *Store) explain(doing string, err error) error {
	var kind error
	var todo string
	switch code(err) {
	case driver.ResultOK:
		return err
	case driver.ResultFull:
		kind, todo = eventstore.ErrStorageFull, "make space and try again"
	case driver.ResultReadOnly, driver.ResultCantOpen, driver.ResultPerm:
		kind, todo = eventstore.ErrReadOnly, "the file, its directory and the files beside it must exist and be writable"
	case driver.ResultCorrupt, driver.ResultNotADB, driver.ResultFormat:
		kind, todo = eventstore.ErrDamaged, "restore the file from a backup"
	default:
		return fmt.Errorf("%s %s: %w", doing, s.path, err)
	}
	return fmt.Errorf("%s %s: %w: %s: %w", doing, s.path, kind, todo, err)
}

// damaged says that what is stored is not what a store writes.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s: restore the file from a backup", eventstore.ErrDamaged, fmt.Sprintf(format, args...))
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
	case errors.As(err, &conflict), errors.As(err, &told):
		return err
	case errors.As(err, &unknown):
		return eventstore.OutcomeUnknown(err)
	default:
		return eventstore.NotApplied(err)
	}
}
