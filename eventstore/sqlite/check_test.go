package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/timing"
)

// specimen is the file that is edited: 600 events, or fewer, in appends of three, ten streams,
// two types of which the rare one stands at 40 and 43 only, tags, and a checkpoint
// at the head. s-0 has the positions 10, 20, 30 ...
type specimen []byte

func newSpecimen(t testing.TB, events int) specimen {
	t.Helper()
	path := quickPath(t)
	store, err := sqlite.Open(path)
	require.NoError(t, err)
	var last eventstore.Recorded
	for i := 1; i <= events; i += 3 {
		var part [3]eventstore.Event
		for p := i; p < i+3; p++ {
			e := event(fmt.Sprint("s-", p%10), fmt.Sprint("tag:", p%7))
			if p%2 == 0 {
				e.Tags = append(e.Tags, "even")
			}
			if p == 40 || p == 43 {
				e.Type = "thing.rare"
			}
			part[p-i] = e
		}
		records, err := store.Append(ctx, part[:])
		require.NoError(t, err)
		last = records[2]
	}
	require.NoError(t, store.SaveCheckpoints(ctx, eventstore.Checkpoint{Name: "consumer", Position: last.Position, Event: last.ID, Format: 1, State: []byte("state")}))
	require.NoError(t, store.Close())
	bytes, err := os.ReadFile(path)
	require.NoError(t, err)
	return bytes
}

// copy returns the path of a copy of the specimen.
func (s specimen) copy(t testing.TB) string {
	t.Helper()
	path := quickPath(t)
	require.NoError(t, os.WriteFile(path, s, 0o600))
	return path
}

// edit runs SQL on a file behind the back of its triggers, and puts them back.
func edit(t testing.TB, path, sql string) {
	t.Helper()
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	var drop, create []string
	require.NoError(t, sqlitex.ExecuteTransient(conn, "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'", &sqlitex.ExecOptions{
		ResultFunc: func(stmt *driver.Stmt) error {
			drop, create = append(drop, "DROP TRIGGER "+stmt.ColumnText(0)), append(create, stmt.ColumnText(1))
			return nil
		},
	}))
	require.NotEmpty(t, drop)
	script := strings.Join(drop, ";\n") + ";\n" + sql + ";\n" + strings.Join(create, ";\n") + ";"
	require.NoError(t, sqlitex.ExecuteScript(conn, script, nil))
}

func check(t testing.TB, store *sqlite.Store) []sqlite.Finding {
	t.Helper()
	findings, err := store.Check(ctx)
	require.NoError(t, err)
	for _, f := range findings {
		require.NotEmpty(t, f.Detail)
		require.NotEmpty(t, f.Remedy(), f.Kind)
	}
	return findings
}

const cannot = sqlite.Kind("cannot be found without proofs")

