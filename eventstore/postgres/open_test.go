package postgres_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// refused opens a store and returns why that fails.
func refused(t testing.TB, dsn string, options ...postgres.Option) error {
	t.Helper()
	store, err := postgres.Open(t.Context(), dsn, options...)
	if err == nil {
		require.NoError(t, store.Close())
	}
	require.Error(t, err)
	return err
}

func TestNamesOfSchemasThatCouldMeanSomethingElseAreRefused(t *testing.T) {
	for _, name := range []string{"", "1a", "_a", "A", "aB", "a-b", "a.b", "a b", `a"b`, "a'b", "a;b", "ä", "a\n", "a\x00", "$user", "pg_store", "pg_", strings.Repeat("a", 49)} {
		require.ErrorIs(t, refused(t, "host=/nowhere", postgres.WithSchema(name)), eventstore.ErrInvalid, "%q", name)
	}
}

func TestEveryNameThatIsNotRefusedWorks(t *testing.T) {
	dsn := pgtest.Database(t)
	for _, name := range []string{"a", "user", "select", "public", "table", "rollforward_", strings.Repeat("a", 48)} {
		store := open(t, dsn, postgres.WithSchema(name))
		records, err := store.Append(t.Context(), []eventstore.Event{thing("s", "a")}, eventstore.At("s", 0))
		require.NoError(t, err, name)
		require.Equal(t, records, readAll(t, store, eventstore.Query{Tags: []string{"a"}}), name)
		require.NoError(t, store.Close())
		require.Equal(t, records, readAll(t, open(t, dsn, postgres.WithSchema(name)), eventstore.Query{}), name)
	}
}

func TestAConnectionStringThatCannotBeReadShowsNoPassword(t *testing.T) {
	for _, dsn := range []string{
		"host=db password=topsy port=x", "host=db password = topsy port=x", `host=db password='it\'s topsy turvy' port=x`, "host=db password='topsy", "host=db password=topsy turvy x=1",
		"host=db password=topsy sslmode=some", "host=db password=topsy pool_max_conns=x", "host=db password=topsy pool_max_conns=0", "password=topsy\x00 host=db",
		"postgres://app:topsy@db:x/changes", "postgres://app:topsy%tu@db/changes", "postgres://app:topsy/turvy@db/changes", "postgres://app:topsy:turvy@db:x/changes",
		"postgres://app@db/changes?password=topsy&sslmode=x", "postgres://app:topsy@[db/changes", "postgresql://app:topsy@db/changes?pool_max_conn_lifetime=turvy",
		"postgre://app:topsy@db/changes", "app:topsy@db",
	} {
		err := refused(t, dsn)
		require.ErrorIs(t, err, eventstore.ErrInvalid, dsn)
		for part := range strings.FieldsSeq("top psy tur vy@ turvy") {
			require.NotContains(t, err.Error(), part, dsn)
			require.NotContains(t, fmt.Sprintf("%+v", err), part, dsn)
		}
	}
	require.ErrorContains(t, refused(t, "host=db password=x pool_max_conns=y"), "pool_max_conns", "what is wrong is named")
	require.ErrorContains(t, refused(t, "host=db password=x port=y"), "port")
}

func TestAServerThatIsDownIsAnErrorAtOnceAndWithoutAPassword(t *testing.T) {
	begun := time.Now()
	for _, dsn := range []string{"host=" + t.TempDir() + " user=app password=topsy dbname=x", "postgres://app:topsy@127.0.0.1:1/x?sslmode=disable"} {
		err := refused(t, dsn)
		require.ErrorContains(t, err, "the connection to the server broke")
		require.NotContains(t, err.Error(), "topsy")
	}
	require.Less(t, time.Since(begun), 10*time.Second)
}

// mute is a server that takes connections and says nothing.
func mute(t testing.TB) (dsn string) {
	dir, err := os.MkdirTemp("", "rf") // the path of a socket is short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return "host=" + dir + " user=app dbname=x sslmode=disable"
}

