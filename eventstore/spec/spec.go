// Package spec is for tests: of what is decided (Given / When / Then for
// deciders), and of new code on old history (Replay).
//
//	spec.Given(t, registry, lending, Added{Title: "Emma"}, Lent{To: "ann"}).
//		When(Return{By: "ann"}).
//		Then(Returned{By: "ann"})
//
// Every payload goes through the registry and back, as in a store: one that is
// not registered, or that comes back as another, fails the test. Decide runs
// several times, must decide the same and leave the state as it was. A failure
// ends the test, and says what to do.
//
// A history comes from production by package archive, as a .jsonl file, or is
// written by hand into a .txtar file; see [Replay] for its form. It is read
// strictly, and every event decoded, so that code which cannot read what was
// once recorded fails at once. Then ask it at any point:
//
//	h := spec.Replay(t, "testdata/library.txtar", registry)
//	require.Equal(t, "ann", spec.State(h.ToVersion("book-42", 2), lending, "book-42").LentTo)
//	spec.From(h.Before("book.returned"), lending, "book-42").When(Return{By: "bob"}).ThenError(ErrNotYours)
//	spec.CheckStates(h, lending, "book-") // against golden states in the file
//
// Replaying the same events always gives the same state, or the test fails.
package spec

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

// Scenario is one decider on its way through events and commands. Make one with
// [Given] or [From]. Each When is followed by what it is to lead to, and a
// further When decides on the state after that.
type Scenario[S, C any] struct {
	t        testing.TB
	registry *eventstore.Registry
	decider  eventstore.Decider[S, C]

	events  []eventstore.Event // so far, as a store would hold them
	command string             // the last one, for messages; empty where it has been judged
	decided []eventstore.Event // by it
	err     error              // with which it was refused
}

// Given begins a scenario in the state after events with these payloads, in
// this order; none is the zero S.
func Given[S, C any](t testing.TB, registry *eventstore.Registry, d eventstore.Decider[S, C], payloads ...any) *Scenario[S, C] {
	t.Helper()
	s := begin(t, registry, d)
	s.events = s.record("Given", payloads)
	return s
}

// From begins a scenario in the state of a stream of h, at h's point.
func From[S, C any](h *History, d eventstore.Decider[S, C], stream string) *Scenario[S, C] {
	h.t.Helper()
	s := begin(h.t, h.registry, d)
	for _, r := range h.stream(stream) {
		s.events = append(s.events, r.Event)
	}
	return s
}

func begin[S, C any](t testing.TB, registry *eventstore.Registry, d eventstore.Decider[S, C]) *Scenario[S, C] {
	s := &Scenario[S, C]{t: t, registry: registry, decider: d}
	t.Cleanup(func() {
		if s.command != "" && !t.Failed() {
			t.Errorf("When(%s) proves nothing: say what it leads to by Then, ThenNothing, ThenError, ThenErrorAs or ThenState", s.command)
		}
	})
	return s
}

// runs is how often a command is decided. Two would find a clock; to find the
// order of a map with two keys takes a few more.
const runs = 8

// When decides command in the state so far.
func (s *Scenario[S, C]) When(command C) *Scenario[S, C] {
	s.t.Helper()
	if s.command != "" {
		s.t.Fatalf("When(%s) is followed by another When: say first what it leads to, by Then, ThenNothing, ThenError, ThenErrorAs or ThenState", s.command)
	}
	s.command = fmt.Sprintf("%T%+v", command, command)
	state, witness := s.fold(), s.fold()
	for run := range runs {
		payloads, err := s.decider.Decide(state, command)
		if !same(witness, state) {
			differ(s.t, witness, state, "When(%s): Decide changed the state it was given: only Evolve may return another one", s.command)
		}
		if err != nil {
			payloads = nil // as a unit of work leaves them
		}
		decided := s.record(fmt.Sprintf("When(%s)", s.command), payloads)
		if run > 0 {
			if was, is := fmt.Sprint(s.err), fmt.Sprint(err); was != is {
				s.t.Fatalf("When(%s): Decide is not deterministic: it returned error %q and then, in the same state, %q: %s", s.command, was, is, purity)
			}
			s.compare(s.decided, decided, "When(%s): Decide is not deterministic: in the same state it decided at first what is expected below, and then what is actual: %s", s.command, purity)
		}
		s.decided, s.err = decided, err
	}
	s.events = append(s.events[:len(s.events):len(s.events)], s.decided...)
	return s
}

const purity = "it may use no clock, no random source and no order of a map; put these into the command"

// Then says that the command led to events with exactly these payloads.
func (s *Scenario[S, C]) Then(payloads ...any) *Scenario[S, C] {
	s.t.Helper()
	command := s.accepted("Then")
	s.compare(s.record("Then", payloads), s.decided, "When(%s) led to other events", command)
	return s
}

// ThenNothing says that the command was accepted and there was nothing to do.
func (s *Scenario[S, C]) ThenNothing() *Scenario[S, C] {
	s.t.Helper()
	return s.Then()
}

// ThenError says that the command was refused with an error that is target, in
// the sense of errors.Is. The state is as it was before.
func (s *Scenario[S, C]) ThenError(target error) *Scenario[S, C] {
	s.t.Helper()
	command := s.refused("ThenError")
	require.ErrorIs(s.t, s.err, target, "When(%s) was refused otherwise", command)
	return s
}

