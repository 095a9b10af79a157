package storetest

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

var readClauses = []clause{
	{says: "the zero query reads the whole log in position order", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		require.Empty(t, s.read(t, store, eventstore.Query{}))
		all := s.population(t, store)
		same(t, all, s.read(t, store, eventstore.Query{}), "log")
	}},
	{says: "a query selects what matches all of its fields, and nothing else", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		all := s.population(t, store)
		for _, q := range queries() {
			same(t, matching(all, q), s.read(t, store, q), fmt.Sprintf("%+v", q))
		}
	}},
	{says: "a query for payloads alone selects the same events, which may lack tags, metadata, append and time and nothing else", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		all := s.population(t, store)
		for i, q := range queries() {
			if i%5 > 0 && q.After == 0 {
				continue
			}
			q.PayloadsOnly = true
			want, got := matching(all, q), s.read(t, store, q)
			require.Equal(t, len(want), len(got), "number of records of %+v", q)
			for k := range got {
				if len(got[k].Tags) == 0 {
					got[k].Tags = want[k].Tags
				}
				if len(got[k].Meta) == 0 {
					got[k].Meta = want[k].Meta
				}
				if got[k].Append == 0 {
					got[k].Append = want[k].Append
				}
				if got[k].RecordedAt.IsZero() {
					got[k].RecordedAt = want[k].RecordedAt
				}
			}
			same(t, want, got, fmt.Sprintf("%+v", q))
		}
	}},
	{says: "bytes that are lent are right until the next event is asked for", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		all := s.population(t, store)
		for i, q := range queries() {
			if i%5 > 0 && q.After == 0 {
				continue
			}
			q.Lend = true
			want, n := matching(all, q), 0
			for r, err := range store.Read(s.context(t), q) {
				require.NoError(t, err)
				require.Less(t, n, len(want), "%+v", q)
				require.Empty(t, difference(want[n], r), "record %d of %+v", n, q)
				n++
			}
			require.Len(t, want, n, "number of records of %+v", q)
		}
	}},
	{says: "a prefix is literal", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		var all []eventstore.Recorded
		for _, stream := range []string{"ab-1", "a_-1", "a%-1", "AB-1", "ab", "a", "b", "a\U0010ffff", "a\U0010ffffx", "b0", "é", "z*-1", "zz"} {
			all = append(all, s.add(t, store, events(stream))...)
		}
		for _, prefix := range []string{"a", "ab", "ab-", "a_", "a%", "%", "_", "*", "z*", "a\U0010ffff", "\U0010ffff", "é", "A", "ab-1", "ab-1x"} {
			q := eventstore.Query{Prefix: prefix}
			same(t, matching(all, q), s.read(t, store, q), fmt.Sprintf("%+v", q))
		}
	}},
	{says: "pages of any size join without loss or overlap, for every query", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		all := s.population(t, store)
		for i, q := range queries() {
			if i%3 > 0 && q.After == 0 {
				continue // the rest tell nothing new
			}
			q.Limit = 0
			want := matching(all, q)
			for _, size := range []int{1, 4} {
				var got []eventstore.Recorded
				page := q
				page.Limit = size
				for {
					records := s.read(t, store, page)
					require.LessOrEqual(t, len(records), size, "%+v", page)
					got = append(got, records...)
					if len(records) < size || len(got) > len(want) {
						break
					}
					page.After = records[len(records)-1].Position
				}
				same(t, want, got, fmt.Sprintf("pages of %d of %+v", size, q))
			}
		}
	}},
	{says: "long results and large payloads are read whole", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		const many = 1500
		for range many / 500 {
			es := make([]eventstore.Event, 500)
			for i := range es {
				es[i] = event("many")
			}
			s.add(t, store, es)
		}
		large := append(append([]byte(`"`), bytes.Repeat([]byte("x"), eventstore.MaxData-2)...), '"')
		for range 5 {
			e := event("large")
			e.Data = large
			s.add(t, store, []eventstore.Event{e})
		}
		require.Len(t, s.read(t, store, eventstore.Query{Streams: []string{"many"}}), many)
		require.Len(t, s.read(t, store, eventstore.Query{Prefix: "m"}), many)
		records := s.read(t, store, eventstore.Query{})
		require.Len(t, records, many+5)
		require.Equal(t, large, records[len(records)-1].Data)
	}},
	{says: "a read ends at the head at the time of the call", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("a", "a", "a"))
		for _, q := range []eventstore.Query{{}, {Streams: []string{"a"}}, {Types: []string{"thing.happened"}}} {
			want := len(s.read(t, store, q))
			seen := 0
			for _, err := range store.Read(s.context(t), q) {
				require.NoError(t, err)
				if seen++; seen == 1 {
					s.add(t, store, events("a"))
				}
				require.LessOrEqual(t, seen, want, "%+v", q)
			}
			require.Equal(t, want, seen, "%+v", q)
		}
	}},
	{says: "no read keeps a writer waiting while its consumer thinks", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("a", "a"))
		s.within(t, "an append in the middle of a read", func() {
			for range store.Read(s.context(t), eventstore.Query{}) {
				_, err := store.Append(s.context(t), events("a"))
				if err != nil {
					t.Errorf("append in the middle of a read: %v", err)
				}
			}
		})
	}},
	{says: "a read abandoned halfway leaves nothing behind", alone: true, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.population(t, store)
		s.read(t, store, eventstore.Query{}) // what a store keeps for the next read it may keep
		before := runtime.NumGoroutine()
		for range 200 {
			for range store.Read(context.Background(), eventstore.Query{}) {
				break
			}
		}
		require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+10 }, s.patience(), time.Millisecond,
			"goroutines after 200 abandoned reads: %d before, %d now", before, runtime.NumGoroutine())
		s.within(t, "an append after abandoned reads", func() {
			if _, err := store.Append(s.context(t), events("a")); err != nil {
				t.Errorf("append after abandoned reads: %v", err)
			}
		})
		s.within(t, "close after abandoned reads", func() { _ = store.Close() })
	}},
	{says: "a read that is ranged over again reads again", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("a"))
		seq := store.Read(s.context(t), eventstore.Query{})
		for range 2 {
			n := 0
			for range seq {
				n++
			}
			require.Equal(t, 1, n)
		}
	}},
	{says: "a read whose context has ended yields that error once, last", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.population(t, store)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		seen, errs := 0, []error(nil)
		for r, err := range store.Read(ctx, eventstore.Query{}) {
			require.Empty(t, errs, "something came after the error")
			if err != nil {
				require.Zero(t, r.Position, "the record beside an error is zero")
				errs = append(errs, err)
			}
			seen++
			cancel()
		}
		if len(errs) > 0 { // a store may deliver the page it has
			require.ErrorIs(t, errs[0], context.Canceled)
		}
		_, err := collect(ctx, store, eventstore.Query{})
		require.ErrorIs(t, err, context.Canceled)
	}},
	{says: "version says where a stream stands, 0 where there is none", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		for i := range uint64(5) {
			version, err := store.Version(s.context(t), "a")
			require.NoError(t, err)
			require.Equal(t, i, version)
			s.add(t, store, events("a"), eventstore.At("a", version))
			s.add(t, store, events("b"))
		}
		_, err := store.Version(s.context(t), "")
		require.ErrorIs(t, err, eventstore.ErrInvalid)
	}},
	{says: "head is the position of the last event, 0 of an empty log", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		head, err := store.Head(s.context(t))
		require.NoError(t, err)
		require.Zero(t, head)
		for range 3 {
			records := s.add(t, store, events("a", "a"))
			head, err := store.Head(s.context(t))
			require.NoError(t, err)
			require.Equal(t, records[1].Position, head)
		}
		_, err = store.Append(s.context(t), events("a"), eventstore.At("a", 99))
		require.Error(t, err)
		after, err := store.Head(s.context(t))
		require.NoError(t, err)
		require.Len(t, s.read(t, store, eventstore.Query{After: after - 1}), 1, "head is not the position of an event")
	}},
	{says: "reading or waiting after a position the log has never reached is a rewound log", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		records := s.add(t, store, events("a", "a"))
		head := records[1].Position
		require.Empty(t, s.read(t, store, eventstore.Query{After: head}))
		for _, beyond := range []eventstore.Position{head + 1_000_000, 1 << 62, 1<<64 - 1} {
			for _, q := range []eventstore.Query{{After: beyond}, {After: beyond, Streams: []string{"a"}}, {After: beyond, Limit: 1}} {
				_, err := collect(s.context(t), store, q)
				require.ErrorIs(t, err, eventstore.ErrRewound, "%+v", q)
			}
			require.ErrorIs(t, store.Wait(s.context(t), beyond), eventstore.ErrRewound)
		}
	}},
}

