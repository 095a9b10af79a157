package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// backupsVariable sets how many backups are made under load; 4 if not set.
const backupsVariable = "ROLLFORWARD_BACKUPS"

// load is four writers on one store, and what they have been told so far.
type load struct {
	mu           sync.Mutex
	acknowledged []eventstore.Recorded
	stop         func()
}

func newLoad(t testing.TB, store *sqlite.Store) *load {
	l := &load{}
	c, cancel := context.WithCancel(ctx)
	var writing sync.WaitGroup
	for w := range 4 {
		writing.Go(func() {
			for n := 0; c.Err() == nil; n++ {
				var events []eventstore.Event
				for i := range 1 + n%4 {
					events = append(events, event(fmt.Sprint("w-", w, "-", n%10), fmt.Sprint("tag:", i), "all"))
				}
				records, err := store.Append(ctx, events)
				if err != nil {
					t.Error(err)
					return
				}
				l.mu.Lock()
				l.acknowledged = append(l.acknowledged, records...)
				l.mu.Unlock()
			}
		})
	}
	l.stop = sync.OnceFunc(func() { cancel(); writing.Wait() })
	t.Cleanup(l.stop)
	return l
}

// soFar returns what has been acknowledged, once there are that many more.
func (l *load) soFar(t testing.TB, more int) []eventstore.Recorded {
	t.Helper()
	taken := func() []eventstore.Recorded {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.acknowledged[:len(l.acknowledged):len(l.acknowledged)]
	}
	before := len(taken())
	require.Eventually(t, func() bool { return len(taken()) >= before+more }, time.Minute, time.Millisecond)
	return taken()
}

// lacks says what a copy of the log is short of: what was acknowledged before it was
// made, and whether it is a prefix of the log, in whole appends.
func lacks(log, copied, acknowledged []eventstore.Recorded) error {
	if len(copied) > len(log) {
		return fmt.Errorf("the copy has %d events and the log %d", len(copied), len(log))
	}
	for i, r := range copied {
		if !r.Equal(log[i].Event) || r.Version != log[i].Version || r.Position != log[i].Position || r.Append != log[i].Append || r.RecordedAt != log[i].RecordedAt {
			return fmt.Errorf("the copy has %v at position %d, the log %v", r, r.Position, log[i])
		}
	}
	if n := len(copied); n < len(log) && log[n].Append != log[n].Position {
		return fmt.Errorf("the copy ends at position %d, within an append", n)
	}
	for _, r := range acknowledged {
		if int(r.Position) > len(copied) {
			return fmt.Errorf("position %d was acknowledged before, the copy ends at %d", r.Position, len(copied))
		}
	}
	return nil
}

// F46: a copy made under load is a store, a prefix of the log, and has every append
// that was acknowledged before.
func TestABackupUnderLoadIsAPrefixWithEverythingAcknowledged(t *testing.T) {
	prefilled := fewer(2_000, 200)
	path, _ := filled(t, prefilled)
	store := open(t, path)
	l := newLoad(t, store)
	type made struct {
		path         string
		acknowledged []eventstore.Recorded
		took         time.Duration
	}
	var copies []made
	for i := range sizeOf(t, backupsVariable, 4, 2) {
		c := made{path: filepath.Join(t.TempDir(), fmt.Sprint("copy-", i, ".db")), acknowledged: l.soFar(t, 20)}
		began := time.Now()
		require.NoError(t, store.Backup(ctx, c.path))
		c.took = time.Since(began)
		copies = append(copies, c)
	}
	l.soFar(t, 20)
	l.stop()
	log := all(t, store, eventstore.Query{})
	for _, c := range copies {
		header, err := os.ReadFile(c.path)
		require.NoError(t, err)
		require.Equal(t, []byte{2, 2}, header[18:20], "write-ahead log, to read and to write")
		entries, err := os.ReadDir(filepath.Dir(c.path))
		require.NoError(t, err)
		require.Len(t, entries, 1, "the copy is one file")

		copied := open(t, c.path, sqlite.CheckOnOpen())
		require.Empty(t, check(t, copied))
		records := all(t, copied, eventstore.Query{})
		require.NoError(t, lacks(log, records, c.acknowledged))
		_, err = raw(t, c.path, "DELETE FROM events")
		require.ErrorContains(t, err, "append-only")
		added, err := copied.Append(ctx, []eventstore.Event{event("s-1")}, eventstore.At("s-1", uint64(prefilled/10)))
		require.NoError(t, err)
		require.EqualValues(t, len(records)+1, added[0].Position)
		t.Logf("a backup took %v: %d events, %d acknowledged before, %d in the log at the end", c.took, len(records), len(c.acknowledged)+prefilled, len(log))
	}
}

