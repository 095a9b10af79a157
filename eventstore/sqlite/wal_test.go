package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
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

// walVariable sets how many events are appended, ten at a time; 1,600 if not set.
const walVariable = "ROLLFORWARD_WAL_EVENTS"

const (
	walStated = 32 << 20 // what the log beside the file stays under: 16 MiB, and what comes in the second after an attempt in vain
	walBatch  = 10
)

// appender appends ten events of 8 KiB at a time and measures the log beside the file.
type appender struct {
	t       *testing.T
	path    string
	store   *sqlite.Store
	n       int   // events appended
	most    int64 // bytes of the log, at any time
	slowest time.Duration
}

func newAppender(t *testing.T, options ...sqlite.Option) *appender {
	a := &appender{t: t, path: quickPath(t)}
	a.store = open(t, a.path, options...)
	for range 30 {
		a.append()
	}
	return a
}

func (a *appender) append() {
	var events []eventstore.Event
	for range walBatch {
		e := event(fmt.Sprint("s-", a.n%100))
		e.Data = fmt.Appendf(nil, "%q", strings.Repeat("x", 8192))
		events, a.n = append(events, e), a.n+1
	}
	began := time.Now()
	_, err := a.store.Append(ctx, events)
	require.NoError(a.t, err)
	a.slowest = max(a.slowest, time.Since(began))
	a.most = max(a.most, a.length())
}

func (a *appender) length() int64 {
	info, err := os.Stat(a.path + "-wal")
	require.NoError(a.t, err)
	return info.Size()
}

// readers read the whole log again and again, so that one is always under way.
func (a *appender) readers(n int) (stop func()) {
	c, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	for range n {
		reading.Go(func() {
			for c.Err() == nil {
				for _, err := range a.store.Read(c, eventstore.Query{}) {
					if err != nil && !errors.Is(err, context.Canceled) {
						a.t.Error(err)
						return
					}
				}
			}
		})
	}
	return func() { cancel(); reading.Wait() }
}

// withoutRace skips what needs tens of MiB to show anything.
func withoutRace(t *testing.T) {
	if race.Enabled {
		t.Skip("it takes too long under the race detector, and goes on in one goroutine")
	}
}

func TestTheLogBesideTheFileStaysShortWhoeverReadsAtFullSize(t *testing.T) {
	for name, read := range map[string]func(a *appender) (stop func()){
		"nobody reads": func(*appender) func() { return func() {} },
		"a consumer thinks": func(a *appender) func() {
			next, stop := iter.Pull2(a.store.Read(ctx, eventstore.Query{}))
			for range 150 { // into the second page
				_, err, ok := next()
				require.True(t, ok)
				require.NoError(t, err)
			}
			return func() {
				_, err, ok := next()
				require.True(t, ok)
				require.NoError(t, err)
				stop()
			}
		},
		"two read without a pause": func(a *appender) func() { return a.readers(2) },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAppender(t)
			stop := read(a)
			for a.n < sizeOf(t, walVariable, 1_600, 400) {
				a.append()
			}
			stop()
			t.Logf("%d events: the log beside the file had %d KiB at most, the slowest append took %v", a.n, a.most>>10, a.slowest)
			require.Less(t, a.most, int64(walStated))
			require.Empty(t, check(t, a.store))
		})
	}
}

// reader is a connection of another program that reads now and then.
func (a *appender) reader() (execute func(sql string)) {
	conn, err := driver.OpenConn(a.path, driver.OpenReadWrite)
	require.NoError(a.t, err)
	a.t.Cleanup(func() { require.NoError(a.t, conn.Close()) })
	return func(sql string) { require.NoError(a.t, sqlitex.ExecuteTransient(conn, sql, nil)) }
}

// The control: SQLite's own checkpoints begin the log anew only where nobody reads
// who began before the last commit. Here each read is a short one, and there is always
// one.
func TestWithoutABoundTheLogBesideTheFileGrowsForAsLongAsSomebodyReadsAtFullSize(t *testing.T) {
	withoutRace(t)
	a := newAppender(t, sqlite.WithoutBound())
	turns := []func(string){a.reader(), a.reader()}
	for n := 0; a.most < walStated && a.n < 10_000; n++ {
		turns[n%2]("BEGIN")
		turns[n%2]("SELECT count(*) FROM sqlite_schema")
		if n > 0 {
			turns[(n+1)%2]("COMMIT")
		}
		a.append()
	}
	require.GreaterOrEqual(t, a.most, int64(walStated), "the harness cannot tell good from bad")
	t.Logf("%d events: %d KiB", a.n, a.most>>10)
}

// Nobody can end the log while another process holds a read transaction. Appends go
// on, and it is ended when that one is.
func TestALongReadOfAnotherProcessLetsTheLogGrowForAsLongAsItLastsAtFullSize(t *testing.T) {
	withoutRace(t)
	a := newAppender(t)
	execute := a.reader()
	execute("BEGIN")
	execute("SELECT count(*) FROM events")
	for a.length() < walStated*5/4 {
		require.Less(t, a.n, 30_000)
		a.append()
	}
	grown := a.length()
	execute("COMMIT")
	appends := 0
	for began := time.Now(); a.length() > walStated; appends++ {
		require.Less(t, time.Since(began), 30*time.Second, "the log is not ended")
		a.append()
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("%d KiB while it lasted; %d KiB %d appends later; the slowest append took %v", grown>>10, a.length()>>10, appends, a.slowest)
	require.Empty(t, check(t, a.store))
}
