package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// The domain of these tests: a door is opened, and somebody is told.

type Opened struct {
	By string `json:"by"`
}

type Told struct {
	Who string `json:"who"`
}

func registryOf(t testing.TB, types ...eventstore.EventType) *eventstore.Registry {
	t.Helper()
	r, err := eventstore.NewRegistry(append(append(relay.Types(), command.Types()...), types...)...)
	require.NoError(t, err)
	return r
}

func doors(t testing.TB) *eventstore.Registry {
	return registryOf(t, eventstore.Type[Opened]("door.opened", 1), eventstore.Type[Told]("door.told", 1))
}

// raw appends an event as it is.
func raw(t testing.TB, store eventstore.Store, stream, name string, schema int, data string) eventstore.Recorded {
	t.Helper()
	r, err := store.Append(context.Background(), []eventstore.Event{{ID: uuid.New(), Stream: stream, Type: name, Schema: schema, Data: []byte(data)}})
	require.NoError(t, err)
	return r[0]
}

func opened(t testing.TB, store eventstore.Store, stream, by string) eventstore.Recorded {
	t.Helper()
	return raw(t, store, stream, "door.opened", 1, fmt.Sprintf(`{"by":%q}`, by))
}

// calls is what a handler was called with.
type calls struct {
	mu   sync.Mutex
	list []string
}

func (c *calls) add(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, s)
}

func (c *calls) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

// tell is a handler that notes by whom a door was opened and returns what f says.
func tell(c *calls, f func(ctx context.Context, e Opened, env relay.Envelope) error) relay.Handler {
	return relay.Handler{Name: "tell", History: true, Cases: []relay.Case{relay.On(func(ctx context.Context, e Opened, env relay.Envelope) error {
		c.add(e.By)
		if f == nil {
			return nil
		}
		return f(ctx, e, env)
	})}}
}

// handle runs handlers until the test ends, or until what it returns is called.
func handle(t *testing.T, config relay.Config, handlers ...relay.Handler) (h *relay.Handlers, end func() error) {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	h, err := relay.New(config, handlers...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.Run(ctx) }()
	end = sync.OnceValue(func() error { cancel(); return <-ran })
	t.Cleanup(func() { _ = end() }) // those who care have looked
	select {
	case <-h.Running():
	case err := <-ran:
		ran <- err
		require.NoError(t, err)
	}
	return h, end
}

func TestAHandlerIsGivenItsTypesOfItsTopic(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var got, other calls
		h := tell(&got, nil)
		every := relay.Handler{Name: "every", Topic: relay.ByPrefix("door-2"), History: true, Cases: []relay.Case{
			relay.On(func(context.Context, Told, relay.Envelope) error { other.add("told"); return nil }),
			relay.Any(func(_ context.Context, env relay.Envelope) error { other.add(env.Type); return nil }),
		}}
		opened(t, store, "door-1", "ann")
		raw(t, store, "door-2", "door.told", 1, `{"who":"bob"}`)
		raw(t, store, "door-2", "door.painted", 7, `"any"`)
		opened(t, store, "door-2", "cleo")
		_, end := handle(t, relay.Config{Store: store, Registry: doors(t)}, h, every)
		synctest.Wait()
		require.ElementsMatch(t, []string{"ann", "cleo"}, got.take()) // of two streams
		require.Equal(t, []string{"told", "door.painted", "door.opened"}, other.take())
		require.NoError(t, end())
	})
}

func TestANewHandlerBeginsWithWhatIsRecordedFromThenOn(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var got calls
		h := tell(&got, nil)
		h.History = false
		opened(t, store, "door-1", "long past")
		_, end := handle(t, relay.Config{Store: store, Registry: doors(t)}, h)
		opened(t, store, "door-1", "ann")
		synctest.Wait()
		require.Equal(t, []string{"ann"}, got.take())
		require.NoError(t, end())
		opened(t, store, "door-1", "bob")
		handle(t, relay.Config{Store: store, Registry: doors(t)}, h)
		synctest.Wait()
		require.Equal(t, []string{"bob"}, got.take())
	})
}

func TestAHandlerWhoseTopicChangesGoesOnFromWhereItIs(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var got calls
		opened(t, store, "door-1", "ann")
		raw(t, store, "door-1", "door.told", 1, `{"who":"x"}`)
		_, end := handle(t, relay.Config{Store: store, Registry: doors(t)}, tell(&got, nil))
		synctest.Wait()
		require.NoError(t, end())
		require.Equal(t, []string{"ann"}, got.take())
		more := tell(&got, nil)
		more.Cases = append(more.Cases, relay.On(func(_ context.Context, e Told, _ relay.Envelope) error { got.add(e.Who); return nil }))
		raw(t, store, "door-1", "door.told", 1, `{"who":"y"}`)
		handle(t, relay.Config{Store: store, Registry: doors(t)}, more)
		synctest.Wait()
		require.Equal(t, []string{"y"}, got.take())
	})
}

