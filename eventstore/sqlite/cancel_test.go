package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/race"
)

// asked is a context that ends at the n-th time that somebody asks it, or asks what
// tells its end: so it can be made to end at each place where a call obeys it.
type asked struct {
	context.Context
	mu    sync.Mutex
	left  int // questions until it ends
	ended bool
	done  chan struct{}
}

func endsWhenAsked(n int) *asked {
	return &asked{Context: context.Background(), left: n, done: make(chan struct{})}
}

func (c *asked) ask() (ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left <= 0 && !c.ended {
		c.ended = true
		close(c.done)
	}
	return c.ended
}

func (c *asked) Done() <-chan struct{} { c.ask(); return c.done }

func (c *asked) Err() error {
	if c.ask() {
		return context.Canceled
	}
	return nil
}

func (c *asked) hasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// F39: whichever question a call asks its context, it may be the last, and the call then
// either has done its work or says that the context ended; the store goes on.
func TestAContextThatEndsAtAnyQuestionEndsTheCallAndNothingElse(t *testing.T) {
	path := quickPath(t)
	store := open(t, path)
	var log []eventstore.Recorded // what is known to be there
	for range 3 {                 // more than a page
		var events []eventstore.Event
		for i := range 100 {
			events = append(events, event(fmt.Sprint("s-", i%3), "x"))
		}
		records, err := store.Append(ctx, events)
		require.NoError(t, err)
		log = append(log, records...)
	}
	free := store.FreeReaders()
	reader := open(t, path, sqlite.ReadOnly()) // where nothing is asked of the connection that appends
	var saved eventstore.Position
	standing := func() error {
		p, err := store.Checkpoint(ctx, "a")
		if err == nil && p.Position != 0 {
			saved = p.Position
		}
		return err
	}
	reads := func(q eventstore.Query) func(context.Context) error {
		return func(c context.Context) error {
			var wanted []eventstore.Recorded
			for _, r := range log {
				if q.Match(r) {
					wanted = append(wanted, r)
				}
			}
			n := 0
			for r, err := range store.Read(c, q) {
				if err != nil {
					return err
				}
				if n == len(wanted) || !same(r, wanted[n]) {
					return fmt.Errorf("event %d is not the one wanted", n)
				}
				n++
			}
			if n != len(wanted) {
				return fmt.Errorf("the read ended without an error after %d of %d", n, len(wanted))
			}
			return nil
		}
	}
	version := func(store *sqlite.Store) func(context.Context) error {
		return func(c context.Context) error {
			version, err := store.Version(c, "s-0")
			if err == nil && version != versionOf(log, "s-0") {
				return fmt.Errorf("version %d", version)
			}
			return err
		}
	}
	head := func(store *sqlite.Store) func(context.Context) error {
		return func(c context.Context) error {
			head, err := store.Head(c)
			if err == nil && head != log[len(log)-1].Position {
				return fmt.Errorf("head %d", head)
			}
			return err
		}
	}
	var rows [][]string // that are to be in the table told
	appends := func(told bool) func(context.Context) error {
		return func(c context.Context) error {
			a := sending{
				events: []eventstore.Event{event("s-0", "x"), event("s-1"), event(uuid.NewString(), "x", "y")},
				expect: eventstore.At("s-0", versionOf(log, "s-0")), told: told,
			}
			records, err := a.to(c, store, func() {})
			log, _ = settled(t, store, log, a, records, err)
			if told {
				rows = append(rows, []string{fmt.Sprint(log[len(log)-1].Append)})
			}
			return err
		}
	}
	dir, copies := t.TempDir(), 0
	for _, call := range []struct {
		name string
		do   func(c context.Context) error
	}{
		{"append", appends(false)},
		{"append with a row", appends(true)},
		{"append again", func(c context.Context) error {
			first := log[len(log)-1].Append
			var a sending
			for _, r := range log {
				if r.Append == first {
					a.events, a.records = append(a.events, r.Event), append(a.records, r)
				}
			}
			records, err := store.Append(c, a.events, eventstore.At("s-0", 1_000_000))
			if err == nil && !slices.EqualFunc(records, a.records, same) {
				return errors.New("other records")
			}
			return err
		}},
		{"append, a conflict", func(c context.Context) error {
			_, err := store.Append(c, []eventstore.Event{event("s-0")}, eventstore.At("s-0", 1))
			if errors.Is(err, eventstore.ErrConflict) && !errors.Is(err, eventstore.ErrNotApplied) {
				return nil
			}
			return err
		}},
		{"restore", func(c context.Context) error {
			after := log[len(log)-1].Position
			r := eventstore.Recorded{
				Event: event("restored"), Version: versionOf(log, "restored") + 1, Position: after + 1, Append: after + 1,
				RecordedAt: time.Unix(1, 0).UTC(),
			}
			_, err := store.Restore(c, after, []eventstore.Recorded{r})
			_, again := store.Restore(ctx, after, []eventstore.Recorded{r})
			log = append(log, r)
			there := errors.Is(again, eventstore.ErrConflict)
			switch {
			case again != nil && !there:
				return fmt.Errorf("again: %v", again)
			case err == nil && !there, errors.Is(err, eventstore.ErrNotApplied) && there,
				err != nil && errors.Is(err, eventstore.ErrNotApplied) == errors.Is(err, eventstore.ErrOutcomeUnknown):
				return fmt.Errorf("it is there: %v, and was told: %v", there, err)
			}
			return err
		}},
		{"save checkpoints", func(c context.Context) error {
			if err := standing(); err != nil {
				return err
			}
			err := store.SaveCheckpoints(c, generation(saved+1)...)
			want := saved
			if err == nil {
				want++
			}
			for i, name := range []string{"a", "b"} {
				p, failed := store.Checkpoint(ctx, name)
				if failed != nil {
					return failed
				}
				if want > 0 && p.Position != want || want > 0 && string(p.State) != string(generation(want)[i].State) {
					return fmt.Errorf("checkpoint %s is %d, not %d, after %v", name, p.Position, want, err)
				}
			}
			return err
		}},
		{"checkpoint", func(c context.Context) error { _, err := store.Checkpoint(c, "a"); return err }},
		{"delete a checkpoint", func(c context.Context) error { return store.DeleteCheckpoint(c, "nobody's") }},
		{"version", version(store)},
		{"version, in a store that only reads", version(reader)},
		{"head", head(store)},
		{"head, in a store that only reads", head(reader)},
		{"read the log", reads(eventstore.Query{})},
		{"read a stream", reads(eventstore.Query{Streams: []string{"s-1"}})},
		{"read by a tag", reads(eventstore.Query{Tags: []string{"x"}, After: 250})},
		{"check", func(c context.Context) error {
			// Those saved above name events that the log does not have.
			if err := errors.Join(store.DeleteCheckpoint(ctx, "a"), store.DeleteCheckpoint(ctx, "b")); err != nil {
				return err
			}
			findings, err := store.Check(c)
			if len(findings) > 0 {
				return fmt.Errorf("%v", findings)
			}
			return err
		}},
		{"back up", func(c context.Context) error {
			err := store.Backup(c, filepath.Join(dir, "copy.db"))
			if err == nil {
				err = os.Rename(filepath.Join(dir, "copy.db"), filepath.Join(dir, fmt.Sprint(copies, ".db")))
				copies++
			}
			entries, failed := os.ReadDir(dir)
			if failed == nil && len(entries) != copies {
				failed = fmt.Errorf("%d files in place of %d", len(entries), copies)
			}
			return errors.Join(err, failed)
		}},
		{"wait for what is there", func(c context.Context) error { return store.Wait(c, 1) }},
		{"wait", func(c context.Context) error {
			after := log[len(log)-1].Position
			waited := make(chan error, 1)
			go func() { waited <- store.Wait(c, after) }()
			time.Sleep(time.Millisecond)
			records, err := store.Append(ctx, []eventstore.Event{event("waited for")})
			log = append(log, records...)
			return errors.Join(err, <-waited)
		}},
	} {
		questions := 0
		for n := 1; ; n++ {
			c := endsWhenAsked(n)
			err := call.do(c)
			if err != nil {
				require.ErrorIs(t, err, context.Canceled, "%s, question %d", call.name, n)
				require.True(t, c.hasEnded(), "%s, question %d", call.name, n)
			}
			require.Equal(t, free, store.FreeReaders(), "%s, question %d", call.name, n)
			if !c.hasEnded() {
				break
			}
			questions++
			if race.Enabled && n > 20 {
				n += 10
			}
		}
		require.NotZero(t, questions, call.name)
		t.Logf("%s: ended at each of %d questions", call.name, questions)
	}
	require.NoError(t, reads(eventstore.Query{})(ctx))
	told, err := raw(t, path, "SELECT position FROM told ORDER BY position")
	require.NoError(t, err)
	require.Equal(t, rows, told)
}

