package relay_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// plan is what a random run of a consumer is made from.
type plan struct {
	seed              uint64
	events, streams   int
	workers, attempts int
	refuse, hang      int // deliveries of a hundred
	poison            int // events of a hundred that are refused for good until the end
	decisions         int // by people
	crashes           int
	hiccups           int // of the store, while the consumer runs on
	fault             string
}

// world is one run: a log, a consumer whose store dies and comes back, handlers
// with random answers, people who decide, and what is known of every event.
type world struct {
	plan
	store    *memory.Store
	registry *eventstore.Registry

	mu        sync.Mutex
	random    *rand.Rand
	calm      bool // everything goes well from here on
	events    []eventstore.Recorded
	of        map[string][]int // events of each stream
	index     map[uuid.UUID]int
	acked     map[int]bool
	skipped   map[int]time.Time
	parked    map[int]time.Time
	everAside map[string]bool // streams with an event that was ever parked
	poisoned  map[int]bool
	under     map[string]context.Context
	delivered int
	wrong     []string
	status    string // of the consumer at the end
}

const worldConsumer = "walker/x" // of the subscriber "walker", topic "x"

func (w *world) fail(format string, args ...any) {
	if len(w.wrong) < 5 {
		w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	}
}

// walk makes the run of a plan within a bubble of its own, and returns what was wrong.
func walk(t *testing.T, p plan) (w *world) {
	synctest.Test(t, func(t *testing.T) {
		w = &world{
			plan: p, store: memory.New(), random: rand.New(rand.NewPCG(p.seed, 1)), of: map[string][]int{}, index: map[uuid.UUID]int{}, acked: map[int]bool{},
			skipped: map[int]time.Time{}, parked: map[int]time.Time{}, everAside: map[string]bool{}, poisoned: map[int]bool{}, under: map[string]context.Context{},
		}
		defer w.store.Close()
		var err error
		if w.registry, err = eventstore.NewRegistry(relay.Types()...); err != nil {
			t.Fatal(err)
		}
		w.run(t.Context())
	})
	return w
}

func (w *world) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { w.write(ctx) })
	all.Go(func() { w.people(ctx) })
	for range w.crashes {
		w.life(ctx, time.Duration(w.draw(4_000))*time.Millisecond, false)
	}
	all.Wait()
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.life(ctx, 10*time.Minute, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.events {
		if _, skipped := w.skipped[i]; !w.acked[i] && !skipped {
			w.fail("event %d of %s was never acknowledged", i, r.Stream)
		}
	}
}

func (w *world) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

// write records the events, some at once and some later.
func (w *world) write(ctx context.Context) {
	for n := 0; n < w.plan.events; {
		stream := fmt.Sprintf("s-%d", w.draw(w.streams))
		var batch []eventstore.Event
		for range 1 + w.draw(3) {
			batch = append(batch, eventstore.Event{ID: uuid.New(), Stream: stream, Type: "test.done", Schema: 1, Data: []byte("{}")})
		}
		w.mu.Lock()
		records, err := w.store.Append(ctx, batch)
		if err != nil {
			w.fail("append: %v", err)
		}
		for _, r := range records {
			i := len(w.events)
			w.index[r.ID], w.of[r.Stream] = i, append(w.of[r.Stream], i)
			w.events = append(w.events, r)
			w.poisoned[i] = w.random.IntN(100) < w.poison
		}
		w.mu.Unlock()
		if n += len(batch); w.draw(4) == 0 {
			time.Sleep(time.Duration(w.draw(100)) * time.Millisecond)
		}
	}
}

// people park, retry and skip.
func (w *world) people(ctx context.Context) {
	for range w.decisions {
		time.Sleep(time.Duration(w.draw(1_000)) * time.Millisecond)
		w.mu.Lock()
		if len(w.events) > 0 {
			w.decide(ctx, w.random.IntN(len(w.events)), w.random.IntN(3))
		}
		w.mu.Unlock()
	}
}

// decide is called with the lock, so that what is decided and what is known of it
// are one.
func (w *world) decide(ctx context.Context, i, kind int) {
	e := w.events[i].Event
	_, err := eventstore.Update(ctx, w.store, w.registry, func(tx *eventstore.Tx) error {
		switch kind {
		case 0:
			return relay.Park(tx, worldConsumer, e, "to be looked at")
		case 1:
			return relay.Retry(tx, worldConsumer, e.ID)
		}
		return relay.Skip(tx, worldConsumer, e.ID)
	})
	_, skipped := w.skipped[i]
	switch {
	case errors.Is(err, relay.ErrNotParked):
	case err != nil:
		w.fail("decide: %v", err)
	case kind == 0 && !skipped:
		if _, already := w.parked[i]; !already {
			w.parked[i] = time.Now()
		}
		w.everAside[e.Stream] = true
	case kind == 1:
		delete(w.parked, i)
	case kind == 2:
		delete(w.parked, i)
		if !skipped {
			w.skipped[i] = time.Now()
		}
	}
}

