package follow_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/fixture"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storefor.Tests{M: m}) }

// The domain of these tests: goods move between a store's items.

type Moved struct {
	Item string `json:"item"`
	By   int    `json:"by"`
}

// Cursed is an event that one fold cannot take.
type Cursed struct {
	Fold  string `json:"fold"`
	Panic bool   `json:"panic"`
}

var registry = func() *eventstore.Registry {
	r, err := eventstore.NewRegistry(append(follow.Types(),
		eventstore.Type[Moved]("stock.moved", 1),
		eventstore.Type[Cursed]("stock.cursed", 1),
	)...)
	if err != nil {
		panic(err)
	}
	return r
}()

// Book is a fold of what moved. Everything a test asks is exported, for Snapshot.
type Book struct {
	Name   string
	Format int `json:"-"`

	Levels map[string]int
	Moves  int                 // events taken
	Last   eventstore.Position // of the last record given
	Twice  int                 // records given again or out of order
	Noise  int                 // added to Levels["noise"] on restore: a planted fault

	tolerant bool // takes what is cursed
	before   func(eventstore.Recorded)
}

func NewBook(name string) *Book { return &Book{Name: name, Format: 1, Levels: map[string]int{}} }

func (b *Book) Apply(r eventstore.Recorded) error {
	if b.before != nil {
		b.before(r)
	}
	switch r.Type {
	case "stock.moved":
		payload, err := registry.Decode(r.Event)
		if err != nil {
			return err
		}
		m := payload.(Moved)
		if b.Levels[m.Item] += m.By; b.Levels[m.Item] == 0 {
			delete(b.Levels, m.Item)
		}
		b.Moves++
	case "stock.cursed":
		payload, err := registry.Decode(r.Event)
		if err != nil {
			return err
		}
		switch c := payload.(Cursed); {
		case c.Fold != b.Name:
		case b.tolerant:
			b.Levels["cursed"]++
		case c.Panic:
			b.Levels["half"]++ // and not the other half
			var none *Book
			none.Moves++
		default:
			return errors.New("the event is cursed")
		}
	}
	if r.Position <= b.Last {
		b.Twice++
	}
	b.Last = r.Position
	return nil
}

func (b *Book) Sum() (sum int) {
	for _, n := range b.Levels {
		sum += n
	}
	return sum
}

// Saved is a Book that can be saved.
type Saved struct{ *Book }

func (s Saved) Format() int               { return s.Book.Format }
func (s Saved) Snapshot() ([]byte, error) { return json.Marshal(s.Book, json.Deterministic(true)) }
func (s Saved) Restore(b []byte) error {
	if err := json.Unmarshal(b, s.Book); err != nil {
		return err
	}
	if s.Noise != 0 {
		s.Levels["noise"] += s.Noise
	}
	return nil
}

var (
	stock  = saved("stock")
	ledger = saved("ledger")
	shelf  = follow.Projection[*Book]{Name: "shelf", New: func() *Book { return NewBook("shelf") }} // no Snapshotter
)

func saved(name string) follow.Projection[Saved] {
	return follow.Projection[Saved]{Name: name, New: func() Saved { return Saved{NewBook(name)} }}
}

// plain folds a log as a follower should, without the events that are left out.
func plain(t require.TestingT, store eventstore.Store, name string, without ...uuid.UUID) string {
	book := Saved{NewBook(name)}
records:
	for r, err := range store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(t, err)
		for _, id := range without {
			if r.ID == id {
				continue records
			}
		}
		require.NoError(t, book.Apply(r))
	}
	return text(t, book)
}

func text(t require.TestingT, book Saved) string {
	b, err := book.Snapshot()
	require.NoError(t, err)
	return string(b)
}

// state returns a fold as views see it when everything in the log is taken.
func state(t require.TestingT, f *follow.Follower, store eventstore.Store, p follow.Projection[Saved]) (state string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	head, err := store.Head(ctx)
	require.NoError(t, err)
	require.NoError(t, f.WaitFor(ctx, head))
	require.NoError(t, f.View(ctx, func(v *follow.View) error {
		state = text(t, p.In(v))
		return nil
	}))
	return state
}

func start(t require.TestingT, store eventstore.Store, config follow.Config, folds ...follow.Declared) *follow.Follower {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	f, err := follow.Start(store, config, folds...)
	require.NoError(t, err)
	if t, ok := t.(*testing.T); ok {
		t.Cleanup(func() { _ = f.Close() })
	}
	return f
}

func event(t require.TestingT, stream string, payload any) eventstore.Event {
	e, err := registry.Encode(uuid.New(), payload)
	require.NoError(t, err)
	e.Stream = stream
	return e
}

