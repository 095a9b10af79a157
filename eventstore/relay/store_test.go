package relay_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// tapped is a store each of whose calls is first told to a function, which may have
// it fail.
type tapped struct {
	*memory.Store
	tap func(ctx context.Context, call string) error
}

func (s *tapped) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := s.tap(ctx, "append"); err != nil {
		return nil, eventstore.NotApplied(err)
	}
	return s.Store.Append(ctx, events, expect...)
}

func (s *tapped) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := s.tap(ctx, "read"); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		s.Store.Read(ctx, q)(yield)
	}
}

func (s *tapped) Version(ctx context.Context, stream string) (uint64, error) {
	if err := s.tap(ctx, "version"); err != nil {
		return 0, err
	}
	return s.Store.Version(ctx, stream)
}

func (s *tapped) Head(ctx context.Context) (eventstore.Position, error) {
	if err := s.tap(ctx, "head"); err != nil {
		return 0, err
	}
	return s.Store.Head(ctx)
}

func (s *tapped) Wait(ctx context.Context, after eventstore.Position) error {
	if err := s.tap(ctx, "wait"); err != nil {
		return err
	}
	return s.Store.Wait(ctx, after)
}

func (s *tapped) Checkpoint(ctx context.Context, name string) (eventstore.Checkpoint, error) {
	if err := s.tap(ctx, "checkpoint"); err != nil {
		return eventstore.Checkpoint{}, err
	}
	return s.Store.Checkpoint(ctx, name)
}

func (s *tapped) SaveCheckpoints(ctx context.Context, c ...eventstore.Checkpoint) error {
	if err := s.tap(ctx, "save"); err != nil {
		return err
	}
	return s.Store.SaveCheckpoints(ctx, c...)
}

// afterTap is a tap that does something at one call.
func afterTap(n int, do func() error) (tap func(context.Context, string) error, reached func() bool) {
	var count atomic.Int64
	return func(context.Context, string) error {
		if count.Add(1) == int64(n) {
			return do()
		}
		return nil
	}, func() bool { return count.Load() >= int64(n) }
}

// eachCall runs f for the first call to the store, the second, and so on until there
// is none.
func eachCall(t *testing.T, f func(t *testing.T, store *memory.Store, n int) (reached bool)) {
	t.Helper()
	n := 1
	for reached := true; reached; n++ {
		bubble(t, func(t *testing.T, store *memory.Store) { reached = f(t, store, n) })
		require.Less(t, n, 1_000)
	}
	require.Greater(t, n, 10)
	t.Logf("%d calls", n-2)
}

var errNoNetwork = errors.New("no network")

func TestWhateverCallOfTheStoreFailsAllIsDelivered(t *testing.T) {
	for _, workers := range []int{1, 4} {
		eachCall(t, func(t *testing.T, store *memory.Store, n int) bool {
			one := record(t, store, "s-1", 3)
			record(t, store, "s-2", 2)
			skip(t, store, one[1])
			tap, reached := afterTap(n, func() error { return errNoNetwork })
			once := make(chan struct{}, 1)
			c := consume(t, &tapped{store, tap}, relay.Config{Name: "durable", Workers: workers}, func(name string, m *message.Message) {
				if name == "s-2/1" {
					select {
					case once <- struct{}{}:
						relay.Failed(m, relay.Permanent(errors.New("the first time")))
						m.Nack()
					default:
					}
				}
				m.Ack()
			})
			got := c.after(30 * time.Second)
			for r, err := range store.Read(t.Context(), eventstore.Query{Types: []string{"relay.parked"}}) {
				require.NoError(t, err)
				registry, err := eventstore.NewRegistry(relay.Types()...)
				require.NoError(t, err)
				parked, err := registry.Decode(r.Event)
				require.NoError(t, err)
				decide(t, store, func(tx *eventstore.Tx) error { return relay.Retry(tx, durable, parked.(relay.Parked).Event) })
				break
			}
			got = append(got, c.after(time.Minute)...)
			for _, name := range []string{"s-1/1", "s-1/3", "s-2/1", "s-2/2"} {
				require.Contains(t, got, name, "call %d", n)
			}
			require.NotContains(t, got, "s-1/2", "call %d", n)
			status := c.status()
			require.NoError(t, status.Err, "call %d", n)
			require.Empty(t, status.Behind, "call %d", n)
			require.Zero(t, status.Lag, "call %d", n)
			return reached()
		})
	}
}

