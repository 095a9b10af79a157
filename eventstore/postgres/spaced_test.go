package postgres_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

var _ follow.Spaced = (*postgres.Store)(nil)

// A process that appends alone finds each of its appends where the store says that it
// begins if nothing lies between.
func TestAppendsOfOneProcessFollowOnEachOther(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		store := open(t, pgtest.Database(t), options...)
		var last eventstore.Position
		for i := range 5 {
			events := make([]eventstore.Event, i+1)
			for k := range events {
				events[k] = eventstore.Event{ID: uuid.Must(uuid.NewV7()), Stream: "a", Type: "thing.happened", Schema: 1, Data: []byte(`{}`)}
			}
			records, err := store.Append(t.Context(), events)
			require.NoError(t, err)
			require.Equal(t, store.NextAppend(last), records[0].Position)
			last = records[i].Position
		}
	})
}
