// Package command is the one door through which every command passes, in every
// room: it knows who acts, asks whether he may, runs the unit of work, and
// records what was refused. In go an [Actor], a [Call] and a function that loads
// and decides; out comes what was recorded, or an [Error] that names every rule
// in the way.
//
//	door, err := command.Open(command.Config{Store: store, Registry: registry, Authorizer: command.Roles{"ann": {command.Requester}}})
//	done, err := door.Do(ctx, command.Call{Actor: command.As("ann"), Action: "book.lend", Target: "book-42", Key: "order-7"},
//		func(tx *command.Tx) error {
//			if err := tx.Authorize("book.lend", "book-42", nil); err != nil {
//				return err
//			}
//			_, err := books.Do(tx.Tx, "book-42", Lend{To: "ann"})
//			return err
//		})
//
// # What holds
//
// A unit of work that records without having been permitted by [Tx.Authorize] is
// refused: the door is closed by default. On a conflict all of it runs again:
// load, authorise, decide. Hooks run under [Hook]: one that panics, fails or
// outlives its deadline refuses the command.
//
// A command with a key is done once: the same key again, also after a restart or
// in another process, records nothing and gives the answer of the first time.
// Keys are the actor's own and do not expire. A command that was refused leaves
// its key free.
//
// Who acts on behalf of another uses that person's rights, as far and as long as
// he has delegated them; see [Door.Delegate].
//
// Denials, refusals by a rule and failures of hooks are recorded, unconditioned,
// in the month's stream "refusals-YYYY-MM"; above a number a minute for one actor
// and rule they are counted and not listed. Malformed input is counted in
// [Door.Status] only. A refusal that cannot be recorded is still a refusal.
package command

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Actor is who acts. People are named by opaque IDs, never by personal text.
type Actor struct {
	ID         string // "u-7f3a"
	OnBehalfOf string // the person whose right is used, under a delegation recorded by Door.Delegate; empty for his own
	Source     string // the program or place he acts from
}

// As returns the actor of that ID, in his own right.
func As(id string) Actor { return Actor{ID: id} }

// For returns a, acting on behalf of another person.
func (a Actor) For(person string) Actor {
	a.OnBehalfOf = person
	return a
}

// Principal returns the person whose right is used.
func (a Actor) Principal() string {
	if a.OnBehalfOf != "" {
		return a.OnBehalfOf
	}
	return a.ID
}

// Call is what is asked for, beside what the unit of work itself knows.
type Call struct {
	Actor       Actor
	Action      string    // "change.approve"
	Target      string    // what it concerns: a change's ID, a CI's; empty where it is new
	Reason      string    // in the actor's words
	Key         string    // idempotency key, at most MaxKey bytes; empty is none
	Content     any       // what is asked for, as JSON without Go's type names: a key that comes again with other content is refused
	Correlation string    // what belongs to one undertaking shares it
	Causation   uuid.UUID // ID of the event that caused the command

	// OccurredAt is when it happened, where that was not now: of history that is brought
	// in from elsewhere. Rules and delegations go by it, and so do the times that are
	// recorded, but for RecordedAt and for refusals, which are counted when they come. It
	// is no part of what a key stands for. The zero time is now; others need
	// Config.Backdating, and have passed.
	OccurredAt time.Time

	// Fence are streams that must stand at these versions, such as that of a lease:
	// otherwise nothing is recorded but the refusals, and the error is an
	// *eventstore.ConflictError, unless the key was answered already.
	Fence []eventstore.Expect
}

// Done is what came of a command.
type Done struct {
	Position eventstore.Position   // of the last event; 0 if nothing was to be recorded
	Streams  []eventstore.Expect   // what it decided on and wrote, each at the version where it then stood
	Records  []eventstore.Recorded // the CommandDone of a key last; nil where Repeated
	Repeated bool                  // answered from what the key's first command recorded
}

// Do runs one unit of work at the door. f loads what it needs, asks
// [Tx.Authorize], decides and records through tx; it may run more than once, so
// it has no effects of its own. An error of f that is an *[Error] is completed
// with the call, and with [Refused] where a refusal has no kind, and recorded
// among the refusals; others are returned as they are.
//
// What may come of it besides are the errors of eventstore.Update. After
// eventstore.ErrOutcomeUnknown a command with a key can be given again.
//
// It costs a bare Update and the work of the authorizer; a key costs a look at
// the version of its stream and one event more.
func (d *Door) Do(ctx context.Context, call Call, f func(tx *Tx) error) (Done, error) {
	return d.do(ctx, call, f)
}

// Try runs f as Do does and records nothing: neither what it decided nor what it
// was refused. It returns the rules in the way, none if Do would succeed now; an
// error says that it could not be found out, as where Do would return one that is
// no *[Error]. The key is not looked up: a command that was done is judged anew.
// It costs what f reads, and a look at the version of every stream it pinned.
func (d *Door) Try(ctx context.Context, call Call, f func(tx *Tx) error) ([]Refusal, error) {
	return d.try(ctx, call, f)
}