func TestAContextThatEndsAtAnyCallOfTheStoreEndsTheConsumerAndTheNextGoesOn(t *testing.T) {
	eachCall(t, func(t *testing.T, store *memory.Store, n int) bool {
		record(t, store, "s-1", 3)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tap, reached := afterTap(n, func() error { cancel(); return nil })
		s, err := relay.NewSubscriber(relay.Config{Store: &tapped{store, tap}, Name: "durable", Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		messages, err := s.Subscribe(ctx, "prefix:s-")
		require.NoError(t, err)
		got := map[string]bool{}
		go func() { time.Sleep(10 * time.Second); cancel() }() // where the call is not reached
		for m := range messages {
			got[m.Metadata[relay.KeyVersion]] = true
			m.Ack()
		}
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		require.NoError(t, s.Close())
		c := consume(t, store, relay.Config{Name: "durable"}, func(_ string, m *message.Message) { got[m.Metadata[relay.KeyVersion]] = true; m.Ack() })
		c.after(time.Minute)
		require.Len(t, got, 3, "call %d", n)
		return reached()
	})
}

func TestAStoreThatHangsDoesNotHoldUpClosing(t *testing.T) {
	eachCall(t, func(t *testing.T, store *memory.Store, n int) bool {
		record(t, store, "s-1", 3)
		var count atomic.Int64
		hanging := &tapped{store, func(ctx context.Context, _ string) error {
			if count.Add(1) >= int64(n) {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		c := consume(t, hanging, relay.Config{Name: "durable", Grace: 3 * time.Second}, ack)
		c.after(10 * time.Second)
		began := time.Now()
		c.close()
		require.LessOrEqual(t, time.Since(began), (3+5)*time.Second, "call %d", n)
		return count.Load() >= int64(n) && n < 40
	})
}

func TestASlowStoreIsOnlySlow(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 20)
		slow := &tapped{store, func(ctx context.Context, _ string) error { time.Sleep(time.Second); return nil }}
		c := consume(t, slow, relay.Config{Name: "durable", Workers: 4}, ack)
		require.Len(t, c.after(10*time.Minute), 20)
		require.EqualValues(t, 1, c.status().Token)
	})
}

func TestAStoreThatIsClosedStopsTheConsumerForGood(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 1)
		c := consume(t, store, relay.Config{Name: "durable"}, ack)
		c.take()
		require.NoError(t, store.Close())
		status := c.status()
		require.True(t, status.Stopped)
		require.False(t, status.Holding)
		require.ErrorIs(t, status.Err, eventstore.ErrClosed)
	})
}

func TestALogThatIsAnOlderCopyStopsTheConsumerUntilItsCheckpointIsDeleted(t *testing.T) {
	for name, more := range map[string]int{"shorter": 0, "grown again": 20} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, store *memory.Store) {
				record(t, store, "s-1", 10)
				c := consume(t, store, relay.Config{Name: "durable"}, ack)
				require.Len(t, c.take(), 10)
				c.close()
				checkpoint, err := store.Checkpoint(t.Context(), "relay-"+durable)
				require.NoError(t, err)

				older := memory.New()
				t.Cleanup(func() { require.NoError(t, older.Close()) })
				record(t, older, "s-1", 5+more)
				require.NoError(t, older.SaveCheckpoints(t.Context(), checkpoint))
				c = consume(t, older, relay.Config{Name: "durable"}, ack)
				require.Empty(t, c.after(time.Hour))
				status := c.status()
				require.True(t, status.Stopped)
				require.ErrorIs(t, status.Err, eventstore.ErrRewound)
				require.ErrorContains(t, status.Err, `"relay-`+durable+`"`)
				c.close()

				require.NoError(t, older.DeleteCheckpoint(context.Background(), "relay-"+durable))
				c = consume(t, older, relay.Config{Name: "durable"}, ack)
				require.Len(t, c.after(time.Minute), 5+more)
			})
		})
	}
}

