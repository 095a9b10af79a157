package eventstore_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// torn is a store that counts its reads. They break off after some events, and
// versions cannot be asked for, while there is an error.
type torn struct {
	eventstore.Store
	reads, after int
	err          error
}

func (s *torn) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	s.reads++
	return func(yield func(eventstore.Recorded, error) bool) {
		n := 0
		for r, err := range s.Store.Read(ctx, q) {
			if n++; s.err != nil && n > s.after {
				yield(eventstore.Recorded{}, s.err)
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (s *torn) Version(ctx context.Context, stream string) (uint64, error) {
	if s.err != nil {
		return 0, s.err
	}
	return s.Store.Version(ctx, stream)
}

func TestNothingIsDecidedOnHalfAState(t *testing.T) {
	s, r := &torn{Store: memory.New(), after: 1}, tills(t)
	require.NoError(t, do(s, r, "till-1", payIn{1}))
	require.NoError(t, do(s, r, "till-1", payIn{2}))
	s.err = errors.New("connection lost")
	for name, f := range map[string]func(tx *eventstore.Tx) error{
		"load":   func(tx *eventstore.Tx) error { _, err := till.Load(tx, "till-1"); return err },
		"check":  func(tx *eventstore.Tx) error { _, err := tx.Check("till-1"); return err },
		"expect": func(tx *eventstore.Tx) error { return tx.Expect("till-1", 2) },
		"do": func(tx *eventstore.Tx) error {
			d := till
			d.Decide = func(int, any) ([]any, error) { return nil, errors.New("decided") }
			_, err := d.Do(tx, "till-1", payIn{1})
			return err
		},
	} {
		runs := 0
		_, err := eventstore.Update(t.Context(), s, r, func(tx *eventstore.Tx) error {
			runs++
			return f(tx)
		})
		require.ErrorIs(t, err, s.err, name)
		require.Equal(t, 1, runs, name)
	}
}

func TestAStreamIsReadOnceInAUnitOfWork(t *testing.T) {
	s, r := &torn{Store: memory.New()}, tills(t)
	require.NoError(t, do(s, r, "till-1", payIn{50}))
	s.reads = 0
	_, err := eventstore.Update(t.Context(), s, r, func(tx *eventstore.Tx) error {
		for want := 49; want > 45; want-- {
			state, err := till.Do(tx, "till-1", payOut{1})
			require.NoError(t, err)
			require.Equal(t, want, state)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, s.reads)
}

// Counters that JSON does not give back as they were, or not at all.
type (
	rounded struct {
		Amount int
		Cents  int `json:"-"`
	}
	unreadable struct{ Amount int }
)

func (unreadable) MarshalJSON() ([]byte, error) { return []byte(`"none"`), nil }

func TestAStateWithinAUnitIsThatOfAReplay(t *testing.T) {
	store, r := memory.New(), registry(t, eventstore.Type[rounded]("rounded", 1), eventstore.Type[unreadable]("unreadable", 1))
	cents := eventstore.Decider[int, any]{
		Decide: func(_ int, command any) ([]any, error) { return []any{command}, nil },
		Evolve: func(sum int, payload any) int { return sum + 100*payload.(rounded).Amount + payload.(rounded).Cents },
	}
	_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
		state, err := cents.Do(tx, "till-1", &rounded{Amount: 1, Cents: 50})
		require.NoError(t, err)
		require.Equal(t, 100, state)
		return nil
	})
	require.NoError(t, err)
	for command, cause := range map[any]error{unreadable{1}: eventstore.ErrMalformed, struct{}{}: eventstore.ErrUnknownType} {
		_, err = eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
			_, err := cents.Do(tx, "till-1", command)
			return err
		})
		require.ErrorIs(t, err, cause, "what cannot be read back is not recorded")
	}
	version, err := store.Version(t.Context(), "till-1")
	require.NoError(t, err)
	require.EqualValues(t, 1, version)
}

func TestWhatWasRecordedBlindIsInTheState(t *testing.T) {
	store, r := memory.New(), tills(t)
	require.NoError(t, do(store, r, "till-1", payIn{1}))
	for name, pin := range map[string]func(tx *eventstore.Tx){
		"loaded":   func(*eventstore.Tx) {},
		"checked":  func(tx *eventstore.Tx) { _, err := tx.Check("till-1"); require.NoError(t, err) },
		"expected": func(tx *eventstore.Tx) { require.NoError(t, tx.Expect("till-1", 1)) },
	} {
		_, err := eventstore.Update(t.Context(), store, r, func(tx *eventstore.Tx) error {
			require.NoError(t, tx.RecordBlind("till-1", paidIn{10}))
			require.NoError(t, tx.RecordBlind("till-2", paidIn{1000}))
			pin(tx)
			require.NoError(t, tx.RecordBlind("till-1", paidIn{100}))
			state, err := till.Load(tx, "till-1")
			require.NoError(t, err)
			require.Equal(t, 111, state, name)
			return errShort
		})
		require.Equal(t, errShort, err)
	}
}
