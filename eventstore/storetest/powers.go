package storetest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

// The optional powers.

func keeper(t testing.TB, store eventstore.Store) eventstore.Checkpoints {
	k, ok := store.(eventstore.Checkpoints)
	require.True(t, ok, "the store is no eventstore.Checkpoints: say so in Features")
	return k
}

func restorer(t testing.TB, store eventstore.Store) eventstore.Restorer {
	r, ok := store.(eventstore.Restorer)
	require.True(t, ok, "the store is no eventstore.Restorer: say so in Features")
	return r
}

func checkpoint(name string, n byte) eventstore.Checkpoint {
	return eventstore.Checkpoint{
		Name: name, Position: eventstore.Position(n), Event: uuid.UUID{15: n}, Format: int(n) + 1, State: bytes.Repeat([]byte{n, 0, 0xff}, 1000),
	}
}

var checkpointClauses = []clause{
	{says: "a checkpoint is returned as it was saved, and missing ones are zero", needs: checkpoints, run: func(t testing.TB, s Suite) {
		k := keeper(t, s.open(t))
		got, err := k.Checkpoint(s.context(t), "fold")
		require.NoError(t, err)
		require.Zero(t, got)
		large := checkpoint("Fold", 2)
		large.State = bytes.Repeat([]byte("state"), 1<<20)
		require.NoError(t, k.SaveCheckpoints(s.context(t), checkpoint("fold", 1), large, eventstore.Checkpoint{Name: "bare", Position: 3}))
		for _, want := range []eventstore.Checkpoint{checkpoint("fold", 1), large} {
			got, err := k.Checkpoint(s.context(t), want.Name)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want.State, got.State))
			want.State, got.State = nil, nil
			require.Equal(t, want, got)
		}
		got, err = k.Checkpoint(s.context(t), "bare")
		require.NoError(t, err)
		require.Empty(t, got.State)
		require.EqualValues(t, 3, got.Position)
	}},
	{says: "a checkpoint takes the place of the one of its name, forwards or back", needs: checkpoints, run: func(t testing.TB, s Suite) {
		k := keeper(t, s.open(t))
		for _, n := range []byte{1, 9, 4} {
			want := checkpoint("fold", n)
			require.NoError(t, k.SaveCheckpoints(s.context(t), want))
			got, err := k.Checkpoint(s.context(t), "fold")
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}},
	{says: "several checkpoints are saved all or none", needs: checkpoints, run: func(t testing.TB, s Suite) {
		k := keeper(t, s.open(t))
		require.NoError(t, k.SaveCheckpoints(s.context(t), checkpoint("one", 1)))
		for _, name := range []string{"", "a\x00", strings.Repeat("x", eventstore.MaxStream+1)} {
			err := k.SaveCheckpoints(s.context(t), checkpoint("one", 2), checkpoint(name, 2))
			var input *eventstore.InputError
			require.ErrorAs(t, err, &input)
		}
		got, err := k.Checkpoint(s.context(t), "one")
		require.NoError(t, err)
		require.Equal(t, checkpoint("one", 1), got)
	}},
	{says: "a deleted checkpoint is gone, and the log is as it was", needs: checkpoints, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		k := keeper(t, store)
		before := s.add(t, store, events("fold"))
		require.NoError(t, k.SaveCheckpoints(s.context(t), checkpoint("fold", 1), checkpoint("other", 1)))
		for range 2 {
			require.NoError(t, k.DeleteCheckpoint(s.context(t), "fold"))
		}
		got, err := k.Checkpoint(s.context(t), "fold")
		require.NoError(t, err)
		require.Zero(t, got)
		got, err = k.Checkpoint(s.context(t), "other")
		require.NoError(t, err)
		require.Equal(t, checkpoint("other", 1), got)
		same(t, before, s.read(t, store, eventstore.Query{}), "log")
	}},
	{says: "a checkpoint's state is nobody else's slice", needs: checkpoints, run: func(t testing.TB, s Suite) {
		k := keeper(t, s.open(t))
		given := checkpoint("fold", 1)
		require.NoError(t, k.SaveCheckpoints(s.context(t), given))
		given.State[0] = 99
		for range 2 {
			got, err := k.Checkpoint(s.context(t), "fold")
			require.NoError(t, err)
			require.Equal(t, checkpoint("fold", 1), got)
			got.State[0] = 77
		}
	}},
	{says: "after close every call on checkpoints fails as closed", needs: checkpoints, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		k := keeper(t, store)
		require.NoError(t, store.Close())
		require.ErrorIs(t, k.SaveCheckpoints(s.context(t), checkpoint("fold", 1)), eventstore.ErrClosed)
		_, err := k.Checkpoint(s.context(t), "fold")
		require.ErrorIs(t, err, eventstore.ErrClosed)
		require.ErrorIs(t, k.DeleteCheckpoint(s.context(t), "fold"), eventstore.ErrClosed)
	}},
}

// elsewhere returns a history as another store, with gaps between its
// positions, may have recorded it: appends of two, one, one and three events.
func elsewhere() []eventstore.Recorded {
	at := time.Date(2019, 3, 31, 0, 59, 59, 123457000, time.UTC)
	var records []eventstore.Recorded
	versions := map[string]uint64{}
	for i, first := range []eventstore.Position{1001, 1001, 1005, 1006, 2000, 2000, 2000} {
		e := event([]string{"a", "b", "a"}[i%3])
		e.Tags = []string{"old"}
		versions[e.Stream]++
		records = append(records, eventstore.Recorded{
			Event: e, Version: versions[e.Stream], Position: 1001 + eventstore.Position(i)*200, Append: first,
			RecordedAt: at.Add(-time.Duration(i) * time.Hour), // clocks jump back
		})
	}
	return records
}