// appendMoves records the payloads in one append, each in its own item's stream.
func appendMoves(t require.TestingT, store eventstore.Store, payloads ...any) []eventstore.Recorded {
	var events []eventstore.Event
	for _, p := range payloads {
		stream := "curses"
		if m, ok := p.(Moved); ok {
			stream = "item-" + m.Item
		}
		events = append(events, event(t, stream, p))
	}
	records, err := store.Append(context.Background(), events)
	require.NoError(t, err)
	return records
}

// many records n appends of size moves each, over ten items.
func many(t require.TestingT, store eventstore.Store, n, size int) {
	for i := range n {
		payloads := make([]any, size)
		for j := range payloads {
			payloads[j] = Moved{Item: fmt.Sprint("item", (i*7+j*3)%10), By: i%5 + 1}
		}
		appendMoves(t, store, payloads...)
	}
}

// faulty is a store whose reads can be held and fail, and whose saves can too.
type faulty struct {
	*memory.Store
	mu    sync.Mutex
	fail  func(record int) error // called with -1 by each Read, then before each record with its number from 0
	hold  chan struct{}          // not nil: reads wait for it to be closed
	save  func() error
	saves [][]eventstore.Checkpoint
}

func (s *faulty) set(change func(s *faulty)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *faulty) get() (fail func(record int) error, hold chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fail, s.hold
}

func (s *faulty) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		fail, hold := s.get()
		if hold != nil {
			select {
			case <-hold:
			case <-ctx.Done():
			}
		}
		if fail == nil {
			fail = func(int) error { return nil }
		}
		if err := fail(-1); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		n := 0
		for r, err := range s.Store.Read(ctx, q) {
			if err == nil {
				err = fail(n)
			}
			if n++; err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (s *faulty) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	s.mu.Lock()
	save := s.save
	s.saves = append(s.saves, checkpoints)
	s.mu.Unlock()
	if save != nil {
		if err := save(); err != nil {
			return err
		}
	}
	return s.Store.SaveCheckpoints(ctx, checkpoints...)
}

// logged is a logger and what was written to it.
type logged struct{ fixture.Lines }

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestStartRefusesWhatIsDeclaredWrongly(t *testing.T) {
	store := memory.New()
	for name, c := range map[string]struct {
		folds []follow.Declared
		want  string
	}{
		"no folds":       {nil, "no folds"},
		"no name":        {[]follow.Declared{saved("")}, "no name"},
		"no New":         {[]follow.Declared{follow.Projection[Saved]{Name: "stock"}}, `"stock" has no New`},
		"one name twice": {[]follow.Declared{stock, ledger, saved("stock")}, `two projections are called "stock"`},
		"a name too long": {[]follow.Declared{saved(strings.Repeat("n", eventstore.MaxStream))},
			"too large"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := follow.Start(store, follow.Config{}, c.folds...)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestTheFollowerTakesTheWholeLogAndWhatComesAfter(t *testing.T) {
	store := memory.New()
	many(t, store, 700, 4) // several batches
	f := start(t, store, follow.Config{}, stock, ledger)
	require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
	many(t, store, 10, 1)
	require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
	require.Equal(t, plain(t, store, "ledger"), state(t, f, store, ledger))
	require.NotContains(t, state(t, f, store, stock), `"Moves":0`)
}

func TestReadsThatFailAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		store := &faulty{Store: memory.New()}
		many(t, store, 50, 2)
		broken := errors.New("the line is down")
		failures := 0
		store.fail = func(record int) error {
			if record == -1 && failures < 10 || record == 33 {
				failures++
				return broken
			}
			return nil
		}
		f := start(t, store, follow.Config{Logger: log.logger()}, stock)
		synctest.Wait()
		require.ErrorIs(t, f.Status().Retrying, broken)
		require.NoError(t, f.Status().Stopped)

		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := f.WaitFor(ctx, 0)
		require.ErrorIs(t, err, broken, "who waits is told why")
		require.ErrorIs(t, err, context.DeadlineExceeded)

		begin := time.Now()
		require.NoError(t, f.WaitFor(t.Context(), 100))
		require.Less(t, time.Since(begin), 2*time.Minute, "the pauses stay short")
		require.Greater(t, time.Since(begin), time.Second, "there are pauses")
		require.NoError(t, f.Status().Retrying)
		require.Equal(t, plain(t, store.Store, "stock"), state(t, f, store, stock))
		require.Equal(t, 10+3, failures, "three reads gave a third of the log each")
		require.Equal(t, 1+3, strings.Count(log.String(), "tries again"), "one record for a row of failures")
		require.NoError(t, f.Close())
	})
}

