package follow_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func TestAViewIsOneCutOfAllFoldsWhileOthersAppend(t *testing.T) {
	store := memory.New()
	// Batches of 3 events, appends of 2: a batch cut anywhere shows at once.
	f := start(t, store, follow.Config{SnapshotEvery: 3}, stock, ledger, shelf)
	var writers, viewers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 250 {
				appendMoves(t, store, Moved{fmt.Sprint("from", w), -i - 1}, Moved{fmt.Sprint("to", i%7), i + 1})
			}
		})
	}
	var done atomic.Bool
	var views atomic.Int64
	for range 4 {
		viewers.Go(func() {
			last := eventstore.Position(0)
			for !done.Load() {
				if err := f.View(t.Context(), func(v *follow.View) error {
					a, b, c := stock.In(v), ledger.In(v), shelf.In(v)
					if a.Sum() != 0 || b.Sum() != 0 || a.Moves%2 != 0 {
						return fmt.Errorf("an append is shown by half at %d", v.Position())
					}
					if a.Last != v.Position() || b.Last != v.Position() || c.Last != v.Position() {
						return fmt.Errorf("folds at %d, %d and %d in a view of %d", a.Last, b.Last, c.Last, v.Position())
					}
					if v.Position() < last {
						return fmt.Errorf("a view of %d after one of %d", v.Position(), last)
					}
					last = v.Position()
					views.Add(1)
					return nil
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
	done.Store(true)
	viewers.Wait()
	require.Greater(t, views.Load(), int64(100))
}

func TestNoViewStandsInTheMiddleOfAnAppendDuringALongCatchUp(t *testing.T) {
	store := &faulty{Store: memory.New()}
	f := start(t, store, follow.Config{SnapshotEvery: 10}, stock, ledger)
	require.NoError(t, f.WaitFor(t.Context(), 0))
	hold := make(chan struct{})
	store.set(func(s *faulty) { s.hold = hold })
	many(t, store, 300, 7)

	store.set(func(s *faulty) {
		s.fail = func(record int) error { // so that the catch-up lasts, and views have time to come
			if record%70 == 0 {
				time.Sleep(time.Millisecond)
			}
			return nil
		}
	})
	seen := sync.Map{}
	var viewers, ready sync.WaitGroup
	ready.Add(4)
	for range 4 {
		viewers.Go(func() {
			if err := f.View(t.Context(), func(*follow.View) error { return nil }); err != nil {
				t.Error(err)
			}
			ready.Done()
			for position := eventstore.Position(0); position < 2100; {
				if err := f.View(t.Context(), func(v *follow.View) error {
					position = v.Position()
					seen.Store(position, true)
					if moves := stock.In(v).Moves; moves%7 != 0 || moves != ledger.In(v).Moves {
						return fmt.Errorf("%d moves of appends of 7", moves)
					}
					return nil
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	ready.Wait()
	close(hold)
	viewers.Wait()
	cuts := 0
	seen.Range(func(any, any) bool { cuts++; return true })
	require.Greater(t, cuts, 5, "views are let in during the catch-up")
}

func TestAnAppendOfWhichAReadGaveOnlyAPartIsNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memory.New()}
		f := start(t, store, follow.Config{}, stock)
		require.NoError(t, f.WaitFor(t.Context(), 0))
		store.set(func(s *faulty) {
			s.fail = func(record int) error {
				if record == 10 { // the fourth of the second append of 7
					return errors.New("the line is down")
				}
				return nil
			}
		})
		hold := make(chan struct{})
		store.set(func(s *faulty) { s.hold = hold })
		many(t, store, 2, 7)
		close(hold)
		require.NoError(t, f.WaitFor(t.Context(), 7))
		require.NoError(t, f.View(t.Context(), func(v *follow.View) error {
			require.Equal(t, eventstore.Position(7), v.Position())
			require.Equal(t, 7, stock.In(v).Moves)
			return nil
		}))
		require.Equal(t, plain(t, store.Store, "stock"), state(t, f, store, stock), "it goes on where it stood")
		require.NoError(t, f.Close())
	})
}

func TestViewsWaitUntilTheHeadAtStartIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		store := &faulty{Store: memory.New(), hold: hold}
		many(t, store, 2500, 1)
		f := start(t, store, follow.Config{}, stock)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := f.View(ctx, func(*follow.View) error { require.Fail(t, "not ready"); return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "at position 0 of")

		var position eventstore.Position
		ended := make(chan error)
		go func() {
			ended <- f.View(t.Context(), func(v *follow.View) error { position = v.Position(); return nil })
		}()
		synctest.Wait()
		close(hold)
		require.NoError(t, <-ended)
		require.Equal(t, eventstore.Position(2500), position, "and see nothing earlier")
		require.NoError(t, f.Close())
	})
}

func TestViewReturnsTheErrorOfItsFunction(t *testing.T) {
	f := start(t, memory.New(), follow.Config{}, stock)
	mine := errors.New("mine")
	require.Equal(t, mine, f.View(t.Context(), func(*follow.View) error { return mine }))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.View(ended, nil), context.Canceled)
}

func TestWaitForReturnsWhenThePositionIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		many(t, store, 3, 1)
		f := start(t, store, follow.Config{}, stock)
		require.NoError(t, f.WaitFor(t.Context(), 0))
		require.NoError(t, f.WaitFor(t.Context(), 3), "taken already")

		ended := make(chan error, 1)
		go func() { ended <- f.WaitFor(t.Context(), 5) }()
		many(t, store, 1, 1)
		synctest.Wait()
		require.Empty(t, ended, "position 4 is not 5")
		many(t, store, 1, 1)
		require.NoError(t, <-ended)

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.ErrorIs(t, f.WaitFor(ctx, 6), context.DeadlineExceeded)
		require.NoError(t, f.Close())
	})
}

func TestASlowViewDelaysTheFollowerAndBreaksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		f := start(t, store, follow.Config{}, stock)
		inside, ended := make(chan struct{}), make(chan error)
		go func() {
			ended <- f.View(t.Context(), func(v *follow.View) error {
				close(inside)
				time.Sleep(time.Hour)
				if stock.In(v).Moves != 0 {
					return errors.New("the view changed under its reader")
				}
				return nil
			})
		}()
		<-inside
		many(t, store, 1, 5)
		synctest.Wait() // the follower stands at the gate

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, f.View(ctx, nil), context.DeadlineExceeded, "a view behind it ends with its context")
		require.Equal(t, eventstore.Position(5), f.Status().Head, "Status waits for nothing")

		behind := make(chan error)
		go func() { behind <- f.View(t.Context(), func(*follow.View) error { return nil }) }()
		require.NoError(t, <-ended)
		require.NoError(t, <-behind)
		require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
		require.NoError(t, f.Close())
	})
}

func TestAPanicInsideAViewLeavesTheFollowerAtWork(t *testing.T) {
	store := memory.New()
	f := start(t, store, follow.Config{}, stock)
	require.Panics(t, func() { _ = f.View(t.Context(), func(*follow.View) error { panic("mine") }) })
	many(t, store, 5, 1)
	require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
}

func TestInPanicsWhereItIsMisused(t *testing.T) {
	f := start(t, memory.New(), follow.Config{}, stock)
	var kept *follow.View
	require.NoError(t, f.View(t.Context(), func(v *follow.View) error {
		kept = v
		require.Equal(t, "stock", stock.In(v).Name)
		require.PanicsWithValue(t, `follow: this follower has no fold "ledger": give its projection to Start`, func() { ledger.In(v) })
		other := follow.Projection[*Book]{Name: "stock"}
		require.PanicsWithValue(t, `follow: fold "stock" is a follow_test.Saved here, not a *follow_test.Book: two projections have one name`,
			func() { other.In(v) })
		return nil
	}))
	require.PanicsWithValue(t, `follow: fold "stock" was asked for in a view that has ended: use it inside the function given to View`,
		func() { stock.In(kept) })
}
