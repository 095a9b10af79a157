package sqlite_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// F05: what a commit left whose sync failed is not acknowledged before it is written
// once more, by a resend or by any other append; nor is what somebody left who was
// killed. That it is on disk then is shown by the power cuts after failed syncs.
func TestWhatMayNotBeOnDiskIsWrittenOnceMoreBeforeAnythingIsAcknowledged(t *testing.T) {
	path, hardened, fail := newPath(t), 0, false
	failure := driver.ResultIOErr.ToError()
	store := open(t, path, sqlite.WithHarden(func() { hardened++ }), sqlite.WithCommit(func(commit func() error) error {
		if err := commit(); err != nil || !fail {
			return err
		}
		return failure
	}))
	add := func(e eventstore.Event) error {
		_, err := store.Append(t.Context(), []eventstore.Event{e})
		return err
	}
	require.NoError(t, add(event("a")))
	require.Equal(t, 1, hardened, "whoever wrote the file before may have been killed")
	for range 5 {
		require.NoError(t, add(event("a")))
	}
	require.Equal(t, 1, hardened, "a sync that succeeded is enough")

	e := event("a")
	fail = true
	require.ErrorIs(t, add(e), eventstore.ErrOutcomeUnknown)
	fail = false
	require.Equal(t, 1, hardened)
	require.NoError(t, add(e), "sent again")
	require.Equal(t, 2, hardened)
	require.NoError(t, add(event("a")))
	require.Equal(t, 2, hardened)
	require.Equal(t, []int{1}, there(t, store, e))
}