func TestWhatCannotBeReadIsNeverParkedAndComesAfterAnUpgrade(t *testing.T) {
	type Later struct {
		By  string `json:"by"`
		Why string `json:"why"`
	}
	deep := strings.Repeat(`{"by":`, 99) + `"x"` + strings.Repeat("}", 99)
	for name, c := range map[string]struct {
		typed  error
		schema int
		kind   string
		data   string
	}{
		"a future schema":    {eventstore.ErrFutureSchema, 2, "door.opened", `{"by":"ann","why":"x"}`},
		"a malformed one":    {eventstore.ErrMalformed, 1, "door.opened", `{"by":7}`},
		"a number too large": {eventstore.ErrMalformed, 1, "door.opened", `{"by":1e400}`},
		"a deep one":         {eventstore.ErrMalformed, 1, "door.opened", deep},
	} {
		for _, workers := range []int{1, 8} {
			t.Run(fmt.Sprintf("%s, %d workers", name, workers), func(t *testing.T) {
				bubble(t, func(t *testing.T, store *memory.Store) {
					var got calls
					h := tell(&got, nil)
					h.Workers, h.Attempts = workers, 2
					opened(t, store, "door-2", "first")
					bad := raw(t, store, "door-1", c.kind, c.schema, c.data)
					opened(t, store, "door-1", "behind it")
					opened(t, store, "door-2", "elsewhere")
					handlers, end := handle(t, relay.Config{Store: store, Registry: doors(t)}, h)
					time.Sleep(time.Hour)
					want := []string{"first"}
					if workers > 1 {
						want = append(want, "elsewhere")
					}
					require.Equal(t, want, got.take())
					status := handlers.Status()[0]
					require.Len(t, status.Behind, 1)
					require.False(t, status.Behind[0].Parked)
					require.Greater(t, status.Behind[0].Attempts, 2)
					var unreadable *eventstore.DecodeError
					require.ErrorAs(t, status.LastError, &unreadable)
					require.ErrorIs(t, status.LastError, c.typed)
					require.Equal(t, bad.ID, unreadable.ID)
					if workers == 1 {
						require.Less(t, status.Position, bad.Position, "the checkpoint does not pass it")
					}
					require.NoError(t, end())

					upgraded := registryOf(t, eventstore.Type[Later]("door.opened", 2, eventstore.Upcast(1, func(o struct {
						By any `json:"by"`
					}) (Later, error) {
						by, _ := o.By.(string)
						return Later{By: by}, nil
					})))
					now := relay.Handler{Name: "tell", Workers: workers, Cases: []relay.Case{relay.On(func(_ context.Context, e Later, env relay.Envelope) error {
						got.add(fmt.Sprintf("%s/%d", env.Stream, env.Version))
						return nil
					})}}
					if c.typed == eventstore.ErrMalformed && name != "a malformed one" { // it no longer looks
						now.Cases[0] = relay.Any(func(_ context.Context, env relay.Envelope) error {
							got.add(fmt.Sprintf("%s/%d", env.Stream, env.Version))
							return nil
						})
						now.Topic = relay.ByType("door.opened")
					}
					handle(t, relay.Config{Store: store, Registry: upgraded}, now)
					time.Sleep(time.Hour)
					want = []string{"door-1/1", "door-1/2"}
					if workers == 1 {
						want = append(want, "door-2/2")
					}
					require.Equal(t, want, got.take())
				})
			})
		}
	}
}

func TestAHandlerOfATypeThatTheRegistryLacksIsRefused(t *testing.T) {
	_, err := relay.New(relay.Config{Store: memory.New(), Registry: registryOf(t)}, tell(&calls{}, nil))
	require.ErrorIs(t, err, eventstore.ErrUnknownType)
}

func TestAHandlerThatPanicsFailsWithItsStackAndIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var got calls
		opened(t, store, "door-1", "ann")
		handlers, end := handle(t, relay.Config{Store: store, Registry: doors(t)}, tell(&got, func(_ context.Context, _ Opened, env relay.Envelope) error {
			if env.Attempt < 3 {
				panic("it is broken")
			}
			return nil
		}))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"ann", "ann", "ann"}, got.take())
		status := handlers.Status()[0]
		var panicked *relay.PanicError
		require.ErrorAs(t, status.LastError, &panicked)
		require.Equal(t, "it is broken", panicked.Value)
		require.Contains(t, string(panicked.Stack), "handler_test.go")
		require.Equal(t, "panic: it is broken", panicked.Error())
		require.EqualValues(t, 1, status.Acknowledged)
		require.EqualValues(t, 2, status.Refused)
		require.NoError(t, end())
	})
}