func TestOpenDoesNotOutliveItsContext(t *testing.T) {
	dsn := mute(t)
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := postgres.Open(ctx, dsn)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = postgres.Open(ctx, dsn)
	require.ErrorIs(t, err, context.Canceled)

	refused(t, dsn+" connect_timeout=1") // without one of the context, that of the connection
	require.Less(t, time.Since(begun), 10*time.Second)
}

func TestASchemaOfSomebodyElseIsRefusedAndLeftAlone(t *testing.T) {
	dsn := pgtest.Database(t)
	for i, statement := range []string{
		"CREATE TABLE NAME.accounts (id int)", "CREATE VIEW NAME.accounts AS SELECT 1", "CREATE SEQUENCE NAME.accounts",
		"CREATE TABLE NAME.store (name text)", "CREATE TABLE NAME.store (format text, serialized text)", "CREATE TABLE NAME.store (format int, serialized int); INSERT INTO NAME.store VALUES (1, 0)",
		"CREATE TABLE NAME.store (format text, serialized text); INSERT INTO NAME.store VALUES ('pdf', 'yes')", "CREATE VIEW NAME.store AS SELECT 1 AS id",
	} {
		name := fmt.Sprint("foreign", i)
		execute(t, dsn, "CREATE SCHEMA "+name, strings.ReplaceAll(statement, "NAME", name))
		const left = "SELECT string_agg(relname::text || relkind::text, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = $1::regnamespace"
		before := valueOf[string](t, dsn, left, name)
		err := refused(t, dsn, postgres.WithSchema(name))
		if strings.Contains(statement, "(format text, serialized text)") && !strings.Contains(statement, "pdf") {
			require.ErrorIs(t, err, eventstore.ErrDamaged, statement) // it says nothing at all
		} else {
			require.ErrorIs(t, err, postgres.ErrForeign, statement)
		}
		require.Equal(t, before, valueOf[string](t, dsn, left, name), statement)
	}
}

func TestAStoreOfTheOtherFormIsRefused(t *testing.T) {
	dsn := pgtest.Database(t)
	open(t, dsn, postgres.WithSchema("fenced"))
	open(t, dsn, postgres.WithSchema("serial"), postgres.WithSerializedAppends())
	err := refused(t, dsn, postgres.WithSchema("fenced"), postgres.WithSerializedAppends())
	require.ErrorIs(t, err, postgres.ErrForeign)
	require.ErrorContains(t, err, "without serialized appends")
	err = refused(t, dsn, postgres.WithSchema("serial"))
	require.ErrorIs(t, err, postgres.ErrForeign)
	require.ErrorContains(t, err, "with serialized appends")
}

func TestAFormatThatIsNotKnownIsRefused(t *testing.T) {
	dsn := pgtest.Database(t)
	open(t, dsn)
	execute(t, dsn, "UPDATE rollforward.store SET format = 99")
	err := refused(t, dsn)
	require.ErrorIs(t, err, eventstore.ErrNewerFormat)
	require.ErrorContains(t, err, "has format 99, this program knows up to 1")
	execute(t, dsn, "UPDATE rollforward.store SET format = 0")
	require.ErrorIs(t, refused(t, dsn), eventstore.ErrDamaged)
	execute(t, dsn, "DELETE FROM rollforward.store")
	require.ErrorIs(t, refused(t, dsn), eventstore.ErrDamaged)
}