// edits are what somebody can do who has the file, by raw SQL or by putting another
// file in its place, and what Check makes of it. Those that it cannot find leave
// a file that a store could have written. Position is the one that is named first.
var edits = []struct {
	name     string
	sql      string
	kind     sqlite.Kind
	position eventstore.Position
}{
	// Each column of an event.
	{"a payload made another valid one", `UPDATE events SET data = '{"id": 0}' WHERE position = 50`, cannot, 0},
	{"a payload made no JSON", `UPDATE events SET data = '{"id": ' WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"a payload emptied", `UPDATE events SET data = '' WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"metadata naming another actor", `UPDATE events SET meta = '{"actor":"bob"}' WHERE position = 50`, cannot, 0},
	{"metadata taken away", `UPDATE events SET meta = NULL WHERE position = 50`, cannot, 0},
	{"metadata made no object", `UPDATE events SET meta = '[]' WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"tags changed in the event alone", `UPDATE events SET tags = '["other"]' WHERE position = 50`, sqlite.WrongIndex, 50},
	{"tags taken away from the event alone", `UPDATE events SET tags = NULL WHERE position = 50`, sqlite.WrongIndex, 50},
	{"tags made no list", `UPDATE events SET tags = '{}' WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"tags emptied", `UPDATE events SET tags = '[]' WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"a tag twice", `UPDATE events SET tags = '["tag:1","tag:1"]' WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"tags changed with their index", `UPDATE events SET tags = '["tag:1"]' WHERE position = 51; UPDATE event_tags SET tag = (SELECT key FROM tags WHERE name = 'tag:1') WHERE position = 51`, cannot, 0},
	{"another type that is in the block", `UPDATE events SET type = (SELECT key FROM types WHERE name = 'thing.rare') WHERE position = 50`, cannot, 0},
	{"another type that is not in the block", `UPDATE events SET type = (SELECT key FROM types WHERE name = 'thing.rare') WHERE position = 550`, sqlite.WrongIndex, 550},
	{"a type without a name", `UPDATE events SET type = 77 WHERE position = 50`, sqlite.LostName, 50},
	{"the last of a type in its block", `UPDATE events SET type = (SELECT key FROM types WHERE name = 'thing.happened') WHERE position IN (40, 43)`, sqlite.WrongIndex, 0},
	{"another stream", `UPDATE events SET stream = (SELECT key FROM streams WHERE name = 's-1'), version = 61 WHERE position = 50`, sqlite.BrokenVersions, 0},
	{"a stream without a name", `UPDATE events SET stream = 77 WHERE position = 50`, sqlite.LostName, 50},
	{"the last event of a stream in another stream, at its end", `UPDATE events SET stream = (SELECT key FROM streams WHERE name = 's-9'), version = 61 WHERE position = 600`, cannot, 0},
	{"another version", `UPDATE events SET version = 99 WHERE position = 50`, sqlite.BrokenVersions, 60},
	{"versions from zero", `UPDATE events SET version = version - 1 WHERE stream = 1`, sqlite.BrokenVersions, 1},
	{"two versions swapped", `UPDATE events SET version = 0 WHERE position = 50; UPDATE events SET version = 5 WHERE position = 60; UPDATE events SET version = 6 WHERE position = 50`, sqlite.BrokenVersions, 50},
	{"an event moved behind the head", `UPDATE events SET position = 1000 WHERE position = 50`, sqlite.MissingPositions, 51},
	{"an event moved before the first", `UPDATE events SET position = -1 WHERE position = 50`, sqlite.MissingPositions, 51},
	{"another append", `UPDATE events SET append = 7 WHERE position = 50`, sqlite.BrokenAppend, 50},
	{"an append behind the event", `UPDATE events SET append = 51 WHERE position = 50`, sqlite.BrokenAppend, 50},
	{"two appends made one", `UPDATE events SET append = 49 WHERE append = 52`, cannot, 0},
	{"an append made two", `UPDATE events SET append = 50 WHERE position IN (50, 51)`, cannot, 0},
	{"appends made larger than one can be", `UPDATE events SET append = 1; INSERT INTO type_blocks VALUES (1, 3), (1, 4); INSERT INTO events SELECT position + 600, 1, randomblob(16), stream, version + 60, 1, schema, recorded_at, NULL, meta, data FROM events`, sqlite.BrokenAppend, 1001},
	{"another ID", `UPDATE events SET id = randomblob(16) WHERE position = 50`, cannot, 0},
	{"an ID too short", `UPDATE events SET id = x'0102' WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"an ID of zeros", `UPDATE events SET id = zeroblob(16) WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"another schema version", `UPDATE events SET schema = 2 WHERE position = 50`, cannot, 0},
	{"schema version zero", `UPDATE events SET schema = 0 WHERE position = 50`, sqlite.ImpossibleContent, 50},
	{"recorded a year earlier", `UPDATE events SET recorded_at = recorded_at - 31536000000000 WHERE position = 50`, cannot, 0},
	{"recorded in the future", `UPDATE events SET recorded_at = recorded_at + 31536000000000 WHERE position = 50`, sqlite.ImpossibleTime, 50},
	{"recorded before the year 1", `UPDATE events SET recorded_at = -1000000000000000000 WHERE position = 50`, sqlite.ImpossibleTime, 50},

	// Whole events.
	{"an event deleted", `DELETE FROM events WHERE position = 50`, sqlite.MissingPositions, 51},
	{"an event deleted, and the positions of the others closed up", `DELETE FROM event_tags WHERE position = 50; DELETE FROM events WHERE position = 50;
		UPDATE events SET position = 1 - position WHERE position > 50; UPDATE events SET position = -position WHERE position < 0;
		UPDATE event_tags SET position = 1 - position WHERE position > 50; UPDATE event_tags SET position = -position WHERE position < 0`, sqlite.BrokenAppend, 51},
	{"an append deleted, and positions, appends and versions of the others closed up", `DELETE FROM event_tags WHERE position BETWEEN 49 AND 51; DELETE FROM events WHERE position BETWEEN 49 AND 51;
		UPDATE events SET position = 3 - position, append = append - 3 WHERE position > 51; UPDATE events SET position = -position WHERE position < 0;
		UPDATE event_tags SET position = 3 - position WHERE position > 51; UPDATE event_tags SET position = -position WHERE position < 0;
		UPDATE events SET version = 1 - version WHERE position > 48 AND stream IN (SELECT key FROM streams WHERE name IN ('s-9', 's-0', 's-1'));
		UPDATE events SET version = -version WHERE version < 0; DELETE FROM checkpoints`, cannot, 0},
	{"two payloads swapped", `UPDATE events SET data = (SELECT data FROM events WHERE position = 60) WHERE position = 50`, cannot, 0},
	{"two events of a stream swapped", `UPDATE events SET position = 0 WHERE position = 50; UPDATE events SET position = 50 WHERE position = 60; UPDATE events SET position = 60 WHERE position = 0`, sqlite.BrokenAppend, 50},
	{"two events of one append swapped, with their tags", `UPDATE events SET position = 0 WHERE position = 50; UPDATE events SET position = 50 WHERE position = 51; UPDATE events SET position = 51 WHERE position = 0;
		UPDATE event_tags SET position = 0 WHERE position = 50; UPDATE event_tags SET position = 50 WHERE position = 51; UPDATE event_tags SET position = 51 WHERE position = 0`, cannot, 0},
	{"an event forged at the end", `INSERT INTO events SELECT 601, 601, randomblob(16), stream, 61, type, schema, recorded_at, NULL, meta, data FROM events WHERE position = 600`, cannot, 0},
	{"the end cut off", `DELETE FROM events WHERE position > 500`, sqlite.WrongIndex, 0},
	{"the end cut off with its tags and types", `DELETE FROM events WHERE position > 500; DELETE FROM event_tags WHERE position > 500; DELETE FROM type_blocks WHERE block > 500 / 256`, sqlite.WrongCheckpoint, 600},
	{"the end cut off with all that belongs to it", `DELETE FROM events WHERE position > 498; DELETE FROM event_tags WHERE position > 498; DELETE FROM type_blocks WHERE block > 498 / 256; DELETE FROM checkpoints`, cannot, 0},
	{"half an append cut off with all that belongs to it", `DELETE FROM events WHERE position > 500; DELETE FROM event_tags WHERE position > 500; DELETE FROM type_blocks WHERE block > 500 / 256; DELETE FROM checkpoints`, cannot, 0},
	{"all events deleted", `DELETE FROM events`, sqlite.WrongIndex, 0},

	// What belongs to events.
	{"a stream renamed", `UPDATE streams SET name = 'other' WHERE name = 's-5'`, cannot, 0},
	{"a stream's name deleted", `DELETE FROM streams WHERE name = 's-5'`, sqlite.LostName, 5},
	{"a stream's name emptied", `UPDATE streams SET name = '' WHERE name = 's-5'`, sqlite.LostName, 5},
	{"a stream's name with a NUL", `UPDATE streams SET name = 'a' || char(0) || 'b' WHERE name = 's-5'`, sqlite.ImpossibleContent, 5},
	{"a stream without events", `INSERT INTO streams (name) VALUES ('empty')`, sqlite.LostName, 0},
	{"a type renamed", `UPDATE types SET name = 'thing.other' WHERE name = 'thing.rare'`, cannot, 0},
	{"a type's name deleted", `DELETE FROM types WHERE name = 'thing.rare'`, sqlite.LostName, 40},
	{"a type without events", `INSERT INTO types (name) VALUES ('thing.never')`, sqlite.LostName, 0},
	{"a tag renamed", `UPDATE tags SET name = 'tag:other' WHERE name = 'tag:5'`, sqlite.WrongIndex, 5},
	{"a tag's name deleted", `DELETE FROM tags WHERE name = 'tag:5'`, sqlite.WrongIndex, 5},
	{"a tag without events", `INSERT INTO tags (name) VALUES ('tag:never')`, sqlite.LostName, 0},
	{"an entry of a tag deleted", `DELETE FROM event_tags WHERE position = 50`, sqlite.WrongIndex, 50},
	{"an entry of a tag added", `INSERT INTO event_tags SELECT key, 51 FROM tags WHERE name = 'even'`, sqlite.WrongIndex, 51},
	{"an entry of a tag for an event that is not there", `INSERT INTO event_tags SELECT key, 6000 FROM tags WHERE name = 'even'`, sqlite.WrongIndex, 6000},
	{"an entry of a type deleted", `DELETE FROM type_blocks WHERE block = 1`, sqlite.WrongIndex, 256},
	{"an entry of a type added", `INSERT INTO type_blocks SELECT key, 2 FROM types WHERE name = 'thing.rare'`, sqlite.WrongIndex, 512},
	{"a checkpoint beyond the log", `UPDATE checkpoints SET position = 601`, sqlite.WrongCheckpoint, 601},
	{"a checkpoint of another event", `UPDATE checkpoints SET event = randomblob(16)`, sqlite.WrongCheckpoint, 600},
	{"a checkpoint of half an event", `UPDATE checkpoints SET event = x'01'`, sqlite.WrongCheckpoint, 600},
	{"a checkpoint without a name", `UPDATE checkpoints SET name = ''`, sqlite.WrongCheckpoint, 600},
	{"a checkpoint's state", `UPDATE checkpoints SET state = x'01'`, cannot, 0},
}

