package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// bubble runs a test on an empty store, with a clock of its own.
func bubble(t *testing.T, f func(t *testing.T, store *memory.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		f(t, store)
	})
}

// record appends n events to a stream, each by itself.
func record(t *testing.T, store eventstore.Store, stream string, n int) (records []eventstore.Recorded) {
	t.Helper()
	for range n {
		r, err := store.Append(context.Background(), []eventstore.Event{{ID: uuid.New(), Stream: stream, Type: "test.done", Schema: 1, Data: []byte("{}")}})
		require.NoError(t, err)
		records = append(records, r...)
	}
	return records
}

// trial is a subscription whose messages are answered by a function, which is called
// in a goroutine of each message.
type trial struct {
	*relay.Subscriber
	t *testing.T

	mu     sync.Mutex
	got    []string // "stream/version", in the order of delivery
	ended  chan struct{}
	answer func(name string, m *message.Message)
}

func ack(_ string, m *message.Message) { m.Ack() }

// hold answers nothing until the message's context ends.
func hold(_ string, m *message.Message) { <-m.Context().Done() }

// refuse refuses for good what is named so, and acknowledges the rest.
func refuse(names ...string) func(string, *message.Message) {
	return func(name string, m *message.Message) {
		if slices.Contains(names, name) {
			relay.Failed(m, errors.New("out of order"))
			m.Nack()
		}
		m.Ack()
	}
}

// consume subscribes to what streams with names "s-" have; it ends with the test.
func consume(t *testing.T, store eventstore.Store, config relay.Config, answer func(string, *message.Message)) *trial {
	t.Helper()
	return consumeTopic(t, store, config, "prefix:s-", answer)
}

func consumeTopic(t *testing.T, store eventstore.Store, config relay.Config, topic string, answer func(string, *message.Message)) *trial {
	t.Helper()
	config.Store = store
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := relay.NewSubscriber(config)
	require.NoError(t, err)
	c := &trial{Subscriber: s, t: t, ended: make(chan struct{}), answer: answer}
	messages, err := s.Subscribe(context.Background(), topic)
	require.NoError(t, err)
	go func() {
		defer close(c.ended)
		for m := range messages {
			name := m.Metadata[relay.KeyStream] + "/" + m.Metadata[relay.KeyVersion]
			c.mu.Lock()
			c.got = append(c.got, name)
			answer := c.answer
			c.mu.Unlock()
			go answer(name, m)
		}
	}()
	t.Cleanup(c.close)
	return c
}

func (c *trial) close() {
	require.NoError(c.t, c.Close())
	<-c.ended
}

// answers has further messages be answered so.
func (c *trial) answers(answer func(string, *message.Message)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

// take returns what was delivered since it was last asked, once all is quiet.
func (c *trial) take() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

// after is take after some time.
func (c *trial) after(d time.Duration) []string {
	time.Sleep(d)
	return c.take()
}

func (c *trial) status() relay.Status {
	c.t.Helper()
	synctest.Wait()
	all := c.Status()
	require.Len(c.t, all, 1)
	return all[0]
}

// names are those of events, as a trial has them.
func names(records ...eventstore.Recorded) (names []string) {
	for _, r := range records {
		names = append(names, fmt.Sprintf("%s/%d", r.Stream, r.Version))
	}
	return names
}

func TestOneWorkerIsGivenTheLogInItsOrder(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var want []string
		for range 1_000 {
			want = append(want, names(record(t, store, fmt.Sprintf("s-%d", rand.IntN(20)), 1)...)...)
		}
		for _, name := range []string{"", "durable"} {
			require.Equal(t, want, consume(t, store, relay.Config{Name: name}, ack).take())
		}
	})
}

