package relay_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/race"
)

// worst is a subscriber that hands on each message of another one to five times,
// shuffled within a window.
type worst struct {
	message.Subscriber
	random *rand.Rand
	window int
	most   int // times that a message is handed on
	copies int // handed on so far
}

func (w *worst) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	messages, err := w.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		var waiting []*message.Message
		patience := 50 * time.Millisecond
		for open := true; open || len(waiting) > 0; {
			if open && len(waiting) < w.window {
				select {
				case m, more := <-messages:
					if open = more; more {
						for range 1 + w.random.IntN(w.most) {
							waiting = append(waiting, m.Copy())
						}
						m.Ack() // the broker's: what it hands on is no longer in order
					}
					patience = 50 * time.Millisecond
					continue
				case <-time.After(patience): // nothing more for now
					if patience = 0; len(waiting) == 0 {
						patience = 50 * time.Millisecond
						continue
					}
				}
			}
			i := w.random.IntN(len(waiting))
			m := waiting[i]
			waiting = slices.Delete(waiting, i, i+1)
			m.SetContext(ctx)
			w.copies++
			select {
			case out <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// effectsOf runs a typed handler whose effects are keyed commands over a log of
// doors that are opened, by way of a subscriber, and returns them sorted.
func effectsOf(t *testing.T, seed uint64, most, window int, key func(env relay.Envelope) string) (effects []string, copies int) {
	const events = 200
	store := memory.New()
	defer store.Close()
	registry := doors(t)
	door, err := command.Open(command.Config{Store: store, Registry: registry, Authorizer: command.AllowAll})
	require.NoError(t, err)
	for i := range events {
		raw(t, store, fmt.Sprintf("door-%d", i%40), "door.opened", 1, fmt.Sprintf(`{"by":"p%d"}`, i))
	}
	seen := map[string]bool{}
	var mu sync.Mutex
	done := make(chan struct{})
	h := relay.Handler{Name: "tell", Topic: "type:door.opened", Cases: []relay.Case{relay.On(func(ctx context.Context, e Opened, env relay.Envelope) error {
		call := env.Call(command.As("bot"))
		call.Action, call.Target, call.Key = "door.tell", env.Stream, key(env)
		_, err := door.Do(ctx, call, func(tx *command.Tx) error {
			if err := tx.Authorize("door.tell", env.Stream, nil); err != nil {
				return err
			}
			if _, err := tx.Check("told-" + env.Stream); err != nil {
				return err
			}
			return tx.Record("told-"+env.Stream, Told{Who: e.By})
		})
		return err
	})}}
	f, err := h.Func(registry)
	require.NoError(t, err)
	source, err := relay.NewSubscriber(relay.Config{Store: store, Name: "broker", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	w := &worst{Subscriber: source, random: rand.New(rand.NewPCG(seed, 1)), window: window, most: most}
	ctx, cancel := context.WithCancel(t.Context())
	messages, err := w.Subscribe(ctx, "type:door.opened")
	require.NoError(t, err)
	var handlers sync.WaitGroup
	quiet := time.AfterFunc(time.Minute, func() { close(done) })
	slots := make(chan struct{}, 4)
loop:
	for {
		select {
		case m, open := <-messages:
			if !open {
				break loop
			}
			slots <- struct{}{}
			handlers.Go(func() {
				defer func() { <-slots }()
				for f(m) != nil { // a broker would deliver it again
				}
				m.Ack()
				mu.Lock()
				defer mu.Unlock()
				if seen[m.UUID] = true; len(seen) == events {
					quiet.Reset(300 * time.Millisecond) // for the copies that are left
				}
			})
		case <-done:
			break loop
		}
	}
	require.NoError(t, source.Close())
	cancel()
	for range messages {
	}
	handlers.Wait()
	require.Len(t, seen, events)
	for r, err := range store.Read(t.Context(), eventstore.Query{Types: []string{"door.told"}}) {
		require.NoError(t, err)
		effects = append(effects, r.Stream+" "+string(r.Data))
	}
	require.NoError(t, door.Close(t.Context()))
	slices.Sort(effects)
	return effects, w.copies
}

func TestKeyedEffectsAreTheSameHoweverOftenAndInWhatOrderEventsCome(t *testing.T) {
	byEvent := func(env relay.Envelope) string { return env.Key() }
	plain, copies := effectsOf(t, 0, 1, 1, byEvent)
	require.Equal(t, 200, copies)
	require.Len(t, plain, 200)
	seeds := uint64(3)
	if race.Enabled {
		seeds = 1
	}
	for seed := range seeds {
		effects, copies := effectsOf(t, seed, 5, 50, byEvent)
		require.Equal(t, plain, effects)
		require.Greater(t, copies, 400)
		t.Logf("seed %d: 200 events came %d times, %d effects", seed, copies, len(effects))
	}
	// The control: keys that differ each time are none.
	effects, _ := effectsOf(t, 0, 5, 50, func(relay.Envelope) string { return uuid.NewString() })
	require.Greater(t, len(effects), 400)
}
