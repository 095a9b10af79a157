package command

import (
	"context"
	"errors"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// Tx is a unit of work at the door. Loads, decisions and records go through the
// [eventstore.Tx] in it, whose Meta is set from the call.
type Tx struct {
	*eventstore.Tx
	Call Call
	Now  time.Time // by the door's clock, UTC, the same throughout one attempt

	work      *work
	permitted bool // Authorize said yes in this attempt
}

// work is one run of Do or Try. It stands between the unit of work and the
// store, so that nothing is appended that the door does not let through.
type work struct {
	eventstore.Store
	door  *Door
	call  Call
	f     func(*Tx) error
	key   key // zero where the call has none, or is only tried
	tried bool

	attempts int // begun

	// Of the attempt under way.
	tx   *Tx
	done Done
	turn *register // that it has drawn a number from, until it appends
	own  int       // events of the door itself, which need nobody's permission
}

// attempt is what Update runs, again after every conflict.
func (w *work) attempt(inner *eventstore.Tx) error {
	w.pass() // the one before may have ended without an append
	w.attempts++
	meta := w.door.metadata(inner.Context(), w.call)
	tx := &Tx{Tx: inner, Call: w.call, Now: meta.OccurredAt, work: w}
	w.tx, w.done, w.own = tx, Done{}, 0
	inner.Meta = meta
	if w.key.stream != "" {
		if known, err := w.lookUp(); known || err != nil {
			return err
		}
	}
	for _, x := range w.call.Fence {
		if err := inner.Expect(x.Stream, x.Version); err != nil {
			return w.unlessOvertaken(err)
		}
	}
	if err := w.f(tx); err != nil {
		return w.unlessOvertaken(err)
	}
	w.done.Streams = inner.After()
	if w.key.stream == "" {
		return nil
	}
	inner.Meta, inner.Tags, inner.NewID = meta, nil, nil // whatever f made of them
	w.own = 1
	return inner.Record(w.key.stream, w.answer())
}

// Append lets through what was permitted, and of what is only tried nothing: it
// is held against the limits and the streams, as the store would.
func (w *work) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) (records []eventstore.Recorded, err error) {
	if len(events) > w.own && !w.tx.permitted {
		return nil, eventstore.NotApplied(Refuse(Refusal{
			Kind: Denied, Rule: "not-authorized",
			Reason: "the command records without having asked whether the actor may",
			Remedy: "have the unit of work ask Tx.Authorize",
		}))
	}
	if !w.tried {
		for _, x := range w.done.Streams {
			if r := w.turn; r != nil && r.stream == x.Stream {
				r.begin(x.Version)
				err = ErrAborted // should the store panic
				defer func() { r.end(err) }()
			}
		}
		w.pass()
		return w.append(ctx, events, expect)
	}
	if err := eventstore.Validate(events, expect); err != nil {
		return nil, err
	}
	for _, x := range expect {
		version, err := w.Store.Version(ctx, x.Stream)
		if err != nil {
			return nil, eventstore.NotApplied(err)
		}
		if version != x.Version {
			return nil, &eventstore.ConflictError{Stream: x.Stream, Want: x.Version, Actual: version}
		}
	}
	return nil, nil
}

// pass ends the turn of who has drawn a number.
func (w *work) pass() {
	if w.turn != nil {
		w.turn.pass()
		w.turn = nil
	}
}

// Head is that of the store, or what the door has recorded, where the end of the log
// that can be read lags behind that.
func (w *work) Head(ctx context.Context) (eventstore.Position, error) {
	head, err := w.Store.Head(ctx)
	return max(head, w.door.Last()), err
}

// Recall is that of the store, but for a stream that a number is drawn from; see
// eventstore.Recaller.
func (w *work) Recall(stream string) (version uint64, ok bool) {
	if w.turn != nil && w.turn.stream == stream {
		if version, ok := w.turn.expected(); ok {
			return version, true
		}
	}
	if known, can := w.Store.(eventstore.Recaller); can {
		return known.Recall(stream)
	}
	return 0, false
}

func (d *Door) do(ctx context.Context, call Call, f func(tx *Tx) error) (Done, error) {
	if d.config.Observer != nil {
		return d.observed(ctx, call, f)
	}
	return d.through(ctx, call, f)
}

// through lets a command through the door.
func (d *Door) through(ctx context.Context, call Call, f func(tx *Tx) error) (Done, error) {
	if err := d.enter(); err != nil {
		return Done{}, err
	}
	defer d.leave(ctx)
	d.counts.commands.Add(1)
	d.flushDue(ctx)
	w := &work{Store: d.config.Store, door: d, call: call, f: f}
	records, err := w.run(ctx)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return Done{}, err
		}
		e = e.completed(call, Refused)
		d.refuse(ctx, e)
		return Done{}, e
	}
	done := w.done
	if done.Repeated {
		d.counts.repeated.Add(1)
	} else if n := len(records); n > 0 {
		done.Records, done.Position = records, records[n-1].Position
		if d.config.Recorded != nil {
			d.config.Recorded(records)
		}
	}
	d.advance(done.Position)
	return done, nil
}

func (d *Door) try(ctx context.Context, call Call, f func(tx *Tx) error) ([]Refusal, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave(ctx)
	w := &work{Store: d.config.Store, door: d, call: call, f: f, tried: true}
	_, err := w.run(ctx)
	var e *Error
	if errors.As(err, &e) {
		return e.completed(call, Refused).Refusals, nil
	}
	return nil, err
}

func (w *work) run(ctx context.Context) ([]eventstore.Recorded, error) {
	defer w.pass()
	if err := w.call.check(); err != nil {
		return nil, err
	}
	if err := w.door.timely(w.call); err != nil {
		return nil, err
	}
	if w.call.Key != "" {
		key, err := w.call.key()
		if err != nil {
			return nil, err
		}
		if !w.tried {
			w.key = key
		}
	}
	for {
		records, err := eventstore.Update(ctx, w, w.door.config.Registry, w.attempt)
		if err != errOvertaken { // at most once: the next attempt finds the key known
			return records, err
		}
	}
}
