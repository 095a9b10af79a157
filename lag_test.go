//go:build unix

package rollforward_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// On PostgreSQL the end of the log that can be read lags behind what is committed while
// an older transaction is open. A command waits for what its engine recorded before: it
// does not take a CI for unknown that the same program has just recorded.
func TestACommandSeesWhatItsEngineRecordedWhereTheLogLagsBehind(t *testing.T) {
	dsn := pgtest.Database(t)
	store, err := postgres.Open(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	e := open(t, store)
	estate(t, e)

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	older := eventstore.Event{ID: uuid.New(), Stream: "elsewhere", Type: "elsewhere.happened", Schema: 1, Data: []byte("{}")}
	_, err = store.AppendTx(t.Context(), tx, []eventstore.Event{older})
	require.NoError(t, err)

	_, err = e.CMDB.RecordCall(t.Context(), command.Call{Actor: carol}, cmdb.Add("db-02", "database"))
	require.NoError(t, err)
	recorded := e.Door.Last()
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.Less(t, head, recorded, "the log does not lag behind: the test proves nothing")

	type answer struct {
		change change.Change
		why    []command.Refusal
		err    error
	}
	raise := change.Raise{Content: change.Content{Title: "Tune db-02", CIs: []string{"db-02"}}}
	raised, asked := make(chan answer, 1), make(chan answer, 1)
	go func() {
		c, err := e.Changes.Raise(t.Context(), alice, raise, change.Submit{})
		raised <- answer{change: c, err: err}
	}()
	go func() {
		why, err := e.Changes.WhyRaise(t.Context(), alice, raise, change.Submit{})
		asked <- answer{why: why, err: err}
	}()
	select {
	case a := <-raised:
		t.Fatalf("answered without having seen what was recorded: %+v", a)
	case a := <-asked:
		t.Fatalf("answered without having seen what was recorded: %+v", a)
	case <-time.After(300 * time.Millisecond):
	}
	require.NoError(t, tx.Commit(t.Context()))
	a := <-raised
	require.NoError(t, a.err)
	require.Equal(t, []string{"db-02"}, a.change.Content.CIs)
	a = <-asked
	require.NoError(t, a.err)
	require.Empty(t, a.why)
}
