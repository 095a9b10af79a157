package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

var reopenClauses = []clause{
	{says: "a store opened again has the same history in every byte", needs: reopening, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.population(t, store)
		for _, e := range awkward() {
			s.add(t, store, []eventstore.Event{e})
		}
		before := s.read(t, store, eventstore.Query{})
		store = s.again(t, store)
		same(t, before, s.read(t, store, eventstore.Query{}), "log")
		for _, q := range queries() {
			same(t, matching(before, q), s.read(t, store, q), "query")
		}
		head, err := store.Head(s.context(t))
		require.NoError(t, err)
		require.Equal(t, before[len(before)-1].Position, head)
	}},
	{says: "a store opened again goes on where it stopped", needs: reopening, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		es := events("a", "a")
		before := s.add(t, store, es)
		store = s.again(t, store)
		same(t, before, s.add(t, store, es), "records of a resend")
		_, err := store.Append(s.context(t), events("a"), eventstore.At("a", 1))
		conflict(t, err, "a", 1, 2)
		r := s.add(t, store, events("a"), eventstore.At("a", 2))[0]
		require.Greater(t, r.Position, before[1].Position)
		require.EqualValues(t, 3, r.Version)
	}},
	{says: "checkpoints outlive the store", needs: reopening, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		keeper, ok := store.(eventstore.Checkpoints)
		if !ok {
			require.True(t, s.Features.NoCheckpoints, "the store is no eventstore.Checkpoints")
			return
		}
		want := checkpoint("fold", 7)
		require.NoError(t, keeper.SaveCheckpoints(s.context(t), want))
		got, err := s.again(t, store).(eventstore.Checkpoints).Checkpoint(s.context(t), "fold")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}},
}

// again closes store and opens its history once more.
func (s Suite) again(t testing.TB, store eventstore.Store) eventstore.Store {
	store = s.Reopen(t, store)
	t.Cleanup(func() { _ = store.Close() })
	return store
}
