package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// closesVariable sets how many stores are closed under load; 40 if not set.
const closesVariable = "ROLLFORWARD_CLOSES"

// closings is what closing stores under load came to.
type closings struct {
	seed                      uint64
	rounds                    int
	succeeded, closed, events int // calls that succeeded, that said ErrClosed; events acknowledged

	mu       sync.Mutex
	problems []string
}

func (f *closings) problem(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf("round %d: ", f.rounds)+fmt.Sprintf(format, args...))
}

// told takes in how a call ended and reports whether it did so well.
func (f *closings) told(doing string, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.succeeded++
	case errors.Is(err, eventstore.ErrClosed):
		f.closed++
	default:
		f.problem("%s: %v", doing, err)
	}
	return err == nil
}

// closeUnderLoad opens and closes a file's stores n times, up to 3 ms after ten goroutines
// began to use each or after the first append of these, and holds every call to success or ErrClosed, and the log to what appends
// were told.
func closeUnderLoad(dir string, seed uint64, n int, open func(path string) (eventstore.Store, error)) *closings {
	f := &closings{seed: seed}
	var path string
	var last eventstore.Position
	for f.rounds < n && len(f.problems) == 0 {
		if f.rounds%50 == 0 {
			path, last = filepath.Join(dir, fmt.Sprint("log-", f.rounds, ".db")), 0
		}
		f.rounds++
		store, err := open(path)
		if err != nil {
			f.problem("%v", err)
			return f
		}
		fates := f.load(store.(underLoad), path, rand.New(rand.NewPCG(seed, uint64(f.rounds))))
		if last, err = f.held(path, last, fates); err != nil {
			f.problem("%v", err)
			return f
		}
	}
	return f
}

// patience is how long calls may go on after a Close.
const patience = 10 * time.Second

// underLoad is all that is called while a store is closed.
type underLoad interface {
	eventstore.Store
	eventstore.Checkpoints
	AppendWith(context.Context, []eventstore.Event, func(*driver.Conn, []eventstore.Recorded) error, ...eventstore.Expect) ([]eventstore.Recorded, error)
	Backup(ctx context.Context, path string) error
	Check(context.Context) ([]sqlite.Finding, error)
}

// load uses a store from all sides, closes it meanwhile, and returns how each append
// ended, by the ID of its first event.
func (f *closings) load(store underLoad, path string, random *rand.Rand) (fates map[uuid.UUID]error) {
	fates = map[uuid.UUID]error{}
	var running sync.WaitGroup
	appended := make(chan struct{}, 1)
	for i := range 4 {
		appends := func(events []eventstore.Event) ([]eventstore.Recorded, error) { return store.Append(ctx, events) }
		if i == 3 {
			appends = func(events []eventstore.Event) ([]eventstore.Recorded, error) {
				return store.AppendWith(ctx, events, func(*driver.Conn, []eventstore.Recorded) error { return nil })
			}
		}
		running.Go(func() {
			for going := true; going; {
				events := []eventstore.Event{event(fmt.Sprint("own-", i), "x"), event("blind")}
				records, err := appends(events)
				going = f.told("append", err)
				f.mu.Lock()
				if fates[events[0].ID] = err; err == nil {
					f.events += len(records)
				}
				f.mu.Unlock()
				select {
				case appended <- struct{}{}:
				default:
				}
			}
		})
	}
	running.Go(func() {
		for n := eventstore.Position(1); f.told("save", store.SaveCheckpoints(ctx, generation(n)...)); n++ {
		}
	})
	for _, q := range []eventstore.Query{{}, {Streams: []string{"own-1"}}} {
		running.Go(func() {
			for read := 0; ; read++ {
				var failed error
				for _, err := range store.Read(ctx, q) {
					if failed = err; err != nil || read%3 == 2 { // one of three is left halfway
						break
					}
				}
				if !f.told("read", failed) {
					return
				}
			}
		})
	}
	running.Go(func() {
		for going := true; going; {
			head, err := store.Head(ctx)
			if going = f.told("head", err); going {
				going = f.told("wait", store.Wait(ctx, head))
			}
		}
	})
	running.Go(func() {
		for going := true; going; {
			c, cancel := context.WithTimeout(ctx, time.Millisecond)
			_, err := store.Version(c, "blind")
			if errors.Is(err, context.DeadlineExceeded) {
				err = nil
			}
			going = f.told("version", err)
			cancel()
		}
	})
	running.Go(func() {
		for going := true; going; {
			findings, err := store.Check(ctx)
			for _, found := range findings {
				if found.Kind != sqlite.WrongCheckpoint { // those that are saved here name no event
					err = errors.Join(err, fmt.Errorf("%v", found))
				}
			}
			if going = f.told("check", err); going {
				going = f.told("back up", store.Backup(ctx, path+".copy"))
			}
			if going {
				going = f.told("remove the copy", os.Remove(path+".copy"))
			}
		}
	})
	if random.IntN(4) > 0 {
		<-appended
	}
	time.Sleep(time.Duration(random.Int64N(int64(3 * time.Millisecond))))
	var closing sync.WaitGroup
	for range 2 {
		closing.Go(func() {
			if err := store.Close(); err != nil {
				f.mu.Lock()
				f.problem("close: %v", err)
				f.mu.Unlock()
			}
		})
	}
	closing.Wait()
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		f.mu.Lock()
		defer f.mu.Unlock()
		f.problem("calls go on %v after the store was closed", patience)
	}
	return fates
}

