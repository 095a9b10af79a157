package eventstore

import "fmt"

// Decider is the pure core of an aggregate with state S and commands C. Its two
// functions do no I/O, read no clock and draw nothing at random. The zero S is
// the state before the first event. C may be an interface, any included.
type Decider[S, C any] struct {
	// Decide returns the payloads of the events that command causes in state,
	// none if there is nothing to do, or the error that refuses it.
	Decide func(state S, command C) ([]any, error)
	// Evolve returns state after an event. Its payload is a value of the struct
	// that is registered for it. Evolve never refuses; what it does not know it
	// leaves out.
	Evolve func(state S, payload any) S
}

// Load folds stream into a state and pins the version it read. What this unit
// of work has recorded in the stream is folded in too. A stream that does not
// exist is the zero S at version 0. It costs one read and decode of the stream,
// once for all loads of a unit of work with the same S.
func (d Decider[S, C]) Load(tx *Tx, stream string) (S, error) {
	key := loadKey[S]{}
	p := tx.streams[stream]
	if p != nil {
		if l, ok := p.loaded[key].(*loaded[S]); ok {
			return l.fold(d.Evolve, p.pending), nil
		}
	}
	var state S
	version := uint64(0)
	for r, err := range tx.store.Read(tx.ctx, Query{Streams: []string{stream}}) {
		if err != nil {
			return *new(S), fmt.Errorf("load %q: %w", stream, err)
		}
		if p != nil && r.Version > p.version {
			break // the state at the version that is pinned already
		}
		payload, err := tx.registry.Decode(r.Event)
		if err != nil {
			return *new(S), fmt.Errorf("load %q: %w", stream, err)
		}
		state, version = d.Evolve(state, payload), r.Version
	}
	if p == nil {
		p = tx.pin(stream, version)
	} else if version != p.version {
		return *new(S), &ConflictError{Stream: stream, Want: p.version, Actual: version}
	}
	l := &loaded[S]{state: state}
	p.loaded[key] = l
	return l.fold(d.Evolve, p.pending), nil
}

type loadKey[S any] struct{}

// loaded is the state of a stream within a unit of work.
type loaded[S any] struct {
	state   S
	pending int // how many of the unit's own events are folded in
}

func (l *loaded[S]) fold(evolve func(S, any) S, pending []any) S {
	for ; l.pending < len(pending); l.pending++ {
		l.state = evolve(l.state, pending[l.pending])
	}
	return l.state
}

// Do loads stream, decides command on its state, records the events and returns
// the state after them. The error of d.Decide is returned as it is.
func (d Decider[S, C]) Do(tx *Tx, stream string, command C) (S, error) {
	state, err := d.Load(tx, stream)
	if err != nil {
		return state, err
	}
	payloads, err := d.Decide(state, command)
	if err != nil {
		return state, err
	}
	if err := tx.Record(stream, payloads...); err != nil {
		return state, err
	}
	return d.Load(tx, stream)
}
