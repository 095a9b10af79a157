package driven_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay/driven"
)

// BenchmarkDriven brings folds from an empty state to the head by messages of a
// subscriber of their own; x-limit is the time by that of a follower of the same log.
func BenchmarkDriven(b *testing.B) {
	const events = 20_000
	store := memory.New()
	record(b, store, events)
	var byMessages, followed time.Duration
	for b.Loop() {
		began := time.Now()
		f, err := driven.Start(driven.Config{Store: store, Logger: quiet}, counters)
		require.NoError(b, err)
		require.NoError(b, f.WaitFor(within(b), 0))
		byMessages += time.Since(began)
		require.NoError(b, f.Close())

		began = time.Now()
		follower, err := follow.Start(store, follow.Config{Logger: quiet}, counters)
		require.NoError(b, err)
		require.NoError(b, follower.WaitFor(within(b), 0))
		followed += time.Since(began)
		require.NoError(b, follower.Close())
	}
	b.ReportMetric(float64(byMessages)/float64(followed), "x-limit")
	b.ReportMetric(float64(events*b.N)/byMessages.Seconds(), "events/s")
}
