package sqlite_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func TestEveryConnectionIsInWALModeAtFull(t *testing.T) {
	path, _ := filled(t, 1)
	settings, err := open(t, path).Settings()
	require.NoError(t, err)
	require.Equal(t, []string{"wal 2", "wal 2", "wal 2", "wal 2", "wal 2"}, settings)
}

func TestWeakerDurabilityIsRefusedUnlessTold(t *testing.T) {
	for name, c := range map[string]struct {
		pragmas string
		options []sqlite.Option
		refused bool
	}{
		"synchronous off":                    {"PRAGMA synchronous = OFF", nil, true},
		"synchronous normal":                 {"PRAGMA synchronous = NORMAL", nil, true},
		"synchronous off, told normal":       {"PRAGMA synchronous = OFF", []sqlite.Option{sqlite.WithSynchronousNormal()}, true},
		"synchronous normal, told":           {"", []sqlite.Option{sqlite.WithSynchronousNormal()}, false},
		"no write-ahead log":                 {"PRAGMA journal_mode = DELETE", nil, true},
		"no write-ahead log, told normal":    {"PRAGMA journal_mode = DELETE", []sqlite.Option{sqlite.WithSynchronousNormal()}, true},
		"synchronous extra, more than asked": {"PRAGMA synchronous = EXTRA", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := sqlite.Open(newPath(t), append(c.options, sqlite.WithPragmas(c.pragmas))...)
			if c.refused {
				require.ErrorIs(t, err, sqlite.ErrDurability)
				return
			}
			require.NoError(t, err)
			require.NoError(t, store.Close())
		})
	}
}

func TestAFileThatLeftWALModeIsPutBack(t *testing.T) {
	path, records := filled(t, 5)
	_, err := raw(t, path, "PRAGMA journal_mode = DELETE")
	require.NoError(t, err)
	store := open(t, path)
	require.Equal(t, records, all(t, store, eventstore.Query{}))
	settings, err := store.Settings()
	require.NoError(t, err)
	require.Equal(t, "wal 2", settings[0])
}

func TestPathsThatAreNoPlainFileAreRefused(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{
		"", ":memory:", "file::memory:", "file:x.db?mode=memory", "file:x.db?vfs=unix-none", "file:x.db?nolock=1",
		"file:x.db?immutable=1", "x\x00.db", dir,
	} {
		_, err := sqlite.Open(path)
		require.ErrorIs(t, err, eventstore.ErrInvalid, path)
	}
	_, err := sqlite.Open(":memory:")
	require.ErrorContains(t, err, "use package memory")
	_, err = sqlite.Open(filepath.Join(dir, "missing", "x.db"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = sqlite.Open(filepath.Join(dir, "missing.db"), sqlite.ReadOnly())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoFileExists(t, filepath.Join(dir, "missing.db"))
}

func TestPathsWithCharactersOfURIsArePlain(t *testing.T) {
	for _, name := range []string{"a?mode=memory.db", "a#b.db", "a%20b.db", "ä b.db", "a:memory:"} {
		path := filepath.Join(t.TempDir(), name)
		open(t, path)
		require.FileExists(t, path)
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	path, _ := filled(t, 1)
	_, err := raw(t, path, "PRAGMA user_version = 2")
	require.NoError(t, err)
	requireRefused(t, path, eventstore.ErrNewerFormat)
}

func TestAFileOfAnotherApplicationIsRefusedAndNotChanged(t *testing.T) {
	for name, sql := range map[string]string{
		"with tables":            "CREATE TABLE t (x)",
		"with an application_id": "PRAGMA application_id = 7",
		"with a user_version":    "PRAGMA user_version = 1",
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			_, err := raw(t, path, sql)
			require.NoError(t, err)
			requireRefused(t, path, sqlite.ErrForeign)
		})
	}
}

// requireRefused requires that a file is not opened in any way, and stays as it is.
func requireRefused(t *testing.T, path string, want error, options ...sqlite.Option) {
	t.Helper()
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, more := range [][]sqlite.Option{nil, {sqlite.ReadOnly()}} {
		_, err = sqlite.Open(path, append(more, options...)...)
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, path)
	}
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestADamagedFileIsRefused(t *testing.T) {
	noise := []byte(strings.Repeat("\x07noise\xff\x00", 1024))
	made, _ := filled(t, 200)
	sound, err := os.ReadFile(made)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		harm    func(t *testing.T, path string, size int64)
		options []sqlite.Option
	}{
		"no SQLite file": {func(t *testing.T, path string, size int64) {
			require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("just some text\n", 1000)), 0o600))
		}, nil},
		"garbage for a header":   {func(t *testing.T, path string, size int64) { scribble(t, path, 0, noise[:100]) }, nil},
		"a trashed page":         {func(t *testing.T, path string, size int64) { scribble(t, path, size/2/4096*4096, noise[:4096]) }, nil},
		"a trashed last page":    {func(t *testing.T, path string, size int64) { scribble(t, path, size-4096, noise[:4096]) }, nil},
		"cut at a page":          {func(t *testing.T, path string, size int64) { require.NoError(t, os.Truncate(path, size-4096)) }, nil},
		"cut within a page":      {func(t *testing.T, path string, size int64) { require.NoError(t, os.Truncate(path, size/2+100)) }, nil},
		"cut, too large a file":  {func(t *testing.T, path string, size int64) { require.NoError(t, os.Truncate(path, size/2)) }, []sqlite.Option{sqlite.WithoutCheck()}},
		"trashed, told to check": {func(t *testing.T, path string, size int64) { scribble(t, path, size/2/4096*4096, noise[:4096]) }, []sqlite.Option{sqlite.WithoutCheck(), sqlite.CheckOnOpen()}},
		"a table is gone":        {func(t *testing.T, path string, size int64) { mustRaw(t, path, "DROP TABLE event_tags") }, nil},
		"a guard is gone":        {func(t *testing.T, path string, size int64) { mustRaw(t, path, "DROP TRIGGER events_are_never_deleted") }, nil},
		"format zero":            {func(t *testing.T, path string, size int64) { mustRaw(t, path, "PRAGMA user_version = 0") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			require.NoError(t, os.WriteFile(path, sound, 0o600))
			c.harm(t, path, int64(len(sound)))
			requireRefused(t, path, eventstore.ErrDamaged, c.options...)
		})
	}
}

