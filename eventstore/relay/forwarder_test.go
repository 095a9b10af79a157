package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// forwardConfig is one by which a forwarder of tests runs.
func forwardConfig(store eventstore.Store) relay.Config {
	return relay.Config{Store: store, Name: trialName, Grace: time.Second, Logger: slog.New(slog.DiscardHandler)}
}

// forwarding from a store to a broker, in the background.
func forwardTo(t *testing.T, config relay.Config, b *fakeBroker) (f *relay.Forwarder, stop func()) {
	t.Helper()
	f, err := relay.NewForwarder(config, trialTopic, relay.Destination{Publisher: b.publisher(), Timeout: trialTimeout})
	require.NoError(t, err)
	return f, runForwarder(t, f.Run)
}

// behindOf returns how the event of a stream stands that it waits for.
func behindOf(f *relay.Forwarder, stream string) (relay.Behind, bool) {
	for _, b := range f.Status().Behind {
		if b.Stream == stream {
			return b, true
		}
	}
	return relay.Behind{}, false
}

func TestAnOutageOfTheBrokerParksNothing(t *testing.T) {
	for name, down := range map[string]func(since time.Duration) bool{
		"for an hour": func(since time.Duration) bool { return since < time.Hour },
		// Now and then a message gets through, and others fail that have failed often.
		"that comes and goes": func(since time.Duration) bool {
			return since < time.Hour && since%(10*time.Minute) > 100*time.Millisecond
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := storefor.Memory.New(t)
				began := time.Now()
				b := &fakeBroker{}
				b.plan = func(r eventstore.Recorded, _ int) fakeVerdict {
					if r.Stream == "told-under-way" && time.Since(began) < 2*time.Second {
						return fakeVerdict{wait: time.Second} // it ends well when others have failed once
					}
					if since := time.Since(began); since < 100*time.Millisecond || down(since) {
						return fakeVerdict{refuse: errBrokerDown}
					}
					return fakeVerdict{wait: 50 * time.Millisecond}
				}
				tellStream(t, store, "told-under-way", 0)
				for n := range 40 {
					tellStream(t, store, fmt.Sprintf("told-%d", n%20), n)
				}
				f, stop := forwardTo(t, forwardConfig(store), b)
				time.Sleep(50 * time.Minute)
				require.ErrorIs(t, f.Status().LastError, errBrokerDown)
				time.Sleep(20 * time.Minute)
				require.Empty(t, forwarderDecisions(t, store, trialName))
				require.Empty(t, f.Status().Behind)
				stop()
				require.NoError(t, b.check(forwardedLog(t, store, trialTopic), nil))
			})
		})
	}
}

func TestAMessageThatTheBrokerNeverTakesIsParkedAndRetriedOrSkipped(t *testing.T) {
	for name, skip := range map[string]bool{"retried": false, "skipped": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := storefor.Memory.New(t)
				poison := tellStream(t, store, "told-poison", 1)
				tellStream(t, store, "told-poison", 2)
				var healed atomic.Bool
				b := &fakeBroker{plan: func(r eventstore.Recorded, _ int) fakeVerdict {
					if r.ID == poison.ID && !healed.Load() {
						return fakeVerdict{refuse: errPoisonous}
					}
					return fakeVerdict{}
				}}
				f, stop := forwardTo(t, forwardConfig(store), b)
				for n := range 300 {
					tellStream(t, store, "told-other", n)
					time.Sleep(time.Second)
				}
				require.Equal(t, map[uuid.UUID]string{poison.ID: "relay.parked"}, forwarderDecisions(t, store, trialName))
				behind, _ := behindOf(f, "told-poison")
				require.True(t, behind.Parked)
				arrived, published := b.count(poison.ID)
				require.Zero(t, arrived)
				require.GreaterOrEqual(t, published, 10)
				require.LessOrEqual(t, published, 15, "an attempt counts where others went well meanwhile")
				require.Zero(t, f.Status().Lag)

				left := map[uuid.UUID]bool{}
				if skip {
					left[poison.ID] = true
					decideForForwarder(t, store, func(tx *eventstore.Tx) error { return relay.Skip(tx, trialName, poison.ID) })
				} else {
					healed.Store(true)
					decideForForwarder(t, store, func(tx *eventstore.Tx) error { return relay.Retry(tx, trialName, poison.ID) })
				}
				time.Sleep(2 * time.Second)
				stop()
				require.NoError(t, b.check(forwardedLog(t, store, trialTopic), left))
			})
		})
	}
}