func TestSeveralWorkersAreGivenEachStreamInItsOrderAndStreamsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		for range 1_000 {
			record(t, store, fmt.Sprintf("s-%d", rand.IntN(20)), 1)
		}
		var mu sync.Mutex
		under, most := map[string]bool{}, 0
		c := consume(t, store, relay.Config{Name: "durable", Workers: 8}, func(_ string, m *message.Message) {
			stream := m.Metadata[relay.KeyStream]
			mu.Lock()
			if under[stream] {
				t.Errorf("two messages of %s are under way", stream)
			}
			under[stream] = true
			most = max(most, len(under))
			mu.Unlock()
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			mu.Lock()
			delete(under, stream)
			mu.Unlock()
			m.Ack()
		})
		got := c.after(10 * time.Minute)
		require.Len(t, got, 1_000)
		require.Equal(t, 8, most)
		next := map[string]int{}
		for _, name := range got {
			var stream, version int
			_, err := fmt.Sscanf(name, "s-%d/%d", &stream, &version)
			require.NoError(t, err)
			key := fmt.Sprint(stream)
			next[key]++
			require.Equal(t, next[key], version, name)
		}
	})
}

func TestTheNextMessageOfAStreamComesWhenTheOneBeforeIsAcknowledged(t *testing.T) {
	for _, workers := range []int{1, 8} {
		bubble(t, func(t *testing.T, store *memory.Store) {
			record(t, store, "s-1", 3)
			release := make(chan struct{})
			c := consume(t, store, relay.Config{Workers: workers}, func(_ string, m *message.Message) { <-release; m.Ack() })
			for _, want := range []string{"s-1/1", "s-1/2", "s-1/3"} {
				require.Equal(t, []string{want}, c.after(time.Hour))
				release <- struct{}{}
			}
			require.Empty(t, c.after(time.Hour))
		})
	}
}

func TestARefusedMessageComesAgainAfterAPauseThatDoubles(t *testing.T) {
	for _, workers := range []int{1, 8} {
		bubble(t, func(t *testing.T, store *memory.Store) {
			record(t, store, "s-1", 1)
			var at []time.Time
			c := consume(t, store, relay.Config{Workers: workers, FirstPause: time.Second, LastPause: 10 * time.Second}, func(_ string, m *message.Message) {
				at = append(at, time.Now()) // one at a time
				m.Nack()
			})
			c.after(time.Minute)
			require.Greater(t, len(at), 6)
			want := time.Second
			for i := 1; i < len(at); i++ {
				pause := at[i].Sub(at[i-1])
				require.LessOrEqual(t, pause, want, i)
				require.GreaterOrEqual(t, pause, want*8/10, i)
				want = min(2*want, 10*time.Second)
			}
			status := c.status()
			require.Len(t, status.Behind, 1)
			require.Equal(t, len(at), status.Behind[0].Attempts)
			require.Equal(t, at[0], status.Behind[0].Since)
			require.EqualValues(t, len(at), status.Refused)
			require.ErrorContains(t, status.LastError, "without a reason")
		})
	}
}

func TestOneWorkerWaitsForTheEventThatFails(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 1)
		record(t, store, "s-2", 1)
		c := consume(t, store, relay.Config{Name: "durable"}, refuse("s-1/1"))
		for _, name := range c.after(time.Hour) {
			require.Equal(t, "s-1/1", name)
		}
		require.Zero(t, c.status().Position)
		c.answers(ack)
		require.Equal(t, []string{"s-1/1", "s-2/1"}, c.after(time.Minute))
	})
}

func TestAStreamWaitsForItsEventThatFails(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 3)
		record(t, store, "s-2", 2)
		config := relay.Config{Name: "durable", Workers: 8}
		c := consume(t, store, config, refuse("s-1/2"))
		got := c.after(time.Hour)
		slices.Sort(got)
		require.Equal(t, []string{"s-1/1", "s-1/2", "s-2/1", "s-2/2"}, slices.Compact(got))
		status := c.status()
		require.EqualValues(t, 6, status.Position, "the checkpoint goes on, over the lease as well")
		require.Equal(t, "s-1", status.Behind[0].Stream)
		require.ErrorContains(t, status.Behind[0].Err, "out of order")
		c.close()

		// It is remembered, and nothing of the stream comes before.
		more := record(t, store, "s-1", 1)
		record(t, store, "s-2", 1)
		again := consume(t, store, config, refuse("s-1/2"))
		got = again.after(time.Hour)
		require.Contains(t, got, "s-2/3")
		require.Contains(t, got, "s-1/2")
		require.NotContains(t, got, "s-1/3")
		require.NotContains(t, got, "s-1/4")
		require.NotContains(t, got, "s-2/1")

		// It rejoins, in order, and what is recorded then comes by the main line.
		again.answers(ack)
		require.Equal(t, append([]string{"s-1/2", "s-1/3"}, names(more...)...), again.after(time.Hour))
		require.Empty(t, again.status().Behind)
		record(t, store, "s-1", 1)
		require.Equal(t, []string{"s-1/5"}, again.take())
	})
}

