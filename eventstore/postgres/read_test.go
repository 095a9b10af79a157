package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// thing is an event of its own.
func thing(stream string, tags ...string) eventstore.Event {
	id := uuid.Must(uuid.NewV7())
	return eventstore.Event{
		ID: id, Stream: stream, Type: "thing.happened", Schema: 1, Tags: tags,
		Data: fmt.Appendf(nil, `{"id": %q, "fill": "%064d"}`, id, 0),
		Meta: []byte(`{"actor":"ann","reason":"because","command":"Do","key":"k1"}`),
	}
}

// things are n events of a stream.
func things(stream string, n int, tags ...string) []eventstore.Event {
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i] = thing(stream, tags...)
	}
	return events
}

// readAll returns what a query selects.
func readAll(t testing.TB, store eventstore.Store, q eventstore.Query) []eventstore.Recorded {
	t.Helper()
	var records []eventstore.Recorded
	for r, err := range store.Read(t.Context(), q) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

// readError returns the error of a query that yields nothing else.
func readError(t testing.TB, store eventstore.Store, q eventstore.Query) error {
	t.Helper()
	var failed error
	for r, err := range store.Read(t.Context(), q) {
		require.Error(t, err, "%v", r)
		failed = err
	}
	return failed
}

// dial returns a connection that is no store's.
func dial(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, c.Close(ctx))
	})
	return c
}

// execute runs statements on a connection that is no store's.
func execute(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	for _, statement := range statements {
		_, err := c.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	require.NoError(t, c.Close(t.Context()))
}

// valueOf returns the one value of the one row of a query.
func valueOf[T any](t testing.TB, dsn, query string, args ...any) (value T) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	require.NoError(t, c.QueryRow(t.Context(), query, args...).Scan(&value), query)
	require.NoError(t, c.Close(t.Context()))
	return value
}

// sqlState returns what the server calls an error.
func sqlState(err error) string {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		return told.Code
	}
	return ""
}

