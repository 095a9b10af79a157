package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// writing is writers who append to a store, each to streams of its own, one append after
// the other, of one to three events.
type writing struct {
	store    *postgres.Store
	stop     context.CancelFunc
	writers  sync.WaitGroup
	mu       sync.Mutex
	told     []eventstore.Recorded // acknowledged
	failures []error
}

const writersOfCopies = 6

func startWriting(t testing.TB, store *postgres.Store) *writing {
	ctx, cancel := context.WithCancel(context.Background())
	l := &writing{store: store, stop: cancel}
	t.Cleanup(func() { l.end(t) })
	for w := range writersOfCopies {
		l.writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				// All of a writer is in his first stream, half of it in another one.
				events := []eventstore.Event{thing(fmt.Sprint("writer-", w), fmt.Sprint("w:", w))}
				for range n % 3 {
					events = append(events, thing(fmt.Sprint("stream-", w, "-", n%5), fmt.Sprint("w:", w)))
				}
				records, err := store.Append(context.Background(), events, eventstore.At(events[0].Stream, uint64(n)))
				l.mu.Lock()
				l.told = append(l.told, records...)
				if err != nil {
					l.failures = append(l.failures, err)
				}
				l.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	return l
}

// acknowledged returns what is up to now.
func (l *writing) acknowledged() []eventstore.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

// until waits for so many acknowledged events.
func (l *writing) until(t testing.TB, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(l.acknowledged()) >= n }, time.Minute, time.Millisecond)
}

func (l *writing) end(t testing.TB) {
	l.stop()
	l.writers.Wait()
	require.NoError(t, errors.Join(l.failures...))
}

// prefix holds the log of a copy to that of the original: nothing else, the same bytes,
// whole appends, and of each stream and writer what came first; all of must is in it.
// It returns an error, so that it can be shown to find one.
func prefix(copied, original, must []eventstore.Recorded) error {
	at := map[eventstore.Position]eventstore.Recorded{}
	whole := map[eventstore.Position]int{}
	for _, r := range original {
		at[r.Position] = r
		whole[r.Append]++
	}
	there := map[uuid.UUID]bool{}
	versions := map[string]uint64{}
	last := eventstore.Position(0)
	for _, r := range copied {
		o, ok := at[r.Position]
		switch {
		case !ok:
			return fmt.Errorf("position %d is of nobody", r.Position)
		case string(o.Leaf()) != string(r.Leaf()) || o.ID != r.ID || o.Append != r.Append || !o.RecordedAt.Equal(r.RecordedAt):
			return fmt.Errorf("position %d has other bytes", r.Position)
		case r.Position <= last:
			return fmt.Errorf("position %d comes behind %d", r.Position, last)
		case r.Version != versions[r.Stream]+1:
			return fmt.Errorf("stream %s has version %d behind %d", r.Stream, r.Version, versions[r.Stream])
		}
		versions[r.Stream], last, there[r.ID] = r.Version, r.Position, true
		whole[r.Append]--
	}
	for _, r := range copied {
		if whole[r.Append] != 0 {
			return fmt.Errorf("the append at %d is torn", r.Append)
		}
	}
	for _, r := range must {
		if !there[r.ID] {
			return fmt.Errorf("the event at %d was acknowledged before and is not there", r.Position)
		}
	}
	return nil
}

func TestTheComparisonOfACopyFindsWhatIsWrong(t *testing.T) {
	store := open(t, pgtest.Database(t))
	for i := range 5 {
		_, err := store.Append(t.Context(), []eventstore.Event{thing("a"), thing(fmt.Sprint("b", i%2))})
		require.NoError(t, err)
	}
	log := readAll(t, store, eventstore.Query{})
	require.NoError(t, prefix(log, log, log))
	require.NoError(t, prefix(log[:6], log, log[:6]))
	require.ErrorContains(t, prefix(log[:6], log, log), "acknowledged before")
	require.ErrorContains(t, prefix(log[:5], log, nil), "torn")
	require.ErrorContains(t, prefix(log[2:], log, nil), "has version 2 behind 0")
	require.ErrorContains(t, prefix(log, log[:8], nil), "of nobody")
	other := slices.Clone(log)
	other[3].Data = []byte(`{}`)
	require.ErrorContains(t, prefix(other, log, nil), "other bytes")
	other = slices.Clone(log)
	other[0], other[1] = other[1], other[0]
	require.ErrorContains(t, prefix(other, log, nil), "comes behind")
}

