package driven_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay/driven"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storefor.Tests{M: m}) }

// chain is a fold that bears nothing: each event is hashed onto those before it, so
// that one too many, one too few and two that have changed places are all seen.
type chain struct {
	Sum      [sha256.Size]byte
	Count    int
	Appends  map[eventstore.Position]int // events, by append
	Position eventstore.Position

	tolerant bool // of what is cursed
}

func (c *chain) Apply(r eventstore.Recorded) error {
	if r.Type == "test.cursed" && !c.tolerant {
		return errors.New("the event is cursed")
	}
	sum := sha256.New()
	sum.Write(c.Sum[:])
	fmt.Fprintf(sum, "%d %d %d %s %s %s %d ", r.Position, r.Append, r.Version, r.ID, r.Stream, r.Type, r.Schema)
	sum.Write(r.Data)
	sum.Write(r.Meta)
	fmt.Fprint(sum, r.Tags, r.RecordedAt.UnixMicro())
	copy(c.Sum[:], sum.Sum(nil))
	c.Count++
	c.Appends[r.Append]++
	c.Position = r.Position
	return nil
}

func (c *chain) Format() int               { return 1 }
func (c *chain) Snapshot() ([]byte, error) { return json.Marshal(c, json.Deterministic(true)) }
func (c *chain) Restore(state []byte) error {
	return json.Unmarshal(state, c)
}

func newChain() *chain { return &chain{Appends: map[eventstore.Position]int{}} }

var chains = follow.Projection[*chain]{Name: "chain", New: newChain}

// counter is a fold that cannot be saved.
type counter struct{ n int }

func (c *counter) Apply(eventstore.Recorded) error { c.n++; return nil }

var counters = follow.Projection[*counter]{Name: "counter", New: func() *counter { return &counter{} }}

var quiet = slog.New(slog.DiscardHandler)

// kinds are the stores of most tests. Under the race detector they do without SQLite,
// whose many small appends wait for the disk: that has it in the tests of the root.
var kinds = func() []storefor.Kind {
	if race.Enabled {
		return []storefor.Kind{storefor.Memory, storefor.Postgres}
	}
	return []storefor.Kind{storefor.Memory, storefor.SQLite, storefor.Postgres}
}()

// event is an event of one of ten streams.
func event(n int) eventstore.Event {
	return eventstore.Event{
		ID: uuid.New(), Stream: fmt.Sprintf("book-%d", n%10), Type: "test.read", Schema: 1,
		Tags: []string{"by:alice"}, Data: fmt.Appendf(nil, `{"page":%d}`, n), Meta: []byte(`{"actor":"alice"}`),
	}
}

// record appends n events, so many together: 1, 2, 3, 4, 1 and so on.
func record(t testing.TB, store eventstore.Store, n int) {
	t.Helper()
	for i, each := 0, 1; i < n; each = each%4 + 1 {
		var events []eventstore.Event
		for ; len(events) < each && i < n; i++ {
			events = append(events, event(i))
		}
		_, err := store.Append(t.Context(), events)
		require.NoError(t, err)
	}
}

func start(t testing.TB, config driven.Config, folds ...follow.Declared) *driven.Folds {
	t.Helper()
	if config.Logger == nil {
		config.Logger = quiet
	}
	if folds == nil {
		folds = []follow.Declared{chains}
	}
	f, err := driven.Start(config, folds...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// same waits until the folds have taken the log and holds them against it, by what
// they say themselves and by a fold of the test's own.
func same(t testing.TB, f *driven.Folds, store eventstore.Store) {
	t.Helper()
	found, err := f.Verify(within(t))
	require.NoError(t, err, "%+v", f.Status())
	require.Equal(t, follow.Same, found.Folds[0].Result, found.Folds[0].Why)
	want := newChain()
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		if r.Position <= found.Position {
			require.NoError(t, want.Apply(r))
		}
	}
	require.NoError(t, f.View(within(t), func(v *follow.View) error {
		if v.Position() == found.Position {
			require.Equal(t, want, chains.In(v))
		}
		return nil
	}))
}

func TestFoldsAreDrivenByASubscriberOfTheirOwn(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			store := kind.New(t)
			record(t, store, 300)
			f := start(t, driven.Config{Store: store})
			same(t, f, store)
			record(t, store, 300)
			same(t, f, store)
			s := f.Status()
			require.EqualValues(t, 600, s.Taken)
			require.Zero(t, s.Read, "nothing but messages has brought events")
			require.Zero(t, s.Lag)
			require.Equal(t, s.Head, s.Position)
			require.NoError(t, s.LastError)
		})
	}
}