func TestAStoreOfWhichAPartIsGoneIsRefusedByName(t *testing.T) {
	dsn := pgtest.Database(t)
	for i, c := range []struct{ name, statement string }{
		{"events", "DROP TABLE NAME.events CASCADE"}, {"event_tags", "DROP TABLE NAME.event_tags"}, {"checkpoints", "DROP TABLE NAME.checkpoints"}, {"counter", "DROP TABLE NAME.counter"},
		{"appends", "DROP SEQUENCE NAME.appends"}, {"events_by_type", "DROP INDEX NAME.events_by_type"}, {"history", "DROP VIEW NAME.history"},
		{"reserve", "DROP FUNCTION NAME.reserve"}, {"frontier", "DROP FUNCTION NAME.frontier"}, {"version_at", "DROP FUNCTION NAME.version_at"},
		{"events_are_append_only", "DROP TRIGGER events_are_append_only ON NAME.events"}, {"events_are_fenced", "ALTER TABLE NAME.events DISABLE TRIGGER events_are_fenced"},
		{"event_tags_are_append_only", "ALTER TABLE NAME.event_tags ENABLE REPLICA TRIGGER event_tags_are_append_only"},
	} {
		name := fmt.Sprint("part", i)
		require.NoError(t, open(t, dsn, postgres.WithSchema(name)).Close())
		execute(t, dsn, strings.ReplaceAll(c.statement, "NAME", name))
		err := refused(t, dsn, postgres.WithSchema(name))
		require.ErrorIs(t, err, eventstore.ErrDamaged, c.statement)
		require.ErrorContains(t, err, c.name, c.statement)
	}
}

func TestATableThatGoesWhileAStoreIsOpenIsDamage(t *testing.T) {
	dsn := pgtest.Database(t)
	store := open(t, dsn)
	_, err := store.Append(t.Context(), []eventstore.Event{thing("s")})
	require.NoError(t, err)
	execute(t, dsn, "ALTER TABLE rollforward.events RENAME TO gone", "ALTER TABLE rollforward.checkpoints RENAME TO gone_too")
	_, err = store.Append(t.Context(), []eventstore.Event{thing("s")})
	require.ErrorIs(t, err, eventstore.ErrDamaged)
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	require.ErrorIs(t, readError(t, store, eventstore.Query{}), eventstore.ErrDamaged)
	require.ErrorIs(t, store.SaveCheckpoints(t.Context(), eventstore.Checkpoint{Name: "c"}), eventstore.ErrDamaged)
	_, err = store.Head(t.Context())
	require.ErrorIs(t, err, eventstore.ErrDamaged)
}