func TestAHandlerThatHeedsItsContextIsCalledAgainAfterItsTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var got calls
		opened(t, store, "door-1", "ann")
		h := tell(&got, func(ctx context.Context, _ Opened, env relay.Envelope) error {
			if env.Attempt > 1 {
				return nil
			}
			began := time.Now()
			<-ctx.Done()
			require.Equal(t, 7*time.Second, time.Since(began))
			return ctx.Err()
		})
		h.Timeout = 7 * time.Second
		handlers, _ := handle(t, relay.Config{Store: store, Registry: doors(t)}, h)
		time.Sleep(time.Minute)
		require.Len(t, got.take(), 2)
		require.ErrorIs(t, handlers.Status()[0].LastError, context.DeadlineExceeded)
	})
}

func TestHandlersAtWorkAreGivenTheTimeOfGraceAlsoWhenTheContextOfRunEnds(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var got calls
		opened(t, store, "door-1", "ann")
		_, end := handle(t, relay.Config{Store: store, Registry: doors(t), Grace: 10 * time.Second}, tell(&got, func(ctx context.Context, _ Opened, _ relay.Envelope) error {
			select {
			case <-time.After(9 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
		synctest.Wait()
		require.NoError(t, end())
		opened(t, store, "door-1", "bob")
		handlers, _ := handle(t, relay.Config{Store: store, Registry: doors(t)}, tell(&got, nil))
		time.Sleep(time.Second)
		require.Equal(t, []string{"ann", "bob"}, got.take(), "it was acknowledged, and saved")
		require.EqualValues(t, 1, handlers.Status()[0].Acknowledged)
	})
}

// Shutdown ends within Grace and the time to let go of leases, whatever handlers do.
// It is by the machine's clock: Watermill's router waits for a lock.
func TestClosingEndsInTimeAndNamesTheHandlerThatDoesNot(t *testing.T) {
	t.Parallel()
	store := memory.New()
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	var got calls
	opened(t, store, "door-1", "ann")
	called, release := make(chan struct{}), make(chan struct{})
	_, end := handle(t, relay.Config{Store: store, Registry: doors(t), Grace: 100 * time.Millisecond}, tell(&got, func(context.Context, Opened, relay.Envelope) error {
		close(called)
		<-release // it ignores its context
		return nil
	}))
	<-called
	began := time.Now()
	err := end()
	require.ErrorIs(t, err, relay.ErrAtWork)
	require.ErrorContains(t, err, "tell")
	require.Less(t, time.Since(began), 30*time.Second) // 5 s and a little on a machine with time
	t.Logf("it took %s", time.Since(began))
	close(release)

	// It is not taken for done, and the lease was let go: it comes again at once.
	again := make(chan struct{})
	handle(t, relay.Config{Store: store, Registry: doors(t), Lease: time.Hour}, tell(&got, func(context.Context, Opened, relay.Envelope) error {
		close(again)
		return nil
	}))
	<-again
}

func TestAHandlerWaitsForWhatHasToBeSoFirstAndIsNeverParkedForIt(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var got calls
		opened(t, store, "door-1", "ann")
		opened(t, store, "door-2", "bob")
		var mu sync.Mutex
		ready := false
		h := tell(&got, nil)
		h.Attempts = 1
		handlers, _ := handle(t, relay.Config{Store: store, Registry: doors(t), Before: func(_ context.Context, env relay.Envelope) error {
			mu.Lock()
			defer mu.Unlock()
			if env.Stream == "door-1" && !ready {
				return relay.Permanent(errors.New("the folds are behind"))
			}
			return nil
		}}, h)
		time.Sleep(time.Hour)
		require.Equal(t, []string{"bob"}, got.take())
		require.False(t, handlers.Status()[0].Behind[0].Parked)
		mu.Lock()
		ready = true
		mu.Unlock()
		time.Sleep(time.Hour)
		require.Equal(t, []string{"ann"}, got.take())
	})
}

func TestAnEnvelopeSaysWhatAnEffectNeeds(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		meta, err := eventstore.Metadata{Actor: "ann", Correlation: "all of it"}.Encode()
		require.NoError(t, err)
		e := eventstore.Event{ID: uuid.New(), Stream: "door-1", Type: "door.opened", Schema: 1, Data: []byte(`{"by":"ann"}`), Meta: meta}
		records, err := store.Append(t.Context(), []eventstore.Event{e})
		require.NoError(t, err)
		plain := opened(t, store, "door-1", "bob")
		envs := make(chan relay.Envelope, 2)
		handle(t, relay.Config{Store: store, Registry: doors(t)}, tell(&calls{}, func(_ context.Context, _ Opened, env relay.Envelope) error {
			envs <- env
			return nil
		}))
		env := <-envs
		require.Equal(t, records[0], env.Recorded)
		require.Equal(t, "ann", env.Metadata.Actor)
		require.Equal(t, 1, env.Attempt)
		require.Equal(t, "tell/"+e.ID.String(), env.Key())
		require.Equal(t, "tell/"+e.ID.String()+"/mail/x", env.Key("mail", "x"))
		long := strings.Repeat("x", 200)
		require.LessOrEqual(t, len(env.Key(long)), command.MaxKey)
		require.Equal(t, env.Key(long), env.Key(long))
		require.NotEqual(t, env.Key(long), env.Key(long+"x"))
		require.NotEqual(t, env.Key(long, "y"), env.Key(long+"/y"))
		require.Equal(t, command.Call{
			Actor: command.As("bot"), Key: env.Key("a"), Correlation: "all of it", Causation: e.ID, Fence: []eventstore.Expect{eventstore.At("lease-tell", 1)},
		}, env.Call(command.As("bot"), "a"))
		require.Equal(t, env.Call(command.As("bot")).Fence, env.Fence())
		require.Equal(t, plain.ID.String(), (<-envs).Call(command.As("bot")).Correlation, "an event without one begins an undertaking")
	})
}

