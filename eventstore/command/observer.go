package command

import (
	"context"
	"errors"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// Observer is told what goes on at a door, such as telemetry. It is called in the
// goroutine of the command, concurrently for several, and neither waits nor panics.
// What is only tried it is not told of.
type Observer interface {
	// Command begins with a command, which is not checked yet, and returns the context
	// that it has from then on, and what is called once with what came of it.
	Command(ctx context.Context, call Call) (context.Context, func(Done, error))

	// Append begins with an append of what a command decided, each time that it is tried,
	// and returns the context that the store is given, and what is called once with what
	// the store returned.
	Append(ctx context.Context, call Call, events []eventstore.Event) (context.Context, func([]eventstore.Recorded, error))

	// Traceparent returns what the events that a command records in this context have as
	// their Metadata's, in the form of W3C Trace Context; empty is none.
	Traceparent(ctx context.Context) string
}

// ErrAborted is what an observer is told of a command whose unit of work panicked.
var ErrAborted = errors.New("the unit of work panicked")

// observed is through, with the observer told of it.
func (d *Door) observed(ctx context.Context, call Call, f func(tx *Tx) error) (done Done, err error) {
	ctx, ended := d.config.Observer.Command(ctx, call)
	err = ErrAborted
	defer func() { ended(done, err) }()
	return d.through(ctx, call, f)
}

// append hands events to the store, with the observer told of it.
func (w *work) append(ctx context.Context, events []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
	o := w.door.config.Observer
	if o == nil {
		return w.Store.Append(ctx, events, expect...)
	}
	ctx, ended := o.Append(ctx, w.call, events)
	records, err := w.Store.Append(ctx, events, expect...)
	ended(records, err)
	return records, err
}

// metadata is that of what a call records, in its context.
func (d *Door) metadata(ctx context.Context, call Call) eventstore.Metadata {
	at := d.Now()
	if d.config.Backdating && !call.OccurredAt.IsZero() {
		at = call.OccurredAt.UTC().Truncate(time.Microsecond)
	}
	meta := call.metadata(at)
	if d.config.Observer != nil {
		meta.Traceparent = d.config.Observer.Traceparent(ctx)
	}
	return meta
}
