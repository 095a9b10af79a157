package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// Config is what a door stands on. Store, Registry and Authorizer are required.
type Config struct {
	Store             eventstore.Store
	Registry          *eventstore.Registry        // with Types of this package among its types
	Authorizer        Authorizer                  // without one Open fails: name AllowAll if everybody may do everything
	Clock             func() time.Time            // default time.Now
	Backdating        bool                        // calls may say when they happened, see Call.OccurredAt: for programs that bring history in
	HookTimeout       time.Duration               // of one call of a hook; default 5 s
	RefusalsPerMinute int                         // listed for one actor and rule before they are only counted; default 10
	Recorded          func([]eventstore.Recorded) // told of every append of the door, such as a follower's Offer; default nobody
	Observer          Observer                    // told of commands and appends, such as telemetry; default nobody, at no cost
	Logger            *slog.Logger                // told of hooks that panicked (error) and of refusals that could not be recorded (warn); default slog.Default()
}

// Door is where commands come in. Its methods may be called concurrently.
type Door struct {
	config    Config
	builtIn   bool // the authorizer is one of this package: it does no I/O and needs no deadline
	last      atomic.Uint64
	counts    counts
	refusals  refusals
	registers registers

	mu       sync.Mutex
	inside   int           // commands under way
	closed   bool          // no further ones come in
	emptied  chan struct{} // closed when the door is closed, nobody is inside and what was counted is recorded
	leftover error         // why it could not be recorded; set before emptied is closed
}

// Open returns a door. It does no I/O, and fails for a config that lacks what is
// required or has negative numbers.
func Open(config Config) (*Door, error) {
	switch {
	case config.Store == nil:
		return nil, errors.New("command: open a door: a Store is required")
	case config.Registry == nil:
		return nil, errors.New("command: open a door: a Registry is required, with command.Types() among its types")
	case config.Authorizer == nil:
		return nil, errors.New("command: open a door: an Authorizer is required: give Roles, a Policy or your own, or name AllowAll if everybody may do everything")
	case config.HookTimeout < 0 || config.RefusalsPerMinute < 0:
		return nil, errors.New("command: open a door: HookTimeout and RefusalsPerMinute are not negative; 0 is their default")
	}
	for _, payload := range []any{CommandDone{}, CommandRefused{}, RefusalsCounted{}, Delegation{}, DelegationEnded{}} {
		if _, err := config.Registry.TypeName(payload); err != nil {
			return nil, fmt.Errorf("command: open a door: give the registry command.Types(): %w", err)
		}
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.HookTimeout == 0 {
		config.HookTimeout = 5 * time.Second
	}
	if config.RefusalsPerMinute == 0 {
		config.RefusalsPerMinute = 10
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	d := &Door{config: config, emptied: make(chan struct{})}
	d.refusals.live = map[pair]*tally{}
	// By type and not by a method: a struct that embeds Roles and asks a
	// directory first would inherit the method.
	switch config.Authorizer.(type) {
	case allowAll, Roles, Policy, *Policy:
		d.builtIn = true
	}
	return d, nil
}

// Now returns the time by the door's clock, UTC, in whole microseconds.
func (d *Door) Now() time.Time { return d.config.Clock().UTC().Truncate(time.Microsecond) }

// Last returns the highest position that this door has recorded, or given again
// as the answer of a key: what a reader of one's own writes waits for.
func (d *Door) Last() eventstore.Position { return eventstore.Position(d.last.Load()) }

func (d *Door) advance(to eventstore.Position) {
	for {
		last := d.last.Load()
		if uint64(to) <= last || d.last.CompareAndSwap(last, uint64(to)) {
			return
		}
	}
}

// Close ends the door: later commands fail with an error that is
// eventstore.ErrClosed, those under way end first, and refusals that were only
// counted are recorded. It waits until ctx ends; what is then still under way
// records those counts when it leaves, and a further Close waits for it. An
// error says that ctx ended or that counts could not be recorded. The store
// stays open.
func (d *Door) Close(ctx context.Context) error {
	d.mu.Lock()
	first := !d.closed
	d.closed = true
	empty := d.inside == 0
	d.mu.Unlock()
	if first && empty {
		d.finish(ctx)
	}
	select {
	case <-d.emptied:
		return d.leftover
	default:
	}
	select {
	case <-d.emptied:
		return d.leftover
	case <-ctx.Done():
		return fmt.Errorf("close the door: commands are still under way: %w", ctx.Err())
	}
}

// enter lets one command in; it leaves by leave.
func (d *Door) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return closedError{}
	}
	d.inside++
	return nil
}

func (d *Door) leave(ctx context.Context) {
	d.mu.Lock()
	d.inside--
	last := d.closed && d.inside == 0
	d.mu.Unlock()
	if last {
		d.finish(ctx)
	}
}

// finish runs once: by Close where nobody is inside, else by who leaves last.
func (d *Door) finish(ctx context.Context) {
	d.leftover = d.flush(ctx, time.Time{})
	close(d.emptied)
}

// closedError is eventstore.ErrClosed of a door, not of its store.
type closedError struct{}

func (closedError) Error() string        { return "the door is closed" }
func (closedError) Is(target error) bool { return target == eventstore.ErrClosed }
