package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
	"github.com/rollforward/rollforward/internal/race"
)

// migrationRounds is how often several migrate one schema at once.
func migrationRounds() int {
	if race.Enabled {
		return 3
	}
	return 5
}

// statementsOf are those of a script, one by one.
func statementsOf(script string) (statements []string) {
	var lines []string
	for line := range strings.Lines(script) {
		if code, _, _ := strings.Cut(line, "-- "); strings.TrimSpace(code) != "" {
			lines = append(lines, code)
		}
	}
	begun, body := "", false
	for _, line := range lines {
		begun += strings.TrimRight(line, "\n") + "\n"
		if strings.Count(line, "$$")%2 == 1 {
			body = !body
		}
		if !body && strings.HasSuffix(strings.TrimSpace(line), ";") {
			statements, begun = append(statements, begun), ""
		}
	}
	return statements
}

// second is a format that comes later.
const second = `
CREATE TABLE rollforward.extra (n integer);
ALTER TABLE rollforward.events ADD COLUMN note text;
CREATE INDEX events_by_note ON rollforward.events (note);
INSERT INTO rollforward.extra VALUES (1);
`

// older and newer are programs that know one format and two.
func older() postgres.Option { return postgres.WithMigrations(postgres.Schema()) }
func newer() postgres.Option { return postgres.WithMigrations(postgres.Schema(), second) }

// atOnce opens a store so often at once and returns how that ended.
func atOnce(t testing.TB, dsn string, n int, options func(i int) []postgres.Option) []error {
	t.Helper()
	failures := make([]error, n)
	ready := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-ready
			store, err := postgres.Open(t.Context(), dsn, options(i)...)
			if err == nil {
				_, err = store.Append(t.Context(), []eventstore.Event{thing("s")})
				err = errors.Join(err, store.Close())
			}
			failures[i] = err
		})
	}
	close(ready)
	all.Wait()
	return failures
}

func TestSeveralWhoMakeASchemaAtOnceMakeOne(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		dsn := pgtest.Database(t)
		for round := range migrationRounds() {
			n := []int{2, 8}[round%2]
			named := append(slices.Clone(options), postgres.WithSchema(fmt.Sprint("r", round)))
			require.NoError(t, errors.Join(atOnce(t, dsn, n, func(int) []postgres.Option { return named })...), "round %d", round)
			require.Len(t, readAll(t, open(t, dsn, named...), eventstore.Query{}), n)
			require.Equal(t, 1, valueOf[int](t, dsn, fmt.Sprintf("SELECT count(*) FROM r%d.store", round)))
		}
	})
}

// F44, the control: without the lock one of two fails.
func TestWithoutTheLockTwoWhoMakeASchemaCollide(t *testing.T) {
	dsn := pgtest.Database(t)
	var arrived atomic.Int64
	meet := func() { // waits for the other one, who may be kept from coming
		arrived.Add(1)
		for begin := time.Now(); arrived.Load() < 2 && time.Since(begin) < time.Second; time.Sleep(time.Millisecond) {
		}
	}
	failures := atOnce(t, dsn, 2, func(int) []postgres.Option { return []postgres.Option{postgres.WithoutMigrationLock(meet)} })
	require.Error(t, errors.Join(failures...), "the harness cannot tell good from bad")
	t.Log(errors.Join(failures...))
	require.NoError(t, open(t, dsn).Close(), "what one of them made is whole")
}

// leaves reports what there is of a schema: its relations, functions and triggers.
func leaves(t testing.TB, dsn, name string) int {
	t.Helper()
	return valueOf[int](t, dsn, `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = $1) + (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1))
		+ (SELECT count(*) FROM pg_proc WHERE pronamespace = to_regnamespace($1))`, name)
}

// F44: whoever is ended at any statement of a migration leaves nothing of it.
func TestAMigrationThatIsEndedAtAnyStatementLeavesNothingAndIsDoneByTheNext(t *testing.T) {
	script := statementsOf(postgres.Schema())
	require.Greater(t, len(script), 20)
	both(t, func(t *testing.T, options ...postgres.Option) {
		dsn := pgtest.Database(t)
		for i, end := range []string{"SELECT pg_terminate_backend(pg_backend_pid());", "SELECT 1 / 0;"} {
			every := 7
			if i == 0 && len(options) == 0 && !race.Enabled {
				every = 1 // the script is the same one
			}
			for n := 0; n <= len(script); n += every {
				name := fmt.Sprint("n", n)
				broken := strings.Join(script[:n], "") + end + strings.Join(script[n:], "")
				refused(t, dsn, append(slices.Clone(options), postgres.WithSchema(name), postgres.WithMigrations(broken))...)
				require.Zero(t, leaves(t, dsn, name), "behind %d statements", n)
				store := open(t, dsn, append(slices.Clone(options), postgres.WithSchema(name))...)
				_, err := store.Append(t.Context(), []eventstore.Event{thing("s")}, eventstore.At("s", 0))
				require.NoError(t, err)
				require.NoError(t, store.Close())
				execute(t, dsn, "DROP SCHEMA "+name+" CASCADE")
			}
		}
	})
}