var restoreClauses = []clause{
	{says: "a restored history keeps bytes, versions, times and appends", needs: restoring, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		want := elsewhere()
		head, err := restorer(t, store).Restore(s.context(t), 0, want[:3])
		require.NoError(t, err)
		_, err = restorer(t, store).Restore(s.context(t), head, want[3:])
		require.NoError(t, err)
		got := s.read(t, store, eventstore.Query{Tags: []string{"old"}})
		require.Len(t, got, len(want))
		first := []int{0, 0, 2, 3, 4, 4, 4}
		for i, r := range got {
			require.True(t, want[i].Equal(r.Event))
			require.Equal(t, want[i].Version, r.Version)
			require.True(t, want[i].RecordedAt.Equal(r.RecordedAt), "%s is now %s", want[i].RecordedAt, r.RecordedAt)
			require.Equal(t, got[first[i]].Position, r.Append)
			require.True(t, i == 0 || r.Position > got[i-1].Position)
		}
	}},
	{says: "a restored history goes on as if it had been appended", needs: restoring, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		want := elsewhere()
		head, err := restorer(t, store).Restore(s.context(t), 0, want)
		require.NoError(t, err)
		now, err := store.Head(s.context(t))
		require.NoError(t, err)
		require.Equal(t, now, head)
		records := s.add(t, store, []eventstore.Event{want[4].Event, want[5].Event, want[6].Event}, eventstore.At("a", 0))
		require.Equal(t, want[5].Version, records[1].Version, "a resend of a restored append")
		_, err = store.Append(s.context(t), []eventstore.Event{want[3].Event, want[4].Event})
		refused(t, err, eventstore.ErrDuplicate)
		require.EqualValues(t, 6, s.add(t, store, events("a"), eventstore.At("a", 5))[0].Version)
	}},
	{says: "restoring wakes everybody who waits", needs: restoring, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		woken := make(chan error, 1)
		go func() { woken <- waitFor(s.context(t), store, 0) }()
		time.Sleep(5 * time.Millisecond) // so that it waits by then
		_, err := restorer(t, store).Restore(s.context(t), 0, elsewhere())
		require.NoError(t, err)
		require.NoError(t, <-woken)
	}},
	{says: "restoring behind any other place than the head is a conflict", needs: restoring, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		head := s.add(t, store, events("c"))[0].Position
		for _, after := range []eventstore.Position{0, head + 1} {
			_, err := restorer(t, store).Restore(s.context(t), after, elsewhere())
			conflict(t, err, "", uint64(after), uint64(head))
		}
		require.Len(t, s.read(t, store, eventstore.Query{}), 1)
	}},
	{says: "restoring versions that do not continue their stream is a conflict, and nothing is recorded", needs: restoring, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		records := elsewhere()
		_, err := restorer(t, store).Restore(s.context(t), 0, append(records[:2:2], records[3:]...))
		conflict(t, err, "a", 2, 1)
		_, err = restorer(t, store).Restore(s.context(t), 0, records[1:])
		conflict(t, err, "a", 1, 0)
		require.Empty(t, s.read(t, store, eventstore.Query{}))
		version, err := store.Version(s.context(t), "b")
		require.NoError(t, err)
		require.Zero(t, version)
	}},
	{says: "restoring a known ID is refused, and nothing is recorded", needs: restoring, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		records := elsewhere()
		e := records[5].Event
		e.Stream = "c"
		head := s.add(t, store, []eventstore.Event{e})[0].Position
		_, err := restorer(t, store).Restore(s.context(t), head, records)
		refused(t, err, eventstore.ErrDuplicate)
		twice := slices.Clone(elsewhere())
		twice[1].ID = twice[0].ID
		_, err = restorer(t, store).Restore(s.context(t), head, twice)
		refused(t, err, eventstore.ErrInvalid)
		require.Len(t, s.read(t, store, eventstore.Query{}), 1)
	}},
	{says: "restoring records without version, append or a clean time is refused as invalid", needs: restoring, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		for _, spoil := range []func(r *eventstore.Recorded){
			func(r *eventstore.Recorded) { r.Version = 0 },
			func(r *eventstore.Recorded) { r.Append = 0 },
			func(r *eventstore.Recorded) { r.RecordedAt = time.Time{} },
			func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.Add(time.Nanosecond) },
			func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.In(time.FixedZone("here", 3600)) },
			func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.AddDate(9000, 0, 0) },
			func(r *eventstore.Recorded) { r.Data = []byte(`{`) },
		} {
			records := elsewhere()
			spoil(&records[2])
			_, err := restorer(t, store).Restore(s.context(t), 0, records)
			refused(t, err, eventstore.ErrInvalid)
		}
		require.Empty(t, s.read(t, store, eventstore.Query{}))
	}},
	{says: "after close a restore fails as closed", needs: restoring, run: func(t testing.TB, s Suite) {
		store := s.open(t)
		require.NoError(t, store.Close())
		_, err := restorer(t, store).Restore(s.context(t), 0, elsewhere())
		refused(t, err, eventstore.ErrClosed)
	}},
}