// replaced is a store whose log is another from some time on, as a file that is copied
// over one that is open.
type replaced struct {
	storefor.Store
	by atomic.Pointer[storefor.Store]
}

func (s *replaced) now() storefor.Store {
	if by := s.by.Load(); by != nil {
		return *by
	}
	return s.Store
}

func (s *replaced) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return s.now().Read(ctx, q)
}

func (s *replaced) Version(ctx context.Context, stream string) (uint64, error) {
	return s.now().Version(ctx, stream)
}

func (s *replaced) Head(ctx context.Context) (eventstore.Position, error) { return s.now().Head(ctx) }

func TestALogThatIsReplacedByAnOlderCopyThatGrewStopsTheConsumerThatFollowsIt(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 10)
		log := &replaced{Store: store}
		c := consume(t, log, relay.Config{Name: "durable"}, ack)
		require.Len(t, c.after(time.Minute), 10)
		older := memory.New()
		t.Cleanup(func() { require.NoError(t, older.Close()) })
		// It has the lease at the same version, and as many events.
		for r, err := range store.Read(t.Context(), eventstore.Query{Streams: []string{"lease-" + durable}}) {
			require.NoError(t, err)
			_, err := older.Append(t.Context(), []eventstore.Event{r.Event})
			require.NoError(t, err)
		}
		record(t, older, "s-1", 30)
		var by storefor.Store = older
		log.by.Store(&by)
		c.after(time.Minute)
		status := c.status()
		require.True(t, status.Stopped)
		require.ErrorIs(t, status.Err, eventstore.ErrRewound)
	})
}

func TestAConsumerWithoutANameGoesOnWhereItIsAfterAnError(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 10)
		var fails atomic.Bool
		failing := &tapped{store, func(_ context.Context, call string) error {
			if call == "head" && fails.Swap(false) {
				return errNoNetwork
			}
			return nil
		}}
		c := consume(t, failing, relay.Config{}, ack)
		require.Len(t, c.take(), 10)
		fails.Store(true)
		record(t, store, "s-2", 1)
		require.Equal(t, []string{"s-2/1"}, c.after(time.Minute), "and nothing again")
		require.False(t, fails.Load())
	})
}

func TestACheckpointOfALaterFormatStopsTheConsumerAndOneThatIsSpoiltIsNone(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		first := record(t, store, "s-1", 2)
		later := eventstore.Checkpoint{Name: "relay-" + durable, Position: first[1].Position, Event: first[1].ID, Format: 99, State: []byte("{}")}
		require.NoError(t, store.SaveCheckpoints(t.Context(), later))
		c := consume(t, store, relay.Config{Name: "durable"}, ack)
		require.Empty(t, c.after(time.Hour))
		require.True(t, c.status().Stopped)
		require.ErrorIs(t, c.status().Err, eventstore.ErrNewerFormat)
		c.close()
		later.Format, later.State = 1, []byte("spoilt")
		require.NoError(t, store.SaveCheckpoints(context.Background(), later))
		c = consume(t, store, relay.Config{Name: "durable"}, ack)
		require.Len(t, c.after(time.Minute), 2)
	})
}

func TestAConsumerWithNothingToDoOnlySaysThatItIsAlive(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 10)
		var mu sync.Mutex
		counts := map[string]int{}
		counting := &tapped{store, func(_ context.Context, call string) error {
			mu.Lock()
			defer mu.Unlock()
			counts[call]++
			return nil
		}}
		take := func() map[string]int {
			mu.Lock()
			defer mu.Unlock()
			last := counts
			counts = map[string]int{}
			return last
		}
		c := consume(t, counting, relay.Config{Name: "durable", Lease: 15 * time.Second}, ack)
		c.after(time.Minute)
		take()
		c.after(time.Hour)
		require.Equal(t, map[string]int{"version": 720, "read": 720, "save": 720}, take(), "every 5 s")
		c.close()

		nameless := consume(t, counting, relay.Config{}, ack)
		require.Len(t, nameless.after(time.Minute), 10)
		take()
		nameless.after(time.Hour)
		require.Empty(t, take())
	})
}