// F34 for SQLite, without proofs: what Check finds, and exactly what it cannot. The
// control is SQLite's integrity_check alone.
func TestAnEditIsFoundUnlessAStoreCouldHaveWrittenTheFileAtFullSize(t *testing.T) {
	s := newSpecimen(t, 600)
	before := s.open(t)
	require.Empty(t, check(t, before), "it is sound before")
	untouched, err := contentsOf(before)
	require.NoError(t, err)
	found, integrity := 0, 0
	var unfound []string
	for i, c := range edits {
		if i%fewer(1, 12) != 0 {
			continue
		}
		path := s.copy(t)
		edit(t, path, c.sql)
		store := open(t, path, sqlite.WithoutCheck()) // which finds none of them, and takes its time
		findings := check(t, store)
		if c.kind == cannot {
			unfound = append(unfound, c.name)
			require.Empty(t, findings, "%s: it can be found after all: say so", c.name)
			now, err := contentsOf(store)
			require.NoError(t, err, c.name)
			require.NotEmpty(t, untouched.differs(now), "%s: nothing was changed", c.name)
			continue
		}
		found++
		require.NotEmpty(t, findings, c.name)
		if strings.Contains(findings[0].Detail, "integrity_check") { // it is asked first
			integrity++
		}
		require.Equal(t, c.kind, findings[0].Kind, "%s: %v", c.name, findings[0])
		if c.position != 0 {
			require.Equal(t, c.position, findings[0].Position, "%s: %v", c.name, findings[0])
		}
	}
	t.Logf("%d kinds of edits: %d found, of which integrity_check alone finds %d; %d cannot be found without proofs: %s",
		found+len(unfound), found, integrity, len(unfound), strings.Join(unfound, "; "))
	require.Less(t, integrity, found/4, "the control: integrity_check alone misses most")
}

