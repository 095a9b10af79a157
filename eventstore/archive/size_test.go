package archive_test

import (
	"context"
	"io"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/internal/race"
)

// endless is a store that makes its events while they are read, three an
// append, and forgets what is restored into it. So all memory that is used is
// the archive's.
type endless struct {
	eventstore.Store
	events, restored int
	measured         bool   // whether reading it notes live
	live             uint64 // greatest heap seen, in bytes that a collection leaves
}

func (s *endless) record(n int) eventstore.Recorded {
	stream := []string{"book-1", "book-2", "shelf-A"}[n%3]
	e := event(stream, n, "book.lent", `{"to":"ann", "days":14}`)
	e.Tags = []string{"reader:ann"}
	return eventstore.Recorded{
		Event: e, Version: uint64(n/3 + 1),
		Position: eventstore.Position(2 * (n + 1)), Append: eventstore.Position(2 * (n/3*3 + 1)), // with gaps
		RecordedAt: time.UnixMicro(1772355600000000 + int64(n/3)).UTC(),
	}
}

func (s *endless) measure() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.live = max(s.live, m.HeapAlloc)
}

func (s *endless) Read(_ context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for n := range s.events {
			if s.measured && n%(s.events/10) == 0 {
				s.measure()
			}
			if !yield(s.record(n), nil) {
				return
			}
		}
	}
}

func (s *endless) Restore(_ context.Context, after eventstore.Position, records []eventstore.Recorded) (eventstore.Position, error) {
	s.restored += len(records)
	return after + eventstore.Position(len(records)), eventstore.ValidateRestore(records)
}

func TestMemoryDoesNotGrowWithTheHistoryAtFullSize(t *testing.T) {
	// carry exports and imports at once, and returns the most memory in use meanwhile.
	carry := func(events int) uint64 {
		from, to := &endless{events: events, measured: true}, &endless{}
		from.measure()
		before := from.live
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := archive.Export(t.Context(), w, from, eventstore.Query{})
			w.CloseWithError(err)
			done <- err
		}()
		summary, err := archive.Import(t.Context(), to, r)
		require.NoError(t, err)
		require.NoError(t, <-done)
		require.Equal(t, events, summary.Added)
		require.Equal(t, events, to.restored)
		return from.live - min(from.live, before)
	}
	const MiB = 1 << 20
	carry(1_000) // what is allocated once
	few, many := 20_000, 200_000
	if race.Enabled {
		few, many = few/10, many/10
	}
	small, large := carry(few), carry(many)
	t.Logf("%d events: %d KiB, %d events: %d KiB", few, small>>10, many, large>>10)
	require.Less(t, small, uint64(8*MiB))
	require.Less(t, large, small+MiB)
}
