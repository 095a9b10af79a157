package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// perStream is how many events a stream gets, as a change does.
const perStream = 20

// payload is what an event's data measures, bytes.
const payload = 300

const (
	typeMoved  = "change.moved"
	typeClosed = "change.closed"
)

// moved is the payload of every event but the last of a stream.
type moved struct {
	Change string            `json:"change"`
	From   string            `json:"from"`
	To     string            `json:"to"`
	By     string            `json:"by"`
	At     time.Time         `json:"at"`
	Reason string            `json:"reason"`
	Fields map[string]string `json:"fields"`
	Count  int               `json:"count"`
}

// state is what a stream is loaded into.
type state struct {
	Phase  string
	Moves  int
	Weight int
	Closed bool
}

func (s state) after(m moved) state {
	s.Phase, s.Moves, s.Weight = m.To, s.Moves+1, s.Weight+m.Count
	return s
}

var decider = eventstore.Decider[state, any]{Evolve: func(s state, payload any) state {
	switch p := payload.(type) {
	case moved:
		s = s.after(p)
	case closed:
		s.Closed = true
	}
	return s
}}

func newRegistry() (*eventstore.Registry, error) {
	return eventstore.NewRegistry(eventstore.Type[moved](typeMoved, 1), eventstore.Type[closed](typeClosed, 1))
}

// closed is the payload of a stream's last event.
type closed moved

// work makes appends: the same ones for both sides of a pair.
type work struct {
	registry *eventstore.Registry
	slots    int // streams that are written in turn
	size     int // events an append, all of one stream
	n        int // appends made so far
	began    time.Time
}

// appended is one append that is to be made.
type appended struct {
	events []eventstore.Event
	expect eventstore.Expect
}

func newWork(slots, size int) (*work, error) {
	registry, err := newRegistry()
	return &work{registry: registry, slots: slots, size: size, began: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)}, err
}

func streamName(n int) string { return fmt.Sprintf("change-CHG-%07d", n) }

// next returns n more appends. The i-th of them all is one to stream i modulo slots;
// after 20 events a slot goes on with a new stream.
func (w *work) next(n int) ([]appended, error) {
	appends := make([]appended, n)
	for i := range appends {
		slot, turn := w.n%w.slots, w.n/w.slots
		turns := perStream / w.size
		stream, version := streamName(turn/turns*w.slots+slot), turn%turns*w.size
		w.n++
		a := appended{events: make([]eventstore.Event, w.size), expect: eventstore.At(stream, uint64(version))}
		for j := range a.events {
			e, err := w.event(stream, version+j)
			if err != nil {
				return nil, err
			}
			a.events[j] = e
		}
		appends[i] = a
	}
	return appends, nil
}

// event returns an event with 300 bytes of data and every field of metadata.
func (w *work) event(stream string, version int) (eventstore.Event, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return eventstore.Event{}, err
	}
	at := w.began.Add(time.Duration(w.n) * time.Millisecond)
	m := moved{
		Change: strings.TrimPrefix(stream, "change-"), From: "assess", To: "authorize", By: "u-7f3a", At: at, Count: 7,
		Fields: map[string]string{"window": "2026-03-07T01:00:00Z/PT1H", "group": "dba"},
	}
	data, err := w.registry.Encode(id, m)
	if err != nil {
		return eventstore.Event{}, err
	}
	m.Reason = strings.Repeat("the risk is moderate, ", payload)[:payload-len(data.Data)]
	var of any = m
	if version == perStream-1 {
		of = closed(m)
	}
	e, err := w.registry.Encode(id, of)
	if err != nil {
		return eventstore.Event{}, err
	}
	e.Stream, e.Tags = stream, []string{fmt.Sprintf("ci:db-%03d", w.n%500)}
	e.Meta, err = eventstore.Metadata{
		Actor: "u-7f3a", OnBehalfOf: "u-19c2", Reason: "the board has agreed", Command: "Move", Key: id.String(),
		Correlation: stream, Causation: id, Source: "deploy-tool", OccurredAt: at,
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}.Encode()
	return e, err
}
