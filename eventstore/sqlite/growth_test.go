package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/timing"
)

// growthVariable sets how many streams, and how many events of one stream, the tests
// of growth make; 10,000 if not set. A million takes some minutes and 2 GB:
//
//	ROLLFORWARD_GROWTH=1000000 go test -timeout 30m -v -run Growth ./eventstore/sqlite
const growthVariable = "ROLLFORWARD_GROWTH"

const (
	slower = 2        // how many times as long the p99 of appends to a large file may take
	heap   = 16 << 20 // by how many bytes the live heap may grow with a large file
	timed  = 100      // appends in a run
)

// grown makes a store of n events, the i-th in the stream that name gives, and
// returns by how many bytes the heap is larger than before, garbage aside.
func grown(t *testing.T, n int, name func(i int) string, options ...sqlite.Option) (store *sqlite.Store, bytes int) {
	t.Helper()
	store = open(t, newPath(t), options...)
	before, began := liveBytes(), time.Now()
	for i := 0; i < n; i += 500 {
		events := make([]eventstore.Event, min(500, n-i))
		for j := range events {
			events[j] = event(name(i + j))
		}
		_, err := store.Append(ctx, events)
		require.NoError(t, err)
	}
	bytes = liveBytes() - before
	t.Logf("%d events were appended in %v; the heap grew by %d KiB", n, time.Since(began).Round(time.Millisecond), bytes>>10)
	return store, bytes
}

func liveBytes() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// appends returns a run of appends, each to the stream that next gives, where it
// stands, and the shortest p99 of all runs so far.
func appends(t *testing.T, store *sqlite.Store, next func() string) (run func(), p99 *time.Duration) {
	best := time.Duration(1<<63 - 1)
	return func() {
		var took []time.Duration
		for range timed {
			e := event(next())
			version, err := store.Version(ctx, e.Stream)
			require.NoError(t, err)
			began := time.Now()
			_, err = store.Append(ctx, []eventstore.Event{e}, eventstore.At(e.Stream, version))
			took = append(took, time.Since(began))
			require.NoError(t, err)
		}
		slices.Sort(took)
		best = min(best, took[timed*99/100-1])
	}, &best
}

// p99s runs appends to both stores in turn until their shortest p99s are as holds
// says, or for as long as timing.Until is patient.
func p99s(t *testing.T, large, empty *sqlite.Store, ofLarge, ofEmpty func() string, holds func(atLarge, atEmpty time.Duration) bool) (atLarge, atEmpty time.Duration) {
	t.Helper()
	there, p99 := appends(t, large, ofLarge)
	here, least := appends(t, empty, ofEmpty)
	timing.Until(func(_, _ time.Duration) bool { return holds(*p99, *least) }, there, here)
	t.Logf("p99 of appends: %v, and %v to a store that began empty", *p99, *least)
	return *p99, *least
}

func within(atLarge, atEmpty time.Duration) bool { return atLarge < slower*atEmpty }

func beyond(atLarge, atEmpty time.Duration) bool { return !within(atLarge, atEmpty) }

func any100() func() string {
	draw := rand.New(rand.NewPCG(1, 2))
	return func() string { return fmt.Sprint("s-", draw.IntN(100)) }
}

// F37: a million streams. Streams are drawn at random, so that their pages are cold.
func TestGrowthOfStreamsSlowsNoAppendAndTakesNoMemory(t *testing.T) {
	n, draw := sizeOf(t, growthVariable, 10_000, 2_000), rand.New(rand.NewPCG(3, 4))
	large, bytes := grown(t, n, func(i int) string { return fmt.Sprint("change-", i) })
	require.Less(t, bytes, heap)
	atLarge, atEmpty := p99s(t, large, open(t, newPath(t)), func() string { return fmt.Sprint("change-", draw.IntN(n)) }, any100(), within)
	require.Less(t, atLarge, slower*atEmpty)
}

// F38: a stream of a million events.
func TestGrowthOfAStreamSlowsNoAppendAndReadingItTakesNoMemory(t *testing.T) {
	n := sizeOf(t, growthVariable, 10_000, 2_000)
	large, bytes := grown(t, n, func(int) string { return "long" })
	require.Less(t, bytes, heap)
	events, bytes := readLong(t, large, n, func(eventstore.Recorded) {})
	require.Equal(t, n, events)
	require.Less(t, bytes, heap)
	atLarge, atEmpty := p99s(t, large, open(t, newPath(t)), func() string { return "long" }, any100(), within)
	require.Less(t, atLarge, slower*atEmpty)
}

// readLong reads the long stream and returns by how much the heap was larger on the
// way, at most, looked at ten times.
func readLong(t *testing.T, store *sqlite.Store, n int, kept func(eventstore.Recorded)) (events, bytes int) {
	t.Helper()
	before := liveBytes()
	for r, err := range store.Read(ctx, eventstore.Query{Streams: []string{"long"}}) {
		require.NoError(t, err)
		kept(r)
		if events++; events%max(1, n/10) == 0 {
			bytes = max(bytes, liveBytes()-before)
		}
	}
	t.Logf("%d events were read; the heap grew by %d KiB", events, bytes>>10)
	return events, bytes
}

// The controls of F37 and F38: that one append in 25 looks at every event, and that a
// reader keeps what it reads, is seen.
func TestTheHarnessOfGrowthSeesWhatGrowsAtFullSize(t *testing.T) {
	withoutRace(t)
	const n = 10_000
	path := newPath(t)
	looks, appended := false, 0
	large := open(t, path, sqlite.WithStep(func(step string) {
		if step != "event" || !looks {
			return
		}
		if appended++; appended%25 == 0 {
			_, err := raw(t, path, "SELECT count(*) FROM events WHERE length(data) > 0")
			require.NoError(t, err)
		}
	}))
	var events []eventstore.Event
	for i := range n {
		e := event("long")
		e.Data = fmt.Appendf(nil, `{"n": %d, "fill": "%01600d"}`, i, 0)
		if events = append(events, e); len(events) == 500 {
			_, err := large.Append(ctx, events)
			require.NoError(t, err)
			events = events[:0]
		}
	}
	var all []eventstore.Recorded
	_, bytes := readLong(t, large, n, func(r eventstore.Recorded) { all = append(all, r) })
	require.Len(t, all, n)
	require.Greater(t, bytes, heap)
	looks = true
	atLarge, atEmpty := p99s(t, large, open(t, newPath(t)), func() string { return "long" }, any100(), beyond)
	require.GreaterOrEqual(t, atLarge, slower*atEmpty)
	looks = false
}
