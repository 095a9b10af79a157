//go:build linux

package sqlite_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// crowd is several writers who append until they are told that the storage is full.
type crowd struct {
	mu      sync.Mutex
	acked   map[string][]eventstore.Recorded // by the stream that each append begins
	refused [][]eventstore.Event
	serial  atomic.Int64
}

// fill lets writers append at once until each was refused a few times. Whoever is
// refused must be told that the storage is full and that nothing is recorded.
func (c *crowd) fill(store *sqlite.Store, writers int) error {
	errs := make([]error, writers)
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			for range 3 {
				for n := 0; ; n++ {
					if n > 20_000 {
						errs[w] = errors.New("the disk never fills up")
						return
					}
					events := c.next()
					records, err := store.Append(ctx, events)
					if err == nil {
						c.note(events, records)
						continue
					}
					if !errors.Is(err, eventstore.ErrNotApplied) || !errors.Is(err, eventstore.ErrStorageFull) {
						errs[w] = err
						return
					}
					c.mu.Lock()
					c.refused = append(c.refused, events)
					c.mu.Unlock()
					break
				}
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// next is an append to two streams that others append to and to one that is new, of
// more than one page.
func (c *crowd) next() []eventstore.Event {
	big := event("a", "x")
	big.Data = fmt.Appendf(nil, `"%05000d"`, 0)
	return []eventstore.Event{event(fmt.Sprint("new-", c.serial.Add(1))), big, event("b")}
}

func (c *crowd) note(events []eventstore.Event, records []eventstore.Recorded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acked == nil {
		c.acked = map[string][]eventstore.Recorded{}
	}
	c.acked[events[0].Stream] = records
}

// check holds the log to what was acknowledged: all of it is there, and nothing else.
func (c *crowd) check(t testing.TB, store eventstore.Store) {
	t.Helper()
	log := all(t, store, eventstore.Query{})
	require.Len(t, log, 3*len(c.acked))
	for i := 0; i < len(log); i += 3 {
		require.Equal(t, c.acked[log[i].Stream], log[i:i+3])
	}
}

// again sends what was refused once more, now that there is space.
func (c *crowd) again(t testing.TB, store *sqlite.Store) {
	t.Helper()
	for _, events := range c.refused {
		records, err := store.Append(ctx, events, eventstore.At(events[0].Stream, 0))
		require.NoError(t, err)
		c.note(events, records)
	}
	c.refused = nil
}

// F07, by a limit of the engine: one who finds the disk full fails alone or with those
// whose commit he shares, and none who was acknowledged is lost.
func TestAFullDiskUnderSeveralWritersLosesNothingAndWorkGoesOnOnceThereIsSpace(t *testing.T) {
	path := newPath(t)
	store := open(t, path, sqlite.WithPragmas("PRAGMA max_page_count = 120"))
	c := &crowd{}
	require.NoError(t, c.fill(store, 8))
	c.check(t, store)
	acknowledged := len(c.acked)
	require.NoError(t, store.Script("PRAGMA max_page_count = 1000000"))
	c.again(t, store)
	c.check(t, store)
	t.Logf("%d appends before the disk was full, %d with those sent again", acknowledged, len(c.acked))
	require.NoError(t, store.Close())
	c.check(t, open(t, path))
}

// F07, by a disk that is full and is then enlarged.
func TestADiskThatIsFullLosesNothingAndWorkGoesOnOnceItIsLarger(t *testing.T) {
	const before, after = "size=1m", "size=64m"
	dir := mountMemory(t, before)
	path := filepath.Join(dir, "log.db")
	store := open(t, path)
	c := &crowd{}
	require.NoError(t, c.fill(store, 8))
	acknowledged := len(c.acked)
	require.NotZero(t, acknowledged)
	c.check(t, store)

	// Closed and opened on the full disk: what was acknowledged can be read where the
	// store opens, and where it does not, the reason is that there is no space.
	require.NoError(t, store.Close())
	again, err := sqlite.Open(path)
	t.Logf("%d appends before the disk was full; opened again: %v", acknowledged, err)
	if err != nil {
		require.ErrorIs(t, err, eventstore.ErrStorageFull)
	} else {
		c.check(t, again)
		require.NoError(t, c.fill(again, 2))
		c.check(t, again)
	}
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, after))
	if again == nil {
		again = open(t, path)
	}
	c.again(t, again)
	c.check(t, again)
	for range 100 {
		events := c.next()
		records, err := again.Append(ctx, events)
		require.NoError(t, err)
		c.note(events, records)
	}
	c.check(t, again)
	require.NoError(t, again.Close())
	c.check(t, open(t, path))
}

