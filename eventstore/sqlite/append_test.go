package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func TestAFullDiskLosesNothingAndWorkGoesOnOnceThereIsSpace(t *testing.T) {
	path := newPath(t)
	store := open(t, path)
	require.NoError(t, store.Script("PRAGMA max_page_count = 60"))
	var acknowledged []eventstore.Recorded
	var refused []eventstore.Event
	for refused == nil {
		require.Less(t, len(acknowledged), 100_000, "the disk never fills up")
		events := []eventstore.Event{event("a", "x"), event("b"), event(fmt.Sprint("c-", len(acknowledged)))}
		records, err := store.Append(ctx, events)
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrNotApplied)
			require.ErrorIs(t, err, eventstore.ErrStorageFull)
			refused = events
			continue
		}
		acknowledged = append(acknowledged, records...)
	}
	require.Equal(t, acknowledged, all(t, store, eventstore.Query{}))
	_, err := store.Append(ctx, refused)
	require.ErrorIs(t, err, eventstore.ErrStorageFull, "still")

	require.NoError(t, store.Script("PRAGMA max_page_count = 1000000"))
	records, err := store.Append(ctx, refused, eventstore.At("a", uint64(len(acknowledged)/3)))
	require.NoError(t, err)
	require.Equal(t, append(acknowledged, records...), all(t, store, eventstore.Query{}))
}

func TestAFullDiskAtTheCommitIsNotApplied(t *testing.T) {
	full := true
	store := open(t, newPath(t), sqlite.WithCommit(func(commit func() error) error {
		if full {
			return driver.ResultFull.ToError()
		}
		return commit()
	}))
	events := []eventstore.Event{event("s")}
	_, err := store.Append(ctx, events, eventstore.At("s", 0))
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	require.ErrorIs(t, err, eventstore.ErrStorageFull)
	require.Empty(t, all(t, store, eventstore.Query{}))
	full = false
	_, err = store.Append(ctx, events, eventstore.At("s", 0))
	require.NoError(t, err)
}

func TestACommitThatFailedOrWasNotHeardOfIsUnknownAndAResendGivesOneCopy(t *testing.T) {
	for _, committed := range []bool{false, true} {
		t.Run(fmt.Sprint("committed ", committed), func(t *testing.T) {
			var fail bool
			path := newPath(t)
			store := open(t, path, sqlite.WithCommit(func(commit func() error) error {
				if !fail {
					return commit()
				}
				fail = false
				if committed {
					if err := commit(); err != nil {
						return err
					}
				}
				return driver.ResultIOErrFsync.ToError()
			}))
			before, err := store.Append(ctx, []eventstore.Event{event("a")})
			require.NoError(t, err)

			fail = true
			events := []eventstore.Event{event("a"), event("new", "x")}
			_, err = store.Append(ctx, events, eventstore.At("a", 1), eventstore.At("new", 0))
			require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
			require.NotErrorIs(t, err, eventstore.ErrNotApplied)
			require.NotErrorIs(t, err, eventstore.ErrConflict)

			records, err := store.Append(ctx, events, eventstore.At("a", 1), eventstore.At("new", 0))
			require.NoError(t, err)
			require.Equal(t, append(before, records...), all(t, store, eventstore.Query{}))
			again, err := store.Append(ctx, events, eventstore.At("a", 1), eventstore.At("new", 0))
			require.NoError(t, err)
			require.Equal(t, records, again)
		})
	}
}

func TestAContextCancelledAtAnyStepLeavesAllOrNothingAndSaysWhich(t *testing.T) {
	var cancel context.CancelFunc
	var left int
	var at string
	store := open(t, newPath(t), sqlite.WithStep(func(step string) {
		if left--; left == 0 {
			at = step
			cancel()
		}
	}))
	var want []eventstore.Recorded
	steps := map[string]bool{}
	for n := 1; ; n++ {
		events := []eventstore.Event{event("a", "x"), event("b"), event("a", "x", "y"), event(fmt.Sprint("c-", n))}
		var c context.Context
		c, cancel = context.WithCancel(ctx)
		left = n
		records, err := store.Append(c, events)
		done := left > 0
		cancel()
		if err == nil {
			require.True(t, done || at == "committed", "applied although cancelled at %q", at)
		} else {
			steps[at] = true
			require.ErrorIs(t, err, eventstore.ErrNotApplied, "at %q", at)
			require.ErrorIs(t, err, context.Canceled, "at %q", at)
			require.Equal(t, want, all(t, store, eventstore.Query{}), "at %q", at)
			left = 0
			records, err = store.Append(ctx, events)
			require.NoError(t, err)
		}
		want = append(want, records...)
		require.Equal(t, want, all(t, store, eventstore.Query{}), "at %q", at)
		if done {
			break
		}
	}
	require.Equal(t, map[string]bool{"begin": true, "ids": true, "expectations": true, "event": true, "commit": true}, steps)
}

