package follow_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
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

// counted counts the records that are read.
type counted struct {
	*memory.Store
	records atomic.Int64
}

func (s *counted) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range s.Store.Read(ctx, q) {
			s.records.Add(1)
			if !yield(r, err) {
				return
			}
		}
	}
}

func TestWhatIsOfferedIsNotReadBack(t *testing.T) {
	store := &counted{Store: memory.New()}
	p := saved("stock")
	f := start(t, store, follow.Config{}, p)
	require.NoError(t, f.WaitFor(t.Context(), 0))
	before := store.records.Load()
	const appends = 200
	for i := range appends {
		records := appendMoves(t, store, Moved{"a", i}, Moved{"b", 1})
		f.Offer(records)
		require.NoError(t, f.WaitFor(t.Context(), records[1].Position))
	}
	require.Equal(t, plain(t, store.Store, "stock"), state(t, f, store, p))
	require.Less(t, store.records.Load()-before, int64(appends), "of 400 records")
}

// Offers that come late, twice, out of order, with gaps, or not at all: the folds
// take every record once, in order.
func TestWhateverIsOfferedTheFoldsAreThoseOfTheLog(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			store := memory.New()
			p, q := saved("stock"), saved("second")
			f := start(t, store, follow.Config{SnapshotEvery: 50}, p, q)
			var waiting [][]eventstore.Recorded
			for range 150 {
				payloads := []any{Moved{"a", 1}, Moved{"b", 2}, Moved{"c", 3}}
				waiting = append(waiting, appendMoves(t, store, payloads[:1+random.IntN(3)]...))
				for len(waiting) > 0 && random.IntN(3) > 0 {
					n := random.IntN(len(waiting))
					if random.IntN(8) > 0 {
						f.Offer(waiting[n])
					}
					if random.IntN(8) > 0 {
						waiting = append(waiting[:n], waiting[n+1:]...)
					}
				}
				if random.IntN(10) == 0 {
					state(t, f, store, p)
				}
			}
			f.Offer(nil)
			require.Equal(t, plain(t, store, "stock"), state(t, f, store, p))
			require.Equal(t, plain(t, store, "second"), state(t, f, store, q))
			require.NoError(t, f.View(t.Context(), func(v *follow.View) error {
				require.Zero(t, p.In(v).Twice)
				return nil
			}))
			_, err := f.Verify(t.Context())
			require.NoError(t, err)
		})
	}
}

func TestManyOfferAtOnce(t *testing.T) {
	store := memory.New()
	p := saved("stock")
	f := start(t, store, follow.Config{}, p)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				records := appendMoves(t, store, Moved{fmt.Sprint("item", w), 1}, Moved{"all", i})
				if w > 0 { // the first is another process
					f.Offer(records)
				}
				if i%10 == 0 {
					if err := f.WaitFor(context.Background(), records[1].Position); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, plain(t, store, "stock"), state(t, f, store, p))
}

// A fold that cannot take what is offered stops the follower as if it had read it.
func TestAnOfferThatAFoldCannotTakeStopsTheFollower(t *testing.T) {
	store := memory.New()
	p := saved("stock")
	f := start(t, store, follow.Config{}, p)
	require.NoError(t, f.WaitFor(t.Context(), 0))
	f.Offer(appendMoves(t, store, Moved{"a", 1}))
	cursed := appendMoves(t, store, Cursed{Fold: "stock"})
	f.Offer(cursed)
	f.Offer(appendMoves(t, store, Moved{"a", 1}))
	err := f.WaitFor(t.Context(), cursed[0].Position)
	var stopped *follow.StoppedError
	require.ErrorAs(t, err, &stopped)
	require.NoError(t, f.Park(t.Context(), "stock", cursed[0].ID, eventstore.Metadata{Actor: "u-1", Reason: "a test"}))
	require.Equal(t, plain(t, store, "stock", cursed[0].ID), state(t, f, store, p))
}

// An event that nobody has appended, but that is offered with a position far
// ahead, is never taken; the rest goes on.
func TestAnOfferFarAheadIsNotTaken(t *testing.T) {
	store := memory.New()
	p := saved("stock")
	f := start(t, store, follow.Config{}, p)
	ahead := appendMoves(t, memory.New(), Moved{"ghost", 1})
	ahead[0].Position = 900
	for range 2_000 {
		f.Offer(ahead)
	}
	gap := appendMoves(t, store, Moved{"a", 1}, Moved{"b", 1})
	gap[1].Position++
	f.Offer(gap)
	require.Equal(t, plain(t, store, "stock"), state(t, f, store, p))
	require.NotContains(t, state(t, f, store, p), "ghost")
}

// The follower looks at the log itself too, however much it is offered.
func TestAFollowerThatIsOfferedEverythingStillLooksAtTheLog(t *testing.T) {
	store := &counted{Store: memory.New()}
	p := saved("stock")
	f := start(t, store, follow.Config{}, p)
	require.NoError(t, f.WaitFor(t.Context(), 0))
	before := store.records.Load()
	for begin := time.Now(); time.Since(begin) < 2500*time.Millisecond; {
		records := appendMoves(t, store, Moved{"a", 1})
		f.Offer(records)
		require.NoError(t, f.WaitFor(t.Context(), records[0].Position))
	}
	require.Greater(t, store.records.Load(), before)
}

