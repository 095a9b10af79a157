package command

import (
	"context"
	"log/slog"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// MaxKey is the limit of an idempotency key, in bytes.
const MaxKey = 128

// Config is what a door stands on. Store, Registry and Authorizer are required.
type Config struct {
	Store             eventstore.Store
	Registry          *eventstore.Registry // with Types of this package among its types
	Authorizer        Authorizer           // without one Open fails: name AllowAll if everybody may do everything
	Clock             func() time.Time     // default time.Now
	HookTimeout       time.Duration        // of one call of a hook; default 5 s
	RefusalsPerMinute int                  // listed for one actor and rule before they are only counted; default 10
	Logger            *slog.Logger         // told of refusals that could not be recorded (warn); default slog.Default()
}

// Door is where commands come in. Its methods may be called concurrently.
type Door struct {
	config Config
}

// Open returns a door. It does no I/O.
func Open(config Config) (*Door, error) { panic("stub") }

// Tx is a unit of work at the door.
type Tx struct {
	*eventstore.Tx
	Call Call
	Now  time.Time // by the door's clock, UTC, the same throughout one attempt
}

// Authorize asks whether the call's actor may do action on object. It returns nil or an *Error of kind Denied or Unavailable.
func (tx *Tx) Authorize(action, object string, attributes map[string][]string) error { panic("stub") }

func (d *Door) do(ctx context.Context, call Call, f func(tx *Tx) error) (Done, error) { panic("stub") }

func (d *Door) try(ctx context.Context, call Call, f func(tx *Tx) error) ([]Refusal, error) {
	panic("stub")
}

// Now returns the time by the door's clock, UTC, in whole microseconds.
func (d *Door) Now() time.Time { panic("stub") }

// Last returns the highest position that this door has recorded.
func (d *Door) Last() eventstore.Position { panic("stub") }

// Who returns who may do what r asks, if the authorizer can say so; ok is false if it cannot.
func (d *Door) Who(r Request) (people []string, ok bool) { panic("stub") }

// Hook runs a policy hook under the door's deadline.
func Hook[T any](ctx context.Context, d *Door, name string, f func(ctx context.Context) (T, error)) (T, error) {
	panic("stub")
}

// Close ends the door.
func (d *Door) Close(ctx context.Context) error { panic("stub") }

// Types returns the event types of this package.
func Types() []eventstore.EventType { panic("stub") }
