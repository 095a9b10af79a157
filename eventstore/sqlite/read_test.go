package sqlite_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func TestNoStatementScansATableOrSorts(t *testing.T) {
	path, _ := filled(t, 100)
	for _, analysed := range []bool{false, true} {
		if analysed { // statistics must not lead the planner astray
			mustRaw(t, path, "ANALYZE")
		}
		require.NotEmpty(t, sqlite.Statements)
		for _, sql := range sqlite.Statements {
			for _, step := range explain(t, path, sql) {
				require.NotContains(t, step, "SCAN", sql)
				require.NotContains(t, step, "TEMP B-TREE", sql)
			}
		}
	}
}

// explain returns the steps by which SQLite would run a statement.
func explain(t *testing.T, path, sql string) (steps []string) {
	t.Helper()
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	stmt, err := conn.Prepare("EXPLAIN QUERY PLAN " + sql)
	require.NoError(t, err)
	for {
		row, err := stmt.Step()
		require.NoError(t, err)
		if !row {
			require.NotEmpty(t, steps, sql)
			return steps
		}
		steps = append(steps, stmt.GetText("detail"))
	}
}

func TestAQueryLooksAtWhatItsMostSelectiveFieldSelects(t *testing.T) {
	path, _ := filled(t, 2_000)
	store := open(t, path)
	rare := event("s-0", "tag:1", "tag:rare")
	rare.Type = "thing.rare"
	_, err := store.Append(ctx, []eventstore.Event{rare, event("other-1"), event("other-2")})
	require.NoError(t, err)
	log := all(t, store, eventstore.Query{})
	for _, c := range []struct {
		q    eventstore.Query
		rows int
	}{
		{eventstore.Query{}, 2_003},
		{eventstore.Query{After: 2_000}, 3},
		{eventstore.Query{Streams: []string{"s-1"}}, 200},
		{eventstore.Query{Streams: []string{"s-1"}, After: 1_500}, 50},
		{eventstore.Query{Streams: []string{"s-1", "s-2", "s-1"}}, 400},
		{eventstore.Query{Streams: []string{"s-1", "nowhere"}, Types: []string{"thing.happened"}}, 200},
		{eventstore.Query{Streams: []string{"s-1"}, Prefix: "s-2"}, 200},
		{eventstore.Query{Streams: []string{"s-0", "s-1"}, Types: []string{"thing.rare"}}, 1},
		{eventstore.Query{Tags: []string{"tag:1"}}, 21},
		{eventstore.Query{Tags: []string{"tag:1", "tag:rare"}}, 1},
		{eventstore.Query{Tags: []string{"tag:1"}, Streams: []string{"s-1"}}, 21},
		{eventstore.Query{Types: []string{"thing.rare", "thing.never"}}, 1},
		{eventstore.Query{Types: []string{"thing.rare", "thing.happened"}}, 2_003},
		{eventstore.Query{Prefix: "other-"}, 2},
		{eventstore.Query{Prefix: "s-", Tags: []string{"tag:rare"}}, 1},
		{eventstore.Query{Prefix: "nothing"}, 0},
		{eventstore.Query{Tags: []string{"tag:1", "nothing"}}, 0},
	} {
		rows, err := store.LookedAt(c.q)
		require.NoError(t, err)
		require.Equal(t, c.rows, rows, "%+v", c.q)
		got := all(t, store, c.q)
		for _, r := range log {
			if c.q.Match(r) {
				require.NotEmpty(t, got, "%+v", c.q)
				require.Equal(t, r, got[0], "%+v", c.q)
				got = got[1:]
			}
		}
		require.Empty(t, got, "%+v", c.q)
	}
}

func TestAPrefixOfVeryManyStreamsIsReadByTheWholeLog(t *testing.T) {
	store := open(t, newPath(t))
	var want []eventstore.Recorded
	for i := range 11 {
		var events []eventstore.Event
		for j := range 100 {
			events = append(events, event(fmt.Sprint("many-", i*100+j)), event("one"))
		}
		records, err := store.Append(ctx, events)
		require.NoError(t, err)
		for j := range 100 {
			want = append(want, records[2*j])
		}
		if i == 5 {
			require.Equal(t, want, all(t, store, eventstore.Query{Prefix: "many-"}), "few")
		}
	}
	require.Equal(t, want, all(t, store, eventstore.Query{Prefix: "many-"}))
	require.Equal(t, want[1_000:1_100], all(t, store, eventstore.Query{Prefix: "many-", After: want[999].Position, Limit: 100}))
}

func TestPrefixesAndNamesAreComparedByteByByte(t *testing.T) {
	names := []string{"a", "A", "a ", "a_", "a%", "ab", "a\u007f", "a\u00bf", "a\U0010ffff", "a\U0010ffffb", "\U0010ffff", "é", "e\u0301"}
	store := open(t, newPath(t))
	for _, name := range names {
		_, err := store.Append(ctx, []eventstore.Event{event(name)}, eventstore.At(name, 0))
		require.NoError(t, err, "%q", name)
	}
	for _, prefix := range names {
		want := 0
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				want++
			}
		}
		require.Len(t, all(t, store, eventstore.Query{Prefix: prefix}), want, "%q", prefix)
	}
}

