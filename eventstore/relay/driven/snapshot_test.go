package driven_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay/driven"
	"github.com/rollforward/rollforward/internal/disorder"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestARestartGoesOnFromASnapshot(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			store := kind.New(t)
			for round := range 3 {
				record(t, store, 100)
				d := &disorder.Disorder{Seed: uint64(round), Times: 3, Within: 20}
				f := start(t, driven.Config{Store: store, SnapshotEvery: 30, Late: -1, Decorators: []message.SubscriberDecorator{d.Decorate}})
				same(t, f, store)
				require.EqualValues(t, 100, f.Status().Taken, "only what is new comes, in round %d", round)
				require.NoError(t, f.Close())
				c, err := store.Checkpoint(t.Context(), "driven-fold-chain")
				require.NoError(t, err)
				head, err := store.Head(t.Context())
				require.NoError(t, err)
				require.Equal(t, head, c.Position)
			}
			c, err := store.Checkpoint(t.Context(), "fold-chain")
			require.NoError(t, err)
			require.Zero(t, c, "those of followers are not touched")
		})
	}
}

func TestASnapshotAtAnyPositionIsGoneOnFrom(t *testing.T) {
	store := memory.New()
	for n := range 12 {
		f := start(t, driven.Config{Store: store})
		require.NoError(t, f.WaitFor(within(t), 0))
		if n > 0 {
			require.NoError(t, f.Snapshot(within(t)))
		}
		_, err := store.Append(t.Context(), []eventstore.Event{event(n)})
		require.NoError(t, err)
		same(t, f, store)
		require.NoError(t, f.Close())
		f = start(t, driven.Config{Store: store})
		same(t, f, store)
		require.NoError(t, f.Close())
	}
}

// ahead keeps snapshots under the position of a later event than their state has.
type ahead struct{ storefor.Store }

func (a ahead) SaveCheckpoints(ctx context.Context, all ...eventstore.Checkpoint) error {
	for i, c := range all {
		for r, err := range a.Read(ctx, eventstore.Query{After: c.Position, Limit: 1}) {
			if err != nil {
				return err
			}
			all[i].Position, all[i].Event = r.Position, r.ID
		}
	}
	return a.Store.SaveCheckpoints(ctx, all...)
}

// The position is sealed with the state: one that was saved with another is not gone on
// from.
func TestASnapshotThatWasSavedUnderALaterPositionIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		wrap  func(storefor.Store) storefor.Store
		taken uint64
	}{
		"a later position": {func(s storefor.Store) storefor.Store { return ahead{s} }, 60},
		"control: its own": {func(s storefor.Store) storefor.Store { return s }, 20},
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			record(t, store, 40)
			f := start(t, driven.Config{Store: c.wrap(store), Handled: true, Late: -1}) // it takes the 40, and no more
			same(t, f, store)
			record(t, store, 20)
			require.NoError(t, f.Snapshot(within(t)))
			require.NoError(t, f.Close())

			f = start(t, driven.Config{Store: store})
			same(t, f, store)
			require.Equal(t, c.taken, f.Status().Taken)
		})
	}
}

// losing is a fold whose snapshot lacks the last events: what a program has that saves
// its position first and its state later.
type losing struct {
	*chain
	states [][]byte // before each of the last three
}

func (l *losing) Apply(r eventstore.Recorded) error {
	state, err := l.chain.Snapshot()
	if err != nil {
		return err
	}
	if l.states = append(l.states, state); len(l.states) > 3 {
		l.states = l.states[1:]
	}
	return l.chain.Apply(r)
}

func (l *losing) Snapshot() ([]byte, error) { return l.states[0], nil }

// The control of restarts: where a snapshot is older than its position, events are
// lost, and Verify finds it.
func TestEventsThatASnapshotLacksAreLostAndFoundByVerify(t *testing.T) {
	store := memory.New()
	record(t, store, 40)
	lossy := follow.Projection[*losing]{Name: "chain", New: func() *losing { return &losing{chain: newChain()} }}
	f := start(t, driven.Config{Store: store}, lossy)
	found, err := f.Verify(within(t))
	require.NoError(t, err)
	require.Equal(t, follow.Same, found.Folds[0].Result)
	require.NoError(t, f.Snapshot(within(t)))
	require.NoError(t, f.Close())

	record(t, store, 10)
	f = start(t, driven.Config{Store: store}, lossy)
	found, err = f.Verify(within(t))
	var differs *follow.DifferenceError
	require.ErrorAs(t, err, &differs)
	require.Equal(t, follow.Differs, found.Folds[0].Result)
}

func TestAFoldThatCannotBeSavedIsUnverifiable(t *testing.T) {
	store := memory.New()
	record(t, store, 20)
	f := start(t, driven.Config{Store: store}, chains, counters)
	found, err := f.Verify(within(t))
	require.NoError(t, err)
	require.Equal(t, follow.Same, found.Folds[0].Result)
	require.Equal(t, follow.Unverifiable, found.Folds[1].Result, "nothing is known of it, which is not that it is the same")
	require.NoError(t, f.Snapshot(within(t)))
	require.NoError(t, f.Close())
	f = start(t, driven.Config{Store: store}, chains, counters)
	same(t, f, store)
	require.NoError(t, f.View(within(t), func(v *follow.View) error {
		require.Equal(t, 20, counters.In(v).n, "it is made from the beginning")
		return nil
	}))
}

func TestAStoreWithoutCheckpointsHasNoSnapshots(t *testing.T) {
	store := memory.New()
	record(t, store, 20)
	f := start(t, driven.Config{Store: struct{ eventstore.Store }{store}, SnapshotEvery: 5})
	same(t, f, store)
	require.ErrorIs(t, f.Snapshot(t.Context()), errors.ErrUnsupported)
}

// What a broker has altered is found.
func TestVerifyFindsMessagesThatAreNotThoseOfTheLog(t *testing.T) {
	store := memory.New()
	altered := false
	f := start(t, driven.Config{Store: store, Decorators: []message.SubscriberDecorator{func(s message.Subscriber) (message.Subscriber, error) {
		d := &disorder.Disorder{Times: 1, Lose: func(m *message.Message) bool {
			if !altered {
				altered, m.Payload = true, []byte(`{"page":-1}`)
			}
			return false
		}}
		return d.Decorate(s)
	}}})
	require.NoError(t, f.WaitFor(within(t), 0))
	record(t, store, 20)
	_, err := f.Verify(within(t))
	var differs *follow.DifferenceError
	require.ErrorAs(t, err, &differs)
	require.Equal(t, follow.Differs, differs.Verification.Folds[0].Result)
}

func TestAnEndOfTheContextIsNoVerdict(t *testing.T) {
	store := memory.New()
	f := start(t, driven.Config{Store: store, Handled: true, Late: -1})
	require.NoError(t, f.WaitFor(within(t), 0))
	record(t, store, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	found, err := f.Verify(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, found.Folds)
}