// goesOn shows that the log of a copy is one to go on with, and that who has read the
// original up to read goes on behind it.
func goesOn(t *testing.T, dsn string, store *postgres.Store, read []eventstore.Recorded, options ...postgres.Option) {
	t.Helper()
	log := readAll(t, store, eventstore.Query{})
	last := read[len(read)-1].Position
	// Nothing came at or below what was read.
	i := slices.IndexFunc(log, func(r eventstore.Recorded) bool { return r.Position > last })
	if i < 0 {
		i = len(log)
	}
	require.Equal(t, read, log[:i])
	require.Equal(t, len(log[i:]), len(readAll(t, store, eventstore.Query{After: last})))

	// What is appended comes behind everything, and versions and IDs go on.
	head := log[len(log)-1]
	version, err := store.Version(t.Context(), "writer-0")
	require.NoError(t, err)
	require.Positive(t, version)
	_, err = store.Append(t.Context(), things("writer-0", 1), eventstore.At("writer-0", version-1))
	require.ErrorIs(t, err, eventstore.ErrConflict)
	again, err := store.Append(t.Context(), []eventstore.Event{log[0].Event}) // one of one event: the first of a writer
	require.NoError(t, err)
	require.Equal(t, log[:1], again)
	added, err := store.Append(t.Context(), things("writer-0", 2), eventstore.At("writer-0", version))
	require.NoError(t, err)
	require.Greater(t, added[0].Position, head.Position)
	require.Equal(t, added, readAll(t, store, eventstore.Query{After: head.Position}))

	// The fence works, and history cannot be changed.
	tx, err := dial(t, dsn).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	require.NoError(t, err)
	held, err := store.AppendTx(t.Context(), tx, things("held", 1))
	require.NoError(t, err)
	if len(options) == 0 {
		behind, err := store.Append(t.Context(), things("free", 1))
		require.NoError(t, err)
		require.Greater(t, behind[0].Position, held[0].Position)
		now, err := store.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, added[1].Position, now)
		fences, err := store.Fences(t.Context())
		require.NoError(t, err)
		require.Len(t, fences, 1)
	}
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, held[0], readAll(t, store, eventstore.Query{After: added[1].Position})[0])
	_, err = dial(t, dsn).Exec(t.Context(), "DELETE FROM rollforward.events")
	require.Equal(t, "RF002", sqlState(err))
}

