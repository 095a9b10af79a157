package rollforward_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// patience is how long these tests wait for what happens in the background.
const patience = 2 * time.Minute

// onRaised is a handler of changes that are raised.
func onRaised(name string, f func(ctx context.Context, e change.Raised, env relay.Envelope) error) relay.Handler {
	return relay.Handler{Name: name, Cases: []relay.Case{relay.On(f)}}
}

func raise(t testing.TB, e *rollforward.Engine, title string) change.Change {
	t.Helper()
	c, err := e.Changes.Raise(context.Background(), alice, change.Raise{Content: change.Content{Title: title}})
	require.NoError(t, err)
	return c
}

// within returns what comes on a channel.
func within[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		require.FailNow(t, "it does not come")
		panic("not reached")
	}
}

func TestAHandlerIsGivenWhatIsRecordedOnceHandleHasReturned(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite, storefor.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			e := open(t, kind.New(t))
			raise(t, e, "before all of them")
			for n := range 10 {
				got := make(chan string, 10)
				require.NoError(t, e.Handle(onRaised(fmt.Sprintf("h-%d", n), func(_ context.Context, r change.Raised, _ relay.Envelope) error {
					got <- r.Change
					return nil
				})))
				require.Equal(t, raise(t, e, "one").ID, within(t, got), "and nothing that was before")
			}
			require.Len(t, e.Status().Handlers, 10)
		})
	}
}

// veiled is a store whose whole log, as folds read it, ends at what was there when the
// veil came down. Handlers read by event type, and commands by stream.
type veiled struct {
	storefor.Store
	mu   sync.Mutex
	down bool
	end  eventstore.Position
}

func (v *veiled) veil(t testing.TB, down bool) {
	end, err := v.Head(t.Context())
	require.NoError(t, err)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.down, v.end = down, end
}

func (v *veiled) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	v.mu.Lock()
	down, end := v.down, v.end
	v.mu.Unlock()
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range v.Store.Read(ctx, q) {
			if err == nil && down && len(q.Types)+len(q.Streams) == 0 && r.Position > end {
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func TestAHandlerIsCalledWhenTheFoldsHaveItsEvent(t *testing.T) {
	store := &veiled{Store: storefor.Memory.New(t)}
	other := open(t, store.Store)
	e := open(t, store)
	type seen struct {
		id    string
		found bool
	}
	got := make(chan seen, 10)
	look := func(ctx context.Context, r change.Raised, _ relay.Envelope) error {
		list, err := e.Changes.List(ctx, change.Filter{})
		if err != nil {
			return err
		}
		s := seen{id: r.Change}
		for _, c := range list {
			s.found = s.found || c.ID == r.Change
		}
		got <- s
		return nil
	}
	require.NoError(t, e.Handle(onRaised("look", look)))
	store.veil(t, true)
	c := raise(t, other, "elsewhere")
	// The control: the same handler not run by the engine is called too early.
	registry, err := eventstore.NewRegistry(append(change.Types(), relay.Types()...)...)
	require.NoError(t, err)
	bare, err := relay.New(relay.Config{Store: store, Registry: registry}, relay.Handler{Name: "bare", History: true, Cases: []relay.Case{relay.On(look)}})
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- bare.Run(context.Background()) }()
	require.Equal(t, seen{c.ID, false}, within(t, got))
	require.NoError(t, bare.Close())
	require.NoError(t, within(t, ran))
	require.Empty(t, got)

	store.veil(t, false)
	require.Equal(t, seen{c.ID, true}, within(t, got))
}

func TestHandleRefusesWhatCannotRun(t *testing.T) {
	e := open(t, memory.New())
	nothing := func(context.Context, change.Raised, relay.Envelope) error { return nil }
	require.NoError(t, e.Handle())
	require.NoError(t, e.Handle(onRaised("one", nothing), onRaised("two", nothing)))
	require.NoError(t, e.Handle(onRaised("three", nothing)))
	for name, c := range map[string]struct {
		handlers []relay.Handler
		is       error
		says     string
	}{
		"a name that runs":         {[]relay.Handler{onRaised("four", nothing), onRaised("two", nothing)}, rollforward.ErrName, `"two" runs already`},
		"a name twice":             {[]relay.Handler{onRaised("four", nothing), onRaised("four", nothing)}, nil, "two handlers are called"},
		"the name of a fold":       {[]relay.Handler{onRaised("cmdb", nothing)}, rollforward.ErrName, `"cmdb" is a fold`},
		"no name":                  {[]relay.Handler{onRaised("", nothing)}, nil, "name"},
		"no cases":                 {[]relay.Handler{{Name: "four"}}, nil, "no cases"},
		"a type that is not there": {[]relay.Handler{{Name: "four", Cases: []relay.Case{relay.On(func(context.Context, stranger, relay.Envelope) error { return nil })}}}, eventstore.ErrUnknownType, "four"},
	} {
		err := e.Handle(c.handlers...)
		require.ErrorContains(t, err, c.says, name)
		if c.is != nil {
			require.ErrorIs(t, err, c.is, name)
		}
	}
	require.Len(t, e.Status().Handlers, 3, "of those that were refused none runs")
	require.NoError(t, e.Handle(onRaised("four", nothing)))
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.Handle(onRaised("five", nothing)), eventstore.ErrClosed)

	bare := open(t, struct{ eventstore.Store }{memory.New()})
	require.ErrorIs(t, bare.Handle(onRaised("one", nothing)), relay.ErrNoCheckpoints)
	_, err := rollforward.Open(t.Context(), memory.New(), rollforward.Config{Authorizer: command.AllowAll, Lease: -1})
	require.ErrorContains(t, err, "Lease")
}

