package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// counting counts what is asked of a store.
type counting struct {
	*memory.Store
	mu              sync.Mutex
	reads, versions int
}

func (s *counting) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	return s.Store.Read(ctx, q)
}

func (s *counting) Version(ctx context.Context, stream string) (uint64, error) {
	s.mu.Lock()
	s.versions++
	s.mu.Unlock()
	return s.Store.Version(ctx, stream)
}

// cached is a till of a process that remembers.
func cached() eventstore.Decider[int, any] {
	remembers := till
	remembers.Cache = &eventstore.Cache[int]{}
	return remembers
}

func with(t testing.TB, store eventstore.Store, d eventstore.Decider[int, any], stream string, commands ...any) (state int, err error) {
	t.Helper()
	_, err = eventstore.Update(t.Context(), store, tills(t), func(tx *eventstore.Tx) error {
		for _, c := range commands {
			if state, err = d.Do(tx, stream, c); err != nil {
				return err
			}
		}
		return nil
	})
	return state, err
}

func TestAStreamThatIsKnownIsNotReadAgain(t *testing.T) {
	store, d := &counting{Store: memory.New()}, cached()
	for n := 1; n <= 5; n++ {
		state, err := with(t, store, d, "till-1", payIn{10}, payOut{1})
		require.NoError(t, err)
		require.Equal(t, n*9, state)
	}
	require.Equal(t, 1, store.reads, "only before it was known")
	require.Zero(t, store.versions)

	// Also one that was only read.
	other := cached()
	for range 3 {
		_, err := eventstore.Update(t.Context(), store, tills(t), func(tx *eventstore.Tx) error {
			state, err := other.Load(tx, "till-1")
			require.Equal(t, 45, state)
			return err
		})
		require.NoError(t, err)
	}
	require.Equal(t, 2, store.reads)
}

// What another process records is seen: by conflict, and where nothing is recorded
// or something refused before it is said.
func TestAStateThatTheLogHasLeftBehindDecidesNothing(t *testing.T) {
	store := &counting{Store: memory.New()}
	here, there := cached(), cached()
	_, err := with(t, store, here, "till-1", payIn{10})
	require.NoError(t, err)
	_, err = with(t, store, there, "till-1", payIn{90})
	require.NoError(t, err)

	_, err = with(t, store, here, "till-1", payOut{100})
	require.NoError(t, err, "it is refused on what this process knows, and not on what the log has")
	_, err = with(t, store, there, "till-1", payOut{1})
	require.ErrorIs(t, err, errShort, "it is fine on what that process knows")
	_, err = with(t, store, here, "till-1", payIn{5})
	require.NoError(t, err)

	_, err = eventstore.Update(t.Context(), store, tills(t), func(tx *eventstore.Tx) error {
		state, err := there.Load(tx, "till-1")
		if err == nil && state != 5 {
			err = fmt.Errorf("a state of %d was seen", state)
		}
		return err
	})
	require.NoError(t, err, "a unit that records nothing sees the log as it stands")
}

func TestAVersionThatTheCallerNamesIsHeldToTheLog(t *testing.T) {
	store := memory.New()
	here, there := cached(), cached()
	_, err := with(t, store, here, "till-1", payIn{10})
	require.NoError(t, err)
	_, err = with(t, store, there, "till-1", payIn{90})
	require.NoError(t, err)
	at := func(d eventstore.Decider[int, any], version uint64) error {
		_, err := eventstore.Update(t.Context(), store, tills(t), func(tx *eventstore.Tx) error {
			if _, err := d.Load(tx, "till-1"); err != nil {
				return err
			}
			if err := tx.Expect("till-1", version); err != nil {
				return err
			}
			_, err := d.Do(tx, "till-1", payIn{1})
			return err
		})
		return err
	}
	require.ErrorIs(t, at(here, 1), eventstore.ErrConflict, "this process knows version 1, and the log has 2")
	require.NoError(t, at(there, 2))
	require.NoError(t, at(here, 3))
	require.Equal(t, 102, balance(t, store, "till-1"))
}

// trying is a store for a unit of work that is only tried: nothing is appended.
type trying struct{ eventstore.Store }

func (trying) Append(context.Context, []eventstore.Event, ...eventstore.Expect) ([]eventstore.Recorded, error) {
	return nil, nil
}

// What was not appended is not known: neither after an error nor where a unit is
// only tried.
func TestOnlyWhatWasAppendedIsKept(t *testing.T) {
	inner := memory.New()
	d := cached()
	_, err := with(t, inner, d, "till-1", payIn{10})
	require.NoError(t, err)
	refusing := &scripted{Store: inner, before: []error{eventstore.NotApplied(errors.New("no space"))}}
	_, err = with(t, refusing, d, "till-1", payIn{1000})
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	_, err = with(t, trying{inner}, d, "till-1", payIn{2000})
	require.NoError(t, err)
	state, err := with(t, inner, d, "till-1", payIn{1})
	require.NoError(t, err)
	require.Equal(t, 11, state)
}

