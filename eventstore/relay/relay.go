// Package relay brings the log to programs that act on it, by Watermill. A
// [Subscriber] is the log as a message.Subscriber; [Handlers] are typed functions
// of named handlers on a Watermill router; a [Forwarder] hands the log on to any
// message.Publisher. The log is the outbox: there is no second one.
//
//	tell := relay.Handler{Name: "tell-owners", Cases: []relay.Case{
//		relay.On(func(ctx context.Context, e change.Authorized, env relay.Envelope) error {
//			return post(ctx, env.Stream, e.By, env.Key("post")) // a key, by which the receiver knows it again
//		}),
//	}}
//	handlers, err := relay.New(relay.Config{Store: store, Registry: registry}, tell)
//	err = handlers.Run(ctx)
//
// # Consumers
//
// A subscriber with a name is a durable consumer. Several processes may run it:
// one of them holds its lease and is given the messages, the others stand by.
// Where it has come to is kept as a checkpoint of the store.
//
// Every event is delivered at least once, those of a stream in order, and with
// one worker all in the order of the log. The next message of a stream comes when
// the one before is acknowledged. Where one is refused (Nack) it is delivered again
// after a pause that grows, and its stream waits for it; with several workers other
// streams go on, and so does the checkpoint, which remembers the stream that is
// behind. After Config.Attempts, or by a person, an event is parked: a decision in
// the log ([Parked]), after which its stream waits until somebody decides that it
// is tried again ([Retried]) or left out ([Skipped]).
//
// # Effects
//
// A message may come twice: after a crash, or when a lease was lost. So effects
// carry a key. A command is given the call that [Envelope.Call] makes: its key is
// the handler's name and the event's ID, so that it is done once, and its fence is
// the lease, so that who has lost the lease without knowing it records nothing.
// What is sent elsewhere is sent at least once, with the key of [Envelope.Key].
//
// # Leases
//
// Taking a lease is an event ([Taken]) in the stream "lease-CONSUMER"; its version
// is the token that fences. The holder says that it is alive by its checkpoint;
// another takes over when that has not changed for Config.Lease by its own clock,
// or at once where the holder has let go, or where it is the same consumer that goes
// on after its store could not be reached. No clocks are compared.
//
// # Costs
//
// A delivery costs some 10 to 25 µs and 25 allocations: its message with metadata for
// any broker, a goroutine that waits for its answer, and four changes of goroutine. So
// 20,000 events that are acknowledged at once take 16 to 30 times as long as to read
// them from memory, and 3 to 9 times as long as from SQLite; several workers pay where
// a handler takes time. Nothing is read twice but of streams that are behind. What
// was read and is not done is at most about 8 MiB and twice 256 events, or 64 for each worker.
// An idle consumer looks at its lease and saves its checkpoint every third of
// Config.Lease; one that stands by looks every tenth, and at least once a second.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/rollforward/rollforward/eventstore"
)

// Config is how the log is consumed. Store is required.
type Config struct {
	// Store is the log. A durable consumer needs one that is eventstore.Checkpoints.
	Store eventstore.Store

	// Registry decodes the payloads for typed handlers; a Subscriber needs none.
	Registry *eventstore.Registry

	// Name makes the consumer durable: what was acknowledged under it does not come
	// again. A subscriber without one starts after After each time, shares nothing
	// with others, and keeps nothing. Handlers have names of their own.
	Name string

	// After is where a subscriber without a Name starts. Default 0, the beginning.
	After eventstore.Position

	// FromNow has a durable consumer that starts for the first time pass over what is
	// in the log when it subscribes. Default: it starts at the beginning.
	FromNow bool

	// Workers is how many messages are under way at once, each of another stream.
	// Default 1 for a Subscriber, which gives the order of the log, and 8 for
	// handlers and forwarders.
	Workers int

	// Attempts is how often an event is delivered before it is parked. With several
	// workers an attempt counts only where other streams go well meanwhile: an outage
	// of everything parks nothing, also one that comes and goes. Default 0, without
	// end, for a Subscriber, and 10 for handlers and forwarders; below 0 is without
	// end.
	Attempts int

	// FirstPause is the pause before an event is delivered again, LastPause the most
	// that it grows to by doubling. Defaults 100 ms and 1 min.
	FirstPause, LastPause time.Duration

	// Lease is how long a holder may be silent before another takes over. Default 15 s.
	Lease time.Duration

	// SaveEvery is how often the checkpoint is saved while events are acknowledged;
	// what was acknowledged since comes again after a crash. Default 200 ms.
	SaveEvery time.Duration

	// Grace is how long Close waits for messages that were received and are neither
	// acknowledged nor refused, before it cancels their contexts. Default 5 s; below 0
	// it does not wait.
	Grace time.Duration

	// Topics says what a topic selects. Default Topic.
	Topics func(topic string) (eventstore.Query, error)

	// Message makes the message of an event. Default Message.
	Message func(r eventstore.Recorded) (*message.Message, error)

	// Before is called before a handler is, for what has to be so first, such as folds
	// that have taken the event; its context ends with the handler's Timeout. Where it
	// fails the handler is not called: the event comes again later, and is never parked
	// for that. Default nothing. Observer is told of the calls of handlers. Default
	// nobody. A Subscriber uses neither.
	Before   func(ctx context.Context, env Envelope) error
	Observer Observer

	// Holder is written beside a lease, for people. Default host name and process.
	Holder string

	// Logger is told of deliveries that failed (warn), events that were parked and
	// consumers that stopped (error), leases taken and lost (info). Default
	// slog.Default().
	Logger *slog.Logger
}

var (
	// ErrNoCheckpoints says that a store cannot keep where a durable consumer is.
	ErrNoCheckpoints = errors.New("the store keeps no checkpoints: a consumer with a name needs eventstore.Checkpoints")

	// ErrLeaseLost says that another process has taken over a consumer.
	ErrLeaseLost = errors.New("the lease was lost")

	// ErrAtWork says that a handler did not end when it was to: it does not heed its
	// context, or waits for what waits for it.
	ErrAtWork = errors.New("a handler is still at work")
)

const maxName = 64 // bytes of a consumer's name: it is part of keys and stream names

func (c Config) withDefaults(workers, attempts int) (Config, error) {
	if c.Store == nil {
		return c, errors.New("relay: a Store is required")
	}
	if len(c.Name) > maxName {
		return c, fmt.Errorf("relay: the name of a consumer has at most %d bytes: shorten %.80q", maxName, c.Name)
	}
	if err := (eventstore.Query{Streams: []string{leasePrefix + c.Name}}).Validate(); err != nil {
		return c, fmt.Errorf("relay: the name of a consumer does not do: %w", err)
	}
	if c.Workers < 0 || c.FirstPause < 0 || c.LastPause < 0 || c.Lease < 0 || c.SaveEvery < 0 {
		return c, errors.New("relay: Workers and times are not negative; 0 is their default")
	}
	set(&c.Workers, workers)
	set(&c.Attempts, attempts)
	set(&c.FirstPause, 100*time.Millisecond)
	set(&c.LastPause, time.Minute)
	set(&c.Lease, 15*time.Second)
	set(&c.SaveEvery, 200*time.Millisecond)
	set(&c.Grace, 5*time.Second)
	if c.Topics == nil {
		c.Topics = Topic
	}
	if c.Holder == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown host"
		}
		c.Holder = fmt.Sprintf("%s, process %d", host, os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func set[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}