// open opens a copy of the specimen.
func (s specimen) open(t testing.TB) *sqlite.Store { return open(t, s.copy(t)) }

func TestAnOlderCopyOfTheWholeFileCannotBeFound(t *testing.T) {
	s := newSpecimen(t, 30)
	path := s.copy(t)
	store, err := sqlite.Open(path)
	require.NoError(t, err)
	_, err = store.Append(ctx, []eventstore.Event{event("s-1")})
	require.NoError(t, err)
	require.NoError(t, store.Close())
	require.NoError(t, os.WriteFile(path, s, 0o600))
	store = open(t, path)
	require.Empty(t, check(t, store))
	require.ErrorIs(t, store.Wait(ctx, 31), eventstore.ErrRewound, "by who has seen more of it")
}

func TestWhatWasChangedOfTheSchemaIsFoundInAnOpenStore(t *testing.T) {
	s := newSpecimen(t, 30)
	for name, sql := range map[string]string{
		"trigger events_are_never_deleted": "DROP TRIGGER events_are_never_deleted",
		"view history":                     "DROP VIEW history; CREATE VIEW history AS SELECT 1 AS one",
		"table event_tags":                 "DROP TABLE event_tags",
		"table checkpoints":                "DROP TABLE checkpoints",
		"user_version":                     "PRAGMA user_version = 0",
		"application_id":                   "PRAGMA application_id = 1",
	} {
		store := s.open(t)
		_, err := store.Settings() // every connection, before: a later one would be refused
		require.NoError(t, err)
		require.NoError(t, store.Script(sql), name)
		findings := check(t, store)
		require.NotEmpty(t, findings, name)
		require.Equal(t, sqlite.ChangedSchema, findings[0].Kind, name)
		require.Contains(t, findings[0].Detail, name)
	}
}