func TestErrorsThatStayStopTheFollower(t *testing.T) {
	for _, cause := range []error{eventstore.ErrRewound, eventstore.ErrDamaged, eventstore.ErrNewerFormat} {
		t.Run(cause.Error(), func(t *testing.T) {
			var log logged
			store := &faulty{Store: memory.New(), fail: func(int) error { return fmt.Errorf("page 7: %w", cause) }}
			f := start(t, store, follow.Config{Logger: log.logger()}, stock)
			var stopped *follow.StoppedError
			err := f.WaitFor(t.Context(), 0)
			require.ErrorAs(t, err, &stopped)
			require.ErrorIs(t, err, cause)
			require.ErrorIs(t, f.View(t.Context(), nil), cause)
			require.ErrorIs(t, f.Status().Stopped, cause)
			require.False(t, f.Status().Ready)
			require.NoError(t, f.Close())
			require.Contains(t, log.String(), "level=ERROR")
		})
	}
}

func TestAStoreThatIsClosedEndsTheFollower(t *testing.T) {
	store := memory.New()
	f := start(t, store, follow.Config{}, stock)
	require.NoError(t, f.WaitFor(t.Context(), 0))
	require.NoError(t, store.Close())
	require.ErrorIs(t, f.WaitFor(t.Context(), 1), eventstore.ErrClosed)
	require.ErrorIs(t, f.View(t.Context(), nil), eventstore.ErrClosed)
	require.NoError(t, f.Close())
}

func TestAfterCloseEverythingIsRefused(t *testing.T) {
	store := memory.New()
	f := start(t, store, follow.Config{}, stock)
	require.NoError(t, f.WaitFor(t.Context(), 0))
	waiting := make(chan error)
	go func() { waiting <- f.WaitFor(context.Background(), 99) }()
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	require.ErrorIs(t, <-waiting, eventstore.ErrClosed)
	require.ErrorIs(t, f.View(t.Context(), nil), eventstore.ErrClosed)
	require.ErrorIs(t, f.WaitFor(t.Context(), 0), eventstore.ErrClosed)
	require.ErrorIs(t, f.Snapshot(t.Context()), eventstore.ErrClosed)
	_, err := f.Verify(t.Context())
	require.ErrorIs(t, err, eventstore.ErrClosed)
	require.ErrorIs(t, f.Park(t.Context(), "stock", uuid.New(), why), eventstore.ErrClosed)
	require.True(t, f.Status().Closed)
	require.False(t, f.Status().Ready)
	_, err = store.Head(t.Context())
	require.NoError(t, err, "the store stays open")
}

func TestCloseWaitsForViewsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, memory.New(), follow.Config{}, stock)
		inside, leave, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			_ = f.View(t.Context(), func(v *follow.View) error {
				close(inside)
				<-leave
				stock.In(v)
				return nil
			})
		}()
		<-inside
		go func() { _ = f.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			require.Fail(t, "Close did not wait for the view")
		default:
		}
		close(leave)
		<-closed
	})
}

func TestCloseUnderLoadLeavesNothingBehind(t *testing.T) {
	store := memory.New()
	many(t, store, 300, 2)
	for range 100 {
		f := start(t, store, follow.Config{SnapshotEvery: 50}, stock, ledger)
		var users sync.WaitGroup
		for range 3 {
			users.Go(func() {
				for {
					if err := f.View(context.Background(), func(v *follow.View) error { stock.In(v); return nil }); err != nil {
						require.ErrorIs(t, err, eventstore.ErrClosed)
						return
					}
				}
			})
			users.Go(func() {
				for {
					if err := f.Snapshot(context.Background()); err != nil {
						require.ErrorIs(t, err, eventstore.ErrClosed)
						return
					}
				}
			})
		}
		users.Go(func() { many(t, store, 3, 2) })
		require.NoError(t, f.Close())
		users.Wait()
	}
}

func TestStatusSaysHowTheFollowerStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		store := &faulty{Store: memory.New(), hold: hold}
		many(t, store, 5, 2)
		f := start(t, store, follow.Config{}, stock, shelf)
		synctest.Wait()
		require.False(t, f.Status().Ready)
		close(hold)
		require.NoError(t, f.WaitFor(t.Context(), 0))
		require.Equal(t, follow.Status{
			Ready: true, Position: 10, Head: 10,
			Folds: []follow.FoldStatus{{Name: "stock", Position: 10}, {Name: "shelf", Position: 10}},
		}, f.Status())

		hold = make(chan struct{})
		store.set(func(s *faulty) { s.hold = hold })
		many(t, store, 1, 3)
		synctest.Wait()
		now := f.Status()
		require.Equal(t, eventstore.Position(10), now.Position)
		require.Equal(t, eventstore.Position(13), now.Head)
		require.Equal(t, uint64(3), now.Lag)
		require.True(t, now.Ready, "it goes on showing what it has")
		close(hold)
		require.NoError(t, f.WaitFor(t.Context(), 13))
		require.Zero(t, f.Status().Lag)
		require.NoError(t, f.Snapshot(t.Context()))
		require.Equal(t, eventstore.Position(13), f.Status().Folds[0].Snapshot)
		require.Zero(t, f.Status().Folds[1].Snapshot)
		require.NoError(t, f.Close())
	})
}