func TestAHandlersFunctionTakesMessagesOfOtherSubscribers(t *testing.T) {
	var got calls
	h := tell(&got, func(_ context.Context, _ Opened, env relay.Envelope) error {
		require.Empty(t, env.Fence())
		require.Equal(t, 1, env.Attempt)
		return nil
	})
	f, err := h.Func(doors(t))
	require.NoError(t, err)
	m, err := relay.Message(eventstore.Recorded{
		Event:   eventstore.Event{ID: uuid.New(), Stream: "door-1", Type: "door.opened", Schema: 1, Data: []byte(`{"by":"ann"}`)},
		Version: 1, Position: 1, Append: 1, RecordedAt: time.Now().UTC(),
	})
	require.NoError(t, err)
	require.NoError(t, f(m))
	require.Equal(t, []string{"ann"}, got.take())
	require.ErrorIs(t, f(message.NewMessage("x", nil)), relay.ErrNotAnEvent)
	_, err = relay.Handler{}.Func(doors(t))
	require.ErrorContains(t, err, "name")
}

func TestHandlersThatCannotWorkAreRefused(t *testing.T) {
	on := relay.On(func(context.Context, Opened, relay.Envelope) error { return nil })
	anyEvent := relay.Any(func(context.Context, relay.Envelope) error { return nil })
	good := relay.Handler{Name: "a", Cases: []relay.Case{on}}
	for want, handlers := range map[string][]relay.Handler{
		"has a name of at most 64 bytes": {{Cases: []relay.Case{on}}},
		"at most 64 bytes":               {{Name: strings.Repeat("x", 65), Cases: []relay.Case{on}}},
		"has no cases":                   {{Name: "a"}},
		"an empty case":                  {{Name: "a", Cases: []relay.Case{{}}}},
		"two cases for any event":        {{Name: "a", Topic: relay.All, Cases: []relay.Case{anyEvent, anyEvent}}},
		`two cases for "door.opened"`:    {{Name: "a", Cases: []relay.Case{on, on}}},
		"say of which Topic":             {{Name: "a", Cases: []relay.Case{anyEvent}}},
		"two handlers are called":        {good, good},
		"there are no topics by":         {{Name: "a", Topic: "x:y", Cases: []relay.Case{on}}},
		"not negative":                   {{Name: "a", Cases: []relay.Case{on}, Workers: -1}},
	} {
		_, err := relay.New(relay.Config{Store: memory.New(), Registry: doors(t)}, handlers...)
		require.ErrorContains(t, err, want)
	}
	_, err := relay.New(relay.Config{Store: memory.New()}, good)
	require.ErrorContains(t, err, "Registry")
	_, err = relay.New(relay.Config{Registry: doors(t)}, good)
	require.ErrorContains(t, err, "Store")
}

func TestHandlersRunOnceAndEndWithTheContext(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		h, end := handle(t, relay.Config{Store: store, Registry: doors(t)}, tell(&calls{}, nil))
		require.ErrorContains(t, h.Run(t.Context()), "run once")
		require.NoError(t, end())
		require.NoError(t, h.Close())

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		h, err := relay.New(relay.Config{Store: store, Registry: doors(t), Logger: slog.New(slog.DiscardHandler)}, tell(&calls{}, nil))
		require.NoError(t, err)
		require.Equal(t, []relay.Status{{Consumer: "tell", Topic: "type:door.opened"}}, h.Status())
		require.ErrorIs(t, h.Run(ended), context.Canceled, "it has not begun")
	})
}
