package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A till takes money in and gives it out, never more than is in it.
type (
	paidIn  struct{ Amount int }
	paidOut struct{ Amount int }

	payIn  struct{ amount int }
	payOut struct{ amount int }
)

var errShort = errors.New("not enough in the till")

var till = eventstore.Decider[int, any]{
	Decide: func(balance int, command any) ([]any, error) {
		switch c := command.(type) {
		case payIn:
			return []any{paidIn{c.amount}}, nil
		case payOut:
			if c.amount > balance {
				return nil, errShort
			}
			return []any{paidOut{c.amount}}, nil
		}
		return nil, fmt.Errorf("unknown command %T", command)
	},
	Evolve: func(balance int, payload any) int {
		switch p := payload.(type) {
		case paidIn:
			return balance + p.Amount
		case paidOut:
			return balance - p.Amount
		}
		return balance
	},
}

func tills(t testing.TB) *eventstore.Registry {
	return registry(t, eventstore.Type[paidIn]("till.paid-in", 1), eventstore.Type[paidOut]("till.paid-out", 1))
}

func balance(t testing.TB, store eventstore.Store, stream string) int {
	t.Helper()
	var state int
	records, err := eventstore.Update(context.Background(), store, tills(t), func(tx *eventstore.Tx) (err error) {
		state, err = till.Load(tx, stream)
		return err
	})
	require.NoError(t, err)
	require.Nil(t, records)
	return state
}

// do is one unit of work with one command.
func do(store eventstore.Store, r *eventstore.Registry, stream string, command any) error {
	_, err := eventstore.Update(context.Background(), store, r, func(tx *eventstore.Tx) error {
		_, err := till.Do(tx, stream, command)
		return err
	})
	return err
}

func TestSeveralCommandsGoInOneAppend(t *testing.T) {
	store, r := memory.New(), tills(t)
	records, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		tx.Meta, tx.Tags = eventstore.Metadata{Actor: "ann", Command: "float"}, []string{"shop:1"}
		state, err := till.Do(tx, "till-1", payIn{100})
		require.NoError(t, err)
		require.Equal(t, 100, state)
		tx.Meta.Command = "move"
		state, err = till.Do(tx, "till-1", payOut{30}) // sees what this unit has recorded
		require.NoError(t, err)
		require.Equal(t, 70, state)
		state, err = till.Do(tx, "till-2", payIn{30})
		require.NoError(t, err)
		require.Equal(t, 30, state)
		version, err := tx.Check("till-1")
		require.NoError(t, err)
		require.Zero(t, version, "the version that was read, not the one to be")
		return nil
	})
	require.NoError(t, err)
	require.Len(t, records, 3)
	for i, want := range []string{"till-1 till.paid-in {\"actor\":\"ann\",\"command\":\"float\"}", "till-1 till.paid-out {\"actor\":\"ann\",\"command\":\"move\"}", "till-2 till.paid-in {\"actor\":\"ann\",\"command\":\"move\"}"} {
		require.Equal(t, want, fmt.Sprintf("%s %s %s", records[i].Stream, records[i].Type, records[i].Meta))
		require.Equal(t, records[0].Position, records[i].Append)
		require.Equal(t, []string{"shop:1"}, records[i].Tags)
		require.EqualValues(t, 7, records[i].ID.Version())
	}
	require.Equal(t, 70, balance(t, store, "till-1"))
	require.Equal(t, 30, balance(t, store, "till-2"))
}

func TestARefusedCommandRecordsNothing(t *testing.T) {
	store, r := memory.New(), tills(t)
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		if _, err := till.Do(tx, "till-1", payIn{10}); err != nil {
			return err
		}
		_, err := till.Do(tx, "till-1", payOut{11})
		return err
	})
	require.Equal(t, errShort, err, "the decider's own error, as it is")
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.Zero(t, head)
}

