package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// held is a store whose next commit waits, so that appends queue behind it.
type held struct {
	*sqlite.Store
	commits atomic.Int64
	hold    atomic.Bool
	holding chan struct{}         // one element: a commit waits
	release chan struct{}         // lets it go
	fail    atomic.Pointer[error] // what the commit after it says
	refuse  atomic.Bool           // and it is not done
}

func newHeld(t testing.TB, options ...sqlite.Option) *held {
	h := &held{holding: make(chan struct{}, 1), release: make(chan struct{})}
	h.Store = open(t, newPath(t), append(options, sqlite.WithCommit(func(commit func() error) error {
		h.commits.Add(1)
		if h.hold.CompareAndSwap(true, false) {
			h.holding <- struct{}{}
			<-h.release
		}
		if fail := h.fail.Load(); fail != nil && h.refuse.Load() {
			h.fail.Store(nil)
			return *fail
		}
		err := commit()
		if fail := h.fail.Swap(nil); fail != nil {
			return *fail
		}
		return err
	}))...)
	return h
}

// behind begins appends while a commit waits, one after the other, and lets it go
// when the last is in the queue. It returns how they ended.
func (h *held) behind(t testing.TB, appends ...func() error) []error {
	t.Helper()
	h.hold.Store(true)
	var all sync.WaitGroup
	all.Go(func() {
		_, err := h.Append(context.Background(), []eventstore.Event{event("first")})
		require.NoError(t, err)
	})
	<-h.holding
	errs := make([]error, len(appends))
	for i, f := range appends {
		all.Go(func() { errs[i] = f() })
		require.Eventually(t, func() bool { return h.Waiting() == i+1 }, time.Minute, 50*time.Microsecond)
	}
	h.release <- struct{}{}
	all.Wait()
	require.Zero(t, h.Waiting())
	return errs
}

func (h *held) append(events []eventstore.Event, expect ...eventstore.Expect) func() error {
	return func() error {
		_, err := h.Append(context.Background(), events, expect...)
		return err
	}
}

// there returns how often each of the events is in the log, which is sound.
func there(t testing.TB, store eventstore.Store, events ...eventstore.Event) []int {
	t.Helper()
	counts, versions := map[uuid.UUID]int{}, map[string]uint64{}
	last := eventstore.Position(0)
	for r, err := range store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(t, err)
		counts[r.ID]++
		last++
		versions[r.Stream]++
		require.Equal(t, last, r.Position)
		require.Equal(t, versions[r.Stream], r.Version)
	}
	found := make([]int, len(events))
	for i, e := range events {
		found[i] = counts[e.ID]
	}
	return found
}

func TestAppendsThatComeWhileOneCommitsShareTheNextCommit(t *testing.T) {
	h := newHeld(t)
	var mine []eventstore.Event
	var appends []func() error
	for i := range 20 {
		e := []eventstore.Event{event("shared"), event(fmt.Sprint("own-", i))}
		mine = append(mine, e...)
		appends = append(appends, func() error {
			records, err := h.Append(context.Background(), e, eventstore.At(e[1].Stream, 0))
			if err == nil {
				require.Equal(t, records[0].Position+1, records[1].Position)
				require.Equal(t, records[0].Position, records[1].Append)
				require.Equal(t, uint64(i+1), records[0].Version, "in the order in which they came")
			}
			return err
		})
	}
	for _, err := range h.behind(t, appends...) {
		require.NoError(t, err)
	}
	require.Equal(t, int64(2), h.commits.Load(), "that of the first, and one for the 20")
	for _, n := range there(t, h, mine...) {
		require.Equal(t, 1, n)
	}
}

// What is refused in a shared commit leaves the others, which see each other.
func TestEachAppendOfASharedCommitEndsForItself(t *testing.T) {
	h := newHeld(t)
	a, b, c, d := event("a"), event("a"), event("b"), event("new type and tag")
	d.Type, d.Tags = "thing.other", []string{"tag-1"}
	twice := event("twice")
	other := twice
	other.Data = []byte(`{"other":true}`)
	errs := h.behind(t,
		h.append([]eventstore.Event{a}, eventstore.At("a", 0)),
		h.append([]eventstore.Event{b}, eventstore.At("a", 0)), // a is there by then
		h.append([]eventstore.Event{d, c}, eventstore.At("b", 7)),
		h.append([]eventstore.Event{d}),
		h.append([]eventstore.Event{twice}),
		h.append([]eventstore.Event{twice}), // sent again meanwhile
		h.append([]eventstore.Event{other}),
		h.append([]eventstore.Event{c}, eventstore.At("a", 1), eventstore.At("b", 0)),
	)
	var conflict *eventstore.ConflictError
	require.NoError(t, errs[0])
	require.ErrorAs(t, errs[1], &conflict)
	require.Equal(t, uint64(1), conflict.Actual)
	require.ErrorIs(t, errs[2], eventstore.ErrConflict)
	require.NoError(t, errs[3])
	require.NoError(t, errs[4])
	require.NoError(t, errs[5])
	require.ErrorIs(t, errs[6], eventstore.ErrDuplicate)
	require.NoError(t, errs[7])
	require.Equal(t, []int{1, 0, 1, 1, 1}, there(t, h, a, b, c, d, twice))
	require.Equal(t, int64(2), h.commits.Load())

	// What the refused one would have added is not taken for added.
	_, err := h.Append(t.Context(), []eventstore.Event{d, event("new type and tag")})
	require.ErrorIs(t, err, eventstore.ErrDuplicate)
	n := 0
	for _, err := range h.Read(t.Context(), eventstore.Query{Types: []string{"thing.other"}, Tags: []string{"tag-1"}}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 1, n)
}

