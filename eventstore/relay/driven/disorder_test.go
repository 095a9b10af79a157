package driven_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/relay/driven"
	"github.com/rollforward/rollforward/internal/disorder"
)

func TestDuplicatedAndReorderedMessagesEndInTheSameState(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			store := kind.New(t)
			record(t, store, 200)
			d := &disorder.Disorder{Seed: 3, Times: 5, Within: 50}
			f := start(t, driven.Config{Store: store, Decorators: []message.SubscriberDecorator{d.Decorate}, Late: -1})
			same(t, f, store)
			record(t, store, 200)
			same(t, f, store)
			s := f.Status()
			t.Logf("seed 3: %d messages for 400 events, %d known already", d.Sent.Load(), s.Again)
			require.EqualValues(t, 400, s.Taken)
			require.Zero(t, s.Read)
			require.Positive(t, s.Again)
			require.Zero(t, s.Waiting)
		})
	}
}

// The control: the same fold, given the same messages without being driven, is not
// what the log says.
func TestAFoldThatIsGivenSuchMessagesAsTheyComeDiffers(t *testing.T) {
	store := memory.New()
	record(t, store, 200)
	d := &disorder.Disorder{Seed: 3, Times: 5, Within: 50}
	own, err := relay.NewSubscriber(relay.Config{Store: store, Logger: quiet})
	require.NoError(t, err)
	s, err := d.Decorate(own)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		require.NoError(t, s.Close())
	}()
	messages, err := s.Subscribe(ctx, relay.All)
	require.NoError(t, err)
	bare, n, seen := newChain(), &counter{}, map[string]bool{}
	for len(seen) < 200 {
		m := <-messages
		r, err := relay.Recorded(m)
		require.NoError(t, err)
		require.NoError(t, bare.Apply(r))
		require.NoError(t, n.Apply(r))
		seen[m.UUID] = true
		m.Ack()
	}
	want := newChain()
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		require.NoError(t, want.Apply(r))
	}
	require.NotEqual(t, want.Sum, bare.Sum)
	require.Greater(t, n.n, 200, "it counts what comes again")
}

// messagesOf returns the message of each event of a log, as a broker would hand it on.
func messagesOf(t require.TestingT, store eventstore.Store) (all []*message.Message) {
	for r, err := range store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(t, err)
		m, err := relay.Message(r)
		require.NoError(t, err)
		all = append(all, m)
	}
	return all
}

// Whatever the order, how often, and wherever messages are cut off: the state is
// always that of a beginning of the log, and at the end that of all of it.
func TestAnyDeliveryEndsInTheSameState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		store := memory.New()
		f, err := driven.Start(driven.Config{Store: store, Handled: true, Late: -1, Logger: quiet}, chains)
		require.NoError(rt, err)
		defer func() { require.NoError(rt, f.Close()) }()
		require.NoError(rt, f.WaitFor(within(t), 0)) // it begins with an empty log
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		n := rapid.IntRange(1, 40).Draw(rt, "appends")
		var sums []chain
		want := newChain()
		for i := range n {
			var events []eventstore.Event
			for range 1 + r.IntN(4) {
				events = append(events, event(i))
			}
			records, err := store.Append(context.Background(), events)
			require.NoError(rt, err)
			for _, record := range records {
				require.NoError(rt, want.Apply(record))
			}
			sums = append(sums, *want)
		}
		all := messagesOf(rt, store)
		for range r.IntN(2*len(all) + 1) {
			all = append(all, all[r.IntN(len(all))])
		}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, m := range all {
			require.NoError(rt, f.Handle(m.Copy()))
			require.NoError(rt, f.View(within(t), func(v *follow.View) error {
				c := chains.In(v)
				found := c.Count == 0
				for _, at := range sums {
					found = found || at.Position == c.Position && at.Sum == c.Sum
				}
				require.True(rt, found, "at %d the state is none of the log", c.Position)
				return nil
			}))
		}
		found, err := f.Verify(within(t))
		require.NoError(rt, err)
		require.Equal(rt, want.Position, found.Position)
		require.Zero(rt, f.Status().Read)
	})
}

func TestWhatNoMessageBringsIsReadFromTheLogWhenItIsLate(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			store := kind.New(t)
			r := rand.New(rand.NewPCG(5, 5))
			lost := map[string]bool{}
			d := &disorder.Disorder{Seed: 5, Times: 2, Within: 10, Lose: func(m *message.Message) bool {
				lost[m.UUID] = r.IntN(20) == 0
				return lost[m.UUID]
			}}
			f := start(t, driven.Config{Store: store, Decorators: []message.SubscriberDecorator{d.Decorate}, Late: 5 * time.Millisecond})
			require.NoError(t, f.WaitFor(within(t), 0))
			record(t, store, 200)
			same(t, f, store)
			s := f.Status()
			require.Positive(t, s.Read)
			t.Logf("seed 5: of 200 events %d were read from the log", s.Read)
		})
	}
}