func TestNoUpdateIsLostBetweenManyWriters(t *testing.T) {
	store, r := memory.New(), tills(t)
	require.NoError(t, do(store, r, "till-1", payIn{50}))
	var wg sync.WaitGroup
	var mu sync.Mutex
	paid, short := 0, 0
	for range 8 {
		wg.Go(func() {
			for range 10 {
				err := do(store, r, "till-1", payOut{1})
				for errors.Is(err, eventstore.ErrConflict) { // gave up: as a caller may, it tries again
					err = do(store, r, "till-1", payOut{1})
				}
				mu.Lock()
				switch {
				case err == nil:
					paid++
				case errors.Is(err, errShort):
					short++
				default:
					t.Errorf("pay out: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, 50, paid)
	require.Equal(t, 30, short)
	require.Zero(t, balance(t, store, "till-1"))
}

// scripted is a store whose appends fail as the script says before they reach
// the store behind it, or after.
type scripted struct {
	eventstore.Store
	before, after []error // per append; nil lets it through
	appends       int
	sent          [][]eventstore.Event
}

func (s *scripted) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	n := s.appends
	s.appends++
	s.sent = append(s.sent, events)
	if n < len(s.before) && s.before[n] != nil {
		return nil, s.before[n]
	}
	records, err := s.Store.Append(ctx, events, expect...)
	if n < len(s.after) && s.after[n] != nil {
		return nil, s.after[n]
	}
	return records, err
}

func TestAnUnknownOutcomeIsSentAgainWithTheSameIDs(t *testing.T) {
	unknown := eventstore.OutcomeUnknown(errors.New("connection lost"))
	for what, s := range map[string]*scripted{
		"not applied": {before: []error{unknown, unknown}},
		"applied":     {after: []error{unknown, unknown}},
	} {
		s.Store = memory.New()
		runs := 0
		records, err := eventstore.Update(t.Context(), s, tills(t), func(tx *eventstore.Tx) error {
			runs++
			_, err := till.Do(tx, "till-1", payIn{5})
			return err
		})
		require.NoError(t, err, what)
		require.Len(t, records, 1)
		require.Equal(t, 3, s.appends, what)
		require.Equal(t, 1, runs, "nothing is decided anew")
		require.Equal(t, s.sent[0][0].ID, s.sent[2][0].ID)
		require.Equal(t, 5, balance(t, s, "till-1"), what)
	}
}

func TestAnOutcomeThatStaysUnknownIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unknown := eventstore.OutcomeUnknown(errors.New("connection lost"))
		s := &scripted{Store: memory.New()}
		for range 200 {
			s.before = append(s.before, unknown)
		}
		require.ErrorIs(t, do(s, tills(t), "till-1", payIn{5}), eventstore.ErrOutcomeUnknown)
		require.Equal(t, 100, s.appends)
	})
}

func TestOnlyTheStoresWordOnTheEventsSettlesAnUnknownOutcome(t *testing.T) {
	unknown, refused := eventstore.OutcomeUnknown(errors.New("connection lost")), eventstore.NotApplied(errors.New("connection refused"))
	synctest.Test(t, func(t *testing.T) {
		// Recorded, and then out of reach: nobody may say that it was not applied.
		s := &scripted{Store: memory.New(), after: []error{unknown}, before: []error{nil}}
		for range 200 {
			s.before = append(s.before, refused)
		}
		err := do(s, tills(t), "till-1", payIn{5})
		require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
		require.NotErrorIs(t, err, eventstore.ErrNotApplied)
		require.Equal(t, 5, balance(t, s, "till-1"))

		s = &scripted{Store: memory.New(), after: []error{unknown}, before: []error{nil, refused, refused}}
		require.NoError(t, do(s, tills(t), "till-1", payIn{5}), "it can be reached again")
		require.Equal(t, 4, s.appends)
		require.Equal(t, 5, balance(t, s, "till-1"))
	})
	s := &scripted{Store: memory.New(), before: []error{refused}}
	require.ErrorIs(t, do(s, tills(t), "till-1", payIn{5}), eventstore.ErrNotApplied)
	require.Equal(t, 1, s.appends, "what was never unknown is not sent again")

	ctx, cancel := context.WithCancel(t.Context())
	s = &scripted{Store: memory.New(), after: []error{unknown}}
	_, err := eventstore.Update(ctx, s, tills(t), func(tx *eventstore.Tx) error {
		_, err := till.Do(tx, "till-1", payIn{5})
		time.AfterFunc(0, cancel)
		return err
	})
	if err != nil { // the context ended before the second append, or within it
		require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
		require.NotErrorIs(t, err, eventstore.ErrNotApplied)
	}
}

func TestAConflictIsNotTriedAgainForACallerWhoHasGone(t *testing.T) {
	s := &scripted{Store: memory.New()}
	for range 100 {
		s.before = append(s.before, &eventstore.ConflictError{Stream: "till-1", Want: 0, Actual: 1})
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := eventstore.Update(ctx, s, tills(t), func(tx *eventstore.Tx) error {
		cancel()
		return tx.RecordBlind("till-1", paidIn{1})
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, eventstore.ErrNotApplied)
	require.LessOrEqual(t, s.appends, 8, "where a pause is over at the same moment, either may be seen first")
}

func TestAConflictRunsTheWholeUnitAgainAndGivesUpInTheEnd(t *testing.T) {
	store, r := memory.New(), tills(t)
	runs := 0
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		runs++
		if _, err := till.Do(tx, "till-1", payIn{1}); err != nil {
			return err
		}
		if runs <= 3 {
			return do(store, r, "till-1", payIn{10}) // somebody is faster
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 4, runs)
	require.Equal(t, 31, balance(t, store, "till-1"))

	synctest.Test(t, func(t *testing.T) { // which waits for nothing
		runs = 0
		_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
			runs++
			if _, err := till.Do(tx, "till-1", payIn{1}); err != nil {
				return err
			}
			return do(store, r, "till-1", payIn{10})
		})
		require.ErrorIs(t, err, eventstore.ErrConflict)
		require.ErrorContains(t, err, "gave up after 100 attempts")
		require.Equal(t, 100, runs)
	})

	runs = 0
	ctx, cancel := context.WithCancel(t.Context())
	_, err = eventstore.Update(ctx, store, r, func(tx *eventstore.Tx) error {
		if runs++; runs == 3 {
			cancel()
		}
		if _, err := till.Do(tx, "till-1", payIn{1}); err != nil {
			return err
		}
		return do(store, r, "till-1", payIn{10})
	})
	require.ErrorIs(t, err, context.Canceled)
	require.LessOrEqual(t, runs, 3)
}

func TestAVersionTheCallerNamedIsNeverWidened(t *testing.T) {
	store, r := memory.New(), tills(t)
	require.NoError(t, do(store, r, "till-1", payIn{1}))
	unit := func(version uint64, meanwhile func()) (runs int, err error) {
		_, err = eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
			runs++
			if err := tx.Expect("till-1", version); err != nil {
				return err
			}
			_, err := till.Do(tx, "till-1", payIn{1})
			meanwhile()
			return err
		})
		return runs, err
	}
	_, err := unit(1, func() {})
	require.NoError(t, err)

	for _, wrong := range []uint64{0, 1, 3} {
		runs, err := unit(wrong, func() {})
		var conflict *eventstore.ConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, eventstore.ConflictError{Stream: "till-1", Want: wrong, Actual: 2}, *conflict)
		require.Equal(t, 1, runs)
	}
	runs, err := unit(2, func() { require.NoError(t, do(store, r, "till-1", payIn{10})) })
	require.ErrorIs(t, err, eventstore.ErrConflict)
	require.Equal(t, 1, runs)
	require.Equal(t, 12, balance(t, store, "till-1"))

	_, err = eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		if _, err := till.Load(tx, "till-1"); err != nil {
			return err
		}
		return tx.Expect("till-1", 2)
	})
	var conflict *eventstore.ConflictError
	require.ErrorAs(t, err, &conflict, "also after the stream was loaded at another version")
	require.Equal(t, eventstore.ConflictError{Stream: "till-1", Want: 2, Actual: 3}, *conflict)

	runs = 0
	_, err = eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		runs++
		if _, err := till.Do(tx, "till-1", payIn{1}); err != nil {
			return err
		}
		require.NoError(t, do(store, r, "till-1", payIn{10}))
		return tx.Expect("till-1", 3)
	})
	require.ErrorIs(t, err, eventstore.ErrConflict)
	require.Equal(t, 1, runs, "a version named after loading is named as well")

	_, err = eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		require.NoError(t, tx.Expect("till-1", 9))
		state, err := till.Load(tx, "till-1")
		require.ErrorAs(t, err, &conflict, "there is no state at a version that the stream has not reached")
		require.Equal(t, eventstore.ConflictError{Stream: "till-1", Want: 9, Actual: 4}, *conflict)
		require.Zero(t, state)
		return err
	})
	require.ErrorIs(t, err, eventstore.ErrConflict)
}

