package rollforward_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

// standing is what this process holds.
type standing struct {
	goroutines int
	files      int // descriptors; -1 where they cannot be counted
	heap       uint64
}

func stands() standing {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := standing{goroutines: runtime.NumGoroutine(), files: -1, heap: m.HeapAlloc}
	if all, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.files = len(all)
	}
	return s
}

// leaked returns what this process holds more than before, once that has not gone away
// within a time.
func leaked(before standing, within time.Duration) error {
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		now := stands()
		switch late := time.Now().After(deadline); {
		case now.goroutines <= before.goroutines && now.files <= before.files:
			return nil
		case late:
			return fmt.Errorf("%d goroutines and %d files before, %d and %d after", before.goroutines, before.files, now.goroutines, now.files)
		}
	}
}

// mostGrowth bounds how much more is on the heap after many cycles, in bytes.
const mostGrowth = 6 << 20

// cycles is how often engines are opened and closed, by ROLLFORWARD_ENGINE_CYCLES for
// more.
func cycles(t testing.TB, full, short int) int {
	if asked := os.Getenv("ROLLFORWARD_ENGINE_CYCLES"); asked != "" {
		n, err := strconv.Atoi(asked)
		require.NoError(t, err)
		return n
	}
	if race.Enabled {
		return short
	}
	return full
}

// load is what people do in the cycles on one store.
type load struct {
	mu           sync.Mutex
	acknowledged []string
	refused      atomic.Int64
	handled      atomic.Int64
}

// cycle opens an engine with two handlers, has people raise changes, and closes it
// while they do. Every command ends with success or because the engine is closed.
func (l *load) cycle(t testing.TB, store eventstore.Store) {
	ctx := context.Background()
	e, err := rollforward.Open(ctx, store, rollforward.Config{Authorizer: roles, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, e.Handle(
		onRaised("note", func(ctx context.Context, r change.Raised, env relay.Envelope) error {
			_, err := e.Changes.DoCall(ctx, env.Call(dave), r.Change, change.Note{Text: "seen"})
			if err == nil {
				l.handled.Add(1)
			}
			return err
		}),
		onRaised("fail", func(context.Context, change.Raised, relay.Envelope) error { return errors.New("no such host") }),
	))
	var people sync.WaitGroup
	busy := make(chan struct{}, 1000)
	for range 3 {
		people.Go(func() {
			for {
				c, err := e.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{Title: "one of many"}})
				switch {
				case err == nil:
					l.mu.Lock()
					l.acknowledged = append(l.acknowledged, c.ID)
					l.mu.Unlock()
					select {
					case busy <- struct{}{}:
					default:
					}
				case errors.Is(err, eventstore.ErrClosed):
					l.refused.Add(1)
					return
				default:
					t.Errorf("a command ended with %v", err)
					return
				}
			}
		})
	}
	for range 3 {
		<-busy
	}
	require.NoError(t, e.Close())
	people.Wait()
}

func TestEnginesThatAreOpenedAndClosedUnderLoadLeakNothingAtFullSize(t *testing.T) {
	const perStore = 25 // so that what is there to be read stays bounded
	for _, c := range []struct {
		kind        storefor.Kind
		full, short int
	}{{storefor.SQLite, 150, 12}, {storefor.Postgres, 12, 2}} {
		t.Run(string(c.kind), func(t *testing.T) {
			many := cycles(t, c.full, c.short)
			var all load
			some := func(n int) {
				place := c.kind.Place(t)
				l := &load{}
				for range n {
					store, err := place.Open(context.Background())
					require.NoError(t, err)
					l.cycle(t, store)
					require.NoError(t, store.Close())
				}
				store, err := place.Open(context.Background())
				require.NoError(t, err)
				defer func() { require.NoError(t, store.Close()) }()
				for _, id := range l.acknowledged {
					version, err := store.Version(context.Background(), "change-"+id)
					require.NoError(t, err)
					require.NotZero(t, version, "%s was acknowledged and is not there", id)
				}
				all.acknowledged = append(all.acknowledged, l.acknowledged...)
				all.refused.Add(l.refused.Load())
				all.handled.Add(l.handled.Load())
			}
			some(min(perStore, many)) // what is made once and kept is made here
			before := stands()
			for left := many; left > 0; left -= perStore {
				some(min(perStore, left))
			}
			require.NoError(t, leaked(before, patience))
			after := stands()
			t.Logf("%d cycles: %d changes acknowledged, %d handled, %d refused as closed; %d goroutines, %d files, heap %+d KiB",
				many, len(all.acknowledged), all.handled.Load(), all.refused.Load(), after.goroutines, after.files, (int64(after.heap)-int64(before.heap))>>10)
			require.NotZero(t, all.handled.Load())
			require.NotZero(t, all.refused.Load())
			require.Less(t, int64(after.heap)-int64(before.heap), int64(mostGrowth))
		})
	}
}

func TestAHandlerOrFileThatLeaksIsNoticed(t *testing.T) {
	before := stands()
	e, err := rollforward.Open(t.Context(), memory.New(), rollforward.Config{Authorizer: roles, Grace: -1, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	stuck, begun := make(chan struct{}), make(chan struct{})
	require.NoError(t, e.Handle(onRaised("stuck", func(context.Context, change.Raised, relay.Envelope) error {
		close(begun)
		<-stuck // and does not heed its context
		return nil
	})))
	raise(t, e, "one")
	<-begun
	require.ErrorIs(t, e.Close(), relay.ErrAtWork)
	require.Error(t, leaked(before, 300*time.Millisecond))
	close(stuck)
	require.NoError(t, leaked(before, patience))
	if before.files >= 0 {
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		require.Error(t, leaked(before, 50*time.Millisecond))
		require.NoError(t, f.Close())
		require.NoError(t, leaked(before, patience))
	}
	kept := make([]byte, mostGrowth+1<<20)
	require.Greater(t, int64(stands().heap)-int64(before.heap), int64(mostGrowth))
	runtime.KeepAlive(kept)
}

func TestHandleAndCloseAtOnceLeaveNothing(t *testing.T) {
	before := stands()
	var ran, refused int
	for n := range 60 {
		e, err := rollforward.Open(t.Context(), memory.New(), rollforward.Config{Authorizer: roles, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		handled := make(chan error, 2)
		for _, name := range []string{"one", "two"} {
			go func() {
				handled <- e.Handle(onRaised(name, func(context.Context, change.Raised, relay.Envelope) error { return nil }))
			}()
		}
		for range n % 30 {
			runtime.Gosched()
		}
		require.NoError(t, e.Close())
		for range 2 {
			switch err := within(t, handled); {
			case err == nil:
				ran++
			case errors.Is(err, eventstore.ErrClosed):
				refused++
			default:
				require.NoError(t, err)
			}
		}
	}
	require.NoError(t, leaked(before, patience))
	t.Logf("%d ran, %d came too late", ran, refused)
	require.NotZero(t, refused)
}
