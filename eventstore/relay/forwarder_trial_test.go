package relay_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

const (
	trialName    = "to-broker"
	trialTimeout = 2 * time.Second
	trialTraffic = "told-traffic" // goes well, but while the broker is down
)

var trialTopic = relay.ByPrefix("told-")

// forwarderMaker makes a forwarder, or what a control has in its place.
type forwarderMaker func(t *testing.T, config relay.Config, p message.Publisher) func(ctx context.Context) error

func theForwarder(t *testing.T, config relay.Config, p message.Publisher) func(ctx context.Context) error {
	f, err := relay.NewForwarder(config, trialTopic, relay.Destination{Publisher: p, Timeout: trialTimeout})
	require.NoError(t, err)
	return f.Run
}

// forwarding is one run: events in several streams, some before and some while they are
// forwarded; a broker that refuses, loses answers, is slow, hangs, panics, is down for
// a time, and never takes some messages; and a forwarder that crashes and is started
// again. It returns what is wrong in the end.
type forwarding struct {
	seed    uint64
	make    forwarderMaker
	plain   bool // no poison and no crashes: for controls that know neither
	crashes int

	arrived, again, parked int
}

func (x *forwarding) rand(id uuid.UUID, attempt int) *rand.Rand {
	return rand.New(rand.NewPCG(x.seed^uint64(attempt)<<48, binary.BigEndian.Uint64(id[:8])))
}

func (x *forwarding) run(t *testing.T) (wrong error) {
	random := rand.New(rand.NewPCG(x.seed, 0))
	store := storefor.Memory.New(t)
	began := time.Now()
	down, up := time.Duration(random.IntN(5000))*time.Millisecond, time.Duration(random.IntN(300))*time.Second
	healed := map[uuid.UUID]bool{}
	poisoned := func(id uuid.UUID) bool { return !x.plain && x.rand(id, 0).IntN(50) == 0 }
	b := &fakeBroker{}
	b.plan = func(r eventstore.Recorded, attempt int) fakeVerdict {
		b.mu.Lock()
		well := healed[r.ID]
		b.mu.Unlock()
		if since := time.Since(began); since > down && since < down+up {
			return fakeVerdict{refuse: errBrokerDown}
		}
		if r.Stream == trialTraffic {
			return fakeVerdict{}
		}
		if poisoned(r.ID) && !well {
			return fakeVerdict{refuse: errPoisonous}
		}
		random := x.rand(r.ID, attempt)
		v := fakeVerdict{wait: time.Duration(random.IntN(3000)) * time.Microsecond}
		switch random.IntN(40) {
		case 0, 1:
			v.refuse = errBrokerDown
		case 2, 3:
			v.lost = errAnswerLost
		case 4:
			v.wait = trialTimeout + time.Duration(random.IntN(int(5*trialTimeout))) // and then it arrives
		case 5:
			v.wait, v.refuse = trialTimeout+time.Duration(random.IntN(int(5*trialTimeout))), errBrokerDown
		case 6:
			v.panics = true
		case 7:
			v.context = true
		}
		return v
	}

	streams := 1 + random.IntN(12)
	stream := func() string { return fmt.Sprintf("told-%d", random.IntN(streams)) }
	n := 0
	tell := func(s string) { n++; tellStream(t, store, s, n) }
	for range random.IntN(100) {
		tell(stream())
	}
	config := relay.Config{
		Store: &mortalStore{Store: store}, Name: trialName, Workers: 1 + random.IntN(8), Attempts: 4,
		Lease: 5 * time.Second, Grace: time.Second, Logger: slog.New(slog.DiscardHandler),
	}
	if config.Workers == 1 {
		config.Workers = 2 // with one, a message that fails parks by itself
	}
	stop := runForwarder(t, x.make(t, config, b.publisher()))
	for range 60 + random.IntN(60) {
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		tell(stream())
		if !x.plain && random.IntN(40) == 0 {
			x.crashes++
			config.Store.(*mortalStore).dead.Store(true) // nothing is saved from here on
			stop()
			config.Store = &mortalStore{Store: store}
			stop = runForwarder(t, x.make(t, config, b.publisher()))
		}
	}
	// The rest goes on while there is other traffic, without which nothing is parked.
	left := map[uuid.UUID]bool{}
	end := time.Now().Add(2 * time.Hour)
	if x.plain {
		end = time.Now().Add(10 * time.Minute)
	}
	for {
		var want []eventstore.Recorded
		for _, r := range forwardedLog(t, store, trialTopic) {
			if !left[r.ID] {
				want = append(want, r)
			}
		}
		for id, decision := range forwarderDecisions(t, store, trialName) {
			if decision != "relay.parked" {
				continue
			}
			x.parked++
			b.mu.Lock()
			retry := !poisoned(id) || healed[id] || random.IntN(2) == 0 // what only failed often is never left out
			healed[id] = retry
			b.mu.Unlock()
			if retry {
				decideForForwarder(t, store, func(tx *eventstore.Tx) error { return relay.Retry(tx, trialName, id) })
			} else {
				left[id] = true
				decideForForwarder(t, store, func(tx *eventstore.Tx) error { return relay.Skip(tx, trialName, id) })
			}
		}
		if b.complete(want) || time.Now().After(end) {
			break
		}
		tell(trialTraffic)
		time.Sleep(10 * time.Second)
	}
	time.Sleep(time.Minute) // whatever hangs has ended
	stop()
	b.mu.Lock()
	x.arrived = len(b.arrived)
	b.mu.Unlock()
	log := forwardedLog(t, store, trialTopic)
	x.again = x.arrived - len(log) + len(left)
	return b.check(log, left)
}