func TestAPublishThatHangsHoldsItsStreamOnly(t *testing.T) {
	for _, end := range []struct {
		name   string
		refuse error // how it ends
		times  int   // that the event is published
	}{
		{"and then ends well: it is not published again", nil, 1},
		{"and then fails: it is published again", errBrokerDown, 2},
	} {
		t.Run(end.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := storefor.Memory.New(t)
				hanging := tellStream(t, store, "told-hanging", 1)
				next := tellStream(t, store, "told-hanging", 2)
				hold := make(chan struct{})
				b := &fakeBroker{plan: func(r eventstore.Recorded, attempt int) fakeVerdict {
					if r.ID == hanging.ID && attempt == 1 {
						return fakeVerdict{hold: hold, refuse: end.refuse}
					}
					return fakeVerdict{}
				}}
				config := forwardConfig(store)
				config.Workers, config.Attempts = 2, -1
				f, stop := forwardTo(t, config, b)
				time.Sleep(trialTimeout + time.Second)
				behind, found := behindOf(f, "told-hanging")
				require.True(t, found)
				require.ErrorIs(t, behind.Err, context.DeadlineExceeded)
				for n := range 100 {
					other := tellStream(t, store, "told-other", n)
					time.Sleep(time.Second)
					arrived, _ := b.count(other.ID)
					require.Equal(t, 1, arrived, "others go on at once")
				}
				_, published := b.count(hanging.ID)
				require.Equal(t, 1, published, "no second publish while the first goes on")
				_, published = b.count(next.ID)
				require.Zero(t, published)
				close(hold)
				time.Sleep(2 * time.Minute)
				_, published = b.count(hanging.ID)
				require.Equal(t, end.times, published)
				stop()
				require.NoError(t, b.check(forwardedLog(t, store, trialTopic), nil))
			})
		})
	}
}

func TestAPublishThatHangsOnIsParkedAndHoldsItsStreamUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storefor.Memory.New(t)
		hanging := tellStream(t, store, "told-hanging", 1)
		next := tellStream(t, store, "told-hanging", 2)
		hold := make(chan struct{})
		b := &fakeBroker{plan: func(r eventstore.Recorded, _ int) fakeVerdict {
			if r.ID == hanging.ID {
				return fakeVerdict{hold: hold, refuse: errBrokerDown}
			}
			return fakeVerdict{}
		}}
		f, stop := forwardTo(t, forwardConfig(store), b)
		for n := range 300 {
			tellStream(t, store, "told-other", n)
			time.Sleep(time.Second)
		}
		require.Equal(t, map[uuid.UUID]string{hanging.ID: "relay.parked"}, forwarderDecisions(t, store, trialName))

		decideForForwarder(t, store, func(tx *eventstore.Tx) error { return relay.Skip(tx, trialName, hanging.ID) })
		time.Sleep(5 * time.Second)
		behind, _ := behindOf(f, "told-hanging")
		require.Equal(t, next.ID, behind.Event)
		require.ErrorContains(t, behind.Err, hanging.ID.String(), "it is said which publish goes on")
		close(hold)
		time.Sleep(time.Minute)
		stop()
		require.NoError(t, b.check(forwardedLog(t, store, trialTopic), map[uuid.UUID]bool{hanging.ID: true}))
	})
}

func TestManyStreamsThatHangDoNotTakeTheWorkersOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hung = 200
		store := storefor.Memory.New(t)
		hold := make(chan struct{})
		b := &fakeBroker{plan: func(r eventstore.Recorded, _ int) fakeVerdict {
			if r.Stream != "told-other" {
				return fakeVerdict{hold: hold}
			}
			return fakeVerdict{}
		}}
		for n := range hung {
			tellStream(t, store, fmt.Sprintf("told-%d", n), n)
		}
		config := forwardConfig(store)
		config.Attempts = -1
		_, stop := forwardTo(t, config, b)
		time.Sleep(hung / 8 * (trialTimeout + time.Second)) // each of them once
		for n := range 100 {
			other := tellStream(t, store, "told-other", n)
			time.Sleep(100 * time.Millisecond)
			arrived, _ := b.count(other.ID)
			require.Equal(t, 1, arrived, "event %d", n)
		}
		close(hold)
		time.Sleep(2 * time.Minute)
		stop()
		require.NoError(t, b.check(forwardedLog(t, store, trialTopic), nil))
	})
}

func TestWhatWasPublishedAndNotSavedComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storefor.Memory.New(t)
		for n := range 20 {
			tellStream(t, store, fmt.Sprintf("told-%d", n%3), n)
		}
		log := forwardedLog(t, store, trialTopic)
		b := &fakeBroker{}
		config := forwardConfig(store)
		dying := &mortalStore{Store: store}
		config.Store, config.SaveEvery = dying, time.Hour // nothing is saved before the crash
		config.Lease = 2 * time.Hour
		_, stop := forwardTo(t, config, b)
		time.Sleep(time.Second)
		require.NoError(t, b.check(log, nil))
		dying.dead.Store(true)
		stop()

		config.Store = store
		_, stop = forwardTo(t, config, b)
		time.Sleep(3 * time.Hour) // the lease of the dead
		stop()
		require.NoError(t, b.check(log, nil))
		for _, r := range log {
			arrived, _ := b.count(r.ID)
			require.Equal(t, 2, arrived)
		}

		_, stop = forwardTo(t, config, b) // it was closed well: nothing comes a third time
		time.Sleep(time.Minute)
		stop()
		require.Len(t, b.arrived, 40)
	})
}

func TestWhatPanicsOrHasNoTopicFails(t *testing.T) {
	for _, bad := range []struct {
		name  string
		to    func(r eventstore.Recorded) string
		plan  func(r eventstore.Recorded, attempt int) fakeVerdict
		check func(t *testing.T, err error)
	}{
		{"the publisher", nil, func(eventstore.Recorded, int) fakeVerdict { return fakeVerdict{panics: true} }, func(t *testing.T, err error) {
			var panicked *relay.PanicError
			require.ErrorAs(t, err, &panicked)
			require.Equal(t, "the publisher panics", panicked.Value)
			require.NotEmpty(t, panicked.Stack)
		}},
		{"To", func(eventstore.Recorded) string { panic("To panics") }, nil, func(t *testing.T, err error) {
			var panicked *relay.PanicError
			require.ErrorAs(t, err, &panicked)
		}},
		{"no topic", func(eventstore.Recorded) string { return "" }, nil, func(t *testing.T, err error) {
			require.ErrorContains(t, err, `no topic for event type "test.told"`)
		}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := storefor.Memory.New(t)
				tellStream(t, store, "told-1", 1)
				f, err := relay.NewForwarder(forwardConfig(store), trialTopic, relay.Destination{Publisher: (&fakeBroker{plan: bad.plan}).publisher(), To: bad.to})
				require.NoError(t, err)
				stop := runForwarder(t, f.Run)
				time.Sleep(time.Minute)
				behind, found := behindOf(f, "told-1")
				require.True(t, found)
				require.Greater(t, behind.Attempts, 3)
				bad.check(t, behind.Err)
				stop()
			})
		})
	}
}

func TestClosingDoesNotWaitForAPublishThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storefor.Memory.New(t)
		hold := make(chan struct{})
		b := &fakeBroker{plan: func(eventstore.Recorded, int) fakeVerdict { return fakeVerdict{hold: hold} }}
		r := tellStream(t, store, "told-1", 1)
		f, stop := forwardTo(t, forwardConfig(store), b)
		time.Sleep(time.Second / 2)
		require.Equal(t, 1, f.Status().UnderWay)
		began := time.Now()
		stop()
		require.Equal(t, time.Second, time.Since(began), "it waits for Grace")
		close(hold)
		synctest.Wait()

		b.plan = nil // another one publishes it again: nobody knows that it has arrived
		_, stop = forwardTo(t, forwardConfig(store), b)
		time.Sleep(time.Second)
		stop()
		arrived, _ := b.count(r.ID)
		require.Equal(t, 2, arrived)
	})
}

func TestClosingWaitsForAPublishThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storefor.Memory.New(t)
		b := &fakeBroker{plan: func(eventstore.Recorded, int) fakeVerdict { return fakeVerdict{wait: 900 * time.Millisecond} }}
		r := tellStream(t, store, "told-1", 1)
		f, stop := forwardTo(t, forwardConfig(store), b)
		time.Sleep(time.Second / 2)
		require.NoError(t, f.Close())
		stop()
		_, stop = forwardTo(t, forwardConfig(store), b)
		time.Sleep(10 * time.Second)
		stop()
		arrived, published := b.count(r.ID)
		require.Equal(t, [2]int{1, 1}, [2]int{arrived, published})
	})
}

func TestAForwarderRunsOnceAndSaysHowItStands(t *testing.T) {
	store := storefor.Memory.New(t)
	f, err := relay.NewForwarder(forwardConfig(store), trialTopic, relay.Destination{Publisher: (&fakeBroker{}).publisher()})
	require.NoError(t, err)
	require.Equal(t, relay.Status{Consumer: trialName, Topic: trialTopic}, f.Status())
	stop := runForwarder(t, f.Run)
	untilForwarded(t, time.Minute, "it holds its lease", func() bool { return f.Status().Holding })
	require.ErrorContains(t, f.Run(t.Context()), "runs once")
	stop()
	require.NoError(t, f.Close())
	require.Error(t, f.Run(t.Context()))

	f, err = relay.NewForwarder(forwardConfig(store), trialTopic, relay.Destination{Publisher: (&fakeBroker{}).publisher()})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.ErrorContains(t, f.Run(t.Context()), "closed")
}

func TestAForwarderNeedsWhatItCannotDoWithout(t *testing.T) {
	store := storefor.Memory.New(t)
	for says, change := range map[string]func(c *relay.Config, topic *string, to *relay.Destination){
		"a Store":                    func(c *relay.Config, _ *string, _ *relay.Destination) { c.Store = nil },
		"has a Name":                 func(c *relay.Config, _ *string, _ *relay.Destination) { c.Name = "" },
		"a Publisher":                func(_ *relay.Config, _ *string, to *relay.Destination) { to.Publisher = nil },
		"Timeout is not":             func(_ *relay.Config, _ *string, to *relay.Destination) { to.Timeout = -1 },
		`topic "nothing"`:            func(_ *relay.Config, topic *string, _ *relay.Destination) { *topic = "nothing" },
		"the store keeps no checkpo": func(c *relay.Config, _ *string, _ *relay.Destination) { c.Store = struct{ eventstore.Store }{store} },
	} {
		config, topic, to := forwardConfig(store), relay.All, relay.Destination{Publisher: (&fakeBroker{}).publisher()}
		change(&config, &topic, &to)
		_, err := relay.NewForwarder(config, topic, to)
		require.ErrorContains(t, err, says)
	}
}

// A broker within the process may hand the message's context on: what is done with
// the message there must not be taken for an answer to the log's.
func TestTheContextOfWhatIsPublishedEndsAndIsNotOfTheDelivery(t *testing.T) {
	store := storefor.Memory.New(t)
	within := gochannel.NewGoChannel(gochannel.Config{PreserveContext: true, BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	defer func() { require.NoError(t, within.Close()) }()
	messages, err := within.Subscribe(t.Context(), relay.TopicName("test.told"))
	require.NoError(t, err)
	r := tellStream(t, store, "told-1", 1)
	f, err := relay.NewForwarder(forwardConfig(store), trialTopic, relay.Destination{Publisher: within})
	require.NoError(t, err)
	stop := runForwarder(t, f.Run)
	m := <-messages
	_, ends := m.Context().Deadline()
	require.True(t, ends)
	relay.Failed(m, errors.New("a failure that is not the forwarder's"))
	m.Metadata[relay.KeyStream] = "told-2" // it is the metadata that says what it is
	again, err := relay.Recorded(m)
	require.NoError(t, err)
	require.Equal(t, "told-2", again.Stream)
	m.Ack()
	untilForwarded(t, time.Minute, "it is acknowledged", func() bool { return f.Status().Acknowledged == 1 })
	require.NoError(t, f.Status().LastError)
	untilForwarded(t, time.Minute, "it has passed the event", func() bool { return f.Status().Position >= r.Position })
	stop()
}

var _ message.Publisher = (*fakePublisher)(nil)