func TestAVersionTheCallerNamedIsHeldAlsoWhereNothingIsRecorded(t *testing.T) {
	store, r := memory.New(), tills(t)
	for range 3 {
		require.NoError(t, do(store, r, "till-1", payIn{1}))
	}
	seen := func(version uint64) error {
		records, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
			if err := tx.Expect("till-1", version); err != nil {
				return err
			}
			_, err := till.Load(tx, "till-1")
			return err
		})
		require.Empty(t, records)
		return err
	}
	require.NoError(t, seen(3))
	for _, wrong := range []uint64{0, 1, 2, 4} {
		var conflict *eventstore.ConflictError
		require.ErrorAs(t, seen(wrong), &conflict)
		require.Equal(t, eventstore.ConflictError{Stream: "till-1", Want: wrong, Actual: 3}, *conflict)
	}
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		require.NoError(t, tx.Expect("till-1", 3))
		require.NoError(t, tx.Expect("till-1", 3))
		return tx.Expect("till-1", 2)
	})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

func TestWhatAUnitRecordedBlindIsInTheStatesItLoads(t *testing.T) {
	store, r := memory.New(), tills(t)
	require.NoError(t, do(store, r, "till-1", payIn{1}))
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		require.NoError(t, tx.RecordBlind("till-1", paidIn{5}))
		state, err := till.Do(tx, "till-1", payIn{2})
		require.Equal(t, 8, state)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, 8, balance(t, store, "till-1"))
}

