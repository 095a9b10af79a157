package driven_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay/driven"
	"github.com/rollforward/rollforward/internal/disorder"
)

// curse appends an event that only tolerant folds take.
func curse(t testing.TB, store eventstore.Store) eventstore.Recorded {
	e := event(3)
	e.Type = "test.cursed"
	records, err := store.Append(t.Context(), []eventstore.Event{e})
	require.NoError(t, err)
	return records[0]
}

var tolerant = follow.Projection[*chain]{Name: "tolerant", New: func() *chain {
	c := newChain()
	c.tolerant = true
	return c
}}

var decision = eventstore.Metadata{Actor: "alice", Reason: "it says nothing that matters"}

func stopped(t testing.TB, f *driven.Folds, by eventstore.Recorded) {
	t.Helper()
	require.Eventually(t, func() bool { return f.Status().Stopped != nil }, time.Minute, time.Millisecond)
	var poison *follow.PoisonError
	require.ErrorAs(t, f.Status().Stopped, &poison)
	require.Equal(t, "chain", poison.Fold)
	require.Equal(t, by.ID, poison.Event)
	require.ErrorAs(t, f.View(t.Context(), func(*follow.View) error { return nil }), &poison)
	require.ErrorAs(t, f.WaitFor(t.Context(), by.Position), &poison)
	_, err := f.Verify(t.Context())
	require.ErrorAs(t, err, &poison)
}

func TestAnEventThatAFoldCannotTakeStopsItUntilItIsParked(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			store := kind.New(t)
			record(t, store, 30)
			cursed := curse(t, store)
			record(t, store, 30)
			d := &disorder.Disorder{Seed: 8, Times: 3, Within: 20}
			config := driven.Config{Store: store, Decorators: []message.SubscriberDecorator{d.Decorate}, Late: -1}
			f := start(t, config, chains, tolerant)
			stopped(t, f, cursed)

			require.NoError(t, f.Park(within(t), "chain", cursed.ID, decision))
			found, err := f.Verify(within(t))
			require.NoError(t, err)
			require.Equal(t, follow.Same, found.Folds[0].Result)
			require.Equal(t, follow.Same, found.Folds[1].Result)
			require.NoError(t, f.View(within(t), func(v *follow.View) error {
				require.Equal(t, tolerant.In(v).Count, chains.In(v).Count+1)
				return nil
			}))
			require.Equal(t, cursed.ID, f.Status().Folds[0].Parked[0].Event)
			require.NoError(t, f.Snapshot(within(t)))
			require.NoError(t, f.Close())

			again := start(t, config, chains, tolerant)
			_, err = again.Verify(within(t))
			require.NoError(t, err, "it is left out after a restart too")
		})
	}
}

// The decision may be made by a follower of the same fold, as in the process that
// records.
func TestADecisionThatIsMadeElsewhereIsHonoured(t *testing.T) {
	store := memory.New()
	record(t, store, 10)
	cursed := curse(t, store)
	record(t, store, 10)
	f := start(t, driven.Config{Store: store})
	stopped(t, f, cursed)
	follower, err := follow.Start(store, follow.Config{Logger: quiet}, chains)
	require.NoError(t, err)
	defer func() { require.NoError(t, follower.Close()) }()
	require.Eventually(t, func() bool { return follower.Status().Stopped != nil }, time.Minute, time.Millisecond)
	require.NoError(t, follower.Park(within(t), "chain", cursed.ID, decision))
	require.Eventually(t, func() bool { return f.Status().Stopped == nil }, time.Minute, time.Millisecond)
	found, err := f.Verify(within(t))
	require.NoError(t, err)
	require.Equal(t, follow.Same, found.Folds[0].Result)
	followed, err := follower.Verify(within(t))
	require.NoError(t, err)
	require.Equal(t, followed, found)
}

// A fold that has taken what somebody else parks is made anew without it.
func TestAnEventThatIsParkedAfterItWasTakenIsTakenOut(t *testing.T) {
	store := memory.New()
	record(t, store, 10)
	cursed := curse(t, store)
	record(t, store, 10)
	bears := follow.Projection[*chain]{Name: "chain", New: tolerant.New}
	f := start(t, driven.Config{Store: store}, bears)
	require.NoError(t, f.WaitFor(within(t), 21))
	elsewhere := start(t, driven.Config{Store: store}) // where it is not borne
	stopped(t, elsewhere, cursed)
	require.NoError(t, elsewhere.Park(within(t), "chain", cursed.ID, decision))
	for _, f := range []*driven.Folds{f, elsewhere} {
		found, err := f.Verify(within(t))
		require.NoError(t, err)
		require.Equal(t, follow.Same, found.Folds[0].Result)
	}
	require.NoError(t, f.View(within(t), func(v *follow.View) error {
		require.Equal(t, 21, bears.In(v).Count, "20, and the decision")
		return nil
	}))
}

