package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

var waitClauses = []clause{
	{says: "wait returns at once where there is a later event", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		records := s.add(t, store, events("a", "a"))
		require.NoError(t, store.Wait(s.context(t), 0))
		require.NoError(t, store.Wait(s.context(t), records[0].Position))
	}},
	{says: "an append wakes everybody who waits", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		head := eventstore.Position(0)
		for range 3 {
			errs, after := make([]error, 8), head
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { errs[i] = waitFor(s.context(t), store, after) })
			}
			time.Sleep(5 * time.Millisecond)
			head = s.add(t, store, events("a"))[0].Position
			wg.Wait()
			for _, err := range errs {
				require.NoError(t, err, "waiting for an append that has come")
			}
		}
	}},
	{says: "wait ends with its context", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		defer cancel()
		s.within(t, "waiting with a context that has ended", func() {
			for {
				if err := store.Wait(ctx, 0); err != nil {
					if ctx.Err() == nil || !isContext(err) {
						t.Errorf("wait: %v", err)
					}
					return
				}
			}
		})
	}},
	{says: "close wakes everybody who waits", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = waitFor(s.context(t), store, 0) })
		}
		time.Sleep(5 * time.Millisecond)
		require.NoError(t, store.Close())
		wg.Wait()
		for _, err := range errs {
			require.ErrorIs(t, err, eventstore.ErrClosed)
		}
	}},
}

// waitFor waits until there is an event after the given position, since a store may wake early.
func waitFor(ctx context.Context, store eventstore.Store, after eventstore.Position) error {
	for {
		if err := store.Wait(ctx, after); err != nil {
			return err
		}
		head, err := store.Head(ctx)
		if err != nil || head > after {
			return err
		}
	}
}

func isContext(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