// begin appends in a goroutine, and returns when it is in the queue.
func (h *held) begin(t testing.TB, ctx context.Context, events ...eventstore.Event) (ended chan error) {
	t.Helper()
	before := h.Waiting()
	ended = make(chan error, 1)
	go func() {
		_, err := h.Append(ctx, events)
		ended <- err
	}()
	require.Eventually(t, func() bool { return h.Waiting() == before+1 }, time.Minute, 50*time.Microsecond)
	return ended
}

// wait begins a commit that waits until release.
func (h *held) wait(t testing.TB) (ended chan error) {
	h.hold.Store(true)
	ended = make(chan error, 1)
	go func() {
		_, err := h.Append(context.Background(), []eventstore.Event{event("first")})
		ended <- err
	}()
	<-h.holding
	return ended
}

func TestAContextThatEndsInTheQueueIsNotAppliedAndInASharedCommitUnknown(t *testing.T) {
	for _, which := range []string{"the one who leads", "one who is led"} {
		t.Run(which, func(t *testing.T) {
			h := newHeld(t)
			ctx, cancel := context.WithCancel(t.Context())
			events := []eventstore.Event{event("a"), event("b"), event("c")}
			contexts := []context.Context{t.Context(), t.Context(), t.Context()}
			mine := 1
			if which == "the one who leads" {
				mine = 0
			}
			contexts[mine] = ctx

			// In the queue.
			first := h.wait(t)
			var ended []chan error
			for i, e := range events {
				ended = append(ended, h.begin(t, contexts[i], e))
			}
			cancel()
			require.ErrorIs(t, <-ended[mine], eventstore.ErrNotApplied)
			h.release <- struct{}{}
			require.NoError(t, errors.Join(<-first, <-ended[(mine+1)%3], <-ended[(mine+2)%3]))
			counts := there(t, h, events...)
			require.Zero(t, counts[mine])
			require.Equal(t, 2, counts[0]+counts[1]+counts[2])

			// While the shared commit is under way.
			ctx, cancel = context.WithCancel(t.Context())
			contexts[mine] = ctx
			events = []eventstore.Event{event("a"), event("b"), event("c")}
			first, ended = h.wait(t), nil
			for i, e := range events {
				ended = append(ended, h.begin(t, contexts[i], e))
			}
			h.hold.Store(true)
			h.release <- struct{}{}
			<-h.holding
			cancel()
			if mine == 1 {
				err := <-ended[mine]
				require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
				require.ErrorIs(t, err, context.Canceled)
			}
			h.release <- struct{}{}
			require.NoError(t, errors.Join(<-first, <-ended[(mine+1)%3], <-ended[(mine+2)%3]))
			if mine == 0 {
				require.NoError(t, <-ended[mine], "it committed itself, and knows")
			}
			require.Equal(t, []int{1, 1, 1}, there(t, h, events...))
		})
	}
}

// A commit of several that failed, or was not heard of, is unknown to all who have
// something in it; sending again gives one copy.
func TestASharedCommitThatFailsIsUnknownToAll(t *testing.T) {
	for name, applied := range map[string]bool{"not heard of": true, "failed": false} {
		t.Run(name, func(t *testing.T) {
			h := newHeld(t)
			failure := driver.ResultIOErr.ToError()
			events := []eventstore.Event{event("a"), event("b"), event("c")}
			first := h.wait(t)
			var ended []chan error
			for _, e := range events {
				ended = append(ended, h.begin(t, t.Context(), e))
			}
			h.refuse.Store(!applied)
			h.hold.Store(true)
			h.release <- struct{}{}
			<-h.holding
			h.fail.Store(&failure)
			h.release <- struct{}{}
			require.NoError(t, <-first)
			for _, e := range ended {
				require.ErrorIs(t, <-e, eventstore.ErrOutcomeUnknown)
			}
			for _, e := range events {
				_, err := h.Append(t.Context(), []eventstore.Event{e})
				require.NoError(t, err)
			}
			require.Equal(t, []int{1, 1, 1}, there(t, h, events...))
		})
	}
}

