package follow_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
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
