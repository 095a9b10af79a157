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
	// leaves out. It may change state in place, but not the payload, which is
	// folded again by the next Load.
	Evolve func(state S, payload any) S

	// Cache, if there is one, saves reading streams that this process knows.
	Cache *Cache[S]
}

// Load folds stream into a state and pins the version it read. What this unit
// of work has recorded in the stream is folded in too. A stream that does not
// exist is the zero S at version 0. Every Load folds anew; the first one of a
// stream in a unit of work also reads and decodes it.
func (d Decider[S, C]) Load(tx *Tx, stream string) (S, error) {
	state, err := d.recorded(tx, stream)
	if err != nil {
		return state, fmt.Errorf("load %q: %w", stream, err)
	}
	for i, e := range tx.events {
		if e.Stream == stream {
			state = d.Evolve(state, tx.payloads[i])
		}
	}
	return state, nil
}

// recorded returns the state of stream as the log has it, at the version at which
// it is pinned.
func (d Decider[S, C]) recorded(tx *Tx, stream string) (state S, err error) {
	if d.Cache != nil && !tx.anew {
		if known, version, ok := d.Cache.get(stream); ok && tx.assume(stream, version) {
			return known, nil
		}
	}
	history, err := tx.history(stream)
	if err != nil {
		return state, err
	}
	for _, payload := range history {
		state = d.Evolve(state, payload)
	}
	if d.Cache != nil && len(history) > 0 {
		d.Cache.drop(stream)
		d.Cache.put(stream, tx.streams[stream].version, state)
		state = d.Cache.copy(state)
	}
	return state, nil
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
	before := len(tx.payloads)
	if err := tx.Record(stream, payloads...); err != nil {
		return state, err
	}
	for _, payload := range tx.payloads[before:] {
		state = d.Evolve(state, payload)
	}
	if d.Cache != nil && len(payloads) > 0 {
		after, state := tx.after(stream), d.Cache.copy(state)
		tx.appended = append(tx.appended, func() { d.Cache.put(stream, after, state) })
		return d.Cache.copy(state), nil
	}
	return state, nil
}
