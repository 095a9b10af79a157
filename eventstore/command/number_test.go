package command_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// sharing is a store that commits appends to "register" when so many of them wait, in
// the order in which they came, as one that shares commits does at its best. Each comes
// to its own end where fail says so.
type sharing struct {
	eventstore.Store
	together int
	fail     func(nth int) error // nil: none

	mu      sync.Mutex
	waiting []chan struct{}
	came    int
}

func (s *sharing) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if events[0].Stream != "register" {
		return s.Store.Append(ctx, events, expect...)
	}
	s.mu.Lock()
	turn, nth := make(chan struct{}), s.came
	s.came++
	s.waiting = append(s.waiting, turn)
	if len(s.waiting) >= s.together {
		close(s.waiting[0])
	}
	s.mu.Unlock()
	<-turn
	defer func() { // the next one
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.waiting = s.waiting[1:]; len(s.waiting) > 0 {
			close(s.waiting[0])
		}
	}()
	if s.fail != nil {
		if err := s.fail(nth); err != nil {
			return nil, err
		}
	}
	return s.Store.Append(ctx, events, expect...)
}

// drawing is a unit of work that records the number it has drawn.
func drawing(draw func(tx *command.Tx) (uint64, error), attempts *atomic.Int64) func(tx *command.Tx) error {
	return func(tx *command.Tx) error {
		attempts.Add(1)
		if err := tx.Authorize("points.give", "", nil); err != nil {
			return err
		}
		n, err := draw(tx)
		if err != nil {
			return err
		}
		return tx.Record("register", Given{Points: int(n) + 1})
	}
}

func number(tx *command.Tx) (uint64, error) { return tx.Number("register") }

// requireNumbers requires that so many were given out, each once, none left out.
func (d *desk) requireNumbers(n int) {
	d.t.Helper()
	records, payloads := d.all("register")
	require.Len(d.t, records, n)
	for i, p := range payloads {
		require.Equal(d.t, Given{Points: i + 1}, p)
		require.EqualValues(d.t, i+1, records[i].Version)
	}
}

// giveOut runs n units of work at once and returns their errors and how many attempts
// they took.
func (d *desk) giveOut(n int, draw func(tx *command.Tx) (uint64, error)) (errs []error, attempts int64) {
	var count atomic.Int64
	errs = make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { _, errs[i] = d.Do(context.Background(), call("ann", "", 1, ""), drawing(draw, &count)) })
		synctest.Wait() // one after the other comes to its append, or waits
	}
	running.Wait()
	return errs, count.Load()
}

func TestThoseWhoDrawNumbersShareACommit(t *testing.T) {
	for name, draw := range map[string]func(tx *command.Tx) (uint64, error){
		"drawn":                number,
		"the control, checked": func(tx *command.Tx) (uint64, error) { return tx.Check("register") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &sharing{Store: memory.New(), together: 5}
				d := open(t, func(c *command.Config) { c.Store = store })
				d.memory = store.Store.(*memory.Store)
				go func() { // the control needs more commits
					time.Sleep(time.Second)
					store.mu.Lock()
					defer store.mu.Unlock()
					if store.together = 1; len(store.waiting) > 0 {
						close(store.waiting[0])
					}
				}()
				errs, attempts := d.giveOut(5, draw)
				require.NoError(t, errors.Join(errs...))
				d.requireNumbers(5)
				if name == "drawn" {
					require.EqualValues(t, 5, attempts)
				} else {
					require.Greater(t, attempts, int64(5))
				}
				time.Sleep(2 * time.Second) // for the goroutine above
			})
		})
	}
}

func TestWhereAnAppendFailsThoseBehindItDrawAnew(t *testing.T) {
	full := errors.New("disk full")
	synctest.Test(t, func(t *testing.T) {
		store := &sharing{Store: memory.New(), together: 4}
		store.fail = func(nth int) error {
			if nth == 3 {
				store.together = 1 // they come one after the other now
			}
			if nth == 1 {
				return eventstore.NotApplied(full)
			}
			return nil
		}
		d := open(t, func(c *command.Config) { c.Store = store })
		d.memory = store.Store.(*memory.Store)
		errs, attempts := d.giveOut(4, number)
		require.NoError(t, errs[0])
		require.ErrorIs(t, errs[1], full)
		require.NoError(t, errs[2])
		require.NoError(t, errs[3])
		require.EqualValues(t, 6, attempts)
		d.requireNumbers(3)
	})
}

