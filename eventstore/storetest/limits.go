package storetest

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

var limitClauses = []clause{
	{says: "what is just within the limits is recorded", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		for _, over := range []int{-1, 0} {
			for _, es := range limits(over) {
				s.add(t, store, es)
			}
		}
	}},
	{says: "what is just beyond a limit is refused as too large, and nothing is recorded", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		for what, es := range limits(1) {
			_, err := store.Append(s.context(t), es)
			refused(t, err, eventstore.ErrTooLarge)
			var input *eventstore.InputError
			require.ErrorAs(t, err, &input, what)
			require.Equal(t, input.Limit+1, input.Size, what)
		}
		expect := make([]eventstore.Expect, eventstore.MaxEvents+1)
		for i := range expect {
			expect[i] = eventstore.At(fmt.Sprintf("stream-%d", i), 0)
		}
		_, err := store.Append(s.context(t), events("a"), expect...)
		refused(t, err, eventstore.ErrTooLarge)
		require.Empty(t, s.read(t, store, eventstore.Query{}))
	}},
	{says: "malformed events are refused as invalid, and nothing is recorded", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		large := math.MaxInt32
		large++ // negative where an int has 32 bits, and refused all the same
		for what, change := range map[string]func(*eventstore.Event){
			"no ID":                   func(e *eventstore.Event) { e.ID = uuid.Nil },
			"no stream":               func(e *eventstore.Event) { e.Stream = "" },
			"NUL in the stream":       func(e *eventstore.Event) { e.Stream = "a\x00b" },
			"stream not UTF-8":        func(e *eventstore.Event) { e.Stream = "a\xff" },
			"no type":                 func(e *eventstore.Event) { e.Type = "" },
			"type not UTF-8":          func(e *eventstore.Event) { e.Type = "\xc3\x28" },
			"schema 0":                func(e *eventstore.Event) { e.Schema = 0 },
			"schema beyond 31 bits":   func(e *eventstore.Event) { e.Schema = large },
			"empty tag":               func(e *eventstore.Event) { e.Tags = []string{"x", ""} },
			"tag twice":               func(e *eventstore.Event) { e.Tags = []string{"x", "y", "x"} },
			"NUL in a tag":            func(e *eventstore.Event) { e.Tags = []string{"x\x00"} },
			"no data":                 func(e *eventstore.Event) { e.Data = nil },
			"data cut off":            func(e *eventstore.Event) { e.Data = []byte(`{"n":1`) },
			"data of two values":      func(e *eventstore.Event) { e.Data = []byte(`{} {}`) },
			"data not UTF-8":          func(e *eventstore.Event) { e.Data = []byte("\"\xff\"") },
			"data with a raw NUL":     func(e *eventstore.Event) { e.Data = []byte("\"\x00\"") },
			"data with a name twice":  func(e *eventstore.Event) { e.Data = []byte(`{"a":1,"a":2}`) },
			"data nested 10,000 deep": func(e *eventstore.Event) { e.Data = nested(10_000) },
			"data nested too deep":    func(e *eventstore.Event) { e.Data = nested(eventstore.MaxDepth + 1) },
			"meta cut off":            func(e *eventstore.Event) { e.Meta = []byte(`{"actor":`) },
			"meta not an object":      func(e *eventstore.Event) { e.Meta = []byte(`["ann"]`) },
		} {
			for _, place := range []int{0, 2} {
				es := events("a", "a", "a")
				change(&es[place])
				_, err := store.Append(s.context(t), es)
				require.Error(t, err, what)
				refused(t, err, eventstore.ErrInvalid)
				var input *eventstore.InputError
				require.ErrorAs(t, err, &input, what)
				require.Contains(t, input.Field, fmt.Sprintf("events[%d].", place), what)
			}
		}
		require.Empty(t, s.read(t, store, eventstore.Query{}))
	}},
	{says: "malformed expectations and an empty append are refused as invalid", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		for _, expect := range [][]eventstore.Expect{
			{eventstore.At("", 0)}, {eventstore.At("a\x00", 0)}, {eventstore.At("a", 0), eventstore.At("a", 0)},
		} {
			_, err := store.Append(s.context(t), events("a"), expect...)
			refused(t, err, eventstore.ErrInvalid)
		}
		_, err := store.Append(s.context(t), nil)
		refused(t, err, eventstore.ErrInvalid)
		_, err = store.Append(s.context(t), nil, eventstore.At("a", 0))
		refused(t, err, eventstore.ErrInvalid)
		require.Empty(t, s.read(t, store, eventstore.Query{}))
	}},
	{says: "malformed queries are refused with a typed error", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("a"))
		for cause, qs := range map[error][]eventstore.Query{
			eventstore.ErrInvalid: {
				{Limit: -1}, {Streams: []string{""}}, {Streams: []string{"a\x00"}}, {Types: []string{"\xff"}}, {Tags: []string{""}}, {Prefix: "\xff"},
			},
			eventstore.ErrTooLarge: {
				{Prefix: strings.Repeat("x", eventstore.MaxStream+1)}, {Streams: []string{strings.Repeat("x", eventstore.MaxStream+1)}},
				{Types: []string{strings.Repeat("x", eventstore.MaxType+1)}}, {Tags: []string{strings.Repeat("x", eventstore.MaxTag+1)}},
				{Tags: names(eventstore.MaxQuery + 1)}, {Types: names(eventstore.MaxQuery + 1)}, {Streams: names(eventstore.MaxQuery + 1)},
			},
		} {
			for _, q := range qs {
				_, err := collect(s.context(t), store, q)
				require.ErrorIs(t, err, cause, "%.100v", q)
			}
		}
		for _, q := range []eventstore.Query{
			{Streams: names(eventstore.MaxQuery)}, {Types: names(eventstore.MaxQuery)}, {Tags: names(eventstore.MaxQuery)},
			{Prefix: strings.Repeat("x", eventstore.MaxStream)},
		} {
			require.Empty(t, s.read(t, store, q))
		}
	}},
}

