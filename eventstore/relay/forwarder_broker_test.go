package relay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// fakeBroker has publishers, one for each process, and does with each message what its plan says, and knows
// what has arrived.
type fakeBroker struct {
	plan func(r eventstore.Recorded, attempt int) fakeVerdict // nil: all is well

	mu       sync.Mutex
	attempts map[uuid.UUID]int
	arrived  []eventstore.Recorded // in order, those that came again as well
	topics   []string              // of each
	most     int                   // publishes at once, of one stream by one publisher
	broken   []error               // what must not be
}

// fakeVerdict is what becomes of a publish.
type fakeVerdict struct {
	wait    time.Duration
	hold    <-chan struct{} // it hangs until that is closed
	refuse  error           // it does not arrive
	lost    error           // it arrives, and the publisher says that it does not
	panics  bool
	context bool // it ends with its message's context
}

var (
	errBrokerDown = errors.New("the broker is down")
	errAnswerLost = errors.New("the broker's answer was lost")
	errPoisonous  = errors.New("the broker does not take this message")
)

// fakePublisher is one process's way to a broker.
type fakePublisher struct {
	*fakeBroker
	under map[string]int // publishes of a stream that are under way
}

func (b *fakeBroker) publisher() *fakePublisher {
	return &fakePublisher{b, map[string]int{}}
}

func (b *fakePublisher) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		r, err := relay.Recorded(m)
		if err != nil {
			b.fault(err)
			return err
		}
		if err := b.publish(topic, r, m); err != nil {
			return err
		}
	}
	return nil
}

func (b *fakePublisher) publish(topic string, r eventstore.Recorded, m *message.Message) error {
	b.mu.Lock()
	if b.attempts == nil {
		b.attempts = map[uuid.UUID]int{}
	}
	b.attempts[r.ID]++
	b.under[r.Stream]++
	b.most = max(b.most, b.under[r.Stream])
	attempt := b.attempts[r.ID]
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.under[r.Stream]--
		b.mu.Unlock()
	}()
	var v fakeVerdict
	if b.plan != nil {
		v = b.plan(r, attempt)
	}
	if v.wait > 0 {
		time.Sleep(v.wait)
	}
	if v.hold != nil {
		<-v.hold
	}
	switch {
	case v.context:
		<-m.Context().Done()
		return m.Context().Err()
	case v.panics:
		panic("the publisher panics")
	case v.refuse != nil:
		return v.refuse
	}
	b.mu.Lock()
	b.arrived, b.topics = append(b.arrived, r), append(b.topics, topic)
	b.mu.Unlock()
	return v.lost
}

func (b *fakePublisher) Close() error {
	b.fault(errors.New("the publisher was closed, and it is not the forwarder's"))
	return nil
}

func (b *fakeBroker) fault(err error) {
	b.mu.Lock()
	b.broken = append(b.broken, err)
	b.mu.Unlock()
}

// count returns how often an event has arrived, and how often it was published.
func (b *fakeBroker) count(id uuid.UUID) (arrived, published int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.arrived {
		if r.ID == id {
			arrived++
		}
	}
	return arrived, b.attempts[id]
}

// check returns what is wrong with what has arrived of the events of a log: one that
// is missing, one that is not the same, one that came first before its stream's
// earlier one, or two of a stream at once. Those that were left out are not expected.
func (b *fakeBroker) check(log []eventstore.Recorded, left map[uuid.UUID]bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	wrong := b.broken
	if b.most > 1 {
		wrong = append(wrong, fmt.Errorf("%d publishes of one stream at once", b.most))
	}
	want := map[string][]eventstore.Recorded{}
	byID := map[uuid.UUID]eventstore.Recorded{}
	for _, r := range log {
		if byID[r.ID] = r; !left[r.ID] {
			want[r.Stream] = append(want[r.Stream], r)
		}
	}
	come := map[uuid.UUID]bool{}
	first := map[string]uint64{} // version that came first last, of each stream
	for _, r := range b.arrived {
		switch {
		case left[r.ID]:
			wrong = append(wrong, fmt.Errorf("event %d of %s came, and was to be left out", r.Version, r.Stream))
		case !r.Equal(byID[r.ID].Event) || r.Version != byID[r.ID].Version || r.Position != byID[r.ID].Position:
			wrong = append(wrong, fmt.Errorf("event %s is not what the log has: %v", r.ID, r))
		case come[r.ID]:
		case r.Version < first[r.Stream]:
			wrong = append(wrong, fmt.Errorf("event %d of %s came first before an earlier one", first[r.Stream], r.Stream))
		default:
			first[r.Stream] = r.Version
		}
		come[r.ID] = true
	}
	for stream, all := range want {
		for _, r := range all {
			if !come[r.ID] {
				wrong = append(wrong, fmt.Errorf("event %d of %s is missing", r.Version, stream))
				break
			}
		}
	}
	return errors.Join(wrong...)
}