// population fills a store with events of several streams, types and tags, over
// several appends, and returns them as recorded.
func (s Suite) population(t testing.TB, store eventstore.Store) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	streams := []string{"change-1", "change-2", "release-1", "ci-1", "ch"}
	for i := range 60 {
		e := event(streams[(i*i+i/5)%len(streams)])
		e.Type = []string{"raised", "approved", "closed", "raised.late"}[i%4]
		for j, tag := range []string{"red", "green", "blue"} {
			if i%(j+2) == 0 {
				e.Tags = append(e.Tags, tag)
			}
		}
		es := []eventstore.Event{e}
		if i%5 == 0 {
			more := event(e.Stream)
			more.Tags = []string{"more"}
			es = append(es, more)
		}
		all = append(all, s.add(t, store, es)...)
	}
	return all
}

// queries returns queries over a population that meet every field and pair of fields.
func queries() []eventstore.Query {
	var qs []eventstore.Query
	for _, streams := range [][]string{nil, {"change-1"}, {"release-1", "change-1", "nowhere"}, {"ci-1", "ci-1"}, {"nowhere"}} {
		for _, prefix := range []string{"", "ch", "change-", "nowhere"} {
			for _, types := range [][]string{nil, {"raised"}, {"approved", "closed"}, {"nothing"}} {
				for _, tags := range [][]string{nil, {"red"}, {"green", "red"}, {"red", "nothing"}, {"more"}} {
					qs = append(qs, eventstore.Query{Streams: streams, Prefix: prefix, Types: types, Tags: tags})
				}
			}
		}
	}
	for _, after := range []eventstore.Position{1, 2, 30} {
		qs = append(qs,
			eventstore.Query{After: after},
			eventstore.Query{After: after, Streams: []string{"change-1", "ch"}},
			eventstore.Query{After: after, Prefix: "c"},
			eventstore.Query{After: after, Types: []string{"raised", "closed"}},
			eventstore.Query{After: after, Tags: []string{"red"}, Limit: 4},
		)
	}
	return qs
}

// matching is what a query selects, in the plainest way.
func matching(all []eventstore.Recorded, q eventstore.Query) []eventstore.Recorded {
	var records []eventstore.Recorded
	for _, r := range all {
		if q.Match(r) && (q.Limit == 0 || len(records) < q.Limit) {
			records = append(records, r)
		}
	}
	return records
}
