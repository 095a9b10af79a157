package follow_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func TestVerifyFindsNoDifferenceWhereThereIsNone(t *testing.T) {
	store := memory.New()
	many(t, store, 700, 3)
	appendMoves(t, store, Cursed{Fold: "stock"}, Cursed{Fold: "ledger", Panic: true})
	f := start(t, store, follow.Config{}, stock, ledger, shelf)
	for range 2 {
		poison := poisoned(t, f)
		require.NoError(t, f.Park(t.Context(), poison.Fold, poison.Event, why))
	}
	state(t, f, store, stock)
	found, err := f.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, eventstore.Position(2104), found.Position)
	require.Len(t, found.Folds, 3)
	for i, name := range []string{"stock", "ledger"} {
		require.Equal(t, follow.Verdict{Fold: name, Result: follow.Same, Live: found.Folds[i].Live, Anew: found.Folds[i].Live}, found.Folds[i])
		require.NotZero(t, found.Folds[i].Live.Size)
	}
	require.Equal(t, follow.Verdict{Fold: "shelf", Result: follow.Unverifiable, Why: "it is no Snapshotter"}, found.Folds[2])
}

func TestVerifyFindsAFoldThatIsNotDeterministic(t *testing.T) {
	store := memory.New()
	many(t, store, 20, 1)
	calls := 0 // state outside the fold, as a clock or a random source is
	fickle := follow.Projection[Saved]{Name: "fickle", New: func() Saved {
		s := Saved{NewBook("fickle")}
		s.before = func(eventstore.Recorded) {
			if calls++; calls == 30 {
				s.Levels["a whim"]++
			}
		}
		return s
	}}
	f := start(t, store, follow.Config{}, stock, fickle)
	require.NoError(t, f.WaitFor(t.Context(), 20))
	found, err := f.Verify(t.Context())
	var difference *follow.DifferenceError
	require.ErrorAs(t, err, &difference)
	require.Equal(t, follow.Same, found.Folds[0].Result)
	require.Equal(t, follow.Differs, found.Folds[1].Result)
}

func TestVerifyFindsWhatASnapshotBroughtIn(t *testing.T) {
	store := memory.New()
	many(t, store, 20, 1)
	f := start(t, store, follow.Config{}, stock, ledger)
	require.NoError(t, f.WaitFor(t.Context(), 20))
	require.NoError(t, f.Snapshot(t.Context()))
	require.NoError(t, f.Close())

	careless := follow.Projection[Saved]{Name: "stock", New: func() Saved {
		s := stock.New()
		s.Noise = 5
		return s
	}}
	f = start(t, store, follow.Config{}, careless, ledger)
	found, err := f.Verify(t.Context())
	var difference *follow.DifferenceError
	require.ErrorAs(t, err, &difference)
	require.Equal(t, found, difference.Verification)
	require.Equal(t, follow.Differs, found.Folds[0].Result)
	require.NotEqual(t, found.Folds[0].Live, found.Folds[0].Anew)
	require.Equal(t, follow.Same, found.Folds[1].Result)
	require.ErrorContains(t, err, `fold "stock": live `+found.Folds[0].Live.String())
	require.NotContains(t, err.Error(), "ledger")
}

func TestVerifyFindsAFoldThatTookWhatItCannotTakeAnew(t *testing.T) {
	store := memory.New()
	appendMoves(t, store, Cursed{Fold: "stock"})
	var strict atomic.Bool
	turning := follow.Projection[Saved]{Name: "stock", New: func() Saved {
		s := stock.New()
		s.tolerant = !strict.Load()
		return s
	}}
	f := start(t, store, follow.Config{}, turning)
	require.NoError(t, f.WaitFor(t.Context(), 1))
	_, err := f.Verify(t.Context())
	require.NoError(t, err, "control")
	strict.Store(true)
	found, err := f.Verify(t.Context())
	require.ErrorContains(t, err, "cannot take event")
	require.Equal(t, follow.Differs, found.Folds[0].Result)
}

func TestVerifyWorksWhileTheFollowerGoesOn(t *testing.T) {
	store := memory.New()
	f := start(t, store, follow.Config{SnapshotEvery: 7}, stock, ledger)
	var writing sync.WaitGroup
	for range 2 {
		writing.Go(func() { many(t, store, 300, 2) })
	}
	for range 5 {
		_, err := f.Verify(t.Context())
		require.NoError(t, err)
	}
	writing.Wait()
	_, err := f.Verify(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Verify(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, strings.HasPrefix(err.Error(), "verify: "))
}
