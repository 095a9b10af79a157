package sqlite_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
)

// benchStreams are appended to in turn.
const benchStreams = 1_000

// BenchmarkAppendOne is one writer with one event an append and a version check.
// Its limit is the same statements on the same schema by the driver alone; both
// run in turn, so that x-limit (1 is as fast) does not depend on the disk's mood.
func BenchmarkAppendOne(b *testing.B) {
	store := open(b, newPath(b))
	limit := newLimit(b)
	data := fmt.Appendf(nil, `{"fill": "%0300d"}`, 0)
	var ours, theirs time.Duration
	n := 0
	for b.Loop() {
		stream, version := fmt.Sprint("stream-", n%benchStreams), uint64(n/benchStreams)
		e := eventstore.Event{ID: uuid.Must(uuid.NewV7()), Stream: stream, Type: "thing.happened", Schema: 1, Data: data}
		began := time.Now()
		_, err := store.Append(ctx, []eventstore.Event{e}, eventstore.At(stream, version))
		ours += time.Since(began)
		require.NoError(b, err)
		began = time.Now()
		limit.append(b, e, int64(n+1), int64(version))
		theirs += time.Since(began)
		n++
	}
	b.ReportMetric(float64(n)/ours.Seconds(), "events/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-limit")
}

// limit is the driver alone on the store's schema.
type limit struct {
	conn                                  *driver.Conn
	begin, commit, version, event, stream *driver.Stmt
}

func newLimit(b *testing.B) *limit {
	path, _ := filled(b, 0)
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, conn.Close()) })
	require.NoError(b, sqlitex.ExecuteTransient(conn, "PRAGMA synchronous = FULL", nil))
	require.NoError(b, sqlitex.ExecuteTransient(conn, "INSERT INTO types VALUES (1, 'thing.happened')", nil))
	prepare := func(sql string) *driver.Stmt {
		stmt, err := conn.Prepare(sql)
		require.NoError(b, err)
		return stmt
	}
	return &limit{
		conn: conn, begin: prepare("BEGIN IMMEDIATE"), commit: prepare("COMMIT"),
		version: prepare("SELECT s.key, (SELECT max(version) FROM events WHERE stream = s.key) FROM streams s WHERE name = ?"),
		stream:  prepare("INSERT INTO streams (name) VALUES (?)"),
		event: prepare(`INSERT INTO events (position, append, id, stream, version, type, schema, recorded_at, data)
			VALUES (?1, ?1, ?, ?, ?, 1, 1, ?, ?)`),
	}
}

func (l *limit) append(b *testing.B, e eventstore.Event, position, version int64) {
	step := func(stmt *driver.Stmt) bool {
		row, err := stmt.Step()
		require.NoError(b, err)
		return row
	}
	defer step(l.commit)
	l.commit.Reset()
	l.begin.Reset()
	step(l.begin)
	l.version.Reset()
	l.version.BindText(1, e.Stream)
	var key int64
	if step(l.version) {
		key = l.version.ColumnInt64(0)
		require.Equal(b, version, l.version.ColumnInt64(1))
	} else {
		l.stream.Reset()
		l.stream.BindText(1, e.Stream)
		step(l.stream)
		key = l.conn.LastInsertRowID()
	}
	l.version.Reset()
	l.event.Reset()
	l.event.BindInt64(1, position)
	l.event.BindBytes(2, e.ID[:])
	l.event.BindInt64(3, key)
	l.event.BindInt64(4, version+1)
	l.event.BindInt64(5, time.Now().UnixMicro())
	l.event.BindText(6, string(e.Data))
	step(l.event)
}

// BenchmarkLoad reads streams of 20 events.
func BenchmarkLoad(b *testing.B) {
	path, _ := filled(b, 200)
	store := open(b, path)
	events := 0
	for b.Loop() {
		for _, err := range store.Read(ctx, eventstore.Query{Streams: []string{"s-3"}}) {
			require.NoError(b, err)
			events++
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkScan reads the whole log.
func BenchmarkScan(b *testing.B) {
	path, _ := filled(b, 10_000)
	store := open(b, path)
	events := 0
	for b.Loop() {
		for _, err := range store.Read(ctx, eventstore.Query{}) {
			require.NoError(b, err)
			events++
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