// The control of F46: the file alone, as cp takes it, lacks what was acknowledged or
// is damaged.
func TestACopyOfTheFileAloneIsNoBackup(t *testing.T) {
	path, _ := filled(t, fewer(2_000, 200))
	store := open(t, path)
	l := newLoad(t, store)
	copied := newPath(t)
	acknowledged := l.soFar(t, 20)
	cp(t, path, copied)
	l.soFar(t, 1)
	l.stop()
	log := all(t, store, eventstore.Query{})
	verdict := func() error {
		bad, err := sqlite.Open(copied)
		if err != nil {
			return err
		}
		defer func() { require.NoError(t, bad.Close()) }()
		findings, err := bad.Check(ctx)
		if err != nil || len(findings) > 0 {
			return errors.Join(fmt.Errorf("%v", findings), err)
		}
		var records []eventstore.Recorded
		for r, err := range bad.Read(ctx, eventstore.Query{}) {
			if err != nil {
				return err
			}
			records = append(records, r)
		}
		return lacks(log, records, acknowledged)
	}()
	require.Error(t, verdict, "the harness cannot tell good from bad")
	t.Log("the file alone:", verdict)
}

// cp copies a file that a store of this process may have open: in another process,
// since closing it in this one would drop the store's locks.
func cp(t testing.TB, from, to string) {
	t.Helper()
	program, err := exec.LookPath("cp")
	if err != nil {
		t.Skip("the system has no cp")
	}
	out, err := exec.Command(program, from, to).CombinedOutput()
	require.NoError(t, err, string(out))
}

// tally counts events, for a follower.
type tally struct{ N int }

func (c *tally) Apply(eventstore.Recorded) error { c.N++; return nil }
func (c *tally) Format() int                     { return 1 }
func (c *tally) Snapshot() ([]byte, error)       { return json.Marshal(c) }
func (c *tally) Restore(state []byte) error      { return json.Unmarshal(state, c) }

var (
	tallies = follow.Projection[*tally]{Name: "tally", New: func() *tally { return &tally{} }}
	quiet   = follow.Config{Logger: slog.New(slog.DiscardHandler)}
)

// snapshotOf has a follower save its snapshot at the head, and returns it.
func snapshotOf(t *testing.T, store *sqlite.Store) eventstore.Checkpoint {
	f, err := follow.Start(store, quiet, tallies)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	head, err := store.Head(ctx)
	require.NoError(t, err)
	require.NoError(t, f.WaitFor(ctx, head))
	require.NoError(t, f.Snapshot(ctx))
	c, err := store.Checkpoint(ctx, "fold-tally")
	require.NoError(t, err)
	require.Equal(t, head, c.Position)
	return c
}

// F46: whoever has seen more than the copy has notices that the copy took the log's place.
func TestACheckpointBeyondACopyIsFound(t *testing.T) {
	path, _ := filled(t, 100)
	store := open(t, path)
	before := snapshotOf(t, store)
	place := newPath(t)
	require.NoError(t, store.Backup(ctx, place))
	_, err := store.Append(ctx, []eventstore.Event{event("s-1"), event("s-2")})
	require.NoError(t, err)
	beyond := snapshotOf(t, store)

	copied := open(t, place)
	kept, err := copied.Checkpoint(ctx, "fold-tally")
	require.NoError(t, err)
	require.Equal(t, before, kept, "checkpoints are in the copy, of the same moment as the log")
	require.Empty(t, check(t, copied))
	require.ErrorIs(t, copied.Wait(ctx, beyond.Position), eventstore.ErrRewound)

	for _, name := range []string{"the copy is behind", "the copy has gone on elsewhere"} {
		require.NoError(t, copied.SaveCheckpoints(ctx, beyond)) // kept elsewhere, and brought back
		findings := check(t, copied)
		require.Len(t, findings, 1, name)
		require.Equal(t, sqlite.WrongCheckpoint, findings[0].Kind, name)
		f, err := follow.Start(copied, quiet, tallies)
		if err == nil {
			err = f.WaitFor(ctx, beyond.Position)
			require.NoError(t, f.Close())
		}
		require.ErrorIs(t, err, eventstore.ErrRewound, name)
		_, err = copied.Append(ctx, []eventstore.Event{event("s-1"), event("s-2"), event("s-3")})
		require.NoError(t, err)
	}
}