func TestAWriterReadsWhatHeWrote(t *testing.T) {
	store := memory.New()
	f := start(t, driven.Config{Store: store})
	for i := range 100 {
		records, err := store.Append(t.Context(), []eventstore.Event{event(i), event(i)})
		require.NoError(t, err)
		require.NoError(t, f.WaitFor(within(t), records[1].Position))
		require.NoError(t, f.View(within(t), func(v *follow.View) error {
			require.Equal(t, 2*(i+1), chains.In(v).Count)
			return nil
		}))
	}
}

// An append is seen wholly or not at all, though its events come as messages of their
// own.
func TestNoViewHasAPartOfAnAppend(t *testing.T) {
	store := memory.New()
	f := start(t, driven.Config{Store: store, Handled: true, Late: -1})
	require.NoError(t, f.WaitFor(within(t), 0))
	const appends, each = 20, 7
	var last eventstore.Position
	for i := range appends {
		var events []eventstore.Event
		for range each {
			events = append(events, event(i))
		}
		records, err := store.Append(t.Context(), events)
		require.NoError(t, err)
		last = records[each-1].Position
	}
	for i, m := range messagesOf(t, store) {
		require.NoError(t, f.Handle(m))
		if i%each == each-1 { // it is whole, which the log says: nothing has come behind it
			require.NoError(t, f.WaitFor(within(t), eventstore.Position(i+1)))
		}
		require.NoError(t, f.View(within(t), func(v *follow.View) error {
			require.Equal(t, (i+1)/each*each, chains.In(v).Count)
			return nil
		}))
	}
	require.EqualValues(t, appends*each, last)
	same(t, f, store)
}

func TestWhatIsConfiguredWronglyIsRefused(t *testing.T) {
	_, err := driven.Start(driven.Config{}, chains)
	require.ErrorContains(t, err, "Store is required")
	_, err = driven.Start(driven.Config{Store: memory.New()})
	require.ErrorContains(t, err, "at least one projection")
	_, err = driven.Start(driven.Config{Store: memory.New(), Handled: true, Topics: []string{"x"}}, chains)
	require.ErrorContains(t, err, "Handled")
}

func TestADecoratorThatFailsIsSeen(t *testing.T) {
	broken := errors.New("no")
	f := start(t, driven.Config{Store: memory.New(), Decorators: []message.SubscriberDecorator{
		func(message.Subscriber) (message.Subscriber, error) { return nil, broken },
	}})
	require.Eventually(t, func() bool { return errors.Is(f.Status().Retrying, broken) || errors.Is(f.Status().Stopped, broken) }, time.Minute, time.Millisecond)
}

func TestAfterCloseViewsAreRefused(t *testing.T) {
	store := memory.New()
	record(t, store, 10)
	f := start(t, driven.Config{Store: store})
	same(t, f, store)
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.View(t.Context(), func(*follow.View) error { return nil }), eventstore.ErrClosed)
	_, err := f.Verify(t.Context())
	require.ErrorIs(t, err, eventstore.ErrClosed)
	require.ErrorIs(t, f.Handle(message.NewMessage(uuid.NewString(), nil)), eventstore.ErrMalformed)
	_, err = store.Head(t.Context())
	require.NoError(t, err, "the store stays open")
}

func TestAStoreThatIsClosedEndsTheFolds(t *testing.T) {
	store := memory.New()
	record(t, store, 10)
	f := start(t, driven.Config{Store: store})
	same(t, f, store)
	require.NoError(t, store.Close())
	require.Eventually(t, func() bool { return errors.Is(f.Status().Stopped, eventstore.ErrClosed) }, time.Minute, time.Millisecond)
}
