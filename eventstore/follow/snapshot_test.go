package follow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// given counts the records that a fold is given after it was made.
func given(p follow.Projection[Saved], n *int) follow.Projection[Saved] {
	return follow.Projection[Saved]{Name: p.Name, New: func() Saved {
		s := p.New()
		s.before = func(eventstore.Recorded) { *n++ }
		return s
	}}
}

func checkpoint(t *testing.T, store eventstore.Checkpoints, name string) eventstore.Checkpoint {
	c, err := store.Checkpoint(t.Context(), name)
	require.NoError(t, err)
	return c
}

func TestARestartFromEveryThousandthEventGivesTheStateOfTheWholeLog(t *testing.T) {
	const thousands = 10
	store := memory.New()
	f := start(t, store, follow.Config{}, stock, ledger)
	var taken [][]eventstore.Checkpoint
	for range thousands {
		many(t, store, 500, 2)
		state(t, f, store, stock)
		require.NoError(t, f.Snapshot(t.Context()))
		taken = append(taken, []eventstore.Checkpoint{checkpoint(t, store, "fold-stock"), checkpoint(t, store, "fold-ledger")})
	}
	require.NoError(t, f.Close())
	want := plain(t, store, "stock")
	for i, checkpoints := range taken {
		require.Equal(t, eventstore.Position((i+1)*1000), checkpoints[0].Position)
		require.NoError(t, store.SaveCheckpoints(t.Context(), checkpoints...))
		n := 0
		f := start(t, store, follow.Config{}, given(stock, &n), ledger)
		require.Equal(t, want, state(t, f, store, stock))
		require.Equal(t, plain(t, store, "ledger"), state(t, f, store, ledger))
		require.NoError(t, f.Close())
		require.Equal(t, (thousands-i-1)*1000, n, "only the rest of the log is read into the fold")
	}
}

func TestSnapshotsAreSavedEverySoManyEventsAndAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memory.New()}
		f := start(t, store, follow.Config{SnapshotEvery: 10}, stock, ledger, shelf)
		for range 12 {
			many(t, store, 1, 3)
			synctest.Wait()
		}
		var positions []eventstore.Position
		for _, saved := range store.saves {
			require.Len(t, saved, 2, "all that can be saved, in one call")
			require.Equal(t, saved[0].Position, saved[1].Position)
			positions = append(positions, saved[0].Position)
		}
		require.Equal(t, []eventstore.Position{12, 24, 36}, positions, "at the end of the append that holds the tenth")
		many(t, store, 1, 3)
		synctest.Wait()
		require.NoError(t, f.Close())
		require.Equal(t, eventstore.Position(39), checkpoint(t, store, "fold-stock").Position)
		require.Equal(t, eventstore.Position(39), checkpoint(t, store, "fold-ledger").Position)

		saves := len(store.saves)
		f = start(t, store, follow.Config{SnapshotEvery: 10}, stock, ledger)
		require.NoError(t, f.WaitFor(t.Context(), 39))
		require.NoError(t, f.Close())
		require.Len(t, store.saves, saves, "what did not change is not saved again")
	})
}

func TestWithoutSnapshotEveryNothingIsSavedUnasked(t *testing.T) {
	store := memory.New()
	many(t, store, 2500, 1)
	f := start(t, store, follow.Config{}, stock)
	require.NoError(t, f.WaitFor(t.Context(), 2500))
	require.NoError(t, f.Close())
	require.Zero(t, checkpoint(t, store, "fold-stock"))
}

