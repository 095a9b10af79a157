package relay

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

const (
	leasePrefix    = "lease-"
	decisionPrefix = "relay-"
)

func leaseStream(consumer string) string    { return leasePrefix + consumer }
func decisionStream(consumer string) string { return decisionPrefix + consumer }

// Taken is recorded in the stream "lease-CONSUMER" when a process takes over a
// durable consumer. Its version is the token by which the holder's effects are
// fenced.
type Taken struct {
	Consumer string              `json:"consumer"`
	Holder   string              `json:"holder"`
	After    eventstore.Position `json:"after,omitzero"` // the first time: up to here the consumer passes over the log
	Event    uuid.UUID           `json:"event,omitzero"` // at that position
}

// Parked is recorded in the stream "relay-CONSUMER" when an event is not delivered
// any more, after too many attempts or because somebody decided so. What comes
// later in its stream waits behind it.
type Parked struct {
	Consumer string    `json:"consumer"`
	Event    uuid.UUID `json:"event"`
	Stream   string    `json:"stream"`
	Type     string    `json:"type"`
	Attempts int       `json:"attempts,omitzero"` // after which it was parked by the consumer itself
	Error    string    `json:"error,omitzero"`    // of the last one, at most 1 KiB of it
}

// Retried is recorded in the stream "relay-CONSUMER" when a parked event is to be
// delivered again.
type Retried struct {
	Consumer string    `json:"consumer"`
	Event    uuid.UUID `json:"event"`
}

// Skipped is recorded in the stream "relay-CONSUMER" when an event is never to be
// delivered to it. What comes later in its stream goes on.
type Skipped struct {
	Consumer string    `json:"consumer"`
	Event    uuid.UUID `json:"event"`
}

// Types returns the payloads that this package records, for a registry.
func Types() []eventstore.EventType {
	return []eventstore.EventType{
		eventstore.Type[Taken]("relay.taken", 1),
		eventstore.Type[Parked]("relay.parked", 1),
		eventstore.Type[Retried]("relay.retried", 1),
		eventstore.Type[Skipped]("relay.skipped", 1),
	}
}

// ErrNotParked says that an event is not parked for a consumer.
var ErrNotParked = errors.New("the event is not parked for this consumer")

// Park decides that a consumer is not given an event until Retry or Skip decides on,
// and that its stream waits for that; why is what stands in the way. An event that
// was delivered and acknowledged already is not affected. Park, Retry and Skip
// record within a unit of work whose Meta says who decides, and whose registry has
// [Types]; whoever calls them has authorised it. A consumer honours them within a
// second, wherever it runs. What is decided already records nothing.
func Park(tx *eventstore.Tx, consumer string, event eventstore.Event, why string) error {
	return decide(tx, consumer, Parked{Consumer: consumer, Event: event.ID, Stream: event.Stream, Type: event.Type, Error: excerpt(why)})
}

// Retry decides that a parked event is delivered again. The error is ErrNotParked
// where it is not parked.
func Retry(tx *eventstore.Tx, consumer string, event uuid.UUID) error {
	return decide(tx, consumer, Retried{Consumer: consumer, Event: event})
}

// Skip decides that a consumer is never given an event, parked or not.
func Skip(tx *eventstore.Tx, consumer string, event uuid.UUID) error {
	return decide(tx, consumer, Skipped{Consumer: consumer, Event: event})
}

func decide(tx *eventstore.Tx, consumer string, decision any) error {
	_, err := decider.Do(tx, decisionStream(consumer), decision)
	return err
}

// standing is how an event stands by the last decision on it.
type standing struct {
	Parked
	skipped bool
	retried bool // and tried again since it was parked
}

// open reports whether the event is parked.
func (s standing) open() bool { return s.Parked.Event != uuid.Nil && !s.skipped && !s.retried }

// decisions are all on the events of one consumer.
type decisions map[uuid.UUID]standing

// decider decides on decisions: its commands are the events themselves.
var decider = eventstore.Decider[decisions, any]{
	Decide: func(known decisions, command any) ([]any, error) {
		switch d := command.(type) {
		case Parked:
			if s := known[d.Event]; s.open() || s.skipped {
				return nil, nil
			}
		case Retried:
			if !known[d.Event].open() {
				return nil, fmt.Errorf("event %s of consumer %q: %w", d.Event, d.Consumer, ErrNotParked)
			}
		case Skipped:
			if known[d.Event].skipped {
				return nil, nil
			}
		}
		return []any{command}, nil
	},
	Evolve: func(known decisions, payload any) decisions {
		if known == nil {
			known = decisions{}
		}
		switch d := payload.(type) {
		case Parked:
			known[d.Event] = standing{Parked: d}
		case Retried:
			s := known[d.Event]
			s.retried = true
			known[d.Event] = s
		case Skipped:
			s := known[d.Event]
			s.skipped = true
			known[d.Event] = s
		}
		return known
	},
}

// registry has the payloads of this package.
func registry() *eventstore.Registry {
	r, err := eventstore.NewRegistry(Types()...)
	if err != nil {
		panic(err) // a name or type of this package stands twice
	}
	return r
}

// maxError bounds Parked.Error, in bytes.
const maxError = 1 << 10

// excerpt returns the beginning of a text as valid UTF-8.
func excerpt(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxError)], "")
}