func TestMessagesThatDoNotEndAreOvertaken(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		release := make(chan struct{})
		hanging := func(name string, m *message.Message) {
			if name == "s-1/1" || name == "s-2/1" || name == "s-3/1" {
				<-release
			}
			m.Ack()
		}
		c := consume(t, store, relay.Config{Name: "durable", Workers: 4}, hanging)
		for _, stream := range []string{"s-1", "s-2", "s-3"} {
			record(t, store, stream, 2)
		}
		record(t, store, "s-4", 2_000)
		require.Len(t, c.after(time.Minute), 2_003)
		status := c.status()
		require.Equal(t, 3, status.UnderWay)
		require.Len(t, status.Behind, 3)
		require.Greater(t, status.Position, eventstore.Position(1_500))
		close(release)
		require.ElementsMatch(t, []string{"s-1/2", "s-2/2", "s-3/2"}, c.after(time.Minute))
		require.Empty(t, c.status().Behind)
	})
}

func TestTheMainLineWaitsWhenAThousandStreamsAreBehind(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		for i := range 2_000 {
			record(t, store, fmt.Sprintf("s-%d", i), 1)
		}
		c := consume(t, store, relay.Config{Name: "durable", Workers: 8}, func(_ string, m *message.Message) { m.Nack() })
		c.after(10 * time.Minute)
		status := c.status()
		require.GreaterOrEqual(t, len(status.Behind), 1_000)
		require.LessOrEqual(t, len(status.Behind), 1_000+2*256)
		require.Greater(t, status.Lag, uint64(500))
		t.Logf("%d are behind, %d are not read", len(status.Behind), status.Lag)
		c.answers(ack)
		require.Len(t, c.after(10*time.Minute), 2_000)
		status = c.status()
		require.Empty(t, status.Behind)
		require.Zero(t, status.Lag)
	})
}

// Where half of the streams fail for good, the other half does not wait for them.
func TestStreamsThatFailDoNotHoldUpTheMainLine(t *testing.T) {
	for _, workers := range []int{1, 4} {
		bubble(t, func(t *testing.T, store *memory.Store) {
			for i := range 500 {
				record(t, store, fmt.Sprintf("s-%d", i), 1)
			}
			slow := func(_ string, m *message.Message) { time.Sleep(time.Second); m.Nack() }
			c := consume(t, store, relay.Config{Name: "durable", Workers: max(workers, 2), LastPause: time.Second, Lease: time.Hour}, slow)
			c.after(20 * time.Minute)
			require.Len(t, c.status().Behind, 500)
			c.close()
			c = consume(t, store, relay.Config{Name: "durable", Workers: workers, LastPause: time.Second, Lease: time.Hour}, func(name string, m *message.Message) {
				if m.Metadata[relay.KeyStream] == "s-new" {
					time.Sleep(time.Second)
					m.Ack()
					return
				}
				slow(name, m)
			})
			record(t, store, "s-new", 20)
			c.after(time.Minute)
			require.Equal(t, eventstore.Position(0), eventstore.Position(c.status().Lag))
		})
	}
}

func TestAttemptsOfSeveralWorkersParkNothingWhileAllFails(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		for _, stream := range []string{"s-1", "s-2", "s-3"} {
			record(t, store, stream, 2)
		}
		c := consume(t, store, relay.Config{Name: "durable", Workers: 8, Attempts: 3}, func(_ string, m *message.Message) { m.Nack() })
		c.after(time.Hour)
		for _, b := range c.status().Behind {
			require.False(t, b.Parked)
			require.Greater(t, b.Attempts, 3)
		}
		// One works again: what fails on now has only itself to blame.
		c.answers(refuse("s-1/1"))
		c.after(time.Hour)
		status := c.status()
		require.Len(t, status.Behind, 1)
		require.True(t, status.Behind[0].Parked)
		require.Equal(t, "s-1/1", fmt.Sprintf("%s/%d", status.Behind[0].Stream, status.Behind[0].Position))
		require.Empty(t, c.after(time.Hour), "it is left alone")
	})
}

