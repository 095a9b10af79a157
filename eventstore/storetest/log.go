package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

// What holds while many write: readers of the log run beside the writers.
var logClauses = []clause{
	{says: "reads of the log form a stable prefix", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		var prefix []eventstore.Recorded
		s.underLoad(t, store, func() {
			records, err := collect(s.context(t), store, eventstore.Query{})
			if err != nil || len(records) < len(prefix) {
				t.Errorf("a later read has %d records, an earlier one had %d: %v", len(records), len(prefix), err)
				return
			}
			for i := range prefix {
				if records[i].ID != prefix[i].ID || records[i].Position != prefix[i].Position {
					t.Errorf("record %d of the log became another", i+1)
					return
				}
			}
			prefix = records
		})
	}},
	{says: "a reader that goes on where it stopped sees every event once", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		var seen []eventstore.Recorded
		last := eventstore.Position(0)
		follow := func() {
			if t.Failed() {
				return
			}
			records, err := collect(s.context(t), store, eventstore.Query{After: last, Limit: 1 + rand.IntN(20)})
			if err != nil {
				t.Errorf("read on: %v", err)
			}
			if seen = append(seen, records...); len(records) > 0 {
				last = records[len(records)-1].Position
			}
		}
		s.underLoad(t, store, follow)
		all := s.read(t, store, eventstore.Query{})
		for before := -1; before < len(seen) && len(seen) <= len(all); follow() {
			before = len(seen)
		}
		same(t, all, seen, "what the reader saw")
	}},
	{says: "a read of the log never shows part of an append", needs: streams, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.underLoad(t, store, func() {
			records, err := collect(s.context(t), store, eventstore.Query{})
			if err != nil {
				t.Errorf("read: %v", err)
			}
			groups := map[eventstore.Position]int{}
			for _, r := range records {
				groups[r.Append]++
			}
			for i, r := range records {
				if want := 1 + len(r.Data)%3; groups[r.Append] != want {
					t.Errorf("append of %d events at %d shows %d", want, r.Append, groups[r.Append])
				}
				if i > 0 && r.Append < records[i-1].Append {
					t.Errorf("append at %d stands between events of another", r.Append)
				}
			}
		})
	}},
	{says: "a read of a stream shows at once what has been recorded in it", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		ctx, stop := context.WithCancel(context.Background())
		var others sync.WaitGroup
		defer others.Wait()
		defer stop()
		others.Go(func() {
			for ctx.Err() == nil {
				_, _ = store.Append(ctx, events("busy"))
			}
		})
		for i := range 50 {
			s.add(t, store, events("a"))
			require.Len(t, s.read(t, store, eventstore.Query{Streams: []string{"a"}}), i+1)
			version, err := store.Version(s.context(t), "a")
			require.NoError(t, err)
			require.EqualValues(t, i+1, version)
		}
	}},
}

// underLoad calls read again and again while eight writers append one to three
// events each time, and some more times afterwards. The number of an append's events
// is 1 + len(Data)%3.
func (s Suite) underLoad(t testing.TB, store eventstore.Store, read func()) {
	t.Helper()
	const writers, appends = 8, 15
	var wg sync.WaitGroup
	var left atomic.Int32
	left.Store(writers)
	for w := range writers {
		wg.Go(func() {
			defer left.Add(-1)
			for range appends {
				n := rand.IntN(3)
				es := make([]eventstore.Event, n+1)
				for i := range es {
					stream := fmt.Sprintf("stream-%d", w)
					if i%2 == 1 && !s.Features.OneStream {
						stream = "shared"
					}
					es[i] = event(stream)
					es[i].Data = []byte("100"[:3] + "00"[:n])
				}
				if _, err := store.Append(s.context(t), es); err != nil {
					t.Errorf("append: %v", err)
				}
				time.Sleep(rand.N(time.Millisecond)) // so that reads fall between appends
			}
		})
	}
	for left.Load() > 0 && !t.Failed() {
		read()
		time.Sleep(300 * time.Microsecond)
	}
	wg.Wait()
	for range 5 { // what was held back comes to light
		read()
	}
}