// limits returns appends that are over by so much of one limit each.
func limits(over int) map[string][]eventstore.Event {
	one := func(change func(*eventstore.Event)) []eventstore.Event {
		e := event("a")
		change(&e)
		return []eventstore.Event{e}
	}
	text := func(size int) []byte {
		return append(append([]byte(`"`), bytes.Repeat([]byte("x"), size-2)...), '"')
	}
	many := make([]eventstore.Event, eventstore.MaxEvents+over)
	for i := range many {
		many[i] = event("a")
	}
	heavy := events("a", "a", "a", "a", "a")
	rest := eventstore.MaxAppend + over
	for i := range heavy {
		heavy[i].Meta = nil
		rest -= len(heavy[i].Stream) + len(heavy[i].Type)
	}
	for i := range heavy {
		size := min(rest-2*(len(heavy)-1-i), eventstore.MaxData)
		heavy[i].Data = text(size)
		rest -= size
	}
	return map[string][]eventstore.Event{
		"stream": one(func(e *eventstore.Event) { e.Stream = strings.Repeat("x", eventstore.MaxStream+over) }),
		"type":   one(func(e *eventstore.Event) { e.Type = strings.Repeat("x", eventstore.MaxType+over) }),
		"tag":    one(func(e *eventstore.Event) { e.Tags = []string{strings.Repeat("x", eventstore.MaxTag+over)} }),
		"tags":   one(func(e *eventstore.Event) { e.Tags = names(eventstore.MaxTags + over) }),
		"data":   one(func(e *eventstore.Event) { e.Data = text(eventstore.MaxData + over) }),
		"meta": one(func(e *eventstore.Event) {
			e.Meta = []byte(`{"x":` + string(text(eventstore.MaxMeta+over-6)) + `}`)
		}),
		"events": many,
		"append": heavy,
	}
}

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("name-%d", i)
	}
	return out
}

func nested(depth int) []byte {
	return []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
}
