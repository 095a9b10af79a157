package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// dump returns the rows of every table, times and checkpoints aside, and what else
// makes one file cost more than another.
func dump(t *testing.T, conn *driver.Conn) (rows []string) {
	t.Helper()
	for _, sql := range []string{
		"SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name",
		"PRAGMA page_size", "PRAGMA auto_vacuum", "PRAGMA application_id", "PRAGMA user_version", "PRAGMA encoding",
		"SELECT * FROM streams ORDER BY key", "SELECT * FROM types ORDER BY key", "SELECT * FROM tags ORDER BY key",
		"SELECT position, append, hex(id), stream, version, type, schema, typeof(recorded_at), tags, meta, data, typeof(meta), typeof(data) FROM events ORDER BY position",
		"SELECT * FROM event_tags ORDER BY tag, position", "SELECT * FROM type_blocks ORDER BY type, block",
	} {
		before := len(rows)
		rows = append(rows, query(t, conn, sql)...)
		require.Less(t, before, len(rows), sql)
	}
	return rows
}

func query(t *testing.T, conn *driver.Conn, sql string) (rows []string) {
	t.Helper()
	require.NoError(t, sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{ResultFunc: func(stmt *driver.Stmt) error {
		cells := make([]string, stmt.ColumnCount())
		for i := range cells {
			cells[i] = stmt.ColumnText(i)
		}
		rows = append(rows, strings.Join(cells, "|"))
		return nil
	}}))
	return rows
}

// sides are an empty store and an empty raw loop.
func sides(t *testing.T) (*bench, *sqlite.Store, *raw) {
	t.Helper()
	b := &bench{ctx: context.Background(), dir: t.TempDir(), say: t.Logf}
	store, limit, done, err := b.two()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, done()) })
	return b, store, limit
}

// onFile runs f on the connection by which the store appends.
func onFile(t *testing.T, store *sqlite.Store, w *work, f func(*driver.Conn)) {
	t.Helper()
	last, err := w.event("last", 0)
	require.NoError(t, err)
	_, err = store.AppendWith(t.Context(), []eventstore.Event{last}, func(c *driver.Conn, _ []eventstore.Recorded) error {
		f(c)
		return nil
	})
	require.NoError(t, err)
}

// A limit that wrote less would be no limit.
func TestTheLimitLeavesTheRowsThatTheStoreLeaves(t *testing.T) {
	for _, size := range []int{1, 10} {
		b, store, limit := sides(t)
		w, err := newWork(7, size)
		require.NoError(t, err)
		appends, err := w.next(60) // more than a block of positions where there are ten in each
		require.NoError(t, err)
		require.NoError(t, inTurn(to(b.ctx, store), appends))
		last := len(appends) - 1
		require.NoError(t, inTurn(limit.append, appends[:last]))
		file, err := driver.OpenConn(fmt.Sprint(b.dir, "/1.db"), driver.OpenReadOnly)
		require.NoError(t, err)
		want := dump(t, file)
		require.NotEqual(t, want, dump(t, limit.conn), "the last append is missing, and nobody sees it")
		require.NoError(t, inTurn(limit.append, appends[last:]))
		require.Equal(t, want, dump(t, limit.conn))
		require.NoError(t, file.Close())
	}
}

// Nor would one that may lose what the store may not.
func TestTheLimitHasTheSettingsOfTheStore(t *testing.T) {
	_, store, limit := sides(t)
	w, err := newWork(1, 1)
	require.NoError(t, err)
	pragmas := []string{
		"journal_mode", "fullfsync", "checkpoint_fullfsync", "wal_autocheckpoint", "journal_size_limit", "page_size",
		"cache_size", "mmap_size", "locking_mode", "trusted_schema", "cell_size_check", "foreign_keys", "synchronous",
	}
	var ours []string
	onFile(t, store, w, func(c *driver.Conn) {
		for _, name := range pragmas {
			ours = append(ours, fmt.Sprint(name, query(t, c, "PRAGMA "+name)))
		}
	})
	for i, name := range pragmas {
		require.Equal(t, ours[i], fmt.Sprint(name, query(t, limit.conn, "PRAGMA "+name)))
	}
	require.Contains(t, ours, "synchronous[2]")
}

