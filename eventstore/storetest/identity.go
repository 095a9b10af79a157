package storetest

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

var identityClauses = []clause{
	{says: "the same events again succeed and return the original records", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		es := events("a", "a", "a")
		original := s.add(t, store, es)
		s.add(t, store, events("b"))
		for range 2 {
			same(t, original, s.add(t, store, es), "records of a resend")
		}
		require.Len(t, s.read(t, store, eventstore.Query{}), 4)
	}},
	{says: "IDs are looked up before expectations", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		es := events("a")
		original := s.add(t, store, es, eventstore.At("a", 0))
		s.add(t, store, events("a"))
		same(t, original, s.add(t, store, es, eventstore.At("a", 0)), "records of a resend")
		_, err := store.Append(s.context(t), changed(es, func(e *eventstore.Event) { e.Data = []byte(`{}`) }), eventstore.At("a", 9))
		refused(t, err, eventstore.ErrDuplicate)
	}},
	{says: "some of the events of one append succeed again, in any order", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		es := events("a", "a", "a")
		original := s.add(t, store, es)
		same(t, original[1:], s.add(t, store, es[1:]), "records of a resend")
		slices.Reverse(es)
		slices.Reverse(original)
		same(t, original, s.add(t, store, es), "records of a resend in another order")
		require.Len(t, s.read(t, store, eventstore.Query{}), 3)
	}},
	{says: "a known ID with other bytes is refused", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		e := event("a")
		e.Tags = []string{"one", "two"}
		before := s.add(t, store, []eventstore.Event{e})
		for what, change := range map[string]func(*eventstore.Event){
			"stream":       func(e *eventstore.Event) { e.Stream = "b" },
			"type":         func(e *eventstore.Event) { e.Type = "thing.other" },
			"schema":       func(e *eventstore.Event) { e.Schema = 2 },
			"data":         func(e *eventstore.Event) { e.Data = []byte(`{"n":2}`) },
			"data spacing": func(e *eventstore.Event) { e.Data = []byte(`{"n": 1}`) },
			"meta":         func(e *eventstore.Event) { e.Meta = []byte(`{"actor":"bob"}`) },
			"no meta":      func(e *eventstore.Event) { e.Meta = nil },
			"tags":         func(e *eventstore.Event) { e.Tags = []string{"one"} },
			"tag order":    func(e *eventstore.Event) { e.Tags = []string{"two", "one"} },
		} {
			_, err := store.Append(s.context(t), changed([]eventstore.Event{e}, change))
			refused(t, err, eventstore.ErrDuplicate)
			var d *eventstore.DuplicateError
			require.ErrorAs(t, err, &d, what)
			require.Equal(t, e.ID, d.ID, what)
		}
		same(t, before, s.read(t, store, eventstore.Query{}), "log")
	}},
	{says: "known and new IDs in one append are refused, and nothing is recorded", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		known := events("a")
		before := s.add(t, store, known)
		for _, es := range [][]eventstore.Event{{known[0], event("a")}, {event("a"), known[0]}} {
			_, err := store.Append(s.context(t), es)
			refused(t, err, eventstore.ErrDuplicate)
		}
		same(t, before, s.read(t, store, eventstore.Query{}), "log")
	}},
	{says: "IDs of two earlier appends in one append are refused", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		first, second := events("a"), events("a")
		s.add(t, store, first)
		s.add(t, store, second)
		_, err := store.Append(s.context(t), append(slices.Clone(first), second...))
		refused(t, err, eventstore.ErrDuplicate)
	}},
	{says: "an ID that stands twice in one append is refused", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		e := event("a")
		_, err := store.Append(s.context(t), []eventstore.Event{e, e})
		refused(t, err, eventstore.ErrInvalid)
		require.Empty(t, s.read(t, store, eventstore.Query{}))
	}},
	{says: "the same append sent by many at once is recorded once", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		for range 5 {
			es := events("a", "a")
			results := make([][]eventstore.Recorded, 8)
			errs := make([]error, len(results))
			var wg sync.WaitGroup
			for i := range results {
				wg.Go(func() { results[i], errs[i] = store.Append(s.context(t), es) })
			}
			wg.Wait()
			for i := range results {
				require.NoError(t, errs[i])
				same(t, results[0], results[i], "records of a resend")
			}
		}
		require.Len(t, s.read(t, store, eventstore.Query{}), 10)
	}},
}

// changed returns a copy of es with the first event changed.
func changed(es []eventstore.Event, change func(*eventstore.Event)) []eventstore.Event {
	es = slices.Clone(es)
	change(&es[0])
	return es
}