// complete reports whether all events of a log have arrived.
func (b *fakeBroker) complete(log []eventstore.Recorded) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	come := map[uuid.UUID]bool{}
	for _, r := range b.arrived {
		come[r.ID] = true
	}
	for _, r := range log {
		if !come[r.ID] {
			return false
		}
	}
	return true
}

// mortalStore is a store that another process would no longer reach: of one that has
// crashed, nothing is recorded or saved any more.
type mortalStore struct {
	storefor.Store
	dead atomic.Bool
}

var errProcessDead = errors.New("this process is dead")

func (m *mortalStore) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if m.dead.Load() {
		return nil, eventstore.NotApplied(errProcessDead)
	}
	return m.Store.Append(ctx, events, expect...)
}

func (m *mortalStore) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	if m.dead.Load() {
		return errProcessDead
	}
	return m.Store.SaveCheckpoints(ctx, checkpoints...)
}

// tellStream appends an event with a number to a stream, and returns it.
func tellStream(t testing.TB, store eventstore.Store, stream string, n int) eventstore.Recorded {
	t.Helper()
	records, err := store.Append(context.Background(), []eventstore.Event{{
		ID: uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s %d", stream, n)), Stream: stream, Type: "test.told", Schema: 1,
		Tags: []string{"test:told"}, Data: fmt.Appendf(nil, `{"n": %d}`, n), Meta: []byte(`{"actor":"ann","correlation":"c-1"}`),
	}})
	require.NoError(t, err)
	return records[0]
}

// forwardedLog reads what a topic selects.
func forwardedLog(t testing.TB, store eventstore.Store, topic string) (log []eventstore.Recorded) {
	t.Helper()
	q, err := relay.Topic(topic)
	require.NoError(t, err)
	for r, err := range store.Read(context.Background(), q) {
		require.NoError(t, err)
		log = append(log, r)
	}
	return log
}

// forwarderDecisions returns the events that decisions in the log name for a consumer, by the
// last decision's type.
func forwarderDecisions(t testing.TB, store eventstore.Store, consumer string) map[uuid.UUID]string {
	t.Helper()
	registry, err := eventstore.NewRegistry(relay.Types()...)
	require.NoError(t, err)
	decided := map[uuid.UUID]string{}
	for r, err := range store.Read(context.Background(), eventstore.Query{Streams: []string{"relay-" + consumer}}) {
		require.NoError(t, err)
		payload, err := registry.Decode(r.Event)
		require.NoError(t, err)
		switch d := payload.(type) {
		case relay.Parked:
			decided[d.Event] = r.Type
		case relay.Retried:
			decided[d.Event] = r.Type
		case relay.Skipped:
			decided[d.Event] = r.Type
		}
	}
	return decided
}

// decideForForwarder has a person decide.
func decideForForwarder(t testing.TB, store eventstore.Store, decide func(tx *eventstore.Tx) error) {
	t.Helper()
	registry, err := eventstore.NewRegistry(relay.Types()...)
	require.NoError(t, err)
	_, err = eventstore.Update(context.Background(), store, registry, func(tx *eventstore.Tx) error {
		tx.Meta = eventstore.Metadata{Actor: "ann"}
		return decide(tx)
	})
	require.NoError(t, err)
}

// runForwarder runs something in the background, and returns what ends it and waits.
func runForwarder(t testing.TB, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return stop
}

// untilForwarded waits, by a clock that a test may hold, until something is so.
func untilForwarded(t testing.TB, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(min(limit/1000, 100*time.Millisecond)) {
		require.True(t, time.Now().Before(end), "within %s: %s", limit, what)
	}
}