// One append that is too large for the disk leaves those beside it.
func TestAnAppendTooLargeForTheDiskLeavesThoseBesideIt(t *testing.T) {
	h := newHeld(t, sqlite.WithPragmas("PRAGMA max_page_count = 60"))
	small, large, last := event("small"), event("large"), event("last")
	large.Data = []byte(`"` + strings.Repeat("x", 400_000) + `"`)
	errs := h.behind(t, h.append([]eventstore.Event{small}), h.append([]eventstore.Event{large}), h.append([]eventstore.Event{last}))
	require.NoError(t, errors.Join(errs[0], errs[2]))
	require.ErrorIs(t, errs[1], eventstore.ErrStorageFull)
	require.ErrorIs(t, errs[1], eventstore.ErrNotApplied)
	require.Equal(t, []int{1, 0, 1}, there(t, h, small, large, last))
}

// A clock that panics in a shared commit ends nobody's wait for ever.
func TestAClockThatPanicsLeavesNobodyWaiting(t *testing.T) {
	var broken atomic.Bool
	h := newHeld(t, sqlite.WithClock(func() time.Time {
		if broken.Load() {
			panic("no time")
		}
		return time.Now()
	}))
	first := h.wait(t)
	var all sync.WaitGroup
	var panics, errs atomic.Int64
	events := []eventstore.Event{event("a"), event("b"), event("c")}
	for i, e := range events {
		all.Go(func() {
			defer func() {
				if recover() != nil {
					panics.Add(1)
				}
			}()
			if _, err := h.Append(context.Background(), []eventstore.Event{e}); errors.Is(err, eventstore.ErrNotApplied) {
				errs.Add(1)
			}
		})
		require.Eventually(t, func() bool { return h.Waiting() == i+1 }, time.Minute, 50*time.Microsecond)
	}
	broken.Store(true)
	h.release <- struct{}{}
	require.NoError(t, <-first)
	all.Wait()
	require.Equal(t, int64(3), panics.Load()+errs.Load())
	require.Positive(t, panics.Load())
	broken.Store(false)
	_, err := h.Append(t.Context(), events)
	require.NoError(t, err)
	require.Equal(t, []int{1, 1, 1}, there(t, h, events...))
}

// Many at once, with conflicts, repeats and contexts that end: each is told the
// truth, and nothing is lost or there twice.
func TestManyWhoAppendAtOnceAreToldTheTruth(t *testing.T) {
	store := open(t, newPath(t))
	const writers, each = 32, 40
	type told struct {
		event eventstore.Event
		err   error
	}
	results := make([][]told, writers)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(w)))
			for range each {
				e := event(fmt.Sprint("stream-", random.IntN(6)))
				var expect []eventstore.Expect
				if random.IntN(3) == 0 {
					v, _ := store.Version(context.Background(), e.Stream)
					expect = append(expect, eventstore.At(e.Stream, v))
				}
				ctx, cancel := context.WithCancel(context.Background())
				if random.IntN(4) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(2_000))*time.Microsecond)
				}
				_, err := store.Append(ctx, []eventstore.Event{e}, expect...)
				cancel()
				results[w] = append(results[w], told{e, err})
				if random.IntN(5) == 0 && err == nil {
					_, err := store.Append(context.Background(), []eventstore.Event{e}, expect...)
					if err != nil {
						results[w] = append(results[w], told{e, fmt.Errorf("again: %w", err)})
					}
				}
			}
		})
	}
	all.Wait()
	var events []eventstore.Event
	for _, one := range results {
		for _, r := range one {
			events = append(events, r.event)
		}
	}
	found, counts := there(t, store, events...), map[string]int{}
	for _, one := range results {
		for _, r := range one {
			n := found[0]
			found = found[1:]
			switch {
			case r.err == nil:
				counts["appended"]++
				require.Equal(t, 1, n)
			case errors.Is(r.err, eventstore.ErrConflict):
				counts["conflict"]++
				require.Zero(t, n, r.err)
			case errors.Is(r.err, eventstore.ErrNotApplied):
				counts["not applied"]++
				require.Zero(t, n, r.err)
			default:
				require.ErrorIs(t, r.err, eventstore.ErrOutcomeUnknown)
				counts["unknown"]++
				require.LessOrEqual(t, n, 1)
			}
		}
	}
	t.Log(counts)
	require.Greater(t, counts["appended"], writers*each/2)
	require.Positive(t, counts["conflict"])
}