func TestAStoreIsSoundWhileOthersAppendAndWhatPeopleAddedIsNoFinding(t *testing.T) {
	n := fewer(1_000, 50)
	path, _ := filled(t, n)
	mustRaw(t, path, "CREATE TABLE mine AS SELECT 1 AS x")
	store, other := open(t, path), open(t, path, sqlite.ReadOnly())
	c, stop := context.WithCancel(ctx)
	var appending sync.WaitGroup
	for w := range 3 {
		appending.Go(func() {
			for n := 0; c.Err() == nil; n++ {
				e := event(fmt.Sprint("w-", w, "-", n%5), fmt.Sprint("new:", w, "-", n))
				e.Type = fmt.Sprint("type.", n%9)
				if _, err := store.Append(ctx, []eventstore.Event{e, event("both", "x")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range fewer(4, 1) {
		require.Empty(t, check(t, store))
		require.Empty(t, check(t, other))
	}
	stop()
	appending.Wait()
	head, err := store.Head(ctx)
	require.NoError(t, err)
	require.Greater(t, int(head), n, "nobody appended meanwhile")
}

func TestAnEmptyStoreIsSound(t *testing.T) {
	require.Empty(t, check(t, open(t, newPath(t))))
}

func TestACheckEndsWithItsContextAndWithTheStore(t *testing.T) {
	path, _ := filled(t, fewer(5_000, 300))
	store := open(t, path)
	free := store.FreeReaders()
	whole := time.Hour
	run := func() {
		began := time.Now()
		require.Empty(t, check(t, store), "the connections are as good as before")
		whole = min(whole, time.Since(began))
	}
	run()
	ended := 0
	quarter, all := timing.Until(func(quarter, all time.Duration) bool { return ended > 0 && quarter < all*3/4 }, func() {
		c, cancel := context.WithTimeout(ctx, whole/4)
		defer cancel()
		if _, err := store.Check(c); err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			ended++
		}
	}, run)
	require.NotZero(t, ended)
	require.Less(t, quarter, all*3/4)
	const parts = 10
	for part := range parts { // wherever it ends
		c, cancel := context.WithTimeout(ctx, whole*time.Duration(part)/parts)
		_, err := store.Check(c)
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Equal(t, free, store.FreeReaders())
	}
	require.Empty(t, check(t, store))

	checked := make(chan error, 1)
	go func() {
		for {
			if _, err := store.Check(ctx); err != nil {
				checked <- err
				return
			}
		}
	}()
	time.Sleep(whole / 4)
	require.NoError(t, store.Close())
	require.ErrorIs(t, <-checked, eventstore.ErrClosed)
}

func TestACheckGivesUpWhereVeryMuchIsWrong(t *testing.T) {
	path, _ := filled(t, 1_100)
	edit(t, path, "UPDATE events SET schema = 0")
	findings, err := open(t, path).Check(ctx)
	require.ErrorIs(t, err, sqlite.ErrManyFindings)
	require.Len(t, findings, 1_000)
}

func ExampleStore_Check() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	store, err := sqlite.Open(filepath.Join(dir, "changes.db"))
	if err != nil {
		panic(err)
	}
	defer store.Close()
	id := uuid.MustParse("0192f0c1-2b3c-7d4e-8f50-61728394a5b6")
	// A checkpoint from a log that has been put back to an older copy since.
	if err := store.SaveCheckpoints(context.Background(), eventstore.Checkpoint{Name: "mailer", Position: 42, Event: id}); err != nil {
		panic(err)
	}
	findings, err := store.Check(context.Background())
	if err != nil {
		panic(err)
	}
	for _, f := range findings {
		fmt.Println(f.Kind, f.Position)
		fmt.Println(f.Detail)
	}
	// Output:
	// wrong checkpoint 42
	// checkpoint "mailer" is beyond the end of the log, position 0: the log is an older copy, or its end was cut off
}