func TestAnAbandonedReadLeavesNothingAndAConsumerThatThinksHoldsNothing(t *testing.T) {
	path, records := filled(t, 1_000)
	store := open(t, path)
	free := store.FreeReaders()
	for _, q := range []eventstore.Query{{}, {Streams: []string{"s-1"}}, {Streams: []string{"s-1", "s-2"}}, {Tags: []string{"tag:1"}}} {
		for range store.Read(ctx, q) {
			break
		}
		require.Equal(t, free, store.FreeReaders())
	}
	next, stop := iter.Pull2(store.Read(ctx, eventstore.Query{}))
	defer stop()
	for i := range 300 { // into the second page
		r, err, ok := next()
		require.True(t, ok)
		require.NoError(t, err)
		require.Equal(t, records[i], r)
	}
	require.Equal(t, free, store.FreeReaders())
	_, err := store.Append(ctx, []eventstore.Event{event("s")})
	require.NoError(t, err)
	rows, err := raw(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	require.Equal(t, [][]string{{"0", "0", "0"}}, rows, "no reader stands in the way of a checkpoint")
	read := 300
	for {
		_, err, ok := next()
		if !ok {
			break
		}
		require.NoError(t, err)
		read++
	}
	require.Equal(t, len(records), read, "up to the head at the time of the call")
}

func TestAReadOfLargeEventsIsPagedByBytes(t *testing.T) {
	store := open(t, newPath(t))
	var want []eventstore.Recorded
	for range 2 {
		var events []eventstore.Event
		for range 3 {
			e := event("s")
			e.Data = fmt.Appendf(nil, "%q", strings.Repeat("x", 1<<20-2))
			events = append(events, e)
		}
		records, err := store.Append(ctx, events)
		require.NoError(t, err)
		want = append(want, records...)
	}
	require.Equal(t, want, all(t, store, eventstore.Query{}))
	require.Equal(t, want, all(t, store, eventstore.Query{Streams: []string{"s"}}))
}

func TestWaitNoticesWhatAnotherProcessAppends(t *testing.T) {
	path, _ := filled(t, 5)
	store := open(t, path)
	woken := make(chan error, 20)
	for range cap(woken) { // all share one poll
		go func() { woken <- store.Wait(ctx, 5) }()
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, store.Wait(short, 5), context.DeadlineExceeded)

	cmd, _ := childCommand(t, "open", path)
	require.NoError(t, cmd.Run(), cmd.Stderr)
	for range cap(woken) {
		select {
		case err := <-woken:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			require.Fail(t, "nobody noticed")
		}
	}
	require.NoError(t, store.Wait(ctx, 5))
	require.ErrorIs(t, store.Wait(ctx, 7), eventstore.ErrRewound)
}

func TestTheViewHistoryIsForPeople(t *testing.T) {
	path := newPath(t)
	store := open(t, path)
	bare := event("s")
	bare.Meta = nil
	records, err := store.Append(ctx, []eventstore.Event{event("s", "ci:db-01", "a<b"), bare})
	require.NoError(t, err)
	rows, err := raw(t, path, "SELECT * FROM history ORDER BY position")
	require.NoError(t, err)
	at := records[0].RecordedAt.Format("2006-01-02T15:04:05.000000Z")
	want := [][]string{
		{"1", at, "s", "1", "thing.happened", "1", "ann", "because", "Do", `["ci:db-01","a<b"]`, string(records[0].Data)},
		{"2", at, "s", "2", "thing.happened", "1", "", "", "", "", string(records[1].Data)},
	}
	require.Equal(t, want, rows)

	t.Run("in the sqlite3 shell", func(t *testing.T) {
		shell, err := exec.LookPath("sqlite3")
		if err != nil {
			t.Skip("the sqlite3 shell is not installed")
		}
		out, err := exec.Command(shell, "-separator", "\t", path, "SELECT * FROM history ORDER BY position").CombinedOutput()
		require.NoError(t, err, string(out))
		require.Equal(t, strings.Join(want[0], "\t")+"\n"+strings.Join(want[1], "\t")+"\n", string(out))
		out, err = exec.Command(shell, path, "DELETE FROM events").CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "append-only")
	})
}

// One type is found by the blocks that have it: whatever lies at their edges, and
// however rare it is, as the whole log has it.
func TestTypesAreFoundAcrossBlocksAtFullSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	store, other := open(t, path), open(t, path)
	random := rand.New(rand.NewPCG(3, 1))
	n := 0
	for n < 3_000 {
		events := make([]eventstore.Event, 1+random.IntN(300))
		for i := range events {
			n++
			typ := "common"
			switch {
			case n%255 == 0 || n%256 == 0 || n%257 == 0:
				typ = "edge"
			case n == 1_500:
				typ = "once"
			case random.IntN(20) == 0:
				typ = "some"
			}
			events[i] = eventstore.Event{ID: uuid.New(), Stream: fmt.Sprint("s-", n%7), Type: typ, Schema: 1, Data: []byte("{}")}
		}
		by := store
		if random.IntN(2) == 0 {
			by = other // what one process knows of blocks another one has marked
		}
		_, err := by.Append(t.Context(), events)
		require.NoError(t, err)
	}
	var all []eventstore.Recorded
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	for range fewer(400, 60) {
		q := eventstore.Query{After: eventstore.Position(random.IntN(len(all) + 1)), Limit: random.IntN(3) * random.IntN(40)}
		for _, typ := range []string{"edge", "once", "some", "common", "never"} {
			if random.IntN(3) == 0 {
				q.Types = append(q.Types, typ)
			}
		}
		var want, got []eventstore.Position
		for _, r := range all {
			if r.Position > q.After && (len(q.Types) == 0 || slices.Contains(q.Types, r.Type)) && (q.Limit == 0 || len(want) < q.Limit) {
				want = append(want, r.Position)
			}
		}
		for r, err := range store.Read(t.Context(), q) {
			require.NoError(t, err)
			got = append(got, r.Position)
		}
		require.Equal(t, want, got, "%+v", q)
	}
}