func TestAConsumerIsOneCallOfEachForManyEventsWithNothingElseToDo(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 5_000)
		var count atomic.Int64
		counting := &tapped{store, func(context.Context, string) error { count.Add(1); return nil }}
		c := consume(t, counting, relay.Config{Name: "durable"}, ack)
		require.Len(t, c.take(), 5_000)
		require.Less(t, count.Load(), int64(120), "about two for each page of 256, and what the lease needs")
		t.Logf("%d calls for 5,000 events", count.Load())
	})
}

func TestStatusSaysHowAConsumerStands(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 3)
		config := relay.Config{Name: "durable"}
		one := consume(t, store, config, hold)
		status := one.status()
		require.Equal(t, relay.Status{Consumer: durable, Topic: "prefix:s-", Holding: true, Token: 1, Head: 4, Lag: 4, UnderWay: 1}, status)
		two := consume(t, store, config, ack)
		require.Equal(t, relay.Status{Consumer: durable, Topic: "prefix:s-", Standby: true}, two.status())
		one.close()
		require.Empty(t, one.Status())
		require.Len(t, two.after(2*time.Second), 3)
		status = two.status()
		require.True(t, status.Holding)
		require.False(t, status.Standby)
		require.EqualValues(t, 2, status.Token)
		require.EqualValues(t, 3, status.Acknowledged)
		require.Equal(t, status.Head, status.Position)
		require.Zero(t, status.Lag)

		nameless := consume(t, store, relay.Config{}, ack)
		require.False(t, nameless.status().Holding || nameless.status().Standby)
	})
}

func TestWhileAStoreIsDownStatusSaysWhyAndTheLeaseIsTakenAgainAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var down atomic.Bool
		s := &tapped{store, func(context.Context, string) error {
			if down.Load() {
				return errNoNetwork
			}
			return nil
		}}
		record(t, store, "s-1", 1)
		c := consume(t, s, relay.Config{Name: "durable", Lease: time.Hour, LastPause: time.Second}, ack)
		require.Len(t, c.after(time.Second), 1) // and saved
		down.Store(true)
		record(t, store, "s-1", 1)
		c.after(time.Minute)
		status := c.status()
		require.ErrorIs(t, status.Err, errNoNetwork)
		require.False(t, status.Holding)
		require.False(t, status.Stopped)
		down.Store(false)
		require.Equal(t, []string{"s-1/2"}, c.after(2*time.Second))
		require.NoError(t, c.status().Err)
	})
}

// Closing under load loses nothing and leaves nothing running; by the machine's clock.
func TestClosingUnderLoadLosesNothing(t *testing.T) {
	store := memory.New()
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	const events = 2_000
	for i := range events {
		record(t, store, fmt.Sprintf("s-%d", i%50), 1)
	}
	var mu sync.Mutex
	acked := map[string]bool{}
	rounds := 0
	for ; len(acked) < events && rounds < 1_000; rounds++ {
		s, err := relay.NewSubscriber(relay.Config{Store: store, Name: "durable", Workers: 1 + rounds%8, Grace: -1, SaveEvery: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		messages, err := s.Subscribe(t.Context(), "prefix:s-")
		require.NoError(t, err)
		var handlers, closing sync.WaitGroup
		closeIt := sync.OnceFunc(func() {
			for range 3 {
				closing.Go(func() { _ = s.Close() }) // which is asked below
			}
		})
		late := time.AfterFunc(100*time.Millisecond, closeIt)
		n := 0
		for m := range messages {
			handlers.Go(func() {
				mu.Lock()
				defer mu.Unlock()
				acked[m.UUID] = true
				m.Ack()
			})
			if n++; n == 200 {
				closeIt()
			}
		}
		late.Stop()
		require.NoError(t, s.Close())
		closing.Wait()
		handlers.Wait()
		_, err = s.Subscribe(t.Context(), relay.All)
		require.ErrorContains(t, err, "closed")
	}
	require.Len(t, acked, events)
	require.Greater(t, rounds, 3)
	t.Logf("%d rounds", rounds)
}
