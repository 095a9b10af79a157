package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

var ctx = context.Background()

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "log.db") }

// open opens a store and closes it at the end of the test.
func open(t testing.TB, path string, options ...sqlite.Option) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(path, options...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// filled makes a closed file with n events, one an append, of streams s-0 to s-9.
func filled(t testing.TB, n int) (path string, records []eventstore.Recorded) {
	t.Helper()
	path = newPath(t)
	store, err := sqlite.Open(path)
	require.NoError(t, err)
	var events []eventstore.Event
	for i := range n {
		events = append(events, event(fmt.Sprint("s-", i%10), fmt.Sprint("tag:", i%100)))
	}
	for len(events) > 0 {
		part := events[:min(len(events), 500)]
		added, err := store.Append(ctx, part)
		require.NoError(t, err)
		records, events = append(records, added...), events[len(part):]
	}
	require.NoError(t, store.Close())
	return path, records
}

func event(stream string, tags ...string) eventstore.Event {
	id := uuid.Must(uuid.NewV7())
	return eventstore.Event{
		ID: id, Stream: stream, Type: "thing.happened", Schema: 1, Tags: tags,
		Data: fmt.Appendf(nil, `{"id": %q, "fill": "%064d"}`, id, 0),
		Meta: []byte(`{"actor":"ann","reason":"because","command":"Do","key":"k1"}`),
	}
}

func all(t testing.TB, store eventstore.Store, q eventstore.Query) []eventstore.Recorded {
	t.Helper()
	var records []eventstore.Recorded
	for r, err := range store.Read(ctx, q) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

// raw runs SQL on a connection that is no store's and returns its rows.
func raw(t testing.TB, path, sql string) (rows [][]string, err error) {
	t.Helper()
	conn, err := driver.OpenConn(path, driver.OpenReadWrite|driver.OpenCreate)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	return rows, sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{ResultFunc: func(stmt *driver.Stmt) error {
		row := make([]string, stmt.ColumnCount())
		for i := range row {
			row[i] = stmt.ColumnText(i)
		}
		rows = append(rows, row)
		return nil
	}})
}

func TestAStoreOpenedAgainHasTheSameHistory(t *testing.T) {
	path, records := filled(t, 600)
	require.Equal(t, records, all(t, open(t, path), eventstore.Query{}))
	_, err := os.Stat(path + "-wal")
	require.NoError(t, err)
}

func TestTheLastStoreLeavesOneFileOnly(t *testing.T) {
	path, _ := filled(t, 10)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestCloseLeavesNoFileDescriptorAndNoWaiter(t *testing.T) {
	path, _ := filled(t, 10)
	before := descriptors(t)
	for range 10 {
		store, err := sqlite.Open(path)
		require.NoError(t, err)
		_, err = store.Settings() // all connections there can be
		require.NoError(t, err)
		waited := make(chan error, 1)
		go func() { waited <- store.Wait(ctx, 10) }()
		time.Sleep(time.Millisecond)
		require.NoError(t, store.Close())
		require.ErrorIs(t, <-waited, eventstore.ErrClosed)
		require.NoError(t, store.Close())
	}
	require.Equal(t, before, descriptors(t))
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not list file descriptors in /proc/self/fd")
	}
	return len(entries)
}

func TestCloseEndsAnAppendThatWaitsForAnotherProcess(t *testing.T) {
	path := newPath(t)
	store := open(t, path)
	release := holdLock(t, path)
	defer release()
	appended := make(chan error, 1)
	go func() {
		_, err := store.Append(ctx, []eventstore.Event{event("s")})
		appended <- err
	}()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, store.Close())
	err := <-appended
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	require.ErrorIs(t, err, eventstore.ErrClosed)
}

// holdLock takes the file's write lock on a connection that is no store's.
func holdLock(t testing.TB, path string) (release func()) {
	t.Helper()
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteTransient(conn, "BEGIN IMMEDIATE", nil))
	return func() { // from any goroutine
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What this process has looked at or appended is recalled, until another process is
// seen to have appended.
func TestWhereStreamsStandIsRecalled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	open := func() *sqlite.Store {
		store, err := sqlite.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		return store
	}
	one, other := open(), open()
	recalls := func(stream string, version uint64, known bool) {
		t.Helper()
		v, ok := one.Recall(stream)
		require.Equal(t, known, ok, stream)
		require.Equal(t, version, v, stream)
	}
	recalls("a", 0, false)
	_, err := one.Append(t.Context(), []eventstore.Event{event("a"), event("a"), event("b")})
	require.NoError(t, err)
	recalls("a", 2, true)
	recalls("b", 1, true)
	recalls("c", 0, false)
	_, err = one.Version(t.Context(), "c")
	require.NoError(t, err)
	recalls("c", 0, true)

	_, err = one.Append(t.Context(), []eventstore.Event{event("a"), event("a")}, eventstore.At("a", 7))
	require.ErrorIs(t, err, eventstore.ErrConflict)
	recalls("a", 2, true)

	_, err = other.Append(t.Context(), []eventstore.Event{event("a")})
	require.NoError(t, err)
	_, err = one.Head(t.Context())
	require.NoError(t, err)
	recalls("a", 0, false)
	version, err := one.Version(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, uint64(3), version)
	recalls("a", 3, true)
}