func TestASnapshotThatDoesNotFitIsNotUsed(t *testing.T) {
	otherFormat := follow.Projection[Saved]{Name: "stock", New: func() Saved {
		s := stock.New()
		s.Book.Format = 2
		return s
	}}
	ofABadRestore := func(s Saved, err error) follow.Projection[badRestore] {
		return follow.Projection[badRestore]{Name: "stock", New: func() badRestore { return badRestore{stock.New(), err} }}
	}
	for name, c := range map[string]struct {
		change func(c *eventstore.Checkpoint)
		fold   follow.Declared
		reason string
	}{
		"a flipped bit":      {func(c *eventstore.Checkpoint) { c.State[len(c.State)/2] ^= 4 }, stock, "damaged"},
		"a flipped digest":   {func(c *eventstore.Checkpoint) { c.State[7] ^= 1 }, stock, "damaged"},
		"a missing tail":     {func(c *eventstore.Checkpoint) { c.State = c.State[:len(c.State)-1] }, stock, "damaged"},
		"nothing":            {func(c *eventstore.Checkpoint) { c.State = nil }, stock, "damaged"},
		"a later position":   {func(c *eventstore.Checkpoint) { c.Position++ }, stock, "damaged"},
		"no position":        {func(c *eventstore.Checkpoint) { c.Position = 0 }, stock, "damaged"},
		"another event":      {func(c *eventstore.Checkpoint) { c.Event = uuid.New() }, stock, "damaged"},
		"a format written":   {func(c *eventstore.Checkpoint) { c.Format++ }, stock, "damaged"},
		"a newer envelope":   {func(c *eventstore.Checkpoint) { c.State[0] = 2 }, stock, "envelope has format 2"},
		"a fold of format 2": {nil, otherFormat, "format 1, the fold has 2"},
		"a Restore that errs": {nil, ofABadRestore(stock.New(), errors.New("what is this")),
			"what is this"},
		"a Restore that panics": {nil, ofABadRestore(stock.New(), nil), "panic: half restored"},
	} {
		t.Run(name, func(t *testing.T) {
			var log logged
			store := memory.New()
			many(t, store, 20, 2)
			f := start(t, store, follow.Config{}, stock)
			require.NoError(t, f.WaitFor(t.Context(), 40))
			require.NoError(t, f.Snapshot(t.Context()))
			require.NoError(t, f.Close())
			if c.change != nil {
				changed := checkpoint(t, store, "fold-stock")
				c.change(&changed)
				require.NoError(t, store.SaveCheckpoints(t.Context(), changed))
			}
			many(t, store, 5, 1)

			f = start(t, store, follow.Config{Logger: log.logger()}, c.fold)
			require.NoError(t, f.WaitFor(t.Context(), 45))
			require.NoError(t, f.View(t.Context(), func(v *follow.View) error {
				var got Saved
				switch fold := c.fold.(type) {
				case follow.Projection[Saved]:
					got = fold.In(v)
				case follow.Projection[badRestore]:
					got = fold.In(v).Saved
				}
				require.Equal(t, plain(t, store, "stock"), text(t, got))
				return nil
			}))
			require.Zero(t, f.Status().Folds[0].Snapshot)
			require.Contains(t, log.String(), "level=WARN")
			require.Contains(t, log.String(), c.reason)
		})
	}
}

// badRestore restores half and then fails, or panics without an error.
type badRestore struct {
	Saved
	err error
}

func (b badRestore) Restore(state []byte) error {
	_ = b.Saved.Restore(state)
	if b.err == nil {
		panic("half restored")
	}
	return b.err
}