// life is a process with the consumer, from its start until it ends or is killed: the
// store is gone for it then, so that it can save nothing.
func (w *world) life(ctx context.Context, lasts time.Duration, last bool) {
	store := &dying{Store: w.store, w: w}
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	s, err := relay.NewSubscriber(relay.Config{
		Store: store, Name: "walker", Workers: w.workers, Attempts: w.attempts, Lease: 3 * time.Second, LastPause: 2 * time.Second, Grace: time.Second,
		Topics: func(string) (eventstore.Query, error) { return eventstore.Query{Prefix: "s-"}, nil }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	messages, err := s.Subscribe(ctx, "x")
	if err != nil {
		panic(err)
	}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for m := range messages {
			w.arrive(m)
			handlers.Go(func() { w.handle(m) })
		}
	})
	end := time.Now().Add(lasts)
	for time.Now().Before(end) {
		time.Sleep(time.Duration(50+w.draw(500)) * time.Millisecond)
		if !last && w.draw(100) < w.hiccups {
			store.die(1 + w.draw(5))
		}
		if last && w.settled(ctx) {
			break
		}
	}
	if last {
		w.status = fmt.Sprintf("%+v", s.Status())
	}
	if clean := last || w.draw(2) == 0; !clean {
		store.die(1 << 30)
		kill()
	}
	if err := s.Close(); err != nil {
		panic(err)
	}
	handlers.Wait()
}

// settled retries what is parked, and reports whether all is done. Among it may be
// what was acknowledged: after a crash the consumer does not know that any more.
func (w *world) settled(ctx context.Context) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := true
	for i := range w.events {
		if _, parked := w.parked[i]; parked && w.random.IntN(20) == 0 {
			w.decide(ctx, i, 1)
		}
		_, skipped := w.skipped[i]
		done = done && (w.acked[i] || skipped)
	}
	return done
}

// arrive holds a delivery to what is known.
func (w *world) arrive(m *message.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delivered++
	i, ok := w.index[uuid.MustParse(m.UUID)]
	if !ok {
		w.fail("a message that is no event: %s", m.UUID)
		return
	}
	stream := w.events[i].Stream
	if other := w.under[stream]; other != nil && other.Err() == nil {
		w.fail("event %d of %s was delivered beside another of its stream", i, stream)
	}
	w.under[stream] = m.Context()
	for _, before := range w.of[stream] {
		if _, skipped := w.skipped[before]; before < i && !w.acked[before] && !skipped {
			w.fail("event %d of %s was delivered before event %d was done", i, stream, before)
		}
	}
	if w.workers == 1 && !w.everAside[stream] && !w.acked[i] {
		for before, r := range w.events[:i] {
			if _, skipped := w.skipped[before]; !w.acked[before] && !skipped && !w.everAside[r.Stream] {
				w.fail("event %d was delivered before event %d, by one worker", i, before)
			}
		}
	}
	const heeded = time.Second
	if at, skipped := w.skipped[i]; skipped && time.Since(at) > heeded {
		w.fail("event %d was delivered %s after it was skipped", i, time.Since(at))
	}
	if at, parked := w.parked[i]; parked && time.Since(at) > heeded {
		w.fail("event %d was delivered %s after it was parked", i, time.Since(at))
	}
}

