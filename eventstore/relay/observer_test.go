package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

type observed struct {
	N int `json:"n"`
}

// bystander writes down what it is told of calls, and marks their contexts.
type bystander struct {
	mu   sync.Mutex
	told []string
}

type mark struct{}

func (b *bystander) Delivery(ctx context.Context, env relay.Envelope) (context.Context, func(error)) {
	return context.WithValue(ctx, mark{}, true), func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		var panicked *relay.PanicError
		b.told = append(b.told, fmt.Sprintf("%s %s %d: failed %t, panicked %t", env.Handler, env.Stream, env.Attempt, err != nil, errors.As(err, &panicked)))
	}
}

// run runs handlers until the test ends, and returns once they have subscribed.
func run(t *testing.T, config relay.Config, all ...relay.Handler) *relay.Handlers {
	config.FirstPause, config.Logger = time.Millisecond, slog.New(slog.DiscardHandler)
	handlers, err := relay.New(config, all...)
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- handlers.Run(context.Background()) }()
	t.Cleanup(func() {
		require.NoError(t, handlers.Close())
		require.NoError(t, <-ran)
	})
	select {
	case <-handlers.Running():
	case err := <-ran:
		require.NoError(t, err)
	}
	return handlers
}

func observing(t *testing.T, store eventstore.Store) (r *eventstore.Registry, record func(stream string, payload any)) {
	r, err := eventstore.NewRegistry(append(relay.Types(), eventstore.Type[observed]("observed", 1))...)
	require.NoError(t, err)
	return r, func(stream string, payload any) {
		_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error { return tx.RecordBlind(stream, payload) })
		require.NoError(t, err)
	}
}

func TestAnObserverIsToldOfEveryCallAndWhatItComesTo(t *testing.T) {
	store, by := memory.New(), &bystander{}
	r, record := observing(t, store)
	calls, done := 0, make(chan bool)
	run(t, relay.Config{Store: store, Registry: r, Observer: by}, relay.Handler{Name: "h", Workers: 1, Cases: []relay.Case{
		relay.On(func(ctx context.Context, _ observed, _ relay.Envelope) error {
			if ctx.Value(mark{}) == nil {
				t.Error("the context is not that of the observer")
			}
			switch calls++; calls {
			case 1:
				return errors.New("no")
			case 2:
				panic("no")
			case 4:
				close(done)
			}
			return nil
		}),
	}})
	record("s-1", observed{1})
	record("s-2", observed{2})
	<-done
	require.Eventually(t, func() bool {
		by.mu.Lock()
		defer by.mu.Unlock()
		return len(by.told) == 4
	}, time.Minute, time.Millisecond)
	require.Equal(t, []string{
		"h s-1 1: failed true, panicked false", "h s-1 2: failed true, panicked true",
		"h s-1 3: failed false, panicked false", "h s-2 1: failed false, panicked false",
	}, by.told)
}

func TestAnEventWhoseTimeHasNotComeIsNeverParked(t *testing.T) {
	for name, before := range map[string]func() error{
		"it fails":            func() error { return errors.New("not yet") },
		"it fails for good":   func() error { return relay.Permanent(errors.New("not yet")) },
		"it fails in the way": func() error { return eventstore.ErrClosed },
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			r, record := observing(t, store)
			var mu sync.Mutex
			tries, ready := 0, false
			got := make(chan string, 10)
			handlers := run(t, relay.Config{Store: store, Registry: r, Attempts: 2, Before: func(ctx context.Context, env relay.Envelope) error {
				if _, ends := ctx.Deadline(); !ends {
					t.Error("its context has no end")
				}
				mu.Lock()
				defer mu.Unlock()
				if env.Stream == "other" || ready {
					return nil
				}
				tries++
				return before()
			}}, relay.Handler{Name: "h", Cases: []relay.Case{relay.On(func(_ context.Context, _ observed, env relay.Envelope) error {
				got <- env.Stream
				return nil
			})}})
			record("s", observed{1})
			require.Eventually(t, func() bool {
				record("other", observed{1}) // others go well meanwhile
				mu.Lock()
				defer mu.Unlock()
				return tries >= 5
			}, time.Minute, time.Millisecond)
			require.Len(t, handlers.Status()[0].Behind, 1)
			require.False(t, handlers.Status()[0].Behind[0].Parked)
			mu.Lock()
			ready = true
			mu.Unlock()
			for stream := range got {
				if stream == "s" {
					break
				}
			}
		})
	}
}

// slowVersion is a store in which who asks for the version of a stream, as that of a
// lease, waits.
type slowVersion struct {
	*memory.Store
	proceed chan struct{}
}

func (s *slowVersion) Version(ctx context.Context, stream string) (uint64, error) {
	select {
	case <-s.proceed:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return s.Store.Version(ctx, stream)
}

func TestANewConsumerBeginsWithWhatIsRecordedOnceItHasSubscribed(t *testing.T) {
	inner := memory.New()
	store := &slowVersion{Store: inner, proceed: make(chan struct{})}
	r, record := observing(t, inner)
	record("s", observed{1})
	subscriber, err := relay.NewSubscriber(relay.Config{Store: store, Name: "c", FromNow: true})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(context.Background(), relay.ByType("observed"))
	require.NoError(t, err)
	got := make(chan int, 10)
	run(t, relay.Config{Store: store, Registry: r}, relay.Handler{Name: "h", Cases: []relay.Case{relay.On(func(_ context.Context, o observed, _ relay.Envelope) error {
		got <- o.N
		return nil
	})}})
	record("s", observed{2}) // nobody has taken a lease yet
	close(store.proceed)
	m := <-messages
	require.JSONEq(t, `{"n":2}`, string(m.Payload))
	m.Ack()
	require.Equal(t, 2, <-got)
	require.NoError(t, subscriber.Close())
}