// F19: a dump of a log that is written, restored into another cluster.
func TestADumpThatIsRestoredKeepsCursorsAndBytes(t *testing.T) {
	from, to := pgtest.Start(t), pgtest.Start(t)
	both(t, func(t *testing.T, options ...postgres.Option) {
		source := pgtest.DatabaseOf(t, from.DSN())
		store := open(t, source, options...)
		l := startWriting(t, store)
		l.until(t, 60)
		read := shown(t, store) // a consumer, and where he stands
		saved := eventstore.Checkpoint{Name: "consumer", Position: read[len(read)-1].Position, Event: read[len(read)-1].ID, Format: 3, State: []byte{0, 255, '\\', '\n'}}
		require.NoError(t, store.SaveCheckpoints(t.Context(), saved))

		for _, format := range []string{"plain", "custom"} {
			target := pgtest.DatabaseOf(t, to.DSN())
			var held pgx.Tx
			if len(options) == 0 { // one that has drawn and is not in the dump, below others that are
				var err error
				held, err = dial(t, source).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
				require.NoError(t, err)
				_, err = store.AppendTx(t.Context(), held, things("late-"+format, 1))
				require.NoError(t, err)
			}
			l.until(t, len(l.acknowledged())+30)
			must := l.acknowledged()
			file := filepath.Join(to.Socket(), fresh())
			out, err := from.Command("pg_dump", "--format="+format, "--file="+file, source).CombinedOutput()
			require.NoError(t, err, "%s", out)
			l.until(t, len(l.acknowledged())+30)
			if held != nil {
				require.NoError(t, held.Commit(t.Context()))
			}
			args := []string{"--dbname=" + target, "--exit-on-error", file}
			program := "pg_restore"
			if format == "plain" {
				program, args = "psql", []string{"--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", "--dbname=" + target, "--file=" + file}
			}
			out, err = to.Command(program, args...).CombinedOutput()
			require.NoError(t, err, "%s", out)

			copied := open(t, target, options...)
			log := readAll(t, copied, eventstore.Query{})
			later := l.acknowledged()
			require.NoError(t, prefix(log, readAll(t, store, eventstore.Query{}), must))
			got, err := copied.Checkpoint(t.Context(), "consumer")
			require.NoError(t, err)
			require.Equal(t, saved, got)
			// Who has read on in the original is told that this one is behind him.
			beyond := later[len(later)-1].Position
			require.Greater(t, beyond, log[len(log)-1].Position, "the dump was not of a log that is written")
			require.ErrorIs(t, readError(t, copied, eventstore.Query{After: beyond}), eventstore.ErrRewound)
			require.ErrorIs(t, copied.Wait(t.Context(), beyond), eventstore.ErrRewound)
			goesOn(t, target, copied, read, options...)
			t.Logf("%s: %d events in the dump, of which %d were acknowledged when it began, and %d when it was restored", format, len(log), len(must), len(later))
		}
	})
}

// shown is what the log shows once it shows something: of those that are written at once
// the first append may be the slowest of all.
func shown(t *testing.T, store *postgres.Store) (read []eventstore.Recorded) {
	for len(read) == 0 {
		read = readAll(t, store, eventstore.Query{})
	}
	return read
}

// F46: a copy of the files of a server under load, started as another one.
func TestABackupUnderLoadIsAPrefixOfWhatWasAcknowledged(t *testing.T) {
	c := pgtest.Start(t)
	store := open(t, c.DSN())
	l := startWriting(t, store)
	l.until(t, 60)
	read := shown(t, store)
	early := eventstore.Checkpoint{Name: "early", Position: read[len(read)-1].Position, Event: read[len(read)-1].ID}
	require.NoError(t, store.SaveCheckpoints(t.Context(), early))
	must := l.acknowledged()
	second := copyOf(t, c)
	// A consumer outside the database, who goes on while the backup does not.
	l.until(t, len(l.acknowledged())+30)
	after := readAll(t, store, eventstore.Query{})
	l.end(t)
	require.NoError(t, second.Start())

	copied := open(t, second.DSN())
	log := readAll(t, copied, eventstore.Query{})
	require.NoError(t, prefix(log, readAll(t, store, eventstore.Query{}), must))
	t.Logf("%d events in the backup, of which %d were acknowledged when it began; %d acknowledged at the end", len(log), len(must), len(l.acknowledged()))
	require.Greater(t, len(log), len(must), "the backup was not under load")
	beyond := after[len(after)-1].Position
	require.Greater(t, beyond, log[len(log)-1].Position)
	got, err := copied.Checkpoint(t.Context(), "early")
	require.NoError(t, err)
	require.Equal(t, early, got)
	require.Len(t, readAll(t, copied, eventstore.Query{After: got.Position}), len(log)-len(read))
	require.ErrorIs(t, readError(t, copied, eventstore.Query{After: beyond}), eventstore.ErrRewound)
	require.ErrorIs(t, readError(t, copied, eventstore.Query{After: beyond, Tags: []string{"w:0"}}), eventstore.ErrRewound)
	require.ErrorIs(t, copied.Wait(t.Context(), beyond), eventstore.ErrRewound)
	goesOn(t, second.DSN(), copied, read)
}