func TestARewoundLogStopsTheFollowerUntilTheSnapshotsAreDeleted(t *testing.T) {
	// A log of 40 events, whose snapshot is carried over to another log.
	lived := memory.New()
	many(t, lived, 20, 2)
	f := start(t, lived, follow.Config{}, stock, ledger)
	require.NoError(t, f.WaitFor(t.Context(), 40))
	require.NoError(t, f.Snapshot(t.Context()))
	require.NoError(t, f.Close())
	var records []eventstore.Recorded
	for r, err := range lived.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		records = append(records, r)
	}
	for name, c := range map[string]struct{ restored, more int }{
		"the log is empty":                              {0, 0},
		"it ends before the snapshot":                   {30, 0},
		"it ends one event before":                      {38, 1},
		"it has gone on elsewhere up to the snapshot":   {38, 2},
		"it has gone on elsewhere beyond the snapshot":  {30, 30},
		"control: it is the same and nothing is lost":   {40, 0},
		"control: it is the same and others came later": {40, 7},
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			if c.restored > 0 {
				_, err := store.Restore(t.Context(), 0, records[:c.restored])
				require.NoError(t, err)
			}
			many(t, store, c.more, 1)
			require.NoError(t, store.SaveCheckpoints(t.Context(), checkpoint(t, lived, "fold-stock"), checkpoint(t, lived, "fold-ledger")))

			f := start(t, store, follow.Config{SnapshotEvery: 1}, stock, ledger)
			if c.restored == 40 {
				require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
				return
			}
			err := f.WaitFor(t.Context(), 0)
			var stopped *follow.StoppedError
			require.ErrorAs(t, err, &stopped)
			require.ErrorIs(t, err, eventstore.ErrRewound)
			require.ErrorContains(t, err, "fold-stock")
			require.ErrorContains(t, err, "fold-ledger", "all are named at once")
			require.ErrorContains(t, err, "DeleteCheckpoint", "and what to do")
			require.NoError(t, f.Close())
			require.Equal(t, checkpoint(t, lived, "fold-stock"), checkpoint(t, store, "fold-stock"), "the evidence stays")

			require.NoError(t, store.DeleteCheckpoint(t.Context(), "fold-stock"))
			require.NoError(t, store.DeleteCheckpoint(t.Context(), "fold-ledger"))
			f = start(t, store, follow.Config{}, stock, ledger)
			require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
		})
	}
}

func TestAFoldAddedLaterCatchesUpFromTheBeginning(t *testing.T) {
	store := memory.New()
	many(t, store, 1500, 2)
	f := start(t, store, follow.Config{}, stock)
	require.NoError(t, f.WaitFor(t.Context(), 3000))
	require.NoError(t, f.Snapshot(t.Context()))
	require.NoError(t, f.Close())
	many(t, store, 10, 2)

	olds, news := 0, 0
	f = start(t, store, follow.Config{}, given(ledger, &news), given(stock, &olds))
	require.NoError(t, f.View(t.Context(), func(v *follow.View) error {
		require.Equal(t, eventstore.Position(3020), v.Position())
		require.Equal(t, 3020, ledger.In(v).Moves)
		require.Equal(t, 3020, stock.In(v).Moves)
		return nil
	}))
	require.NoError(t, f.Close())
	require.Equal(t, 3020, news)
	require.Equal(t, 20, olds, "what has a snapshot is not given the log again")
}

func TestASnapshotThatAgreesNotWithTheDecisionsIsNotUsed(t *testing.T) {
	store := memory.New()
	many(t, store, 3, 1)
	cursed := appendMoves(t, store, Cursed{Fold: "stock"})[0]
	f := start(t, store, follow.Config{}, stock)
	poison := poisoned(t, f)
	require.NoError(t, f.Park(t.Context(), poison.Fold, poison.Event, why))
	state(t, f, store, stock)
	require.NoError(t, f.Snapshot(t.Context()))
	require.NoError(t, f.Close())
	without := checkpoint(t, store, "fold-stock")

	t.Run("control: the log holds the decision", func(t *testing.T) {
		f := start(t, store, follow.Config{}, stock)
		require.Equal(t, plain(t, store, "stock", cursed.ID), state(t, f, store, stock))
		require.Equal(t, without.Position, f.Status().Folds[0].Snapshot)
		require.NoError(t, f.Close())
	})
	t.Run("it leaves out what nobody parked", func(t *testing.T) {
		var log logged
		bare := memory.New()
		var records []eventstore.Recorded
		for r, err := range store.Read(t.Context(), eventstore.Query{}) {
			require.NoError(t, err)
			if r.Type == "follow.parked" {
				r.Type = "follow.forged"
			}
			records = append(records, r)
		}
		_, err := bare.Restore(t.Context(), 0, records)
		require.NoError(t, err)
		require.NoError(t, bare.SaveCheckpoints(t.Context(), without))
		f := start(t, bare, follow.Config{Logger: log.logger()}, stock)
		require.Equal(t, cursed.ID, poisoned(t, f).Event, "the event stops it, as the log says")
		require.Contains(t, log.String(), "which nobody parked")
	})
	t.Run("it took what was parked before", func(t *testing.T) {
		var log logged
		tolerant := follow.Projection[Saved]{Name: "stock", New: func() Saved { s := stock.New(); s.tolerant = true; return s }}
		other := memory.New() // the same log without the decision yet
		var records []eventstore.Recorded
		for r, err := range store.Read(t.Context(), eventstore.Query{}) {
			require.NoError(t, err)
			records = append(records, r)
		}
		_, err := other.Restore(t.Context(), 0, records[:4])
		require.NoError(t, err)
		filler := records[4]
		filler.Type = "stock.noted"
		_, err = other.Restore(t.Context(), 4, []eventstore.Recorded{filler}) // its ID is the decision's, so the position stands
		require.NoError(t, err)
		f := start(t, other, follow.Config{}, tolerant)
		require.Contains(t, state(t, f, other, tolerant), "cursed")
		require.NoError(t, f.Snapshot(t.Context()))
		require.NoError(t, f.Close())
		require.NoError(t, store.SaveCheckpoints(t.Context(), checkpoint(t, other, "fold-stock")))

		f = start(t, store, follow.Config{Logger: log.logger()}, tolerant)
		require.Equal(t, plain(t, store, "stock", cursed.ID), state(t, f, store, tolerant))
		require.Contains(t, log.String(), "which was parked before it was taken")
	})
}

