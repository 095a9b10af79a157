package storetest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

var appendClauses = []clause{
	{says: "an append records its events in the order given, every byte kept", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		es := awkward()
		if s.Features.OneStream {
			for _, e := range es {
				s.add(t, store, []eventstore.Event{e})
			}
		} else {
			s.add(t, store, es)
		}
		records := s.read(t, store, eventstore.Query{})
		require.Len(t, records, len(es))
		for i, r := range records {
			require.True(t, es[i].Equal(r.Event), "event %d: want %q, got %q", i, es[i], r.Event)
		}
	}},
	{says: "an append returns the records that a read yields", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		returned := s.add(t, store, events("a", "a"))
		returned = append(returned, s.add(t, store, events("a"))...)
		same(t, returned, s.read(t, store, eventstore.Query{}), "log")
		same(t, returned, s.read(t, store, eventstore.Query{Streams: []string{"a"}}), "stream")
	}},
	{says: "versions of a stream are contiguous from 1 and rise with position", needs: streams, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("a", "b", "a", "a"))
		s.add(t, store, events("b", "a"))
		_, err := store.Append(s.context(t), events("a"), eventstore.At("a", 1)) // a refused append burns no version
		require.Error(t, err)
		s.add(t, store, events("a"))
		for _, stream := range []string{"a", "b"} {
			last := eventstore.Position(0)
			for i, r := range s.read(t, store, eventstore.Query{Streams: []string{stream}}) {
				require.EqualValues(t, i+1, r.Version, "stream %s", stream)
				require.Greater(t, r.Position, last, "stream %s", stream)
				last = r.Position
			}
		}
	}},
	{says: "positions rise through the log, from above zero", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		last := eventstore.Position(0)
		for i := range 10 {
			for _, r := range s.add(t, store, events([]string{"a", "b"}[i%2])) {
				require.Greater(t, r.Position, last)
				last = r.Position
			}
		}
	}},
	{says: "the events of one append share its first position and stand together", needs: streams, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("a", "b", "a"))
		s.add(t, store, events("b"))
		s.add(t, store, events("c", "c"))
		records := s.read(t, store, eventstore.Query{})
		for i, first := range []int{0, 0, 0, 3, 4, 4} {
			require.Equal(t, records[first].Position, records[i].Append, "record %d", i)
		}
	}},
	{says: "an append over several streams is all or nothing", needs: streams, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		before := s.add(t, store, events("a", "b"))
		_, err := store.Append(s.context(t), events("a", "c", "b"), eventstore.At("a", 1), eventstore.At("b", 7))
		conflict(t, err, "b", 7, 1)
		same(t, before, s.read(t, store, eventstore.Query{}), "log after a conflict")
		for stream, want := range map[string]uint64{"a": 1, "b": 1, "c": 0} {
			version, err := store.Version(s.context(t), stream)
			require.NoError(t, err)
			require.Equal(t, want, version, stream)
		}
	}},
	{says: "recorded times are UTC in whole microseconds", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		finer := false
		for range 5 {
			r := s.add(t, store, events("a"))[0]
			require.Equal(t, time.UTC, r.RecordedAt.Location())
			require.True(t, r.RecordedAt.Equal(r.RecordedAt.Truncate(time.Microsecond)))
			finer = finer || !r.RecordedAt.Equal(r.RecordedAt.Truncate(time.Millisecond))
			time.Sleep(1100 * time.Microsecond)
		}
		require.True(t, finer, "recorded times are cut to milliseconds or worse")
		for _, r := range s.read(t, store, eventstore.Query{}) {
			require.Equal(t, time.UTC, r.RecordedAt.Location())
		}
	}},
	{says: "names are told apart byte by byte", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		names := []string{"a", "A", "a ", " a", "ä", "a\u0308", "a_", "a%", "a*", "a.b", "a>", "a'", `a"`, "a\n", "a\\", strings.Repeat("x", 255)}
		for _, name := range names {
			e := event(name)
			e.Type, e.Tags = "type "+strings.TrimPrefix(name, strings.Repeat("x", 200)), []string{name}
			s.add(t, store, []eventstore.Event{e}, eventstore.At(name, 0))
		}
		for _, name := range names {
			typ := "type " + strings.TrimPrefix(name, strings.Repeat("x", 200))
			for what, q := range map[string]eventstore.Query{
				"stream": {Streams: []string{name}}, "type": {Types: []string{typ}}, "tag": {Tags: []string{name}},
			} {
				records := s.read(t, store, q)
				require.Len(t, records, 1, "%s %q", what, name)
				require.Equal(t, name, records[0].Stream, what)
			}
		}
	}},
	{says: "neither a caller nor a reader can change history through its slices", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		e := event("a")
		e.Tags = []string{"one", "two"}
		want := event("a")
		want.ID, want.Tags = e.ID, []string{"one", "two"}
		returned := s.add(t, store, []eventstore.Event{e})[0]
		spoil := func(e eventstore.Event) { e.Data[5], e.Meta[10], e.Tags[0] = '9', 'x', "spoilt" }
		spoil(e)
		if &e.Data[0] != &returned.Data[0] {
			spoil(returned.Event)
		}
		for range 2 {
			records := s.read(t, store, eventstore.Query{})
			require.True(t, want.Equal(records[0].Event), "%q", records[0].Event)
			spoil(records[0].Event)
		}
	}},
	{says: "an append without an expectation goes to the stream as it stands", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		for i := range 5 {
			require.EqualValues(t, i+1, s.add(t, store, events("a"))[0].Version)
		}
	}},
	{says: "an append whose context has ended is not applied", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := store.Append(ctx, events("a"))
		refused(t, err, context.Canceled)
		require.Empty(t, s.read(t, store, eventstore.Query{}))
	}},
	{says: "contexts that end at any moment leave each append whole or absent, as it was reported", needs: streams, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		for i := range 100 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*10*time.Microsecond)
			es := events("a", "b")
			_, err := store.Append(ctx, es)
			cancel()
			n := 0
			for _, r := range s.read(t, store, eventstore.Query{}) {
				if slices.ContainsFunc(es, r.Event.Equal) {
					n++
				}
			}
			switch {
			case err == nil:
				require.Equal(t, 2, n, "an acknowledged append")
			case outcome(t, err) == eventstore.ErrOutcomeUnknown:
				require.Contains(t, []int{0, 2}, n, "an append of unknown outcome")
				s.add(t, store, es)
			default:
				require.Zero(t, n, "an append reported as not applied: %v", err)
			}
		}
	}},
}

