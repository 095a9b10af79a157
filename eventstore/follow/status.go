package follow

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Status is how a follower stands.
type Status struct {
	Ready    bool                // views are answered
	Closed   bool                // Close was called
	Stopped  error               // why it does not go on, a *StoppedError; nil while it follows
	Retrying error               // why it could not read and tries again; views show what was read before
	Position eventstore.Position // up to here every fold has come
	Head     eventstore.Position // of the log when it was last looked at
	Lag      uint64              // Head - Position: at most so many events are missing
	Folds    []FoldStatus        // in the order of Start

	SnapshotError error // why snapshots could not be saved the last time; nil if they could
}

// FoldStatus is how one fold stands.
type FoldStatus struct {
	Name     string
	Position eventstore.Position // of the last event it has taken or left out
	Snapshot eventstore.Position // at which it was last restored or saved; 0 if it was not
	Parked   []Parked            // events it leaves out, by recorded decision
}

// Status returns how the follower stands. It waits for nothing.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now
	now.Folds = slices.Clone(now.Folds)
	for i := range now.Folds {
		now.Folds[i].Parked = slices.Clone(now.Folds[i].Parked)
	}
	if now.Head > now.Position {
		now.Lag = uint64(now.Head - now.Position)
	}
	return now
}

// StoppedError says that the follower does not go on, and why. Cause is a
// *[PoisonError] where a fold could not take an event, which ends when the event
// is parked. Otherwise it wraps what the store or a decision in it is:
// eventstore.ErrRewound, ErrDamaged, ErrNewerFormat, ErrClosed, or an
// *eventstore.DecodeError. These end with a restart after the cause is mended.
type StoppedError struct {
	Cause error
}

func (e *StoppedError) Error() string { return "follower is stopped: " + e.Cause.Error() }
func (e *StoppedError) Unwrap() error { return e.Cause }

// PoisonError says which event a fold could not take.
type PoisonError struct {
	Fold     string
	Event    uuid.UUID
	Position eventstore.Position
	Stream   string
	Type     string
	Cause    error  // what Apply returned, or the panic
	Stack    []byte // where Apply panicked; nil if it returned an error
}

func (e *PoisonError) Error() string {
	return fmt.Sprintf("fold %q cannot take event %s (%s of stream %q, position %d): %v: correct the fold, or park the event",
		e.Fold, e.Event, e.Type, e.Stream, e.Position, e.Cause)
}

func (e *PoisonError) Unwrap() error { return e.Cause }

// closedError is eventstore.ErrClosed of a follower, not of its store.
type closedError struct{}

func (closedError) Error() string        { return "follower is closed" }
func (closedError) Is(target error) bool { return target == eventstore.ErrClosed }