func TestABackupGoesToANewFileOnly(t *testing.T) {
	path, records := filled(t, 5)
	store := open(t, path)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"taken", "journal-journal", "wal-wal", "shm-shm"} {
		require.NoError(t, os.WriteFile(in(name), []byte("mine"), 0o600))
	}
	require.NoError(t, os.Mkdir(in("dir"), 0o700))
	require.NoError(t, os.Symlink(in("nowhere"), in("link")))
	for name, want := range map[string]error{
		path: fs.ErrExist, in("taken"): fs.ErrExist, in("journal"): fs.ErrExist, in("wal"): fs.ErrExist, in("shm"): fs.ErrExist,
		in("dir"): fs.ErrExist, in("link"): fs.ErrExist, in("missing/copy"): fs.ErrNotExist, in("taken/copy"): syscall.ENOTDIR,
		"": eventstore.ErrInvalid, ":memory:": eventstore.ErrInvalid, "file:" + in("uri"): eventstore.ErrInvalid, in("a\x00b"): eventstore.ErrInvalid,
	} {
		err := store.Backup(ctx, name)
		require.ErrorIs(t, err, want, "%q", name)
		require.ErrorContains(t, err, "back up to")
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 6, "nothing else was made")
	taken, err := os.ReadFile(in("taken"))
	require.NoError(t, err)
	require.Equal(t, "mine", string(taken))
	require.Equal(t, records, all(t, store, eventstore.Query{}))
}

// ending is a context that ends when it has been asked n times.
type ending struct {
	context.Context
	left int
	done chan struct{}
}

func (c *ending) Done() <-chan struct{} { return c.done }
func (c *ending) Err() error {
	if c.left--; c.left == 0 {
		close(c.done)
	}
	if c.left <= 0 {
		return context.Canceled
	}
	return nil
}

func TestABackupThatEndsEarlyLeavesNothingBehind(t *testing.T) {
	path, records := filled(t, 2_000)
	store := open(t, path)
	free := store.FreeReaders()
	dir := t.TempDir()
	times := 0
	for n := 1; ; n++ {
		err := store.Backup(&ending{ctx, n, make(chan struct{})}, filepath.Join(dir, "copy.db"))
		require.Equal(t, free, store.FreeReaders())
		entries, readErr := os.ReadDir(dir)
		require.NoError(t, readErr)
		if err == nil {
			require.Len(t, entries, 1)
			break
		}
		times++
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, entries, "asked %d times", n)
	}
	require.Greater(t, times, 4, "it was asked within the copying, not only before")
	require.Equal(t, records, all(t, open(t, filepath.Join(dir, "copy.db")), eventstore.Query{}))
	_, err := raw(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err, "no backup still reads")

	closed, err := sqlite.Open(path)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	require.ErrorIs(t, closed.Backup(ctx, filepath.Join(dir, "closed.db")), eventstore.ErrClosed)
	require.NoFileExists(t, filepath.Join(dir, "closed.db"))
}

func TestAFinishedCopyThatCannotGetItsNameIsTakenAway(t *testing.T) {
	dir := t.TempDir()
	partial, path := filepath.Join(dir, "partial"), filepath.Join(dir, "copy")
	noLinks := func(string, string) error {
		return &os.LinkError{Op: "link", Old: partial, New: path, Err: syscall.EPERM}
	}
	write := func(name, text string) { require.NoError(t, os.WriteFile(name, []byte(text), 0o600)) }
	for _, link := range []func(string, string) error{os.Link, noLinks} {
		write(partial, "whole")
		write(path, "faster")
		require.ErrorIs(t, sqlite.Publish(partial, path, link), fs.ErrExist)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "faster", string(got))

		require.NoError(t, os.Remove(path))
		require.NoError(t, sqlite.Publish(partial, path, link))
		got, err = os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "whole", string(got))
		require.NoFileExists(t, partial)
		require.NoError(t, os.Remove(path))
	}
}

func TestABackupIsForTheSameEyesAndAReadOnlyStoreCanMakeOne(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o644} {
		path, records := filled(t, 5)
		require.NoError(t, os.Chmod(path, mode))
		copied := newPath(t)
		require.NoError(t, open(t, path, sqlite.ReadOnly()).Backup(ctx, copied))
		info, err := os.Stat(copied)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm())
		require.Equal(t, records, all(t, open(t, copied, sqlite.ReadOnly()), eventstore.Query{}))
	}
}

func TestABackupKeepsWhatPeopleAddedAndItsRowids(t *testing.T) {
	path, _ := filled(t, 5)
	mustRaw(t, path, "CREATE TABLE mine (x)")
	mustRaw(t, path, "INSERT INTO mine (rowid, x) VALUES (7, 'seven'), (9, 'nine')")
	mustRaw(t, path, "DELETE FROM mine WHERE rowid = 7")
	copied := newPath(t)
	require.NoError(t, open(t, path).Backup(ctx, copied))
	rows, err := raw(t, copied, "SELECT rowid, x FROM mine")
	require.NoError(t, err)
	require.Equal(t, [][]string{{"9", "nine"}}, rows)
	require.Equal(t, "wal", strings.Join(mustRows(t, copied, "PRAGMA journal_mode")[0], ""))
}

func mustRows(t *testing.T, path, sql string) [][]string {
	t.Helper()
	rows, err := raw(t, path, sql)
	require.NoError(t, err)
	return rows
}
