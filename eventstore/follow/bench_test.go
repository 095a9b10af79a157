package follow_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// counter is a fold that costs next to nothing, so that the follower's own cost shows.
type counter struct{ events, bytes int }

func (c *counter) Apply(r eventstore.Recorded) error {
	c.events++
	c.bytes += len(r.Data)
	return nil
}

// BenchmarkCatchUp compares a follower's way to the head of a log of 100,000
// events with the least it can cost: reading the log and applying it.
func BenchmarkCatchUp(b *testing.B) {
	const events, perAppend = 100_000, 100
	store := memory.New()
	for range events / perAppend {
		batch := make([]eventstore.Event, perAppend)
		for i := range batch {
			batch[i] = event(b, "item-bolts", Moved{"bolts", 1})
		}
		_, err := store.Append(b.Context(), batch)
		require.NoError(b, err)
	}
	cheap := []follow.Projection[*counter]{}
	dear := []follow.Projection[Saved]{stock, ledger}
	for _, name := range []string{"a", "b"} {
		cheap = append(cheap, follow.Projection[*counter]{Name: name, New: func() *counter { return &counter{} }})
	}
	b.Run("folds that count", func(b *testing.B) { catchUp(b, store, events, cheap[0], cheap[1]) })
	b.Run("folds that decode", func(b *testing.B) { catchUp(b, store, events, dear[0], dear[1]) })
}

func catchUp[F follow.Fold](b *testing.B, store eventstore.Store, events eventstore.Position, first, second follow.Projection[F]) {
	config := follow.Config{Logger: slog.New(slog.DiscardHandler)}
	var followed, bare time.Duration
	for b.Loop() {
		begin := time.Now()
		f, err := follow.Start(store, config, first, second)
		require.NoError(b, err)
		require.NoError(b, f.WaitFor(b.Context(), events))
		followed += time.Since(begin)
		require.NoError(b, f.Close())

		begin = time.Now()
		folds := []F{first.New(), second.New()}
		for r, err := range store.Read(context.Background(), eventstore.Query{}) {
			if err != nil {
				b.Fatal(err)
			}
			for _, fold := range folds {
				if err := fold.Apply(r); err != nil {
					b.Fatal(err)
				}
			}
		}
		bare += time.Since(begin)
	}
	b.ReportMetric(float64(bare)/float64(followed), "x-limit")
	b.ReportMetric(float64(events)*float64(b.N)/followed.Seconds(), "events/s")
}

func BenchmarkView(b *testing.B) {
	f := start(b, memory.New(), follow.Config{}, stock)
	defer f.Close()
	require.NoError(b, f.WaitFor(b.Context(), 0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f.View(context.Background(), func(v *follow.View) error { stock.In(v); return nil }); err != nil {
				b.Error(err)
			}
		}
	})
}
