package sqlite_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/race"
)

// createsVariable sets how many processes are killed while they make a file; 40 if not set.
const createsVariable = "ROLLFORWARD_CREATES"

// spill has pages written before the transaction that changed them is committed.
const spill = "PRAGMA cache_size = 1; PRAGMA cache_spill = 1"

// createUntilKilled makes one file after the other in a folder, and says each before it begins.
func createUntilKilled() error {
	for i := 0; ; i++ {
		say("creating %d", i)
		store, err := sqlite.Open(filepath.Join(os.Getenv(pathVariable), fmt.Sprint(i, ".db")), sqlite.WithPragmas(spill))
		if err == nil {
			err = store.Close()
		}
		if err != nil {
			return err
		}
	}
}

// emptyStore reports why the file is not a sound one with an empty log that can be used, or nil.
func emptyStore(path string) error { return storeOf(path, 0) }

// storeOf does so for a log of n events.
func storeOf(path string, n int) error {
	store, err := sqlite.Open(path, sqlite.CheckOnOpen())
	if err != nil {
		return err
	}
	_, err = store.Append(ctx, []eventstore.Event{event("s", "x")}, eventstore.At("s", uint64(n)))
	if err == nil {
		for _, failed := range store.Read(ctx, eventstore.Query{}) {
			n--
			err = errors.Join(err, failed)
		}
	}
	if err == nil && n != -1 {
		err = fmt.Errorf("%d events too few", n+1)
	}
	return errors.Join(err, store.Close())
}

// found says which files there are for a path, and how large, in pages.
func found(path string) (sizes string) {
	for _, suffix := range []string{"", "-journal", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			sizes += fmt.Sprintf(" db%s of %d pages", suffix, info.Size()/4096)
		}
	}
	if sizes == "" {
		return "no file"
	}
	return strings.TrimSpace(sizes)
}

// F44: a process that is killed while it makes a file leaves one that the next makes to its end,
// or has made already because it did so at the same time.
func TestProcessesThatAreKilledWhileTheyMakeAFileLeaveOneThatOpensAtFullSize(t *testing.T) {
	t.Parallel()
	n := sizeOf(t, createsVariable, 40, 6)
	seed := rand.Uint64() >> 1
	random := rand.New(rand.NewPCG(seed, 0))
	states := map[string]int{}
	made, together := 0, 0
	// A few may all be killed at the same place, which proves nothing: then more are.
	for round := 0; round < n || len(states) < 2 && round < 20*n; round++ {
		dir, competes := quickDir(t), round%2 == 1
		cmd := dyingCommand("create", dir)
		delay := time.Duration(random.Int64N(int64(8 * time.Millisecond)))
		var timer *time.Timer
		var files []string
		var others sync.WaitGroup
		var mu sync.Mutex
		var failures []error
		_, err := overhear(cmd, func(line string) {
			i, ok := strings.CutPrefix(line, "creating ")
			if !ok {
				return // overhear says what it was
			}
			path := filepath.Join(dir, i+".db")
			files = append(files, path)
			if i != "0" && timer == nil { // the first takes long
				timer = time.AfterFunc(delay, func() { cmd.Process.Kill() })
			}
			if competes {
				others.Go(func() {
					err := emptyStore(path)
					mu.Lock()
					defer mu.Unlock()
					failures = append(failures, err)
				})
			}
		})
		others.Wait()
		require.NoError(t, err, "seed %d, round %d", seed, round)
		require.True(t, killed(cmd), "seed %d, round %d", seed, round)
		require.NoError(t, errors.Join(failures...), "seed %d, round %d", seed, round)
		events := 0
		if competes {
			events, together = 1, together+len(files)
		} else {
			states[found(files[len(files)-1])]++
		}
		for _, path := range files {
			require.NoError(t, storeOf(path, events), "seed %d, round %d, %s", seed, round, found(path))
			made++
		}
	}
	t.Logf("%d processes killed, %d files sound, %d of them made by two at once; the last of each was: %v; seed %d", n, made, together, states, seed)
	require.Greater(t, len(states), 1, "all were killed at the same place: the harness proves nothing")
}

// copied copies what a process that dies now leaves on disk.
func copied(t *testing.T, path string) string {
	t.Helper()
	to := quickPath(t)
	for _, suffix := range []string{"", "-journal", "-wal"} {
		content, err := os.ReadFile(path + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to+suffix, content, 0o600))
	}
	return to
}

// F44, at each statement by which a file is made: in one transaction, as a store makes it, what
// is left opens as an empty store, whether or not pages were written meanwhile. Statement by
// statement is the control: what is left then is refused, by its kind, and not made to its end.
func TestAFileThatIsHalfMadeOpensWhereItIsMadeInOneTransaction(t *testing.T) {
	made, _ := filled(t, 0)
	rows, err := raw(t, made, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
	require.NoError(t, err)
	var statements []string // by which it was made
	for _, row := range rows {
		statements = append(statements, row[0])
	}
	for _, pragma := range []string{"application_id", "user_version"} {
		rows, err := raw(t, made, "PRAGMA "+pragma)
		require.NoError(t, err)
		statements = append(statements, fmt.Sprint("PRAGMA ", pragma, " = ", rows[0][0]))
	}
	for _, c := range []struct {
		name, pragmas, begin, end string
	}{
		{"in one transaction", "PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE", "COMMIT"},
		{"in one transaction that spills", "PRAGMA journal_mode = WAL; " + spill, "BEGIN IMMEDIATE", "COMMIT"},
		{"statement by statement", "PRAGMA journal_mode = WAL", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := quickPath(t)
			conn, err := driver.OpenConn(path, driver.OpenReadWrite|driver.OpenCreate)
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			steps, states := 0, []string{}
			step := func(sql string) {
				require.NoError(t, sqlitex.ExecuteTransient(conn, sql, nil), sql)
				steps++
				last := sql == statements[len(statements)-1]
				if race.Enabled && steps%5 > 0 && !last {
					return
				}
				left := copied(t, path)
				if state := found(left); !slices.Contains(states, state) {
					states = append(states, state)
				}
				err := emptyStore(left)
				if c.begin != "" || last {
					require.NoError(t, err, "behind %s", sql)
					return
				}
				require.Error(t, err, "the harness cannot tell good from bad behind %s", sql)
				require.True(t, errors.Is(err, sqlite.ErrForeign) || errors.Is(err, eventstore.ErrDamaged), "%v", err)
			}
			for sql := range strings.SplitSeq(c.pragmas, "; ") {
				require.NoError(t, sqlitex.ExecuteTransient(conn, sql, nil))
			}
			require.NoError(t, emptyStore(copied(t, path)), "behind the settings")
			if c.begin != "" {
				step(c.begin)
			}
			for _, sql := range statements {
				step(sql)
			}
			if c.end != "" {
				step(c.end)
			}
			t.Logf("%d steps; left were %s", steps, strings.Join(states, "; "))
			require.Greater(t, steps, 20)
		})
	}
}