func TestASaveThatFailsIsReportedAndTheFollowerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		full := errors.New("the disk is full")
		store := &faulty{Store: memory.New(), save: func() error { return full }}
		f := start(t, store, follow.Config{SnapshotEvery: 5, Logger: log.logger()}, stock)
		many(t, store, 5, 1)
		synctest.Wait()
		require.ErrorIs(t, f.Status().SnapshotError, full)
		require.NoError(t, f.Status().Stopped)
		require.Zero(t, f.Status().Folds[0].Snapshot)
		require.Contains(t, log.String(), "level=WARN")
		require.ErrorIs(t, f.Snapshot(t.Context()), full)
		require.Equal(t, plain(t, store.Store, "stock"), state(t, f, store, stock))

		store.set(func(s *faulty) { s.save = nil })
		many(t, store, 5, 1)
		synctest.Wait()
		require.NoError(t, f.Status().SnapshotError)
		require.Equal(t, eventstore.Position(10), f.Status().Folds[0].Snapshot)
		store.set(func(s *faulty) { s.save = func() error { return full } })
		many(t, store, 1, 1)
		synctest.Wait()
		require.ErrorIs(t, f.Close(), full)
	})
}

func TestTheFollowerGoesOnWhileSnapshotsAreSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		store := &faulty{Store: memory.New(), save: func() error { <-hold; return nil }}
		f := start(t, store, follow.Config{SnapshotEvery: 1}, stock)
		many(t, store, 3, 1)
		require.NoError(t, f.WaitFor(t.Context(), 3))
		require.NoError(t, f.View(t.Context(), func(*follow.View) error { return nil }))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, f.Snapshot(ctx), context.Canceled, "one save at a time, so that older ones never come last")
		close(hold)
		require.NoError(t, f.Close())
		require.Equal(t, eventstore.Position(3), checkpoint(t, store, "fold-stock").Position)
	})
}

func TestASnapshotThatCannotBeTakenLeavesTheOthers(t *testing.T) {
	store := memory.New()
	many(t, store, 1, 1)
	f := start(t, store, follow.Config{}, stock, follow.Projection[unsaveable]{Name: "bad", New: func() unsaveable { return unsaveable{NewBook("bad")} }})
	require.NoError(t, f.WaitFor(t.Context(), 1))
	require.ErrorContains(t, f.Snapshot(t.Context()), `fold "bad": panic: no bytes`)
	require.Equal(t, eventstore.Position(1), checkpoint(t, store, "fold-stock").Position)
	require.Zero(t, checkpoint(t, store, "fold-bad"))

	found, err := f.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, follow.Unverifiable, found.Folds[1].Result, "and nothing is known of it")
}

type unsaveable struct{ *Book }

func (unsaveable) Format() int               { return 1 }
func (unsaveable) Snapshot() ([]byte, error) { panic("no bytes") }
func (unsaveable) Restore([]byte) error      { return nil }

