package archive_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/race"
)

func openFile(t testing.TB) eventstore.Store {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "library.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestEveryStoreGivesTheSameFile(t *testing.T) {
	want := export(t, library(t))
	file, inMemory := openFile(t), memory.New()
	for _, s := range []eventstore.Store{file, inMemory} {
		_, err := archive.Import(t.Context(), s, bytes.NewReader(want))
		require.NoError(t, err)
		require.Equal(t, string(want), string(export(t, s)))
	}
	// What is recorded there afterwards is the same again elsewhere.
	_, err := file.Append(t.Context(), []eventstore.Event{event("book-7", 2, "book.lent", `{"to":"ann"}`)})
	require.NoError(t, err)
	want = export(t, file)
	summary, err := archive.Import(t.Context(), inMemory, bytes.NewReader(want))
	require.NoError(t, err)
	require.Equal(t, 1, summary.Added)
	require.Equal(t, string(want), string(export(t, inMemory)))
}

func TestALargeHistoryPassesThroughEveryStoreAtFullSize(t *testing.T) {
	events := 200_000
	if race.Enabled {
		events /= 100
	}

	digest := func(from eventstore.Store) string {
		sum := sha256.New()
		s, err := archive.Export(t.Context(), sum, from, eventstore.Query{})
		require.NoError(t, err)
		require.Equal(t, events, s.Events)
		return string(sum.Sum(nil))
	}
	pour := func(from, to eventstore.Store) {
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := archive.Export(t.Context(), w, from, eventstore.Query{})
			w.CloseWithError(err)
			done <- err
		}()
		s, err := archive.Import(t.Context(), to, r)
		r.CloseWithError(err)
		require.NoError(t, err)
		require.NoError(t, <-done)
		require.Equal(t, events, s.Added)
	}
	made, inMemory, file, back := &endless{events: events}, memory.New(), openFile(t), memory.New()
	want := digest(made)
	pour(made, inMemory)
	require.Equal(t, want, digest(inMemory))
	pour(inMemory, file)
	require.Equal(t, want, digest(file))
	pour(file, back)
	require.Equal(t, want, digest(back))
}