// odd are names that mean something to somebody on their way.
var odd = []string{
	"'", `"`, `\`, `\\`, `\'`, "''", "`", "$1", "$$", "%s", "%", "_", "a%b_c", "{}", "[]", "null", `{"a":"b"}`, `["a","b"]`, `{a,b}`, `"a","b"`, "NULL", `\N`, `\.`, `\u0000`, `\\u0000`,
	"a\tb", "a\nb", "a\r\nb", "\x01", "\x1f", "\x7f", "\u0080", "\u00a0", "\u200b", "\u202e", "\u2028", "\ufeff", "\ufffd", "\uffff", "\U0001f600", "\U0010ffff",
	"ä", "a\u0308", "ß", "SS", "ss", "İ", "i", "I", " ", "  ", " a", "a ", "a  b", "-- x", "/* x */", "; DROP TABLE events", "rollforward.", "E'\\n'", "U&'\\0041'", "?", ":name", "@", "&", "|",
	strings.Repeat("\U0010ffff", 63), strings.Repeat("ä", 127), strings.Repeat("'", 255), strings.Repeat(`\`, 255), strings.Repeat("\x01", 255), strings.Repeat(`"`, 255),
}

// oddEvents has each odd name as stream, type and tag, alone and with others, and JSON
// in which each stands, with spaces and an order that a parser would not keep.
func oddEvents() (events []eventstore.Event) {
	for i, name := range odd {
		e := thing(name, name, fmt.Sprint("tag ", i))
		if len(name) <= eventstore.MaxType {
			e.Type = name
		}
		text := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x01", `\u0001`, "\x1f", `\u001F`).Replace(name) + `"`
		e.Data = []byte(" { \"b\" :1e400 , \"a\":" + text + "\t, \"n\": 1.000000000000000000000000000001, \"c\":\"\\u0000\\/\\ud83d\\ude00\" }\n")
		e.Meta = []byte("{ \"reason\" : " + text + ",\"actor\":\"ann\" ,\"zz\":[ 1.0, -0 ] } ")
		events = append(events, e)
	}
	return events
}

func TestOddNamesAndJSONComeBackByteForByte(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		for _, way := range []struct {
			name   string
			append func(t *testing.T, store *postgres.Store, dsn string, events []eventstore.Event) []eventstore.Recorded
		}{
			{"one at a time", func(t *testing.T, store *postgres.Store, _ string, events []eventstore.Event) (records []eventstore.Recorded) {
				for _, e := range events {
					added, err := store.Append(t.Context(), []eventstore.Event{e}, eventstore.At(e.Stream, 0))
					require.NoError(t, err, "%q", e.Stream)
					records = append(records, added...)
				}
				return records
			}},
			{"together", func(t *testing.T, store *postgres.Store, _ string, events []eventstore.Event) []eventstore.Recorded {
				records, err := store.Append(t.Context(), events)
				require.NoError(t, err)
				return records
			}},
			{"in a transaction of the caller", func(t *testing.T, store *postgres.Store, dsn string, events []eventstore.Event) (records []eventstore.Recorded) {
				require.NoError(t, pgx.BeginFunc(t.Context(), dial(t, dsn), func(tx pgx.Tx) (err error) {
					records, err = store.AppendTx(t.Context(), tx, events)
					return err
				}))
				return records
			}},
		} {
			t.Run(way.name, func(t *testing.T) {
				dsn := pgtest.Database(t)
				store := open(t, dsn, options...)
				events := oddEvents()
				records := way.append(t, store, dsn, events)
				require.Len(t, records, len(odd))
				for i, r := range records {
					require.Equal(t, events[i], r.Event)
				}
				require.Equal(t, records, readAll(t, store, eventstore.Query{}))
				if way.name != "together" { // the rows are the same ones
					return
				}
				for i, r := range records {
					only := func(q eventstore.Query) {
						t.Helper()
						require.Equal(t, []eventstore.Recorded{r}, readAll(t, store, q), "%+q", q)
					}
					name := odd[i]
					only(eventstore.Query{Streams: []string{name}})
					only(eventstore.Query{Tags: []string{name}})
					only(eventstore.Query{Tags: r.Tags})
					only(eventstore.Query{Streams: []string{name}, Types: []string{r.Type}, Tags: []string{name}, Prefix: name})
					if r.Type == name {
						only(eventstore.Query{Types: []string{name}})
					}
					version, err := store.Version(t.Context(), name)
					require.NoError(t, err)
					require.Equal(t, uint64(1), version)
					// Prefixes are of bytes, and none of their signs means anything.
					var with []eventstore.Recorded
					for _, o := range records {
						if strings.HasPrefix(o.Stream, name) {
							with = append(with, o)
						}
					}
					require.Equal(t, with, readAll(t, store, eventstore.Query{Prefix: name}), "%q", name)
				}
				for i, e := range events {
					again, err := store.Append(t.Context(), []eventstore.Event{e})
					require.NoError(t, err, "the same event is known again by its bytes")
					require.Equal(t, records[i:i+1], again)
				}
			})
		}
	})
}

func TestCheckpointsWithOddNamesComeBackByteForByte(t *testing.T) {
	store := open(t, pgtest.Database(t))
	state := make([]byte, 256)
	for i := range state {
		state[i] = byte(i)
	}
	for i, name := range odd {
		saved := eventstore.Checkpoint{Name: name, Position: eventstore.Position(i + 1), Event: uuid.New(), Format: i, State: state[:i]}
		require.NoError(t, store.SaveCheckpoints(t.Context(), saved))
	}
	for i, name := range odd {
		saved, err := store.Checkpoint(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, name, saved.Name)
		require.Equal(t, eventstore.Position(i+1), saved.Position)
		require.Equal(t, string(state[:i]), string(saved.State))
	}
}

func TestTheViewHistoryIsReadableWhateverStandsInTheEvents(t *testing.T) {
	dsn := pgtest.Database(t)
	store := open(t, dsn)
	plain := thing("s", "a", "b")
	bare := thing("s")
	bare.Meta = nil
	null := thing("null") // a sign that JSON has and PostgreSQL has not
	null.Meta = []byte(`{"actor":"ann","reason":"a\u0000b","more":{"\u0000":0}}`)
	list := thing("list")
	list.Meta = []byte(`{"actor":["ann"],"reason":{"a":1},"command":null}`)
	events := append(oddEvents(), plain, bare, null, list)
	_, err := store.Append(t.Context(), events)
	require.NoError(t, err)
	type line struct {
		Position      int64
		RecordedAt    time.Time
		Stream        string
		Version       int64
		Type          string
		Schema        int
		Actor, Reason *string
		Command, Tags *string
		Data          string
	}
	rows, err := dial(t, dsn).Query(t.Context(), "SELECT * FROM rollforward.history ORDER BY position")
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[line])
	require.NoError(t, err)
	require.Len(t, lines, len(events))
	told := func(s string) *string { return &s }
	got := lines[len(odd)]
	require.Equal(t, []any{"s", int64(1), "thing.happened", 1, told("ann"), told("because"), told("Do"), told(`["a","b"]`), string(plain.Data)},
		[]any{got.Stream, got.Version, got.Type, got.Schema, got.Actor, got.Reason, got.Command, got.Tags, got.Data})
	got = lines[len(odd)+1]
	require.Nil(t, got.Actor)
	require.Nil(t, got.Tags)
	require.Nil(t, lines[len(odd)+2].Reason)
	require.Equal(t, told(`["ann"]`), lines[len(odd)+3].Actor)
	shown := 0
	for i, name := range odd {
		require.Equal(t, name, lines[i].Stream)
		require.Equal(t, string(events[i].Data), lines[i].Data)
		if lines[i].Reason != nil {
			require.Equal(t, told("ann"), lines[i].Actor, "%q", name)
			require.Equal(t, told(name), lines[i].Reason)
			shown++
		}
	}
	require.GreaterOrEqual(t, shown, len(odd)-2, "only what looks like that sign is not shown")
}

func TestWhatIsRecordedCannotBeChangedOrDeleted(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		dsn := pgtest.Database(t)
		store := open(t, dsn, options...)
		records, err := store.Append(t.Context(), []eventstore.Event{thing("s", "a"), thing("s", "b")})
		require.NoError(t, err)
		c := dial(t, dsn)
		for _, statement := range []string{
			"UPDATE rollforward.events SET data = '1'",
			"UPDATE rollforward.events SET data = '1' WHERE false",
			"DELETE FROM rollforward.events",
			"DELETE FROM rollforward.events WHERE version = 2",
			"TRUNCATE rollforward.events",
			"TRUNCATE rollforward.events, rollforward.event_tags CASCADE",
			"INSERT INTO rollforward.events SELECT * FROM rollforward.events ON CONFLICT (id) DO UPDATE SET data = '1'",
			"WITH d AS (DELETE FROM rollforward.events RETURNING *) SELECT * FROM d",
			"UPDATE rollforward.event_tags SET tag = 'x'",
			"DELETE FROM rollforward.event_tags",
			"TRUNCATE rollforward.event_tags",
		} {
			_, err := c.Exec(t.Context(), statement)
			require.Equal(t, "RF002", sqlState(err), "%s: %v", statement, err)
			require.ErrorContains(t, err, "record a new event instead")
		}
		require.Equal(t, records, readAll(t, store, eventstore.Query{}))
		require.Len(t, readAll(t, store, eventstore.Query{Tags: []string{"a"}}), 1)
		// The control: without the trigger the same statement does it.
		_, err = c.Exec(t.Context(), "ALTER TABLE rollforward.events DISABLE TRIGGER events_are_append_only")
		require.NoError(t, err)
		_, err = c.Exec(t.Context(), "UPDATE rollforward.events SET data = '1'")
		require.NoError(t, err)
	})
}

func TestStoresOfOneDatabaseDoNotDisturbEachOther(t *testing.T) {
	dsn := pgtest.Database(t)
	stores := []*postgres.Store{
		open(t, dsn), open(t, dsn, postgres.WithSchema("other")), open(t, dsn, postgres.WithSchema("other_"), postgres.WithSerializedAppends()),
		open(t, dsn, postgres.WithSchema("user")), open(t, dsn, postgres.WithSchema("rollforward2"), postgres.WithSerializedAppends()),
	}
	shared := thing("s", "a") // one ID in all
	var written [][]eventstore.Recorded
	for i, store := range stores {
		head, err := store.Head(t.Context())
		require.NoError(t, err)
		require.Zero(t, head, "store %d", i)
		all, err := store.Append(t.Context(), append(things("s", i, "a"), shared), eventstore.At("s", 0))
		require.NoError(t, err, "store %d", i)
		require.NoError(t, store.SaveCheckpoints(t.Context(), eventstore.Checkpoint{Name: "c", Position: eventstore.Position(i + 1)}))
		written = append(written, all)
	}
	// A transaction that is left open in one holds back nobody else, nor their writers.
	tx, err := dial(t, dsn).Begin(t.Context())
	require.NoError(t, err)
	_, err = stores[0].AppendTx(t.Context(), tx, []eventstore.Event{thing("s")})
	require.NoError(t, err)
	for i, store := range stores {
		require.Equal(t, written[i], readAll(t, store, eventstore.Query{}), "store %d", i)
		require.Equal(t, written[i], readAll(t, store, eventstore.Query{Tags: []string{"a"}}))
		saved, err := store.Checkpoint(t.Context(), "c")
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(i+1), saved.Position)
		fences, err := store.Fences(t.Context())
		require.NoError(t, err)
		require.Len(t, fences, map[bool]int{true: 1}[i == 0], "store %d", i)
		if i == 0 {
			continue
		}
		records, err := store.Append(t.Context(), []eventstore.Event{thing("s")}, eventstore.At("s", uint64(len(written[i]))))
		require.NoError(t, err)
		head, err := store.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, records[0].Position, head, "store %d", i)
	}
	require.NoError(t, tx.Rollback(t.Context()))
}