func versionOf(log []eventstore.Recorded, stream string) (version uint64) {
	for _, r := range log {
		if r.Stream == stream {
			version = r.Version
		}
	}
	return version
}

// F39, where another process has the file: a context that ends while an append waits for it.
func TestAContextThatEndsAtAnyQuestionBeforeALockedFileIsNotApplied(t *testing.T) {
	path := newPath(t)
	store := open(t, path)
	release := holdLock(t, path)
	for n := 1; n <= 25; n++ {
		_, err := store.Append(endsWhenAsked(n), []eventstore.Event{event("s")})
		require.ErrorIs(t, err, eventstore.ErrNotApplied, "question %d", n)
		require.ErrorIs(t, err, context.Canceled, "question %d", n)
		require.ErrorIs(t, store.SaveCheckpoints(endsWhenAsked(n), eventstore.Checkpoint{Name: "a"}), context.Canceled, "question %d", n)
	}
	release()
	require.Empty(t, all(t, store, eventstore.Query{}))
}

// The control of F39: a commit that says that it failed for want of space, and happened.
func TestTheHarnessSeesWhatIsRecordedAndWasToldNotApplied(t *testing.T) {
	store := open(t, newPath(t), sqlite.WithCommit(func(commit func() error) error {
		if err := commit(); err != nil {
			return err
		}
		return driver.ResultFull.ToError()
	}))
	a := sending{events: []eventstore.Event{event("s")}, expect: eventstore.At("s", 0)}
	records, told := store.Append(ctx, a.events, a.expect)
	_, _, err := settle(store, nil, []sending{a}, [][]eventstore.Recorded{records}, []error{told})
	require.ErrorContains(t, err, "it is recorded, and was told")
}
