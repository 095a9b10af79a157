package driven_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/relay/driven"
	"github.com/rollforward/rollforward/internal/disorder"
	"github.com/rollforward/rollforward/internal/storefor"
)

// forward hands a log on to a broker, from now on, each event to the topic of its
// type, with several workers, until the test ends.
func forward(t *testing.T, store eventstore.Store, broker message.Publisher) {
	s, err := relay.NewSubscriber(relay.Config{Store: store, Name: "forward", Workers: 4, Logger: quiet, Grace: -1})
	require.NoError(t, err)
	messages, err := s.Subscribe(t.Context(), relay.All)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range messages {
			if err := broker.Publish(m.Metadata.Get(relay.KeyType), m.Copy()); err != nil {
				m.Nack()
			} else {
				m.Ack()
			}
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		<-done
	})
	require.Eventually(t, func() bool { return s.Status()[0].Holding }, time.Minute, time.Millisecond)
}

func goChannel(t *testing.T) *gochannel.GoChannel {
	broker := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	return broker
}

var topics = []string{"test.read", "relay.taken"}

func TestFoldsAreDrivenByABroker(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			store, broker := kind.New(t), goChannel(t)
			d := &disorder.Disorder{Seed: 9, Times: 5, Within: 50}
			config := driven.Config{Store: store, Subscriber: broker, Topics: topics, Decorators: []message.SubscriberDecorator{d.Decorate}, Late: -1}
			record(t, store, 20)
			f := start(t, config)
			same(t, f, store)
			require.EqualValues(t, 20, f.Status().Read, "what was there before is read from the log")

			config.Late = time.Second // for the lease, which is taken while the broker is not yet fed
			require.NoError(t, f.Close())
			f = start(t, config)
			same(t, f, store)
			forward(t, store, broker)
			record(t, store, 150)
			same(t, f, store)
			s := f.Status()
			t.Logf("seed 9: %d messages, %d taken, %d known, %d read from the log", d.Sent.Load(), s.Taken, s.Again, s.Read)
			require.Positive(t, s.Taken)
		})
	}
}

// What a broker takes for done when a process dies is not lost to it: it starts from
// the log.
func TestWhatWasAcknowledgedBeforeARestartIsNotLost(t *testing.T) {
	store, broker := storefor.Memory.New(t), goChannel(t)
	config := driven.Config{Store: store, Subscriber: broker, Topics: topics}
	f := start(t, config)
	require.NoError(t, f.WaitFor(within(t), 0))
	forward(t, store, broker)
	record(t, store, 30)
	same(t, f, store)
	require.NoError(t, f.Snapshot(within(t)))
	record(t, store, 30)
	same(t, f, store)
	require.NoError(t, f.Close()) // without a snapshot of the last thirty, as by a crash

	record(t, store, 5) // which go to nobody
	f = start(t, config)
	same(t, f, store)
	s := f.Status()
	require.Positive(t, s.Read)
	require.GreaterOrEqual(t, s.Read+s.Taken, uint64(35))
	require.NoError(t, f.Close())
}

// A router with middleware that fails before the folds have a message, and after.
func TestFoldsAreDrivenByARouterWhoseMiddlewareRefuses(t *testing.T) {
	store, broker := storefor.Memory.New(t), goChannel(t)
	f := start(t, driven.Config{Store: store, Handled: true, Late: -1})
	require.NoError(t, f.WaitFor(within(t), 0))
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Second}, watermill.NopLogger{})
	require.NoError(t, err)
	var calls, refused atomic.Uint64
	failing := func(h message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			n := calls.Add(1)
			if n%5 == 1 {
				refused.Add(1)
				return nil, errors.New("before")
			}
			out, err := h(m)
			if n%5 == 3 && err == nil {
				refused.Add(1)
				return nil, errors.New("after")
			}
			return out, err
		}
	}
	router.AddMiddleware(failing)
	router.AddConsumerHandler("folds", "test.read", broker, f.Handle)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- router.Run(ctx) }()
	<-router.Running()
	record(t, store, 100)
	for _, m := range messagesOf(t, store) {
		require.NoError(t, broker.Publish("test.read", m))
	}
	same(t, f, store)
	cancel()
	require.NoError(t, <-ran)
	s := f.Status()
	require.EqualValues(t, 100, s.Taken)
	require.Zero(t, s.Read)
	require.Positive(t, s.Again, "what was refused after it was taken came again")
	t.Logf("%d calls, %d refused, %d known already", calls.Load(), refused.Load(), s.Again)
}

// A subscriber that fails, or whose subscription ends, is subscribed to again.
func TestASubscriptionThatEndsIsBegunAgain(t *testing.T) {
	store := storefor.Memory.New(t)
	s := &fickle{messages: make(chan *message.Message)}
	f := start(t, driven.Config{Store: store, Subscriber: s, Late: -1})
	require.NoError(t, f.WaitFor(within(t), 0))
	record(t, store, 2)
	for _, m := range messagesOf(t, store) {
		s.messages <- m
	}
	same(t, f, store)
	require.GreaterOrEqual(t, s.subscribed.Load(), int64(4), "refused, one message, refused, one message")
	require.ErrorContains(t, f.Status().LastError, "topic \"all\"")
}

// fickle refuses every other subscription, and gives one message in the others.
type fickle struct {
	messages   chan *message.Message
	subscribed atomic.Int64
}

func (s *fickle) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	if s.subscribed.Add(1)%2 == 1 {
		return nil, errors.New("not now")
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		select {
		case m := <-s.messages:
			select {
			case out <- m:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}()
	return out, nil
}

func (s *fickle) Close() error { return nil }