func TestAServerThatDoesNotSyncIsRefused(t *testing.T) {
	c := pgtest.Start(t, "fsync=off")
	both(t, func(t *testing.T, options ...postgres.Option) {
		require.ErrorIs(t, refused(t, c.DSN(), options...), postgres.ErrDurability)
		require.Zero(t, valueOf[int](t, c.DSN(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'rollforward'"), "nothing is made of what is refused")
	})
}

// databaseLike makes a database with what CREATE DATABASE says of it.
func databaseLike(t testing.TB, rest string) (dsn string) {
	name := fresh()
	execute(t, pgtest.Shared(t), "CREATE DATABASE "+name+" "+rest)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := pgx.Connect(ctx, pgtest.Shared(t))
		require.NoError(t, err)
		_, err = c.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		require.NoError(t, err)
		require.NoError(t, c.Close(ctx))
	})
	config, err := pgx.ParseConfig(pgtest.Shared(t))
	require.NoError(t, err)
	return as(pgtest.Shared(t), config.User, name)
}

// as is a connection string with another user and database, which come last and so count.
func as(dsn, user, database string) string { return dsn + " user=" + user + " dbname=" + database }

func TestADatabaseThatIsNotUTF8IsRefused(t *testing.T) {
	for _, encoding := range []string{"SQL_ASCII", "LATIN1"} {
		dsn := databaseLike(t, "TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING '"+encoding+"'")
		both(t, func(t *testing.T, options ...postgres.Option) {
			err := refused(t, dsn, options...)
			require.ErrorIs(t, err, postgres.ErrUnsupported)
			require.ErrorContains(t, err, encoding)
		})
	}
}

// copyOf makes a second server of the files of one that runs, which is not started yet.
func copyOf(t testing.TB, c *pgtest.Cluster, args ...string) *pgtest.Cluster {
	t.Helper()
	second := pgtest.Start(t)
	require.NoError(t, second.Stop(syscall.SIGQUIT))
	data := filepath.Join(second.Socket(), "data")
	require.NoError(t, os.RemoveAll(data))
	out, err := c.Command("pg_basebackup", append([]string{"--pgdata=" + data, "--checkpoint=fast", "--wal-method=stream", "--no-sync"}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return second
}

func TestAStandbyIsRefusedAsReadOnly(t *testing.T) {
	primary := pgtest.Start(t)
	store := open(t, primary.DSN())
	records, err := store.Append(t.Context(), []eventstore.Event{thing("s")})
	require.NoError(t, err)
	standby := copyOf(t, primary, "--write-recovery-conf")
	require.NoError(t, standby.Start())
	both(t, func(t *testing.T, options ...postgres.Option) {
		err := refused(t, standby.DSN(), options...)
		require.ErrorIs(t, err, eventstore.ErrReadOnly)
		require.ErrorContains(t, err, "connect to the primary")
	})
	// Promoted it is a primary, with all that was acknowledged before.
	require.True(t, valueOf[bool](t, standby.DSN(), "SELECT pg_promote()"))
	promoted := open(t, standby.DSN())
	require.Equal(t, records, readAll(t, promoted, eventstore.Query{}))
	added, err := promoted.Append(t.Context(), []eventstore.Event{thing("s")}, eventstore.At("s", 1))
	require.NoError(t, err)
	require.Greater(t, added[0].Position, records[0].Position)
}

func TestARoleIsToldWhatItLacks(t *testing.T) {
	dsn, role := pgtest.Database(t), fresh()
	database := valueOf[string](t, dsn, "SELECT current_database()::text")
	execute(t, dsn, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := pgx.Connect(ctx, dsn)
		require.NoError(t, err)
		_, err = c.Exec(ctx, "DROP OWNED BY "+role+" CASCADE; DROP ROLE "+role)
		require.NoError(t, err)
		require.NoError(t, c.Close(ctx))
	})
	theirs := as(dsn, role, database)

	err := refused(t, theirs)
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	require.ErrorContains(t, err, "grant the role what it lacks")

	// A schema that was made for a role is enough: it makes none itself.
	execute(t, dsn, "CREATE SCHEMA own AUTHORIZATION "+role)
	store := open(t, theirs, postgres.WithSchema("own"))
	_, err = store.Append(t.Context(), []eventstore.Event{thing("s")})
	require.NoError(t, err)

	// A role that may only read does that.
	owner := open(t, dsn)
	records, err := owner.Append(t.Context(), []eventstore.Event{thing("s", "a")})
	require.NoError(t, err)
	require.ErrorIs(t, refused(t, theirs), eventstore.ErrReadOnly, "it may not even look")
	execute(t, dsn, "GRANT USAGE ON SCHEMA rollforward TO "+role, "GRANT SELECT ON ALL TABLES IN SCHEMA rollforward TO "+role, "GRANT SELECT ON ALL SEQUENCES IN SCHEMA rollforward TO "+role)
	reader := open(t, theirs)
	require.Equal(t, records, readAll(t, reader, eventstore.Query{}))
	require.Equal(t, records, readAll(t, reader, eventstore.Query{Tags: []string{"a"}}))
	require.NoError(t, reader.Wait(t.Context(), 0))
	_, err = reader.Append(t.Context(), []eventstore.Event{thing("s")})
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	require.ErrorIs(t, reader.SaveCheckpoints(t.Context(), eventstore.Checkpoint{Name: "c"}), eventstore.ErrReadOnly)

	// One that may append and not own does that, and its fence is seen by others.
	execute(t, dsn, "GRANT INSERT ON rollforward.events, rollforward.event_tags TO "+role, "GRANT UPDATE ON SEQUENCE rollforward.appends TO "+role)
	tx, err := dial(t, theirs).Begin(t.Context())
	require.NoError(t, err)
	_, err = reader.AppendTx(t.Context(), tx, []eventstore.Event{thing("s", "b")})
	require.NoError(t, err)
	fences, err := owner.Fences(t.Context())
	require.NoError(t, err)
	require.Len(t, fences, 1)
	head, err := owner.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, records[0].Position, head)
	require.NoError(t, tx.Commit(t.Context()))
}

// A server that only speaks the protocol has the names, and other things behind them.
func TestAServerThatShowsNoLocksGetsSerializedAppendsOrARefusal(t *testing.T) {
	for name, shadow := range map[string]string{
		"no locks in the view":   "CREATE VIEW shadow.pg_locks AS SELECT * FROM pg_catalog.pg_locks WHERE false",
		"no such view":           "CREATE VIEW shadow.pg_locks AS SELECT 1 AS nothing",
		"locks that do nothing":  "CREATE FUNCTION shadow.pg_advisory_xact_lock_shared(bigint) RETURNS void LANGUAGE sql AS ''",
		"locks that are refused": "CREATE FUNCTION shadow.pg_advisory_xact_lock_shared(bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'unimplemented' USING ERRCODE = '0A000'; END $$",
		"another name":           "CREATE FUNCTION shadow.version() RETURNS text LANGUAGE sql AS $$ SELECT 'CockroachDB CCL v24.3.1'::text $$",
		"another engine":         "CREATE FUNCTION shadow.version() RETURNS text LANGUAGE sql AS $$ SELECT 'PostgreSQL 11.2-YB-2.25.0.0-b0 on x86_64'::text $$",
	} {
		t.Run(name, func(t *testing.T) {
			dsn := pgtest.Database(t)
			execute(t, dsn, "CREATE SCHEMA shadow", shadow,
				"DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET search_path = shadow, pg_catalog, public'; END $$")
			err := refused(t, dsn)
			require.ErrorIs(t, err, postgres.ErrUnsupported)
			require.ErrorContains(t, err, "use WithSerializedAppends")
			require.Zero(t, valueOf[int](t, dsn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'rollforward'"), "nothing is made of what is refused")
			store := open(t, dsn, postgres.WithSerializedAppends())
			records, err := store.Append(t.Context(), []eventstore.Event{thing("s", "a")}, eventstore.At("s", 0))
			require.NoError(t, err)
			require.Equal(t, records, readAll(t, store, eventstore.Query{Tags: []string{"a"}}))
		})
	}
}

// What a database is set to is somebody else's choice; what a store needs is not.
func TestAStoreWorksUnderTheStrangestDefaultsOfADatabase(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		dsn := pgtest.Database(t)
		strange := dial(t, dsn)
		for _, setting := range []string{
			"default_transaction_isolation = 'serializable'", "default_transaction_read_only = on", "default_transaction_deferrable = on", "synchronous_commit = off", "search_path = 'nowhere'",
			"timezone = 'Pacific/Chatham'", "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "bytea_output = 'escape'", "standard_conforming_strings = off", "backslash_quote = off",
			"client_encoding = 'LATIN1'", "extra_float_digits = -10", "xmlbinary = 'hex'", "array_nulls = off", "quote_all_identifiers = on", "check_function_bodies = off", "plan_cache_mode = 'force_custom_plan'",
		} {
			_, err := strange.Exec(t.Context(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET "+strings.ReplaceAll(setting, "'", "''")+"', current_database()); END $$")
			require.NoError(t, err, setting)
		}
		caller := dial(t, dsn)
		var isolation, off string
		require.NoError(t, caller.QueryRow(t.Context(), "SELECT current_setting('transaction_isolation'), current_setting('synchronous_commit')").Scan(&isolation, &off))
		require.Equal(t, []string{"serializable", "off"}, []string{isolation, off}, "the control: others have these")

		store := open(t, dsn, options...)
		for _, statement := range []string{
			"SET default_transaction_read_only = off", "CREATE TABLE rollforward.seen (how text)", "GRANT ALL ON rollforward.seen TO public",
			`CREATE FUNCTION rollforward.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				INSERT INTO rollforward.seen VALUES (concat_ws(' ', current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('synchronous_commit')));
				RETURN NULL; END $$`,
			"CREATE TRIGGER see AFTER INSERT ON rollforward.events FOR EACH STATEMENT EXECUTE FUNCTION rollforward.see()",
		} {
			_, err := strange.Exec(t.Context(), statement)
			require.NoError(t, err)
		}
		begun := time.Now().Add(-time.Minute)
		var written []eventstore.Recorded
		append_ := func(records []eventstore.Recorded, err error) {
			t.Helper()
			require.NoError(t, err)
			written = append(written, records...)
		}
		e := thing(`ä\'"`, `\`, "ä")
		e.Data = []byte(`{"a": "\\ä\u0000"}`)
		append_(store.Append(t.Context(), []eventstore.Event{e}, eventstore.At(e.Stream, 0)))
		append_(store.Append(t.Context(), things("many", 3, "ä")))
		append_(store.AppendWith(t.Context(), things("with", 2), func(ctx context.Context, tx pgx.Tx, _ []eventstore.Recorded) error {
			_, err := tx.Exec(ctx, "INSERT INTO rollforward.seen SELECT how FROM rollforward.seen LIMIT 1")
			return err
		}))
		tx, err := caller.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
		require.NoError(t, err)
		append_(store.AppendTx(t.Context(), tx, things("tx", 2)))
		require.NoError(t, tx.Commit(t.Context()))
		require.Equal(t, written, readAll(t, store, eventstore.Query{}))
		require.Equal(t, written[:1], readAll(t, store, eventstore.Query{Tags: []string{`\`}}))
		require.Equal(t, written[:4], readAll(t, store, eventstore.Query{Tags: []string{"ä"}}))
		require.WithinRange(t, written[0].RecordedAt, begun, time.Now().Add(time.Minute))

		restored := open(t, dsn, append(options, postgres.WithSchema("restored"))...)
		_, err = restored.Restore(t.Context(), 0, written)
		require.NoError(t, err)
		saved := eventstore.Checkpoint{Name: "ä", Position: 1, Event: e.ID, State: []byte{0, 0xff, '\\'}}
		require.NoError(t, store.SaveCheckpoints(t.Context(), saved))
		got, err := store.Checkpoint(t.Context(), "ä")
		require.NoError(t, err)
		require.Equal(t, saved, got)
		require.NoError(t, store.DeleteCheckpoint(t.Context(), "ä"))
		require.NoError(t, store.Wait(t.Context(), written[0].Position))

		var seen string
		require.NoError(t, strange.QueryRow(t.Context(), "SELECT string_agg(DISTINCT how, '; ') || ' times ' || count(*) FROM rollforward.seen").Scan(&seen))
		require.Equal(t, "read committed off on times 5", seen)
	})
}

func TestSynchronousCommitIsRaisedAndNeverLowered(t *testing.T) {
	dsn := pgtest.Database(t)
	for set, want := range map[string]string{"off": "on", "local": "local", "remote_write": "remote_write", "on": "on", "remote_apply": "remote_apply"} {
		execute(t, dsn, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = "+set+"'; END $$")
		store := open(t, dsn)
		_, err := store.AppendWith(t.Context(), things("s", 1), func(ctx context.Context, tx pgx.Tx, _ []eventstore.Recorded) error {
			var is string
			err := tx.QueryRow(ctx, "SELECT current_setting('synchronous_commit')").Scan(&is)
			require.Equal(t, want, is)
			return err
		})
		require.NoError(t, err)
	}
}
