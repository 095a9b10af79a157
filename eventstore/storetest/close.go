package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

var closeClauses = []clause{
	{says: "after close every call fails as closed, and a second close does nothing", run: func(t testing.TB, s Suite) {
		store := s.open(t)
		s.add(t, store, events("a"))
		require.NoError(t, store.Close())
		require.NoError(t, store.Close())
		ctx := s.context(t)
		_, err := store.Append(ctx, events("a"))
		refused(t, err, eventstore.ErrClosed)
		_, err = collect(ctx, store, eventstore.Query{})
		require.ErrorIs(t, err, eventstore.ErrClosed)
		_, err = store.Version(ctx, "a")
		require.ErrorIs(t, err, eventstore.ErrClosed)
		_, err = store.Head(ctx)
		require.ErrorIs(t, err, eventstore.ErrClosed)
		require.ErrorIs(t, store.Wait(ctx, 0), eventstore.ErrClosed)
	}},
	{says: "close under load ends every call with success or a typed error", run: func(t testing.TB, s Suite) {
		for range 5 {
			store := s.open(t)
			started := make(chan struct{}, 64)
			var mu sync.Mutex
			var acknowledged []eventstore.Recorded
			var appendErrs, readErrs []error
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for {
						records, err := store.Append(context.Background(), events("a"))
						mu.Lock()
						acknowledged = append(acknowledged, records...)
						if err != nil {
							appendErrs = append(appendErrs, err)
						}
						mu.Unlock()
						if err != nil {
							return
						}
						time.Sleep(100 * time.Microsecond)
						select {
						case started <- struct{}{}:
						default:
						}
					}
				})
				wg.Go(func() {
					for {
						if _, err := collect(context.Background(), store, eventstore.Query{Limit: 100}); err != nil {
							mu.Lock()
							readErrs = append(readErrs, err)
							mu.Unlock()
							return
						}
						time.Sleep(100 * time.Microsecond)
					}
				})
			}
			for range 8 {
				<-started
			}
			s.within(t, "close under load", func() { _ = store.Close() })
			s.within(t, "calls under way at close", wg.Wait)
			for _, err := range appendErrs {
				refused(t, err, eventstore.ErrClosed)
			}
			for _, err := range readErrs {
				require.ErrorIs(t, err, eventstore.ErrClosed)
			}
			if s.Reopen != nil {
				again := s.Reopen(t, store)
				ids := map[string]bool{}
				for _, r := range s.read(t, again, eventstore.Query{}) {
					ids[r.ID.String()] = true
				}
				for _, r := range acknowledged {
					require.True(t, ids[r.ID.String()], "an acknowledged event is gone after close")
				}
				_ = again.Close()
			}
		}
	}},
}
