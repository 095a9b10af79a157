package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// However many appends of a process wait for a stream, the others have connections.
func TestThoseThatWaitForAStreamLeaveConnectionsForTheOthers(t *testing.T) {
	dsn := pgtest.Database(t)
	store := open(t, dsn)
	held := func() []eventstore.Event {
		return []eventstore.Event{{ID: uuid.Must(uuid.NewV7()), Stream: "held", Type: "thing.happened", Schema: 1, Data: []byte(`{}`)}}
	}
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer c.Close(context.WithoutCancel(t.Context()))
	tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	require.NoError(t, err)
	_, err = store.AppendTx(t.Context(), tx, held())
	require.NoError(t, err)

	const waiting = 40 // more than there are connections
	var all sync.WaitGroup
	for i := range waiting {
		all.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = store.Append(t.Context(), held())
			} else {
				_, err = store.AppendWith(t.Context(), held(), func(context.Context, pgx.Tx, []eventstore.Recorded) error { return nil })
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	require.Eventually(t, func() bool { return postgres.Patient(store) > 1 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 20 {
		free := held()
		free[0].Stream = "free"
		_, err := store.Append(ctx, free)
		require.NoError(t, err)
		_, err = store.AppendWith(ctx, []eventstore.Event{{ID: uuid.Must(uuid.NewV7()), Stream: "free", Type: "thing.happened", Schema: 1, Data: []byte(`{}`)}},
			func(context.Context, pgx.Tx, []eventstore.Recorded) error { return nil })
		require.NoError(t, err)
		_, err = store.Version(ctx, "held")
		require.NoError(t, err)
	}
	version, err := store.Version(ctx, "held")
	require.NoError(t, err)
	require.Zero(t, version)
	require.NoError(t, tx.Commit(t.Context()))
	all.Wait()
	version, err = store.Version(t.Context(), "held")
	require.NoError(t, err)
	require.EqualValues(t, waiting+1, version)
}

// A commit whose answer does not come holds up those that share it, and the next ones
// for a second.
func TestACommitWithoutAnAnswerHoldsUpTheOthersForAMoment(t *testing.T) {
	silence := make(chan struct{})
	var commits atomic.Int32
	store := open(t, pgtest.Database(t), postgres.WithStep(func(step string) {
		if step == "commit" && commits.Add(1) <= 2 {
			<-silence
		}
	}))
	add := func(ctx context.Context, stream string) error {
		_, err := store.Append(ctx, []eventstore.Event{{ID: uuid.Must(uuid.NewV7()), Stream: stream, Type: "thing.happened", Schema: 1, Data: []byte(`{}`)}})
		return err
	}
	var held sync.WaitGroup
	for i := range 2 {
		held.Go(func() {
			if err := add(t.Context(), fmt.Sprint("held-", i)); err != nil {
				t.Error(err)
			}
		})
		require.Eventually(t, func() bool { return commits.Load() == int32(i+1) }, 10*time.Second, time.Millisecond)
		time.Sleep(1100 * time.Millisecond) // as long as it takes to be noticed
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, add(ctx, "free"))
	close(silence)
	held.Wait()
	for i := range 2 {
		version, err := store.Version(t.Context(), fmt.Sprint("held-", i))
		require.NoError(t, err)
		require.EqualValues(t, 1, version)
	}
}