// held reads the log behind last and holds it to how appends ended.
func (f *closings) held(path string, last eventstore.Position, fates map[uuid.UUID]error) (eventstore.Position, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	store, err := sqlite.Open(path)
	if err != nil {
		return last, err
	}
	found := map[uuid.UUID]bool{}
	for r, err := range store.Read(ctx, eventstore.Query{After: last}) {
		if err != nil {
			return last, errors.Join(err, store.Close())
		}
		found[r.ID], last = true, r.Position
	}
	for id, err := range fates {
		switch {
		case err == nil && !found[id]:
			f.problem("an acknowledged event is not there")
		case errors.Is(err, eventstore.ErrNotApplied) && found[id]:
			f.problem("an event is there, and was told: %v", err)
		case err != nil && errors.Is(err, eventstore.ErrNotApplied) == errors.Is(err, eventstore.ErrOutcomeUnknown):
			f.problem("not one outcome: %v", err)
		}
	}
	return last, store.Close()
}

func sqliteStore(path string) (eventstore.Store, error) { return sqlite.Open(path) }

// leftBehind returns what f leaves: goroutines and file descriptors that were not there before.
func leftBehind(t testing.TB, f func()) (left []string) {
	time.Sleep(time.Microsecond) // the runtime opens two descriptors of its own for its first timer
	before, running := descriptors(t), goleak.IgnoreCurrent()
	f()
	if err := goleak.Find(running); err != nil {
		left = append(left, err.Error())
	}
	if after := descriptors(t); after != before {
		left = append(left, fmt.Sprintf("%d file descriptors, before %d", after, before))
	}
	return left
}

// F40 and F41: stores that are closed while they are used from all sides end every call, keep
// what they acknowledged, and leave nothing behind.
func TestAStoreClosedUnderLoadEndsEveryCallAndLeavesNothing(t *testing.T) {
	n := sizeOf(t, closesVariable, 40, 10)
	var f *closings
	left := leftBehind(t, func() { f = closeUnderLoad(quickDir(t), rand.Uint64()>>1, n, sqliteStore) })
	t.Logf("%d stores closed under load: %d calls succeeded, %d were told that it is closed, %d events acknowledged, %d problems, seed %d",
		f.rounds, f.succeeded, f.closed, f.events, len(f.problems), f.seed)
	require.Empty(t, f.problems, "seed %d", f.seed)
	require.Empty(t, left)
	require.Equal(t, n, f.rounds)
	require.GreaterOrEqual(t, f.closed, 10*n, "every goroutine is told")
	require.NotZero(t, f.events)
}

// F41: neither a file that is refused nor a call that is cut short leaves anything behind.
func TestWhatFailsLeavesNothing(t *testing.T) {
	path, _ := filled(t, 300)
	foreign := newPath(t)
	mustRaw(t, foreign, "CREATE TABLE t (x)")
	text := newPath(t)
	require.NoError(t, os.WriteFile(text, []byte("no database, however long this text is made to be"), 0o600))
	left := leftBehind(t, func() {
		for range 3 {
			_, err := sqlite.Open(foreign)
			require.ErrorIs(t, err, sqlite.ErrForeign)
			_, err = sqlite.Open(text)
			require.ErrorIs(t, err, eventstore.ErrDamaged)
			_, err = sqlite.Open(newPath(t), sqlite.WithPragmas("PRAGMA synchronous = OFF"))
			require.ErrorIs(t, err, sqlite.ErrDurability)
			store, err := sqlite.Open(path)
			require.NoError(t, err)
			for n := range 12 {
				for range store.Read(endsWhenAsked(1+n*20), eventstore.Query{}) {
				}
				_, err = store.Append(endsWhenAsked(1+n), []eventstore.Event{event("s")})
				if err != nil {
					require.ErrorIs(t, err, context.Canceled)
				}
				require.ErrorIs(t, store.Wait(endsWhenAsked(1), 1), context.Canceled)
			}
			require.NoError(t, store.Close())
		}
	})
	require.Empty(t, left)
}

// forgetful is a store with one fault: the controls of F40 and F41.
type forgetful struct {
	*sqlite.Store
	fault string
}

func (s forgetful) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	records, err := s.Store.Append(ctx, events, expect...)
	switch {
	case err != nil && s.fault == "says what it likes":
		return records, eventstore.NotApplied(errors.New("bad file descriptor"))
	case err == nil && s.fault == "takes back what it did":
		return nil, eventstore.NotApplied(eventstore.ErrClosed)
	}
	return records, err
}

func TestTheHarnessSeesWhatACloseLosesOrLeaves(t *testing.T) {
	for fault, sees := range map[string]string{
		"says what it likes":     "bad file descriptor",
		"takes back what it did": "is there, and was told",
	} {
		f := closeUnderLoad(quickDir(t), 1, 100, func(path string) (eventstore.Store, error) {
			store, err := sqlite.Open(path)
			return forgetful{store, fault}, err
		})
		require.NotEmpty(t, f.problems, fault)
		require.Contains(t, fmt.Sprint(f.problems), sees, fault)
	}
	// What acknowledges although it is closed never ends: one append is told by hand.
	path, f := newPath(t), &closings{}
	store := open(t, path)
	_, err := f.held(path, 0, map[uuid.UUID]error{uuid.New(): nil})
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(f.problems), "an acknowledged event is not there")

	var kept *sqlite.Store
	left := leftBehind(t, func() {
		kept = open(t, path)
		head, err := kept.Head(ctx)
		require.NoError(t, err)
		require.Zero(t, head)
	})
	require.Contains(t, fmt.Sprint(left), "file descriptors, before")
	require.NoError(t, kept.Close())
	c, cancel := context.WithCancel(ctx)
	waited := make(chan error, 1)
	left = leftBehind(t, func() {
		go func() { waited <- store.Wait(c, 0) }()
		time.Sleep(5 * time.Millisecond)
	})
	require.Contains(t, fmt.Sprint(left), "goroutine")
	cancel()
	require.ErrorIs(t, <-waited, context.Canceled)
}
