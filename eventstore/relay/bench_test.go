package relay_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// BenchmarkConsume delivers a log of 20,000 events in 1,000 streams to a receiver that
// acknowledges at once. x-readall is how many times as long it takes as to read that
// log from the same store.
func BenchmarkConsume(b *testing.B) {
	const events, streams, batch = 20_000, 1_000, 100
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite} {
		store := kind.New(b)
		for i := 0; i < events; i += batch {
			var all []eventstore.Event
			for j := range batch {
				all = append(all, eventstore.Event{
					ID: uuid.New(), Stream: fmt.Sprintf("s-%d", (i*7+j*13)%streams), Type: "test.done", Schema: 1,
					Data: []byte(`{"title":"upgrade the database","risk":3}`), Meta: []byte(`{"actor":"ann","correlation":"c-1"}`),
				})
			}
			_, err := store.Append(b.Context(), all)
			require.NoError(b, err)
		}
		read := func() time.Duration {
			began, n := time.Now(), 0
			for _, err := range store.Read(b.Context(), eventstore.Query{Prefix: "s-"}) {
				require.NoError(b, err)
				n++
			}
			require.Equal(b, events, n)
			return time.Since(began)
		}
		read()
		for _, workers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/%d-workers", kind, workers), func(b *testing.B) {
				b.ReportAllocs()
				var raw, consumed time.Duration
				for i := range b.N {
					raw += read()
					began := time.Now()
					s, err := relay.NewSubscriber(relay.Config{
						Store: store, Name: fmt.Sprintf("bench-%d-%d-%d", workers, b.N, i), Workers: workers, Logger: slog.New(slog.DiscardHandler),
					})
					require.NoError(b, err)
					messages, err := s.Subscribe(b.Context(), "prefix:s-")
					require.NoError(b, err)
					var left atomic.Int64
					for left.Store(events); left.Load() > 0; left.Add(-1) {
						(<-messages).Ack()
					}
					consumed += time.Since(began)
					require.NoError(b, s.Close())
				}
				b.ReportMetric(float64(consumed)/float64(raw), "x-readall")
				b.ReportMetric(float64(consumed.Nanoseconds())/float64(b.N*events), "ns/event")
			})
		}
	}
}
