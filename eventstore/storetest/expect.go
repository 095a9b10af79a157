package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

var expectClauses = []clause{
	{says: "an append at the version where the stream stands succeeds", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("a"), eventstore.At("a", 0))
		s.add(t, store, events("a", "a"), eventstore.At("a", 1))
		require.EqualValues(t, 4, s.add(t, store, events("a"), eventstore.At("a", 3))[0].Version)
	}},
	{says: "a version too low is a conflict that names stream, wanted and actual", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		before := s.add(t, store, events("a", "a", "a"))
		_, err := store.Append(s.context(t), events("a"), eventstore.At("a", 2))
		conflict(t, err, "a", 2, 3)
		same(t, before, s.read(t, store, eventstore.Query{}), "log")
	}},
	{says: "a version too high is a conflict and leaves no gap", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		before := s.add(t, store, events("a"))
		_, err := store.Append(s.context(t), events("a"), eventstore.At("a", 5))
		conflict(t, err, "a", 5, 1)
		same(t, before, s.read(t, store, eventstore.Query{}), "log")
	}},
	{says: "version 0 of an existing stream is a conflict and keeps its history", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		before := s.add(t, store, events("a", "a"))
		_, err := store.Append(s.context(t), events("a"), eventstore.At("a", 0))
		conflict(t, err, "a", 0, 2)
		same(t, before, s.read(t, store, eventstore.Query{Streams: []string{"a"}}), "stream")
	}},
	{says: "a version above 0 of a missing stream is a conflict", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		_, err := store.Append(s.context(t), events("a"), eventstore.At("a", 1))
		conflict(t, err, "a", 1, 0)
		require.Empty(t, s.read(t, store, eventstore.Query{}))
	}},
	{says: "every expectation is checked, whatever its place", needs: streams, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		before := s.add(t, store, events("a", "b", "c"))
		for wrong := range 3 {
			var expect []eventstore.Expect
			for i, stream := range []string{"a", "b", "c"} {
				version := uint64(1)
				if i == wrong {
					version = 4
				}
				expect = append(expect, eventstore.At(stream, version))
			}
			_, err := store.Append(s.context(t), events("a", "b", "c"), expect...)
			conflict(t, err, expect[wrong].Stream, 4, 1)
		}
		same(t, before, s.read(t, store, eventstore.Query{}), "log")
	}},
	{says: "a stream that is only checked holds the append back and is not written", needs: streams, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("checked"))
		s.add(t, store, events("a"), eventstore.At("checked", 1), eventstore.At("missing", 0))
		_, err := store.Append(s.context(t), events("a"), eventstore.At("a", 1), eventstore.At("checked", 2))
		conflict(t, err, "checked", 2, 1)
		_, err = store.Append(s.context(t), events("a"), eventstore.At("missing", 1))
		conflict(t, err, "missing", 1, 0)
		require.Len(t, s.read(t, store, eventstore.Query{Streams: []string{"checked", "missing"}}), 1)
		require.Len(t, s.read(t, store, eventstore.Query{Streams: []string{"a"}}), 1)
	}},
	{says: "of many writers at one version exactly one wins and the others get the conflict", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		const writers, rounds = 8, 10
		for round := range uint64(rounds) {
			errs := make([]error, writers)
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					_, errs[w] = store.Append(s.context(t), events("a"), eventstore.At("a", round))
				})
			}
			wg.Wait()
			won := 0
			for _, err := range errs {
				if err == nil {
					won++
					continue
				}
				conflict(t, err, "a", round, round+1)
			}
			require.Equal(t, 1, won, "winners")
		}
		require.Len(t, s.read(t, store, eventstore.Query{}), rounds)
	}},
	{says: "a check and a write that cross never both succeed", needs: streams, run: func(t testing.TB, s Suite) {
		// Two writers each check the stream that the other writes: after one has
		// written, what the other checked no longer holds.
		store := s.open(t)
		for round := range 20 {
			x, y := fmt.Sprintf("x-%d", round), fmt.Sprintf("y-%d", round)
			errs := make([]error, 2)
			var wg sync.WaitGroup
			for i, pair := range [][2]string{{x, y}, {y, x}} {
				wg.Go(func() {
					_, errs[i] = store.Append(s.context(t), events(pair[0]), eventstore.At(pair[1], 0))
				})
			}
			wg.Wait()
			require.False(t, errs[0] == nil && errs[1] == nil, "both were recorded after a check that no longer held")
			require.True(t, errs[0] == nil || errs[1] == nil, "neither was recorded: %v, %v", errs[0], errs[1])
		}
	}},
}
