package archive_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
)

const rounds = 10 // of what a limit is taken from

// BenchmarkCheck reads an archive of 10,000 events. The limit is to find out
// whether its lines are JSON, which the strictest reader cannot do without.
func BenchmarkCheck(b *testing.B) {
	file := export(b, &endless{events: 10_000})
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		_, err := archive.Check(bytes.NewReader(file))
		require.NoError(b, err)
	}
	took := b.Elapsed() / time.Duration(b.N)
	start := time.Now()
	for range rounds {
		for line := range bytes.Lines(file) {
			require.True(b, jsontext.Value(line).IsValid())
		}
	}
	b.ReportMetric(float64(time.Since(start))/float64(took*rounds), "x-limit")
}

// BenchmarkExport writes an archive of 10,000 events. The limit is to make the
// events, and to look whether a store may hold them.
func BenchmarkExport(b *testing.B) {
	store := &endless{events: 10_000}
	for b.Loop() {
		_, err := archive.Export(b.Context(), io.Discard, store, eventstore.Query{})
		require.NoError(b, err)
	}
	took := b.Elapsed() / time.Duration(b.N)
	start := time.Now()
	for range rounds {
		for r := range store.Read(context.Background(), eventstore.Query{}) {
			require.NoError(b, eventstore.Validate([]eventstore.Event{r.Event}, nil))
		}
	}
	b.ReportMetric(float64(time.Since(start))/float64(took*rounds), "x-limit")
}
