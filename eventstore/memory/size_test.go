package memory_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
)

// held is how many bytes a store may hold for an event beside its data and metadata.
const held = 300

// beyond fills a store with n events of 300 bytes and full metadata, twenty in a
// stream, and returns what it holds for one beside those bytes.
func beyond(t *testing.T, n int, kept func(eventstore.Recorded)) float64 {
	t.Helper()
	store := memory.New()
	before, bytes := live(), 0
	for i := 0; i < n; i += 100 {
		events := make([]eventstore.Event, 100)
		for j := range events {
			id := uuid.Must(uuid.NewV7())
			events[j] = eventstore.Event{
				ID: id, Stream: fmt.Sprintf("change-CHG-%07d", (i+j)/20), Type: "change.moved", Schema: 1,
				Tags: []string{fmt.Sprintf("ci:db-%03d", (i+j)%500)},
				Data: fmt.Appendf(nil, `{"change":"CHG-%07d","to":"authorize","reason":"%0242d"}`, (i+j)/20, 0),
				Meta: fmt.Appendf(nil, `{"actor":"u-7f3a","reason":"the board has agreed","command":"Move","key":"%s","correlation":"CHG-%07d","causation":"%s",`+
					`"source":"deploy-tool","occurred_at":"2026-03-01T09:00:00.123456Z","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`,
					id, (i+j)/20, id),
			}
			bytes += len(events[j].Data) + len(events[j].Meta)
		}
		records, err := store.Append(t.Context(), events)
		require.NoError(t, err)
		for _, r := range records {
			kept(r)
		}
	}
	size := live() - before
	require.NoError(t, store.Close()) // and not before: it would be garbage
	return float64(size-bytes) / float64(n)
}

// live returns the size of the heap without its garbage.
func live() int {
	runtime.GC()
	runtime.GC() // what the first one only finalises
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Maps and lists are at their emptiest where they have just grown, so that more than
// one size is looked at.
func TestAnEventTakesLittleBesideItsBytes(t *testing.T) {
	sizes := []int{100_000, 125_000}
	if race.Enabled {
		sizes = sizes[:1]
	}
	for _, n := range sizes {
		each := beyond(t, n, func(eventstore.Recorded) {})
		t.Logf("%d events: %.0f bytes each beside data and metadata", n, each)
		require.Less(t, each, float64(held))
	}
}

// The measure must be able to fail: records that somebody keeps are seen.
func TestWhatIsHeldOfAnEventIsMeasured(t *testing.T) {
	var all []string
	const n, more = 10_000, 200
	without := beyond(t, n, func(eventstore.Recorded) {})
	with := beyond(t, n, func(eventstore.Recorded) { all = append(all, strings.Repeat("x", more)) })
	require.Len(t, all, n)
	require.Greater(t, with, without+more)
	require.Greater(t, with, float64(held))
}