func TestAStoreWithoutCheckpointsIsFollowedAllTheSame(t *testing.T) {
	store := struct{ eventstore.Store }{memory.New()}
	many(t, store, 5, 1)
	f := start(t, store, follow.Config{SnapshotEvery: 1}, stock)
	require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
	require.ErrorIs(t, f.Snapshot(t.Context()), errors.ErrUnsupported)
	require.NoError(t, f.Close())
}

func TestTheSameStateIsTheSameCheckpoint(t *testing.T) {
	store := memory.New()
	many(t, store, 50, 2)
	var states [][]byte
	for i := range 3 {
		f := start(t, store, follow.Config{SnapshotEvery: i * 7}, stock)
		require.NoError(t, f.WaitFor(t.Context(), 100))
		require.NoError(t, f.Snapshot(t.Context()))
		require.NoError(t, f.Close())
		states = append(states, checkpoint(t, store, "fold-stock").State)
		require.NoError(t, store.DeleteCheckpoint(t.Context(), "fold-stock"))
	}
	require.True(t, bytes.Equal(states[0], states[1]) && bytes.Equal(states[1], states[2]), fmt.Sprintf("%q", states))
}

// heavy is a fold that takes a second to save.
type heavy struct {
	Saved
	saves *atomic.Int64
}

func (h heavy) Snapshot() ([]byte, error) {
	time.Sleep(time.Second)
	h.saves.Add(1)
	return h.Saved.Snapshot()
}

func TestSavingTakesATwentiethOfTheTimeAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var saves atomic.Int64
		p := follow.Projection[heavy]{Name: "stock", New: func() heavy { return heavy{Saved{NewBook("stock")}, &saves} }}
		f := start(t, store, follow.Config{SnapshotEvery: 2}, p)
		for range 1_000 {
			appendMoves(t, store, Moved{"a", 1}, Moved{"b", 1})
			time.Sleep(100 * time.Millisecond)
		}
		during := saves.Load()
		require.GreaterOrEqual(t, during, int64(3), "it is saved")
		require.LessOrEqual(t, during, int64(6), "in 100 seconds")
		require.NoError(t, f.Close())
		require.Equal(t, during+1, saves.Load(), "and at the end")
	})
}

// What is due while a save is rested from is saved when the rest is over, also where
// nothing is appended any more.
func TestASaveThatIsDueIsMadeWhenTheRestIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var saves atomic.Int64
		p := follow.Projection[heavy]{Name: "stock", New: func() heavy { return heavy{Saved{NewBook("stock")}, &saves} }}
		f := start(t, store, follow.Config{SnapshotEvery: 2}, p)
		for range 2 {
			appendMoves(t, store, Moved{"a", 1}, Moved{"b", 1})
			time.Sleep(2 * time.Second)
		}
		require.Equal(t, int64(1), saves.Load(), "the second is rested from")
		time.Sleep(time.Minute)
		require.Equal(t, int64(2), saves.Load())
		require.Equal(t, eventstore.Position(4), f.Status().Folds[0].Snapshot)
		require.NoError(t, f.Close())
	})
}

func TestFollowersWithPrefixesOfTheirOwnDoNotUseEachOthersSnapshots(t *testing.T) {
	store := memory.New()
	many(t, store, 40, 1)
	for prefix, name := range map[string]string{"": "fold-stock", "elsewhere-": "elsewhere-stock"} {
		n := 0
		f := start(t, store, follow.Config{SnapshotPrefix: prefix}, given(stock, &n))
		state(t, f, store, stock)
		require.Equal(t, 40, n, "the snapshot of the other is not used")
		require.NoError(t, f.Snapshot(t.Context()))
		require.Equal(t, eventstore.Position(40), checkpoint(t, store, name).Position)
		require.NoError(t, f.Close())

		n = 0
		f = start(t, store, follow.Config{SnapshotPrefix: prefix}, given(stock, &n))
		require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
		require.Zero(t, n, "its own is")
		require.NoError(t, f.Close())
	}
}