func TestAttemptsOfOneWorkerParkAnEventAndTheOthersGoOn(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 2)
		record(t, store, "s-2", 1)
		c := consume(t, store, relay.Config{Name: "durable", Attempts: 3}, refuse("s-1/1"))
		require.Equal(t, []string{"s-1/1", "s-1/1", "s-1/1", "s-2/1"}, c.after(time.Hour))
	})
}

func TestWithoutANameNothingIsParkedOrKept(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		first := record(t, store, "s-1", 2)
		c := consume(t, store, relay.Config{Attempts: 1}, refuse("s-1/1"))
		c.after(time.Hour)
		require.False(t, c.status().Behind[0].Parked)
		head, err := store.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, first[1].Position, head)
		require.Equal(t, []string{"s-1/2"}, consume(t, store, relay.Config{After: first[0].Position}, ack).take())
	})
}

func TestWhatExplainIsToldOfIsWhyTheEventFailed(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 1)
		why := errors.New("no printer")
		handler := relay.Explain(func(*message.Message) ([]*message.Message, error) { return nil, relay.Permanent(why) })
		c := consume(t, store, relay.Config{Name: "durable"}, func(_ string, m *message.Message) {
			_, err := handler(m)
			require.ErrorIs(t, err, why)
			m.Nack()
		})
		c.after(time.Hour)
		status := c.status()
		require.True(t, status.Behind[0].Parked)
		require.ErrorIs(t, status.LastError, why)
	})
	m := message.NewMessage("x", nil) // of another subscriber
	_, err := relay.Explain(func(*message.Message) ([]*message.Message, error) { return nil, errNoNetwork })(m)
	require.ErrorIs(t, err, errNoNetwork)
}

func TestAnEventOfWhichNoMessageCanBeMadeFailsLikeOneThatIsRefused(t *testing.T) {
	for _, workers := range []int{1, 4} {
		bubble(t, func(t *testing.T, store *memory.Store) {
			record(t, store, "s-1", 2)
			record(t, store, "s-2", 1)
			var mended atomic.Bool
			config := relay.Config{Name: "durable", Workers: workers, Message: func(r eventstore.Recorded) (*message.Message, error) {
				if !mended.Load() && r.Stream == "s-1" {
					return nil, errNoNetwork
				}
				return relay.Message(r)
			}}
			c := consume(t, store, config, ack)
			got := c.after(time.Hour)
			require.Equal(t, workers > 1, slices.Contains(got, "s-2/1"))
			require.NotContains(t, got, "s-1/1")
			require.ErrorIs(t, c.status().LastError, errNoNetwork)
			mended.Store(true)
			require.Subset(t, c.after(time.Hour), []string{"s-1/1", "s-1/2"})
		})
	}
}

func TestAttemptsBelowZeroAreWithoutEnd(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 1)
		record(t, store, "s-2", 500)
		c := consume(t, store, relay.Config{Name: "durable", Workers: 2, Attempts: -1}, func(name string, m *message.Message) {
			if name == "s-1/1" {
				m.Nack()
				return
			}
			select {
			case <-time.After(time.Minute):
				m.Ack()
			case <-m.Context().Done():
			}
		})
		c.after(10 * time.Hour)
		status := c.status()
		require.Len(t, status.Behind, 1)
		require.False(t, status.Behind[0].Parked)
		require.Greater(t, status.Behind[0].Attempts, 100)
	})
}

// What was acknowledged since the checkpoint was saved comes again after a crash, and
// nothing else.
func TestWhatWasAcknowledgedSinceTheLastSaveComesAgainAfterACrash(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var down atomic.Bool
		s := &tapped{store, func(context.Context, string) error {
			if down.Load() {
				return errNoNetwork
			}
			return nil
		}}
		config := relay.Config{Name: "durable", SaveEvery: 10 * time.Second, LastPause: time.Second}
		c := consume(t, s, config, ack)
		record(t, store, "s-1", 3)
		require.Len(t, c.after(11*time.Second), 3)
		record(t, store, "s-1", 2)
		require.Len(t, c.after(time.Second), 2)
		down.Store(true)
		c.close()
		require.Equal(t, []string{"s-1/4", "s-1/5"}, consume(t, store, config, ack).after(time.Minute))
	})
}