// Several processes on one log, each with what it remembers, decide as one without
// memory would: no money is lost, and none is given out that is not there.
func TestCachesOfManyProcessesLoseNothing(t *testing.T) {
	store := memory.New()
	r := tills(t)
	var in, out [3]int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for p := range 4 {
		d := till
		d.Cache = &eventstore.Cache[int]{Limit: 1 + p}
		for w := range 2 {
			random := rand.New(rand.NewPCG(uint64(p), uint64(w)))
			wg.Go(func() {
				for range 200 {
					n, amount, paid := random.IntN(3), 1+random.IntN(9), random.IntN(2) == 0
					var command any = payOut{amount}
					if paid {
						command = payIn{amount}
					}
					_, err := eventstore.Update(context.Background(), store, r, func(tx *eventstore.Tx) error {
						_, err := d.Do(tx, fmt.Sprint("till-", n), command)
						return err
					})
					if errors.Is(err, errShort) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if paid {
						in[n] += amount
					} else {
						out[n] += amount
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for n := range 3 {
		require.Equal(t, in[n]-out[n], balance(t, store, fmt.Sprint("till-", n)))
		level := 0
		for e, err := range store.Read(t.Context(), eventstore.Query{Streams: []string{fmt.Sprint("till-", n)}}) {
			require.NoError(t, err)
			payload, err := r.Decode(e.Event)
			require.NoError(t, err)
			level = till.Evolve(level, payload)
			require.GreaterOrEqual(t, level, 0)
		}
	}
}

// A state that Evolve changes in place is copied in and out.
func TestWhatIsKeptIsNobodysToChange(t *testing.T) {
	store := memory.New()
	names := eventstore.Decider[[]int, int]{
		Decide: func(_ []int, n int) ([]any, error) { return []any{paidIn{n}}, nil },
		Evolve: func(state []int, payload any) []int {
			if len(state) > 0 {
				state[0]++ // in place
			}
			return append(state, payload.(paidIn).Amount)
		},
		Cache: &eventstore.Cache[[]int]{Copy: func(s []int) []int { return append([]int(nil), s...) }},
	}
	var handed [][]int
	for n := range 4 {
		_, err := eventstore.Update(t.Context(), store, tills(t), func(tx *eventstore.Tx) error {
			state, err := names.Do(tx, "till-1", n)
			handed = append(handed, state)
			return err
		})
		require.NoError(t, err)
	}
	require.Equal(t, "[[0] [1 1] [2 1 2] [3 1 2 3]]", strings.TrimSpace(fmt.Sprint(handed)))
}

func TestTheCacheKeepsWhatWasUsedLast(t *testing.T) {
	store := &counting{Store: memory.New()}
	d := till
	d.Cache = &eventstore.Cache[int]{Limit: 2}
	for _, s := range []struct {
		stream string
		reads  int
	}{{"a", 1}, {"b", 2}, {"a", 2}, {"c", 3}, {"a", 3}, {"b", 4}, {"c", 5}} {
		_, err := with(t, store, d, "till-"+s.stream, payIn{1})
		require.NoError(t, err)
		require.Equal(t, s.reads, store.reads, s.stream)
	}
}

// recalling remembers where streams stood when they were last looked at, and does
// not hear of what others append.
type recalling struct {
	counting
	known map[string]uint64
}

func (s *recalling) Version(ctx context.Context, stream string) (uint64, error) {
	version, err := s.counting.Version(ctx, stream)
	s.known[stream] = version
	return version, err
}

func (s *recalling) Recall(stream string) (uint64, bool) {
	version, ok := s.known[stream]
	return version, ok
}

// A stream whose place is remembered is held to it by the append, and by a look
// where nothing is appended.
func TestWhatAStoreRecallsIsHeldToTheLog(t *testing.T) {
	check := func(store eventstore.Store, then func(tx *eventstore.Tx, version uint64) error) (seen []uint64, err error) {
		_, err = eventstore.Update(t.Context(), store, tills(t), func(tx *eventstore.Tx) error {
			version, err := tx.Check("till-1")
			if err != nil {
				return err
			}
			seen = append(seen, version)
			return then(tx, version)
		})
		return seen, err
	}
	inner := memory.New()
	store := &recalling{counting{Store: inner}, map[string]uint64{}}
	pay := func(tx *eventstore.Tx, _ uint64) error { return tx.Record("till-1", paidIn{1}) }

	_, err := with(t, inner, till, "till-1", payIn{1})
	require.NoError(t, err)
	store.known["till-1"] = 1
	seen, err := check(store, pay)
	require.NoError(t, err)
	require.Equal(t, []uint64{1}, seen)
	require.Zero(t, store.versions, "the append held to it")

	// Another process has moved it on: an append meets a conflict and looks.
	seen, err = check(store, pay)
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 2}, seen)

	// A refusal, and a unit of work that records nothing, are said of the log as it stands.
	store.known["till-1"] = 1
	refused := errors.New("refused")
	seen, err = check(store, func(_ *eventstore.Tx, version uint64) error {
		if version < 3 {
			return refused
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 3}, seen)
	store.known["till-1"] = 1
	seen, err = check(store, func(*eventstore.Tx, uint64) error { return nil })
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 3}, seen)
}
