package sqlite_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// tickets counts the rows of a table of the caller's own.
func tickets(t testing.TB, store *sqlite.Store) (n int) {
	_, err := store.AppendWith(t.Context(), []eventstore.Event{event("count")}, func(c *driver.Conn, _ []eventstore.Recorded) error {
		return sqlitex.Execute(c, "SELECT count(*) FROM tickets", &sqlitex.ExecOptions{
			ResultFunc: func(stmt *driver.Stmt) error { n = stmt.ColumnInt(0); return nil },
		})
	})
	require.NoError(t, err)
	return n
}

func addTicket(c *driver.Conn, records []eventstore.Recorded) error {
	return sqlitex.Execute(c, "INSERT INTO tickets (position) VALUES (?)", &sqlitex.ExecOptions{Args: []any{int64(records[0].Position)}})
}

func TestATableOfTheCallersOwnIsCommittedWithTheEvents(t *testing.T) {
	path := newPath(t)
	store := open(t, path)
	_, err := store.AppendWith(t.Context(), []eventstore.Event{event("a")}, func(c *driver.Conn, _ []eventstore.Recorded) error {
		return sqlitex.Execute(c, "CREATE TABLE tickets (position INTEGER)", nil)
	})
	require.NoError(t, err)

	e := event("a")
	records, err := store.AppendWith(t.Context(), []eventstore.Event{e}, addTicket, eventstore.At("a", 1))
	require.NoError(t, err)
	require.Equal(t, uint64(2), records[0].Version)
	require.Equal(t, 1, tickets(t, store))

	// Sent again it is known, and nothing happens twice.
	again, err := store.AppendWith(t.Context(), []eventstore.Event{e}, addTicket, eventstore.At("a", 1))
	require.NoError(t, err)
	require.Equal(t, records, again)
	require.Equal(t, 1, tickets(t, store))

	// All or nothing: by an error of the caller's, and by a conflict.
	refused := errors.New("refused")
	lost := event("a")
	_, err = store.AppendWith(t.Context(), []eventstore.Event{lost}, func(c *driver.Conn, records []eventstore.Recorded) error {
		require.NoError(t, addTicket(c, records))
		return refused
	})
	require.ErrorIs(t, err, refused)
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	_, err = store.AppendWith(t.Context(), []eventstore.Event{lost}, addTicket, eventstore.At("a", 1))
	require.ErrorIs(t, err, eventstore.ErrConflict)
	require.Equal(t, 1, tickets(t, store))
	require.Equal(t, []int{0}, there(t, store, lost))

	// The file opens again with the table in it.
	require.NoError(t, store.Close())
	store, err = sqlite.Open(path)
	require.NoError(t, err)
	defer store.Close()
	require.Equal(t, 1, tickets(t, store))
}

func TestWhatIsCommittedWithTheEventsLeavesLogAndTransactionAlone(t *testing.T) {
	store := open(t, newPath(t))
	run := func(sql ...string) error {
		_, err := store.AppendWith(t.Context(), []eventstore.Event{event("a")}, func(c *driver.Conn, _ []eventstore.Recorded) error {
			for _, one := range sql {
				if err := sqlitex.ExecuteTransient(c, one, nil); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	}
	require.ErrorIs(t, run("INSERT INTO events SELECT position + 1, append, randomblob(16), stream, version + 1, type, schema, recorded_at, tags, meta, data FROM events"), eventstore.ErrInvalid)
	require.ErrorIs(t, run("ROLLBACK TO also", "RELEASE also"), eventstore.ErrNotApplied)
	require.Empty(t, there(t, store))
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.Zero(t, head)
	require.ErrorIs(t, run("COMMIT"), eventstore.ErrOutcomeUnknown, "it may be there, and is")
	head, err = store.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, eventstore.Position(1), head)
	_, err = store.Append(t.Context(), []eventstore.Event{event("a")}, eventstore.At("a", 1))
	require.NoError(t, err)
}