// The control: statement by statement, what is left is found to be none or half a store.
func TestASchemaThatWasMadeStatementByStatementIsRefusedUntilItIsWhole(t *testing.T) {
	script := statementsOf(strings.ReplaceAll(postgres.Schema(), "rollforward.", "half."))
	script = append(script, "INSERT INTO half.store (format, serialized) VALUES (1, false)")
	dsn := pgtest.Database(t)
	c := dial(t, dsn)
	_, err := c.Exec(t.Context(), "CREATE SCHEMA half")
	require.NoError(t, err)
	for i, statement := range script {
		_, err := c.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
		if i < len(script)-1 {
			require.ErrorIs(t, refused(t, dsn, postgres.WithSchema("half")), eventstore.ErrDamaged, "behind %s", statement)
		}
	}
	open(t, dsn, postgres.WithSchema("half"))
}

func TestASecondFormatThatIsEndedAtAnyStatementLeavesTheFirst(t *testing.T) {
	dsn := pgtest.Database(t)
	store := open(t, dsn, older())
	records, err := store.Append(t.Context(), things("s", 3))
	require.NoError(t, err)
	before := leaves(t, dsn, "rollforward")
	script := statementsOf(second)
	for n := range len(script) + 1 {
		broken := strings.Join(script[:n], "") + "SELECT pg_terminate_backend(pg_backend_pid());" + strings.Join(script[n:], "")
		refused(t, dsn, postgres.WithMigrations(postgres.Schema(), broken))
		require.Equal(t, before, leaves(t, dsn, "rollforward"), "behind %d statements", n)
		require.Equal(t, records, readAll(t, open(t, dsn, older()), eventstore.Query{}))
	}
	require.Equal(t, records, readAll(t, open(t, dsn, newer()), eventstore.Query{}))
	err = refused(t, dsn, older())
	require.ErrorIs(t, err, eventstore.ErrNewerFormat)
	require.ErrorContains(t, err, "has format 2, this program knows up to 1")
	// Who had it open before can go on: what is added to a format breaks nobody.
	_, err = store.Append(t.Context(), []eventstore.Event{thing("s")}, eventstore.At("s", 3))
	require.NoError(t, err)
}

// F44: programs of two versions at once, on a schema that is not there yet.
func TestProgramsOfTwoVersionsAtOnceEndInTheLaterFormat(t *testing.T) {
	dsn := pgtest.Database(t)
	seed := rand.Uint64() >> 1
	random := rand.New(rand.NewPCG(seed, 0))
	opened, told := 0, 0
	for round := range migrationRounds() {
		name := postgres.WithSchema(fmt.Sprint("r", round))
		pauses := make([]time.Duration, 8)
		for i := range pauses {
			pauses[i] = time.Duration(random.Int64N(int64(60 * time.Millisecond)))
		}
		program := func(i int) postgres.Option {
			if i%2 == 0 {
				return older()
			}
			return newer()
		}
		for i, err := range atOnce(t, dsn, len(pauses), func(i int) []postgres.Option {
			time.Sleep(pauses[i])
			return []postgres.Option{name, program(i)}
		}) {
			switch {
			case i%2 == 1:
				require.NoError(t, err, "round %d, seed %d", round, seed)
			case err == nil:
				opened++
			default:
				require.ErrorIs(t, err, eventstore.ErrNewerFormat, "round %d, seed %d", round, seed)
				told++
			}
		}
		require.ErrorIs(t, refused(t, dsn, name, older()), eventstore.ErrNewerFormat)
		require.NoError(t, open(t, dsn, name, newer()).Close())
		require.Equal(t, 1, valueOf[int](t, dsn, fmt.Sprintf("SELECT count(*) FROM r%d.extra", round)), "the second step was done once")
	}
	t.Logf("of programs that know one format %d opened in time and %d were told that it is too late; seed %d", opened, told, seed)
}

func TestAStoreUnderLoadIsMigratedAndLosesNothing(t *testing.T) {
	dsn := pgtest.Database(t)
	store := open(t, dsn, older())
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	acknowledged := make([]int, 4)
	failures := make([]error, len(acknowledged))
	for w := range acknowledged {
		writers.Go(func() {
			for stream := fmt.Sprint("w", w); ctx.Err() == nil; acknowledged[w]++ {
				if _, err := store.Append(t.Context(), []eventstore.Event{thing(stream)}, eventstore.At(stream, uint64(acknowledged[w]))); err != nil {
					failures[w] = err
					return
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	migrated := errors.Join(atOnce(t, dsn, 8, func(int) []postgres.Option { return []postgres.Option{newer()} })...)
	time.Sleep(50 * time.Millisecond)
	stop()
	writers.Wait()
	require.NoError(t, migrated)
	require.NoError(t, errors.Join(failures...))
	late := open(t, dsn, newer())
	total := 0
	for w, n := range acknowledged {
		require.Len(t, readAll(t, late, eventstore.Query{Streams: []string{fmt.Sprint("w", w)}}), n)
		total += n
	}
	require.Positive(t, total)
	t.Logf("%d appends around a migration", total)
}

func TestAMigrationThatIsGivenUpHoldsNobodyBack(t *testing.T) {
	dsn := pgtest.Database(t)
	tx, err := dial(t, dsn).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "CREATE SCHEMA rollforward") // somebody who takes his time
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = postgres.Open(ctx, dsn)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, tx.Rollback(t.Context()))
	begun := time.Now()
	open(t, dsn)
	require.Less(t, time.Since(begun), 10*time.Second)
}
