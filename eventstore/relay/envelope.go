package relay

import (
	"strings"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// Envelope is an event as a handler is given it.
type Envelope struct {
	eventstore.Recorded
	Metadata eventstore.Metadata
	Handler  string
	Attempt  int // from 1

	fence []eventstore.Expect
}

// Key is the idempotency key of an effect of this handler on this event, always the
// same: "HANDLER/EVENT", and behind it the part, where the event has several effects.
func (e Envelope) Key(part ...string) string {
	key := e.Handler + "/" + e.ID.String()
	if len(part) == 0 {
		return key
	}
	if long := key + "/" + strings.Join(part, "/"); len(long) <= command.MaxKey {
		return long
	}
	return e.Handler + "/" + uuid.NewSHA1(e.ID, []byte(strings.Join(part, "\x00"))).String()
}

// Call is a command's call with what the event says: the key, so that it is done
// once however often the event comes; the event as its cause, and what belongs
// together; and the lease as its fence, so that it records nothing once another
// process has taken over. Its error is then left to the consumer: return it.
func (e Envelope) Call(actor command.Actor, part ...string) command.Call {
	correlation := e.Metadata.Correlation
	if correlation == "" {
		correlation = e.ID.String()
	}
	return command.Call{Actor: actor, Key: e.Key(part...), Correlation: correlation, Causation: e.ID, Fence: e.fence}
}

// Fence is what an append of one's own has to expect beside its other conditions, so
// that it fails once another process has taken over; none where there is no lease.
func (e Envelope) Fence() []eventstore.Expect { return e.fence }