// The raw group commit loses nothing, mixes nothing up, and refuses what does not hold.
func TestAStoreReadsWhatTheGroupHasCommitted(t *testing.T) {
	b, _, limit := sides(t)
	w, err := newWork(crowd, 1)
	require.NoError(t, err)
	appends, err := w.next(crowd * 30)
	require.NoError(t, err)
	g := &group{all: limit.all}
	require.NoError(t, atOnce(g.append, appends))
	require.ErrorIs(t, g.append(appends[0].events, appends[0].expect), errExpected)
	require.Zero(t, len(g.queue))
	require.False(t, g.led)

	store, err := sqlite.Open(fmt.Sprint(b.dir, "/2.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	wanted := map[string]eventstore.Event{}
	for _, a := range appends {
		wanted[a.events[0].ID.String()] = a.events[0]
	}
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		require.True(t, r.Equal(wanted[r.ID.String()]))
		delete(wanted, r.ID.String())
	}
	require.Empty(t, wanted)
}

// What is loaded and read raw is what the store loads and reads.
func TestTheLimitReadsWhatTheStoreReads(t *testing.T) {
	b := &bench{ctx: context.Background(), dir: t.TempDir(), say: t.Logf}
	const n = slots * perStream
	store, limit, done, err := b.filled(n)
	require.NoError(t, err)
	defer func() { require.NoError(t, done()) }()
	registry, err := newRegistry()
	require.NoError(t, err)
	for i := range 5 {
		ours, err := loadTyped(b.ctx, store, registry, streamName(i))
		require.NoError(t, err)
		theirs, err := limit.load(streamName(i))
		require.NoError(t, err)
		require.Equal(t, ours, theirs)
		require.Equal(t, state{Phase: "authorize", Moves: 19, Weight: 133, Closed: true}, ours)
	}
	_, err = limit.load("nowhere")
	require.Error(t, err)

	var records []rawRecord
	require.NoError(t, limit.scan(func(r rawRecord) { records = append(records, r) }))
	i := 0
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		x := records[i]
		require.Equal(t, []any{r.ID, r.Stream, string(r.Data), string(r.Meta), `["` + r.Tags[0] + `"]`}, []any{x.id, x.stream, string(x.data), string(x.meta), string(x.tags)})
		require.Equal(t, []int64{int64(r.Position), int64(r.Append), int64(r.Version), int64(r.Schema)}, []int64{x.position, x.first, x.version, x.schema})
		require.True(t, r.RecordedAt.Equal(x.at))
		i++
	}
	require.Len(t, records, n)
	require.Equal(t, n, i)
}

// The events are those that are promised for: 300 bytes, and every field of metadata.
func TestAnEventHas300BytesAndFullMetadata(t *testing.T) {
	w, err := newWork(3, 10)
	require.NoError(t, err)
	appends, err := w.next(7)
	require.NoError(t, err)
	versions := map[string]uint64{}
	for _, a := range appends {
		require.Equal(t, versions[a.expect.Stream], a.expect.Version)
		require.Len(t, a.events, 10)
		for _, e := range a.events {
			require.Equal(t, a.expect.Stream, e.Stream)
			require.Len(t, e.Data, payload)
			m, err := eventstore.DecodeMetadata(e.Meta)
			require.NoError(t, err)
			require.NotContains(t, []any{m.Actor, m.OnBehalfOf, m.Reason, m.Command, m.Key, m.Correlation, m.Source, m.Traceparent}, "")
			require.NotZero(t, m.OccurredAt)
			require.NotZero(t, m.Causation)
			versions[e.Stream]++
		}
	}
	require.Equal(t, map[string]uint64{streamName(0): 20, streamName(1): 20, streamName(2): 20, streamName(3): 10}, versions)
}