// awkward returns events whose bytes a careless store would not keep.
func awkward() []eventstore.Event {
	data := []string{
		`{"b":1,"a":2}`, " {\n\t\"spaced\" : [ 1 , 2 ]\r\n} ", `1e400`, `-0.0`, `123456789012345678901234567890.10`, `"\u0041\/\ud83d\ude00"`,
		"\"\u2028<&>'\"", `null`, `true`, `[]`, `""`, `"\u0000"`, `{"ключ":"значение 🙂"}`, strings.Repeat(" ", 300) + `{}`,
	}
	meta := []string{``, `{}`, `{"actor":"ann","unknown":{"x":[1,2]}}`, `{ "actor" : "ann" }`}
	tags := [][]string{nil, {"z", "a", "m"}, {"ci:db-01", "release:REL-000007", "ключ 🙂", "a,b", `"quoted"`, "[1]"}}
	var es []eventstore.Event
	for i, d := range data {
		e := event("awkward-" + string(rune('a'+i)))
		if i%3 == 0 {
			e.Stream = "awkward 'quoted' \"ключ\" 🙂"
		}
		e.Type, e.Schema = "thing.happened/"+string(rune('a'+i%3)), 1+i*1000
		e.Data, e.Meta, e.Tags = []byte(d), []byte(meta[i%len(meta)]), tags[i%len(tags)]
		es = append(es, e)
	}
	return es
}