func TestFoldsThatAreStoppedHoldOnlySoMuch(t *testing.T) {
	store := memory.New()
	f := start(t, driven.Config{Store: store, Handled: true, Late: -1})
	driven.Limit(f, 100, 100)
	require.NoError(t, f.WaitFor(within(t), 0))
	cursed := curse(t, store)
	record(t, store, 300)
	handled := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	taken := atomic.Int64{}
	go func() {
		for _, m := range messagesOf(t, store) {
			m.SetContext(ctx)
			if err := f.Handle(m); err != nil {
				handled <- err
				return
			}
			taken.Add(1)
		}
		handled <- nil
	}()
	stopped(t, f, cursed)
	require.Eventually(t, func() bool { return taken.Load() == 100 }, time.Minute, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-handled, context.Canceled, "the others wait where they are")

	require.NoError(t, f.Park(within(t), "chain", cursed.ID, decision))
	for _, m := range messagesOf(t, store) {
		m.SetContext(within(t))
		require.NoError(t, f.Handle(m))
	}
	found, err := f.Verify(within(t))
	require.NoError(t, err)
	require.Equal(t, follow.Same, found.Folds[0].Result)
}

// replaced is a store behind whose back an older copy can take the place of the log.
type replaced struct {
	eventstore.Store
	now atomic.Pointer[memory.Store]
}

func (s *replaced) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return s.now.Load().Read(ctx, q)
}

func (s *replaced) Head(ctx context.Context) (eventstore.Position, error) {
	return s.now.Load().Head(ctx)
}

func (s *replaced) Wait(ctx context.Context, after eventstore.Position) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Millisecond, errPolled) // as a store that polls
	defer cancel()
	err := s.now.Load().Wait(ctx, after)
	if context.Cause(ctx) == errPolled {
		return nil
	}
	return err
}

var errPolled = errors.New("polled")

func TestALogThatIsReplacedByAnOlderCopyStopsTheFolds(t *testing.T) {
	for name, c := range map[string]struct {
		kept, more int
		lost       bool
	}{
		"the copy is behind":                      {30, 0, true},
		"the copy has gone on elsewhere":          {30, 25, true},
		"the copy differs in the last event":      {39, 1, true},
		"control: it is the same and has gone on": {40, 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			lived := memory.New()
			record(t, lived, 40)
			var records []eventstore.Recorded
			for r, err := range lived.Read(t.Context(), eventstore.Query{}) {
				require.NoError(t, err)
				records = append(records, r)
			}
			copied := memory.New()
			_, err := copied.Restore(t.Context(), 0, records[:c.kept])
			require.NoError(t, err)
			record(t, copied, c.more)

			store := &replaced{Store: lived}
			store.now.Store(lived)
			f := start(t, driven.Config{Store: store})
			require.NoError(t, f.WaitFor(within(t), 40))
			store.now.Store(copied)
			record(t, copied, 3) // so that there is something to see
			if !c.lost {
				require.NoError(t, f.WaitFor(within(t), 48))
				return
			}
			require.Eventually(t, func() bool {
				if f.Status().Stopped == nil {
					record(t, copied, 1)
				}
				return errors.Is(f.Status().Stopped, eventstore.ErrRewound)
			}, time.Minute, 10*time.Millisecond)
			require.ErrorIs(t, f.View(t.Context(), func(*follow.View) error { return nil }), eventstore.ErrRewound)
		})
	}
}

func TestASnapshotWhoseEventTheLogHasLostStopsTheFolds(t *testing.T) {
	lived := memory.New()
	record(t, lived, 40)
	f := start(t, driven.Config{Store: lived})
	same(t, f, lived)
	require.NoError(t, f.Snapshot(within(t)))
	require.NoError(t, f.Close())
	c, err := lived.Checkpoint(t.Context(), "driven-fold-chain")
	require.NoError(t, err)
	copied := memory.New()
	record(t, copied, 50)
	require.NoError(t, copied.SaveCheckpoints(t.Context(), c))
	f = start(t, driven.Config{Store: copied})
	require.Eventually(t, func() bool { return errors.Is(f.Status().Stopped, eventstore.ErrRewound) }, time.Minute, time.Millisecond)
	require.ErrorContains(t, f.Status().Stopped, "driven-fold-chain")
}

func TestAMessageOfAnotherLogIsRefused(t *testing.T) {
	store, other := memory.New(), memory.New()
	f := start(t, driven.Config{Store: store, Handled: true, Late: -1})
	require.NoError(t, f.WaitFor(within(t), 0))
	record(t, store, 10)
	record(t, other, 20)
	ours, theirs := messagesOf(t, store), messagesOf(t, other)
	for _, m := range ours[:5] {
		require.NoError(t, f.Handle(m))
	}
	require.ErrorContains(t, f.Handle(theirs[4]), "of another log", "where one of this log is")
	require.NoError(t, f.Handle(theirs[7]), "nobody knows yet")
	for _, m := range ours[5:] {
		if err := f.Handle(m); err != nil {
			require.ErrorContains(t, err, "of another log")
		}
	}
	require.ErrorIs(t, f.Handle(message.NewMessage(uuid.NewString(), []byte("hello"))), eventstore.ErrMalformed)
	require.GreaterOrEqual(t, f.Status().Refused, uint64(2))
	require.Error(t, f.Status().LastError)
	require.False(t, f.Status().LastErrorAt.IsZero())
}