// Whatever a unit of work does with its turn, the next one comes.
func TestATurnEndsWithTheUnitOfWork(t *testing.T) {
	var ignored atomic.Int64
	for name, f := range map[string]func(tx *command.Tx) error{
		"refused":        func(*command.Tx) error { return command.Refuse(command.Refusal{Rule: "no", Reason: "no"}) },
		"failed":         func(*command.Tx) error { return errors.New("failed") },
		"nothing to do":  func(*command.Tx) error { return nil },
		"not authorised": func(tx *command.Tx) error { return tx.Record("register", Given{}) },
		"a panic":        func(*command.Tx) error { panic("at the desk") },
		"a second one":   func(tx *command.Tx) error { _, err := tx.Number("register"); return err },
		"another stream": func(tx *command.Tx) error { _, err := tx.Number("another"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, nil)
			func() {
				defer func() { _ = recover() }()
				_, _ = d.Do(t.Context(), call("ann", "", 1, ""), func(tx *command.Tx) error {
					if _, err := tx.Number("register"); err != nil {
						return err
					}
					return f(tx)
				})
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := d.Do(ctx, call("ann", "", 1, ""), drawing(number, &ignored))
			require.NoError(t, err)
			d.requireNumbers(1)
		})
	}
}

func TestWhoWaitsForANumberGoesWithItsContext(t *testing.T) {
	var ignored atomic.Int64
	d := open(t, nil)
	drawn, go_ := make(chan struct{}), make(chan struct{})
	held := make(chan error, 1)
	go func() {
		_, err := d.Do(context.Background(), call("ann", "", 1, ""), func(tx *command.Tx) error {
			err := drawing(number, &ignored)(tx)
			close(drawn)
			<-go_
			return err
		})
		held <- err
	}()
	<-drawn
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := d.Do(ctx, call("bob", "", 1, ""), drawing(number, &ignored))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, `a number of stream "register"`)

	refusals, err := d.Try(t.Context(), call("bob", "", 1, ""), drawing(number, &ignored))
	require.NoError(t, err, "what is only tried does not wait")
	require.Empty(t, refusals)
	close(go_)
	require.NoError(t, <-held)
	d.requireNumbers(1)
}

// crowd is a store whose appends fail at random, in every way, before or after they
// are made.
type crowd struct{ eventstore.Store }

func (s crowd) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if events[0].Stream != "register" {
		return s.Store.Append(ctx, events, expect...)
	}
	switch rand.IntN(12) {
	case 0:
		return nil, eventstore.NotApplied(errors.New("not now"))
	case 1:
		return nil, eventstore.OutcomeUnknown(errors.New("cut before"))
	case 2:
		if _, err := s.Store.Append(ctx, events, expect...); err != nil {
			return nil, err
		}
		return nil, eventstore.OutcomeUnknown(errors.New("cut after"))
	case 3:
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
	}
	return s.Store.Append(ctx, events, expect...)
}

func TestNumbersHaveNoGapsWhateverFails(t *testing.T) {
	shared := memory.New()
	var given, attempts atomic.Int64
	var running sync.WaitGroup
	for range 2 { // two doors, as of two processes
		d := open(t, func(c *command.Config) { c.Store = crowd{shared} })
		for range 8 {
			running.Go(func() {
				for range 50 {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+rand.IntN(20_000))*time.Microsecond)
					if rand.IntN(2) == 0 {
						ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
					}
					_, err := d.Do(ctx, call("ann", "", 1, ""), func(tx *command.Tx) error {
						if err := drawing(number, &attempts)(tx); err != nil || rand.IntN(8) > 0 {
							return err
						}
						return command.Refuse(command.Refusal{Rule: "no", Reason: "no"})
					})
					if err == nil || errors.Is(err, eventstore.ErrOutcomeUnknown) {
						given.Add(1)
					}
					cancel()
				}
			})
		}
	}
	running.Wait()
	d := open(t, nil)
	d.memory = shared
	records, payloads := d.all("register")
	for i, p := range payloads {
		require.Equal(t, Given{Points: i + 1}, p)
		require.EqualValues(t, i+1, records[i].Version)
	}
	require.Greater(t, len(records), 200)
	require.LessOrEqual(t, int64(len(records)), given.Load())
}