func TestOfHandlersOfOneNameThatBeginAtOnceOneRuns(t *testing.T) {
	e := open(t, memory.New())
	var taken, running atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			err := e.Handle(onRaised("one", func(context.Context, change.Raised, relay.Envelope) error { return nil }))
			switch {
			case err == nil:
				running.Add(1)
			case errors.Is(err, rollforward.ErrName):
				taken.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, []int32{1, 7}, []int32{running.Load(), taken.Load()})
	require.Len(t, e.Status().Handlers, 1)
}

// headless is a store whose Head fails or hangs when it is told to.
type headless struct {
	storefor.Store
	fail atomic.Pointer[error]
	hang atomic.Pointer[chan struct{}]
}

func (h *headless) Head(ctx context.Context) (eventstore.Position, error) {
	if err := h.fail.Load(); err != nil {
		return 0, *err
	}
	if hang := h.hang.Load(); hang != nil {
		select {
		case <-*hang:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return h.Store.Head(ctx)
}

func TestAHandleThatFailsCanBeTriedAgain(t *testing.T) {
	store := &headless{Store: storefor.Memory.New(t)}
	e := open(t, store)
	got := make(chan string, 1)
	h := onRaised("one", func(_ context.Context, r change.Raised, _ relay.Envelope) error {
		got <- r.Change
		return nil
	})
	broken := errors.New("broken")
	store.fail.Store(&broken)
	require.ErrorIs(t, e.Handle(h), broken)
	require.Empty(t, e.Status().Handlers)
	store.fail.Store(nil)
	require.NoError(t, e.Handle(h))
	require.Equal(t, raise(t, e, "one").ID, within(t, got))
}

func TestCloseEndsAHandleThatWaitsForTheStore(t *testing.T) {
	store := &headless{Store: storefor.Memory.New(t)}
	e, err := rollforward.Open(t.Context(), store, rollforward.Config{Authorizer: roles})
	require.NoError(t, err)
	hang := make(chan struct{})
	store.hang.Store(&hang)
	handled := make(chan error, 1)
	go func() {
		handled <- e.Handle(onRaised("one", func(context.Context, change.Raised, relay.Envelope) error { return nil }))
	}()
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	require.ErrorIs(t, within(t, handled), eventstore.ErrClosed)
	require.NoError(t, within(t, closed))
	close(hang)
}

func TestCloseLetsHandlersAtWorkEnd(t *testing.T) {
	store := memory.New()
	e := open(t, store)
	begun, finish := make(chan struct{}), make(chan struct{})
	var noted atomic.Int32
	require.NoError(t, e.Handle(onRaised("slow", func(ctx context.Context, r change.Raised, env relay.Envelope) error {
		close(begun)
		<-finish
		if _, err := e.Changes.Get(ctx, r.Change); err != nil {
			return err
		}
		_, err := e.Changes.DoCall(ctx, env.Call(dave), r.Change, change.Note{Text: "at the end"})
		if err == nil {
			noted.Add(1)
		}
		return err
	})))
	raise(t, e, "one")
	<-begun
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	require.Eventually(t, func() bool {
		return errors.Is(e.Handle(), eventstore.ErrClosed)
	}, patience, time.Millisecond)
	require.False(t, e.Status().Door.Closed, "the door waits for the handlers")
	close(finish)
	require.NoError(t, within(t, closed))
	require.EqualValues(t, 1, noted.Load())

	// It was acknowledged: another engine does not get it.
	again := open(t, store)
	require.NoError(t, again.Handle(onRaised("slow", func(_ context.Context, r change.Raised, _ relay.Envelope) error {
		t.Errorf("%s comes again", r.Change)
		return nil
	})))
	done := make(chan bool)
	require.NoError(t, again.Handle(relay.Handler{Name: "all", Topic: relay.All, History: true, Workers: 1, Cases: []relay.Case{relay.Any(func(_ context.Context, env relay.Envelope) error {
		if env.Type == "change.noted" {
			close(done)
		}
		return nil
	})}}))
	within(t, done)
	require.Eventually(t, func() bool { return again.Status().Handlers[0].Holding && again.Status().Handlers[0].Lag == 0 }, patience, time.Millisecond)
}

func TestAHandlerThatClosesItsEngineIsNotWaitedForWithoutEnd(t *testing.T) {
	e, err := rollforward.Open(t.Context(), memory.New(), rollforward.Config{Authorizer: roles, Grace: -1})
	require.NoError(t, err)
	closed := make(chan error, 1)
	require.NoError(t, e.Handle(onRaised("closes", func(context.Context, change.Raised, relay.Envelope) error {
		closed <- e.Close()
		return nil
	})))
	raise(t, e, "one")
	err = within(t, closed) // no Grace, and 5 seconds
	require.ErrorIs(t, err, relay.ErrAtWork)
	require.ErrorContains(t, err, "closes")
	require.Equal(t, err, e.Close())
	_, err = e.Changes.Raise(t.Context(), alice, upgrade())
	require.ErrorIs(t, err, eventstore.ErrClosed, "all the rest is closed")
}

// poison is an event of change that no fold can take.
func poison(t testing.TB, store eventstore.Store) uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	_, err := store.Append(context.Background(), []eventstore.Event{{ID: id, Stream: "change-CHG-999999", Type: "change.raised", Schema: 1, Data: []byte(`{"change":7}`)}})
	require.NoError(t, err)
	return id
}

func TestWhileFoldsAreStoppedNoHandlerIsCalledAndNothingIsParked(t *testing.T) {
	store := memory.New()
	other := open(t, store)
	e := open(t, store)
	got := make(chan string, 10)
	require.NoError(t, e.Handle(relay.Handler{Name: "quick", Attempts: 2, Cases: []relay.Case{
		relay.On(func(_ context.Context, r change.Noted, env relay.Envelope) error {
			got <- env.Stream
			return nil
		}),
	}}))
	c, d := raise(t, other, "one"), raise(t, other, "two")
	note := func(id string) {
		_, err := other.Changes.Do(t.Context(), alice, id, change.Note{Text: "x"})
		require.NoError(t, err)
	}
	note(c.ID)
	within(t, got)
	note(d.ID)
	within(t, got)
	event := poison(t, store)
	require.Eventually(t, func() bool { return e.Status().Folds.Stopped != nil }, patience, time.Millisecond)
	registry, err := eventstore.NewRegistry(append(command.Types(), change.Types()...)...)
	require.NoError(t, err)
	for _, id := range []string{c.ID, d.ID} {
		_, err := eventstore.Update(t.Context(), store, registry, func(tx *eventstore.Tx) error {
			return tx.RecordBlind("change-"+id, change.Noted{Text: "more"})
		})
		require.NoError(t, err)
	}
	attempts := func() (least int, parked bool) {
		behind := e.Status().Handlers[0].Behind
		if len(behind) < 2 {
			return 0, false
		}
		return min(behind[0].Attempts, behind[1].Attempts), behind[0].Parked || behind[1].Parked
	}
	require.Eventually(t, func() bool { n, _ := attempts(); return n >= 3 }, patience, time.Millisecond)
	_, parked := attempts()
	require.False(t, parked, "more often than its Attempts")
	require.Empty(t, got)
	var stopped *follow.StoppedError
	require.ErrorAs(t, e.Status().Handlers[0].LastError, &stopped)

	parkWherever(t, event, e, other)
	within(t, got)
	within(t, got)
}

// parkWherever parks an event for every fold of engines that stops at it, until none does.
func parkWherever(t testing.TB, event uuid.UUID, engines ...*rollforward.Engine) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, e := range engines {
			now := e.Status().Folds
			var p *follow.PoisonError
			if errors.As(now.Stopped, &p) {
				if err := e.Park(t.Context(), carol, p.Fold, event, "written by a broken tool"); err != nil && !errors.Is(err, follow.ErrNotStopped) {
					t.Error(err)
				}
			}
			if now.Stopped != nil || now.Lag > 0 {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
}

// A handler gives a command for every change that is raised: once, however often the
// event comes to it.
func ExampleEngine_Handle() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	engine, err := rollforward.Open(ctx, store, rollforward.Config{
		Authorizer: command.Roles{"alice": {command.Requester}, "robot": {command.Automation}},
	})
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	if err := engine.Handle(relay.Handler{Name: "greet", Cases: []relay.Case{
		relay.On(func(ctx context.Context, e change.Raised, env relay.Envelope) error {
			_, err := engine.Changes.DoCall(ctx, env.Call(command.As("robot")), e.Change, change.Note{Text: "Hello, " + e.By + "."})
			if err == nil {
				close(done)
			}
			return err
		}),
	}}); err != nil {
		log.Fatal(err)
	}
	c, err := engine.Changes.Raise(ctx, command.As("alice"), change.Raise{Content: change.Content{Title: "Upgrade db-01"}})
	if err != nil {
		log.Fatal(err)
	}
	<-done
	if err := engine.Close(); err != nil {
		log.Fatal(err)
	}

	for r, err := range store.Read(ctx, eventstore.Query{Types: []string{"change.noted"}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Stream == "change-"+c.ID, string(r.Data))
	}
	// Output:
	// true {"by":"robot","text":"Hello, alice."}
}

// stranger is a payload that no registry has.
type stranger struct{}