func mustRaw(t *testing.T, path, sql string) {
	t.Helper()
	_, err := raw(t, path, sql)
	require.NoError(t, err)
}

func scribble(t *testing.T, path string, at int64, noise []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(noise, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestALogWithoutItsFileIsKeptAndRefused(t *testing.T) {
	for _, empty := range []bool{false, true} {
		path := newPath(t)
		store := open(t, path)
		_, err := store.Append(ctx, []eventstore.Event{event("s")})
		require.NoError(t, err)
		wal, err := os.ReadFile(path + "-wal")
		require.NoError(t, err)
		lost := newPath(t)
		require.NoError(t, os.WriteFile(lost+"-wal", wal, 0o600))
		if empty {
			require.NoError(t, os.WriteFile(lost, nil, 0o600))
		}
		_, err = sqlite.Open(lost)
		require.ErrorIs(t, err, eventstore.ErrDamaged)
		kept, err := os.ReadFile(lost + "-wal")
		require.NoError(t, err)
		require.Equal(t, wal, kept)
	}
}

func TestWhatPeopleAddToTheFileIsLeftAlone(t *testing.T) {
	path, records := filled(t, 5)
	mustRaw(t, path, "CREATE VIEW mine AS SELECT stream, count(*) FROM history GROUP BY stream")
	require.Equal(t, records, all(t, open(t, path), eventstore.Query{}))
}

func TestABackupUnderLoadIsAStore(t *testing.T) {
	path, records := filled(t, 100)
	store := open(t, path)
	_, err := store.Append(ctx, []eventstore.Event{event("s")})
	require.NoError(t, err)
	backup := newPath(t)
	mustRaw(t, path, "VACUUM INTO '"+backup+"'")
	_, err = store.Append(ctx, []eventstore.Event{event("s")})
	require.NoError(t, err)
	copied := all(t, open(t, backup), eventstore.Query{})
	require.Equal(t, records, copied[:100])
	require.Len(t, copied, 101)
	require.ErrorIs(t, open(t, backup).Wait(ctx, 102), eventstore.ErrRewound)
}

func TestAReadOnlyStoreReadsAndFollowsButDoesNotAppend(t *testing.T) {
	path, records := filled(t, 5)
	reader := open(t, path, sqlite.ReadOnly())
	require.Equal(t, records, all(t, reader, eventstore.Query{}))
	_, err := reader.Append(ctx, []eventstore.Event{event("s")})
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	_, err = reader.Restore(ctx, 5, records)
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	require.ErrorIs(t, reader.SaveCheckpoints(ctx, eventstore.Checkpoint{Name: "n"}), eventstore.ErrReadOnly)

	woken := make(chan error, 1)
	go func() { woken <- reader.Wait(ctx, 5) }()
	added, err := open(t, path).Append(ctx, []eventstore.Event{event("s")})
	require.NoError(t, err)
	require.NoError(t, <-woken)
	require.Equal(t, append(records, added...), all(t, reader, eventstore.Query{}))
}

func TestAStoreGoesOnAfterTheWorkingDirectoryChanged(t *testing.T) {
	t.Chdir(t.TempDir())
	store := open(t, "log.db")
	t.Chdir(t.TempDir())
	_, err := store.Append(ctx, []eventstore.Event{event("s")})
	require.NoError(t, err)
	settings, err := store.Settings()
	require.NoError(t, err)
	require.Len(t, settings, 5)
	require.NoFileExists(t, "log.db")
}

func TestOpenWaitsForAnotherProcessThatWrites(t *testing.T) {
	path, records := filled(t, 5)
	release := holdLock(t, path)
	time.AfterFunc(100*time.Millisecond, release)
	began := time.Now()
	require.Equal(t, records, all(t, open(t, path), eventstore.Query{}))
	require.GreaterOrEqual(t, time.Since(began), 90*time.Millisecond)
}

func TestProcessesThatOpenANewFileAtOnceMakeOneStore(t *testing.T) {
	for range 2 {
		path := newPath(t)
		var children []*exec.Cmd
		var starts []interface{ Close() error }
		for range processes {
			cmd, _ := childCommand(t, "open", path)
			start, err := cmd.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			children, starts = append(children, cmd), append(starts, start)
		}
		for _, start := range starts {
			require.NoError(t, start.Close())
		}
		for _, cmd := range children {
			require.NoError(t, cmd.Wait(), cmd.Stderr)
		}
		require.Len(t, all(t, open(t, path), eventstore.Query{}), processes)
	}
}