// ThenErrorAs says that the command was refused with an error that fits target,
// in the sense of errors.As, and sets target to it.
func (s *Scenario[S, C]) ThenErrorAs(target any) *Scenario[S, C] {
	s.t.Helper()
	command := s.refused("ThenErrorAs")
	require.ErrorAs(s.t, s.err, target, "When(%s) was refused otherwise", command)
	return s
}

// ThenState says what the state is now. Times are compared as instants, types
// with an Equal method by it, and empty slices and maps are equal to nil.
func (s *Scenario[S, C]) ThenState(want S) *Scenario[S, C] {
	s.t.Helper()
	if got := s.State(); !same(want, got) {
		differ(s.t, want, got, "the state is another")
	}
	return s
}

// State returns the state now, folded anew.
func (s *Scenario[S, C]) State() S {
	s.t.Helper()
	if s.command != "" {
		s.accepted("State")
	}
	one, two := s.fold(), s.fold()
	if !same(one, two) {
		differ(s.t, one, two, "Evolve is not deterministic: the same events folded twice: %s", purity)
	}
	return one
}

// accepted returns the command to be judged, which must not have been refused.
func (s *Scenario[S, C]) accepted(by string) string {
	s.t.Helper()
	command := s.judge(by)
	if s.err != nil {
		s.t.Fatalf("When(%s) was refused: %v: say ThenError if it is to be", command, s.err)
	}
	return command
}

// refused returns the command to be judged, which must have been refused.
func (s *Scenario[S, C]) refused(by string) string {
	s.t.Helper()
	command := s.judge(by)
	if s.err == nil {
		s.t.Fatalf("When(%s) was not refused, it led to %s: say Then if it is to", command, show(s.decided))
	}
	return command
}

func (s *Scenario[S, C]) judge(by string) string {
	s.t.Helper()
	if s.command == "" {
		s.t.Fatalf("%s without a command: put a When before it", by)
	}
	command := s.command
	s.command = ""
	return command
}

// fold returns the state after all events, which are decoded anew so that two
// folds share nothing.
func (s *Scenario[S, C]) fold() S {
	s.t.Helper()
	var state S
	for _, e := range s.events {
		payload, err := s.registry.Decode(e)
		if err != nil {
			s.t.Fatal(err)
		}
		state = s.decider.Evolve(state, payload)
	}
	return state
}

// record turns payloads into events behind those of the scenario, and proves
// that they come back as they were.
func (s *Scenario[S, C]) record(place string, payloads []any) []eventstore.Event {
	s.t.Helper()
	var events []eventstore.Event
	for _, payload := range payloads {
		e, err := s.registry.Encode(eventID("spec", uint64(len(s.events)+len(events)+1)), payload)
		if errors.Is(err, eventstore.ErrUnknownType) {
			s.t.Fatalf("%s: %v: declare it there by eventstore.Type", place, err)
		} else if err != nil {
			s.t.Fatalf("%s: %v", place, err)
		}
		e.Stream = "spec"
		if err := eventstore.Validate([]eventstore.Event{e}, nil); err != nil {
			s.t.Fatalf("%s: no store would take a %T: %v", place, payload, err)
		}
		read, err := s.registry.Decode(e)
		if err != nil {
			s.t.Fatalf("%s: a %T cannot be read back: %v", place, payload, err)
		}
		if given := reflect.Indirect(reflect.ValueOf(payload)).Interface(); !same(given, read) {
			differ(s.t, given, read, "%s: a %T comes back from its JSON as another: export its fields, and use types whose JSON keeps them", place, payload)
		}
		events = append(events, e)
	}
	return events
}

// compare fails the test unless the events carry the same payloads and tags.
func (s *Scenario[S, C]) compare(want, got []eventstore.Event, format string, args ...any) {
	s.t.Helper()
	equal := len(want) == len(got)
	for i := 0; equal && i < len(want); i++ {
		w, err := s.registry.Decode(want[i])
		if err != nil {
			s.t.Fatal(err)
		}
		g, err := s.registry.Decode(got[i])
		if err != nil {
			s.t.Fatal(err)
		}
		equal = same(w, g) && same(want[i].Tags, got[i].Tags)
	}
	if !equal {
		differ(s.t, show(want), show(got), format, args...)
	}
}

// show returns events as people read them: a type, its tags, and JSON.
func show(events []eventstore.Event) string {
	if len(events) == 0 {
		return "no event\n"
	}
	var b bytes.Buffer
	for _, e := range events {
		fmt.Fprintf(&b, "%s", e.Type)
		for _, tag := range e.Tags {
			fmt.Fprintf(&b, " #%s", tag)
		}
		data, err := indent(e.Data)
		if err != nil {
			data = e.Data
		}
		fmt.Fprintf(&b, " %s\n", data)
	}
	return b.String()
}

// differ ends the test with the difference of two values that are not the same.
func differ(t testing.TB, want, got any, format string, args ...any) {
	t.Helper()
	require.Equal(t, want, got, append([]any{format}, args...)...)
	t.Fatalf(format+"\nwant %v\ngot  %v", append(args, want, got)...) // where they print alike
}

// ids is the name space of the IDs that this package gives to events.
var ids = uuid.NewSHA1(uuid.NameSpaceDNS, []byte("spec.rollforward"))

// eventID returns the ID of an event by its place: the same in every run and file.
func eventID(stream string, version uint64) uuid.UUID {
	return uuid.NewSHA1(ids, fmt.Appendf(nil, "%s@%d", stream, version))
}