func TestDecidersWithOneKindOfStateDoNotMixThem(t *testing.T) {
	store, r := memory.New(), tills(t)
	require.NoError(t, do(store, r, "till-1", payIn{10}))
	require.NoError(t, do(store, r, "till-1", payIn{20}))
	movements := eventstore.Decider[int, any]{Evolve: func(n int, _ any) int { return n + 1 }}
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		for range 2 {
			sum, err := till.Load(tx, "till-1")
			require.NoError(t, err)
			n, err := movements.Load(tx, "till-1")
			require.NoError(t, err)
			require.Equal(t, []int{30, 2}, []int{sum, n})
		}
		return nil
	})
	require.NoError(t, err)
}

func TestEveryLoadGivesAStateOfItsOwn(t *testing.T) {
	store, r := memory.New(), tills(t)
	book := eventstore.Decider[map[string]int, any]{
		Decide: func(map[string]int, any) ([]any, error) { return []any{paidIn{1}}, nil },
		Evolve: func(m map[string]int, _ any) map[string]int { // in place
			if m == nil {
				m = map[string]int{}
			}
			m["in"]++
			return m
		},
	}
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		one, err := book.Do(tx, "till-1", nil)
		require.NoError(t, err)
		two, err := book.Do(tx, "till-1", nil)
		require.NoError(t, err)
		require.Equal(t, []int{1, 2}, []int{one["in"], two["in"]})
		return nil
	})
	require.NoError(t, err)
}

func TestAStreamOnlyCheckedHoldsTheUnitBack(t *testing.T) {
	store, r := memory.New(), tills(t)
	runs := 0
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		runs++
		version, err := tx.Check("permit")
		if err != nil {
			return err
		}
		if runs == 1 {
			require.Zero(t, version)
			require.NoError(t, do(store, r, "permit", payIn{1}))
		} else {
			require.EqualValues(t, 1, version)
		}
		_, err = till.Do(tx, "till-1", payIn{1})
		return err
	})
	require.NoError(t, err)
	require.Equal(t, 2, runs)
}

