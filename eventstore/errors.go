package eventstore

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// How an append failed: every error of Append and Restore is exactly one of
// these. After an unknown outcome only success, a conflict or a duplicate, of the
// same events sent again, says what became of them: that the second append was
// not applied says nothing of the first.
var (
	ErrConflict       = errors.New("conflict")        // a stream stands at another version; *ConflictError
	ErrNotApplied     = errors.New("not applied")     // nothing was recorded
	ErrOutcomeUnknown = errors.New("outcome unknown") // recorded or not: append the same events again
)

// What was wrong. Those of an append come wrapped in one of the three above.
var (
	ErrInvalid      = errors.New("invalid input")                     // *InputError; refused before any I/O
	ErrTooLarge     = errors.New("too large")                         // *InputError; refused before any I/O
	ErrDuplicate    = errors.New("duplicate event ID")                // *DuplicateError
	ErrStorageFull  = errors.New("storage full")                      // make space and try again
	ErrReadOnly     = errors.New("store is read only")                //
	ErrClosed       = errors.New("store is closed")                   //
	ErrRewound      = errors.New("log rewound")                       // the log ends before a position it once gave out: an older copy was restored
	ErrDamaged      = errors.New("storage damaged")                   // what is stored is not what a store writes
	ErrNewerFormat  = errors.New("storage has a newer format")        // written by a newer version of this library
	ErrUnknownType  = errors.New("unknown event type")                // *DecodeError, or a payload that is not registered
	ErrFutureSchema = errors.New("payload schema is from the future") // *DecodeError; upgrade the reader
	ErrMalformed    = errors.New("malformed payload")                 // *DecodeError
	ErrErased       = errors.New("sealed field erased")               // from a Sealer whose key is gone
)

// AppendError says that an append failed, how, and why. Both halves answer to
// errors.Is and errors.As.
type AppendError struct {
	Outcome error // ErrNotApplied or ErrOutcomeUnknown
	Cause   error
}

func (e *AppendError) Error() string   { return fmt.Sprintf("append: %v: %v", e.Outcome, e.Cause) }
func (e *AppendError) Unwrap() []error { return []error{e.Outcome, e.Cause} }

// NotApplied returns err as the failure of an append that recorded nothing.
func NotApplied(err error) error { return &AppendError{ErrNotApplied, err} }

// OutcomeUnknown returns err as the failure of an append that may have been recorded.
func OutcomeUnknown(err error) error { return &AppendError{ErrOutcomeUnknown, err} }

// ConflictError says that a stream stands at another version than expected.
type ConflictError struct {
	Stream string // empty where the log as a whole was expected elsewhere (Restorer)
	Want   uint64 // the version, or position, expected
	Actual uint64 // where it stands
}

func (e *ConflictError) Error() string {
	if e.Stream == "" {
		return fmt.Sprintf("conflict: the log's head is %d, not %d: another writer was faster", e.Actual, e.Want)
	}
	return fmt.Sprintf("conflict: stream %q stands at version %d, not %d: read it again and decide anew", e.Stream, e.Actual, e.Want)
}

func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// DuplicateError says that an event ID is taken and that the append is not a
// resend of the one that took it.
type DuplicateError struct {
	ID     uuid.UUID
	Stream string // of the event recorded under ID
	Reason string // what differs
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("duplicate event ID %s, recorded in stream %q: %s: give new events new IDs", e.ID, e.Stream, e.Reason)
}

func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

// InputError says which part of an append or a query is outside the limits. It
// is ErrTooLarge where a size is exceeded and ErrInvalid otherwise.
type InputError struct {
	Field string // "events[3].stream"
	Rule  string // what holds for it
	Size  int    // where a size is exceeded: what it is, in the unit of Limit
	Limit int    // where a size is exceeded: what it may be at most
}

func (e *InputError) Error() string {
	if e.Limit > 0 {
		return fmt.Sprintf("%s is too large: %d of at most %d %s", e.Field, e.Size, e.Limit, e.Rule)
	}
	return fmt.Sprintf("%s is invalid: %s", e.Field, e.Rule)
}

func (e *InputError) Is(target error) bool {
	if e.Limit > 0 {
		return target == ErrTooLarge
	}
	return target == ErrInvalid
}

// DecodeError says which event's payload could not be decoded. Cause wraps
// ErrUnknownType, ErrFutureSchema, ErrMalformed or ErrErased.
type DecodeError struct {
	ID     uuid.UUID
	Stream string
	Type   string
	Schema int
	Cause  error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode event %s of stream %q (%s, schema %d): %v", e.ID, e.Stream, e.Type, e.Schema, e.Cause)
}

func (e *DecodeError) Unwrap() error { return e.Cause }