// inBubble runs a trial by a clock of its own.
func (x *forwarding) inBubble(t *testing.T) (wrong error) {
	synctest.Test(t, func(t *testing.T) { wrong = x.run(t) })
	return wrong
}

// forwarderSeed is where the seeds of trials start: ROLLFORWARD_RELAY_SEED, or by the clock.
func forwarderSeed(t testing.TB) uint64 {
	if given := os.Getenv("ROLLFORWARD_RELAY_SEED"); given != "" {
		seed, err := strconv.ParseUint(given, 10, 64)
		require.NoError(t, err)
		return seed
	}
	return uint64(time.Now().UnixNano())
}

// forwarderTrials is how many trials there are: ROLLFORWARD_FORWARDS, or otherwise.
func forwarderTrials(t testing.TB, otherwise int) int {
	if given := os.Getenv("ROLLFORWARD_FORWARDS"); given != "" {
		trials, err := strconv.Atoi(given)
		require.NoError(t, err)
		return trials
	}
	return otherwise
}

// F45: broker down, answers lost, poison messages, time-outs, crashes.
func TestAllIsForwardedAtLeastOnceAndEachStreamInOrderWhateverTheBrokerDoesAtFullSize(t *testing.T) {
	trials := 200
	if race.Enabled {
		trials = 12
	}
	seed := forwarderSeed(t)
	var arrived, again, parked, crashes int
	for i := range forwarderTrials(t, trials) {
		x := &forwarding{seed: seed + uint64(i), make: theForwarder}
		require.NoError(t, x.inBubble(t), "ROLLFORWARD_RELAY_SEED=%d", x.seed)
		arrived, again, parked, crashes = arrived+x.arrived, again+x.again, parked+x.parked, crashes+x.crashes
	}
	t.Logf("seed %d: %d messages, %d of them again, %d parked, %d crashes", seed, arrived, again, parked, crashes)
	require.NotZero(t, again)
	require.NotZero(t, parked)
	require.NotZero(t, crashes)
}

// wrongForwarder is a forwarder that answers as it should not.
func wrongForwarder(forward func(m *message.Message, p message.Publisher)) forwarderMaker {
	return func(t *testing.T, config relay.Config, p message.Publisher) func(ctx context.Context) error {
		config.Attempts = -1
		s, err := relay.NewSubscriber(config)
		require.NoError(t, err)
		return func(ctx context.Context) error {
			messages, err := s.Subscribe(context.WithoutCancel(ctx), trialTopic)
			if err != nil {
				return err
			}
			stop := context.AfterFunc(ctx, func() { _ = s.Close() })
			defer stop()
			for m := range messages {
				go forward(m, p)
			}
			return s.Close()
		}
	}
}

// bareCopy is a message as it comes through a broker.
func bareCopy(m *message.Message) *message.Message {
	out := m.Copy()
	ctx, cancel := context.WithTimeout(context.Background(), trialTimeout)
	out.SetContext(ctx)
	context.AfterFunc(ctx, cancel)
	return out
}

// tryPublish publishes, with a panic for an error.
func tryPublish(p message.Publisher, m *message.Message) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v", value)
		}
	}()
	return p.Publish("topic", bareCopy(m))
}

func TestTheTrialCatchesForwardersThatAreWrong(t *testing.T) {
	for _, wrong := range []struct {
		name, says string
		forward    func(m *message.Message, p message.Publisher)
	}{
		{"acknowledges before it publishes", "is missing", func(m *message.Message, p message.Publisher) {
			m.Ack()
			_ = tryPublish(p, m)
		}},
		{"acknowledges what fails, and tries again by itself", "before an earlier one", func(m *message.Message, p message.Publisher) {
			m.Ack()
			for tryPublish(p, m) != nil {
				time.Sleep(time.Second)
			}
		}},
		{"does not wait for a publish that hangs", "at once", func(m *message.Message, p message.Publisher) {
			done := make(chan error, 1)
			go func() { done <- tryPublish(p, m) }()
			select {
			case err := <-done:
				if err == nil {
					m.Ack()
					return
				}
			case <-time.After(trialTimeout):
			}
			m.Nack()
		}},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			seed := forwarderSeed(t)
			caught := map[string]bool{}
			for i := range uint64(50) {
				x := &forwarding{seed: seed + i, make: wrongForwarder(wrong.forward), plain: true}
				if err := x.inBubble(t); err != nil {
					caught[err.Error()] = true
					if strings.Contains(err.Error(), wrong.says) {
						t.Logf("seed %d: trial %d caught it, with %d things wrong", seed, i+1, strings.Count(err.Error(), "\n")+1)
						return
					}
				}
			}
			require.Failf(t, "not caught", "in 50 trials from seed %d; caught otherwise: %v", seed, caught)
		})
	}
}