func TestAStateIsLoadedAtTheVersionThatWasChecked(t *testing.T) {
	store, r := memory.New(), tills(t)
	require.NoError(t, do(store, r, "till-1", payIn{1}))
	runs := 0
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		runs++
		version, err := tx.Check("till-1")
		require.NoError(t, err)
		if runs == 1 {
			require.NoError(t, do(store, r, "till-1", payIn{10}))
		}
		state, err := till.Load(tx, "till-1")
		require.NoError(t, err)
		require.Equal(t, map[uint64]int{1: 1, 2: 11}[version], state)
		_, err = till.Do(tx, "till-1", payIn{100})
		return err
	})
	require.NoError(t, err)
	require.Equal(t, 2, runs)
	require.Equal(t, 111, balance(t, store, "till-1"))
}

func TestRecordingWithoutReadingMustBeSaid(t *testing.T) {
	store, r := memory.New(), tills(t)
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error { return tx.Record("till-1", paidIn{1}) })
	require.ErrorContains(t, err, "RecordBlind")
	cause := uuid.New()
	records, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		n := 0
		tx.NewID = func() uuid.UUID { n++; return uuid.NewSHA1(cause, fmt.Append(nil, n)) }
		return tx.RecordBlind("till-1", paidIn{1}, &paidIn{2})
	})
	require.NoError(t, err)
	require.EqualValues(t, 5, records[1].ID.Version())
	_, err = eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error { return tx.RecordBlind("till-1", struct{}{}) })
	require.ErrorIs(t, err, eventstore.ErrUnknownType)
	require.Equal(t, 3, balance(t, store, "till-1"))
}

func TestAnUnreadableStreamIsNotLoaded(t *testing.T) {
	store := memory.New()
	require.NoError(t, do(store, tills(t), "till-1", payIn{1}))
	old := registry(t, eventstore.Type[paidOut]("till.paid-out", 1))
	_, err := eventstore.Update(t.Context(), store, old, func(tx *eventstore.Tx) error {
		_, err := till.Load(tx, "till-1")
		return err
	})
	require.ErrorIs(t, err, eventstore.ErrUnknownType)
	require.ErrorContains(t, err, `load "till-1"`)
	require.NoError(t, store.Close())
	require.ErrorIs(t, do(store, tills(t), "till-1", payIn{1}), eventstore.ErrClosed)
}

func TestMetadataThatHaveNoJSONAreNotRecorded(t *testing.T) {
	store := memory.New()
	_, err := eventstore.Update(t.Context(), store, tills(t), func(tx *eventstore.Tx) error {
		tx.Meta.Extra = map[string]json.RawMessage{"tenant": json.RawMessage(`{`)}
		return tx.RecordBlind("till-1", paidIn{1})
	})
	require.ErrorContains(t, err, "encode metadata")
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.Zero(t, head)
}

// Whichever field of Meta changes within a unit of work, events have it as it was
// when they were recorded.
func TestEventsHaveTheMetadataOfTheirMoment(t *testing.T) {
	var wanted []eventstore.Metadata
	records, err := eventstore.Update(t.Context(), memory.New(), tills(t), func(tx *eventstore.Tx) error {
		wanted = nil
		record := func() error {
			m := tx.Meta
			m.Extra = maps.Clone(m.Extra)
			wanted = append(wanted, m)
			return tx.RecordBlind("till-1", paidIn{1})
		}
		err := record()
		fields := reflect.ValueOf(&tx.Meta).Elem()
		for i := range fields.NumField() {
			switch field := fields.Field(i); v := field.Addr().Interface().(type) {
			case *string:
				*v = "changed"
			case *uuid.UUID:
				*v = uuid.New()
			case *time.Time:
				*v = time.Date(2026, 11, 24, 16, 0, 0, 0, time.UTC)
			default:
				field.Set(reflect.ValueOf(map[string]json.RawMessage{"more": json.RawMessage("1")}))
			}
			err = errors.Join(err, record(), record())
		}
		tx.Meta.Extra["more"] = json.RawMessage("2") // in place
		return errors.Join(err, record())
	})
	require.NoError(t, err)
	require.Equal(t, 24, len(records))
	for i, r := range records {
		m, err := eventstore.DecodeMetadata(r.Meta)
		require.NoError(t, err)
		require.Equal(t, wanted[i], m, i)
	}
}