// Whoever offers an append to a follower that has nothing to do need not wait for it.
func TestWhatIsOfferedToAnIdleFollowerIsThereAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := deaf{memory.New()} // or the append wakes the follower, which then has something to do
		p := saved("stock")
		f := start(t, store, follow.Config{}, p)
		for range 10 {
			synctest.Wait()
			records := appendMoves(t, store, Moved{"a", 1}, Moved{"b", 2})
			f.Offer(records)
			require.Equal(t, records[1].Position, f.Status().Position)
			require.True(t, f.Status().Ready)
		}
		require.Equal(t, plain(t, store, "stock"), state(t, f, store, p))
		require.NoError(t, f.Close())
	})
}

// spaced is a store whose appends begin at multiples of ten.
type spaced struct{ deaf }

func (spaced) NextAppend(after eventstore.Position) eventstore.Position { return (after/10 + 1) * 10 }

// far returns records as a spaced store would have recorded them, as its nth append.
func far(records []eventstore.Recorded, n int) []eventstore.Recorded {
	for i := range records {
		records[i].Position, records[i].Append = eventstore.Position(10*n+i), eventstore.Position(10*n)
	}
	return records
}

// Where appends do not follow each other without a gap, the store says which do.
func TestAnOfferIsTakenWhereTheStoreSaysThatNothingLiesBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elsewhere := memory.New() // the log stays empty: only what is offered comes
		f := start(t, spaced{deaf{memory.New()}}, follow.Config{}, saved("stock"))
		for n := 1; n < 4; n++ {
			synctest.Wait()
			f.Offer(far(appendMoves(t, elsewhere, Moved{"a", 1}, Moved{"b", 2}), n))
			require.EqualValues(t, 10*n+1, f.Status().Position)
		}
		synctest.Wait()
		f.Offer(far(appendMoves(t, elsewhere, Moved{"a", 1}), 5))
		require.EqualValues(t, 31, f.Status().Position, "the fourth append may lie between")
		require.NoError(t, f.Close())
	})
}

// A view sees one cut, also where what is offered comes from inside it.
func TestAnOfferFromInsideAViewWaitsForItsEnd(t *testing.T) {
	store := memory.New()
	p := saved("stock")
	f := start(t, store, follow.Config{}, p)
	require.NoError(t, f.View(t.Context(), func(v *follow.View) error {
		before := text(t, p.In(v))
		f.Offer(appendMoves(t, store, Moved{"a", 1}))
		require.Equal(t, before, text(t, p.In(v)))
		return nil
	}))
	require.Equal(t, plain(t, store, "stock"), state(t, f, store, p))
}

func TestAFoldThatEndsTheGoroutineOfAnOfferStopsTheFollower(t *testing.T) {
	store := memory.New()
	f := start(t, store, follow.Config{}, follow.Projection[*Book]{Name: "quitter", New: func() *Book {
		b := NewBook("quitter")
		b.before = func(eventstore.Recorded) { (&testing.T{}).SkipNow() }
		return b
	}})
	require.NoError(t, f.WaitFor(t.Context(), 0))
	var offered sync.WaitGroup
	offered.Go(func() { f.Offer(appendMoves(t, store, Moved{"a", 1})) })
	offered.Wait()
	require.ErrorContains(t, f.WaitFor(t.Context(), 1), "ended the follower's goroutine")
}

// deaf is a store whose Wait tells of nothing for a minute.
type deaf struct{ *memory.Store }

func (deaf) Wait(ctx context.Context, _ eventstore.Position) error {
	select {
	case <-time.After(time.Minute):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Who knows of an event need not wait until the follower hears of it.
func TestWhoWaitsForAPositionHasTheLogRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := deaf{memory.New()}
		p := saved("stock")
		f := start(t, store, follow.Config{}, p)
		synctest.Wait()
		began := time.Now()
		for range 3 {
			records := appendMoves(t, store, Moved{"a", 1})
			require.NoError(t, f.WaitFor(t.Context(), records[0].Position))
		}
		require.Zero(t, time.Since(began))
		require.NoError(t, f.Close())
	})
}

// Who waits for a position that the log has not come to does not have it read on and on.
func TestWhoWaitsForTheFutureHasTheLogReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counted{Store: memory.New()}
		f := start(t, store, follow.Config{}, saved("stock"))
		appendMoves(t, store, Moved{"a", 1})
		require.NoError(t, f.WaitFor(t.Context(), 1))
		synctest.Wait()
		before := store.records.Load()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.ErrorIs(t, f.WaitFor(ctx, 2), context.DeadlineExceeded)
		require.LessOrEqual(t, store.records.Load()-before, int64(3))
		require.NoError(t, f.Close())
	})
}