// F07 without a restart: the store that was refused goes on.
func TestTheStoreThatFoundTheDiskFullGoesOnOnceItIsLarger(t *testing.T) {
	dir := mountMemory(t, "size=700k")
	store := open(t, filepath.Join(dir, "log.db"))
	c := &crowd{}
	require.NoError(t, c.fill(store, 4))
	c.check(t, store)
	for kilobytes := 900; kilobytes < 3000; kilobytes += 500 { // full again and again
		require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dk", kilobytes)))
		require.NoError(t, c.fill(store, 4))
		c.check(t, store)
	}
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"))
	c.again(t, store)
	c.check(t, store)
	t.Logf("%d appends", len(c.acked))
}

// F08: a disk that is mounted for reading only, by which nothing can be put beside the
// file. What a process left there that ended without Close is read all the same.
func TestAReadOnlyDiskIsReadWhereTheFilesBesideTheFileAreThere(t *testing.T) {
	path := newPath(t)
	store := open(t, path)
	records, err := store.Append(ctx, []eventstore.Event{event("a"), event("b")})
	require.NoError(t, err)
	dir := mountMemory(t, "size=8m")
	copied := filepath.Join(dir, "log.db")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		content, err := os.ReadFile(path + suffix)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(copied+suffix, content, 0o600))
	}
	alone := filepath.Join(dir, "alone.db")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(alone, content, 0o600))
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))

	_, err = sqlite.Open(copied)
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	reader := open(t, copied, sqlite.ReadOnly())
	require.Equal(t, records, all(t, reader, eventstore.Query{}))
	_, err = reader.Append(ctx, []eventstore.Event{event("s")})
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	require.ErrorIs(t, err, eventstore.ErrNotApplied)

	for _, options := range [][]sqlite.Option{nil, {sqlite.ReadOnly()}} {
		_, err = sqlite.Open(alone, options...)
		require.ErrorIs(t, err, eventstore.ErrReadOnly)
	}
	_, err = sqlite.Open(filepath.Join(dir, "new.db"))
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	_, err = sqlite.Open(filepath.Join(dir, "new.db"), sqlite.ReadOnly())
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// F08: a folder in which nothing can be made or removed.
func TestAReadOnlyFolderIsRefusedUnlessTheFilesBesideTheFileAreThere(t *testing.T) {
	if os.Geteuid() == 0 { // whom no mode keeps from writing
		asNobody(t)
		return
	}
	path, records := filled(t, 5)
	dir := filepath.Dir(path)
	t.Cleanup(func() { require.NoError(t, os.Chmod(dir, 0o700)) })
	require.NoError(t, os.Chmod(dir, 0o500))
	for _, options := range [][]sqlite.Option{nil, {sqlite.ReadOnly()}} {
		_, err := sqlite.Open(path, options...)
		require.ErrorIs(t, err, eventstore.ErrReadOnly)
	}
	_, err := sqlite.Open(filepath.Join(dir, "new.db"))
	require.ErrorIs(t, err, eventstore.ErrReadOnly)

	require.NoError(t, os.Chmod(dir, 0o700))
	store := open(t, path)
	added, err := store.Append(ctx, []eventstore.Event{event("a")})
	require.NoError(t, err)
	records = append(records, added...)
	require.NoError(t, os.Chmod(dir, 0o500))
	require.Equal(t, records, all(t, store, eventstore.Query{}))
	require.Equal(t, records, all(t, open(t, path, sqlite.ReadOnly()), eventstore.Query{}))
	added, err = open(t, path).Append(ctx, []eventstore.Event{event("a")})
	require.NoError(t, err, "the files beside it are there")
	require.Equal(t, append(records, added...), all(t, store, eventstore.Query{}))
}

// F08: a file that loses its permission while it is open. Who has it open goes on; no
// call fails in any other way than by saying that the file cannot be written.
func TestAFileThatLosesItsPermissionWhileItIsOpenIsReadOn(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	path := newPath(t)
	store := open(t, path)
	records, err := store.Append(ctx, []eventstore.Event{event("a")})
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o400))
	require.Equal(t, records, all(t, store, eventstore.Query{}))
	added, err := store.Append(ctx, []eventstore.Event{event("a")})
	if err != nil {
		require.ErrorIs(t, err, eventstore.ErrNotApplied)
		require.ErrorIs(t, err, eventstore.ErrReadOnly)
	}
	require.Equal(t, append(records, added...), all(t, store, eventstore.Query{}))
	_, err = sqlite.Open(path)
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	require.NoError(t, os.Chmod(path, 0o600))
	_, err = store.Append(ctx, []eventstore.Event{event("a")})
	require.NoError(t, err)
}

// mountMemory mounts a small disk in memory, where that is allowed.
func mountMemory(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
		t.Skipf("a disk in memory cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		require.NoError(t, syscall.Unmount(dir, 0))
	})
	return dir
}