// handle answers a delivery in some way.
func (w *world) handle(m *message.Message) {
	w.mu.Lock()
	i := w.index[uuid.MustParse(m.UUID)]
	stream := w.events[i].Stream
	outcome, takes := w.random.IntN(100), time.Duration(w.random.IntN(50))*time.Millisecond
	poisoned, calm := w.poisoned[i], w.calm
	w.mu.Unlock()
	hangs := !calm && outcome < w.hang
	if hangs {
		takes = time.Duration(100+outcome*100) * time.Millisecond
	}
	select {
	case <-time.After(takes):
	case <-m.Context().Done():
		if hangs {
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// Answers are within the lock: what is delivered behind one is held to it.
	switch {
	case !calm && (poisoned || outcome >= 100-w.refuse):
		if poisoned && outcome%4 == 0 {
			w.everAside[stream] = true
			relay.Failed(m, relay.Permanent(errors.New("poison")))
		}
		w.everAside[stream] = w.everAside[stream] || w.attempts > 0
		w.release(stream, m)
		if w.fault == "a refusal is taken for an acknowledgement" {
			m.Ack()
		}
		m.Nack()
	default:
		w.release(stream, m)
		w.acked[i] = true
		m.Ack()
	}
}

func (w *world) release(stream string, m *message.Message) {
	if w.under[stream] == m.Context() {
		delete(w.under, stream)
	}
}

// saved holds a checkpoint to what is known.
func (w *world) saved(c eventstore.Checkpoint) {
	var s struct {
		Behind map[string]eventstore.Position `json:"behind"`
	}
	if err := json.Unmarshal(c.State, &s); err != nil {
		w.fail("the checkpoint's state: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.events {
		_, skipped := w.skipped[i]
		if r.Position > c.Position || w.acked[i] || skipped {
			continue
		}
		if after, behind := s.Behind[r.Stream]; !behind || after >= r.Position {
			w.fail("a checkpoint at %d has passed event %d of %s at %d", c.Position, i, r.Stream, r.Position)
		}
	}
}

// dying is a store that dies, in the middle of calls too, and comes back. It also
// makes the faults of consumers that the walks are to catch.
type dying struct {
	*memory.Store
	w *world

	mu    sync.Mutex
	fails int // so many of the next calls
	lost  bool
}

var errDied = errors.New("the store has died")

func (m *dying) die(calls int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails += calls
}

// failing reports whether a call fails, and whether it has been applied by then.
func (m *dying) failing() (dead, applied bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails == 0 {
		return false, false
	}
	m.fails--
	return true, m.fails%2 == 0
}

func (m *dying) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	dead, applied := m.failing()
	if dead && !applied {
		return nil, eventstore.NotApplied(errDied)
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	records, err := m.Store.Append(ctx, events, expect...)
	for _, r := range records { // what the consumer parks by itself
		if payload, decodeErr := m.w.registry.Decode(r.Event); decodeErr == nil {
			if p, ok := payload.(relay.Parked); ok {
				i := m.w.index[p.Event]
				m.w.parked[i], m.w.everAside[p.Stream] = time.Now(), true
			}
		}
	}
	if dead {
		return nil, eventstore.OutcomeUnknown(errDied)
	}
	return records, err
}

func (m *dying) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if dead, _ := m.failing(); dead {
			yield(eventstore.Recorded{}, errDied)
			return
		}
		if m.w.fault == "decisions are not heeded" && len(q.Streams) == 1 && strings.HasPrefix(q.Streams[0], "relay-") {
			return
		}
		for r, err := range m.Store.Read(ctx, q) {
			switch {
			case m.w.fault == "streams have no order" && q.Prefix != "" && len(q.Streams) == 0:
				r.Stream += "/" + r.ID.String()
			case m.w.fault == "an event is lost" && q.Prefix != "" && !m.lost && r.Version%5 == 4:
				m.lost = true
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (m *dying) Version(ctx context.Context, stream string) (uint64, error) {
	if dead, _ := m.failing(); dead {
		return 0, errDied
	}
	return m.Store.Version(ctx, stream)
}

func (m *dying) Head(ctx context.Context) (eventstore.Position, error) {
	if dead, _ := m.failing(); dead {
		return 0, errDied
	}
	return m.Store.Head(ctx)
}

func (m *dying) Wait(ctx context.Context, after eventstore.Position) error {
	if dead, _ := m.failing(); dead {
		return errDied
	}
	if m.w.fault == "a wake-up is lost" {
		<-ctx.Done()
		return ctx.Err()
	}
	return m.Store.Wait(ctx, after)
}

func (m *dying) Checkpoint(ctx context.Context, name string) (eventstore.Checkpoint, error) {
	if dead, _ := m.failing(); dead {
		return eventstore.Checkpoint{}, errDied
	}
	return m.Store.Checkpoint(ctx, name)
}

func (m *dying) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	dead, applied := m.failing()
	if dead && !applied {
		return errDied
	}
	checkpoints = slices.Clone(checkpoints)
	for i, c := range checkpoints {
		var s map[string]any
		switch m.w.fault {
		case "the checkpoint is where the log was read":
			if head, err := m.Store.Head(ctx); err == nil {
				checkpoints[i].Position, checkpoints[i].Event = head, uuid.Nil
			}
		case "the checkpoint forgets who is behind":
			if err := json.Unmarshal(c.State, &s); err != nil {
				return err
			}
			delete(s, "behind")
			state, err := json.Marshal(s)
			if err != nil {
				return err
			}
			checkpoints[i].State = state
		}
		m.w.saved(checkpoints[i])
	}
	if err := m.Store.SaveCheckpoints(ctx, checkpoints...); err != nil || !dead {
		return err
	}
	return errDied
}