func TestAContextThatEndsInTheQueueOrBeforeAnotherProcessIsNotApplied(t *testing.T) {
	path := newPath(t)
	store := open(t, path)
	release := holdLock(t, path)
	outcomes := make(chan error, 5)
	for range cap(outcomes) { // one waits for the file, the others for it
		go func() {
			c, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			_, err := store.Append(c, []eventstore.Event{event("s")})
			outcomes <- err
		}()
	}
	for range cap(outcomes) {
		err := <-outcomes
		require.ErrorIs(t, err, eventstore.ErrNotApplied)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	release()
	require.Empty(t, all(t, store, eventstore.Query{}))
}

func TestAnAppendWaitsForAnotherProcessAsLongAsItTakes(t *testing.T) {
	path := newPath(t)
	store := open(t, path)
	time.AfterFunc(300*time.Millisecond, holdLock(t, path))
	_, err := store.Append(ctx, []eventstore.Event{event("s")})
	require.NoError(t, err)
}

func TestTheControlDoesNotWait(t *testing.T) {
	path := newPath(t)
	store := open(t, path, sqlite.WithDeferred())
	defer holdLock(t, path)()
	_, err := store.Append(ctx, []eventstore.Event{event("s")})
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	require.ErrorContains(t, err, "locked")
}

func TestAnErrorOfTheEngineNeverComesBare(t *testing.T) {
	store := open(t, newPath(t), sqlite.WithCommit(func(func() error) error { return driver.ResultNoMem.ToError() }))
	_, err := store.Append(ctx, []eventstore.Event{event("s")})
	var told *eventstore.AppendError
	require.True(t, errors.As(err, &told))
	require.ErrorContains(t, err, "append to")
	require.ErrorContains(t, store.SaveCheckpoints(ctx, eventstore.Checkpoint{Name: "n"}), "save checkpoints in")
}

func TestHistoryCannotBeChangedByAnybodyWithTheFileOpen(t *testing.T) {
	path, records := filled(t, 5)
	for _, sql := range []string{
		"UPDATE events SET data = '{}' WHERE position = 1",
		"UPDATE events SET position = position + 10",
		"DELETE FROM events",
		"DELETE FROM events WHERE position = 5",
		"UPDATE event_tags SET position = 5",
		"DELETE FROM event_tags",
		"UPDATE streams SET name = 'other' WHERE key = 1",
		"DELETE FROM streams",
		"UPDATE types SET name = 'other'",
		"DELETE FROM types",
		"UPDATE tags SET name = 'other'",
		"DELETE FROM tags",
	} {
		_, err := raw(t, path, sql)
		require.ErrorContains(t, err, "append-only", sql)
	}
	require.Equal(t, records, all(t, open(t, path), eventstore.Query{}))
}

func TestTimesAreWholeMicrosecondsOfTheGivenClock(t *testing.T) {
	for _, now := range []time.Time{
		time.Date(2026, 3, 29, 2, 30, 0, 123_456_789, time.FixedZone("", 7200)),
		time.Date(1969, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		path := newPath(t)
		store := open(t, path, sqlite.WithClock(func() time.Time { return now }))
		records, err := store.Append(ctx, []eventstore.Event{event("s")})
		require.NoError(t, err)
		require.Equal(t, now.UTC().Truncate(time.Microsecond), records[0].RecordedAt)
		require.Equal(t, records, all(t, store, eventstore.Query{}))
		rows, err := raw(t, path, "SELECT recorded_at FROM history")
		require.NoError(t, err)
		require.Equal(t, [][]string{{records[0].RecordedAt.Format("2006-01-02T15:04:05.000000Z")}}, rows)
	}
}

type drawn struct {
	Number uint64 `json:"number"`
}

// A register from which everybody draws numbers is as contended as a stream gets.
func TestManyUnitsOfWorkOnOneStreamAllGetTheirTurn(t *testing.T) {
	const writers, each = 32, 8
	registry, err := eventstore.NewRegistry(eventstore.Type[drawn]("number.drawn", 1))
	require.NoError(t, err)
	store := open(t, newPath(t))
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range each {
				_, err := eventstore.Update(ctx, store, registry, func(tx *eventstore.Tx) error {
					last, err := tx.Check("register")
					if err != nil {
						return err
					}
					return tx.Record("register", drawn{last + 1})
				})
				errs[w] = errors.Join(errs[w], err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	for i, r := range all(t, store, eventstore.Query{}) {
		payload, err := registry.Decode(r.Event)
		require.NoError(t, err)
		require.EqualValues(t, i+1, payload.(drawn).Number, "numbers have no gap and no double")
	}
}