// The control of the one before: where nothing is read, what is lost is missing, and
// Verify does not say that all is well.
func TestWhatIsLostIsMissedWhereNothingIsReadFromTheLog(t *testing.T) {
	store := memory.New()
	d := &disorder.Disorder{Times: 1, Lose: func(m *message.Message) bool { return m.Metadata.Get(relay.KeyPosition) == "8" }}
	f := start(t, driven.Config{Store: store, Decorators: []message.SubscriberDecorator{d.Decorate}, Late: -1})
	require.NoError(t, f.WaitFor(within(t), 0))
	var records []eventstore.Recorded
	for i := range 20 {
		one, err := store.Append(t.Context(), []eventstore.Event{event(i)})
		require.NoError(t, err)
		records = append(records, one...)
	}
	require.Eventually(t, func() bool { return f.Status().Waiting == 12 && f.Status().Missing == 8 }, time.Minute, time.Millisecond)
	require.NoError(t, f.WaitFor(t.Context(), 7))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := f.Verify(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	s := f.Status()
	require.EqualValues(t, 7, s.Position)
	require.EqualValues(t, 20, s.Head)
	require.EqualValues(t, 13, s.Lag)

	m, err := relay.Message(records[7])
	require.NoError(t, err)
	require.NoError(t, f.Handle(m), "it comes another way")
	same(t, f, store)
	require.Zero(t, f.Status().Read)
}

// The last messages may be lost as well as those in the middle, where nothing comes
// behind them.
func TestTheEndOfTheLogIsReadWhereItsMessagesDoNotCome(t *testing.T) {
	store := memory.New()
	f := start(t, driven.Config{Store: store, Handled: true, Late: time.Millisecond})
	require.NoError(t, f.WaitFor(within(t), 0))
	record(t, store, 30)
	same(t, f, store)
	require.EqualValues(t, 30, f.Status().Read)
}

// A feed that is faster than the folds waits for them, and is not left waiting when
// they have taken all that there is.
func TestALongFeedIsTakenInTurns(t *testing.T) {
	store := memory.New()
	f := start(t, driven.Config{Store: store, Handled: true, Late: -1})
	driven.Limit(f, 50, 100)
	require.NoError(t, f.WaitFor(within(t), 0))
	record(t, store, 1_000)
	for _, m := range messagesOf(t, store) {
		m.SetContext(within(t))
		require.NoError(t, f.Handle(m))
	}
	same(t, f, store)
}

// What comes before its time is held up to a limit, and then refused, but for what the
// others wait for.
func TestWhatComesTooEarlyIsHeldUpToALimit(t *testing.T) {
	store := memory.New()
	f := start(t, driven.Config{Store: store, Handled: true, Late: -1})
	driven.Limit(f, 40, 100)
	require.NoError(t, f.WaitFor(within(t), 0))
	record(t, store, 150)
	all := messagesOf(t, store)
	refused := 0
	for i := len(all) - 1; i >= 0; i-- { // backwards: all of it waits for the first
		all[i].SetContext(within(t))
		if err := f.Handle(all[i]); err != nil {
			require.ErrorContains(t, err, "wait for one before them")
			refused++
		}
	}
	require.Equal(t, 49, refused, "the first is wanted, and taken")
	require.ErrorContains(t, f.Status().LastError, "wait for one before them")
	for _, m := range all {
		m = m.Copy()
		m.SetContext(within(t))
		require.NoError(t, f.Handle(m))
	}
	same(t, f, store)
	require.Zero(t, f.Status().Read)
}

// Where the log may be read, what is missing is read from it as soon as too much waits
// for it, and a message that finds no room waits for that.
func TestWhatTooMuchWaitsForIsReadFromTheLogAtOnce(t *testing.T) {
	store := memory.New()
	f := start(t, driven.Config{Store: store, Handled: true, Late: time.Hour})
	driven.Limit(f, 40, 100)
	require.NoError(t, f.WaitFor(within(t), 0))
	record(t, store, 150)
	all := messagesOf(t, store)
	for i := len(all) - 1; i >= 0; i-- {
		all[i].SetContext(within(t))
		require.NoError(t, f.Handle(all[i]))
	}
	same(t, f, store)
	require.Positive(t, f.Status().Read)
}
